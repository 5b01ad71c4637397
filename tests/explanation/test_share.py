"""What maps say of drawn puppets, whose figure is known to the pixel: more than nothing, and less when it should be."""

import numpy as np
import pytest
import torch

from froster.backbones.clip import Clip
from froster.data.puppets import ACTIONS, draw_video, draw_video_and_mask
from froster.explanation import relevance_maps, share_on
from froster.models import load_model
from froster.students import VideoStudent, build_student
from froster.text.classifier import encode_classes
from froster.text.labels import check_labels
from froster.video.transforms import Preprocessing

ACTIONS_SHOWN = range(0, len(ACTIONS), 2)


def test_share_is_that_of_the_area_for_flat_maps_and_all_for_maps_on_it() -> None:
    mask = np.zeros((2, 8, 8), np.float32)
    mask[0, :4, :4] = 1
    mask[1, 4:, 4:6] = 0.5
    assert share_on(mask, np.full((2, 4, 4), 0.3, np.float32)) == pytest.approx(mask.mean())
    maps = np.zeros((2, 4, 4), np.float32)
    maps[0, 0, 0] = 1
    assert share_on(mask, maps) == 1
    maps[1, 3, 2] = 3
    assert share_on(mask, maps) == pytest.approx((1 + 3 * 0.5) / 4)
    assert share_on(mask, np.zeros((2, 4, 4), np.float32)) == 0


@pytest.fixture(scope="module")
def shown() -> list[tuple[torch.Tensor, np.ndarray]]:
    videos = [draw_video_and_mask(6_000_000, action, 4, 64, "easy") for action in ACTIONS_SHOWN]
    return [(Preprocessing(64)(torch.from_numpy(video)), mask) for video, mask in videos]


def shares(model: VideoStudent, shown: list[tuple[torch.Tensor, np.ndarray]], kind: str) -> np.ndarray:
    """Of the maps of each video on its figure, for its label."""
    classes = encode_classes(model, check_labels(ACTIONS), ())
    return np.array(
        [
            share_on(mask, relevance_maps(model, frames, kind, classes, action))
            for action, (frames, mask) in zip(ACTIONS_SHOWN, shown, strict=True)
        ]
    )


@pytest.mark.parametrize("kind", ["attention", "rollout", "gradient"])
def test_a_trained_model_looks_at_the_figure_and_one_with_random_weights_does_not(
    shown: list[tuple[torch.Tensor, np.ndarray]], kind: str
) -> None:
    area = np.array([mask.mean() for _, mask in shown])
    trained = load_model("puppets")
    torch.manual_seed(0)
    random = build_student("frame_clip", Clip(trained.config)).eval()
    assert (shares(trained, shown, kind) > 1.2 * area).mean() > 0.8
    assert abs(shares(random, shown, kind).mean() / area.mean() - 1) < 0.1


def test_of_two_actions_side_by_side_the_gradient_shows_the_label_s() -> None:
    model = load_model("puppets")
    classes = encode_classes(model, check_labels(ACTIONS), ())
    gains = []
    for left in ACTIONS_SHOWN:
        right = (left + 17) % len(ACTIONS)
        videos = [draw_video(6_000_000, action, 2, 64, "easy") for action in (left, right)]
        frames = Preprocessing().normalize(torch.from_numpy(np.concatenate(videos, axis=2)).permute(0, 3, 1, 2))
        maps = {
            (kind, label): relevance_maps(model, frames, kind, classes, label)
            for kind in ("attention", "gradient")
            for label in (left, right)
        }
        assert (maps["attention", left] == maps["attention", right]).all()  # it knows no label
        of_left, of_right = (maps["gradient", label] for label in (left, right))
        gains.append(of_left[..., :4].sum() / of_left.sum() - of_right[..., :4].sum() / of_right.sum())
    assert np.mean(gains) > 0.1
    assert np.mean(np.array(gains) > 0) > 0.8
