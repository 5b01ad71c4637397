"""What the papers report of each method: top-1 in per cent, ViT-B/16 but where a note says otherwise.

`data/published/*.csv` name the table that every number was read from. What we could not read in a table of the authors
is left out: no number is estimated, or read off a plot.
"""

import csv
from dataclasses import dataclass
from importlib.resources import files

Scores = dict[str, dict[str, float]]  # by dataset


@dataclass(frozen=True)
class Published:
    """A row of a paper's table: a method, the network of ours that it trains, and its scores."""

    student: str
    method: str
    source: str
    note: str
    scores: Scores


def base_to_novel() -> list[Published]:
    """Trained on 16 clips of each base class: `base`, `novel` and `hm` on K-400, HMDB-51, UCF-101 and SSv2."""
    return read_table("base-to-novel")


def cross_dataset() -> list[Published]:
    """Trained on K-400: `mean`, and `std` over splits, on UCF-101, HMDB-51 and Kinetics-600.

    UCF* and HMDB* are all videos; UCF and HMDB the three official test splits; K-600 three draws of 160 classes.
    """
    return read_table("cross-dataset")


def read_table(name: str) -> list[Published]:
    """A column is called `DATA SET KEY`; an empty cell was not published."""
    text = files("froster").joinpath("data", "published", f"{name}.csv").read_text(encoding="utf-8")
    rows = []
    for row in csv.DictReader(text.splitlines()):
        student, method, source, note = (row.pop(key) for key in ("student", "method", "source", "note"))
        scores: Scores = {}
        for column, value in row.items():
            data, key = column.rsplit(" ", 1)
            if value:
                scores.setdefault(data, {})[key] = float(value)
        rows.append(Published(student, method, source, note, scores))
    return rows
