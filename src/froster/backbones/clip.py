"""CLIP (Radford et al., 2021): the original vision and text transformers, on clips of any number of frames.

OpenAI's releases, and those of OpenCLIP, MetaCLIP and DFN with the same architecture.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from froster.backbones.base import Backbone, BackboneConfig, TextTower, VisionTower
from froster.backbones.blocks import Block, Grid, embed_patches, resize_positions, run_blocks
from froster.backbones.tokenizer import ClipTokenizer


@dataclass(frozen=True)
class ClipConfig(BackboneConfig):
    """Sizes of a CLIP. Heads are width / 64 in every model that OpenAI released."""

    family: ClassVar[str] = "clip"


class VisionTransformer(VisionTower):
    """Image encoder of CLIP; a frame's embedding is made of its class token."""

    interpolation: ClassVar[dict[str, Any]] = {"mode": "bicubic", "antialias": True}

    def __init__(self, config: BackboneConfig, class_token: bool = True) -> None:
        super().__init__()
        width, patch = config.vision_width, config.patch_size
        self.patch_size, self.prefix_tokens = patch, int(class_token)
        self.pretrained_grid = Grid(config.image_size // patch, config.image_size // patch)
        self.conv1 = nn.Conv2d(3, width, kernel_size=patch, stride=patch, bias=False)
        self.class_embedding = nn.Parameter(width**-0.5 * torch.randn(width)) if class_token else None
        tokens = self.prefix_tokens + self.pretrained_grid.rows * self.pretrained_grid.columns
        self.positional_embedding = nn.Parameter(width**-0.5 * torch.randn(tokens, width))
        self.ln_pre = nn.LayerNorm(width)
        self.blocks = nn.ModuleList(
            Block(width, config.vision_heads, config.activation, mlp_width=config.vision_mlp_width)
            for _ in range(config.vision_layers)
        )
        self.ln_post = nn.LayerNorm(width)
        self.proj = nn.Parameter(width**-0.5 * torch.randn(width, config.embed_dim))

    def embed(self, frames: Tensor) -> Tensor:
        """Patch tokens with positions, and a class token if there is one: `(B, T, 3, H, W)` -> `(B, T, N, C)`.

        Raises `ValueError` for another shape, or frames that cannot be cut into whole patches.
        """
        grid = self.patch_grid(frames)
        tokens = embed_patches(frames, self.conv1.weight)
        if self.class_embedding is not None:
            tokens = torch.cat([self.class_embedding.expand(*tokens.shape[:2], 1, -1), tokens], dim=2)
        return self.ln_pre(tokens + self.positions(grid))

    def positions(self, grid: Grid) -> Tensor:
        """Learned positions `(N, C)`, interpolated (`interpolation`) when the grid is not the one of pretraining."""
        if grid == self.pretrained_grid:
            return self.positional_embedding
        prefix, patches = self.positional_embedding.tensor_split([self.prefix_tokens])
        return torch.cat([prefix, resize_positions(patches, self.pretrained_grid, grid, **self.interpolation)])

    def pool(self, tokens: Tensor) -> Tensor:
        """Class token of `(B, T, N, C)` to the joint space: `(B, T, D)`, not normalized."""
        return self.ln_post(tokens[:, :, 0]) @ self.proj


class TextTransformer(TextTower):
    """Causal text encoder of CLIP; a text's embedding is made of its end-of-text token."""

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        width = config.text_width
        self.token_embedding = nn.Embedding(config.vocab_size, width)
        self.positional_embedding = nn.Parameter(0.01 * torch.randn(config.context_length, width))
        self.blocks = nn.ModuleList(
            Block(width, config.text_heads, config.activation, causal=True, mlp_width=config.text_mlp_width)
            for _ in range(config.text_layers)
        )
        self.ln_final = nn.LayerNorm(width)
        self.text_projection = nn.Parameter(width**-0.5 * torch.randn(width, config.embed_dim))
        nn.init.normal_(self.token_embedding.weight, std=0.02)

    @property
    def max_text_tokens(self) -> int:
        """Maximum number of tokens of a text, start and end token included; longer texts are truncated."""
        return len(self.positional_embedding)

    def forward(self, tokens: Tensor) -> Tensor:
        """Embedding at the end-of-text token, the largest id: `(K, L)` int64 -> `(K, D)`, not normalized.

        Attention is causal, so cutting the padding off (`L` = longest text) changes nothing.
        """
        x = self.token_embedding(tokens) + self.positional_embedding[: tokens.shape[1]]
        x = run_blocks(self.blocks, x, self.checkpointing)
        end_of_text = x[torch.arange(len(tokens), device=tokens.device), tokens.argmax(dim=1)]
        return self.ln_final(end_of_text) @ self.text_projection


class Clip(Backbone):
    """CLIP: softmax of cosines times a temperature; byte pairs; short side resized, center cropped."""

    title = "CLIP"
    config_class = ClipConfig
    text_class = TextTransformer
    visual: VisionTransformer
    text: TextTransformer

    def __init__(self, config: ClipConfig) -> None:
        super().__init__(
            config, VisionTransformer(config), TextTransformer(config), ClipTokenizer(config.context_length)
        )

    def example_tokens(self) -> Tensor:
        # Any start, words and end do, and a small model may have a vocabulary of its own.
        start, end = self.config.vocab_size - 2, self.config.vocab_size - 1
        return torch.tensor([[start, 1, 2, end], [start, 3, 4, end]])

    @classmethod
    def tensor_shapes(cls, config: BackboneConfig) -> dict[str, tuple[int, ...]]:
        patches = (config.image_size // config.patch_size) ** 2
        return {
            "visual.conv1.weight": (config.vision_width, 3, config.patch_size, config.patch_size),
            "visual.positional_embedding": (patches + 1, config.vision_width),
            "visual.proj": (config.vision_width, config.embed_dim),
            "visual.blocks.0.mlp.0.weight": (config.vision_mlp_width or 4 * config.vision_width, config.vision_width),
            "text.positional_embedding": (config.context_length, config.text_width),
            "text.blocks.0.mlp.0.weight": (config.text_mlp_width or 4 * config.text_width, config.text_width),
        }
