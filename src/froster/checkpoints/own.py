"""Our own format: safetensors with the network's description in the metadata."""

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol, get_args

import safetensors.torch
import torch

from froster.backbones.base import BackboneConfig
from froster.backbones.blocks import Activation
from froster.backbones.build import BACKBONES, backbone_names
from froster.backbones.tokenizer import Tokenizer
from froster.checkpoints.checkpoint import BackboneSource, Checkpoint, StateDict
from froster.checkpoints.containers import to_float32
from froster.errors import WeightsError
from froster.files import replace_when_written
from froster.provenance import provenance_metadata, read_provenance
from froster.video.transforms import Interpolation, ResizeMode

FORMAT = "froster-1"
TOKEN_TABLE = "text.token_embedding.weight"
TOKEN_ROWS = "text.token_embedding.rows"
TOKENIZER = "tokenizer"  # bytes of the tokenizer's file
# Limits of what a description may say: about ten times the largest backbone there is.
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
    "vision_mlp_width": 65_536,
    "text_mlp_width": 65_536,
    "context_length": 4096,
    "vocab_size": 1_000_000,
}
CHOICES = {
    "activation": get_args(Activation),
    "resize_mode": get_args(ResizeMode),
    "interpolation": get_args(Interpolation),
}
LARGEST_OPTION = 10_000
# A download that broke off is found before: the file is shorter than its header says.
OTHER_WRITER = "its metadata was written or changed by another program; save the model again, or use another copy"


class Savable(Protocol):
    """A `Backbone`, or a `VideoStudent`."""

    config: BackboneConfig
    tokenizer: Tokenizer

    def state_dict(self) -> StateDict: ...


def save_checkpoint(
    model: Savable,
    path: str | Path,
    dtype: torch.dtype | None = None,
    *,
    with_backbone: bool = False,
    **metadata: str,
) -> None:
    """Write a `VideoStudent` or a `Backbone` as safetensors, whole or not at all.

    `dtype` converts the tensors, for instance to float16 for shipping. A student's `labels`, `templates` and
    `clip_sampling` go into the metadata. Token rows that are zero are left out, and all of the backbone's tensors where
    the student's `backbone_source` says that they are elsewhere, unless `with_backbone`.
    """
    source: BackboneSource | None = None if with_backbone else getattr(model, "backbone_source", None)
    state = model.state_dict()
    if source and backbone_digest(state, model.config) != source.sha256:
        source = None  # the backbone's tensors have been changed since
    left_out = backbone_names(model.config) if source else frozenset()
    state = {key: value.detach().to("cpu", dtype).contiguous() for key, value in state.items() if key not in left_out}
    if TOKEN_TABLE in state:
        rows = state[TOKEN_TABLE].any(dim=1).nonzero()[:, 0]
        state[TOKEN_TABLE], state[TOKEN_ROWS] = state[TOKEN_TABLE][rows], rows.to(torch.int32)
    if model.tokenizer.file is not None and not source:
        state[TOKENIZER] = torch.frombuffer(bytearray(model.tokenizer.file), dtype=torch.uint8)
    description = {
        "format": FORMAT,
        "backbone": model.config.family,
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
        config = read_config(json.loads(metadata["config"]), metadata.get("backbone", "clip"))
        options = read_options(json.loads(metadata["options"]))
        state = {key: to_float32(value) for key, value in tensors.items() if key not in (TOKEN_ROWS, TOKENIZER)}
        tokenizer = tensors[TOKENIZER].numpy().tobytes() if TOKENIZER in tensors else None
        source = BackboneSource(**json.loads(metadata["clip"])) if "clip" in metadata else None
        if source and not (isinstance(source.name, str) and isinstance(source.sha256, str)):
            raise ValueError("the name of its backbone is not text")
        if not source:
            check_sizes(config, state)
            table = torch.zeros(config.vocab_size, config.text_width)
            table[tensors[TOKEN_ROWS].long()] = state[TOKEN_TABLE]
            state[TOKEN_TABLE] = table
        student = metadata["student"] or None
    except Exception as error:  # metadata that is damaged, or made up, raises anything
        reason = f"its metadata lacks {error}" if isinstance(error, KeyError) else f"{error or type(error).__name__}"
        raise WeightsError(f"{path} is a damaged froster checkpoint ({reason:.200}): {OTHER_WRITER}.") from error
    stated = json.loads(metadata["config"])
    sources = {name: "the checkpoint" if name in stated else "CLIP's, in older checkpoints" for name in asdict(config)}
    return Checkpoint(state, config, student, options, source, read_provenance(metadata, path), tokenizer, sources)


def read_config(description: Any, backbone: str) -> BackboneConfig:
    """The config of a backbone from its fields in a file, where lists are tuples. Raises `ValueError`."""
    if backbone not in BACKBONES:
        raise ValueError(f"there is no backbone {backbone!r:.40}; froster has {', '.join(BACKBONES)}")
    fields = {key: tuple(value) if isinstance(value, list) else value for key, value in dict(description).items()}
    config_class: Callable[..., BackboneConfig] = BACKBONES[backbone].config_class
    config = config_class(**fields)
    check_config(config)
    return config


def check_config(config: BackboneConfig) -> None:
    """Raises `ValueError` where a field of a config is of the wrong type, or a size is not within `LARGEST`."""
    for name, value in asdict(config).items():
        if name in CHOICES:
            if value not in CHOICES[name]:
                raise ValueError(f"there is no {name} {value!r:.40}")
        elif name.endswith("_eps"):
            if type(value) is not float or not 0 < value < 1:
                raise ValueError(f"{name} is {value!r:.40}")
        elif name in ("image_mean", "image_std"):
            check_channels(name, value)
        elif value is None and name.endswith("_mlp_width"):
            continue
        elif name in LARGEST and (type(value) is not int or not 1 <= value <= LARGEST[name]):
            raise ValueError(f"{name} is {value!r:.40}, which is not 1 to {LARGEST[name]:,}")
    if config.image_size < config.patch_size:
        raise ValueError(f"patches of {config.patch_size} pixels are larger than images of {config.image_size}")
    for width, heads in (
        (config.vision_width, config.vision_heads),
        (config.text_width, config.text_heads),
    ):
        if width % heads:
            raise ValueError(f"a width of {width} cannot be divided among {heads} heads")
    BACKBONES[config.family].check_config(config)


def check_channels(name: str, values: Any) -> None:
    least = 0.0 if name == "image_mean" else 1e-3
    if not (
        isinstance(values, tuple)
        and len(values) == 3
        and all(type(value) in (int, float) and least <= value <= 1 for value in values)
    ):
        raise ValueError(f"{name} is {values!r:.60}, which is not three numbers from {least:g} to 1")


def read_options(options: Any) -> dict[str, Any]:
    """A student's options: text and numbers of a reasonable size, by name. Raises `ValueError`."""
    if not isinstance(options, dict):
        raise ValueError("its options are not named")
    for name, value in options.items():
        is_number = isinstance(value, int | float) and -LARGEST_OPTION <= value <= LARGEST_OPTION
        if not (value is None or is_number or (isinstance(value, str) and len(value) <= LARGEST_OPTION)):
            raise ValueError(f"the option {name} is {value!r:.40}")
    return options


def check_sizes(config: BackboneConfig, state: StateDict) -> None:
    """Raises `ValueError` where the file's tensors have other sizes than `config`, before such a network is built."""
    for name, size in BACKBONES[config.family].tensor_shapes(config).items():
        if state[name].shape != size:
            raise ValueError(f"{name} is {tuple(state[name].shape)}, its description says {size}")
    if state[TOKEN_TABLE].shape[1] != config.text_width:
        raise ValueError("the table of tokens has another width than its description says")
    for tower, layers in (("visual", config.vision_layers), ("text", config.text_layers)):
        found = len({name.split(".")[2] for name in state if name.startswith(f"{tower}.blocks.")})
        if found != layers:
            raise ValueError(f"{tower} has {found} layers, its description says {layers}")


def backbone_digest(state: StateDict, config: BackboneConfig) -> str:
    """SHA-256 of the backbone's tensors among `state`: the same whatever format they were read from."""
    return tensors_digest(state, backbone_names(config))


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
