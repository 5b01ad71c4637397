"""What a checkpoint is, before a model is built from it."""

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from froster.backbones.base import BackboneConfig
from froster.backbones.build import backbone_names
from froster.provenance import Provenance

StateDict = dict[str, Tensor]


@dataclass(frozen=True)
class BackboneSource:
    """The backbone of an adapter checkpoint: its name for `load_backbone`, and the `backbone_digest` of its tensors."""

    name: str
    sha256: str


@dataclass
class Checkpoint:
    """What a file holds, under the names of a backbone and its students, before a model is built from it."""

    state: StateDict
    config: BackboneConfig
    student: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    backbone_source: BackboneSource | None = None  # where the backbone's tensors are when `state` lacks them
    provenance: Provenance = field(default_factory=Provenance)
    tokenizer: bytes | None = None  # file of the backbone's tokenizer, where the package does not have it
    sources: dict[str, str] = field(default_factory=dict)  # where each field of the config was read from

    @property
    def is_plain(self) -> bool:
        """Whether it holds a backbone and nothing else."""
        return self.student is None and self.state.keys() <= backbone_names(self.config)
