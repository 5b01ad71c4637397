"""Load videos as model inputs: frame sampling, decoding, preprocessing."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from froster.errors import FrosterError, VideoError
from froster.video import decode, sampling
from froster.video.files import find_videos
from froster.video.spool import spooled
from froster.video.timeline import Timeline
from froster.video.transforms import Preprocessing

__all__ = [
    "DecodedFrames",
    "Preprocessing",
    "Timeline",
    "VideoClips",
    "clips_from_array",
    "decode_frames",
    "find_videos",
    "load_video",
    "spooled",
]

Sampling = Literal["uniform", "release"]


@dataclass(frozen=True)
class VideoClips:
    """The model input of one video: V views (clips in time) of T frames each."""

    frames: torch.Tensor  # (V, T, 3, S, S) float32, normalized with the backbone's mean and std
    times: NDArray[np.float64]  # (V, T) seconds after the file's first frame
    indices: NDArray[np.int64]  # (V, T) frame numbers in presentation order, counting the frames that decode
    warning: str | None  # set if only part of the file could be decoded


@dataclass(frozen=True)
class DecodedFrames:
    """Frames at the file's resolution, upright."""

    frames: NDArray[np.uint8]  # (N, H, W, 3) RGB
    times: NDArray[np.float64]  # (N,) seconds after the file's first frame
    indices: NDArray[np.int64]  # (N,) frame numbers in presentation order, counting the frames that decode
    warning: str | None  # set if only part of the file could be decoded


def load_video(
    path: str | os.PathLike[str],
    *,
    frames: int = 8,
    views: int = 1,
    sampling: Sampling = "uniform",
    preprocess: Preprocessing | None = None,
    start: float | None = None,
    end: float | None = None,
) -> VideoClips:
    """Load a video, or a segment of one, as a model's input.

    `sampling`: "uniform" covers the whole video evenly, "release" takes the frames of the authors' code.
    `preprocess`: a model's, `model.preprocess`, by default CLIP's at 224; with release sampling its form in the
    authors' code (`Preprocessing.released`). An image is a video of one frame; a folder of images is a video of 30
    frames a second.
    `start`, `end`: seconds after the file's first frame; frames appearing in [start, end) count, as if there were
    no others. A segment that ends behind the video is cut there, with a warning where less than half of it is left.
    Returns `VideoClips` with frames `(views, frames, 3, S, S)` float32. Raises `VideoError`: the file cannot be
    used or the segment holds no frame; `FrosterError`: a count is below 1 or the sampling unknown.
    """
    if min(frames, views) < 1:
        raise FrosterError(f"frames ({frames}) and views ({views}) must be 1 or more.")
    if sampling not in _SAMPLING:
        raise FrosterError(f"There is no sampling {sampling!r}; choose from {', '.join(_SAMPLING)}.")
    if not isinstance(preprocess, Preprocessing | None):
        raise FrosterError(f"preprocess is a Preprocessing, such as model.preprocess; not {preprocess!r}.")
    prepare = preprocess or Preprocessing()
    if sampling == "release":
        prepare = prepare.released
    reading = decode.read(
        path,
        lambda timeline: frame_indices(timeline, sampling, frames=frames, views=views),
        lambda image: prepare.per_frame(torch.from_numpy(image)[None])[0],
        start,
        end,
    )
    images = prepare.per_batch(torch.stack([reading.kept[number] for number in reading.indices.ravel().tolist()]))
    clips = images.unflatten(0, reading.indices.shape)
    return VideoClips(clips, reading.timeline.times[reading.indices], reading.indices, reading.warning)


def frame_indices(timeline: Timeline, sampling: Sampling, *, frames: int, views: int) -> NDArray[np.int64]:
    """The frame numbers `(views, frames)` int64 that a sampling takes of a video."""
    return _SAMPLING[sampling](timeline, frames, views)


def clips_from_array(
    array: NDArray[np.uint8], *, frames: int = 8, views: int = 1, preprocess: Preprocessing | None = None
) -> torch.Tensor:
    """Clips from frames in memory, sampled uniformly.

    `(N, H, W, 3)` uint8 RGB -> `(views, frames, 3, S, S)` float32. Raises `FrosterError` for another shape or type.
    """
    preprocess = preprocess or Preprocessing()
    if array.ndim != 4 or array.shape[-1] != 3 or array.dtype != np.uint8 or not len(array):
        raise FrosterError(f"Frames must be (N, H, W, 3) uint8 RGB, not {array.shape} {array.dtype}.")
    times = np.arange(len(array), dtype=np.float64)
    indices = sampling.uniform_indices(times, float(len(array)), frames=frames, views=views)
    needed, places = np.unique(indices, return_inverse=True)
    prepared = preprocess(torch.from_numpy(array[needed]))
    return prepared[places.ravel()].unflatten(0, (views, frames))


def decode_frames(
    path: str | os.PathLike[str],
    choose: Sequence[int] | Callable[[Timeline], NDArray[np.int64]] | None = None,
    *,
    start: float | None = None,
    end: float | None = None,
) -> DecodedFrames:
    """Decode frames at the file's own resolution.

    `choose`: frame numbers (negative ones count from the end), or a function from the file's `Timeline` to
    frame numbers, or None for every frame. `start`, `end`: as in `load_video`; `choose` then counts from the
    segment's first frame, while what is returned has the file's numbers and times. Returns `DecodedFrames` in the
    order asked for, repeats included; frames of another size than the first are scaled to it. Raises `VideoError`,
    also for a number past the end.
    """

    def numbers(timeline: Timeline) -> NDArray[np.int64]:
        count = len(timeline)
        chosen = np.arange(count) if choose is None else choose(timeline) if callable(choose) else np.array(choose)
        if not chosen.size:
            raise VideoError(path, "no frame was asked for")
        outside = chosen[(chosen < -count) | (chosen >= count)]
        if outside.size:
            raise VideoError(path, f"frame {outside[0]} was requested, but only {count} frames can be decoded")
        return np.where(chosen < 0, chosen + count, chosen).astype(np.int64).ravel()

    reading = decode.read(path, numbers, lambda image: image, start, end)
    images = [reading.kept[number] for number in reading.indices.tolist()]
    stacked = np.stack([_scaled(image, images[0].shape) for image in images])
    return DecodedFrames(stacked, reading.timeline.times[reading.indices], reading.indices, reading.warning)


def _scaled(image: NDArray[np.uint8], shape: tuple[int, ...]) -> NDArray[np.uint8]:
    if image.shape == shape:
        return image
    scaled = torch.nn.functional.interpolate(
        torch.from_numpy(image)[None].permute(0, 3, 1, 2), size=shape[:2], mode="bicubic", antialias=True
    )
    return scaled[0].permute(1, 2, 0).numpy()


def _uniform(timeline: Timeline, frames: int, views: int) -> NDArray[np.int64]:
    return sampling.uniform_indices(timeline.times, timeline.duration, frames=frames, views=views)


def _release(timeline: Timeline, frames: int, views: int) -> NDArray[np.int64]:
    return sampling.release_indices(
        timeline.pts,
        fps=float(timeline.rate),
        header_frames=timeline.header_frames,
        header_duration=timeline.header_duration,
        frames=frames,
        views=views,
    )


_SAMPLING: dict[str, Callable[[Timeline, int, int], NDArray[np.int64]]] = {
    "uniform": _uniform,
    "release": _release,
}
