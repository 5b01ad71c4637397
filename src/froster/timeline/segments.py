"""From scores over time to labeled segments of a video."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

TIME_TOLERANCE = 0.001  # seconds; window bounds are sums of rounded numbers


@dataclass(frozen=True)
class WindowScores:
    """Scores of the K labels in one window of a video, [start, end) seconds after the first frame.

    (K,) float32 each, NaN in a gap (a part that cannot be decoded). `scores`: as in `Prediction`; `similarities`:
    cosines; `contrasts`: z-scores of the cosines, with mean and std taken over other everyday actions.
    """

    start: float
    end: float
    scores: NDArray[np.float32]
    similarities: NDArray[np.float32]
    contrasts: NDArray[np.float32]

    @property
    def is_gap(self) -> bool:
        return bool(np.isnan(self.scores).any())


@dataclass(frozen=True)
class Segment:
    """A time span with one label, in seconds; `score` and `similarity` are means over its windows."""

    start: float
    end: float
    label: str
    score: float
    similarity: float


@dataclass(frozen=True)
class Threshold:
    """A window gets its best label if that label exceeds `value`, else none of the labels."""

    value: float
    measure: Literal["similarity", "contrast"]

    def values(self, window: WindowScores) -> NDArray[np.float32]:
        """(K,) the values that are compared with the threshold."""
        return window.similarities if self.measure == "similarity" else window.contrasts

    def predict_label(self, window: WindowScores) -> int | None:
        """Index of the label of a window, None for none of the labels."""
        if window.is_gap:
            return None
        values = self.values(window)
        best = int(values.argmax())
        return best if values[best] > self.value else None


DEFAULT_THRESHOLD = Threshold(2.0, "contrast")  # without negatives; 5 % false positives on puppets


def find_segments(
    windows: Iterable[WindowScores], labels: Iterable[str], threshold: Threshold = DEFAULT_THRESHOLD
) -> list[Segment]:
    """Merge consecutive windows with the same label into segments, see `SegmentFinder`.

    `labels`: the K names, in the order of the scores; `threshold`: the default, or one from `calibrate_threshold`.
    """
    finder = SegmentFinder(labels, threshold)
    return [*(segment for window in windows for segment in finder.add(window)), *finder.finish()]


class SegmentFinder:
    """Finds segments online, window by window.

    1. A window gets its best label if that exceeds the threshold, else none.
    2. Isolated windows are smoothed: a window whose label differs from both neighbors takes their label if they agree
       with each other, else none. Neighbors are windows that overlap; at an end of the video, or next to a gap, a
       window keeps its label.
    3. Consecutive windows with the same label form a segment. Where windows overlap or touch, the border between them
       is halfway between their centers, so segments never overlap, and none spans a gap.
    """

    def __init__(self, labels: Iterable[str], threshold: Threshold = DEFAULT_THRESHOLD) -> None:
        self.labels = list(labels)
        self.threshold = threshold
        self._before: tuple[WindowScores, int | None] | None = None  # with the label after step 2
        self._latest: tuple[WindowScores, int | None] | None = None  # with the label before it
        self._open: Segment | None = None
        self._windows = 0

    def add(self, window: WindowScores) -> list[Segment]:
        """Segments that are final once `window` is known: those that ended two windows before it."""
        return list(self._advance((window, self.threshold.predict_label(window))))

    def finish(self) -> list[Segment]:
        """The last segments, up to the end of the video."""
        ended = list(self._advance(None))
        if self._open is not None:
            ended.append(self._open)
        self._open = self._before = self._latest = None
        return ended

    def _advance(self, coming: tuple[WindowScores, int | None] | None) -> Iterator[Segment]:
        if self._latest is not None:
            window, label = self._latest
            around = [label_of for other, label_of in filter(None, (self._before, coming)) if _overlap(window, other)]
            if len(around) == 2 and label not in around:
                label = around[0] if around[0] == around[1] else None
            yield from self._place(window, label, coming[0] if coming else None)
            self._before = window, label
        self._latest = coming

    def _place(self, window: WindowScores, label: int | None, after: WindowScores | None) -> Iterator[Segment]:
        before = self._before[0] if self._before else None
        start, end = _border(before, window, window.start), _border(window, after, window.end)
        joins = before is not None and not before.is_gap and not window.is_gap
        if self._open is not None and label is not None and joins and self._open.label == self.labels[label]:
            n = self._windows = self._windows + 1
            self._open = replace(
                self._open,
                end=end,
                score=self._open.score + (float(window.scores[label]) - self._open.score) / n,
                similarity=self._open.similarity + (float(window.similarities[label]) - self._open.similarity) / n,
            )
            return
        if self._open is not None:
            yield self._open
            self._open = None
        if label is not None:
            self._windows = 1
            self._open = Segment(
                start, end, self.labels[label], float(window.scores[label]), float(window.similarities[label])
            )


def _overlap(one: WindowScores, other: WindowScores) -> bool:
    return (
        min(one.end, other.end) - max(one.start, other.start) > TIME_TOLERANCE and not one.is_gap and not other.is_gap
    )


def _border(one: WindowScores | None, other: WindowScores | None, alone: float) -> float:
    """The time of the border between two consecutive windows; `alone` if they do not touch."""
    if one is None or other is None or other.start - one.end > TIME_TOLERANCE or one.is_gap or other.is_gap:
        return alone
    return (one.start + one.end + other.start + other.end) / 4
