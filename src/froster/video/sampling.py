"""Frame sampling: index arithmetic only, nothing is read.

Two rules. `uniform`, the default, covers the whole video evenly. `release` is what the authors' code does, for
published numbers: a window of fixed length in seconds, crude at its ends. Each has a random form for training.
"""

import math

import numpy as np
import torch
from numpy.typing import NDArray

RELEASE_SAMPLING_RATE = 16  # the published recipe: every 16th frame ...
RELEASE_TARGET_FPS = 30  # ... at 30 frames per second


def uniform_indices(times: NDArray[np.float64], end: float, *, frames: int, views: int) -> NDArray[np.int64]:
    """Frame indices that cover a video uniformly.

    The video is cut into `views * frames` equal segments of time and each gives the frame shown at its
    middle; view v takes the segments v, v + views, v + 2 * views, ..., so that every view sees the whole
    video. A video of fewer frames than segments repeats frames evenly.

    Args: `times` (N,) seconds, ascending: when each frame appears; `end`: when the last one disappears.
    Returns `(views, frames)` int64. Where the frame rate is constant (no time is further than half a frame
    from an even spacing) the rule is exact in integers, `(2 s + 1) N // (2 segments)`, so rounded timestamps
    change nothing.
    """
    count, segments = len(times), views * frames
    number = np.arange(segments)
    even = np.linspace(times[0], times[-1], count)
    step = (times[-1] - times[0]) / max(count - 1, 1)
    if np.abs(times - even).max() <= step / 2 and end - times[-1] <= 2 * max(step, 1e-9):
        chosen = (2 * number + 1) * count // (2 * segments)
    else:
        middles = times[0] + (number + 0.5) * (end - times[0]) / segments
        chosen = np.searchsorted(times, middles, side="right") - 1
    return chosen.reshape(frames, views).T.astype(np.int64)


def release_indices(
    pts: NDArray[np.int64],
    *,
    fps: float,
    header_frames: int | None,
    header_duration: int | None,
    frames: int,
    views: int,
) -> NDArray[np.int64]:
    """Frame indices of the authors' released code at test time (`goldens/sampling.json`).

    A view is a window of `ceil(16 (frames - 1) / 30 fps)` frames that starts at `view / views` of what is
    outside of it; inside, the frames are spread from the first over `16 frames / 30 fps` frames, more than
    the window holds, so the last ones are clamped. A file whose header states no duration or no frame count
    is treated as that code does where it decodes everything: the wider window itself moves over the file.

    Args: `pts` (N,) int64 ascending; `header_duration` in the same ticks. Returns `(views, frames)` int64.
    """
    span = RELEASE_SAMPLING_RATE * frames / RELEASE_TARGET_FPS * fps
    rows = []
    for view in range(views):
        first, last, start = 0, len(pts) - 1, 0.0
        if header_frames and header_duration:
            window = max(1, math.ceil(RELEASE_SAMPLING_RATE * (frames - 1) / RELEASE_TARGET_FPS * fps))
            begin = max(header_frames - window, 0) * view / views
            ticks = header_duration / header_frames
            first = int(np.searchsorted(pts, int(begin * ticks), side="left"))
            # One frame past the window's end: the released loop stops only once it holds that frame.
            last = int(np.searchsorted(pts, int((begin + window - 1) * ticks), side="right"))
            first, last = min(first, len(pts) - 1), min(last, len(pts) - 1)
        else:
            start = max(len(pts) - span, 0) * view / views
        spread = torch.linspace(start, start + span - 1, frames).clamp(0, last - first).long()
        rows.append(first + spread.numpy())
    return np.stack(rows)


def random_indices(
    times: NDArray[np.float64], end: float, *, frames: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Frame indices at random times, the training version of `uniform_indices`.

    The video is cut into `frames` equal segments of time and each gives the frame shown at a moment drawn uniformly
    from it. A video of fewer frames than segments repeats frames.

    Args: `times` (N,) seconds, ascending: when each frame appears; `end`: when the last one disappears.
    Returns `(frames,)` int64, ascending.
    """
    moments = times[0] + (np.arange(frames) + rng.random(frames)) * (end - times[0]) / frames
    return (np.searchsorted(times, moments, side="right") - 1).astype(np.int64)


def random_release_indices(
    pts: NDArray[np.int64], *, fps: float, frames: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Frame indices of the authors' released code in training.

    A window of `16 frames / 30 fps` frames starts anywhere that it fits, or at 0 where the video is shorter; the frames
    are spread over it from its first to its last and clamped to the video.

    Args: `pts` (N,) int64 ascending. Returns `(frames,)` int64, ascending.
    """
    span = RELEASE_SAMPLING_RATE * frames / RELEASE_TARGET_FPS * fps
    start = rng.uniform(0, max(len(pts) - span, 0))
    spread = torch.linspace(start, start + span - 1, frames).clamp(0, len(pts) - 1).long()
    return np.asarray(spread.numpy(), dtype=np.int64)
