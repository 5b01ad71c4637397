"""Labels near their points in a plot, clear of each other, of points and of lines."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from froster.extras import extra

with extra("cli", "The benchmark"):
    from matplotlib import patheffects
    from matplotlib.axes import Axes
    from matplotlib.colors import to_rgb
    from matplotlib.figure import Figure
    from matplotlib.transforms import Bbox


@dataclass(frozen=True)
class Label:
    """A text for the point (x, y), in data units; `reach`: its maximum distance in points.

    Beyond a short way a thin line leads to the point. A label with a short reach is left out where there is no room.
    """

    x: float
    y: float
    text: str
    color: str
    size: float
    bold: bool = False
    reach: float = 90


LEADER_FROM = 14  # typographic points
DISTANCES = (6.0, 9.0, 13.0, 19.0, 27.0, 38.0, 52.0, 70.0, 90.0)  # of a text from its point, likewise
DIRECTIONS = 24
# What a place costs; a typographic point of distance costs 1.
ON_LABEL, ON_POINT, ON_LEADER, ACROSS_LINE, NEARER_ANOTHER, ON_LINE = 1e4, 3e3, 150.0, 60.0, 60.0, 24.0


@dataclass(frozen=True)
class Places:
    """Candidate positions of a label in pixels, the line to its point, and the cost of each.

    Boxes `(C, 4)` (left, bottom, right, top), leaders as points `(C, S, 2)` from the point to the box, costs `(C,)`.
    """

    boxes: NDArray[np.float64]
    leaders: NDArray[np.float64]
    costs: NDArray[np.float64]


def freeze_layout(figure: Figure) -> None:
    """Lay the panels out once and for all, so that labels can be placed by the pixel."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")


def place_labels(axis: Axes, labels: Sequence[Label], lines: Sequence[NDArray[np.float64]]) -> None:
    """Write the labels near their points, clear of each other, of points and, where it can be, of `lines` (N, 2)."""
    pixels = axis.figure.dpi / 72
    points = axis.transData.transform([(label.x, label.y) for label in labels])
    lines = [sampled(axis.transData.transform(line)) for line in lines]
    texts = [
        axis.text(
            label.x,
            label.y,
            label.text,
            fontsize=label.size,
            fontweight="bold" if label.bold else "normal",
            color=darker(label.color),
            ha="center",
            va="center_baseline",
            zorder=5,
            path_effects=[patheffects.withStroke(linewidth=2.5, foreground="white")],
        )
        for label in labels
    ]
    places = []
    for index, (label, text) in enumerate(zip(labels, texts, strict=True)):
        size = np.array([text.get_window_extent().width, text.get_window_extent().height])
        places.append(possible_places(index, size, label.reach, points, lines, axis.get_window_extent(), pixels))
    chosen = cheapest_places(places, pixels)
    written: list[int] = []
    to_data = axis.transData.inverted()
    for index, (label, text) in enumerate(zip(labels, texts, strict=True)):
        place = chosen[index]
        cost = places[index].costs[place] + crowding(index, written, chosen, places, pixels)[place]
        if label.reach < LEADER_FROM and cost >= ON_POINT:
            text.remove()
            continue
        written.append(index)
        left, bottom, right, top = places[index].boxes[place]
        x, y = to_data.transform([(left + right) / 2, (bottom + top) / 2])
        text.set_position((x, y))
        leader = places[index].leaders[place][[0, -1]]
        if np.linalg.norm(leader[1] - leader[0]) > LEADER_FROM * pixels:
            axis.plot(*to_data.transform(leader).T, color=label.color, linewidth=0.7, alpha=0.7, zorder=2)


def possible_places(
    index: int,
    size: NDArray[np.float64],
    reach: float,
    points: NDArray[np.float64],
    lines: Sequence[NDArray[np.float64]],
    frame: Bbox,
    pixels: float,
) -> Places:
    """Places all around point number `index` of `points` `(P, 2)`, and what each costs by itself."""
    point, half = points[index], size / 2
    others = points[np.abs(points - point).max(axis=-1) > 0.5]
    on_lines = np.concatenate(lines)
    from_point = [np.linalg.norm(line - point, axis=-1) for line in lines]
    # The lines through the point itself count only where they have left it.
    crossable = np.concatenate(
        [line[far > (8 * pixels if far.min() < 1 else 0)] for line, far in zip(lines, from_point, strict=True)]
    )
    distances = np.array([distance for distance in DISTANCES if distance <= reach]) * pixels
    angles = np.arange(DIRECTIONS) * (2 * np.pi / DIRECTIONS)
    directions = np.stack([np.cos(angles), np.sin(angles)], axis=-1)
    centers = point + (distances[:, None, None] * directions + half * directions).reshape(-1, 2)
    boxes = np.concatenate([centers - half, centers + half], axis=-1)
    nearest = np.clip(point, boxes[:, :2], boxes[:, 2:])
    leaders = point + np.linspace(0, 1, 12)[:, None] * (nearest - point)[:, None]
    outside = np.maximum(frame.min - boxes[:, :2], 0) + np.maximum(boxes[:, 2:] - frame.max, 0)
    to_point = np.linalg.norm(nearest - point, axis=-1) / pixels
    to_others = np.linalg.norm(others - np.clip(others, boxes[:, None, :2], boxes[:, None, 2:]), axis=-1) / pixels
    costs = (
        to_point
        + ON_LABEL * outside.sum(axis=-1)
        + ON_POINT * inside(boxes, points, 5 * pixels).sum(axis=-1)
        + ON_LINE * inside(boxes, on_lines, 3 * pixels).sum(axis=-1)
        + ON_LEADER * near(leaders, others, 5 * pixels).sum(axis=-1)
        + ACROSS_LINE * near(leaders, crossable, 3 * pixels).any(axis=-1)
        + NEARER_ANOTHER * (to_others < to_point[:, None] + 10).any(axis=-1)
    )
    return Places(boxes, leaders, costs)


def cheapest_places(places: Sequence[Places], pixels: float) -> list[int]:
    """Each label moves to its cheapest place given where the others are, until none moves."""
    chosen = [int(place.costs.argmin()) for place in places]
    for _ in range(20):
        before = list(chosen)
        for index, place in enumerate(places):
            others = [other for other in range(len(places)) if other != index]
            chosen[index] = int((place.costs + crowding(index, others, chosen, places, pixels)).argmin())
        if chosen == before:
            break
    return chosen


def crowding(
    index: int, others: Sequence[int], chosen: Sequence[int], places: Sequence[Places], pixels: float
) -> NDArray[np.float64]:
    """What the places of a label `(C,)` cost because of where the others are."""
    boxes, leaders = places[index].boxes, places[index].leaders
    costs = np.zeros(len(boxes))
    for other in others:
        box, leader = places[other].boxes[chosen[other]], places[other].leaders[chosen[other]]
        apart = (boxes[:, :2] > box[2:] + pixels).any(axis=-1) | (boxes[:, 2:] < box[:2] - pixels).any(axis=-1)
        costs += ON_LABEL * ~apart
        costs += ON_LEADER * inside(boxes, leader, pixels).any(axis=-1)
        costs += ON_LEADER * inside(box[None], leaders.reshape(-1, 2), pixels).reshape(len(boxes), -1).any(axis=-1)
    return costs


def inside(boxes: NDArray[np.float64], points: NDArray[np.float64], margin: float) -> NDArray[np.bool_]:
    """Which points `(P, 2)` are in which boxes `(C, 4)`, or nearer than `margin`: `(C, P)`."""
    low, high = boxes[:, None, :2] - margin, boxes[:, None, 2:] + margin
    return np.asarray(((points > low) & (points < high)).all(axis=-1))


def near(leaders: NDArray[np.float64], points: NDArray[np.float64], radius: float) -> NDArray[np.bool_]:
    """Which points of leaders `(C, S, 2)` are nearer than `radius` to one of the points `(P, 2)`: `(C, S)`."""
    distances = np.linalg.norm(leaders[:, :, None] - points, axis=-1)
    return np.asarray(distances.min(axis=-1, initial=np.inf) < radius)


def sampled(line: NDArray[np.float64], step: float = 6.0) -> NDArray[np.float64]:
    """Points `(P, 2)` along a line through `(N, 2)`, `step` pixels apart."""
    parts = []
    for start, end in itertools.pairwise(line):
        count = max(2, math.ceil(np.linalg.norm(end - start) / step))
        parts.append(start + np.linspace(0, 1, count)[:, None] * (end - start))
    return np.concatenate(parts)


def darker(color: str) -> tuple[float, ...]:
    """For text: thin strokes in a light color cannot be read."""
    return tuple(0.78 * channel for channel in to_rgb(color))
