"""Names of tensors: those of OpenAI's network under ours."""

import re
from collections.abc import Sequence

import torch

from froster.checkpoints.checkpoint import StateDict

# What training leaves in released checkpoints: the distillation projectors and the copy of the frozen CLIP.
TRAINING_ONLY = re.compile(r"^(projector_[vt]\.|raw_model\.)")
BUFFERS = re.compile(r"(position_ids|attn_mask|input_resolution|context_length|vocab_size)$")

OPENAI_NAMES = (
    (r"^image_encoder\.", "visual."),  # ViFi-CLIP
    (r"^text_encoder\.", ""),
    (r"^(token_embedding|positional_embedding|transformer|ln_final|text_projection)\b", r"text.\1"),
    (r"\.transformer\.resblocks\.", ".blocks."),
    (r"\.attn\.in_proj_(weight|bias)$", r".attn.in_proj.\1"),
    (r"\.mlp\.c_fc\.", ".mlp.0."),
    (r"\.mlp\.c_proj\.", ".mlp.2."),
)


def renamed(tensors: StateDict, names: Sequence[tuple[str, str]]) -> StateDict:
    """Tensors in float32 under names that the pairs (pattern, replacement) give one after the other.

    Without those that only training needs, and buffers.
    """
    state: StateDict = {}
    for key, value in tensors.items():
        if TRAINING_ONLY.match(key) or BUFFERS.search(key):
            continue
        for pattern, replacement in names:
            key = re.sub(pattern, replacement, key)
        state[key] = value.float() if value.is_floating_point() else value
    for key in ("logit_scale", "logit_bias"):
        if key in state:
            state[key] = state[key].reshape(())
    return state


def count_blocks(state: StateDict, tower: str) -> int:
    numbers = {key.split(".")[2] for key in state if key.startswith(f"{tower}.blocks.")}
    if numbers != {str(number) for number in range(len(numbers))}:
        raise ValueError(f"the layers of {tower} are not numbered 0 to {len(numbers) - 1}")
    return len(numbers)


def fuse_projections(state: StateDict) -> None:
    """Join Hugging Face's separate q, k and v projections into a fused one, in place."""
    for key in [key for key in state if ".attn.q_proj." in key]:
        parts = [key.replace(".q_proj.", f".{part}_proj.") for part in "qkv"]
        if all(part in state for part in parts):
            state[key.replace(".q_proj.", ".in_proj.")] = torch.cat([state.pop(part) for part in parts])
