"""Optional parts of an answer: attention maps and a timeline."""

from collections.abc import Generator
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from froster.errors import VideoError
from froster.explanation import Kind, overlay, relevance_maps
from froster.inference import Runtime
from froster.recognizer import Recognizer
from froster.serve.options import Options
from froster.serve.videos import Loaded, Video
from froster.timeline import WindowScores, find_segments, score_timeline


def attention_steps(
    runtime: Runtime, loaded: Loaded, kind: Kind, classes: Tensor, target: int
) -> Generator[None, None, NDArray[np.uint8]]:
    """The frames of the middle view with the attention map overlaid: `(T, H, W, 3)` uint8."""
    yield  # let waiting videos go first
    clip = loaded.clips[len(loaded.clips) // 2]
    frames = runtime.model.preprocess.normalize(clip) if clip.dtype == torch.uint8 else clip
    maps = relevance_maps(runtime.model, frames, kind, classes, target)
    return overlay(loaded.images, maps)


def timeline_steps(
    runtime: Runtime, video: Video, options: Options, classes: Tensor
) -> Generator[None, None, dict[str, Any]]:
    """Windows, each with its best labels, and segments; scores one window per step."""
    recognizer = Recognizer.from_class_embeddings(runtime, options.labels, classes)
    windows = []
    try:
        for window in score_timeline(recognizer, video.path):
            windows.append(window)
            yield
    except VideoError as error:
        raise video.unreadable(error) from error
    # With a single label a softmax is always 1, so there is no segment to find.
    has_scores = len(options.labels) > 1 or runtime.score_head.is_independent
    segments = find_segments(windows, options.labels) if has_scores else []
    return {
        "windows": [
            {"start": window.start, "end": window.end, "ranked": ranked(window, options)} for window in windows
        ],
        "segments": [
            {name: value for name, value in asdict(segment).items() if name != "similarity"} for segment in segments
        ],
    }


def ranked(window: WindowScores, options: Options) -> list[dict[str, Any]]:
    """The best labels of a window, [] for a gap."""
    if window.is_gap:
        return []
    labels = list(options.labels)
    best = np.argsort(-window.scores, kind="stable")[: options.top].tolist()
    return [{"label": labels[i], "score": float(window.scores[i])} for i in best]
