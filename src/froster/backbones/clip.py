"""CLIP (Radford et al., 2021): the original vision and text transformers, on clips of any number of frames."""

from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

from froster.backbones.attention import Recorder, attention
from froster.backbones.tokenizer import tokenize
from froster.video.transforms import Preprocessing


@dataclass(frozen=True)
class ClipConfig:
    """Sizes of a CLIP. Heads are width / 64 in every model that OpenAI released."""

    image_size: int
    patch_size: int
    vision_width: int
    vision_layers: int
    vision_heads: int
    text_width: int
    text_layers: int
    text_heads: int
    embed_dim: int
    context_length: int = 77
    vocab_size: int = 49408
    activation: Literal["quick_gelu", "gelu"] = "quick_gelu"
    vision_norm_eps: float = 1e-5
    text_norm_eps: float = 1e-5


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
    """Multi-head self-attention among the tokens of `(..., N, C)`: within a frame, or within a text."""

    def __init__(self, width: int, heads: int, causal: bool = False) -> None:
        super().__init__()
        self.heads = heads
        self.causal = causal
        self.in_proj = nn.Linear(width, 3 * width)
        self.out_proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.in_proj(x).chunk(3, dim=-1)
        return self.out_proj(self.attend(q, k, v, causal=self.causal))

    def attend(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, causal: bool = False) -> Tensor:
        """Softmax attention of queries `(..., N, C)` to keys and values `(..., M, C)`; returns `(..., N, C)`.

        `mask` is boolean and broadcasts to `(batch, heads, N, M)` with the leading axes flattened; True takes part.
        """
        # The fast CPU and GPU kernels take exactly four axes.
        q4, k4, v4 = (rearrange(t.flatten(0, -3), "b n (h c) -> b h n c", h=self.heads) for t in (q, k, v))
        out = attention(q4, k4, v4, mask, causal, self.recorder)
        return rearrange(out, "b h n c -> b n (h c)").view_as(q)


class Block(nn.Module):
    """Pre-norm transformer block on `(..., N, C)`."""

    def __init__(self, width: int, heads: int, activation: str, causal: bool = False) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(width)
        self.attn = Attention(width, heads, causal)
        self.ln_2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width),
            QuickGELU() if activation == "quick_gelu" else nn.GELU(),
            nn.Linear(4 * width, width),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))


def run_blocks(blocks: nn.ModuleList, x: Tensor, checkpointing: bool) -> Tensor:
    """All blocks in turn; with `checkpointing` a training step keeps each block's input alone and computes it again."""
    for block in blocks:
        x = checkpoint(block, x, use_reentrant=False) if checkpointing and torch.is_grad_enabled() else block(x)
    return x


class VisionTransformer(nn.Module):
    """Image encoder of CLIP, applied to every frame of a clip."""

    checkpointing = False

    def __init__(self, config: ClipConfig) -> None:
        super().__init__()
        width, patch = config.vision_width, config.patch_size
        self.patch_size = patch
        self.grid = config.image_size // patch
        self.conv1 = nn.Conv2d(3, width, kernel_size=patch, stride=patch, bias=False)
        self.class_embedding = nn.Parameter(width**-0.5 * torch.randn(width))
        self.positional_embedding = nn.Parameter(width**-0.5 * torch.randn(self.grid**2 + 1, width))
        self.ln_pre = nn.LayerNorm(width)
        self.blocks = nn.ModuleList(
            Block(width, config.vision_heads, config.activation) for _ in range(config.vision_layers)
        )
        self.ln_post = nn.LayerNorm(width)
        self.proj = nn.Parameter(width**-0.5 * torch.randn(width, config.embed_dim))

    def forward(self, frames: Tensor) -> Tensor:
        """Feature of every frame, not normalized: `(B, T, 3, H, W)` float -> `(B, T, D)`."""
        return self.project(self.encode_tokens(frames))

    def encode_tokens(self, frames: Tensor) -> Tensor:
        """All tokens after the last block, class token first: `(B, T, 3, H, W)` -> `(B, T, N, C)`."""
        return run_blocks(self.blocks, self.embed(frames), self.checkpointing)

    def embed(self, frames: Tensor) -> Tensor:
        """Patch tokens with class token and positions: `(B, T, 3, H, W)` -> `(B, T, N, C)`.

        Raises `ValueError` for another shape, or frames that cannot be cut into whole patches.
        """
        if frames.ndim != 5 or frames.shape[2] != 3:
            raise ValueError(f"Frames must be (B, T, 3, H, W), not {tuple(frames.shape)}.")
        height, width = frames.shape[-2:]
        if height % self.patch_size or width % self.patch_size:
            raise ValueError(f"Frames of {height} x {width} pixels: both must be a multiple of {self.patch_size}.")
        # The patches do not overlap: their convolution is one matrix product, whose backward pass is faster.
        patches = rearrange(frames, "b t c (h p) (w q) -> b t (h w) (c p q)", p=self.patch_size, q=self.patch_size)
        patches = F.linear(patches.to(self.proj.dtype), self.conv1.weight.flatten(1))
        positions = self.positions(height // self.patch_size, width // self.patch_size)
        cls = self.class_embedding.expand(*patches.shape[:2], 1, -1)
        return self.ln_pre(torch.cat([cls, patches], dim=2) + positions)

    def positions(self, rows: int, columns: int) -> Tensor:
        """Learned positions `(N, C)`, interpolated (bicubic) when the grid is not the one of pretraining."""
        if rows == columns == self.grid:
            return self.positional_embedding
        cls, patches = self.positional_embedding[:1], self.positional_embedding[1:]
        patches = rearrange(patches, "(h w) c -> 1 c h w", h=self.grid).float()
        patches = F.interpolate(patches, size=(rows, columns), mode="bicubic", antialias=True)
        return torch.cat([cls, rearrange(patches, "1 c h w -> (h w) c").to(cls.dtype)])

    def project(self, tokens: Tensor) -> Tensor:
        """Class token of `(B, T, N, C)` to the joint space: `(B, T, D)`, not normalized."""
        return self.ln_post(tokens[:, :, 0]) @ self.proj


class TextTransformer(nn.Module):
    """Causal text encoder of CLIP."""

    checkpointing = False

    def __init__(self, config: ClipConfig) -> None:
        super().__init__()
        width = config.text_width
        self.token_embedding = nn.Embedding(config.vocab_size, width)
        self.positional_embedding = nn.Parameter(0.01 * torch.randn(config.context_length, width))
        self.blocks = nn.ModuleList(
            Block(width, config.text_heads, config.activation, causal=True) for _ in range(config.text_layers)
        )
        self.ln_final = nn.LayerNorm(width)
        self.text_projection = nn.Parameter(width**-0.5 * torch.randn(width, config.embed_dim))
        nn.init.normal_(self.token_embedding.weight, std=0.02)

    @property
    def max_text_tokens(self) -> int:
        """Maximum number of tokens of a text, start and end token included; longer texts are truncated."""
        return len(self.positional_embedding)

    def forward(self, tokens: Tensor) -> Tensor:
        """Feature at the end-of-text token, the largest id: `(K, L)` int64 -> `(K, D)`, not normalized.

        Attention is causal, so cutting the padding off (`L` = longest text) changes nothing.
        """
        x = self.token_embedding(tokens) + self.positional_embedding[: tokens.shape[1]]
        x = run_blocks(self.blocks, x, self.checkpointing)
        end_of_text = x[torch.arange(len(tokens), device=tokens.device), tokens.argmax(dim=1)]
        return self.ln_final(end_of_text) @ self.text_projection


class Clip(nn.Module):
    """CLIP: `visual`, `text`, the logarithm of the temperature `logit_scale`, and how its inputs are prepared."""

    def __init__(self, config: ClipConfig) -> None:
        super().__init__()
        self.config = config
        self.preprocess = Preprocessing(size=config.image_size)
        self.tokenizer = tokenize
        self.visual = VisionTransformer(config)
        self.text = TextTransformer(config)
        self.logit_scale = nn.Parameter(torch.tensor(1 / 0.07).log())
        for tower, epsilon in ((self.visual, config.vision_norm_eps), (self.text, config.text_norm_eps)):
            for module in tower.modules():
                if isinstance(module, nn.LayerNorm):
                    module.eps = epsilon

    def encode_image(self, images: Tensor) -> Tensor:
        """`(B, 3, H, W)` float, CLIP-normalized -> `(B, D)`, not normalized."""
        return self.visual(images[:, None])[:, 0]

    def encode_video(self, frames: Tensor) -> Tensor:
        """Every frame by itself: `(B, T, 3, H, W)` float, CLIP-normalized -> `(B, T, D)`, not normalized."""
        return self.visual(frames)

    def encode_text(self, tokens: Tensor) -> Tensor:
        """`(K, L)` int64, zero-padded -> `(K, D)`, not normalized."""
        return self.text(tokens)
