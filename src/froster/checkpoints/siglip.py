"""Hugging Face's SigLIP and SigLIP 2 folders: their tensor names under ours, descriptions, and the tokenizer."""

import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from froster.backbones.siglip import SiglipConfig, SiglipTokenizer
from froster.checkpoints.checkpoint import Checkpoint, StateDict
from froster.checkpoints.descriptions import (
    EXPLICIT,
    Facts,
    check_given,
    choice,
    described,
    hugging_face_preprocessor,
    side,
)
from froster.checkpoints.names import count_blocks, fuse_projections, renamed
from froster.checkpoints.own import check_config
from froster.errors import WeightsError

PROBE = "vision_model.head.probe"
NAMES = (
    (r"^vision_model\.embeddings\.patch_embedding\.", "visual.conv1."),
    (r"^vision_model\.embeddings\.position_embedding\.weight$", "visual.positional_embedding"),
    (r"^vision_model\.post_layernorm\.", "visual.ln_post."),
    (r"^vision_model\.encoder\.layers\.", "visual.blocks."),
    (r"^vision_model\.head\.attention\.in_proj_", "visual.attention_pool.in_proj."),
    (r"^vision_model\.head\.attention\.", "visual.attention_pool."),
    (r"^vision_model\.head\.layernorm\.", "visual.attention_pool.ln."),
    (r"^vision_model\.head\.", "visual.attention_pool."),
    (r"^text_model\.embeddings\.token_embedding\.", "text.token_embedding."),
    (r"^text_model\.embeddings\.position_embedding\.weight$", "text.positional_embedding"),
    (r"^text_model\.final_layer_norm\.", "text.ln_final."),
    (r"^text_model\.encoder\.layers\.", "text.blocks."),
    (r"^text_model\.head\.", "text.head."),
    (r"\.self_attn\.", ".attn."),
    (r"\.layer_norm([12])\.", r".ln_\1."),
    (r"\.mlp\.fc1\.", ".mlp.0."),
    (r"\.mlp\.fc2\.", ".mlp.2."),
)
# Heads of the released encoders, base to giant, by width: tensors do not show them.
RELEASED_HEADS = {768: 12, 1024: 16, 1152: 16, 1536: 16}
RELEASED = "released SigLIPs"
GEMMA_TOKENS = 256_000  # of SigLIP 2, whose pictures are resized bilinearly; bicubically in the first generation
DEFAULTS = {"hidden_act": "gelu_pytorch_tanh", "layer_norm_eps": 1e-6, "num_attention_heads": 12}  # Hugging Face's
ACTIVATIONS = {"gelu_pytorch_tanh": "gelu_tanh", "gelu": "gelu", "quick_gelu": "quick_gelu"}


def read_siglip(tensors: StateDict, path: Path, given: Mapping[str, Any]) -> Checkpoint:
    """A Hugging Face SigLIP and the tokenizer in its folder.

    Raises `WeightsError` where either is missing or cannot be used, `KeyError` and `ValueError` for tensors that are
    not a SigLIP's.
    """
    if tensors["vision_model.embeddings.patch_embedding.weight"].ndim == 2:
        raise WeightsError(
            f"{path} is a SigLIP 2 of the NaFlex kind, for pictures of any aspect; use one of a fixed resolution, such "
            "as google/siglip2-base-patch16-224."
        )
    if not any(key.startswith("text_model.") for key in tensors):
        raise WeightsError(f"{path} is the image encoder of a SigLIP alone; its text encoder is needed too.")
    state = to_siglip_names(tensors)
    sizes = tensor_sizes(state)
    facts = gather_siglip_facts(sizes, path, given)
    config = SiglipConfig(**{**sizes, **facts.values})
    check_config(config)
    sources = dict.fromkeys(sizes, "tensors") | facts.sources
    named = {name: sources.get(name, RELEASED) for name in asdict(config)}
    return Checkpoint(state, config, sources=named, tokenizer=read_tokenizer(path, config))


def to_siglip_names(tensors: StateDict) -> StateDict:
    """The tensors of a Hugging Face SigLIP under the names of our `Siglip`, in float32."""
    state = renamed(tensors, NAMES)
    probe = "visual.attention_pool.probe"
    state[probe] = state[probe].reshape(-1)
    fuse_projections(state)
    return state


def tensor_sizes(state: StateDict) -> dict[str, Any]:
    """The fields of a SigLIP's config that its tensors show; the size of its pictures if patches fill them."""
    vision_width, _, patch_size, _ = state["visual.conv1.weight"].shape
    vocab_size, text_width = state["text.token_embedding.weight"].shape
    return {
        "image_size": math.isqrt(len(state["visual.positional_embedding"])) * patch_size,
        "patch_size": patch_size,
        "vision_width": vision_width,
        "vision_layers": count_blocks(state, "visual"),
        "vision_mlp_width": len(state["visual.blocks.0.mlp.0.weight"]),
        "text_width": text_width,
        "text_layers": count_blocks(state, "text"),
        "text_mlp_width": len(state["text.blocks.0.mlp.0.weight"]),
        "embed_dim": len(state["text.head.weight"]),
        "context_length": len(state["text.positional_embedding"]),
        "vocab_size": vocab_size,
    }


def gather_siglip_facts(sizes: Mapping[str, int], path: Path, given: Mapping[str, Any]) -> Facts:
    """What tensors do not show: what is given, then `config.json` and `preprocessor_config.json`, then the releases'.

    Raises `WeightsError` where a description is of another network or asks for what froster does not have, and
    `ValueError` where heads are open.
    """
    facts = Facts()
    facts.add(check_given(given), EXPLICIT)
    described(facts, path.with_name("config.json"), hugging_face_siglip, sizes, must_fit=True)
    sized = {**sizes, "image_size": facts.values.get("image_size", sizes["image_size"])}
    described(facts, path.with_name("preprocessor_config.json"), siglip_preprocessor, sized, must_fit=True)
    for tower in ("vision", "text"):
        if heads := RELEASED_HEADS.get(sizes[f"{tower}_width"]):
            facts.add({f"{tower}_heads": heads}, RELEASED)
        elif f"{tower}_heads" not in facts.values:
            raise ValueError(
                f"tensors do not show {tower}_heads, and no released one has the width {sizes[f'{tower}_width']}; put "
                f"its config.json next to it, or give {tower}_heads as a key of the backbone"
            )
    if (sizes["patch_size"], sizes["image_size"]) == (14, 378):
        facts.add({"image_size": 384}, RELEASED)  # whose last 6 pixels no patch sees
    facts.add({"interpolation": "bilinear" if sizes["vocab_size"] == GEMMA_TOKENS else "bicubic"}, RELEASED)
    return facts


def hugging_face_siglip(description: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Facts and sizes in a `config.json`, in which what is Hugging Face's default may be missing."""
    vision = {**DEFAULTS, "image_size": 224, "patch_size": 16, **description.get("vision_config", {})}
    text = {**DEFAULTS, **description.get("text_config", {})}
    activations = [ACTIVATIONS[choice("activation", part["hidden_act"], tuple(ACTIVATIONS))] for part in (vision, text)]
    if activations[0] != activations[1]:
        raise WeightsError("names one activation for pictures and another for texts; froster's SigLIP has one.")
    image_size, patch_size = side(vision["image_size"]), side(vision["patch_size"])
    assert image_size and patch_size
    values = {
        "activation": activations[0],
        "image_size": image_size,
        "vision_heads": int(vision["num_attention_heads"]),
        "text_heads": int(text["num_attention_heads"]),
        "vision_norm_eps": float(vision["layer_norm_eps"]),
        "text_norm_eps": float(text["layer_norm_eps"]),
    }
    # The largest number of whole patches shows in the tensors, not the pixels behind them.
    return values, {"patch_size": patch_size, "image_size": image_size - image_size % patch_size}


def siglip_preprocessor(description: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Facts and sizes in a `preprocessor_config.json`, whose pictures are squashed to a square without cropping."""
    size = description.get("size")
    if isinstance(size, Mapping) and not {"height", "width"} <= size.keys():
        raise WeightsError(f"asks for size={dict(size)!r:.60}; SigLIP's pictures are squashed to a height and a width.")
    return hugging_face_preprocessor({"do_center_crop": False, **description})


def read_tokenizer(path: Path, config: SiglipConfig) -> bytes:
    """The content of the `tokenizer.json` next to weights. Raises `WeightsError` where there is none that fits."""
    file = path.with_name("tokenizer.json")
    if not file.is_file():
        pieces = " (spiece.model alone is not enough)" if path.with_name("spiece.model").is_file() else ""
        raise WeightsError(
            f"{path} is a SigLIP, whose tokenizer is in another file: put the tokenizer.json of the model's repository "
            f"into {path.parent}{pieces}."
        )
    try:
        content = file.read_bytes()
        SiglipTokenizer(content, config.context_length, config.vocab_size)
    except (OSError, ValueError) as error:
        raise WeightsError(f"{file} cannot be used as the tokenizer of {path.name}: {error}.") from error
    return content
