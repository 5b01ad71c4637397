"""`froster.sweep`: one recipe with several values of some keys, trained and compared."""

import itertools
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import TypeAdapter, ValidationError

from froster.errors import FrosterError
from froster.evaluation import evaluate
from froster.files import replace_when_written
from froster.latex import latex_table
from froster.markdown import markdown_table
from froster.mean_std import mean_std
from froster.shipped import existing_recipe
from froster.training.checkpoint import RunFolder
from froster.training.loop import train
from froster.training.metrics import COMPARED, NOT_ACCURACIES, best_validation, read_log
from froster.training.recipe import TrainRecipe, merged, read_yaml, section_of

Settings = dict[str, Any]  # dotted key -> value
NOT_IN_NAMES = re.compile(r"[^\w.+=-]+")


@dataclass(frozen=True)
class SweepRun:
    """A run of a sweep: its values of the keys that vary, its folder, and its accuracies, shares of 1.

    `error`: why it has none.
    """

    settings: Settings
    folder: Path
    accuracies: dict[str, float] = field(default_factory=dict)
    error: str | None = None


@dataclass(frozen=True)
class Sweep:
    """The runs of a sweep, in the order of the grid, and the accuracy by which they are compared, `metric`."""

    metric: str
    runs: list[SweepRun]

    @property
    def failed(self) -> list[SweepRun]:
        return [run for run in self.runs if run.error]

    def rows(self) -> list[tuple[Settings, dict[Any, float]]]:
        """The settings apart from the seed, and for each the metric in percent by seed; the order is the grid's."""
        groups: dict[str, tuple[Settings, dict[Any, float]]] = {}
        for run in self.runs:
            settings = {key: value for key, value in run.settings.items() if key != "seed"}
            _, of_seeds = groups.setdefault(json.dumps(settings), (settings, {}))
            if not run.error:
                of_seeds[run.settings.get("seed")] = 100 * run.accuracies[self.metric]
        return list(groups.values())

    def cells(self) -> tuple[list[str], list[list[str]]]:
        """Header and rows of the table.

        With several seeds: mean and std, and the difference to the first row, with its standard error, over the seeds
        that both have.
        """
        rows = self.rows()
        keys = list(dict.fromkeys(key for settings, _ in rows for key in settings))
        first = rows[0][1]
        header = [*(keys or [""]), self.metric.replace("_", " ") + ", %", "difference to the first"]
        cells = []
        for number, (settings, of_seeds) in enumerate(rows):
            values = [json.dumps(settings[key]).strip('"') for key in keys] or ["recipe"]
            measured, paired = mean_std(list(of_seeds.values())), paired_difference(of_seeds, first)
            cells.append([*values, with_spread(measured.mean, measured.std), with_spread(*paired) if number else ""])
        return header, cells

    def to_json(self) -> dict[str, Any]:
        """Everything, in plain types."""
        return {
            "metric": self.metric,
            "runs": [
                {"settings": run.settings, "folder": str(run.folder), "accuracies": run.accuracies, "error": run.error}
                for run in self.runs
            ],
        }

    def to_markdown(self) -> str:
        lines = [markdown_table(*self.cells()), ""]
        if any(len(of_seeds) > 1 for _, of_seeds in self.rows()):
            lines += [
                "±: standard deviation over seeds; of a difference, its standard error over the seeds of both.",
                "",
            ]
        lines += [f"- {describe(run.settings)} could not be trained: {run.error}" for run in self.failed]
        return "\n".join(lines).rstrip() + "\n"


def paired_difference(ours: Mapping[Any, float], others: Mapping[Any, float]) -> tuple[float, float]:
    """Mean difference over the seeds that both have, and its standard error; NaN for too few."""
    found = mean_std([ours[seed] - others[seed] for seed in ours if seed in others])
    return found.mean, found.std / math.sqrt(max(found.n, 1))


def with_spread(mean: float, spread: float) -> str:
    if math.isnan(mean):
        return "–"
    return f"{mean:.1f}" if math.isnan(spread) else f"{mean:.1f} ± {spread:.1f}"


def describe(settings: Settings) -> str:
    return ", ".join(f"{key}={json.dumps(value)}" for key, value in settings.items()) or "no changes"


def sweep(
    recipe: str | Path | Mapping[str, Any],
    grid: Mapping[str, Sequence[Any]],
    out: str | Path,
    *,
    test: str | Path | None = None,
    split: str | None = None,
    show: bool = True,
    progress: Callable[[int, int, str], None] | None = None,
    **overrides: Any,
) -> Sweep:
    """Train a recipe with all combinations of some values, and compare the models.

    `recipe` and `overrides`: as of `froster.train`. `grid`: dotted key -> values, such as `{"optimizer.learning_rate":
    [1e-5, 1e-4], "seed": [0, 1, 2]}`; rows with the same seeds are compared seed by seed. Accuracies are those of the
    recipe's validation, or of the final models on the rows of the manifest `test` whose split is `split`. `progress`
    is called with the number of runs done, of how many, and what is trained.

    `out` has a folder for each run, and sweep.json, sweep.md and sweep.tex; calling it again trains what is missing. A
    run that fails is listed with its error, the others go on. Raises `FrosterError` for an unusable recipe or grid.
    """
    content = dict(recipe) if isinstance(recipe, Mapping) else read_yaml(existing_recipe(Path(recipe)))
    return sweep_content(merged(content, overrides), grid, Path(out), test, split, show, progress)


def sweep_content(
    content: dict[str, Any],
    grid: Mapping[str, Sequence[Any]],
    out: Path,
    test: str | Path | None,
    split: str | None,
    show: bool,
    progress: Callable[[int, int, str], None] | None,
) -> Sweep:
    """`sweep` with the keys and values of a recipe."""
    if empty := [key for key, values in grid.items() if not len(values)]:
        raise FrosterError(f"The grid has no values of {empty[0]}.")
    combinations = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
    recipes = [recipe_of(content, settings) for settings in combinations]
    # As the recipe reads them: YAML takes 1e-5 for text, and 1.0e-5 for the same number.
    combinations = [canonical(recipe, settings) for recipe, settings in zip(recipes, combinations, strict=True)]
    folders = [out / (folder_name(settings) or "run") for settings in combinations]
    recipes = [recipe.model_copy(update={"out": folder}) for recipe, folder in zip(recipes, folders, strict=True)]
    if len({recipe.out for recipe in recipes}) < len(recipes):
        raise FrosterError("The grid has the same values twice; each combination is trained once.")
    if test is None and not all(recipe.validation for recipe in recipes):
        raise FrosterError("Nothing tells the runs apart: give test, a manifest, or validation in the recipe.")
    runs = list[SweepRun]()
    for number, (settings, recipe) in enumerate(zip(combinations, recipes, strict=True)):
        if progress is not None:
            progress(number, len(recipes), describe(settings))
        try:
            train(recipe, resume=True, show=show)
            runs.append(SweepRun(settings, recipe.out, measure(recipe, test, split)))
        except FrosterError as error:
            runs.append(SweepRun(settings, recipe.out, error=str(error)))
    if all(run.error for run in runs):
        raise FrosterError(f"No run could be trained; the first: {runs[0].error}")
    names = [name for name in COMPARED if any(name in run.accuracies for run in runs)]
    result = Sweep(names[0], runs)
    write_sweep(result, out)
    return result


def grid_and_overrides(content: dict[str, Any], changes: Sequence[str]) -> tuple[dict[str, list[Any]], list[str]]:
    """Of changes `key=value`, those that list several values, and the others.

    A list is a grid where the key takes no list: `seed=[0,1]`, but not `data.resize_short_side=[224,256]`, whose grid
    is a list of such lists.
    """
    grid: dict[str, list[Any]] = {}
    plain = list[str]()
    for change in changes:
        key, _, text = change.partition("=")
        values = read_value(text)
        if isinstance(values, list) and not takes_list(key, values):
            grid[key] = values
        else:
            plain.append(change)
    return grid, plain


def read_value(text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text  # `set_key` says what is wrong with it


def takes_list(key: str, values: list[Any]) -> bool:
    """Whether a key of a recipe takes this list as its value. Unknown keys do, so that they are named as such."""
    section: Any = TrainRecipe
    *parents, last = key.split(".")
    for parent in parents:
        if parent not in section.model_fields:
            return True
        section = section_of(section.model_fields[parent].annotation)
        if not hasattr(section, "model_fields"):
            return True
    if last not in section.model_fields:
        return True
    field = section.model_fields[last]
    kind: Any = Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation
    try:
        TypeAdapter(kind).validate_python(values)
    except ValidationError:
        return False
    return True


def recipe_of(content: dict[str, Any], settings: Settings) -> TrainRecipe:
    """The recipe with these values of dotted keys. Raises `FrosterError` for unusable ones."""
    changed = deepcopy(content)
    for key, value in settings.items():
        *parents, last = key.split(".")
        section = changed
        for parent in parents:
            if not isinstance(section.get(parent), dict):
                section[parent] = {}
            section = section[parent]
        section[last] = value
    changed.setdefault("out", "runs")
    return TrainRecipe.of_content(changed, f"With {describe(settings)}, the recipe")


def canonical(recipe: TrainRecipe, settings: Settings) -> Settings:
    """The settings with the values that the recipe read."""
    read = recipe.model_dump(mode="json", exclude_unset=True)
    values: Settings = {}
    for key in settings:
        value: Any = read
        for part in key.split("."):
            value = value[part]
        values[key] = value
    return values


def folder_name(settings: Settings) -> str:
    """A readable folder name, such as `optimizer.learning_rate=1e-05,seed=0`."""
    words = [f"{key}={json.dumps(value)}".replace('"', "") for key, value in settings.items()]
    return ",".join(NOT_IN_NAMES.sub("_", word) for word in words)


def measure(recipe: TrainRecipe, test: str | Path | None, split: str | None) -> dict[str, float]:
    """Accuracies of a finished run: of its final model on `test`, or of its best or last validation."""
    if test is not None:
        part = evaluate(recipe.out, test, split=split).parts["all"]
        return {"top1": part.top1, "mean_class_accuracy": part.mean_class_accuracy}
    records = read_log(RunFolder(recipe.out).validation, NOT_ACCURACIES)
    if not records:
        raise FrosterError(f"{recipe.out} has no validation; remove the folder to train it again.")
    last = recipe.validation and recipe.validation.select == "last"
    chosen = records[-1] if last else best_validation(records)
    return {name: value for name, value in chosen.items() if name not in NOT_ACCURACIES and value is not None}


def write_sweep(result: Sweep, out: Path) -> None:
    """Write sweep.json, sweep.md and sweep.tex."""
    for name, text in (
        ("sweep.json", json.dumps(result.to_json(), indent=2) + "\n"),
        ("sweep.md", result.to_markdown()),
        ("sweep.tex", latex_table(*result.cells())),
    ):
        with replace_when_written(out / name) as temporary:
            temporary.write_text(text, encoding="utf-8")
