"""Our own format: safetensors with the network's description in the metadata."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

import safetensors.torch
import torch

from froster.backbones.build import clip_names
from froster.backbones.clip import ClipConfig
from froster.checkpoints.checkpoint import Checkpoint, ClipSource, StateDict
from froster.checkpoints.containers import DOWNLOAD_AGAIN, to_float32
from froster.errors import WeightsError
from froster.files import replace_when_written
from froster.provenance import provenance_metadata, read_provenance

FORMAT = "froster-1"
TOKEN_TABLE = "text.token_embedding.weight"
TOKEN_ROWS = "text.token_embedding.rows"
# Limits of what a description may say: about ten times the largest CLIP there is.
LARGEST = {
    "image_size": 4096,
    "patch_size": 512,
    "vision_width": 16_384,
    "vision_layers": 512,
    "vision_heads": 512,
    "text_width": 16_384,
    "text_layers": 512,
    "text_heads": 512,
    "embed_dim": 16_384,
    "context_length": 4096,
    "vocab_size": 1_000_000,
}
LARGEST_OPTION = 10_000


class Savable(Protocol):
    """A `Clip`, or a `VideoStudent`."""

    config: ClipConfig

    def state_dict(self) -> StateDict: ...


def save_checkpoint(model: Savable, path: str | Path, dtype: torch.dtype | None = None, **metadata: str) -> None:
    """Write a `VideoStudent` or a `Clip` as safetensors, whole or not at all.

    `dtype` converts the tensors, for instance to float16 for shipping. A student's `labels`, `templates` and
    `clip_sampling` go into the metadata. Token rows that are zero are left out, and all of CLIP's tensors where the
    student's `clip_source` says that they are elsewhere.
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
        **provenance_metadata(model),
        **metadata,
    }
    with replace_when_written(Path(path)) as temporary:
        safetensors.torch.save_file(state, temporary, metadata=description)
        temporary.chmod(0o644)  # safetensors makes files that only their owner can read


def read_own(tensors: StateDict, metadata: dict[str, Any], path: Path) -> Checkpoint:
    if metadata["format"] != FORMAT:
        raise WeightsError(
            f"{path} has the format {metadata['format']!r:.40}, made by a newer froster: update froster."
        )
    try:
        config = ClipConfig(**json.loads(metadata["config"]))
        check_config(config)
        options = read_options(json.loads(metadata["options"]))
        state = {key: to_float32(value) for key, value in tensors.items() if key != TOKEN_ROWS}
        source = ClipSource(**json.loads(metadata["clip"])) if "clip" in metadata else None
        if source and not (isinstance(source.name, str) and isinstance(source.sha256, str)):
            raise ValueError("the name of its CLIP is not text")
        if not source:
            check_sizes(config, state)
            table = torch.zeros(config.vocab_size, config.text_width)
            table[tensors[TOKEN_ROWS].long()] = state[TOKEN_TABLE]
            state[TOKEN_TABLE] = table
        student = metadata["student"] or None
    except Exception as error:  # metadata that is damaged, or made up, raises anything
        reason = f"its metadata lacks {error}" if isinstance(error, KeyError) else f"{error or type(error).__name__}"
        raise WeightsError(f"{path} is a damaged froster checkpoint ({reason:.200}): {DOWNLOAD_AGAIN}.") from error
    return Checkpoint(state, config, student, options, source, read_provenance(metadata, path))


def check_config(config: ClipConfig) -> None:
    """Raises `ValueError` where a size of a CLIP is of the wrong type or not within `LARGEST`."""
    for name, value in asdict(config).items():
        if name == "activation":
            if value not in ("quick_gelu", "gelu"):
                raise ValueError(f"there is no activation {value!r:.40}")
        elif name.endswith("_eps"):
            if type(value) is not float or not 0 < value < 1:
                raise ValueError(f"{name} is {value!r:.40}")
        elif type(value) is not int or not 1 <= value <= LARGEST[name]:
            raise ValueError(f"{name} is {value!r:.40}, which is not 1 to {LARGEST[name]:,}")
    if config.image_size < config.patch_size:
        raise ValueError(f"patches of {config.patch_size} pixels are larger than images of {config.image_size}")
    for width, heads in (
        (config.vision_width, config.vision_heads),
        (config.text_width, config.text_heads),
    ):
        if width % heads:
            raise ValueError(f"a width of {width} cannot be divided among {heads} heads")


def read_options(options: Any) -> dict[str, Any]:
    """A student's options: text and numbers of a reasonable size, by name. Raises `ValueError`."""
    if not isinstance(options, dict):
        raise ValueError("its options are not named")
    for name, value in options.items():
        is_number = isinstance(value, int | float) and -LARGEST_OPTION <= value <= LARGEST_OPTION
        if not (value is None or is_number or (isinstance(value, str) and len(value) <= LARGEST_OPTION)):
            raise ValueError(f"the option {name} is {value!r:.40}")
    return options


def check_sizes(config: ClipConfig, state: StateDict) -> None:
    """Raises `ValueError` where the file's tensors have other sizes than `config`, before such a network is built."""
    grid = config.image_size // config.patch_size
    sizes = {
        "visual.conv1.weight": (config.vision_width, 3, config.patch_size, config.patch_size),
        "visual.positional_embedding": (grid * grid + 1, config.vision_width),
        "visual.proj": (config.vision_width, config.embed_dim),
        "text.positional_embedding": (config.context_length, config.text_width),
    }
    for name, size in sizes.items():
        if state[name].shape != size:
            raise ValueError(f"{name} is {tuple(state[name].shape)}, its description says {size}")
    if state[TOKEN_TABLE].shape[1] != config.text_width:
        raise ValueError("the table of tokens has another width than its description says")
    for tower, layers in (("visual", config.vision_layers), ("text", config.text_layers)):
        found = len({name.split(".")[2] for name in state if name.startswith(f"{tower}.blocks.")})
        if found != layers:
            raise ValueError(f"{tower} has {found} layers, its description says {layers}")


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
