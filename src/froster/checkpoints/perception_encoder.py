"""Perception Encoder's released checkpoints: their tensor names under ours, and sizes from the tensors.

A state dict with the text encoder's tensors at the root and the image encoder's under `visual.`.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from froster.backbones.perception_encoder import PerceptionEncoderConfig
from froster.checkpoints.checkpoint import StateDict
from froster.checkpoints.descriptions import EXPLICIT
from froster.checkpoints.names import OPENAI_NAMES, count_blocks, renamed

PROBE = "visual.attn_pool.probe"
NAMES = (
    *OPENAI_NAMES,
    (r"\.attn_pool\.attn\.", ".attention_pool."),
    (r"\.attn_pool\.layernorm\.", ".attention_pool.ln."),
    (r"\.attn_pool\.", ".attention_pool."),
)
# Heads by width and layers of the released image encoders, T to G: tensors do not show them.
RELEASED_HEADS = {(192, 12): 3, (384, 12): 6, (768, 12): 12, (1024, 24): 16, (1536, 50): 16}


def to_perception_encoder_names(tensors: StateDict) -> StateDict:
    """The tensors of a released checkpoint under the names of our `PerceptionEncoder`, in float32."""
    state = renamed(tensors, NAMES)
    probe = "visual.attention_pool.probe"
    state[probe] = state[probe].reshape(-1)
    return state


def infer_perception_encoder(
    state: StateDict, given: Mapping[str, Any]
) -> tuple[PerceptionEncoderConfig, dict[str, str]]:
    """Sizes of a Perception Encoder from its tensors under the names of our `PerceptionEncoder`.

    `given`: fields of the config that tensors do not show; by default those of the release of these sizes. Also
    returns where each field is from. Raises `ValueError` where heads are not given and no release has these sizes,
    `KeyError` where a tensor is missing.
    """
    vision_width, _, patch_size, _ = state["visual.conv1.weight"].shape
    vocab_size, text_width = state["text.token_embedding.weight"].shape
    class_token = "visual.class_embedding" in state
    patches = len(state["visual.positional_embedding"]) - class_token
    sizes: dict[str, Any] = {
        "image_size": math.isqrt(patches) * patch_size,
        "patch_size": patch_size,
        "vision_width": vision_width,
        "vision_layers": count_blocks(state, "visual"),
        "vision_mlp_width": len(state["visual.blocks.0.mlp.0.weight"]),
        "text_width": text_width,
        "text_layers": count_blocks(state, "text"),
        "text_mlp_width": len(state["text.blocks.0.mlp.0.weight"]),
        "embed_dim": state["visual.proj"].shape[1],
        "context_length": len(state["text.positional_embedding"]),
        "vocab_size": vocab_size,
        "class_token": class_token,
    }
    heads = RELEASED_HEADS.get((vision_width, sizes["vision_layers"]))
    facts = ({"vision_heads": heads, "text_heads": text_width // 64} if heads else {}) | dict(given)
    if missing := [name for name in ("vision_heads", "text_heads") if name not in facts]:
        raise ValueError(
            f"tensors do not show {' and '.join(missing)}, and no released one has {sizes['vision_layers']} layers of "
            f"width {vision_width}; give {'it' if len(missing) == 1 else 'them'} as keys of the backbone"
        )
    config = PerceptionEncoderConfig(**sizes, **facts)
    sources = dict.fromkeys(sizes, "tensors") | dict.fromkeys(given, EXPLICIT)
    return config, {name: sources.get(name, "released Perception Encoders") for name in asdict(config)}
