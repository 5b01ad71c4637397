"""A small backbone that is unlike CLIP in everything that the seam between students and backbones hides.

No class token, attention pooling (SigLIP's and Perception Encoder's: a learned probe, then `x + MLP(LayerNorm(x))`), a
bidirectional text encoder that attends to padding and pools the last token (SigLIP's), words for tokens, a bias on the
logits, another context length, mean and std of 0.5, and pictures that are squashed with bilinear interpolation.
"""

import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from froster.backbones.attention import Recorder, attention
from froster.backbones.base import Backbone, BackboneConfig, TextTower, VisionTower
from froster.backbones.blocks import Block, run_blocks
from froster.backbones.build import BACKBONES, register_backbone
from froster.backbones.tokenizer import Tokenizer

PAD, UNKNOWN = 1, 2


@dataclass(frozen=True)
class PooledConfig(BackboneConfig):
    family: ClassVar[str] = "pooled"
    pool_heads: int = 2


POOLED = PooledConfig(
    image_size=32,
    patch_size=8,
    vision_width=64,
    vision_layers=2,
    vision_heads=1,
    text_width=48,
    text_layers=2,
    text_heads=2,
    embed_dim=32,
    context_length=40,
    vocab_size=1000,
    activation="gelu",
    vision_mlp_width=96,
    image_mean=(0.5, 0.5, 0.5),
    image_std=(0.5, 0.5, 0.5),
    resize_mode="squash",
    interpolation="bilinear",
)


@dataclass(frozen=True)
class Words(Tokenizer):
    """A token for every word, by its hash; no start or end token."""

    context_length: int
    vocab_size: int
    pad_id: int = PAD

    def __call__(self, texts: str | Sequence[str], context_length: int | None = None) -> Tensor:
        length = context_length or self.context_length
        tokens = torch.full((1 if isinstance(texts, str) else len(texts), length), self.pad_id)
        for row, text in zip(tokens, [texts] if isinstance(texts, str) else texts, strict=True):
            ids = [UNKNOWN + zlib.crc32(word.encode()) % (self.vocab_size - UNKNOWN) for word in text.lower().split()]
            row[: len(ids)] = torch.tensor(ids[:length])
        return tokens

    def lengths(self, tokens: Tensor) -> Tensor:
        return (tokens != self.pad_id).sum(dim=1)


class AttentionPool(Recorder):
    """One learned probe that attends to all tokens of a frame: `(B, T, N, C)` -> `(B, T, C)`."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.probe = nn.Parameter(width**-0.5 * torch.randn(width))
        self.q_proj, self.kv_proj = nn.Linear(width, width), nn.Linear(width, 2 * width)
        self.out_proj, self.ln = nn.Linear(width, width), nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.flatten(0, 1)
        q = self.q_proj(self.probe).expand(len(tokens), 1, -1)
        k, v = self.kv_proj(tokens).chunk(2, dim=-1)
        q, k, v = (rearrange(t, "b n (h c) -> b h n c", h=self.heads) for t in (q, k, v))
        pooled = self.out_proj(rearrange(attention(q, k, v, recorder=self.recorder), "b h 1 c -> b (h c)"))
        return (pooled + self.mlp(self.ln(pooled))).unflatten(0, x.shape[:2])


class PooledVision(VisionTower):
    pools_by_attention = True

    def __init__(self, config: PooledConfig) -> None:
        super().__init__()
        width, self.patch_size = config.vision_width, config.patch_size
        self.patch_embedding = nn.Linear(3 * self.patch_size**2, width)
        self.side = config.image_size // self.patch_size
        self.positions = nn.Parameter(0.02 * torch.randn(self.side, self.side, width))
        self.blocks = nn.ModuleList(
            Block(width, config.vision_heads, config.activation, mlp_width=config.vision_mlp_width)
            for _ in range(config.vision_layers)
        )
        self.ln = nn.LayerNorm(width)
        self.attention_pool = AttentionPool(width, config.pool_heads)
        self.out = nn.Linear(width, config.embed_dim)

    def embed(self, frames: Tensor) -> Tensor:
        grid, side = self.patch_grid(frames), self.patch_size
        patches = rearrange(frames, "b t c (h p) (w q) -> b t (h w) (c p q)", p=side, q=side)
        positions = rearrange(self.positions, "h w c -> 1 c h w").float()
        if grid != (self.side, self.side):
            positions = F.interpolate(positions, size=tuple(grid), mode="bilinear")
        positions = rearrange(positions, "1 c h w -> (h w) c").to(self.positions.dtype)
        return self.patch_embedding(patches.to(self.positions.dtype)) + positions

    def pool(self, tokens: Tensor) -> Tensor:
        return self.out(self.attention_pool(self.ln(tokens)))


class PooledText(TextTower):
    needs_padding = True

    def __init__(self, config: PooledConfig) -> None:
        super().__init__()
        self.token_embedding = nn.Embedding(config.vocab_size, config.text_width)
        self.positions = nn.Parameter(0.02 * torch.randn(config.context_length, config.text_width))
        self.blocks = nn.ModuleList(
            Block(config.text_width, config.text_heads, config.activation) for _ in range(config.text_layers)
        )
        self.out = nn.Linear(config.text_width, config.embed_dim)

    @property
    def max_text_tokens(self) -> int:
        return len(self.positions)

    def forward(self, tokens: Tensor) -> Tensor:
        assert tokens.shape[1] == len(self.positions), "the padding was cut off"
        return self.out(
            run_blocks(self.blocks, self.token_embedding(tokens) + self.positions, self.checkpointing)[:, -1]
        )


class Pooled(Backbone):
    title = "the pooled test backbone"
    config_class = PooledConfig
    text_class = PooledText

    def __init__(self, config: PooledConfig) -> None:
        words = Words(config.context_length, config.vocab_size)
        super().__init__(config, PooledVision(config), PooledText(config), words)
        self.logit_bias = nn.Parameter(torch.tensor(-10.0))

    @classmethod
    def check_config(cls, config: Any) -> None:
        if type(config.pool_heads) is not int or not 1 <= config.pool_heads <= 64:
            raise ValueError(f"pool_heads is {config.pool_heads!r:.40}")

    @classmethod
    def tensor_shapes(cls, config: Any) -> dict[str, tuple[int, ...]]:
        side = config.image_size // config.patch_size
        return {
            "visual.positions": (side, side, config.vision_width),
            "text.positions": (config.context_length, config.text_width),
        }


@contextmanager
def registered() -> Iterator[None]:
    """While it lasts, checkpoints may hold this backbone."""
    register_backbone(Pooled)
    try:
        yield
    finally:
        del BACKBONES[PooledConfig.family]


def new_backbone(config: PooledConfig = POOLED) -> Pooled:
    """One with random weights, from a fixed seed."""
    torch.manual_seed(0)
    backbone = Pooled(config).eval()
    with torch.no_grad():  # far enough from uniform that a map has something to show
        for block in backbone.visual.blocks:
            block.attn.in_proj.weight.mul_(4)
    return backbone
