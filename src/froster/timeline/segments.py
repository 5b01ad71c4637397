"""From scores over time to named stretches of a video."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

TOUCH = 0.001  # seconds between windows that count as none: their bounds are sums of rounded numbers


@dataclass(frozen=True)
class Moment:
    """What one window of a video shows, in [start, end) seconds after the first frame.

    (K,) float32 each, NaN in a gap, where the video cannot be decoded. `scores`: softmax over the labels, as
    `Prediction` has them; `similarities`: cosines; `contrasts`: by how many standard deviations a label's cosine is
    above the mean of those of other everyday actions.
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
    """A stretch in which one label is seen; `score` and `similarity`: means over its windows."""

    start: float
    end: float
    label: str
    score: float
    similarity: float


@dataclass(frozen=True)
class Threshold:
    """What the best label of a window must exceed for the window to be named; else it shows none of the labels."""

    value: float
    of: Literal["similarity", "contrast"]

    def values(self, moment: Moment) -> NDArray[np.float32]:
        """(K,) what is compared with the threshold."""
        return moment.similarities if self.of == "similarity" else moment.contrasts

    def named(self, moment: Moment) -> int | None:
        """Number of the label that a window shows, None for none of them."""
        if moment.is_gap:
            return None
        values = self.values(moment)
        best = int(values.argmax())
        return best if values[best] > self.value else None


USUAL_THRESHOLD = Threshold(2.0, "contrast")  # without negatives; of puppets doing something else 5 % are named


def find_segments(
    moments: Iterable[Moment], labels: Iterable[str], threshold: Threshold = USUAL_THRESHOLD
) -> list[Segment]:
    """Merge neighbouring windows of one label into segments, see `SegmentFinder`.

    `labels`: the K names, in the order of the scores; `threshold`: the usual one, or what `calibrate_threshold` finds.
    """
    finder = SegmentFinder(labels, threshold)
    return [*(segment for moment in moments for segment in finder.add(moment)), *finder.finish()]


class SegmentFinder:
    """Finds segments while moments come in.

    1. A window is named after its best label where that exceeds the threshold.
    2. Blips and holes: a window that agrees with neither of its neighbours takes their label if they agree with each
       other, else it is none of the labels. Neighbours are windows that overlap; gaps are nobody's, and at an end of
       the video, or beside a gap, a window keeps its label.
    3. Consecutive windows of one label are a segment. It reaches from its first window to its last, shared
       with the neighbours: of windows that overlap or touch, each stands for the time up to halfway to the next one's
       middle. So segments never overlap, and one never reaches across a gap.
    """

    def __init__(self, labels: Iterable[str], threshold: Threshold = USUAL_THRESHOLD) -> None:
        self.labels = list(labels)
        self.threshold = threshold
        self._before: tuple[Moment, int | None] | None = None  # with the label after step 2
        self._latest: tuple[Moment, int | None] | None = None  # with the label before it
        self._open: Segment | None = None
        self._windows = 0

    def add(self, moment: Moment) -> list[Segment]:
        """Segments that end before `moment`; a segment is sure two windows after its end."""
        return list(self._advance((moment, self.threshold.named(moment))))

    def finish(self) -> list[Segment]:
        """The segment that lasts to the end, if there is one."""
        ended = list(self._advance(None))
        if self._open is not None:
            ended.append(self._open)
        self._open = self._before = self._latest = None
        return ended

    def _advance(self, coming: tuple[Moment, int | None] | None) -> Iterator[Segment]:
        if self._latest is not None:
            moment, label = self._latest
            around = [label_of for other, label_of in filter(None, (self._before, coming)) if _overlap(moment, other)]
            if len(around) == 2 and label not in around:
                label = around[0] if around[0] == around[1] else None
            yield from self._place(moment, label, coming[0] if coming else None)
            self._before = moment, label
        self._latest = coming

    def _place(self, moment: Moment, label: int | None, after: Moment | None) -> Iterator[Segment]:
        before = self._before[0] if self._before else None
        start, end = _border(before, moment, moment.start), _border(moment, after, moment.end)
        joins = before is not None and not before.is_gap and not moment.is_gap
        if self._open is not None and label is not None and joins and self._open.label == self.labels[label]:
            n = self._windows = self._windows + 1
            self._open = replace(
                self._open,
                end=end,
                score=self._open.score + (float(moment.scores[label]) - self._open.score) / n,
                similarity=self._open.similarity + (float(moment.similarities[label]) - self._open.similarity) / n,
            )
            return
        if self._open is not None:
            yield self._open
            self._open = None
        if label is not None:
            self._windows = 1
            self._open = Segment(
                start, end, self.labels[label], float(moment.scores[label]), float(moment.similarities[label])
            )


def _overlap(one: Moment, other: Moment) -> bool:
    return min(one.end, other.end) - max(one.start, other.start) > TOUCH and not one.is_gap and not other.is_gap


def _border(one: Moment | None, other: Moment | None, alone: float) -> float:
    """Where the time of a window ends and that of the next begins; `alone` where they do not touch."""
    if one is None or other is None or other.start - one.end > TOUCH or one.is_gap or other.is_gap:
        return alone
    return (one.start + one.end + other.start + other.end) / 4
