"""How a model is run on videos: the settings of recognizer, evaluation, report, explanation, protocols and server."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict, get_args

import torch

from froster.device import PRECISIONS
from froster.errors import FrosterError
from froster.provenance import ClipSampling
from froster.scoring import TemporalPooling
from froster.video import Sampling

DECODERS = 2
DEFAULT_SAMPLING = ClipSampling()


@dataclass(frozen=True)
class InferenceSettings:
    """How a model is run on videos; what is None is the model's own.

    `student`: the network to put on the weights, and `backbone`: what a bare weights file does not say of its backbone,
    both as for `load_model`. `templates` of the prompts, with `{}` for the
    name: a list, or a file. `views` clips of `frames` frames are taken of each video in time, their cosines averaged;
    `sampling="release"` takes and prepares the frames as the authors' code does, `"uniform"` spreads them evenly.
    `temporal_pooling`: what is averaged over the frames, `"logits"` or `"features"`. `device`: `"auto"`, `"cpu"`,
    `"cuda"`, ...; `precision`: `"auto"` (bfloat16 where the machine has it), `"float32"` or `"bfloat16"`. `workers`:
    videos that are decoded at the same time.

    Raises `FrosterError` for counts below 1 and for an unknown sampling, pooling or precision.
    """

    student: str | None = None
    backbone: Mapping[str, Any] | None = None
    templates: Sequence[str] | str | Path | None = None
    views: int | None = None
    frames: int | None = None
    sampling: Sampling | None = None
    temporal_pooling: TemporalPooling | None = None
    device: str | torch.device = "auto"
    precision: str = "auto"
    workers: int = DECODERS

    def __post_init__(self) -> None:
        self.clip_sampling()
        if self.temporal_pooling is not None and self.temporal_pooling not in get_args(TemporalPooling):
            known = ", ".join(get_args(TemporalPooling))
            raise FrosterError(f"There is no temporal pooling {self.temporal_pooling!r}; choose from {known}.")
        if self.precision not in ("auto", *PRECISIONS):
            raise FrosterError(f"There is no precision {self.precision!r}; there are: auto, {', '.join(PRECISIONS)}.")
        if self.workers < 1:
            raise FrosterError(f"workers ({self.workers}) must be 1 or more.")

    def clip_sampling(self, own: ClipSampling = DEFAULT_SAMPLING) -> ClipSampling:
        """How clips are taken from a video, with what a model has of its `own` where the settings say nothing."""
        return own.override(self.frames, self.views, self.sampling)


class InferenceOptions(TypedDict, total=False):
    """The fields of `InferenceSettings` as keyword arguments of the public functions."""

    student: str | None
    backbone: Mapping[str, Any] | None
    templates: Sequence[str] | str | Path | None
    views: int | None
    frames: int | None
    sampling: Sampling | None
    temporal_pooling: TemporalPooling | None
    device: str | torch.device
    precision: str
    workers: int
