"""The front door: videos and action names in, ranked actions out."""

import copy
import warnings
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from froster.device import pick_device, pick_precision
from froster.errors import FrosterError, FrosterWarning, VideoError, is_out_of_memory
from froster.models import load_model, warn_of_random_start
from froster.provenance import ClipSampling, stored_provenance
from froster.scoring import TemporalPooling
from froster.students import VideoStudent
from froster.text.classifier import load_or_encode_classes, templates_for, warn_of_unknown_labels
from froster.text.descriptions import describe_labels
from froster.text.labels import Labels, check_labels
from froster.text.prompts import check_templates
from froster.video import Sampling, VideoClips, clips_from_array, load_video

DECODERS = 2


@dataclass(frozen=True)
class Prediction:
    """What a recognizer sees in one video.

    `ranked`: every label with its score, best first; scores are the softmax over the given labels and add up to 1.
    `similarities`: cosine of the video with every label. `warning`: what part of the file could not be used, if any.
    """

    video: str
    ranked: list[tuple[str, float]]
    similarities: dict[str, float]
    warning: str | None = None

    @property
    def label(self) -> str:
        """The best label."""
        return self.ranked[0][0]


class Recognizer:
    """Recognises any actions in any video.

    `model`: a `VideoStudent`, or what `load_model` takes. `labels`: names, a mapping name -> description (`""` where
    there is none), or the name of a vocabulary such as `"ucf-101"`; by default the classes that the model was trained
    on, with their descriptions. `descriptions` of the labels: a mapping by name, or a file. `templates` of the prompts,
    with `{}` for the name: a list, or a file. `views` clips of `frames` frames are taken in time, their logits
    averaged. `sampling="release"` takes and prepares the frames as the authors' code does. Templates, views, frames and
    sampling are by default the model's own (`model.templates`, `model.clip_sampling`). `temporal_pooling`: what
    is averaged over the frames, `"logits"` or `"features"`; by default the method's own. `device`: `"auto"`, `"cpu"`,
    `"cuda"`, …; `precision`: `"auto"` (bfloat16 where the machine has it), `"float32"` or `"bfloat16"`.

    The class matrix is computed here, once, and kept in the user's cache. Raises `FrosterError` where neither the
    caller nor the model names labels, and for words, devices or precisions that cannot be used, `WeightsError` for
    weights that cannot.
    """

    def __init__(
        self,
        model: VideoStudent | str | Path,
        labels: str | Sequence[str] | Mapping[str, str] | None = None,
        *,
        descriptions: Mapping[str, str] | str | Path | None = None,
        templates: Sequence[str] | str | Path | None = None,
        views: int | None = None,
        frames: int | None = None,
        sampling: Sampling | None = None,
        temporal_pooling: TemporalPooling | None = None,
        device: str = "auto",
        precision: str = "auto",
    ) -> None:
        if temporal_pooling is not None and temporal_pooling not in get_args(TemporalPooling):
            raise FrosterError(f"There is no {temporal_pooling!r}; choose from {', '.join(get_args(TemporalPooling))}.")
        ClipSampling().override(frames, views, sampling)  # raises before anything is fetched or loaded
        if labels is None:
            labels = model.labels if isinstance(model, VideoStudent) else stored_provenance(model).labels
        if labels is None:
            raise FrosterError(f"{name_of(model)} does not know which labels it was trained on: give some.")
        self.labels: Labels = check_labels(labels)
        if descriptions is not None:
            self.labels = describe_labels(self.labels, descriptions)
        words = None if templates is None else check_templates(templates)
        self.device = pick_device(device)
        self.dtype = pick_precision(precision, self.device)
        # A copy: the caller's model keeps its precision and device.
        student = copy.deepcopy(model) if isinstance(model, VideoStudent) else load_model(model, seed=0)
        warn_of_random_start(student)
        self.temperature = student.logit_scale.detach().float().exp().item()
        self.model = student.to(self.device, self.dtype).eval()
        warn_of_unknown_labels(student, list(self.labels))
        chosen = student.clip_sampling.override(frames, views, sampling)
        self.views, self.frames, self.sampling = chosen.views, chosen.frames, chosen.sampling
        self.temporal_pooling = temporal_pooling
        self._sampling_given = sampling is not None
        self.classes = load_or_encode_classes(self.model, self.labels, templates_for(student, words)).to(self.device)

    def predict(self, video: str | Path | NDArray[np.uint8]) -> Prediction:
        """Rank the labels for one video: a file, a folder of pictures, or frames in memory, `(N, H, W, 3)` uint8 RGB.

        Raises `VideoError` when nothing of the video can be decoded, or the frames are of another form.
        """
        if isinstance(video, np.ndarray):
            if self.sampling == "release":
                without = "Release sampling needs the frame rate of a file; frames in memory have none"
                if self._sampling_given:
                    raise FrosterError(f"{without}.")
                warnings.warn(f"{without}: frames are taken evenly from all of them.", FrosterWarning, stacklevel=2)
            size = self.model.config.image_size
            return self._rank("", clips_from_array(video, frames=self.frames, views=self.views, size=size), None)
        if not isinstance(video, str | Path):
            raise FrosterError(f"A video is a path or an array (N, H, W, 3) uint8, not {type(video).__name__}.")
        result = next(iter(self.predict_many([video])))[1]
        if isinstance(result, VideoError):
            raise result
        return result

    def predict_many(self, videos: str | Path | Iterable[str | Path]) -> Iterator[tuple[str, Prediction | VideoError]]:
        """Rank the labels for many videos, decoding ahead of the network; pairs (video, result) in the given order.

        A video that cannot be used comes as its `VideoError`; the others go on.
        """
        if isinstance(videos, str | Path):
            videos = [videos]
        with ThreadPoolExecutor(DECODERS) as pool:
            waiting: deque[tuple[str, Future[VideoClips]]] = deque()
            for video in videos:
                waiting.append((str(video), pool.submit(self._load, video)))
                if len(waiting) > DECODERS:
                    yield self._finish(*waiting.popleft())
            while waiting:
                yield self._finish(*waiting.popleft())

    def _load(self, video: str | Path) -> VideoClips:
        size = self.model.config.image_size
        return load_video(video, frames=self.frames, views=self.views, size=size, sampling=self.sampling)

    def _finish(self, video: str, clips: Future[VideoClips]) -> tuple[str, Prediction | VideoError]:
        try:
            loaded = clips.result()
            return video, self._rank(video, loaded.frames, loaded.warning)
        except VideoError as error:
            return video, error
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            wanted = f"{self.views} views of {self.frames} frames"
            return video, VideoError(f"{video}: not enough memory for {wanted}; ask for fewer.")

    @torch.inference_mode()
    def _rank(self, video: str, clips: Tensor, warning: str | None) -> Prediction:
        video_features = self.model.forward_features(clips.to(self.device, self.dtype))
        similarities = self.model.similarities(video_features, self.classes, self.temporal_pooling).mean(dim=0)
        scores = (self.temperature * similarities).softmax(dim=0)
        order = scores.argsort(descending=True, stable=True).tolist()
        # One transfer each: reading label by label would wait for a GPU a thousand times.
        names, score_of, similarity_of = list(self.labels), scores.tolist(), similarities.tolist()
        return Prediction(
            video=video,
            ranked=[(names[i], score_of[i]) for i in order],
            similarities={names[i]: similarity_of[i] for i in order},
            warning=warning,
        )


def name_of(model: VideoStudent | str | Path) -> str:
    return model.title if isinstance(model, VideoStudent) else str(model)
