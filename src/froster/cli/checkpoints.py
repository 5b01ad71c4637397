"""What the commands need to know of checkpoint files besides their weights."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

from froster.errors import FrosterError, WeightsError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from froster.text.labels import Labels


def weights_file(model: str | Path) -> Path:
    """The file behind what `load_model` takes. Raises `WeightsError` when there is none."""
    from froster.checkpoints.hub import find_weights_file
    from froster.models import resolve

    return find_weights_file(resolve(model).path)


def trained_labels(path: Path) -> "Labels | None":
    """The labels that a run's weights say they were trained on; None where the file does not say.

    Raises `WeightsError` when they are damaged.
    """
    from safetensors import SafetensorError, safe_open

    from froster.checkpoints.own import FORMAT
    from froster.text.labels import check_pairs

    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
    except SafetensorError:  # another format; whether it can be read is found when it is loaded
        return None
    if metadata.get("format") != FORMAT or "labels" not in metadata:
        return None
    try:
        return check_pairs(list(json.loads(metadata["labels"]).items()), path)
    except (ValueError, AttributeError) as error:
        raise WeightsError(f"{path} is a damaged froster checkpoint: its labels cannot be read.") from error


def common_labels(paths: "Iterable[Path]") -> dict[str, str]:
    """Metadata for a checkpoint made of others: the labels that all with labels agree on, or nothing."""
    found = [labels for path in paths if (labels := trained_labels(path))]
    return {"labels": json.dumps(found[0])} if found and all(labels == found[0] for labels in found) else {}


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
