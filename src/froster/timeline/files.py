"""A timeline as files: a plot, a table with a row a window, and its segments."""

import csv
import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from froster.extras import extra
from froster.files import csv_cell, replace_when_written
from froster.timeline.segments import Moment, Segment, Threshold

with extra("cli", "Drawing a timeline"):
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, MaxNLocator

LINES = 5  # labels drawn
POINTS = 400  # of a line; of a longer timeline each point is the highest of several windows
# Okabe and Ito's colours, told apart without seeing red and green.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00")
INK, GREY, FAINT = "#222222", "#767676", "#e3e3e3"


def write_timeline(
    out: Path,
    title: str,
    moments: Sequence[Moment],
    labels: Sequence[str],
    segments: Sequence[Segment],
    threshold: Threshold,
    complete: bool = True,
    raw_csv: bool = False,
) -> list[Path]:
    """Write `out`.png, `out`.csv and `out`.json; returns them.

    `complete`: whether the video was read to its end, for the JSON. `raw_csv`: keep cells that a spreadsheet would run
    as they are, rather than with a ' before them.

    The CSV has a row a window: start and end in seconds, the label it is named after, empty for none of them, the score
    of every label, and the similarity of every label; scores and similarities are empty in a gap. Its label is that
    before smoothing, segments are found after it (step 2 of `SegmentFinder`), so the two may differ.
    """
    png, table, data = (out.with_name(f"{out.name}.{suffix}") for suffix in ("png", "csv", "json"))
    with replace_when_written(png) as temporary:
        draw_timeline(title, moments, labels, segments, threshold).savefig(temporary)
    cell = str if raw_csv else csv_cell
    with replace_when_written(table) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["start", "end", "label", *map(cell, labels), *(f"similarity: {label}" for label in labels)])
        for moment in moments:
            named = threshold.named(moment)
            values = [] if moment.is_gap else [f"{value:.6f}" for value in (*moment.scores, *moment.similarities)]
            row = [f"{moment.start:.3f}", f"{moment.end:.3f}", "" if named is None else cell(labels[named])]
            rows.writerow([*row, *(values or [""] * 2 * len(labels))])
    content = {
        "video": title,
        "labels": list(labels),
        "threshold": asdict(threshold),
        "seconds": moments[-1].end,
        "complete": complete,
        "segments": [asdict(segment) for segment in segments],
        "gaps": gaps_in(moments),
    }
    with replace_when_written(data) as temporary:
        temporary.write_text(json.dumps(content, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
    return [png, table, data]


def gaps_in(moments: Sequence[Moment]) -> list[tuple[float, float]]:
    """(start, end) in seconds of every stretch whose windows cannot be decoded; windows that overlap are merged."""
    gaps = list[tuple[float, float]]()
    for moment in moments:
        if moment.is_gap:
            joins = bool(gaps) and moment.start <= gaps[-1][1]
            gaps[-1:] = [(gaps[-1][0], moment.end)] if joins else [*gaps[-1:], (moment.start, moment.end)]
    return gaps


def clock(seconds: float, tenths: bool = False) -> str:
    """Minutes and seconds, `02:05`, with hours where there are any, `1:02:05`."""
    whole = round(10 * seconds) if tenths else 10 * round(seconds)
    minutes, rest = divmod(whole, 600)
    hours, minutes = divmod(minutes, 60)
    end = f"{rest / 10:04.1f}" if tenths else f"{rest // 10:02d}"
    return f"{hours}:{minutes:02d}:{end}" if hours else f"{minutes:02d}:{end}"


def draw_timeline(
    title: str, moments: Sequence[Moment], labels: Sequence[str], segments: Sequence[Segment], threshold: Threshold
) -> Figure:
    """Lines of the labels that are seen longest, or score highest; below, a bar a segment; gaps are grey."""
    values = np.stack([threshold.values(moment) for moment in moments])  # (M, K)
    shown = labels_to_show(values, labels, segments)
    figure = Figure(figsize=(11.5, 3.6 + 0.32 * len(shown)), dpi=110, facecolor="white", layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3.2, 0.36 * len(shown)])
    figure.suptitle(title, fontsize=12, fontweight="bold", x=0.01, ha="left", parse_math=False)

    times, points = thinned(np.array([(moment.start + moment.end) / 2 for moment in moments]), values)
    marker = "." if len(times) < 3 else None
    for number, colour in zip(shown, COLOURS, strict=False):
        line = points[:, number]
        named = np.convolve(line > threshold.value, [1, 1, 1])[1:-1] > 0  # with the way up and down
        above.plot(times, line, color=colour, lw=1.2, marker=marker, alpha=0.45)
        above.plot(times, np.where(named, line, np.nan), color=colour, lw=1.8, solid_capstyle="round")
    above.axhline(threshold.value, color=INK, lw=1, ls=(0, (4, 3)))
    above.annotate(
        "none of these below",
        (1, threshold.value),
        xycoords=("axes fraction", "data"),
        xytext=(-4, 3),
        textcoords="offset points",
        ha="right",
        fontsize=8,
        color=INK,
        bbox={"facecolor": "white", "alpha": 0.8, "linewidth": 0, "pad": 1},
    )
    above.set_ylabel("cosine similarity" if threshold.of == "similarity" else "contrast to other actions", color=GREY)
    above.grid(axis="y", color=FAINT, lw=0.8)

    rows = {name: row for row, name in enumerate(shown.values())}
    for segment in segments:
        if segment.label in rows:
            row = rows[segment.label]
            width = segment.end - segment.start
            below.barh(row, width, left=segment.start, height=0.62, color=COLOURS[row], linewidth=0)
    below.set_ylim(len(rows) - 0.4, -0.6)
    below.set_yticks(range(len(rows)), [shorten(name) for name in rows], fontsize=9, parse_math=False)
    for tick, colour in zip(below.get_yticklabels(), COLOURS, strict=False):
        tick.set_color(colour)
    for row in range(len(rows)):
        below.axhline(row, color=FAINT, lw=0.8, zorder=0)

    for start, end in gaps_in(moments):
        above.axvspan(start, end, color=FAINT, lw=0, zorder=0)
        below.axvspan(start, end, color=FAINT, lw=0, zorder=0)
        above.text(
            (start + end) / 2, 0.98, "gap", transform=above.get_xaxis_transform(), ha="center", va="top", fontsize=8
        )
    axis_of_time(below, moments[-1].end)
    for axis in (above, below):
        axis.spines[:].set_visible(False)
        axis.tick_params(length=0, colors=GREY, labelsize=9)
    for tick, colour in zip(below.get_yticklabels(), COLOURS, strict=False):
        tick.set_color(colour)
    return figure


def labels_to_show(values: NDArray[np.float32], labels: Sequence[str], segments: Sequence[Segment]) -> dict[int, str]:
    """At most `LINES` labels by number, in order: those seen longest, then those with the highest peaks."""
    seconds = dict.fromkeys(labels, 0.0)
    for segment in segments:
        seconds[segment.label] += segment.end - segment.start
    peaks = np.nanmax(values, axis=0, initial=-math.inf)
    order = sorted(range(len(labels)), key=lambda number: (-seconds[labels[number]], -peaks[number]))
    return {number: labels[number] for number in sorted(order[:LINES])}


def thinned(times: NDArray[np.float64], values: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """At most `POINTS` points: the highest value of each run of windows. NaN where a run holds a gap."""
    step = -(-len(times) // POINTS)
    starts = np.arange(0, len(times), step)
    return times[np.minimum(starts + step // 2, len(times) - 1)], np.maximum.reduceat(values, starts, axis=0)


def axis_of_time(axis: Axes, end: float) -> None:
    steps = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14_400, 43_200, 86_400)
    step = next((step for step in steps if end / step <= 10), None)
    if end <= 5 or step is None:
        axis.xaxis.set_major_locator(MaxNLocator(10))
    else:
        axis.set_xticks(np.arange(0, end + TICK, step))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda seconds, _: clock(seconds, tenths=end <= 5)))
    axis.set_xlim(0, end)


def shorten(name: str) -> str:
    return name if len(name) <= 28 else f"{name[:27].rstrip()}…"


TICK = 0.001
