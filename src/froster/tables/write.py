"""A table as Markdown, LaTeX and JSON: measured, published, difference."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from math import isnan
from pathlib import Path
from typing import Any

from froster.errors import FrosterError
from froster.files import printable_name, replace_when_written
from froster.latex import SIGNS, latex_table
from froster.markdown import markdown_table
from froster.mean_std import MeanStd
from froster.protocols.results import KEYS, column_of
from froster.published import SECONDHAND, SECONDHAND_LEGEND, Row
from froster.tables.reproduce import RowResult, TableResult

Column = tuple[str, str]  # column of the table as the paper calls it, and which of its scores: base, novel, hm, mean
DASH = "–"
LEGEND = "Cells: measured, in brackets the published number and the difference to it; –: not measured."
LATEX_SIGNS = {SECONDHAND: r"$^\dagger$", **SIGNS}


def columns_of(result: TableResult) -> list[Column]:
    """The columns of the table in the paper's order, whether measured or not."""
    table = result.table
    if table.protocol == "base-to-novel":
        names = [column_of(data) for of_row in result.rows for data in of_row.results.scores]
        published = [column for row in table.rows for column in row.published]
        return [(name, key) for name in dict.fromkeys([*published, *names]) for key in ("base", "novel", "hm")]
    return [(column, "mean") for column in table.columns]


def measured_score(of_row: RowResult, column: Column) -> MeanStd | None:
    """The score of a column such as `K-600` or `K-600 top-5`."""
    name, key = column
    for data, scores in of_row.results.scores.items():
        if column_of(data) == name:
            return scores.get(key)
        if name.startswith(f"{column_of(data)} "):
            return scores.get(name.removeprefix(f"{column_of(data)} "))
    return None


def difference(measured: MeanStd | None, published: float | None) -> float | None:
    """Measured minus published, in points."""
    return None if measured is None or published is None else measured.mean - published


def published_score(row: Row, column: Column) -> float | None:
    return row.published.get(column[0], {}).get(column[1])


def cell_text(of_row: RowResult, column: Column) -> str:
    measured, published = measured_score(of_row, column), published_score(of_row.row, column)
    text = DASH if measured is None else score_text(measured.mean, None if isnan(measured.std) else measured.std)
    if published is None:
        return text
    brackets = published_text(of_row.row, column)
    delta = difference(measured, published)
    return f"{text} ({brackets})" if delta is None else f"{text} ({brackets}, {signed(delta)})"


def published_text(row: Row, column: Column) -> str:
    """The published number, with a mark where it is second-hand; "" where there is none."""
    published = published_score(row, column)
    if published is None:
        return ""
    return score_text(published, row.published[column[0]].get("std")) + SECONDHAND * (column[0] in row.secondhand)


def score_text(mean: float, std: float | None) -> str:
    return f"{mean:.1f}" if std is None else f"{mean:.1f} ± {std:.1f}"


def signed(value: float) -> str:
    return f"{value:+.1f}".replace("-", "−")


def heads_and_rows(result: TableResult) -> tuple[list[str], list[list[str]]]:
    """Header and cells; of a trade-off a row for each curve and interpolation weight."""
    if result.table.protocol == "trade-off":
        return trade_off_rows(result)
    columns = columns_of(result)
    heads = [" ".join([name, *KEYS[key]]) for name, key in columns]
    rows = [[of_row.row.method, *(cell_text(of_row, column) for column in columns)] for of_row in result.rows]
    return ["method", *heads], rows


def long_rows(result: TableResult) -> tuple[list[str], list[list[str]]]:
    """Header and rows for a terminal: a line for each measured cell, or for each point of a trade-off."""
    if result.table.protocol == "trade-off":
        return trade_off_rows(result)
    rows = []
    for of_row in result.rows:
        for column in columns_of(result):
            measured, published = measured_score(of_row, column), published_score(of_row.row, column)
            if measured is not None:
                std = None if isnan(measured.std) else measured.std
                delta = difference(measured, published)
                shown = published_text(of_row.row, column).partition(" ± ")[0]
                cells = [shown or DASH, DASH if delta is None else signed(delta)]
                head = " ".join([column[0], *KEYS[column[1]]])
                rows.append([of_row.row.method, head, score_text(measured.mean, std), *cells])
    return ["method", "column", "measured", "published", "difference"], rows


def trade_off_rows(result: TableResult) -> tuple[list[str], list[list[str]]]:
    measured = [(of_row.row.method, of_row.trade_off) for of_row in result.rows if of_row.trade_off]
    columns = list(dict.fromkeys(column for _, found in measured for column in found.top1))
    rows = [
        [method, f"{ratio:g}", *(f"{found.top1[column][place]:.1f}" for column in columns)]
        for method, found in measured
        for place, ratio in enumerate(found.ratios)
    ]
    return ["method", "weight of CLIP", *map(column_of, columns)], rows


def to_markdown(result: TableResult) -> str:
    table = result.table
    header, rows = heads_and_rows(result)
    lines = [f"# {table.source}: {table.title}", "", markdown_table(header, rows), ""]
    if table.protocol != "trade-off":
        lines += [LEGEND, ""]
    lines += [f"- {note}" for note in notes_of(result)]
    return "\n".join(lines).rstrip() + "\n"


def notes_of(result: TableResult) -> list[str]:
    """What is to be said of the table, of its rows, and of what went wrong."""
    notes = list(result.notes)
    notes += [SECONDHAND_LEGEND] if any(of_row.row.secondhand for of_row in result.rows) else []
    for of_row in result.rows:
        row = of_row.row
        notes += [f"{row.method}: {row.note}."] if row.note else []
        notes += [f"{row.method} could not be measured: {of_row.error}"] if of_row.error else []
        notes += of_row.results.notes + (of_row.trade_off.notes if of_row.trade_off else [])
    return list(dict.fromkeys(notes))


def to_latex(result: TableResult) -> str:
    """The table with its title and legend in comments."""
    legend = "" if result.table.protocol == "trade-off" else f" {LEGEND}"
    return f"% {result.table.source}: {result.table.title}.{legend}\n" + latex_table(
        *heads_and_rows(result), LATEX_SIGNS
    )


def to_json(result: TableResult) -> dict[str, Any]:
    """Everything in plain types; percentages."""
    table = result.table
    return {
        "table": table.name,
        "title": table.title,
        "source": table.source,
        "columns": [list(column) for column in columns_of(result)],
        "rows": [row_to_json(of_row, columns_of(result)) for of_row in result.rows],
        "similarities": result.similarities,
        "notes": result.notes,
    }


def row_to_json(of_row: RowResult, columns: Sequence[Column]) -> dict[str, Any]:
    row, results = of_row.row, of_row.results
    cells: dict[str, dict[str, Any]] = {}
    for column in columns:
        measured, published = measured_score(of_row, column), published_score(row, column)
        cells.setdefault(column[0], {})[column[1]] = {
            "measured": measured and measured.to_json(),
            "published": published,
            "secondhand": column[0] in row.secondhand,
            "difference": difference(measured, published),
        }
    return {
        "method": row.method,
        "recipe": row.recipe,
        "model": row.model,
        "note": row.note,
        "error": of_row.error or None,
        "cells": cells,
        "trade_off": of_row.trade_off and asdict(of_row.trade_off),
        "results": [result.to_json() for result in results.part_results],
        "notes": results.notes,
        "unreadable": [{"video": video, "reason": reason} for video, reason in results.unreadable],
    }


def write_table(result: TableResult, out: Path) -> list[Path]:
    """Write `NAME.md`, `.tex` and `.json`, and of a figure `.png`, into `out`, each whole or not at all."""
    name = result.table.name
    texts = {
        out / f"{name}.md": to_markdown(result),
        out / f"{name}.tex": to_latex(result),
        out / f"{name}.json": json.dumps(to_json(result), indent=2, ensure_ascii=False, allow_nan=False) + "\n",
    }
    for path, text in texts.items():
        with replace_when_written(path) as temporary:
            temporary.write_text(printable_name(text), encoding="utf-8")
    if result.table.figure is None or not any(of_row.is_measured for of_row in result.rows):
        return [*texts]
    from froster.tables.figures import draw  # needs the extra `cli`

    try:
        figure = draw(result)
    except FrosterError:  # not enough rows are measured yet for a picture
        return [*texts]
    picture = out / f"{name}.png"
    with replace_when_written(picture) as temporary:
        figure.savefig(temporary, format="png")
    return [*texts, picture]
