"""What students need of a backbone, and the sentence where it does not have it."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from torch import nn

from froster.backbones.base import Backbone
from froster.backbones.blocks import Block
from froster.backbones.clip import TextTransformer
from froster.errors import FrosterError


@dataclass(frozen=True)
class Need:
    """Something that a student needs: what it is called, and whether a backbone has it."""

    what: str
    met_by: Callable[[Backbone], bool]


BLOCKS = Need(
    "pre-norm transformer blocks in its image encoder",
    lambda backbone: all(isinstance(block, Block) for block in backbone.visual.blocks),
)
TEXT_BLOCKS = Need(
    "pre-norm transformer blocks in its text encoder",
    lambda backbone: any(isinstance(module, Block) for module in backbone.text.modules()),
)
CLASS_TOKEN = Need("a class token in its image encoder", lambda backbone: backbone.visual.prefix_tokens > 0)
CLASS_TOKEN_POOLING = Need(
    "frame embeddings that are pooled from a class token",
    lambda backbone: backbone.visual.prefix_tokens > 0 and not backbone.visual.pools_by_attention,
)
NORM_BEFORE_BLOCKS = Need(
    "a LayerNorm between patch embedding and blocks",
    lambda backbone: isinstance(getattr(backbone.visual, "ln_pre", None), nn.LayerNorm),
)
CAUSAL_TEXT = Need(
    "a causal text encoder that pools the end-of-text token",
    lambda backbone: isinstance(backbone.text, TextTransformer),
)


def require(student: str, backbone: Backbone, needs: Iterable[Need]) -> None:
    """Raises `FrosterError` that names the student, the backbone, and what the backbone lacks."""
    if missing := [need.what for need in needs if not need.met_by(backbone)]:
        raise FrosterError(
            f"{student} cannot be built on {backbone.title}, which does not have {', nor '.join(missing)}."
        )
