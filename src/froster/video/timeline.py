"""Presentation times of a file's frames, and the result of reading it."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

HALF_MILLISECOND = 0.0005  # tolerance, since containers and lists round times to milliseconds

LONGEST_DELAY = 3600.0  # plausible seconds between decoding and presentation

Kept = TypeVar("Kept")


@dataclass(frozen=True)
class Timeline:
    """Presentation times of a file's frames, in presentation order.

    `pts` (N,) int64 ascending, in units of `tick` seconds; `end`: when the last frame disappears, in ticks;
    `rate`: frames a second by the header; `header_frames`, `header_duration` (ticks): what the header says,
    None if nothing; `begin`: when the file's first frame is shown, for a file whose first frame is not among these.
    """

    pts: NDArray[np.int64]
    end: int
    tick: Fraction
    rate: Fraction
    header_frames: int | None = None
    header_duration: int | None = None
    begin: int | None = None

    def __len__(self) -> int:
        return len(self.pts)

    @property
    def zero(self) -> int:
        """Presentation time of the file's first frame, in ticks; seconds count from it."""
        return int(self.pts[0]) if self.begin is None else self.begin

    @property
    def times(self) -> NDArray[np.float64]:
        """(N,) seconds after the file's first frame."""
        return np.asarray((self.pts - self.zero) * float(self.tick), dtype=np.float64)

    @property
    def duration(self) -> float:
        """Seconds from the start of the file's first frame to the end of its last one."""
        return float((self.end - self.zero) * self.tick)

    def cut(self, start: float, end: float) -> tuple["Timeline", int]:
        """The frames in [start, end) seconds as a timeline of their own, and the index of the first one.

        They move to where the file's own frames begin; the last one disappears at `end` at the latest. May be empty.
        """
        first, last = np.searchsorted(self.times, np.array([start, end]) - HALF_MILLISECOND).tolist()
        pts = self.pts[first:last]
        if not len(pts):
            return replace(self, pts=pts), first
        gone = int(self.pts[last]) if last < len(self) else self.end
        header = (len(pts), gone - int(pts[0])) if self.header_frames and self.header_duration else (None, None)
        if end < self.duration:
            gone = min(gone, self.zero + math.ceil(end / self.tick))
        shift = int(pts[0]) - self.zero
        return Timeline(pts - shift, gone - shift, self.tick, self.rate, *header), first


def is_time_damaged(pts: int | None, dts: int | None, tick: Fraction) -> bool:
    """Whether a packet, times in units of `tick` seconds, is presented implausibly long before or after decoding."""
    return pts is not None and dts is not None and abs(pts - dts) * tick > LONGEST_DELAY


Choose = Callable[[Timeline], NDArray[np.int64]]  # frame indices of any shape, with repetitions
Keep = Callable[[NDArray[np.uint8]], Kept]  # called on each chosen frame, (H, W, 3) RGB, as soon as it is decoded


@dataclass(frozen=True)
class Reading(Generic[Kept]):
    """The chosen frames of one file: results of `keep` by frame index."""

    kept: dict[int, Kept]
    indices: NDArray[np.int64]  # as `choose` returned them
    timeline: Timeline
    warning: str | None
