"""Every checkpoint format there is, in; our own, out.

Read: OpenAI release files (TorchScript, float16), plain state dicts, OpenCLIP and Hugging Face CLIP safetensors, the
released FROSTER and Open-VCLIP checkpoints, those of other video students, and our own. Nothing in a file is ever
executed: pickles are read with `weights_only=True`, TorchScript archives by `torchscript.py`.
"""

import argparse
import functools
import hashlib
import json
import math
import pickle
import re
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from froster.clip.model import Clip, ClipConfig
from froster.clip.release import fetch_release
from froster.clip.torchscript import is_torchscript, read_torchscript
from froster.errors import FrosterWarning, WeightsError
from froster.files import replace_when_written

StateDict = dict[str, Tensor]

FORMAT = "froster-1"
FOLDER_LAYOUTS = (
    "model.safetensors",
    "open_clip_model.safetensors",
    "pytorch_model.bin",
    "open_clip_pytorch_model.bin",
)
RUN_RECIPE = "recipe.json"  # of a training run; its weights come last
SUFFIXES = (".safetensors", ".pt", ".pth", ".pyth", ".bin")
DOWNLOAD_AGAIN = "it is truncated or only half downloaded; fetch it again"
# What training leaves in released checkpoints: the distillation projectors and the copy of the frozen CLIP.
TRAINING_ONLY = re.compile(r"^(projector_[vt]\.|raw_model\.)")
# What a damaged file makes PyTorch and zipfile raise.
DAMAGE = (RuntimeError, EOFError, OSError, ValueError, KeyError, AttributeError, TypeError, IndexError, StopIteration)
# Numbers and options that training scripts save beside the tensors; building them runs no code of the file.
HARMLESS: list[Any] = [
    argparse.Namespace,
    (OrderedDict, "yacs.config.CfgNode"),  # a dictionary with settings as attributes
    np.dtype,
    np.float64(0).__reduce__()[0],
    *map(type, map(np.dtype, "fdilqb")),
]
EMBEDDED_PROMPTS = "prompt_learner.complete_text_embeddings"
RELEASE_SIZES = {(32, 224): "vit-b-32", (16, 224): "vit-b-16", (14, 224): "vit-l-14", (14, 336): "vit-l-14-336"}
BUFFERS = re.compile(r"(position_ids|attn_mask|input_resolution|context_length|vocab_size)$")


@dataclass(frozen=True)
class ClipSource:
    """The CLIP beside which a checkpoint was trained: what `load_clip` takes, and `clip_digest` of its tensors."""

    name: str
    sha256: str


@dataclass
class Checkpoint:
    """What a file holds, under the names of `Clip`, before a model is built from it."""

    state: StateDict
    config: ClipConfig
    student: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    clip_source: ClipSource | None = None  # where CLIP's own tensors are when `state` does not have them

    @property
    def is_plain(self) -> bool:
        """Whether it holds a CLIP and nothing else."""
        return self.student is None and self.state.keys() <= clip_names(self.config)


def read_checkpoint(path: str | Path) -> Checkpoint:
    """Read a checkpoint of any supported format; sizes are inferred from the tensors.

    Raises `WeightsError`, one sentence that names the file, when it is missing, damaged, not a checkpoint, not a CLIP,
    or a pickle with code in it.
    """
    path = find_weights_file(Path(path))
    tensors, metadata = read_tensors(path)
    if "format" in metadata and "config" in metadata:
        return read_own(tensors, metadata, path)
    state = to_clip_names(tensors)
    add_frozen_text(state, path)
    if "visual.conv1.weight" not in state or "text.token_embedding.weight" not in state:
        some = ", ".join(list(tensors)[:3]) or "no tensors"
        raise WeightsError(f"{path} is not a CLIP: it lacks the image or the text encoder (it holds {some}, …).")
    try:
        config = infer_config(state, describe_beside(path, tensors))
    except (KeyError, IndexError, ValueError, ZeroDivisionError) as error:
        raise WeightsError(f"{path} is not a CLIP that froster can build: {error}.") from error
    # FROSTER and Open-VCLIP released VCLIP students; the file itself does not say. Tensors beside CLIP's are of others.
    is_vclip = is_released_student(tensors, metadata) and state.keys() <= clip_names(config)
    return Checkpoint(state, config, "vclip" if is_vclip else None)


def is_released_student(tensors: StateDict, metadata: dict[str, Any]) -> bool:
    return bool(metadata.get("model_state")) or any(TRAINING_ONLY.match(key) for key in tensors)


def find_weights_file(path: Path) -> Path:
    """The weights file itself, also when `path` is a folder as Hugging Face and OpenCLIP lay them out."""
    if path.is_dir():
        for candidate in (path / name for name in FOLDER_LAYOUTS):
            if candidate.is_file():
                return candidate
        epochs = sorted(path.glob("checkpoints/epoch-*.safetensors"))
        if (path / RUN_RECIPE).is_file():
            so_far = f"; its last whole epoch is {epochs[-1]}" if epochs else ""
            raise WeightsError(f"{path} is an unfinished run: go on with froster train --resume{so_far}.")
        others = sorted(file for file in path.iterdir() if file.suffix in SUFFIXES)
        if len(others) == 1:
            return others[0]
        several = f"several weights files ({', '.join(file.name for file in others[:3])}): name one"
        raise WeightsError(f"The folder {path} holds {several if others else 'no weights'}.")
    if not path.exists():
        raise WeightsError(f"There is no weights file {path}.")
    return path


def read_tensors(path: Path) -> tuple[StateDict, dict[str, Any]]:
    """All tensors of a file and what else it says about itself, whatever its suffix: the first bytes decide."""
    try:
        with path.open("rb") as file:
            head = file.read(10)
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror}.") from error
    if not head:
        raise WeightsError(f"{path} is empty: {DOWNLOAD_AGAIN}.")
    if head.startswith(b"PK\x03\x04"):
        return read_zip(path)
    if head[8:9] == b"{":
        try:
            with safetensors.safe_open(path, "pt") as file:
                return {key: file.get_tensor(key) for key in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118
        except safetensors.SafetensorError as error:
            raise WeightsError(f"{path} is not a whole safetensors file: {DOWNLOAD_AGAIN}.") from error
    if head.startswith(b"\x80"):
        return read_pickle(path)
    raise WeightsError(
        f"{path} is not a checkpoint: expected a PyTorch or safetensors file, it begins with {head[:8]!r}."
    )


def read_zip(path: Path) -> tuple[StateDict, dict[str, Any]]:
    """A `torch.save` archive, or a TorchScript archive, of which only the state dict is read."""
    try:
        with zipfile.ZipFile(path) as archive:
            scripted = is_torchscript(archive)
        return (read_torchscript(path), {}) if scripted else read_pickle(path)
    except pickle.UnpicklingError as error:
        raise refusal(path, error) from error
    except (zipfile.BadZipFile, *DAMAGE) as error:
        raise WeightsError(f"{path} is not a whole checkpoint: {DOWNLOAD_AGAIN}.") from error


def read_pickle(path: Path) -> tuple[StateDict, dict[str, Any]]:
    """A pickled checkpoint, never executed: anything but tensors and plain values is refused."""
    try:
        with torch.serialization.safe_globals(HARMLESS):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise refusal(path, error) from error
    except DAMAGE as error:
        raise WeightsError(f"{path} is not a checkpoint that PyTorch can read: {DOWNLOAD_AGAIN}.") from error
    metadata: dict[str, Any] = {}
    for key in ("model_state", "state_dict", "model_state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            metadata = {key: True}
            # ActionCLIP keeps what it adds in a dictionary of its own.
            added = content.get("fusion_model_state_dict") or {}
            content = content[key] | {f"fusion_model.{name.removeprefix('module.')}": added[name] for name in added}
            break
    if not isinstance(content, dict) or not any(isinstance(value, Tensor) for value in content.values()):
        raise WeightsError(f"{path} is not a checkpoint: it holds no named tensors.")
    return {str(key): value for key, value in content.items() if isinstance(value, Tensor)}, metadata


def refusal(path: Path, error: pickle.UnpicklingError) -> WeightsError:
    code = re.search(r"(?:GLOBAL|Unsupported global:?|class) (?:GLOBAL )?`?([\w.]+)", str(error))
    if not code:
        return WeightsError(f"{path} is not a checkpoint that can be read: {DOWNLOAD_AGAIN}.")
    return WeightsError(
        f"{path} was refused: it holds Python objects besides tensors ({code[1]}), which could run code when read; "
        "save its state dict alone, or as safetensors."
    )


# ---------------------------------------------------------------------------------------------------------------------
# Names. Ours are OpenAI's, with the text encoder under `text.` and every linear layer a plain `nn.Linear`.

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


def to_clip_names(tensors: StateDict) -> StateDict:
    """The tensors of a foreign checkpoint under the names of `Clip`, in float32."""
    # Distributed training prefixes `module.`, the released video checkpoints `model.`.
    tensors = {re.sub(r"^(module\.)?(model\.)?", "", key): value for key, value in tensors.items()}
    tensors = {k: v for k, v in tensors.items() if not TRAINING_ONLY.match(k) and not BUFFERS.search(k)}
    hugging_face = is_hugging_face(tensors)
    names = HUGGING_FACE_NAMES if hugging_face else OPENAI_NAMES
    state: StateDict = {}
    for key, value in tensors.items():
        for pattern, replacement in names:
            key = re.sub(pattern, replacement, key)
        state[key] = value.float()
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
    """Sizes of a CLIP from its tensors under the names of `Clip`.

    `hints` may give what tensors do not show: `vision_heads`, `text_heads`, `activation`.
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
    return 1 + max((int(key.split(".")[2]) for key in state if key.startswith(f"{tower}.blocks.")), default=-1)


def describe_beside(path: Path, tensors: StateDict) -> dict[str, Any]:
    """Heads and activation of a model from the description that Hugging Face or OpenCLIP lay beside its weights.

    Other formats have none: whatever lies beside them is not about them.
    """
    if is_hugging_face(tensors):
        return read_description(path.with_name("config.json"), hugging_face_hints)
    if path.name.startswith("open_clip_"):
        description = path.with_name("open_clip_config.json")
        if not description.is_file():
            warnings.warn(
                f"{path} has no open_clip_config.json beside it, which names the activation; QuickGELU is assumed.",
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
    }


def open_clip_hints(description: Any) -> dict[str, Any]:
    model = description["model_cfg"]
    vision, text = model["vision_cfg"], model["text_cfg"]
    return {
        "activation": "quick_gelu" if model.get("quick_gelu") else "gelu",
        "vision_heads": vision["width"] // vision.get("head_width", 64),
        "text_heads": int(text["heads"]),
    }


def load_into(model: nn.Module, state: StateDict, path: str | Path) -> None:
    """Load `state` into `model`; every tensor must find its place.

    Raises `WeightsError` that names what is missing, left over or of another shape.
    """
    expected = {key: value.shape for key, value in model.state_dict().items()}
    missing, unknown = sorted(expected.keys() - state.keys()), sorted(state.keys() - expected.keys())
    for keys, what in ((missing, "lacks"), (unknown, "belongs to another network: this one does not have")):
        if keys:
            some = ", ".join(keys[:3]) + (", …" if len(keys) > 3 else "")
            raise WeightsError(f"{path} {what} {len(keys)} tensors ({some}).")
    for key, value in state.items():
        if value.shape != expected[key]:
            raise WeightsError(
                f"{path} does not fit this network: {key} is {tuple(value.shape)}, expected {tuple(expected[key])}."
            )
    model.load_state_dict(state, assign=True)


# ---------------------------------------------------------------------------------------------------------------------
# Our own format: safetensors with the network's description in the metadata.

TOKEN_TABLE = "text.token_embedding.weight"
TOKEN_ROWS = "text.token_embedding.rows"


class Savable(Protocol):
    """A `Clip`, or a `VideoStudent`."""

    config: ClipConfig

    def state_dict(self) -> StateDict: ...


def save_checkpoint(model: Savable, path: str | Path, dtype: torch.dtype | None = None, **metadata: str) -> None:
    """Write a `VideoStudent` or a `Clip` as safetensors, whole or not at all.

    `dtype` converts the tensors, for instance to float16 for shipping. Token rows that are zero are left out, and all
    of CLIP's tensors where the student's `clip_source` says that they are elsewhere.
    """
    source: ClipSource | None = getattr(model, "clip_source", None)
    state = model.state_dict()
    if source and clip_digest(state, model.config) != source.sha256:
        source = None  # CLIP's tensors have been changed since
    left_out = clip_names(model.config) if source else frozenset()
    state = {key: value.detach().to("cpu", dtype).contiguous() for key, value in state.items() if key not in left_out}
    if TOKEN_TABLE in state:
        rows = state[TOKEN_TABLE].any(dim=1).nonzero()[:, 0]
        state[TOKEN_TABLE], state[TOKEN_ROWS] = state[TOKEN_TABLE][rows], rows.to(torch.int32)
    description = {
        "format": FORMAT,
        "config": json.dumps(asdict(model.config)),
        "student": getattr(model, "name", ""),
        "options": json.dumps(getattr(model, "options", {})),
        **({"clip": json.dumps(asdict(source))} if source else {}),
        **metadata,
    }
    with replace_when_written(Path(path)) as temporary:
        safetensors.torch.save_file(state, temporary, metadata=description)
        temporary.chmod(0o644)  # safetensors makes files that only their owner can read


def read_own(tensors: StateDict, metadata: dict[str, Any], path: Path) -> Checkpoint:
    if metadata["format"] != FORMAT:
        raise WeightsError(f"{path} has the format {metadata['format']!r}, made by a newer froster: update froster.")
    try:
        config = ClipConfig(**json.loads(metadata["config"]))
        state = {key: value.float() for key, value in tensors.items() if key != TOKEN_ROWS}
        source = ClipSource(**json.loads(metadata["clip"])) if "clip" in metadata else None
        if not source:
            table = torch.zeros(config.vocab_size, config.text_width)
            table[tensors[TOKEN_ROWS].long()] = state[TOKEN_TABLE]
            state[TOKEN_TABLE] = table
        return Checkpoint(state, config, metadata["student"] or None, json.loads(metadata["options"]), source)
    except DAMAGE as error:
        raise WeightsError(f"{path} is a damaged froster checkpoint ({error!r}): {DOWNLOAD_AGAIN}.") from error


@functools.cache
def clip_names(config: ClipConfig) -> frozenset[str]:
    """Names of a CLIP's tensors, which every student has too."""
    return frozenset(build_clip(config).state_dict())


def clip_digest(state: StateDict, config: ClipConfig) -> str:
    """SHA-256 of CLIP's own tensors among `state`: the same whatever format they were read from."""
    return tensors_digest(state, clip_names(config))


def tensors_digest(state: StateDict, names: Iterable[str]) -> str:
    """SHA-256 of the named tensors, in float32."""
    digest = hashlib.sha256()
    for name in sorted(names):
        digest.update(name.encode())
        digest.update(state[name].detach().float().cpu().contiguous().numpy().data)
    return digest.hexdigest()


def hash_exactly(digest: "hashlib._Hash", state: StateDict) -> None:
    """Take in names and bytes of all tensors, in the precision they have."""
    for name, tensor in state.items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().flatten().view(torch.uint8).numpy().data)


class Uninitialised(TorchFunctionMode):
    """Inside, modules are built without values: their memory is not even touched.

    On the meta device, random values would make PyTorch import its compiler, which takes a second.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__module__", "") == "torch.nn.init" or func in (torch.Tensor.normal_, torch.Tensor.uniform_):
            return args[0] if args else kwargs["tensor"]
        return (torch.empty if func is torch.randn else func)(*args, **kwargs)


def build_clip(config: ClipConfig) -> Clip:
    """A `Clip` without values, to be filled by `load_into`."""
    with Uninitialised():
        return Clip(config)
