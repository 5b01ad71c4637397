import numpy as np
import pytest
import torch

from froster.video.augment import OPERATIONS, apply_operations, draw_erased, draw_operations


def image() -> torch.Tensor:
    return torch.randint(0, 256, (3, 40, 40), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def applied(name: str, strength: float) -> np.ndarray:
    return apply_operations(image(), [(name, strength)]).numpy().astype(int)


def test_operations_follow_their_formulas() -> None:
    """Independent of Pillow: gray levels by arithmetic, positions by indexing."""
    pixels = image().numpy().astype(int)
    assert np.array_equal(applied("identity", 0), pixels)
    assert np.abs(applied("brightness", -0.5) - pixels * 0.5).max() <= 1
    assert np.array_equal(applied("solarize", 128), np.where(pixels < 128, pixels, 255 - pixels))
    assert np.array_equal(applied("posterize", 4), pixels & 0xF0)
    assert np.array_equal(applied("translate x", 0.25)[:, :, :30], pixels[:, :, 10:])
    assert np.array_equal(applied("translate y", -0.25)[:, 10:], pixels[:, :30])
    assert not applied("translate y", -0.25)[:, :10].any()
    assert np.array_equal(applied("rotate", 90), np.rot90(pixels, axes=(1, 2)))
    low, high = pixels.min(axis=(1, 2), keepdims=True), pixels.max(axis=(1, 2), keepdims=True)
    assert np.abs(applied("auto contrast", 0) - 255 * (pixels - low) / (high - low)).max() <= 1
    gray = np.tensordot([0.299, 0.587, 0.114], pixels, axes=1)
    assert np.abs(applied("color", -0.9) - np.clip(0.1 * pixels + 0.9 * gray, 0, 255)).max() <= 2
    contrasted = applied("contrast", 0.5) - np.clip(1.5 * pixels - 0.5 * np.round(gray.mean()), 0, 255)
    assert np.abs(contrasted).max() <= 2
    sheared = applied("shear x", 0.3)
    for row in (0, 10, 30):
        moved = int(0.3 * (row + 0.5) + 0.5)
        assert np.array_equal(sheared[:, row, : 40 - moved - 1], pixels[:, row, moved:39])


@pytest.mark.parametrize("name", OPERATIONS)
def test_no_strength_leaves_the_picture(name: str) -> None:
    weakest = OPERATIONS[name][1]
    if name not in ("auto contrast", "equalize", "solarize"):
        assert np.array_equal(applied(name, weakest), image().numpy())


def test_draws_depend_on_the_seed_and_reach_every_operation() -> None:
    drawn = [draw_operations(np.random.default_rng(seed), 2, 9) for seed in range(300)]
    assert drawn[7] == draw_operations(np.random.default_rng(7), 2, 9)
    assert {name for pair in drawn for name, _ in pair} == set(OPERATIONS)
    rotations = {round(strength, 6) for pair in drawn for name, strength in pair if name == "rotate"}
    assert rotations == {9.0, -9.0}  # magnitude 9 of 30, of at most 30 degrees
    assert {strength for pair in drawn for name, strength in pair if name == "posterize"} == {6.8}


def test_erased_boxes_have_their_area_and_aspect() -> None:
    areas, aspects = [], []
    for seed in range(300):
        rows, columns, noise = draw_erased(np.random.default_rng(seed), 224)
        height, width = rows.stop - rows.start, columns.stop - columns.start
        assert noise.shape == (3, height, width) and noise.dtype == torch.uint8
        assert rows.start >= 0 and rows.stop <= 224 and columns.start >= 0 and columns.stop <= 224
        areas.append(height * width / 224**2)
        aspects.append(height / width)
    assert 0.018 < min(areas) < 0.05 and 0.28 < max(areas) < 0.34
    assert 0.28 < min(aspects) < 0.4 and 2.5 < max(aspects) < 3.5
