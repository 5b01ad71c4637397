"""Write a timeline: a plot (PNG), one row per window (CSV), and the segments (JSON)."""

import csv
import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from froster.extras import extra
from froster.files import csv_cell, printable_name, replace_when_written
from froster.timeline.segments import TIME_TOLERANCE, Segment, Threshold, WindowScores

with extra("cli", "Drawing a timeline"):
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, MaxNLocator

MAX_LINES = 5  # labels in the plot
MAX_POINTS = 400  # per line; in a longer timeline each point is the maximum over several windows
# Okabe and Ito's palette, safe for color blindness.
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00")
INK, GRAY, LIGHT = "#222222", "#767676", "#e3e3e3"


def write_timeline(
    out: Path,
    title: str,
    windows: Sequence[WindowScores],
    labels: Sequence[str],
    segments: Sequence[Segment],
    threshold: Threshold,
    complete: bool = True,
    raw_csv: bool = False,
) -> list[Path]:
    """Write `out`.png, `out`.csv and `out`.json; returns their paths.

    `complete`: whether the video was read to its end (for the JSON). `raw_csv`: do not escape cells that a spreadsheet
    would run as formulas (otherwise prefixed with ').

    The CSV has one row per window: start and end in seconds, its label (empty for none), the score and the similarity
    of every label (empty in a gap). The label is the one before smoothing (step 2 of `SegmentFinder`), so it may differ
    from the segment.
    """
    png, table, data = (out.with_name(f"{out.name}.{suffix}") for suffix in ("png", "csv", "json"))
    with replace_when_written(png) as temporary:
        draw_timeline(title, windows, labels, segments, threshold).savefig(temporary)
    cell = str if raw_csv else csv_cell
    with replace_when_written(table) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["start", "end", "label", *map(cell, labels), *(f"similarity: {label}" for label in labels)])
        for window in windows:
            best = threshold.predict_label(window)
            values = [] if window.is_gap else [f"{value:.6f}" for value in (*window.scores, *window.similarities)]
            row = [f"{window.start:.3f}", f"{window.end:.3f}", "" if best is None else cell(labels[best])]
            rows.writerow([*row, *(values or [""] * 2 * len(labels))])
    content = {
        "video": title,
        "labels": list(labels),
        "threshold": asdict(threshold),
        "seconds": windows[-1].end,
        "complete": complete,
        "segments": [asdict(segment) for segment in segments],
        "gaps": gaps_in(windows),
    }
    with replace_when_written(data) as temporary:
        temporary.write_text(printable_name(json.dumps(content, ensure_ascii=False, indent=2)) + "\n", encoding="utf-8")
    return [png, table, data]


def gaps_in(windows: Sequence[WindowScores]) -> list[tuple[float, float]]:
    """(start, end) in seconds of every part that cannot be decoded; overlapping windows are merged."""
    gaps = list[tuple[float, float]]()
    for window in windows:
        if window.is_gap:
            joins = bool(gaps) and window.start <= gaps[-1][1]
            gaps[-1:] = [(gaps[-1][0], window.end)] if joins else [*gaps[-1:], (window.start, window.end)]
    return gaps


def clock(seconds: float, tenths: bool = False) -> str:
    """Minutes and seconds, `02:05`, or `1:02:05` from an hour on."""
    whole = round(10 * seconds) if tenths else 10 * round(seconds)
    minutes, rest = divmod(whole, 600)
    hours, minutes = divmod(minutes, 60)
    end = f"{rest / 10:04.1f}" if tenths else f"{rest // 10:02d}"
    return f"{hours}:{minutes:02d}:{end}" if hours else f"{minutes:02d}:{end}"


def draw_timeline(
    title: str,
    windows: Sequence[WindowScores],
    labels: Sequence[str],
    segments: Sequence[Segment],
    threshold: Threshold,
) -> Figure:
    """Plot the labels with the longest segments or highest peaks as lines, segments as bars below, gaps in gray."""
    values = np.stack([threshold.values(window) for window in windows])  # (M, K)
    shown = labels_to_show(values, labels, segments)
    figure = Figure(figsize=(11.5, 3.6 + 0.32 * len(shown)), dpi=110, facecolor="white", layout="constrained")
    scores_axis, segments_axis = figure.subplots(2, 1, sharex=True, height_ratios=[3.2, 0.36 * len(shown)])
    figure.suptitle(printable_name(title), fontsize=12, fontweight="bold", x=0.01, ha="left", parse_math=False)

    times, points = downsample(np.array([(window.start + window.end) / 2 for window in windows]), values)
    marker = "." if len(times) < 3 else None
    for number, color in zip(shown, COLORS, strict=False):
        line = points[:, number]
        above_threshold = np.convolve(line > threshold.value, [1, 1, 1])[1:-1] > 0  # with one point on each side
        scores_axis.plot(times, line, color=color, lw=1.2, marker=marker, alpha=0.45)
        scores_axis.plot(times, np.where(above_threshold, line, np.nan), color=color, lw=1.8, solid_capstyle="round")
    scores_axis.axhline(threshold.value, color=INK, lw=1, ls=(0, (4, 3)))
    scores_axis.annotate(
        "threshold: none of these below",
        (1, threshold.value),
        xycoords=("axes fraction", "data"),
        xytext=(-4, 3),
        textcoords="offset points",
        ha="right",
        fontsize=8,
        color=INK,
        bbox={"facecolor": "white", "alpha": 0.8, "linewidth": 0, "pad": 1},
    )
    scores_axis.set_ylabel(
        "cosine similarity" if threshold.measure == "similarity" else "contrast to other actions", color=GRAY
    )
    scores_axis.grid(axis="y", color=LIGHT, lw=0.8)

    rows = {name: row for row, name in enumerate(shown.values())}
    for segment in segments:
        if segment.label in rows:
            row = rows[segment.label]
            width = segment.end - segment.start
            segments_axis.barh(row, width, left=segment.start, height=0.62, color=COLORS[row], linewidth=0)
    segments_axis.set_ylim(len(rows) - 0.4, -0.6)
    segments_axis.set_yticks(range(len(rows)), [shorten(name) for name in rows], fontsize=9, parse_math=False)
    for tick, color in zip(segments_axis.get_yticklabels(), COLORS, strict=False):
        tick.set_color(color)
    for row in range(len(rows)):
        segments_axis.axhline(row, color=LIGHT, lw=0.8, zorder=0)

    for start, end in gaps_in(windows):
        scores_axis.axvspan(start, end, color=LIGHT, lw=0, zorder=0)
        segments_axis.axvspan(start, end, color=LIGHT, lw=0, zorder=0)
        scores_axis.text(
            (start + end) / 2,
            0.98,
            "gap",
            transform=scores_axis.get_xaxis_transform(),
            ha="center",
            va="top",
            fontsize=8,
        )
    format_time_axis(segments_axis, windows[-1].end)
    for axis in (scores_axis, segments_axis):
        axis.spines[:].set_visible(False)
        axis.tick_params(length=0, colors=GRAY, labelsize=9)
    for tick, color in zip(segments_axis.get_yticklabels(), COLORS, strict=False):
        tick.set_color(color)
    return figure


def labels_to_show(values: NDArray[np.float32], labels: Sequence[str], segments: Sequence[Segment]) -> dict[int, str]:
    """At most `MAX_LINES` labels by index, in order: those with the longest segments, then the highest peaks."""
    seconds = dict.fromkeys(labels, 0.0)
    for segment in segments:
        seconds[segment.label] += segment.end - segment.start
    peaks = np.nanmax(values, axis=0, initial=-math.inf)
    order = sorted(range(len(labels)), key=lambda number: (-seconds[labels[number]], -peaks[number]))
    return {number: labels[number] for number in sorted(order[:MAX_LINES])}


def downsample(
    times: NDArray[np.float64], values: NDArray[np.float32]
) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """At most `MAX_POINTS` points: the maximum over consecutive windows, NaN where one of them is a gap."""
    step = -(-len(times) // MAX_POINTS)
    starts = np.arange(0, len(times), step)
    return times[np.minimum(starts + step // 2, len(times) - 1)], np.maximum.reduceat(values, starts, axis=0)


def format_time_axis(axis: Axes, end: float) -> None:
    steps = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14_400, 43_200, 86_400)
    step = next((step for step in steps if end / step <= 10), None)
    if end <= 5 or step is None:
        axis.xaxis.set_major_locator(MaxNLocator(10))
    else:
        axis.set_xticks(np.arange(0, end + TIME_TOLERANCE, step))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda seconds, _: clock(seconds, tenths=end <= 5)))
    axis.set_xlim(0, end)


def shorten(name: str) -> str:
    return name if len(name) <= 28 else f"{name[:27].rstrip()}…"
