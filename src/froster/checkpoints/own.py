"""Our own format: safetensors with the network's description in the metadata."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

import safetensors.torch
import torch

from froster.checkpoints.checkpoint import Checkpoint, ClipSource, StateDict
from froster.checkpoints.containers import DAMAGE, DOWNLOAD_AGAIN
from froster.clip.build import clip_names
from froster.clip.model import ClipConfig
from froster.errors import WeightsError
from froster.files import replace_when_written
from froster.provenance import provenance_metadata, read_provenance

FORMAT = "froster-1"
TOKEN_TABLE = "text.token_embedding.weight"
TOKEN_ROWS = "text.token_embedding.rows"


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
        raise WeightsError(f"{path} has the format {metadata['format']!r}, made by a newer froster: update froster.")
    try:
        config = ClipConfig(**json.loads(metadata["config"]))
        state = {key: value.float() for key, value in tensors.items() if key != TOKEN_ROWS}
        source = ClipSource(**json.loads(metadata["clip"])) if "clip" in metadata else None
        if not source:
            table = torch.zeros(config.vocab_size, config.text_width)
            table[tensors[TOKEN_ROWS].long()] = state[TOKEN_TABLE]
            state[TOKEN_TABLE] = table
        student, options = metadata["student"] or None, json.loads(metadata["options"])
    except DAMAGE as error:
        raise WeightsError(f"{path} is a damaged froster checkpoint ({error!r}): {DOWNLOAD_AGAIN}.") from error
    return Checkpoint(state, config, student, options, source, read_provenance(metadata, path))


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
