"""Where the authors keep the descriptions of a dataset's classes."""

from pathlib import Path

from froster.errors import FrosterError
from froster.protocols.base_to_novel import Halves
from froster.protocols.data import LIST_ALIASES
from froster.text.classes import ClassTexts
from froster.text.descriptions import describe_labels, merge_descriptions

ALIASES = LIST_ALIASES | {"kinetics-600": ("k600",)}
# One's own; FROSTER's `label_rephrase`; its `zs_label_db`, base and novel; its draws of Kinetics-600
PATTERNS = (
    ("{dataset}.json",),
    ("{alias}_rephrased_classes.json",),
    ("B2N_{alias}/train_rephrased.json", "B2N_{alias}/test_rephrased.json"),
    tuple(f"{{alias}}_split{draw}_rephrased_classes.json" for draw in (1, 2, 3)),
)


def find_descriptions(folder: Path, dataset: str) -> list[Path]:
    """The description files of a dataset anywhere under a folder: `DATASET.json`, or FROSTER's own.

    Raises `FrosterError` where there are none.
    """
    for patterns in PATTERNS:
        for alias in (dataset, *ALIASES.get(dataset, ())):
            names = [pattern.format(dataset=dataset, alias=alias) for pattern in patterns]
            found = [next(iter(sorted(folder.rglob(name))), None) for name in names]
            if all(found):
                return [path for path in found if path]
    wanted = [PATTERNS[0][0].format(dataset=dataset)]
    wanted += [PATTERNS[1][0].format(alias=alias) for alias in ALIASES.get(dataset, ())]
    raise FrosterError(f"{folder} has no descriptions of {dataset}: looked for {', '.join(wanted)}.")


def describe(labels: ClassTexts, files: list[Path]) -> ClassTexts:
    """The labels with the descriptions of these files, if there are any files."""
    return describe_labels(labels, merge_descriptions(files), ", ".join(map(str, files))) if files else labels


def describe_halves(halves: Halves, files: list[Path]) -> Halves:
    return Halves(describe(halves.base, files), describe(halves.novel, files))
