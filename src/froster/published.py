"""The papers' tables as data: which recipes make a row, and what was published of it.

One file of `data/published/` is one table or figure. Numbers that could not be read in a table of the authors are left
out: none is estimated or read off a plot.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, field_validator

from froster.errors import FrosterError, did_you_mean

Scores = dict[str, dict[str, float]]  # by column, such as {"UCF-101": {"base": 95.3, …}, "UCF": {"mean": …, "std": …}}
Protocol = Literal["base-to-novel", "cross-dataset", "trade-off"]
Figure = Literal["ensembles", "gains", "trade-off"]
NUMBER = r"\d+\.\d+"
BASE_NOVEL_HM = re.compile(rf"({NUMBER}) / ({NUMBER}) / ({NUMBER})")
SECONDHAND = "†"
SECONDHAND_LEGEND = f"{SECONDHAND}: not read in the table itself, but in another table or a summary of it."
MEAN_STD = re.compile(rf"({NUMBER})(?: ± ({NUMBER}))?")


@dataclass(frozen=True)
class Published:
    """A published row: a method, the student network that it trains ("" where we have none), and its scores.

    `descriptions`: with class descriptions in training and test. `secondhand`: see `Row`.
    """

    student: str
    method: str
    source: str
    note: str
    scores: Scores
    descriptions: bool = False
    secondhand: tuple[str, ...] = ()


class Row(BaseModel):
    """A row of a table: what is trained or tested, and the published scores in percent.

    `recipe`: of froster's own, with `{dataset}` for the name of the training set, and `changes` to it; `model`: a CLIP
    that is tested without training. Neither: a published row that we cannot reproduce. `descriptions`: trained and
    tested with class descriptions. `ensemble`: share of frozen CLIP in the sum of both outputs. `gain_over`: the row
    that it improves. `star`: the interpolation weight of CLIP that the paper reports. `secondhand`: the columns whose
    published score was not read in that table itself; they are marked wherever they are shown.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    method: str
    student: str = ""
    recipe: str | None = None
    changes: list[str] = []
    model: str | None = None
    descriptions: bool = False
    ensemble: float | None = Field(None, gt=0, lt=1)
    gain_over: str | None = None
    star: float | None = None
    source: str | None = None
    note: str = ""
    published: Scores = {}
    secondhand: list[str] = []

    def as_published(self, source: str) -> Published:
        """`source`: of the row's table."""
        return Published(
            self.student,
            self.method,
            self.source or source,
            self.note,
            self.published,
            self.descriptions,
            tuple(self.secondhand),
        )

    @field_validator("published", mode="before")
    @classmethod
    def read_scores(cls, value: Any) -> Any:
        """`84.8 ± 1.1` is a mean and a standard deviation, `95.3 / 80.0 / 87.0` base, novel and harmonic mean."""
        return {column: read_cell(str(cell)) for column, cell in value.items()}


class Table(BaseModel):
    """A table or figure of a paper.

    `datasets`: what is tested; `columns`: which of a protocol's columns, in the order of the table, by default all.
    `figure`: how it is drawn.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    title: str
    source: str
    protocol: Protocol
    train: str = "kinetics-400"
    datasets: list[str]
    columns: list[str] = []
    ratios: list[float] = []
    figure: Figure | None = None
    note: str = ""
    rows: list[Row]

    def published(self) -> list[Published]:
        """The rows with published scores."""
        return [row.as_published(self.source) for row in self.rows if row.published]


def read_cell(cell: str) -> dict[str, float]:
    """Raises `ValueError` for a cell in neither form."""
    if found := BASE_NOVEL_HM.fullmatch(cell):
        return dict(zip(("base", "novel", "hm"), map(float, found.groups()), strict=True))
    if found := MEAN_STD.fullmatch(cell):
        mean, std = found.groups()
        return {"mean": float(mean)} | ({"std": float(std)} if std else {})
    raise ValueError(f"{cell!r} is neither MEAN, MEAN ± STD nor BASE / NOVEL / HM")


@cache
def table_names() -> tuple[str, ...]:
    """The tables and figures, in the order of the papers."""
    names = [path.name.removesuffix(".yaml") for path in files("froster").joinpath("data", "published").iterdir()]
    papers = ("froster", "open-vclip", "tc-clip")
    order = {name: next(place for place, paper in enumerate(papers) if name.startswith(paper)) for name in names}
    return tuple(sorted(names, key=lambda name: (order[name], "figure" in name, name)))


@cache
def read_table(name: str) -> Table:
    """A table by name. Raises `FrosterError` that names the nearest where there is none."""
    if name not in table_names():
        raise FrosterError(f"There is no table {name!r}; {did_you_mean(name, table_names())}")
    text = files("froster").joinpath("data", "published", f"{name}.yaml").read_text(encoding="utf-8")
    return Table(name=name, **yaml.safe_load(text))


def base_to_novel() -> list[Published]:
    """Trained on 16 clips of each base class: `base`, `novel` and `hm` on K-400, HMDB-51, UCF-101 and SSv2."""
    return merge(["froster-table-1", "tc-clip-base-to-novel"])


def cross_dataset() -> list[Published]:
    """Trained on K-400 with ViT-B/16: `mean`, and `std` over splits, on UCF-101, HMDB-51 and Kinetics-600.

    UCF* and HMDB* are all videos; UCF and HMDB the three official test splits; K-600 three draws of 160 classes.
    """
    return merge(["froster-table-2", "tc-clip-cross-dataset"])


def merge(names: Sequence[str]) -> list[Published]:
    return [row for name in names for row in read_table(name).published()]
