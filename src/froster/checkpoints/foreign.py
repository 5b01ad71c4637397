"""Other programs' checkpoints: their tensor names under ours, and sizes from the tensors.

Ours are OpenAI's names, with the text encoder under `text.` and every linear layer a plain `nn.Linear`.
"""

import math
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from froster.backbones.build import backbone_names
from froster.backbones.clip import ClipConfig
from froster.checkpoints import perception_encoder, siglip
from froster.checkpoints.checkpoint import Checkpoint, StateDict
from froster.checkpoints.containers import read_tensors
from froster.checkpoints.descriptions import check_given, gather_facts, openai_rule
from froster.checkpoints.names import OPENAI_NAMES, TRAINING_ONLY, count_blocks, fuse_projections, renamed
from froster.checkpoints.openai import RELEASES, fetch_release
from froster.checkpoints.own import TOKEN_TABLE, check_config
from froster.checkpoints.perception_encoder import infer_perception_encoder, to_perception_encoder_names
from froster.checkpoints.releases import ARCHITECTURES, ReleasedModel, released_models
from froster.checkpoints.unsupported import refuse_unsupported
from froster.errors import FrosterError, FrosterWarning, WeightsError

WRAPPERS = re.compile(r"(?<![^.])(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
IMAGE_ENCODER = re.compile(
    r"((?:.*\.)?)(?:(?:visual|image_encoder)\.conv1|visual\.patch_embed\.proj|vision_model\.embeddings\.patch_embedding)\.weight"
)
EMBEDDED_PROMPTS = "prompt_learner.complete_text_embeddings"  # of the classes that ViFi-CLIP was trained on
EMBEDDED_STARTS = "prompt_learner.token_prefix"  # the start tokens of these, TC-CLIP and Vita-CLIP
FRAME_POSITIONS = "visual.time_embed"  # of Vita-CLIP
VITA_CLIP_NAMES = (
    (r"^textual\.", ""),
    *OPENAI_NAMES,
    (r"^visual\.patch_embed\.proj\.", "visual.conv1."),
    (r"^visual\.cls_token$", "visual.class_embedding"),
    (r"^visual\.pos_embed$", "visual.positional_embedding"),
    (r"^(visual\.blocks\.\d+)\.norm([12])\.", r"\1.ln_\2."),
    (r"\.mlp\.fc1\.", ".mlp.0."),
    (r"\.mlp\.fc2\.", ".mlp.2."),
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


def read_foreign(
    tensors: StateDict,
    metadata: dict[str, Any],
    path: Path,
    given: Mapping[str, Any] | None = None,
    released: ReleasedModel | None = None,
) -> Checkpoint:
    """A checkpoint of another program.

    Sizes are those of the tensors, the rest is from a description in the file's folder, from what is `given`, or from
    what is known of the model that was `released`: see `froster.checkpoints.descriptions`.
    """
    warn_of_several_networks(tensors, path)
    if any(key.endswith(perception_encoder.PROBE) for key in tensors):
        return read_perception_encoder(without_wrappers(tensors), path, given or {})
    if any(key.endswith(siglip.PROBE) for key in tensors):
        with building(path, "SigLIP"):
            return siglip.read_siglip(without_wrappers(tensors), path, given or {})
    refuse_unsupported(tensors, path)
    state = to_clip_names(tensors)
    add_frozen_text(state, path)
    if "visual.conv1.weight" not in state or "text.token_embedding.weight" not in state:
        some = ", ".join(list(tensors)[:3]) or "no tensors"
        raise WeightsError(f"{path} is not a CLIP: it lacks the image or the text encoder (it holds {some}, …).")
    with building(path):
        sizes = tensor_sizes(state)
        shape = ClipConfig(**sizes, vision_heads=1, text_heads=1)
        check_config(shape)  # before a network of such sizes is built
        of_clip = backbone_names(shape)
    is_student, has_more = is_released_student(tensors, metadata), not state.keys() <= of_clip
    facts = gather_facts(
        sizes,
        path,
        given or {},
        hugging_face=is_hugging_face(tensors),
        from_openai=is_student or has_more or bool(metadata.get("torchscript")),
        released=released,
    )
    if facts.assumed:
        warnings.warn(
            f"{path} has no description in its folder, so this is assumed: {facts.assumed}. If it is wrong, "
            "so are all scores.",
            FrosterWarning,
            stacklevel=2,
        )
    with building(path):
        config = infer_config(state, facts.values)
        check_config(config)
    # FROSTER and Open-VCLIP released VCLIP students; the file itself does not say. More tensors: another student.
    sources = dict.fromkeys(sizes, "tensors") | facts.sources
    return Checkpoint(state, config, "vclip" if is_student and not has_more else None, sources=sources)


@contextmanager
def building(path: Path, kind: str = "CLIP") -> Iterator[None]:
    """Turns what impossible sizes raise into a `WeightsError` that names the file."""
    try:
        yield
    except FrosterError:
        raise
    except (KeyError, IndexError, ValueError, ZeroDivisionError) as error:
        raise WeightsError(f"{path} is not a {kind} that froster can build: {error}.") from error


def read_perception_encoder(tensors: StateDict, path: Path, given: Mapping[str, Any]) -> Checkpoint:
    """A released Perception Encoder core."""
    with building(path, "Perception Encoder"):
        state = to_perception_encoder_names(tensors)
        config, sources = infer_perception_encoder(state, check_given(given))
        check_config(config)
    return Checkpoint(state, config, sources=sources)


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
    hugging_face = is_hugging_face(tensors)
    names = HUGGING_FACE_NAMES if hugging_face else VITA_CLIP_NAMES if FRAME_POSITIONS in tensors else OPENAI_NAMES
    state = renamed(tensors, names)
    if hugging_face:
        for key in ("visual.proj", "text.text_projection"):
            if key in state:
                state[key] = state[key].T.contiguous()
    fuse_projections(state)
    if "visual.conv1.bias" in state and "visual.positional_embedding" in state:  # Vita-CLIP: the same at each patch
        positions = state["visual.positional_embedding"].clone()
        positions[1:] += state.pop("visual.conv1.bias")
        state["visual.positional_embedding"] = positions
    return state


def is_hugging_face(tensors: StateDict) -> bool:
    return any(key.endswith("vision_model.embeddings.class_embedding") for key in tensors)


def add_frozen_text(state: StateDict, path: Path) -> None:
    """Give a released student, in place, what its file leaves out of the text encoder because it was never trained.

    ViFi-CLIP and TC-CLIP leave out the token embedding (they keep the embedded prompts of their training classes
    instead), Text4Vis the whole text encoder, Vita-CLIP too where it learned no text prompts. They start from OpenAI's
    release, which is fetched. Raises `WeightsError` when none has these sizes, or the prompts were embedded by another
    CLIP.
    """
    of_students = {EMBEDDED_PROMPTS, EMBEDDED_STARTS, FRAME_POSITIONS}
    from_student = bool(of_students & state.keys()) or any(key.startswith("fusion_model.") for key in state)
    whole_vision = {"visual.conv1.weight", "visual.positional_embedding"} <= state.keys()
    if not from_student or not whole_vision or TOKEN_TABLE in state:
        return
    patch_size = state["visual.conv1.weight"].shape[-1]
    image_size = patch_size * math.isqrt(len(state["visual.positional_embedding"]) - 1)
    name = openai_release((patch_size, image_size))
    if name is None:
        raise WeightsError(
            f"{path} leaves its text encoder, or part of it, to the CLIP that it was trained from; OpenAI released "
            f"none with patches of {patch_size} pixels and images of {image_size}."
        )
    release = to_clip_names(read_tensors(fetch_release(name))[0])
    start_of_text = release[TOKEN_TABLE][-2]
    for prompt in state.get(EMBEDDED_PROMPTS, state.get(EMBEDDED_STARTS, ())):
        if prompt.shape[1:] != start_of_text.shape or (prompt[0] - start_of_text).abs().max() > 1e-4:  # float16's part
            raise WeightsError(f"{path} was trained from another CLIP than {name}: its prompts are embedded otherwise.")
    state |= {key: value for key, value in release.items() if key.startswith("text.") and key not in state}


def openai_release(patch_and_image: tuple[int, int]) -> str | None:
    """The name of OpenAI's release with patches and pictures of these sizes."""
    for name in RELEASES:
        config = ARCHITECTURES[released_models()[name].architecture]
        if (config.patch_size, config.image_size) == patch_and_image:
            return name
    return None


def infer_config(state: StateDict, facts: Mapping[str, Any] | None = None) -> ClipConfig:
    """Config of a CLIP from its tensors under the names of our `Clip`.

    `facts`: what tensors do not show, by default OpenAI's rule. Raises `ValueError` where heads do not divide a width.
    """
    sizes = tensor_sizes(state)
    config = {**sizes, **(openai_rule(sizes) if facts is None else facts)}
    for tower in ("vision", "text"):
        width, heads = config[f"{tower}_width"], config[f"{tower}_heads"]
        if heads < 1 or width % heads or (facts is None and width % 64):
            raise ValueError(f"{tower} width {width} and {heads} heads do not go together")
    return ClipConfig(**config)


def tensor_sizes(state: StateDict) -> dict[str, Any]:
    """The fields of a CLIP's config that its tensors show; None for MLPs of 4 times the width."""
    vision_width, _, patch_size, _ = state["visual.conv1.weight"].shape
    vocab_size, text_width = state["text.token_embedding.weight"].shape
    grid = round((len(state["visual.positional_embedding"]) - 1) ** 0.5)
    return {
        "image_size": grid * patch_size,
        "patch_size": patch_size,
        "vision_width": vision_width,
        "vision_layers": count_blocks(state, "visual"),
        "text_width": text_width,
        "text_layers": count_blocks(state, "text"),
        "embed_dim": state["visual.proj"].shape[1],
        "context_length": len(state["text.positional_embedding"]),
        "vocab_size": vocab_size,
        "vision_mlp_width": mlp_width(state, "visual", vision_width),
        "text_mlp_width": mlp_width(state, "text", text_width),
    }


def mlp_width(state: StateDict, tower: str, width: int) -> int | None:
    hidden = len(state[f"{tower}.blocks.0.mlp.0.weight"])
    return None if hidden == 4 * width else hidden
