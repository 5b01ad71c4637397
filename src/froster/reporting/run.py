"""A training run's recipe and curves, from its folder."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from froster.errors import FrosterError
from froster.training.metrics import NOT_ACCURACIES, NOT_CURVES, NOT_CURVES_OF_VALIDATION, read_log

FIRST, LAST = ("loss",), ("learning_rate", "gradient_norm")  # of the curves; the loss terms are between


@dataclass(frozen=True)
class Run:
    """A run's recipe, as dotted keys that are not null, and its log: `curves`: name -> one value per step.

    A value that was no finite number is None, as where a step did not have it. `seconds`: how long training took.
    `validations`: name -> one value per validation, after `validated` steps: mean cross entropy, and shares of 1.
    """

    recipe: dict[str, Any]
    steps: list[int]
    curves: dict[str, list[float | None]]
    clips: int
    seconds: float
    validated: list[int]
    validations: dict[str, list[float | None]]


def read_run(folder: Path) -> Run | None:
    """The run in a folder; None if the path is not a run. Raises `FrosterError` for a damaged recipe."""
    recipe = folder / "recipe.json"
    if not recipe.is_file():
        return None
    try:
        settings = flat(json.loads(recipe.read_text(encoding="utf-8")))
    except (ValueError, OSError) as error:
        raise FrosterError(f"{recipe} cannot be read; give the checkpoint in the folder instead of the run.") from error
    taken = read_log(folder / "log.jsonl")
    names = dict.fromkeys(name for of_step in taken for name in of_step if name not in (*NOT_CURVES, "epoch"))
    validations = read_log(folder / "validation.jsonl", NOT_ACCURACIES)
    measured = dict.fromkeys(name for record in validations for name in record if name not in NOT_CURVES_OF_VALIDATION)
    order = [*FIRST, *(name for name in names if name not in FIRST + LAST), *LAST]
    return Run(
        recipe=settings,
        steps=[int(of_step["step"]) for of_step in taken],
        curves={name: [of_step.get(name) for of_step in taken] for name in order if name in names},
        clips=sum(int(of_step.get("clips") or 0) for of_step in taken),
        seconds=float(taken[-1].get("seconds") or 0) if taken else 0.0,
        validated=[int(record["step"]) for record in validations],
        validations={name: [record.get(name) for record in validations] for name in measured},
    )


def flat(content: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Dotted keys and their non-null values."""
    found: dict[str, Any] = {}
    for key, value in content.items():
        if isinstance(value, dict):
            found |= flat(value, f"{prefix}{key}.")
        elif value is not None:
            found[f"{prefix}{key}"] = value
    return found
