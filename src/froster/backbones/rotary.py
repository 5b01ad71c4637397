"""Rotary positions in two dimensions (Su et al., 2021; Heo et al., 2024), as Perception Encoder has them."""

import functools
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from froster.backbones.blocks import Grid

BASE = 10_000  # the longest wavelength is about this many patches


@dataclass(frozen=True)
class RotaryPositions:
    """Turns queries and keys of `heads` heads by the positions of their patches in the frame.

    `prefix_tokens`: tokens before the patches, which are not turned.
    """

    heads: int
    prefix_tokens: int

    def __call__(self, x: Tensor, grid: Grid) -> Tensor:
        """Queries or keys `(..., N, C)` to the same, turned."""
        x = x.unflatten(-1, (self.heads, -1))
        if torch.compiler.is_compiling():  # which cannot trace a cache
            angles = rotary_angles(grid, x.shape[-1], self.prefix_tokens, x.device)
            cos, sin = angles.cos(), angles.sin()
        else:
            cos, sin = cached_rotation(grid, x.shape[-1], self.prefix_tokens, x.device)
        return rotate(x, cos, sin).flatten(-2)


def rotary_angles(grid: Grid, head_width: int, prefix_tokens: int, device: torch.device) -> Tensor:
    """Angles of the rotary positions of a frame's tokens: `(prefix_tokens + rows * columns, head_width / 2)` float32.

    The first half of a head's pairs of channels turns with the patch's column, the second with its row; both count
    from `prefix_tokens`, as the class token is at angle 0.
    """
    pairs = head_width // 4
    frequencies = BASE ** (-torch.arange(pairs, device=device, dtype=torch.float32) / pairs)
    rows = torch.arange(prefix_tokens, prefix_tokens + grid.rows, device=device)
    columns = torch.arange(prefix_tokens, prefix_tokens + grid.columns, device=device)
    of_columns = columns[None, :, None].expand(*grid, 1) * frequencies
    of_rows = rows[:, None, None].expand(*grid, 1) * frequencies
    return F.pad(torch.cat([of_columns, of_rows], dim=-1).flatten(0, 1), (0, 0, prefix_tokens, 0))


@functools.lru_cache(maxsize=8)
def cached_rotation(grid: Grid, head_width: int, prefix_tokens: int, device: torch.device) -> tuple[Tensor, Tensor]:
    with torch.inference_mode(False):  # training may use what prediction computed
        angles = rotary_angles(grid, head_width, prefix_tokens, device)
        return angles.cos(), angles.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn pairs of neighboring channels: `(..., N, heads, C)` by M angles, cosines and sines `(M, C / 2)`.

    Tokens behind the first M are added by students and have no position: they stay as they are.
    """
    placed, others = x[..., : len(cos), :, :], x[..., len(cos) :, :, :]
    a, b = placed.unflatten(-1, (-1, 2)).unbind(-1)
    cos, sin = cos[:, None], sin[:, None]  # float32, and so are the products
    turned = torch.stack([a * cos - b * sin, b * cos + a * sin], dim=-1).flatten(-2).to(x.dtype)
    return torch.cat([turned, others], dim=-3) if others.shape[-3] else turned
