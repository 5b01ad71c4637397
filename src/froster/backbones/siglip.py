"""SigLIP (Zhai et al., 2023) and SigLIP 2 (Tschannen et al., 2025) of a fixed resolution.

Unlike CLIP: no class token, frames are pooled by attention; texts are bidirectional, padded to 64 tokens, and pooled
from the last one; every label has a probability of its own, the sigmoid of scaled cosine plus bias. Both generations
are one network; SigLIP 2 has the tokenizer of Gemma. Checked against Hugging Face's `SiglipModel`.
"""

import re
import string
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from froster.backbones.base import Backbone, BackboneConfig, ScoreFunction, TextTower, VisionTower
from froster.backbones.blocks import (
    Activation,
    AttentionPool,
    Block,
    Grid,
    embed_patches,
    resize_positions,
    run_blocks,
)
from froster.backbones.tokenizer import Tokenizer
from froster.errors import FrosterError
from froster.extras import extra
from froster.video.transforms import Interpolation, ResizeMode

HALF = (0.5, 0.5, 0.5)
EXTRA_IDS = 256  # tokens that files of T5's kind list and the networks lack
PUNCTUATION = str.maketrans("", "", string.punctuation)


@dataclass(frozen=True)
class SiglipConfig(BackboneConfig):
    """Sizes of a SigLIP; `embed_dim` is the image encoder's width, and the attention pooling has its heads."""

    family: ClassVar[str] = "siglip"
    score_function: ClassVar[ScoreFunction] = "sigmoid"

    context_length: int = 64
    vocab_size: int = 32_000
    activation: Activation = "gelu_tanh"
    vision_norm_eps: float = 1e-6
    text_norm_eps: float = 1e-6
    image_mean: tuple[float, float, float] = HALF
    image_std: tuple[float, float, float] = HALF
    resize_mode: ResizeMode = "squash"
    interpolation: Interpolation = "bicubic"


class SiglipTokenizer(Tokenizer):
    """The tokenizer in a `tokenizer.json`: pieces, the end token, padding to the context length.

    SigLIP's own (Unigram) takes texts in lower case without punctuation and pads with the end token, SigLIP 2's
    (Gemma's byte pairs) takes them in lower case and pads with `<pad>`. Raises `ValueError` for a file that is neither,
    or of another vocabulary, and `FrosterError` without the package tokenizers.
    """

    def __init__(self, file: bytes, context_length: int, vocab_size: int) -> None:
        with extra("siglip", "The tokenizer of SigLIP"):
            import tokenizers
        self.file, self.context_length, self.vocab_size = file, context_length, vocab_size
        try:
            self.pieces = tokenizers.Tokenizer.from_str(file.decode())
        except Exception as error:  # the package raises no other kind
            raise ValueError(f"tokenizer.json cannot be read ({error})") from error
        self.pieces.no_padding()
        self.pieces.no_truncation()
        kind = type(self.pieces.model).__name__
        if kind not in ("Unigram", "BPE"):
            raise ValueError(f"tokenizer.json is a {kind} model, which is not a SigLIP's")
        self.keeps_punctuation = kind == "BPE"
        size = self.pieces.get_vocab_size()
        if abs(size - vocab_size) > EXTRA_IDS:
            raise ValueError(f"tokenizer.json has {size:,} tokens, the text encoder {vocab_size:,}")
        self.end_id = self._id("<eos>" if self.keeps_punctuation else "</s>")
        self.pad_id = self._id("<pad>") if self.keeps_punctuation else self.end_id

    def __deepcopy__(self, memo: Any) -> Self:
        return self  # copying hundreds of thousands of tokens takes a second, and nothing changes them

    def __call__(self, texts: str | Sequence[str], context_length: int | None = None) -> Tensor:
        length = context_length or self.context_length
        cleaned = [self.clean(text) for text in ([texts] if isinstance(texts, str) else texts)]
        tokens = torch.full((len(cleaned), length), self.pad_id)
        for row, text, encoded in zip(
            tokens, cleaned, self.pieces.encode_batch(cleaned, add_special_tokens=False), strict=True
        ):
            ids = [*encoded.ids[: length - 1], self.end_id]
            if max(ids) >= self.vocab_size:
                raise FrosterError(f"The text {text!r:.80} has a token that this model's text encoder does not have.")
            row[: len(ids)] = torch.tensor(ids)
        return tokens

    def clean(self, text: str) -> str:
        """The text as the network was trained on it."""
        text = text.lower()
        return text if self.keeps_punctuation else re.sub(r"\s+", " ", text.translate(PUNCTUATION)).strip()

    def lengths(self, tokens: Tensor) -> Tensor:
        pieces = (tokens != self.pad_id).sum(dim=1)
        return pieces if self.pad_id != self.end_id else (pieces + 1).clamp(max=tokens.shape[1])

    def _id(self, token: str) -> int:
        found = self.pieces.token_to_id(token)
        if found is None or found >= self.vocab_size:
            raise ValueError(f"tokenizer.json lacks the token {token}")
        return int(found)


class NoTokenizer(Tokenizer):
    """Stands for the tokenizer of a network that is built without one, for its sizes or its random weights."""

    pad_id = 0

    def __init__(self, context_length: int, vocab_size: int) -> None:
        self.context_length, self.vocab_size = context_length, vocab_size

    def __call__(self, texts: str | Sequence[str], context_length: int | None = None) -> Tensor:
        raise FrosterError("This SigLIP was built without a tokenizer: load one with its tokenizer.json.")

    def lengths(self, tokens: Tensor) -> Tensor:
        return torch.full((len(tokens),), tokens.shape[1])


class SiglipVision(VisionTower):
    """Image encoder without class token, pooled by attention; pixels behind the last whole patch are not seen."""

    pools_by_attention = True

    def __init__(self, config: SiglipConfig) -> None:
        super().__init__()
        width, self.patch_size = config.vision_width, config.patch_size
        self.pretrained_grid = Grid(config.image_size // self.patch_size, config.image_size // self.patch_size)
        self.conv1 = nn.Conv2d(3, width, kernel_size=self.patch_size, stride=self.patch_size)
        patches = self.pretrained_grid.rows * self.pretrained_grid.columns
        self.positional_embedding = nn.Parameter(width**-0.5 * torch.randn(patches, width))
        self.blocks = nn.ModuleList(
            Block(width, config.vision_heads, config.activation, mlp_width=config.vision_mlp_width)
            for _ in range(config.vision_layers)
        )
        self.ln_post = nn.LayerNorm(width)
        self.attention_pool = AttentionPool(width, config.vision_heads, config.activation, config.vision_mlp_width)

    def patch_grid(self, frames: Tensor) -> Grid:
        """Rows and columns of whole patches in frames `(B, T, 3, H, W)`: 27 of 14 in 384 pixels, as released."""
        return super().patch_grid(self.whole_patches(frames) if frames.ndim == 5 else frames)

    def whole_patches(self, frames: Tensor) -> Tensor:
        height, width = (side - side % self.patch_size for side in frames.shape[-2:])
        if not height or not width:
            raise ValueError(f"Frames of {frames.shape[-2]} x {frames.shape[-1]} pixels are smaller than a patch.")
        return frames[..., :height, :width]

    def embed(self, frames: Tensor) -> Tensor:
        grid = self.patch_grid(frames)
        positions: Tensor = self.positional_embedding
        if grid != self.pretrained_grid:
            positions = resize_positions(positions, self.pretrained_grid, grid, mode="bicubic")
        return embed_patches(self.whole_patches(frames), self.conv1.weight, self.conv1.bias) + positions

    def pool(self, tokens: Tensor) -> Tensor:
        return self.attention_pool(self.ln_post(tokens))


class SiglipText(TextTower):
    """Bidirectional text encoder; padding is seen, and the embedding is made of the last token."""

    needs_padding = True

    def __init__(self, config: SiglipConfig) -> None:
        super().__init__()
        width = config.text_width
        self.token_embedding = nn.Embedding(config.vocab_size, width)
        self.positional_embedding = nn.Parameter(0.01 * torch.randn(config.context_length, width))
        self.blocks = nn.ModuleList(
            Block(width, config.text_heads, config.activation, mlp_width=config.text_mlp_width)
            for _ in range(config.text_layers)
        )
        self.ln_final = nn.LayerNorm(width)
        self.head = nn.Linear(width, config.embed_dim)
        nn.init.normal_(self.token_embedding.weight, std=0.02)

    @property
    def max_text_tokens(self) -> int:
        return len(self.positional_embedding)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.token_embedding(tokens) + self.positional_embedding[: tokens.shape[1]]
        return self.head(self.ln_final(run_blocks(self.blocks, x, self.checkpointing)[:, -1]))


class Siglip(Backbone):
    """SigLIP: sigmoid of scaled cosines plus a bias, a tokenizer that goes with the weights; images are squashed."""

    title = "SigLIP"
    config_class = SiglipConfig
    text_class = SiglipText

    def __init__(self, config: SiglipConfig) -> None:
        without = NoTokenizer(config.context_length, config.vocab_size)
        super().__init__(config, SiglipVision(config), SiglipText(config), without)
        self.logit_scale = nn.Parameter(torch.tensor(10.0).log())
        self.logit_bias = nn.Parameter(torch.tensor(-10.0))

    def read_tokenizer(self, file: bytes) -> None:
        self.tokenizer = SiglipTokenizer(file, self.config.context_length, self.config.vocab_size)

    def example_tokens(self) -> Tensor:
        return torch.arange(2 * self.config.context_length).view(2, -1) % self.config.vocab_size

    @classmethod
    def check_config(cls, config: Any) -> None:
        if config.embed_dim != config.vision_width:
            raise ValueError(f"embeddings of {config.embed_dim} and an image encoder of width {config.vision_width}")

    @classmethod
    def tensor_shapes(cls, config: Any) -> dict[str, tuple[int, ...]]:
        patches = (config.image_size // config.patch_size) ** 2
        vision_mlp, text_mlp = config.vision_mlp_width, config.text_mlp_width
        return {
            "visual.conv1.weight": (config.vision_width, 3, config.patch_size, config.patch_size),
            "visual.positional_embedding": (patches, config.vision_width),
            "visual.attention_pool.probe": (config.vision_width,),
            "visual.blocks.0.mlp.0.weight": (vision_mlp or 4 * config.vision_width, config.vision_width),
            "text.positional_embedding": (config.context_length, config.text_width),
            "text.blocks.0.mlp.0.weight": (text_mlp or 4 * config.text_width, config.text_width),
            "text.head.weight": (config.embed_dim, config.text_width),
        }
