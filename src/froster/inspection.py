"""What a weights file is, what was read from where, and what is assumed."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from froster.backbones.build import BACKBONES
from froster.checkpoints.folders import find_weights_file
from froster.checkpoints.read import read_checkpoint
from froster.models import recognized_student, resolve


@dataclass(frozen=True)
class Inspection:
    """What a weights file holds.

    `file`: the file itself, of a folder. `backbone`: the family, in words; `student`: the name of its student, None for
    a plain backbone. `config`: fields of the backbone's config; `sources`: where each
    was read from. `tensors`, `parameters`: their numbers.
    """

    file: Path
    backbone: str
    student: str | None
    options: dict[str, Any]
    config: dict[str, Any]
    sources: dict[str, str]
    tensors: int
    parameters: int

    @property
    def title(self) -> str:
        """What it is, in words."""
        if not self.student:
            return self.backbone
        options = ",".join(f"{name}={value}" for name, value in self.options.items())
        return f"{self.student}{f':{options}' if options else ''} on {self.backbone}"

    @property
    def assumed(self) -> list[str]:
        return [name for name, source in self.sources.items() if source.startswith("assumed")]


def inspect_checkpoint(path_or_name: str | Path, backbone: Mapping[str, Any] | None = None) -> Inspection:
    """What a weights file holds, and where each fact about its backbone was read from.

    `path_or_name` and `backbone` as in `load_model`. Raises `WeightsError` for a file that cannot be used, also where
    it asks for more.
    """
    found = resolve(path_or_name)
    file = find_weights_file(found.path)
    checkpoint = read_checkpoint(file, backbone, found.released)
    return Inspection(
        file,
        BACKBONES[checkpoint.config.family].title,
        checkpoint.student or recognized_student(checkpoint),
        checkpoint.options,
        asdict(checkpoint.config),
        checkpoint.sources,
        len(checkpoint.state),
        sum(tensor.numel() for tensor in checkpoint.state.values()),
    )
