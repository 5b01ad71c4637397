import numpy as np
import pytest

from froster.data.puppets import ACTIONS, GAPS, DomainGap, action_index, draw_video, draw_video_and_mask


def still(boxes: int = 0, blur: float = 0.0) -> DomainGap:
    """No noise, no shaking, full brightness."""
    return DomainGap((1.0, 1.0), (0.0, 0.0), (1.0, 1.0), boxes, 0.0, 1.0, blur)


@pytest.mark.parametrize("gap", GAPS)
def test_the_video_is_the_same_pixel_for_pixel(gap: str) -> None:
    for action in range(0, len(ACTIONS), 6):
        video, mask = draw_video_and_mask(3, action, 4, 48, gap)
        assert (video == draw_video(3, action, 4, 48, gap)).all()
        assert mask.shape == (4, 48, 48)
        assert mask.dtype == np.float32
        assert mask.min() == 0
        assert 0.9 < mask.max() <= 1


@pytest.mark.parametrize("name", ["waving hello", "crawling", "juggling balls", "hammering a nail", "playing drums"])
def test_the_mask_is_all_that_differs_from_the_backdrop(name: str) -> None:
    """Every row of the backdrop, wall or ground, has one color; all else in it is the figure and its things."""
    video, mask = draw_video_and_mask(11, action_index(name), 3, 64, still())
    assert not mask[:, :, 0].any()  # the first column is backdrop alone
    differs = np.abs(video.astype(int) - video[:, :, :1]).max(-1) > 6
    assert (mask[differs] > 0).all()
    assert differs[mask == 1].mean() > 0.97  # clothes may have the color of what is behind them


def test_clutter_before_the_figure_hides_it() -> None:
    plain, hidden = (
        np.mean([draw_video_and_mask(seed, 0, 1, 48, still(boxes))[1].mean() for seed in range(12)])
        for boxes in (0, 40)
    )
    assert hidden < 0.9 * plain


def test_a_moving_figure_fills_pixels_for_part_of_the_time() -> None:
    masks = [draw_video_and_mask(2, action_index("running"), 4, 64, still(blur=blur))[1] for blur in (0.0, 0.9)]
    sharp, blurred = (((mask > 0.05) & (mask < 0.95)).mean() for mask in masks)
    assert blurred > 1.2 * sharp
