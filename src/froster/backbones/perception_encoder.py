"""Perception Encoder core (Bolya et al., 2025): rotary positions and attention pooling; CLIP's text encoder."""

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from froster.backbones.base import Backbone, BackboneConfig
from froster.backbones.blocks import Activation, AttentionPool, Block
from froster.backbones.clip import TextTransformer, VisionTransformer
from froster.backbones.rotary import RotaryPositions
from froster.backbones.tokenizer import ClipTokenizer
from froster.video.transforms import Interpolation, ResizeMode

HALF = (0.5, 0.5, 0.5)


@dataclass(frozen=True)
class PerceptionEncoderConfig(BackboneConfig):
    """Sizes of a Perception Encoder core.

    `class_token`: whether the image encoder has one (all but G/14). `pool_heads`: heads of the attention pooling.
    """

    family: ClassVar[str] = "perception_encoder"

    context_length: int = 32
    activation: Activation = "gelu"
    image_mean: tuple[float, float, float] = HALF
    image_std: tuple[float, float, float] = HALF
    resize_mode: ResizeMode = "squash"
    interpolation: Interpolation = "bilinear"
    class_token: bool = True
    pool_heads: int = 8


class RotaryVisionTransformer(VisionTransformer):
    """CLIP's image encoder with rotary positions besides the learned ones, and pooling by attention."""

    pools_by_attention = True
    interpolation: ClassVar[dict[str, Any]] = {"mode": "bilinear"}

    def __init__(self, config: PerceptionEncoderConfig) -> None:
        super().__init__(config, config.class_token)
        for block in self.blocks:
            assert isinstance(block, Block)
            block.attn.positions = RotaryPositions(config.vision_heads, self.prefix_tokens)
        self.attention_pool = AttentionPool(config.vision_width, config.pool_heads, "gelu")

    def pool(self, tokens: Tensor) -> Tensor:
        return self.attention_pool(self.ln_post(tokens)) @ self.proj


class PerceptionEncoder(Backbone):
    """Perception Encoder core: softmax of cosines times a temperature; CLIP's byte pairs; images are squashed."""

    title = "Perception Encoder"
    config_class = PerceptionEncoderConfig
    text_class = TextTransformer

    def __init__(self, config: PerceptionEncoderConfig) -> None:
        super().__init__(
            config, RotaryVisionTransformer(config), TextTransformer(config), ClipTokenizer(config.context_length)
        )

    @classmethod
    def check_config(cls, config: Any) -> None:
        if type(config.class_token) is not bool:
            raise ValueError(f"class_token is {config.class_token!r:.40}")
        if type(config.pool_heads) is not int or not 1 <= config.pool_heads <= config.vision_width:
            raise ValueError(f"pool_heads is {config.pool_heads!r:.40}")
        if config.vision_width % config.pool_heads:
            raise ValueError(f"a width of {config.vision_width} cannot be divided among {config.pool_heads} heads")
        if config.vision_width // config.vision_heads % 4:
            raise ValueError("rotary positions need heads of a multiple of 4 channels")

    @classmethod
    def tensor_shapes(cls, config: Any) -> dict[str, tuple[int, ...]]:
        tokens = (config.image_size // config.patch_size) ** 2 + config.class_token
        return {
            "visual.conv1.weight": (config.vision_width, 3, config.patch_size, config.patch_size),
            "visual.positional_embedding": (tokens, config.vision_width),
            "visual.attention_pool.probe": (config.vision_width,),
            "visual.proj": (config.vision_width, config.embed_dim),
            "visual.blocks.0.mlp.0.weight": (config.vision_mlp_width or 4 * config.vision_width, config.vision_width),
            "text.positional_embedding": (config.context_length, config.text_width),
            "text.blocks.0.mlp.0.weight": (config.text_mlp_width or 4 * config.text_width, config.text_width),
        }
