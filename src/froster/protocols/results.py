"""A protocol's results next to the published ones, as tables and JSON."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import isnan
from pathlib import Path
from typing import Any

from froster.evaluation import Evaluation
from froster.files import printable_name, replace_when_written
from froster.markdown import markdown_table
from froster.mean_std import MeanStd
from froster.published import SECONDHAND, SECONDHAND_LEGEND, Published

# The papers' names of our datasets, and the suffix in a heading.
COLUMNS = {"Kinetics-400": "K-400", "Kinetics-600": "K-600", "Something-Something V2": "SSv2"}
KEYS = {"base": ["base"], "novel": ["novel"], "hm": ["HM"], "mean": [], "top-5": ["top-5"]}


@dataclass(frozen=True)
class PartResult:
    """One number before any mean is taken: of which data, which draw or split, and which part of the classes."""

    data: str
    draw: str
    part: str
    evaluation: Evaluation
    trained_clips: int | None = None

    def to_json(self) -> dict[str, Any]:
        trained = {} if self.trained_clips is None else {"trained_clips": self.trained_clips}
        return {"data": self.data, "draw": self.draw, "part": self.part, **trained, **self.evaluation.to_json()}


@dataclass
class Results:
    """Percentages by dataset and key, as in `published` (`scores["UCF-101"]["base"]`), and the results behind them."""

    scores: dict[str, dict[str, MeanStd]] = field(default_factory=dict)
    part_results: list[PartResult] = field(default_factory=list)
    unreadable: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, other: "Results") -> None:
        self.scores |= other.scores
        self.part_results += other.part_results
        self.unreadable += [video for video in other.unreadable if video not in self.unreadable]
        self.notes += other.notes


@dataclass(frozen=True)
class Report:
    """A protocol's outcome: `about` says what was tested and how; `published` are the rows of the papers' table.

    `keys`: the columns of a dataset, such as base, novel and hm. `reference`: the row to compare with, if any.
    """

    protocol: str
    about: dict[str, Any]
    measured: Results
    published: Sequence[Published]
    keys: tuple[str, ...]
    reference: Published | None

    def columns(self) -> list[tuple[str, str]]:
        return [(data, key) for data, found in self.measured.scores.items() for key in self.keys if key in found]

    def differences(self) -> dict[str, dict[str, float]]:
        """Measured minus published, in points, where the reference has the number."""
        found: dict[str, dict[str, float]] = {}
        for data, key in self.columns():
            theirs = self.reference.scores.get(column_of(data), {}).get(key) if self.reference else None
            if theirs is not None:
                found.setdefault(data, {})[key] = self.measured.scores[data][key].mean - theirs
        return found

    def table(self) -> tuple[list[str], list[list[str]]]:
        """Header and rows: the published methods, then this one, then the difference to the reference."""
        columns = self.columns()
        heads = [" ".join([column_of(data), *KEYS[key]]) for data, key in columns]
        rows = []
        is_listed = any(self.reference == row for row in self.published)
        extra = [self.reference] if self.reference and not is_listed else []
        for row in (*self.published, *extra):
            cells = [published_cell(row, data, key) for data, key in columns]
            if any(cell != "–" for cell in cells):
                rows.append([row.method, *cells])
        rows.append(["this run", *(measured_cell(self.measured.scores[data][key]) for data, key in columns)])
        if differences := self.differences():
            signed = [differences.get(data, {}).get(key) for data, key in columns]
            assert self.reference
            cells = ["–" if value is None else f"{value:+.1f}".replace("-", "−") for value in signed]
            rows.append([f"minus {self.reference.method}", *cells])
        return ["method", *heads], rows

    def to_json(self) -> dict[str, Any]:
        """Everything in plain types; percentages."""
        return {
            "protocol": self.protocol,
            **self.about,
            "scores": {
                data: {key: score.to_json() for key, score in of.items()} for data, of in self.measured.scores.items()
            },
            "reference": self.reference
            and {"method": self.reference.method, "source": self.reference.source, "scores": self.reference.scores},
            "differences": self.differences(),
            "results": [result.to_json() for result in self.measured.part_results],
            "notes": self.measured.notes,
            "unreadable": [{"video": video, "reason": reason} for video, reason in self.measured.unreadable],
        }

    def markdown(self) -> str:
        header, rows = self.table()
        sources = list(dict.fromkeys(row.source for row in self.published if any(row.method == r[0] for r in rows)))
        lines = [f"# {self.protocol}", "", *about_lines(self.about), ""]
        lines += [markdown_table(header, rows), ""]
        if sources:
            lines += [f"Published: {'; '.join(sources)}.", ""]
        if any(SECONDHAND in cell for row in rows for cell in row):
            lines += [SECONDHAND_LEGEND, ""]
        lines += [f"- {note}" for note in self.measured.notes]
        if self.measured.unreadable:
            lines.append(f"- {videos_text(len(self.measured.unreadable))} could not be read; report.json lists them.")
        top5 = [n for n in self.measured.part_results if n.evaluation.top5 is not None]
        lines += [
            "",
            "## Results behind the means",
            "",
            markdown_table(*part_table(self.measured.part_results, bool(top5))),
        ]
        return "\n".join(lines) + "\n"

    def write(self, out: Path) -> list[Path]:
        """Write `report.md` and `report.json` into `out`, whole or not at all; returns them."""
        texts = {
            out / "report.md": self.markdown(),
            out / "report.json": json.dumps(self.to_json(), indent=2, ensure_ascii=False, allow_nan=False) + "\n",
        }
        for path, text in texts.items():
            with replace_when_written(path) as temporary:
                temporary.write_text(printable_name(text), encoding="utf-8")
        return list(texts)


def videos_text(number: int) -> str:
    return "1 video" if number == 1 else f"{number} videos"


def column_of(data: str) -> str:
    return COLUMNS.get(data, data)


def measured_cell(score: MeanStd) -> str:
    return f"{score.mean:.1f}" if isnan(score.std) else f"{score.mean:.1f} ± {score.std:.1f}"


def published_cell(row: Published, data: str, key: str) -> str:
    found = row.scores.get(column_of(data), {})
    if key not in found:
        return "–"
    mark = SECONDHAND * (column_of(data) in row.secondhand)
    return (f"{found[key]:.1f} ± {found['std']:.1f}" if "std" in found else f"{found[key]:.1f}") + mark


def part_table(results: Sequence[PartResult], top5: bool) -> tuple[list[str], list[list[str]]]:
    header = ["data", "", "classes", "number of classes", "clips", "top-1", *(["top-5"] if top5 else [])]
    rows = []
    for result in results:
        found = result.evaluation
        fifth = "–" if found.top5 is None else f"{100 * found.top5:.1f}"
        rows.append(
            [result.data, result.draw, result.part, str(found.classes), str(found.clips), f"{100 * found.top1:.1f}"]
            + ([fifth] if top5 else [])
        )
    return header, rows


def about_lines(about: dict[str, Any]) -> list[str]:
    return [f"- {key}: {plain(value)}" for key, value in about.items()]


def plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {plain(v)}" for key, v in value.items() if v is not None)
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
