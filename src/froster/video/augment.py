"""Random changes of training clips beyond crop and flip: RandAugment and random erasing, one draw for all frames."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageEnhance, ImageOps
from torch import Tensor

MAX_MAGNITUDE = 30

Operation = tuple[str, float]  # name and strength


def _shear(image: Image.Image, x: float, y: float) -> Image.Image:
    return image.transform(image.size, Image.Transform.AFFINE, (1, x, 0, y, 1, 0))


def _translate(image: Image.Image, x: float, y: float) -> Image.Image:
    return image.transform(
        image.size, Image.Transform.AFFINE, (1, 0, round(x * image.width), 0, 1, round(y * image.height))
    )


# Name -> operation, strength at magnitude 0 and at the largest, whether its sign is random; as in torchvision's
# `RandAugment`, whose largest translation is 150/331 of the picture.
OPERATIONS: dict[str, tuple[Callable[[Image.Image, float], Image.Image], float, float, bool]] = {
    "identity": (lambda image, _: image, 0, 0, False),
    "shear x": (lambda image, x: _shear(image, x, 0), 0, 0.3, True),
    "shear y": (lambda image, y: _shear(image, 0, y), 0, 0.3, True),
    "translate x": (lambda image, x: _translate(image, x, 0), 0, 150 / 331, True),
    "translate y": (lambda image, y: _translate(image, 0, y), 0, 150 / 331, True),
    "rotate": (lambda image, degrees: image.rotate(degrees), 0, 30, True),
    "brightness": (lambda image, by: ImageEnhance.Brightness(image).enhance(1 + by), 0, 0.9, True),
    "color": (lambda image, by: ImageEnhance.Color(image).enhance(1 + by), 0, 0.9, True),
    "contrast": (lambda image, by: ImageEnhance.Contrast(image).enhance(1 + by), 0, 0.9, True),
    "sharpness": (lambda image, by: ImageEnhance.Sharpness(image).enhance(1 + by), 0, 0.9, True),
    "posterize": (lambda image, bits: ImageOps.posterize(image, round(bits)), 8, 4, False),
    "solarize": (lambda image, threshold: ImageOps.solarize(image, round(threshold)), 255, 0, False),
    "auto contrast": (lambda image, _: ImageOps.autocontrast(image), 0, 0, False),
    "equalize": (lambda image, _: ImageOps.equalize(image), 0, 0, False),
}


def draw_operations(rng: np.random.Generator, count: int, magnitude: int) -> list[Operation]:
    """RandAugment: `count` random operations with their strength at this magnitude, 0 to 30 (Cubuk et al., 2020)."""
    chosen = []
    for number in rng.integers(len(OPERATIONS), size=count).tolist():
        name = list(OPERATIONS)[number]
        _, weakest, strongest, signed = OPERATIONS[name]
        strength = weakest + (strongest - weakest) * magnitude / MAX_MAGNITUDE
        chosen.append((name, -strength if signed and rng.random() < 0.5 else strength))
    return chosen


def apply_operations(image: Tensor, operations: Sequence[Operation]) -> Tensor:
    """The operations one after the other, by Pillow: `(3, H, W)` uint8 to the same."""
    picture = Image.fromarray(image.permute(1, 2, 0).contiguous().numpy())
    for name, strength in operations:
        picture = OPERATIONS[name][0](picture, strength)
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1)


def draw_erased(rng: np.random.Generator, size: int) -> tuple[slice, slice, Tensor]:
    """Random erasing (Zhong et al., 2020): rows and columns of a box, and noise `(3, h, w)` uint8 to put there.

    The box has 2 to 33 % of a square of side `size`, and an aspect ratio of 0.3 to 3.3.
    """
    while True:
        area, aspect = rng.uniform(0.02, 1 / 3) * size * size, math.exp(rng.uniform(math.log(0.3), math.log(1 / 0.3)))
        height, width = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < height < size and 0 < width < size:
            break
    top, left = rng.integers(size - height + 1).item(), rng.integers(size - width + 1).item()
    noise: Any = rng.integers(256, size=(3, height, width), dtype=np.uint8)
    return slice(top, top + height), slice(left, left + width), torch.from_numpy(noise)
