"""What is known about the frames of a file before any is decoded, and what comes back after."""

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

Kept = TypeVar("Kept")


@dataclass(frozen=True)
class Timeline:
    """When each frame of a file is shown, in presentation order.

    `pts` (N,) int64 ascending, in units of `tick` seconds; `end`: when the last frame disappears, in ticks;
    `rate`: frames a second by the header; `header_frames`, `header_duration` (ticks): what the header says,
    None if nothing.
    """

    pts: NDArray[np.int64]
    end: int
    tick: Fraction
    rate: Fraction
    header_frames: int | None = None
    header_duration: int | None = None

    def __len__(self) -> int:
        return len(self.pts)

    @property
    def times(self) -> NDArray[np.float64]:
        """(N,) seconds since the first frame appeared."""
        return np.asarray((self.pts - self.pts[0]) * float(self.tick), dtype=np.float64)

    @property
    def duration(self) -> float:
        """Seconds from the first frame's appearance to the last one's disappearance."""
        return float((self.end - int(self.pts[0])) * self.tick)


Choose = Callable[[Timeline], NDArray[np.int64]]  # frame numbers of any shape, repeats allowed
Keep = Callable[[NDArray[np.uint8]], Kept]  # called on each chosen frame, (H, W, 3) RGB, as soon as it is decoded


@dataclass(frozen=True)
class Reading(Generic[Kept]):
    """The chosen frames of one file: what `keep` made of each, by frame number."""

    kept: dict[int, Kept]
    indices: NDArray[np.int64]  # as `choose` returned them
    timeline: Timeline
    warning: str | None
