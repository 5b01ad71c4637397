"""Overlay heat maps on frames."""

from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from froster.extras import extra

if TYPE_CHECKING:
    from matplotlib.colors import Colormap

MIN_OPACITY, MAX_OPACITY = 0.5, 0.8  # of the colors, for map values 0 and 1


@cache
def color_map() -> "Colormap":
    """Perceptually uniform, also in grayscale and with color blindness."""
    with extra("cli", "Drawing heat maps"):
        from matplotlib import colormaps

    return colormaps["inferno"]


def overlay(images: NDArray[np.uint8], maps: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Overlay heat maps `(T, h, w)` on frames `(T, H, W, 3)` uint8 RGB; same shape as the frames.

    The colors go from the clip's smallest value, dark, to its largest, bright; between the patches they are smooth.
    """
    height, width = images.shape[1:3]
    low, high = float(maps.min()), float(maps.max())
    values = (maps - low) / (high - low) if high > low else np.zeros_like(maps)
    smooth = F.interpolate(torch.from_numpy(values)[:, None].float(), (height, width), mode="bicubic")[:, 0]
    values = smooth.clamp_(0, 1).numpy()
    colors = color_map()
    out = np.empty_like(images)
    for frame, value, image in zip(out, values, images, strict=True):  # one at a time: videos may be large
        opacity = (MIN_OPACITY + (MAX_OPACITY - MIN_OPACITY) * value)[..., None]
        # The frame in gray, so that all colors are the map's.
        gray = image @ np.array([0.299, 0.587, 0.114], np.float32)
        frame[:] = np.rint((1 - opacity) * gray[..., None] + opacity * 255 * colors(value)[..., :3])
    return out
