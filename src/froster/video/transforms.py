"""Preprocessing of decoded frames: resize, center crop, normalize."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)

LUMA = torch.tensor((0.299, 0.587, 0.114)).view(3, 1, 1)  # gray from RGB (ITU-R 601), as in Pillow

Interpolation = Literal["bicubic", "bilinear"]
ResizeMode = Literal["shortest", "squash", "longest"]


@dataclass(frozen=True)
class Preprocessing:
    """A backbone's preprocessing: `preprocess(images)`. The defaults are CLIP's.

    Pictures are resized with `interpolation`, antialiased, to `size` x `size` pixels, and each channel is normalized
    with `mean` and `std`. `resize_mode`: `"shortest"` resizes the short side and crops the center, `"squash"` resizes
    both sides without keeping the aspect, `"longest"` resizes the long side and pads with black. `normalize_first` is
    the authors' video code: it normalizes, then resizes without antialiasing. Raises `ValueError` for a size below 1,
    an unknown interpolation or resize mode.
    """

    size: int = 224
    mean: tuple[float, float, float] = CLIP_MEAN
    std: tuple[float, float, float] = CLIP_STD
    interpolation: Interpolation = "bicubic"
    resize_mode: ResizeMode = "shortest"
    normalize_first: bool = False

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"The input resolution must be 1 or more, not {self.size}.")
        if self.interpolation not in get_args(Interpolation):
            raise ValueError(f"There is no interpolation {self.interpolation!r}; choose bicubic or bilinear.")
        if self.resize_mode not in get_args(ResizeMode):
            known = ", ".join(get_args(ResizeMode))
            raise ValueError(f"There is no resize mode {self.resize_mode!r}; choose from {known}.")

    @property
    def released(self) -> "Preprocessing":
        """The same for the authors' video code (`goldens/more/preprocess_test`)."""
        return replace(self, interpolation="bilinear", normalize_first=True)

    def __call__(self, images: Tensor) -> Tensor:
        """Preprocess images of one size: `(N, H, W, 3)` uint8 -> `(N, 3, size, size)` float32."""
        return self.per_batch(self.per_frame(images))

    def per_frame(self, images: Tensor) -> Tensor:
        """The per-image part, done while decoding; `per_batch` does the rest."""
        if self.normalize_first:
            return self._resize_normalized(self.normalize(images.permute(0, 3, 1, 2)))
        return self.resize(images)

    def per_batch(self, shrunk: Tensor) -> Tensor:
        """Normalized `(N, 3, size, size)` float32 from what `per_frame` returns."""
        return shrunk if self.normalize_first else self.normalize(shrunk)

    def resize(self, images: Tensor) -> Tensor:
        """Resize, and crop or pad: `(N, H, W, 3)` uint8 -> `(N, 3, size, size)` uint8.

        The geometry of `"shortest"` is that of OpenAI's `preprocess`: long side `int(size * long / short)`, crop offset
        `round((side - size) / 2)`. Scaling stays in uint8, as in Pillow: on photos fewer than 1 value in 100
        is a gray level off Pillow's, 1 in 50,000 two.
        """
        if self.resize_mode == "squash":
            return _scale(images, (self.size, self.size), self.interpolation)
        if self.resize_mode == "longest":
            return self._pad(_scale(images, self._long_side_size(*images.shape[1:3]), self.interpolation))
        scaled = scale_short_side(images, self.size, self.interpolation)
        height, width = scaled.shape[2:]
        top, left = round((height - self.size) / 2), round((width - self.size) / 2)
        return scaled[:, :, top : top + self.size, left : left + self.size]

    def scale_crops(self, crops: Tensor) -> Tensor:
        """Square training crops `(..., 3, H, W)` in [0, 255] scaled to `size`, antialiased: float32.

        Crops of that size are returned as they are.
        """
        if crops.shape[-2:] == (self.size, self.size):
            return crops
        size = (self.size, self.size)
        scaled = interpolate(crops.flatten(0, -4).float(), size=size, mode=self.interpolation, antialias=True)
        return scaled.clamp_(0, 255).unflatten(0, crops.shape[:-3])

    def normalize(self, frames: Tensor) -> Tensor:
        """`(..., 3, H, W)` uint8, or float32 in [0, 255] -> float32, normalized by mean and std.

        `frames` are left as they are: the losses of a step share a batch.
        """
        mean, std = (torch.tensor(values, device=frames.device).view(3, 1, 1) for values in (self.mean, self.std))
        return torch.div(frames, 255).sub_(mean).div_(std)

    def _resize_normalized(self, frames: Tensor) -> Tensor:
        """`(N, 3, H, W)` float32: bilinear without antialiasing, long side floored, crop offset rounded up."""
        height, width = frames.shape[2:]
        if self.resize_mode != "shortest":
            size = (self.size, self.size) if self.resize_mode == "squash" else self._long_side_size(height, width)
            return self._pad(interpolate(frames, size=size, mode=self.interpolation, align_corners=False))
        if min(height, width) != self.size:
            if width < height:
                height, width = math.floor(height / width * self.size), self.size
            else:
                height, width = self.size, math.floor(width / height * self.size)
            frames = interpolate(frames, size=(height, width), mode=self.interpolation, align_corners=False)
        top, left = math.ceil((height - self.size) / 2), math.ceil((width - self.size) / 2)
        return frames[:, :, top : top + self.size, left : left + self.size]

    def _long_side_size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of a picture whose long side becomes `size`; rounded as in OpenCLIP."""
        ratio = max(height, width) / self.size
        return max(1, round(height / ratio)), max(1, round(width / ratio))

    def _pad(self, pictures: Tensor) -> Tensor:
        """Black around `(N, 3, H, W)` to `(N, 3, size, size)`, the odd row or column after the picture."""
        height, width = pictures.shape[2:]
        if (height, width) == (self.size, self.size):
            return pictures
        black = self.normalize(pictures.new_zeros(1, 3, 1, 1)) if self.normalize_first else pictures.new_zeros(())
        padded = black.expand(len(pictures), 3, self.size, self.size).clone()
        top, left = (self.size - height) // 2, (self.size - width) // 2
        padded[:, :, top : top + height, left : left + width] = pictures
        return padded


def random_crop(
    frame: Tensor,
    size: int,
    short_side: int,
    corner: tuple[float, float],
    flip: bool,
    release: bool = False,
    interpolation: Interpolation = "bicubic",
) -> Tensor:
    """A training crop: short side resized to `short_side`, a square crop at `corner`, flipped horizontally if `flip`.

    `(H, W, 3)` uint8 -> `(3, size, size)` uint8; `size` is at most `short_side`. `corner`: position of the crop in
    [0, 1], 0 is the top and the left edge. With `release` the frame is resized as in the authors' training code,
    bilinear without antialiasing and without rounding to whole gray levels: float32 in [0, 255]. They normalize before
    they resize; as both are linear per channel, normalizing afterwards gives the same.
    """
    scaled = (
        scale_as_released(frame[None], short_side)
        if release
        else scale_short_side(frame[None], short_side, interpolation)
    )[0]
    height, width = scaled.shape[1:]
    top, left = round(corner[0] * (height - size)), round(corner[1] * (width - size))
    crop = scaled[:, top : top + size, left : left + size]
    return crop.flip(-1) if flip else crop


def seen_region(image: NDArray[np.uint8], resize_mode: ResizeMode) -> NDArray[np.uint8]:
    """What of a picture `Preprocessing` of this mode puts into its square: `(H, W, 3)` uint8 to the same.

    The center square, or the whole picture, which is squashed into a square, or the picture on a black square.
    """
    height, width = image.shape[:2]
    if resize_mode == "squash":
        return image
    side = min(height, width) if resize_mode == "shortest" else max(height, width)
    top, left = round((height - side) / 2), round((width - side) / 2)
    if resize_mode == "shortest":
        return image[top : top + side, left : left + side]
    padded = np.zeros((side, side, 3), np.uint8)
    padded[-top : height - top, -left : width - left] = image
    return padded


def scale_as_released(frames: Tensor, short_side: int) -> Tensor:
    """Bilinear, not antialiased, long side floored: `(N, H, W, 3)` uint8 -> `(N, 3, h, w)` float32 in [0, 255]."""
    height, width = frames.shape[1:3]
    scaled = frames.permute(0, 3, 1, 2).float()
    if min(height, width) == short_side:
        return scaled
    if width < height:
        target = (math.floor(height / width * short_side), short_side)
    else:
        target = (short_side, math.floor(width / height * short_side))
    return interpolate(scaled, size=target, mode="bilinear", align_corners=False)


def color_jitter(images: Tensor, factors: tuple[float, float, float], order: Sequence[int]) -> Tensor:
    """Scale brightness, contrast and saturation by `factors`, in this `order` of their indices.

    `(3, H, W)` uint8, or float32 in [0, 255]; the result has the same dtype. Each blends the image with another, as
    Pillow's `ImageEnhance` does: with black, with the mean of its gray version, with its gray version.
    """
    jittered = images.float()
    for index in order:
        if index == 0:
            other = torch.zeros(())
        else:
            gray = (jittered * LUMA).sum(dim=0, keepdim=True)
            other = gray.mean() if index == 1 else gray
        jittered = torch.lerp(other.expand_as(jittered), jittered, factors[index]).clamp_(0, 255)
    return jittered.round_().to(torch.uint8) if images.dtype == torch.uint8 else jittered


def scale_short_side(frames: Tensor, short_side: int, interpolation: Interpolation = "bicubic") -> Tensor:
    """Antialiased, long side floored: `(N, H, W, 3)` uint8 -> `(N, 3, h, w)` uint8."""
    height, width = frames.shape[1:3]
    long_side = int(short_side * max(height, width) / min(height, width))
    return _scale(frames, (short_side, long_side) if height <= width else (long_side, short_side), interpolation)


def _scale(frames: Tensor, size: tuple[int, int], interpolation: Interpolation) -> Tensor:
    """Antialiased: `(N, H, W, 3)` uint8 -> `(N, 3, h, w)` uint8."""
    scaled = frames.permute(0, 3, 1, 2)
    if tuple(scaled.shape[2:]) != size:
        scaled = interpolate(scaled, size=size, mode=interpolation, antialias=True)
    return scaled
