"""Softmax attention that is fast forwards and backwards on every device."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

CHUNK = 2**20  # attention weights at a time: they stay in the processor's cache


def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None = None,
    causal: bool = False,
    recorder: list[Tensor] | None = None,
) -> Tensor:
    """Softmax attention, `(B, heads, N, C)` and keys and values `(B, heads, M, C)` -> `(B, heads, N, C)`.

    `mask` is boolean and broadcasts to `(B, heads, N, M)`; True takes part. The weights are appended to `recorder`.
    """
    if recorder is not None:
        weights = attention_weights(q, k, mask, causal)
        recorder.append(weights)
        return weights.to(v.dtype) @ v
    if q.device.type == "cpu" and q.dtype == torch.bfloat16 and torch.is_grad_enabled() and q.requires_grad:
        return _Bfloat16Attention.apply(q, k, v, mask, causal)  # type: ignore[no-untyped-call]
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal)


def attention_weights(q: Tensor, k: Tensor, mask: Tensor | None = None, causal: bool = False) -> Tensor:
    """The weights that `attention` gives the values: `(B, heads, N, M)` float32, each row adds up to 1."""
    logits = (q @ k.transpose(-1, -2)).float() * q.shape[-1] ** -0.5
    if causal:
        mask = torch.ones(logits.shape[-2:], dtype=torch.bool, device=q.device).tril()
    return (logits if mask is None else logits.masked_fill(~mask, float("-inf"))).softmax(dim=-1)


class Recorder(nn.Module):
    """Base of modules whose attention `record_attention` can record."""

    # An attribute rather than a context variable: `torch.compile` traces through it.
    recorder: list[Tensor] | None = None


@contextmanager
def record_attention(model: nn.Module) -> Iterator[list[Tensor]]:
    """Within it, the weights of every attention that `model` computes go into the list, in the order of the calls.

    They are `(B, heads, N, M)` float32, and part of the graph: gradients can be taken of them. A model records for one
    thread at a time.
    """
    recorded: list[Tensor] = []
    recorders = [module for module in model.modules() if isinstance(module, Recorder)]
    for module in recorders:
        module.recorder = recorded
    try:
        yield recorded
    finally:
        for module in recorders:
            del module.recorder


class _Bfloat16Attention(torch.autograd.Function):
    """PyTorch's attention with a backward pass of plain matrix products.

    PyTorch's own backward kernel for the CPU does not use the bfloat16 units: it takes several times as long.
    """

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, causal: bool) -> Tensor:
        ctx.save_for_backward(q, k, v)
        ctx.mask, ctx.causal = mask, causal
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        q, k, v = ctx.saved_tensors
        mask = None if ctx.mask is None else ctx.mask.expand(len(q), -1, -1, -1)
        if ctx.causal:
            mask = torch.ones(1, 1, q.shape[-2], k.shape[-2], dtype=torch.bool).tril().expand(len(q), -1, -1, -1)
        rows = max(1, CHUNK // (q.shape[1] * q.shape[2] * k.shape[2]))
        chunks = [tensor.split(rows) for tensor in (q, k, v, gradient)]
        masks = [None] * len(chunks[0]) if mask is None else mask.split(rows)
        parts = [_gradients(*chunk) for chunk in zip(*chunks, masks, strict=True)]
        dq, dk, dv = (torch.cat(part) for part in zip(*parts, strict=True))
        return dq, dk, dv, None, None


def _gradients(q: Tensor, k: Tensor, v: Tensor, gradient: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    scale = q.shape[-1] ** -0.5
    # Laid out once for the five products, each of which would do it again.
    q, k, v, gradient = (q * scale).contiguous(), k.contiguous(), v.contiguous(), gradient.contiguous()
    logits = q @ k.transpose(-1, -2)
    if mask is not None:
        logits.masked_fill_(~mask, float("-inf"))
    weights = logits.softmax(dim=-1)
    of_weights = gradient @ v.transpose(-1, -2)
    # The softmax's own backward kernel: one pass over the weights; PyTorch has no public name for it.
    of_logits = torch._softmax_backward_data(of_weights, weights, -1, weights.dtype)
    return (of_logits @ k) * scale, of_logits.transpose(-1, -2) @ q, weights.transpose(-1, -2) @ gradient
