"""Checks on checkpoint files for several commands."""

from pathlib import Path
from typing import TYPE_CHECKING

from froster.errors import FrosterError

if TYPE_CHECKING:
    from collections.abc import Iterable


def weights_file(model: str | Path) -> Path:
    """The file of a model name or path as `load_model` takes it. Raises `WeightsError` if there is none."""
    from froster.checkpoints.folders import find_weights_file
    from froster.models import resolve

    return find_weights_file(resolve(model).path)


def check_output_name(out: Path) -> None:
    """Raises `FrosterError` if `out` cannot be a checkpoint, before any work is done."""
    if out.is_dir():
        raise FrosterError(f"--out {out} is a folder; give a .safetensors file in it.")
    if out.suffix.lower() != ".safetensors":
        raise FrosterError(f"--out {out} must end in .safetensors.")


def check_not_among(out: Path, inputs: "Iterable[Path]") -> None:
    """Raises `FrosterError` if writing `out` would overwrite one of the inputs."""
    if out.exists() and any(out.samefile(path) for path in inputs):
        raise FrosterError(f"--out {out} is one of the input checkpoints; choose another name.")
