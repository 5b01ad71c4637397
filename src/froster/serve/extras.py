"""What an answer may hold beside its ranking: where the model looks, and what happens when."""

from collections.abc import Generator
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from froster.errors import VideoError
from froster.explanation import Kind, explain, overlay
from froster.inference import Runtime
from froster.recognizer import Recognizer
from froster.serve.options import Options
from froster.serve.videos import Loaded, Video
from froster.timeline import Moment, find_segments, score_timeline


def attention_steps(
    runtime: Runtime, loaded: Loaded, kind: Kind, classes: Tensor, target: int
) -> Generator[None, None, NDArray[np.uint8]]:
    """The pictures of the middle view with where the model looks on top: `(T, H, W, 3)` uint8."""
    yield  # videos that wait go first
    frames = runtime.model.preprocess.normalize(loaded.clips[len(loaded.clips) // 2])
    maps = explain(runtime.model, frames, kind, classes, target)
    return overlay(loaded.pictures, maps)


def timeline_steps(
    runtime: Runtime, video: Video, options: Options, classes: Tensor
) -> Generator[None, None, dict[str, Any]]:
    """Moments, each with its best labels, and segments; one moment a step."""
    recognizer = Recognizer.from_class_embeddings(runtime, dict.fromkeys(options.labels, ""), classes)
    moments = []
    try:
        for moment in score_timeline(recognizer, video.path):
            moments.append(moment)
            yield
    except VideoError as error:
        raise video.unreadable(error) from error
    # A single label has nothing to stand out from: its score is always 1.
    segments = find_segments(moments, options.labels) if len(options.labels) > 1 else []
    return {
        "moments": [
            {"start": moment.start, "end": moment.end, "ranked": ranked(moment, options)} for moment in moments
        ],
        "segments": [
            {name: value for name, value in asdict(segment).items() if name != "similarity"} for segment in segments
        ],
    }


def ranked(moment: Moment, options: Options) -> list[dict[str, Any]]:
    """The best labels of a moment, none where nothing of it can be decoded."""
    if moment.is_gap:
        return []
    labels = list(options.labels)
    best = np.argsort(-moment.scores, kind="stable")[: options.top].tolist()
    return [{"label": labels[i], "score": float(moment.scores[i])} for i in best]
