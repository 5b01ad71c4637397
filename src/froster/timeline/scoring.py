"""Score every label over time in a video or a stream."""

import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from froster.data.puppets import ACTIONS
from froster.errors import FrosterError, FrosterWarning, VideoError
from froster.recognizer import Recognizer
from froster.scoring import check_false_positive_rate, quantile_threshold
from froster.students.base import VideoFeatures
from froster.students.frame_clip import FrameClip
from froster.text.classes import ClassTexts
from froster.text.classifier import load_or_encode_classes
from froster.timeline.segments import Threshold, WindowScores
from froster.video.stream import SlidingWindows, Window, is_stream, read_windows

BATCH_SIZE = 8  # windows; 1 for a stream, to keep latency low
MIN_BACKGROUND_CLASSES = 10  # for a contrast


def score_timeline(
    recognizer: Recognizer, source: str | Path, *, window: float = 2.0, stride: float = 1.0
) -> Iterator[WindowScores]:
    """Score every label in windows of `window` seconds that start every `stride` seconds.

    `source`: a video file, a folder of images, or a stream: a camera (`0`, `/dev/video0`), a URL (`rtsp://`,
    `http://`), `-` for standard input. A window is scored like `load_video(source, start=..., end=...)` with one view
    and the recognizer's number of frames. The source is decoded once; memory does not grow with its length. Students
    that encode frames independently (`frame_clip`, `vifi_clip`) encode a frame once for all windows that share it.
    Yields a `WindowScores` per window as soon as it is known, gaps included. Raises `VideoError` if nothing can be
    decoded or window or stride are invalid, `FrosterError` for a recognizer with an ensemble; warns of damaged parts.
    """
    if recognizer.second is not None:
        raise FrosterError("A timeline is of one model; give a recognizer without an ensemble.")
    if recognizer.clip_sampling.sampling != "uniform":
        warnings.warn(
            "A timeline samples frames uniformly from each window; release sampling is not used.",
            FrosterWarning,
            stacklevel=2,
        )
    return _score(recognizer, str(source), SlidingWindows(window, stride, recognizer.clip_sampling.frames))


def calibrate_threshold(
    recognizer: Recognizer,
    negatives: Iterable[str | Path],
    *,
    false_positive_rate: float = 0.05,
    window: float = 2.0,
    stride: float = 1.0,
    done: Callable[[str | Path], None] | None = None,
) -> Threshold:
    """The lowest threshold with at most `false_positive_rate` false positives on the windows of `negatives`.

    `negatives`: videos of the same kind as the ones to score, that show none of the labels. The threshold applies to
    the cosine of the best label, since a softmax over the given labels is high even if all of them are unlikely.
    A video that cannot be read is skipped with a warning; `done` is called with each of the others when it is
    finished. Raises `FrosterError` if none can be read or there is no window; warns if there are too few windows for
    the rate.
    """
    check_false_positive_rate(false_positive_rate)
    best, read, unreadable = list[float](), False, False
    for video in negatives:
        windows = score_timeline(recognizer, video, window=window, stride=stride)
        try:
            best += [float(one.similarities.max()) for one in windows if not one.is_gap]
        except VideoError as error:
            unreadable = True
            warnings.warn(f"{error.path}: {error.reason}; it is skipped.", FrosterWarning, stacklevel=2)
            continue
        read = True
        if done is not None:
            done(video)
    if unreadable and not read:
        raise FrosterError("None of the negatives can be read; give videos without the actions.")
    if not best:
        raise FrosterError("No window of the negatives can be decoded; give videos without the actions.")
    return Threshold(quantile_threshold(best, false_positive_rate), "similarity")


def _score(recognizer: Recognizer, source: str, sliding: SlidingWindows) -> Iterator[WindowScores]:
    model = recognizer.model
    batch_size = 1 if is_stream(source) else BATCH_SIZE
    background = _background_classes(recognizer)
    encoded: dict[int, Tensor] = {}
    batch: list[Window[Tensor]] = []

    def resize(image: NDArray[np.uint8]) -> Tensor:
        return model.preprocess.resize(torch.from_numpy(image)[None])[0]

    for window in read_windows(source, sliding, resize):
        batch.append(window)
        if len(batch) == batch_size:
            yield from _score_windows(recognizer, batch, background, encoded)
            batch.clear()
    yield from _score_windows(recognizer, batch, background, encoded)


def _background_classes(recognizer: Recognizer) -> Tensor:
    """(O, …) class embeddings of everyday actions that are not among the labels: those of the puppets."""
    labels = {name.lower() for name in recognizer.labels}
    others = [name for name in ACTIONS if name not in labels]
    names = others if len(others) >= MIN_BACKGROUND_CLASSES else ACTIONS
    runtime = recognizer.runtime
    return load_or_encode_classes(runtime.model, ClassTexts.of_names(names), runtime.templates).to(runtime.device)


def _score_windows(
    recognizer: Recognizer, windows: list[Window[Tensor]], background: Tensor, encoded: dict[int, Tensor]
) -> list[WindowScores]:
    nan = np.full(len(recognizer.labels), np.nan, dtype=np.float32)
    scored = [WindowScores(window.start, window.end, nan, nan, nan) for window in windows]
    decoded = [index for index, window in enumerate(windows) if window.frames]
    if decoded:
        similarities, others = _similarities(recognizer, [windows[i] for i in decoded], background, encoded)
        scores = recognizer.runtime.score_head.scores(similarities)
        contrasts = (similarities - others.mean(dim=1, keepdim=True)) / others.std(dim=1, keepdim=True)
        for index, *values in zip(decoded, scores.numpy(), similarities.numpy(), contrasts.numpy(), strict=True):
            scored[index] = WindowScores(windows[index].start, windows[index].end, *values)
    return scored


@torch.inference_mode()
def _similarities(
    recognizer: Recognizer, windows: list[Window[Tensor]], background: Tensor, encoded: dict[int, Tensor]
) -> tuple[Tensor, Tensor]:
    """Cosines with the labels and with the background classes: `(W, K)`, `(W, O)` float32 on the CPU.

    `encoded` caches frame embeddings between calls, by frame number.
    """
    runtime, model = recognizer.runtime, recognizer.model
    images = {number: image for window in windows for number, image in window.frames}
    if isinstance(model, FrameClip):
        for number in encoded.keys() - images.keys():
            del encoded[number]
        new = [number for number in images if number not in encoded]
        if new:
            frames = torch.stack([images[number] for number in new])
            encoded |= zip(new, runtime.encode(frames[None]).frame_embeddings[0], strict=True)
        clips = [torch.stack([encoded[number] for number, _ in window.frames]) for window in windows]
        video_features = VideoFeatures(torch.stack(clips))
    else:
        clips = [torch.stack([image for _, image in window.frames]) for window in windows]
        video_features = runtime.encode(torch.stack(clips))
    similarities = runtime.similarities(video_features, recognizer.classes, views=1)
    return similarities.cpu(), runtime.similarities(video_features, background, views=1).cpu()
