"""From decoded frames to what a model takes in: scaling, centre crop, normalisation."""

import math

import torch
from torch import Tensor
from torch.nn.functional import interpolate

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


def clip_preprocess(frames: Tensor, size: int = 224) -> Tensor:
    """Prepare frames as CLIP does: short side to `size` (bicubic, antialiased), centre crop, normalise.

    `(N, H, W, 3)` uint8 -> `(N, 3, size, size)` float32. Same geometry as OpenAI's `preprocess`: long side
    `int(size * long / short)`, crop offset `round((side - size) / 2)`. Scaling stays in uint8, as in
    Pillow: on camera pictures fewer than 1 value in 100 is a grey level off Pillow's, 1 in 50,000 two.
    """
    return clip_normalize(clip_resize(frames, size))


def clip_resize(frames: Tensor, size: int = 224) -> Tensor:
    """The picture part of `clip_preprocess`: `(N, H, W, 3)` uint8 -> `(N, 3, size, size)` uint8."""
    scaled = clip_scale(frames, size)
    height, width = scaled.shape[2:]
    top, left = round((height - size) / 2), round((width - size) / 2)
    return scaled[:, :, top : top + size, left : left + size]


def random_crop(frame: Tensor, size: int, short_side: int, corner: tuple[float, float], flip: bool) -> Tensor:
    """A training crop: short side to `short_side` as CLIP scales, a square at `corner`, mirrored if `flip`.

    `(H, W, 3)` uint8 -> `(3, size, size)` uint8; `size` is at most `short_side`. `corner`: how much of the free rows
    lies above and of the free columns to the left, in [0, 1]. All frames of a clip share the last three.
    Both samplings use it: training with the authors' frames scales them so too.
    """
    (scaled,) = clip_scale(frame[None], short_side)
    height, width = scaled.shape[1:]
    top, left = round(corner[0] * (height - size)), round(corner[1] * (width - size))
    crop = scaled[:, top : top + size, left : left + size]
    return crop.flip(-1) if flip else crop


def clip_scale(frames: Tensor, short_side: int) -> Tensor:
    """Bicubic, antialiased, long side floored: `(N, H, W, 3)` uint8 -> `(N, 3, h, w)` uint8."""
    height, width = frames.shape[1:3]
    long_side = int(short_side * max(height, width) / min(height, width))
    target = (short_side, long_side) if height <= width else (long_side, short_side)
    scaled = frames.permute(0, 3, 1, 2)
    if (height, width) != target:
        scaled = interpolate(scaled, size=target, mode="bicubic", antialias=True)
    return scaled


def release_preprocess(frames: Tensor, size: int = 224) -> Tensor:
    """Prepare frames as the released video code does (`goldens/more/preprocess_test`).

    `(N, H, W, 3)` uint8 -> `(N, 3, size, size)` float32. Normalises first, then scales the short side to
    `size` (bilinear, *not* antialiased, long side floored), then crops the centre with the offset rounded up.
    """
    height, width = frames.shape[1:3]
    scaled = clip_normalize(frames.permute(0, 3, 1, 2))
    if min(height, width) != size:
        if width < height:
            height, width = math.floor(height / width * size), size
        else:
            height, width = size, math.floor(width / height * size)
        scaled = interpolate(scaled, size=(height, width), mode="bilinear", align_corners=False)
    top, left = math.ceil((height - size) / 2), math.ceil((width - size) / 2)
    return scaled[:, :, top : top + size, left : left + size]


def clip_normalize(frames: Tensor) -> Tensor:
    """`(N, 3, H, W)` uint8 -> float32: scaled to [0, 1], less CLIP's mean, over its deviation, by channel."""
    mean, std = (torch.tensor(values, device=frames.device).view(3, 1, 1) for values in (CLIP_MEAN, CLIP_STD))
    return frames.float().div_(255).sub_(mean).div_(std)
