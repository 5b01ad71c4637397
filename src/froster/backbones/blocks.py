"""Parts of transformers that backbones of several families are made of."""

from collections.abc import Callable, Iterable
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

from froster.backbones.attention import Recorder, attention

Activation = Literal["quick_gelu", "gelu", "gelu_tanh"]


class Grid(NamedTuple):
    """Rows and columns of the patches that a frame is cut into."""

    rows: int
    columns: int


class QuickGELU(nn.Module):
    """CLIP's activation, `x * sigmoid(1.702 x)`."""

    def forward(self, x: Tensor) -> Tensor:
        return _QuickGELU.apply(x) if torch.is_grad_enabled() else quick_gelu(x)  # type: ignore[no-untyped-call]


def quick_gelu(x: Tensor) -> Tensor:
    # On a CPU, touching fresh memory costs more than the arithmetic: one new tensor instead of three.
    return torch.mul(x, 1.702).sigmoid_().mul_(x)


class _QuickGELU(torch.autograd.Function):
    """Keeps nothing but x for the backward pass, of two kernels; autograd would keep the sigmoid too and run five."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return quick_gelu(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        # QuickGELU(x) = SiLU(1.702 x) / 1.702: its slope at x is that of SiLU at 1.702 x.
        return torch.ops.aten.silu_backward(gradient, 1.702 * x)


class Attention(Recorder):
    """Multi-head self-attention among the tokens of `(..., N, C)`: within a frame, or within a text.

    `positions`: what a backbone does to queries and keys `(..., N, C)` that depends on where their patches are in the
    grid; nothing by default.
    """

    positions: Callable[[Tensor, Grid], Tensor] | None = None

    def __init__(self, width: int, heads: int, causal: bool = False) -> None:
        super().__init__()
        self.heads = heads
        self.causal = causal
        self.in_proj = nn.Linear(width, 3 * width)
        self.out_proj = nn.Linear(width, width)

    def forward(self, x: Tensor, grid: Grid | None = None) -> Tensor:
        q, k, v = self.qkv(x, grid)
        return self.out_proj(self.attend(q, k, v, causal=self.causal))

    def qkv(self, x: Tensor, grid: Grid | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values of tokens, `(..., N, C)` each.

        `grid`: of the patches among the tokens, for backbones whose queries and keys depend on their positions; None
        where all tokens are at the same position, or have none.
        """
        q, k, v = self.in_proj(x).chunk(3, dim=-1)
        if self.positions is not None and grid is not None:
            q, k = self.positions(q, grid), self.positions(k, grid)
        return q, k, v

    def attend(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, causal: bool = False) -> Tensor:
        """Softmax attention of queries `(..., N, C)` to keys and values `(..., M, C)`; returns `(..., N, C)`.

        `mask` is boolean and broadcasts to `(batch, heads, N, M)` with the leading axes flattened; True takes part.
        """
        # The fast CPU and GPU kernels take exactly four axes.
        q4, k4, v4 = (rearrange(t.flatten(0, -3), "b n (h c) -> b h n c", h=self.heads) for t in (q, k, v))
        out = attention(q4, k4, v4, mask, causal, self.recorder)
        return rearrange(out, "b h n c -> b n (h c)").view_as(q)


def activation_module(activation: Activation) -> nn.Module:
    """The activation of a name; `gelu_tanh` is GELU in its tanh approximation."""
    if activation == "quick_gelu":
        return QuickGELU()
    return nn.GELU("tanh" if activation == "gelu_tanh" else "none")


def mlp(width: int, hidden: int | None, activation: Activation) -> nn.Sequential:
    """Two linear layers with an activation between; `hidden` is 4 times the width where it is None."""
    hidden = hidden or 4 * width
    return nn.Sequential(nn.Linear(width, hidden), activation_module(activation), nn.Linear(hidden, width))


class AttentionPool(Recorder):
    """One learned probe that attends to all tokens of a frame, and an MLP: `(B, T, N, C)` -> `(B, T, C)`."""

    def __init__(self, width: int, heads: int, activation: Activation, mlp_width: int | None = None) -> None:
        super().__init__()
        self.heads = heads
        self.probe = nn.Parameter(width**-0.5 * torch.randn(width))
        self.in_proj, self.out_proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.ln = nn.LayerNorm(width)
        self.mlp = mlp(width, mlp_width, activation)

    def forward(self, x: Tensor) -> Tensor:
        tokens, width = x.flatten(0, 1), len(self.probe)
        weight, bias = self.in_proj.weight, self.in_proj.bias
        q = F.linear(self.probe, weight[:width], bias[:width]).expand(len(tokens), 1, -1)
        k, v = F.linear(tokens, weight[width:], bias[width:]).chunk(2, dim=-1)
        q, k, v = (rearrange(t, "b n (h c) -> b h n c", h=self.heads) for t in (q, k, v))
        pooled = self.out_proj(rearrange(attention(q, k, v, recorder=self.recorder), "b h 1 c -> b (h c)"))
        return (pooled + self.mlp(self.ln(pooled))).unflatten(0, x.shape[:2])


class Block(nn.Module):
    """Pre-norm transformer block on `(..., N, C)`; `mlp_width` is 4 times the width where it is None."""

    def __init__(
        self, width: int, heads: int, activation: Activation, causal: bool = False, mlp_width: int | None = None
    ) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(width)
        self.attn = Attention(width, heads, causal)
        self.ln_2 = nn.LayerNorm(width)
        self.mlp = mlp(width, mlp_width, activation)

    def forward(self, x: Tensor, grid: Grid | None = None) -> Tensor:
        x = x + self.attn(self.ln_1(x), grid)
        return x + self.mlp(self.ln_2(x))


def run_blocks(blocks: Iterable[nn.Module], x: Tensor, checkpointing: bool, grid: Grid | None = None) -> Tensor:
    """All blocks in turn on `(..., N, C)`; with `checkpointing` a training step keeps each block's input alone.

    `grid`: of the patches among the tokens of a frame; None in a text.
    """
    for block in blocks:
        x = run_block(block, x, grid, checkpointing=checkpointing)
    return x


def run_block(block: Callable[..., Any], *inputs: Tensor | Grid | None, checkpointing: bool) -> Any:
    """One block of any inputs; with `checkpointing` a training step keeps these alone and computes the rest again."""
    if checkpointing and torch.is_grad_enabled():
        return checkpoint(block, *inputs, use_reentrant=False)
    return block(*inputs)


def embed_patches(frames: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """The convolution `(C, 3, P, P)` of patches of P x P pixels: `(B, T, 3, H, W)` -> `(B, T, N, C)`, row by row.

    Patches do not overlap, so it is one matrix product, whose backward pass is faster than a convolution's.
    """
    patch = weight.shape[-1]
    patches = rearrange(frames, "b t c (h p) (w q) -> b t (h w) (c p q)", p=patch, q=patch)
    return F.linear(patches.to(weight.dtype), weight.flatten(1), bias)


def resize_positions(table: Tensor, pretrained: Grid, grid: Grid, **interpolation: Any) -> Tensor:
    """Learned positions of the patches of another grid than that of pretraining: `(rows columns, C)` to the same.

    `interpolation`: how, as for `torch.nn.functional.interpolate`; in float32.
    """
    patches = rearrange(table, "(h w) c -> 1 c h w", h=pretrained.rows).float()
    patches = F.interpolate(patches, size=(grid.rows, grid.columns), **interpolation)
    return rearrange(patches, "1 c h w -> (h w) c").to(table.dtype)
