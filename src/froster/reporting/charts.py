"""Confusion matrices and training curves as inline SVG, with the page's light and dark colors."""

import math
import unicodedata
from collections.abc import Sequence
from html import escape

import numpy as np
from numpy.typing import NDArray

from froster.evaluation import Evaluation, ScoredPart

MAX_CLASSES = 30  # of a matrix; beyond, the most confused are shown
MAX_LETTERS = 26  # of a class name next to a matrix
LETTER_WIDTH = 6.9  # pixels, for 12-pixel text
MAX_POINTS = 300  # of a curve; longer ones are averaged

Counts = NDArray[np.int64]


def count_confusions(part: ScoredPart) -> Counts:
    """Confusion matrix `(K, K)`: true classes in rows, predictions in columns."""
    classes = part.scores.shape[1]
    pairs = part.targets * classes + part.scores.argmax(dim=1)
    return pairs.bincount(minlength=classes * classes).view(classes, classes).numpy()


def classes_shown(counts: Counts, evaluation: Evaluation, names: Sequence[str]) -> list[int]:
    """All classes, or the most confused of many, with frequently confused ones adjacent."""
    if len(counts) <= MAX_CLASSES:
        return list(range(len(counts)))
    places = {name: place for place, name in enumerate(names)}
    shown: dict[int, None] = {}
    for truth, predicted, _ in evaluation.confusions:
        pair = dict.fromkeys((places[truth], places[predicted]))
        if len(shown | pair) <= MAX_CLASSES:
            shown |= pair
    return list(shown)


def confusion_matrix(counts: Counts, shown: Sequence[int], names: Sequence[str]) -> str:
    """The classes `shown`, true classes in rows, predictions in columns; the last column has all other predictions."""
    block = counts[np.ix_(shown, shown)]
    totals = counts[shown].sum(axis=1)
    others = totals - block.sum(axis=1)
    columns = [shortened(names[k]) for k in shown]
    said = [names[k] for k in shown]
    if others.any():
        block = np.concatenate([block, others[:, None]], axis=1)
        columns.append("others")
        said.append("others")
    cell = 40 if len(shown) <= 12 else 27
    left = round(LETTER_WIDTH * max(map(letters, columns))) + 14
    reaches = [math.sqrt(0.5) * LETTER_WIDTH * letters(name) for name in columns]  # of slanting names, across and up
    top = round(max(reaches)) + 22
    across = max(cell * (place + 0.5) + reach for place, reach in enumerate(reaches))
    width = left + max(cell * len(columns), round(across) + 12) + 8
    height = top + cell * len(shown) + 8
    right = sum(int(counts[k, k]) for k in shown)
    told = f"Confusion matrix of {len(shown)} classes: {right} of {totals.sum()} videos on its diagonal are right."
    out = [
        f'<svg class="matrix" width="{width}" height="{height}" viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="{escape(told)}">'
    ]
    for place, name in enumerate(columns):
        x = left + cell * (place + 0.5) + 3
        full = escape(said[place])
        out.append(
            f'<text transform="translate({x:g} {top - 7}) rotate(-45)">{escape(name)}<title>{full}</title></text>'
        )
    for row, k in enumerate(shown):
        y = top + cell * row
        full = escape(names[k])
        middle = y + cell / 2 + 4
        out.append(
            f'<text x="{left - 8}" y="{middle:g}" text-anchor="end">{escape(shortened(names[k]))}'
            f"<title>{full}</title></text>"
        )
        for column, number in enumerate(block[row].tolist()):
            x = left + cell * column
            if not number:
                out.append(f'<rect class="none" x="{x}" y="{y}" width="{cell - 2}" height="{cell - 2}"/>')
                continue
            kind = "right" if column == row else "wrong"
            opacity = 0.14 + 0.42 * number / totals[row]
            what = f"{full}, predicted as {escape(said[column])}: {number} of {totals[row]}"
            out.append(
                f'<g><title>{what}</title><rect class="{kind}" x="{x}" y="{y}" width="{cell - 2}" '
                f'height="{cell - 2}" fill-opacity="{opacity:.2f}"/><text x="{x + cell / 2 - 1:g}" y="{middle - 1:g}" '
                f'text-anchor="middle">{number}</text></g>'
            )
    return "".join([*out, "</svg>"])


def letters(text: str) -> int:
    """Width in Latin letters; Chinese characters count as two."""
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text)


def shortened(name: str) -> str:
    if letters(name) <= MAX_LETTERS:
        return name
    while letters(name) >= MAX_LETTERS:
        name = name[:-1]
    return f"{name.rstrip()}…"


def curve(name: str, steps: Sequence[int], values: Sequence[float | None]) -> str:
    """One quantity per step; missing values (NaN) leave gaps."""
    x, y = averaged(np.array(steps, np.float64), np.array([math.nan if v is None else v for v in values], np.float64))
    known = y[~np.isnan(y)]
    if not len(known):
        return ""
    low, high = float(known.min()), float(known.max())
    left, right, top, bottom = 58, 312, 12, 118
    span = high - low

    def place(step: float, value: float) -> tuple[float, float]:
        across = (step - x[0]) / (x[-1] - x[0]) if len(x) > 1 else 0.5
        up = (value - low) / span if span else 0.5
        return left + across * (right - left), bottom - up * (bottom - top)

    lines = [("raw", y)]
    if name != "learning rate" and len(known) >= 15:
        lines.append(("mean", smoothed(y)))
    else:
        lines = [("mean", y)]
    first_last = f"first {figure(known[0])}, last {figure(known[-1])}"
    told = f"{name}: {first_last}, from {figure(low)} to {figure(high)}."
    out = [f'<svg class="curve" viewBox="0 0 320 140" role="img" aria-label="{escape(told)}">']
    for value, height in ((high, top), (low, bottom)) if span else ((low, (top + bottom) / 2),):
        out.append(f'<line class="rule" x1="{left}" y1="{height}" x2="{right}" y2="{height}"/>')
        out.append(f'<text x="{left - 6}" y="{height + 4}" text-anchor="end">{figure(value)}</text>')
    ends = [("start", left, steps[0]), ("end", right, steps[-1])] if len(x) > 1 else [("middle", 185, steps[0])]
    for anchor, across, step in ends:
        words = f"step {step}" if anchor != "end" else f"{step}"
        out.append(f'<text x="{across}" y="{bottom + 17}" text-anchor="{anchor}">{words}</text>')
    for kind, of_line in lines:
        runs: list[list[tuple[float, float]]] = [[]]
        for step, value in zip(x.tolist(), of_line.tolist(), strict=True):
            if math.isnan(value):
                runs.append([])
            else:
                runs[-1].append(place(step, value))
        for run in filter(None, runs):
            if len(run) == 1:
                out.append(f'<circle class="{kind}" cx="{run[0][0]:.1f}" cy="{run[0][1]:.1f}" r="2.5"/>')
            else:
                points = " ".join(f"{across:.1f},{down:.1f}" for across, down in run)
                out.append(f'<polyline class="{kind}" points="{points}"/>')
    return "".join([*out, "</svg>"])


def averaged(x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """At most `MAX_POINTS` points, each the mean of a group of neighbors."""
    if len(x) <= MAX_POINTS:
        return x, y
    groups = np.array_split(np.arange(len(x)), MAX_POINTS)
    means = [float(known.mean()) if len(known := y[g][~np.isnan(y[g])]) else math.nan for g in groups]
    return np.array([x[g].mean() for g in groups]), np.array(means)


def smoothed(y: NDArray[np.float64]) -> NDArray[np.float64]:
    """Running mean over a tenth of the curve, keeping gaps."""
    reach = max(len(y) // 20, 1)
    windows = (y[max(place - reach, 0) : place + reach + 1] for place in range(len(y)))
    means = [
        float(window[~np.isnan(window)].mean()) if not math.isnan(y[place]) else math.nan
        for place, window in enumerate(windows)
    ]
    return np.array(means)


def figure(value: float) -> str:
    """Three significant digits, in scientific notation if very small or large."""
    return f"{value:.3g}" if value == 0 or 1e-3 <= abs(value) < 1e4 else f"{value:.1e}".replace("e-0", "e-")
