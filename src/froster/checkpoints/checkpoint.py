"""What a checkpoint is, before a model is built from it."""

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from froster.backbones.build import clip_names
from froster.backbones.clip import ClipConfig
from froster.provenance import Provenance

StateDict = dict[str, Tensor]


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
    provenance: Provenance = field(default_factory=Provenance)

    @property
    def is_plain(self) -> bool:
        """Whether it holds a CLIP and nothing else."""
        return self.student is None and self.state.keys() <= clip_names(self.config)
