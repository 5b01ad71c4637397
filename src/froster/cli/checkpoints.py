"""What the commands need to know of checkpoint files besides their weights."""

from pathlib import Path
from typing import TYPE_CHECKING

from froster.errors import FrosterError

if TYPE_CHECKING:
    from collections.abc import Iterable


def weights_file(model: str | Path) -> Path:
    """The file behind what `load_model` takes. Raises `WeightsError` when there is none."""
    from froster.checkpoints.hub import find_weights_file
    from froster.models import resolve

    return find_weights_file(resolve(model).path)


def check_output_name(out: Path) -> None:
    """Raises `FrosterError` when `out` cannot be a checkpoint: better known before the work than after."""
    if out.is_dir():
        raise FrosterError(f"--out {out} is a folder; name a .safetensors file in it.")
    if out.suffix.lower() != ".safetensors":
        raise FrosterError(f"--out {out} must end in .safetensors, which is what is written.")


def check_not_among(out: Path, inputs: "Iterable[Path]") -> None:
    """Raises `FrosterError` when writing `out` would overwrite one of the inputs."""
    if out.exists() and any(out.samefile(path) for path in inputs):
        raise FrosterError(f"--out {out} is one of the checkpoints to read; choose another name.")
