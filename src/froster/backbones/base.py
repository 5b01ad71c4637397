"""What a backbone is: a vision-language model that students are built on.

A family is one file next to this one: a config, two towers, a tokenizer, and the `Backbone` that joins them. What is
particular to it (patches, class token, pooling, positions, end of a text, temperature and bias, how pictures are
resized and normalized) stays behind these classes; students, losses, scoring, checkpoints and explanations see no more
than what is here.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, Self

import torch
from torch import Tensor, nn

from froster.backbones.blocks import Activation, Grid, run_blocks
from froster.backbones.tokenizer import Tokenizer
from froster.video.transforms import CLIP_MEAN, CLIP_STD, Interpolation, Preprocessing, ResizeMode

ScoreFunction = Literal["softmax", "sigmoid"]


@dataclass(frozen=True)
class BackboneConfig:
    """Sizes of a backbone, and how its pictures are prepared: all that is needed to build it without its weights.

    `vision_mlp_width`, `text_mlp_width`: hidden width of the MLPs, None for 4 times the tower's width.
    """

    family: ClassVar[str]  # name in `froster.backbones.build.BACKBONES`
    score_function: ClassVar[ScoreFunction] = "softmax"  # what makes scores of logits

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
    activation: Activation = "quick_gelu"
    vision_norm_eps: float = 1e-5
    text_norm_eps: float = 1e-5
    vision_mlp_width: int | None = None
    text_mlp_width: int | None = None
    image_mean: tuple[float, float, float] = CLIP_MEAN
    image_std: tuple[float, float, float] = CLIP_STD
    resize_mode: ResizeMode = "shortest"
    interpolation: Interpolation = "bicubic"

    @property
    def preprocess(self) -> Preprocessing:
        """How pictures are prepared for it."""
        return Preprocessing(self.image_size, self.image_mean, self.image_std, self.interpolation, self.resize_mode)

    def shrink(self) -> Self:
        """The same family and widths with two patches a side and at most two layers, for quick trials."""
        return replace(
            self,
            image_size=2 * self.patch_size,
            vision_layers=min(2, self.vision_layers),
            text_layers=min(2, self.text_layers),
        )


class VisionTower(nn.Module, ABC):
    """Image encoder, applied to every frame of a clip. Tokens are `(B, T, N, C)`, row by row of the patches.

    `patch_size`: side of a patch in pixels. `prefix_tokens`: how many of the N tokens precede those of the
    patches; where there are any, the first is the class token. `pools_by_attention`: whether `pool` is one attention
    over the tokens, `(B T, heads, 1, N)` as recorded, rather than the class token. `blocks`: what students replace.
    `checkpointing`: whether a training step recomputes the blocks to save memory.
    """

    patch_size: int
    prefix_tokens: int = 0
    pools_by_attention: bool = False
    checkpointing: bool = False
    blocks: nn.ModuleList

    def forward(self, frames: Tensor) -> Tensor:
        """Embedding of every frame, not normalized: `(B, T, 3, H, W)` float -> `(B, T, D)`."""
        return self.pool(self.encode_tokens(frames))

    def encode_tokens(self, frames: Tensor) -> Tensor:
        """All tokens after the last block: `(B, T, 3, H, W)` -> `(B, T, N, C)`."""
        return run_blocks(self.blocks, self.embed(frames), self.checkpointing, self.patch_grid(frames))

    def patch_grid(self, frames: Tensor) -> Grid:
        """Rows and columns of patches in frames `(B, T, 3, H, W)`.

        Raises `ValueError` for another shape, or frames that cannot be cut into whole patches.
        """
        if frames.ndim != 5 or frames.shape[2] != 3:
            raise ValueError(f"Frames must be (B, T, 3, H, W), not {tuple(frames.shape)}.")
        height, width = frames.shape[-2:]
        if height % self.patch_size or width % self.patch_size:
            raise ValueError(f"Frames of {height} x {width} pixels: both must be a multiple of {self.patch_size}.")
        return Grid(height // self.patch_size, width // self.patch_size)

    @abstractmethod
    def embed(self, frames: Tensor) -> Tensor:
        """Tokens before the first block: `(B, T, 3, H, W)` -> `(B, T, N, C)`. Raises `ValueError` as `patch_grid`."""

    @abstractmethod
    def pool(self, tokens: Tensor) -> Tensor:
        """From tokens after the last block to embeddings, not normalized: `(B, T, N, C)` -> `(B, T, D)`."""


class TextTower(nn.Module, ABC):
    """Text encoder.

    `needs_padding`: whether embeddings depend on the padding, so that it cannot be cut off to save time.
    """

    needs_padding: bool = False
    checkpointing: bool = False
    token_embedding: nn.Embedding

    @property
    @abstractmethod
    def max_text_tokens(self) -> int:
        """Maximum number of tokens of a text, start and end token included; longer texts are truncated."""

    @abstractmethod
    def forward(self, tokens: Tensor) -> Tensor:
        """Embeddings of texts: `(K, L)` int64 of the backbone's tokenizer -> `(K, D)`, not normalized."""


class VisionLanguageModel(nn.Module):
    """What a backbone and the students built on it have in common.

    Parameters have the same names in both: `visual.*`, `text.*`, `logit_scale`, and `logit_bias` where there is one.
    """

    config: BackboneConfig
    tokenizer: Tokenizer  # texts -> (N, L) int64, padded
    visual: VisionTower
    text: TextTower
    logit_scale: nn.Parameter  # natural logarithm of what similarities are multiplied by
    logit_bias: nn.Parameter | None  # is added to the scaled similarities

    @property
    def preprocess(self) -> Preprocessing:
        """How pictures are prepared: `(N, H, W, 3)` uint8 -> `(N, 3, S, S)` float32."""
        return self.config.preprocess

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return self.logit_scale.device

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the weights; frames are converted to it."""
        return self.logit_scale.dtype

    def encode_video(self, frames: Tensor) -> Tensor:
        """Frame embeddings: `(B, T, 3, H, W)` float, normalized -> `(B, T, D)`, not normalized.

        `froster.load_video(path, preprocess=model.preprocess).frames` gives such frames. Raises `ValueError` for other
        shapes.
        """
        return self.visual(frames)

    def encode_text(self, tokens: Tensor) -> Tensor:
        """Text embeddings: `(K, L)` int64 of `model.tokenizer` -> `(K, D)`, not normalized."""
        return self.text(tokens)

    def similarities_to_logits(self, similarities: Tensor) -> Tensor:
        """The score head: cosines `(...)` times `exp(logit_scale)`, plus `logit_bias` where there is one."""
        logits = self.logit_scale.exp() * similarities
        return logits if self.logit_bias is None else logits + self.logit_bias


class Backbone(VisionLanguageModel, ABC):
    """A vision-language model: `visual`, `text`, `logit_scale`, and perhaps `logit_bias`.

    Class attributes of a subclass: `title`, what messages call it; `config_class`; `text_class`.
    """

    title: ClassVar[str]
    config_class: ClassVar[type[BackboneConfig]]
    text_class: ClassVar[type[TextTower]]

    def __init__(self, config: BackboneConfig, visual: VisionTower, text: TextTower, tokenizer: Tokenizer) -> None:
        super().__init__()
        self.config, self.tokenizer = config, tokenizer
        self.visual, self.text = visual, text
        for tower, epsilon in ((visual, config.vision_norm_eps), (text, config.text_norm_eps)):
            for module in tower.modules():
                if isinstance(module, nn.LayerNorm):
                    module.eps = epsilon
        self.logit_scale = nn.Parameter(torch.tensor(1 / 0.07).log())
        self.register_parameter("logit_bias", None)

    def encode_image(self, images: Tensor) -> Tensor:
        """`(B, 3, H, W)` float, normalized -> `(B, D)`, not normalized."""
        return self.visual(images[:, None])[:, 0]

    def read_tokenizer(self, file: bytes) -> None:
        """Take the tokenizer of a file that goes with the weights, see `Tokenizer.file`. Raises `ValueError`."""
        raise ValueError(f"the tokenizer of {self.title} is not read from a file")

    def example_tokens(self) -> Tensor:
        """Token ids of two short texts that the text tower can take whatever its vocabulary: `(2, L)` int64."""
        return self.tokenizer(["a", "b"])

    @classmethod
    def check_config(cls, config: Any) -> None:
        """Raises `ValueError` where what the family adds to `BackboneConfig` has a value that cannot be."""

    @classmethod
    @abstractmethod
    def tensor_shapes(cls, config: Any) -> dict[str, tuple[int, ...]]:
        """Shapes of the tensors that show whether weights are of this config, before such a network is built."""
