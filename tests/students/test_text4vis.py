from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from froster.backbones.clip import Clip, ClipConfig
from froster.checkpoints import foreign
from froster.errors import FrosterError
from froster.models import load_model
from froster.students import build_student


def small_clip(seed: int = 0) -> Clip:
    torch.manual_seed(seed)
    return Clip(ClipConfig(32, 8, 64, 2, 1, 64, 2, 1, 32, vocab_size=512)).eval()


@pytest.mark.parametrize("temporal", [0, 1, 6])
def test_starts_as_per_frame_clip(temporal: int) -> None:
    clip = small_clip()
    frames = torch.randn(2, 5, 3, 32, 32)
    with torch.no_grad():
        expected = clip.encode_video(frames)
        student = build_student("text4vis", clip, temporal=temporal)
        assert torch.equal(student.encode_video(frames), expected)


def test_score_is_the_cosine_of_the_mean_feature() -> None:
    student = build_student("text4vis", small_clip())
    with torch.no_grad():
        video_features = student.forward_features(torch.randn(3, 4, 3, 32, 32))
        classes = F.normalize(torch.randn(5, 32), dim=-1)
        ours = student.similarities(video_features, classes)
    for video in range(3):
        mean = sum(video_features.frame_embeddings[video]) / 4
        for k, text in enumerate(classes):
            assert abs(ours[video, k] - mean @ text / (mean @ mean).sqrt()) < 1e-6


def test_head_is_action_clips_halved() -> None:
    """`action_clip` is checked against the authors' tensors."""
    ours = build_student("text4vis:temporal=6", small_clip())
    theirs = build_student("action_clip", small_clip())
    ours.load_state_dict(theirs.state_dict())
    frames = torch.randn(2, 5, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(2 * ours.encode_video(frames), theirs.encode_video(frames))


@pytest.mark.parametrize("temporal", [0, 2])
def test_a_step_moves_the_image_side_alone(temporal: int) -> None:
    student = build_student("text4vis", small_clip(), temporal=temporal).train()
    before = {name: value.clone() for name, value in student.state_dict().items()}
    trained = student.trainable_parameters()
    optimizer = torch.optim.SGD(trained.values(), lr=1.0)
    for _ in range(2):  # what zeros shut off from the loss moves in the second step
        features = student.encode_text(torch.tensor([[510, 9, 2, 511], [510, 77, 511, 0]]))
        video_features = student.forward_features(torch.randn(2, 3, 3, 32, 32))
        optimizer.zero_grad()
        F.cross_entropy(
            100 * student.similarities(video_features, F.normalize(features, dim=-1)), torch.arange(2)
        ).backward()
        optimizer.step()
    frozen = {name for name, value in student.state_dict().items() if torch.equal(value, before[name])}
    assert frozen == {name for name in before if name.startswith("text.")} | {"logit_scale"}
    assert frozen.isdisjoint(trained)


@pytest.mark.parametrize("temporal", [-1, 65, "six", 1.5])
def test_wrong_number_of_layers_is_named(temporal: Any) -> None:
    with pytest.raises(FrosterError, match="number of layers over the frames, 0 to 64"):
        build_student("text4vis", small_clip(), temporal=temporal)


def test_released_layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The authors' file has the image side alone; the text encoder is the release's."""
    release = small_clip(seed=1)
    tuned = build_student("action_clip", small_clip())
    torch.save(release.state_dict(), tmp_path / "release.pt")
    monkeypatch.setattr(foreign, "openai_release", {(8, 32): "vit-b-16"}.get)
    monkeypatch.setattr(foreign, "fetch_release", {"vit-b-16": tmp_path / "release.pt"}.__getitem__)
    state = {key: value for key, value in tuned.state_dict().items() if not key.startswith("text.")}
    state = {
        key.replace("temporal.positional_embedding", "temporal.frame_position_embeddings.weight")
        .replace("temporal.blocks", "temporal.transformer.resblocks")
        .replace("temporal.", "fusion_model."): value
        for key, value in state.items()
    }
    torch.save({"epoch": 30, "model_state_dict": state}, tmp_path / "text4vis.pt")
    student = load_model(tmp_path / "text4vis.pt", student="text4vis")
    assert student.options == {"temporal": 6}
    frames, tokens = torch.randn(2, 3, 3, 32, 32), torch.tensor([[510, 9, 2, 511]])
    with torch.no_grad():
        torch.testing.assert_close(2 * student.encode_video(frames), tuned.encode_video(frames))
        assert torch.equal(student.encode_text(tokens), release.encode_text(tokens))
