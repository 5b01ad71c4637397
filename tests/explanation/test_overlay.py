import numpy as np
from matplotlib import colormaps

from froster.explanation import overlay

GRAYS = np.full((2, 48, 64, 3), 100, np.uint8)


def test_bright_where_the_map_is_large() -> None:
    maps = np.zeros((2, 3, 4), np.float32)
    maps[1, 2, 3] = 0.4  # the largest value of the clip, also when it is not 1
    out = overlay(GRAYS, maps)
    assert out.shape == GRAYS.shape
    assert out.dtype == np.uint8
    light = out.astype(int).sum(-1)
    assert light[0].max() == light[0].min() == light[1].min()
    row, column = np.unravel_index(light[1].argmax(), light[1].shape)
    assert (row // 16, column // 16) == (2, 3)
    brightest = 255 * np.array(colormaps["inferno"](1.0)[:3])
    assert abs(out[1, row, column] - (0.2 * 100 + 0.8 * brightest)).max() < 2


def test_pictures_are_seen_through_it_and_left_alone() -> None:
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (1, 20, 20, 3), dtype=np.uint8)
    before = pictures.copy()
    flat = overlay(pictures, np.ones((1, 2, 2), np.float32))
    assert (pictures == before).all()
    gray = pictures @ np.array([0.299, 0.587, 0.114])
    assert np.corrcoef(flat.sum(-1).ravel(), gray.ravel())[0, 1] > 0.99
