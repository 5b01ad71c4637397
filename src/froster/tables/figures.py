"""The papers' figures, drawn from what was measured."""

import textwrap
from collections.abc import Callable

from froster.errors import FrosterError
from froster.extras import extra
from froster.protocols.results import column_of
from froster.published import Figure as FigureKind
from froster.tables.reproduce import RowResult, TableResult
from froster.tables.write import measured_score

with extra("cli", "Drawing figures"):
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#882255")  # Okabe and Ito's
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
GRAY = "#767676"
PANEL = (4.2, 3.8)  # inches
TITLE_LENGTH = 48  # characters that fit above a panel


def draw(result: TableResult) -> Figure:
    """The figure of a table. Raises `FrosterError` where what it compares was not measured."""
    kind = result.table.figure
    assert kind is not None
    return DRAWINGS[kind](result)


def panels(count: int, title: str) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(PANEL[0] * count, PANEL[1]), dpi=150, facecolor="white", layout="constrained")
    axes = figure.subplots(1, count, squeeze=False)[0]
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(axis="y", alpha=0.25)
    figure.suptitle(textwrap.fill(title, TITLE_LENGTH * count), fontsize=11)
    return figure, list(axes)


def draw_ensembles(result: TableResult) -> Figure:
    """FROSTER Fig. 1: a panel for each dataset, bars for each network and its ensemble, a line for frozen CLIP."""
    columns = [column for column in result.table.columns if any(score(of, column) is not None for of in result.rows)]
    ensembles = {of.row.gain_over: of for of in result.rows if of.row.ensemble}
    networks = [of for of in result.rows if of.row.recipe and not of.row.ensemble and of.is_measured]
    figure, axes = panels(len(columns), f"{result.table.source}: {result.table.title} (light)")
    for axis, column in zip(axes, columns, strict=True):
        for place, of_row in enumerate(networks):
            pair = (of_row, ensembles.get(of_row.row.method))
            for offset, one in zip((-0.2, 0.2), pair, strict=True):
                if one is not None and (value := score(one, column)) is not None:
                    color = COLORS[place % len(COLORS)]
                    bar = axis.bar(place + offset, value, 0.38, color=color, alpha=1 if one is of_row else 0.5)
                    axis.bar_label(bar, fmt="%.1f", fontsize=8)
        for of_row in result.rows:
            if of_row.row.model and (value := score(of_row, column)) is not None:
                axis.axhline(value, color=GRAY, linestyle="--", linewidth=1.2)
                axis.set_xlabel(f"dashed: {of_row.row.method}, {value:.1f}", fontsize=8, color=GRAY)
        axis.set_xticks(range(len(networks)), [of.row.method for of in networks], fontsize=8)
        axis.set_title(titled(result, column), fontsize=10)
        axis.set_ylabel("top-1, %")
    return figure


def draw_gains(result: TableResult) -> Figure:
    """FROSTER Fig. 5: for each dataset the relative improvement by FROSTER, a bar for each network."""
    rows = {of.row.method: of for of in result.rows}
    columns = [column for column in result.table.columns if any(score(of, column) is not None for of in result.rows)]
    figure, [axis] = panels(1, f"{result.table.source}: {result.table.title}")
    pairs = [(of.row.gain_over, rows[of.row.gain_over], of) for of in result.rows if of.row.gain_over]
    found = [(name, [relative_gain(without, of, column) for column in columns]) for name, without, of in pairs]
    found = [(name, gains) for name, gains in found if any(gain is not None for gain in gains)]
    if not found:
        raise FrosterError(f"{result.table.name}: no network was measured both with and without FROSTER.")
    figure.set_size_inches(max(PANEL[0], 1.5 + 0.9 * len(found) * len(columns) ** 0.5), PANEL[1])
    width = 0.8 / len(columns)
    for number, column in enumerate(columns):
        places = [place for place, (_, gains) in enumerate(found) if gains[number] is not None]
        heights = [gain for _, gains in found if (gain := gains[number]) is not None]
        if not heights:
            continue
        at = [place + (number - (len(columns) - 1) / 2) * width for place in places]
        bars = axis.bar(at, heights, width * 0.95, color=COLORS[number % len(COLORS)], label=titled(result, column))
        axis.bar_label(bars, fmt="%+.1f", fontsize=7)
    axis.axhline(0, color=GRAY, linewidth=0.8)
    axis.set_xticks(range(len(found)), [name for name, _ in found], fontsize=8)
    axis.set_ylabel("relative improvement, %")
    axis.legend(frameon=False, fontsize=8)
    return figure


def relative_gain(without: RowResult, with_froster: RowResult, column: str) -> float | None:
    """Improvement in percent of the score without FROSTER."""
    before, after = score(without, column), score(with_froster, column)
    return None if not before or after is None else 100 * (after - before) / before


def draw_curves(result: TableResult) -> Figure:
    """Open-VCLIP Fig. 2 and 3: zero-shot against closed set, a panel for each dataset, a curve for each row.

    A star marks the interpolation weight that the paper reports.
    """
    measured = [(of.row, of.trade_off) for of in result.rows if of.trade_off]
    columns = list(dict.fromkeys(name for _, found in measured for name in found.top1 if name != found.closed))
    figure, axes = panels(len(columns), f"{result.table.source}: {result.table.title}")
    for axis, column in zip(axes, columns, strict=True):
        for number, (row, found) in enumerate(measured):
            if column not in found.top1:
                continue
            points = sorted(zip(found.ratios, found.top1[found.closed], found.top1[column], strict=True))
            color = COLORS[number % len(COLORS)]
            axis.plot(
                [x for _, x, _ in points],
                [y for _, _, y in points],
                color=color,
                marker=MARKERS[number % len(MARKERS)],
                markersize=4,
                label=row.method,
            )
            for ratio, x, y in points:
                if ratio == row.star:
                    axis.plot([x], [y], marker="*", markersize=14, color=color, linestyle="none")
                if ratio in (points[0][0], points[-1][0]):
                    axis.annotate(f"{ratio:g}", (x, y), xytext=(4, 4), textcoords="offset points", fontsize=7)
        axis.set_title(column_of(column), fontsize=10)
        axis.set_xlabel(f"closed set: top-1 on {column_of(measured[0][1].closed)}, %")
        axis.set_ylabel("zero-shot: top-1, %")
    axes[0].legend(frameon=False, fontsize=8)
    return figure


def titled(result: TableResult, column: str) -> str:
    """The column, with the semantic distance of its classes from the training set where it was measured."""
    similarity = result.similarities.get(column)
    return column if similarity is None else f"{column} (similarity {similarity:.2f})"


def score(of_row: RowResult, column: str) -> float | None:
    found = measured_score(of_row, (column, "mean"))
    return None if found is None else found.mean


DRAWINGS: dict[FigureKind, Callable[[TableResult], Figure]] = {
    "ensembles": draw_ensembles,
    "gains": draw_gains,
    "trade-off": draw_curves,
}
