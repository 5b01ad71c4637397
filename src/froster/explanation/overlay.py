"""Heat maps over pictures."""

from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from froster.extras import extra

if TYPE_CHECKING:
    from matplotlib.colors import Colormap

LEAST, MOST = 0.5, 0.8  # opacity of the colors, where the map is 0 and where it is 1


@cache
def color_map() -> "Colormap":
    """Even steps to the eye, also in gray and without seeing red and green."""
    with extra("cli", "Drawing heat maps"):
        from matplotlib import colormaps

    return colormaps["inferno"]


def overlay(pictures: NDArray[np.uint8], maps: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Heat maps `(T, h, w)` over pictures `(T, H, W, 3)` uint8 RGB: as many pictures again.

    The colors go from the clip's smallest value, dark, to its largest, bright; between the patches they are smooth.
    """
    height, width = pictures.shape[1:3]
    low, high = float(maps.min()), float(maps.max())
    values = (maps - low) / (high - low) if high > low else np.zeros_like(maps)
    smooth = F.interpolate(torch.from_numpy(values)[:, None].float(), (height, width), mode="bicubic")[:, 0]
    values = smooth.clamp_(0, 1).numpy()
    colors = color_map()
    out = np.empty_like(pictures)
    for frame, value, picture in zip(out, values, pictures, strict=True):  # one at a time: videos may be large
        opacity = (LEAST + (MOST - LEAST) * value)[..., None]
        # The picture in gray, so that every color is the map's.
        gray = picture @ np.array([0.299, 0.587, 0.114], np.float32)
        frame[:] = np.rint((1 - opacity) * gray[..., None] + opacity * 255 * colors(value)[..., :3])
    return out
