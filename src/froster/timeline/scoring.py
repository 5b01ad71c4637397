"""Scores of every label over the length of a video or a stream."""

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
from froster.scoring import check_false_alarms, quantile_threshold
from froster.students.base import VideoFeatures
from froster.students.frame_clip import FrameClip
from froster.text.classifier import load_or_encode_classes, templates_for
from froster.timeline.segments import Moment, Threshold
from froster.video.stream import Sliding, Window, is_stream, read_windows

BATCH = 8  # windows; of a stream 1, to be in time
FEWEST_OTHERS = 10  # actions that a contrast is taken to


def score_timeline(
    recognizer: Recognizer, source: str | Path, *, window: float = 2.0, stride: float = 1.0
) -> Iterator[Moment]:
    """Score every label in windows of `window` seconds that start every `stride` seconds.

    `source`: a video file, a folder of pictures, or a stream: a camera (`0`, `/dev/video0`), a URL (`rtsp://`,
    `http://`), `-` for standard input. A window is scored as `load_video(source, start=..., end=...)` in one view of
    as many frames as the recognizer takes; its number of views does not matter. The source is decoded once; memory does
    not grow with its length. Where every frame is encoded by itself (`frame_clip`, `vifi_clip`), a frame that several
    windows share is encoded once. Yields a `Moment` a window as soon as it is known, gaps included. Raises
    `VideoError` where nothing can be decoded or window or stride make no sense; warns of damage.
    """
    if recognizer.clip_sampling.sampling != "uniform":
        warnings.warn(
            "A timeline takes frames evenly from each window; release sampling is not used.",
            FrosterWarning,
            stacklevel=2,
        )
    return _score(recognizer, str(source), Sliding(window, stride, recognizer.clip_sampling.frames))


def calibrate_threshold(
    recognizer: Recognizer,
    negatives: Iterable[str | Path],
    *,
    false_alarms: float = 0.05,
    window: float = 2.0,
    stride: float = 1.0,
    done: Callable[[str | Path], None] | None = None,
) -> Threshold:
    """The threshold under which at most a share `false_alarms` of the windows of `negatives` would be named.

    `negatives`: videos that show none of the labels, of the kind that the timeline is for. It is put on the cosine of
    the best label, which says more than its score: a softmax over the given labels is high also where all are unlikely.
    A video that cannot be read is left out, with a warning; `done` is called with each of the others when it is
    finished. Raises `FrosterError` where none can be read, or without any window; warns where the windows are too few
    for the share.
    """
    check_false_alarms(false_alarms)
    best, read, unreadable = list[float](), False, False
    for video in negatives:
        moments = score_timeline(recognizer, video, window=window, stride=stride)
        try:
            best += [float(moment.similarities.max()) for moment in moments if not moment.is_gap]
        except VideoError as error:
            unreadable = True
            warnings.warn(
                f"{str(error).removesuffix('.')}; it is left out of the negatives.", FrosterWarning, stacklevel=2
            )
            continue
        read = True
        if done is not None:
            done(video)
    if unreadable and not read:
        raise FrosterError("None of the negatives can be read; name videos without the actions.")
    if not best:
        raise FrosterError("The negatives give no window that could be decoded; name videos without the actions.")
    return Threshold(quantile_threshold(best, false_alarms), "similarity")


def _score(recognizer: Recognizer, source: str, sliding: Sliding) -> Iterator[Moment]:
    model = recognizer.model
    batch_size = 1 if is_stream(source) else BATCH
    others = _other_classes(recognizer)
    encoded: dict[int, Tensor] = {}
    batch: list[Window[Tensor]] = []

    def shrink(image: NDArray[np.uint8]) -> Tensor:
        return model.preprocess.resize(torch.from_numpy(image)[None])[0]

    for window in read_windows(source, sliding, shrink):
        batch.append(window)
        if len(batch) == batch_size:
            yield from _moments(recognizer, batch, others, encoded)
            batch.clear()
    yield from _moments(recognizer, batch, others, encoded)


def _other_classes(recognizer: Recognizer) -> Tensor:
    """(O, …) of everyday actions that are not among the labels: the puppets', which every model knows."""
    labels = {name.lower() for name in recognizer.labels}
    others = [name for name in ACTIONS if name not in labels]
    names = others if len(others) >= FEWEST_OTHERS else ACTIONS
    model = recognizer.model
    return load_or_encode_classes(model, dict.fromkeys(names, ""), templates_for(model, None)).to(recognizer.device)


def _moments(
    recognizer: Recognizer, windows: list[Window[Tensor]], others: Tensor, encoded: dict[int, Tensor]
) -> list[Moment]:
    lost = np.full(len(recognizer.labels), np.nan, dtype=np.float32)
    moments = [Moment(window.start, window.end, lost, lost, lost) for window in windows]
    seen = [number for number, window in enumerate(windows) if window.frames]
    if seen:
        similarities, background = _similarities(recognizer, [windows[number] for number in seen], others, encoded)
        scores = (recognizer.runtime.temperature * similarities).softmax(dim=1)
        contrasts = (similarities - background.mean(dim=1, keepdim=True)) / background.std(dim=1, keepdim=True)
        for number, *values in zip(seen, scores.numpy(), similarities.numpy(), contrasts.numpy(), strict=True):
            moments[number] = Moment(windows[number].start, windows[number].end, *values)
    return moments


@torch.inference_mode()
def _similarities(
    recognizer: Recognizer, windows: list[Window[Tensor]], others: Tensor, encoded: dict[int, Tensor]
) -> tuple[Tensor, Tensor]:
    """Cosines with the labels and with the other classes: `(W, K)`, `(W, O)` float32 on the CPU.

    `encoded` holds features of frames from call to call, by number.
    """
    runtime, model = recognizer.runtime, recognizer.model
    pictures = {number: picture for window in windows for number, picture in window.frames}
    if isinstance(model, FrameClip):
        for number in encoded.keys() - pictures.keys():
            del encoded[number]
        new = [number for number in pictures if number not in encoded]
        if new:
            frames = torch.stack([pictures[number] for number in new])
            encoded |= zip(new, runtime.encode(frames[None]).frame_embeddings[0], strict=True)
        clips = [torch.stack([encoded[number] for number, _ in window.frames]) for window in windows]
        video_features = VideoFeatures(torch.stack(clips))
    else:
        clips = [torch.stack([picture for _, picture in window.frames]) for window in windows]
        video_features = runtime.encode(torch.stack(clips))
    similarities = runtime.similarities(video_features, recognizer.classes, views=1)
    return similarities.cpu(), runtime.similarities(video_features, others, views=1).cpu()
