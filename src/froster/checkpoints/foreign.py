"""Other programs' checkpoints: their tensor names under ours, and sizes from the tensors.

Ours are OpenAI's names, with the text encoder under `text.` and every linear layer a plain `nn.Linear`.
"""

import json
import math
import re
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch

from froster.backbones.build import backbone_names
from froster.backbones.clip import ClipConfig
from froster.checkpoints.checkpoint import Checkpoint, StateDict
from froster.checkpoints.containers import read_tensors
from froster.checkpoints.hub import fetch_release
from froster.checkpoints.own import TOKEN_TABLE, check_config
from froster.errors import FrosterWarning, WeightsError

# What training leaves in released checkpoints: the distillation projectors and the copy of the frozen CLIP.
TRAINING_ONLY = re.compile(r"^(projector_[vt]\.|raw_model\.)")
WRAPPERS = re.compile(r"(?<![^.])(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
IMAGE_ENCODER = re.compile(
    r"((?:.*\.)?)(?:(?:visual|image_encoder)\.conv1|vision_model\.embeddings\.patch_embedding)\.weight"
)
EMBEDDED_PROMPTS = "prompt_learner.complete_text_embeddings"
RELEASE_SIZES = {(32, 224): "vit-b-32", (16, 224): "vit-b-16", (14, 224): "vit-l-14", (14, 336): "vit-l-14-336"}
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
HUGGING_FACE_NAMES = (
    (r"^vision_model\.embeddings\.patch_embedding\.", "visual.conv1."),
    (r"^vision_model\.embeddings\.class_embedding$", "visual.class_embedding"),
    (r"^vision_model\.embeddings\.position_embedding\.weight$", "visual.positional_embedding"),
    (r"^vision_model\.pre_layrnorm\.", "visual.ln_pre."),
    (r"^vision_model\.post_layernorm\.", "visual.ln_post."),
    (r"^vision_model\.encoder\.layers\.", "visual.blocks."),
    (r"^visual_projection\.weight$", "visual.proj"),
    (r"^text_model\.embeddings\.token_embedding\.", "text.token_embedding."),
    (r"^text_model\.embeddings\.position_embedding\.weight$", "text.positional_embedding"),
    (r"^text_model\.final_layer_norm\.", "text.ln_final."),
    (r"^text_model\.encoder\.layers\.", "text.blocks."),
    (r"^text_projection\.weight$", "text.text_projection"),
    (r"\.self_attn\.", ".attn."),
    (r"\.layer_norm([12])\.", r".ln_\1."),
    (r"\.mlp\.fc1\.", ".mlp.0."),
    (r"\.mlp\.fc2\.", ".mlp.2."),
)


def read_foreign(tensors: StateDict, metadata: dict[str, Any], path: Path) -> Checkpoint:
    """A checkpoint of another program; sizes are inferred from the tensors."""
    warn_of_several_networks(tensors, path)
    state = to_clip_names(tensors)
    add_frozen_text(state, path)
    if "visual.conv1.weight" not in state or "text.token_embedding.weight" not in state:
        some = ", ".join(list(tensors)[:3]) or "no tensors"
        raise WeightsError(f"{path} is not a CLIP: it lacks the image or the text encoder (it holds {some}, …).")
    description = read_config_file(path, tensors)
    try:
        config = infer_config(state, description)
        check_config(config)
    except (KeyError, IndexError, ValueError, ZeroDivisionError) as error:
        raise WeightsError(f"{path} is not a CLIP that froster can build: {error}.") from error
    # FROSTER and Open-VCLIP released VCLIP students; the file itself does not say. More tensors: another student.
    is_vclip = is_released_student(tensors, metadata) and state.keys() <= backbone_names(config)
    return Checkpoint(state, config, "vclip" if is_vclip else None)


def is_released_student(tensors: StateDict, metadata: dict[str, Any]) -> bool:
    return bool(metadata.get("model_state")) or any(TRAINING_ONLY.match(key) for key in without_wrappers(tensors))


def without_wrappers(tensors: StateDict) -> StateDict:
    """Tensors without the prefixes of what was wrapped around the network.

    torch.compile, FSDP and activation checkpointing put theirs anywhere into a name; data parallel, Lightning and
    training scripts in front (`module.`, `model.`, `clip.` in any nesting): everything before the image encoder's name.
    """
    tensors = {WRAPPERS.sub("", key): value for key, value in tensors.items()}
    prefixes = network_prefixes(tensors)
    if not prefixes:
        return {re.sub(r"^(module\.)*(model\.)*", "", key): value for key, value in tensors.items()}
    outer = prefixes[0].split(".")[:-1]
    unwrapped: StateDict = {}
    for key, value in tensors.items():
        parts = key.split(".")
        shared = next((i for i, part in enumerate(outer) if i >= len(parts) or parts[i] != part), len(outer))
        unwrapped[".".join(parts[shared:])] = value
    others = tuple(prefix for prefix in prefixes[1:] if prefix)
    return {key: value for key, value in unwrapped.items() if not key.startswith(others)}


def network_prefixes(tensors: Iterable[str]) -> list[str]:
    """The prefixes of the image encoder's name of all models in the file; trained ones before averages (EMA)."""
    found = dict.fromkeys(match[1] for key in tensors if (match := IMAGE_ENCODER.fullmatch(key)))
    networks = [prefix for prefix in found if "raw_model" not in prefix.split(".")]
    return sorted(networks, key=lambda prefix: (bool(re.search(r"ema|teacher|averag", prefix)), len(prefix)))


def warn_of_several_networks(tensors: StateDict, path: Path) -> None:
    prefixes = network_prefixes(WRAPPERS.sub("", key) for key in tensors)
    if len(prefixes) > 1:
        names = [repr(prefix.rstrip(".")) if prefix else "the one without a prefix" for prefix in prefixes]
        warnings.warn(
            f"{path} holds several networks ({', '.join(names)}); {names[0]} is used. To use another, save it alone.",
            FrosterWarning,
            stacklevel=2,
        )


def to_clip_names(tensors: StateDict) -> StateDict:
    """The tensors of a foreign checkpoint under the names of our `Clip`, in float32."""
    tensors = without_wrappers(tensors)
    tensors = {k: v for k, v in tensors.items() if not TRAINING_ONLY.match(k) and not BUFFERS.search(k)}
    hugging_face = is_hugging_face(tensors)
    names = HUGGING_FACE_NAMES if hugging_face else OPENAI_NAMES
    state: StateDict = {}
    for key, value in tensors.items():
        for pattern, replacement in names:
            key = re.sub(pattern, replacement, key)
        state[key] = value.float() if value.is_floating_point() else value
    if hugging_face:
        for key in ("visual.proj", "text.text_projection"):
            if key in state:
                state[key] = state[key].T.contiguous()
        fuse_projections(state)
    if "logit_scale" in state:
        state["logit_scale"] = state["logit_scale"].reshape(())
    return state


def is_hugging_face(tensors: StateDict) -> bool:
    return any(key.endswith("vision_model.embeddings.class_embedding") for key in tensors)


def fuse_projections(state: StateDict) -> None:
    """Join Hugging Face's separate q, k and v projections into CLIP's fused one, in place."""
    for key in [key for key in state if ".attn.q_proj." in key]:
        parts = [key.replace(".q_proj.", f".{part}_proj.") for part in "qkv"]
        if all(part in state for part in parts):
            state[key.replace(".q_proj.", ".in_proj.")] = torch.cat([state.pop(part) for part in parts])


def add_frozen_text(state: StateDict, path: Path) -> None:
    """Give a released student, in place, what its file leaves out of the text encoder because it was never trained.

    ViFi-CLIP leaves out the token embedding (it keeps the embedded prompts of its training classes instead), Text4Vis
    the whole text encoder. Both start from OpenAI's release, which is fetched. Raises `WeightsError` when none has
    these sizes, or the prompts were embedded by another CLIP.
    """
    from_student = EMBEDDED_PROMPTS in state or any(key.startswith("fusion_model.") for key in state)
    whole_vision = {"visual.conv1.weight", "visual.positional_embedding"} <= state.keys()
    if not from_student or not whole_vision or TOKEN_TABLE in state:
        return
    patch_size = state["visual.conv1.weight"].shape[-1]
    image_size = patch_size * math.isqrt(len(state["visual.positional_embedding"]) - 1)
    if (patch_size, image_size) not in RELEASE_SIZES:
        raise WeightsError(
            f"{path} leaves its text encoder, or part of it, to the CLIP that it was trained from; OpenAI released "
            f"none with patches of {patch_size} pixels and images of {image_size}."
        )
    name = RELEASE_SIZES[patch_size, image_size]
    release = to_clip_names(read_tensors(fetch_release(name))[0])
    start_of_text = release[TOKEN_TABLE][-2]
    for prompt in state.get(EMBEDDED_PROMPTS, ()):
        if prompt.shape[1:] != start_of_text.shape or (prompt[0] - start_of_text).abs().max() > 1e-4:  # float16's part
            raise WeightsError(f"{path} was trained from another CLIP than {name}: its prompts are embedded otherwise.")
    state |= {key: value for key, value in release.items() if key.startswith("text.") and key not in state}


def infer_config(state: StateDict, hints: dict[str, Any] | None = None) -> ClipConfig:
    """Sizes of a CLIP from its tensors under the names of our `Clip`.

    `hints` may give what tensors do not show: heads, activation, epsilons of the LayerNorms.
    """
    vision_width, _, patch_size, _ = state["visual.conv1.weight"].shape
    vocab_size, text_width = state["text.token_embedding.weight"].shape
    grid = round((len(state["visual.positional_embedding"]) - 1) ** 0.5)
    inferred = {
        "image_size": grid * patch_size,
        "patch_size": patch_size,
        "vision_width": vision_width,
        "vision_layers": count_blocks(state, "visual"),
        "vision_heads": vision_width // 64,
        "text_width": text_width,
        "text_layers": count_blocks(state, "text"),
        "text_heads": text_width // 64,
        "embed_dim": state["visual.proj"].shape[1],
        "context_length": len(state["text.positional_embedding"]),
        "vocab_size": vocab_size,
        **(hints or {}),
    }
    for tower in ("vision", "text"):
        width, heads = inferred[f"{tower}_width"], inferred[f"{tower}_heads"]
        # The tensors do not show the number of heads; OpenAI's rule is one for 64 channels.
        if heads < 1 or width % heads or (not hints and width % 64):
            raise ValueError(f"{tower} width {width} and {heads} heads do not go together")
    return ClipConfig(**inferred)


def count_blocks(state: StateDict, tower: str) -> int:
    numbers = {key.split(".")[2] for key in state if key.startswith(f"{tower}.blocks.")}
    if numbers != {str(number) for number in range(len(numbers))}:
        raise ValueError(f"the layers of {tower} are not numbered 0 to {len(numbers) - 1}")
    return len(numbers)


def read_config_file(path: Path, tensors: StateDict) -> dict[str, Any]:
    """Heads and activation of a model from the config file of Hugging Face or OpenCLIP next to its weights.

    Other formats have none, so files next to them are ignored.
    """
    if is_hugging_face(tensors):
        return read_description(path.with_name("config.json"), hugging_face_hints)
    if path.name.startswith("open_clip_"):
        description = path.with_name("open_clip_config.json")
        if not description.is_file():
            warnings.warn(
                f"{path} has no open_clip_config.json next to it, which has the activation; QuickGELU is assumed.",
                FrosterWarning,
                stacklevel=2,
            )
        return read_description(description, open_clip_hints)
    return {}


def read_description(path: Path, hints_of: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        hints = hints_of(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ZeroDivisionError) as error:
        raise WeightsError(f"The model description {path} cannot be read ({error!r}); correct or remove it.") from error
    if hints["activation"] not in ("gelu", "quick_gelu"):
        raise WeightsError(f"{path} names the activation {hints['activation']!r}; froster knows gelu and quick_gelu.")
    return hints


def hugging_face_hints(description: Any) -> dict[str, Any]:
    vision, text = description["vision_config"], description["text_config"]
    return {
        "activation": vision.get("hidden_act", "quick_gelu"),
        "vision_heads": int(vision.get("num_attention_heads", 12)),
        "text_heads": int(text.get("num_attention_heads", 8)),
        "vision_norm_eps": float(vision.get("layer_norm_eps", 1e-5)),
        "text_norm_eps": float(text.get("layer_norm_eps", 1e-5)),
    }


def open_clip_hints(description: Any) -> dict[str, Any]:
    model = description["model_cfg"]
    vision, text = model["vision_cfg"], model["text_cfg"]
    return {
        "activation": "quick_gelu" if model.get("quick_gelu") else "gelu",
        "vision_heads": vision["width"] // vision.get("head_width", 64),
        "text_heads": int(text["heads"]),
        "vision_norm_eps": float((vision.get("norm_kwargs") or {}).get("eps", 1e-5)),
        "text_norm_eps": float((text.get("norm_kwargs") or {}).get("eps", 1e-5)),
    }
