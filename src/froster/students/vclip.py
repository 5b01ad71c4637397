"""VCLIP (Open-VCLIP Eq. 3, ICML 2023): tokens also attend to the neighboring frames, with CLIP's own weights."""

from collections.abc import Iterator
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from froster.backbones.base import Backbone, VisionTower
from froster.backbones.blocks import Attention, Block, Grid
from froster.errors import FrosterError
from froster.students.attention_graph import PAD_TOKEN, AttentionStep, Step
from froster.students.base import VideoStudent
from froster.students.needs import BLOCKS

Boundary = Literal["zero", "masked"]
MAX_WINDOW = 64  # memory grows with it


class NeighborAttention(Attention):
    """Attention of `(B, T, N, C)` in which frame t sees the keys and values of frames t-window to t+window.

    At the first and last frames some neighbors are missing. `boundary="zero"`: their keys and values are zero
    vectors, which take part in the softmax with logit 0 and dilute it; the released checkpoints were trained so.
    `boundary="masked"`: they are left out.
    """

    def __init__(self, attention: Attention, window: int, boundary: Boundary) -> None:
        nn.Module.__init__(self)  # no weights of its own to make
        self.heads, self.in_proj, self.out_proj = attention.heads, attention.in_proj, attention.out_proj
        self.positions = attention.positions
        self.window, self.boundary = window, boundary

    def forward(self, x: Tensor, grid: Grid | None = None) -> Tensor:
        q, k, v = self.qkv(x, grid)
        mask = self.present(x) if self.boundary == "masked" else None
        return self.out_proj(self.attend(q, self.neighbors(k), self.neighbors(v), mask))

    def neighbors(self, x: Tensor) -> Tensor:
        """Tokens of every frame and its neighbors: `(B, T, N, C)` -> `(B, T, (2 window + 1) N, C)`."""
        padded = F.pad(x, (0, 0, 0, 0, self.window, self.window))
        if torch.is_grad_enabled():  # overlapping windows have a slow backward pass
            return torch.cat([padded[:, i : i + x.shape[1]] for i in range(2 * self.window + 1)], dim=2)
        # Overlapping windows of the same memory: for a single clip nothing is copied.
        return rearrange(padded.unfold(1, 2 * self.window + 1, 1), "b t n c w -> b t (w n) c")

    def present(self, x: Tensor) -> Tensor:
        """Which neighbors exist: `(B T, 1, 1, (2 window + 1) N)` bool."""
        real = self.neighbors(torch.ones_like(x[..., :1])) > 0
        return real.flatten(0, 1)[:, None, None, :, 0]


def attend_to_neighbors(visual: VisionTower, window: int, boundary: Boundary) -> None:
    """Let every block of an image encoder attend to the neighboring frames."""
    for block in visual.blocks:
        assert isinstance(block, Block)
        block.attn = NeighborAttention(block.attn, window, boundary)


def neighbor_steps(recorded: Iterator[Tensor], numbers: Tensor, window: int, layers: int) -> list[Step]:
    """`VideoStudent.layer_steps` of such an image encoder."""
    padded = F.pad(numbers, (0, 0, window, window), value=PAD_TOKEN)
    keys = torch.cat([padded[i : i + len(numbers)] for i in range(2 * window + 1)], dim=1)
    return [AttentionStep(next(recorded), numbers, keys) for _ in range(layers)]


class VClip(VideoStudent):
    """The backbone with neighbor attention in every vision layer; no new parameters.

    `window` is the number of frames seen to either side (the released variants are 1, 2 and 3). Raises
    `FrosterError` when it is out of range or `boundary` is neither `"zero"` nor `"masked"`.
    """

    name = "vclip"
    title = "VCLIP"
    needs = (BLOCKS,)

    def __init__(self, backbone: Backbone, window: int = 1, boundary: Boundary = "zero") -> None:
        if not isinstance(window, int) or not 1 <= window <= MAX_WINDOW:
            raise FrosterError(
                f"vclip's window is the number of frames to either side, 1 to {MAX_WINDOW}; not {window!r}."
            )
        if boundary not in get_args(Boundary):
            raise FrosterError(f"vclip's boundary is 'zero' or 'masked', not {boundary!r}.")
        super().__init__(backbone)
        self.options = {"window": window, "boundary": boundary}
        attend_to_neighbors(self.visual, window, boundary)

    def layer_steps(self, recorded: Iterator[Tensor], numbers: Tensor) -> list[Step]:
        return neighbor_steps(recorded, numbers, self.options["window"], len(self.visual.blocks))
