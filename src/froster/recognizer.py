"""The front door: videos and action names in, ranked actions out."""

import math
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Unpack

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from froster.errors import FrosterError, FrosterWarning, VideoError, is_out_of_memory
from froster.inference import Ensemble, Runtime, SecondModel, as_runtime, run_ahead, too_large
from froster.provenance import ClipSampling, stored_provenance
from froster.scoring import LIKELY, check_false_positive_rate, quantile_threshold
from froster.settings import InferenceOptions, InferenceSettings
from froster.students import VideoFeatures, VideoStudent
from froster.text.classes import ClassTexts
from froster.text.descriptions import describe_labels
from froster.text.labels import LabelSet, check_labels, warn_of_one_label
from froster.video import VideoClips, clips_from_array


@dataclass(frozen=True)
class EncodedVideo:
    """A video as a model sees it, before any label is known: `Recognizer.rank` compares it with any labels.

    `features`: of its V clips. `warning`: what part of the file could not be used, if any. `second`: the features of
    an ensemble's second model.
    """

    video: str
    features: VideoFeatures
    warning: str | None = None
    second: VideoFeatures | None = None


@dataclass(frozen=True)
class Prediction:
    """What a recognizer sees in one video.

    `ranked`: every label with its score, best first; scores are the softmax over the given labels and add up to 1, or,
    where they are `independent` (SigLIP's), each label's own probability, so that none or several may be likely.
    `similarities`: cosine of the video with every label. `warning`: what part of the file could not be used, if any.
    `threshold`: what the best label's similarity had to exceed, if that was asked for.
    """

    video: str
    ranked: list[tuple[str, float]]
    similarities: dict[str, float]
    warning: str | None = None
    threshold: float | None = None
    independent: bool = False

    @property
    def label(self) -> str | None:
        """The best label; None where the video shows none of these.

        That is where the best label's similarity does not exceed the threshold, or, without one, where independent
        scores are all below 0.5.
        """
        return next(iter(self.labels), None)

    @property
    def labels(self) -> list[str]:
        """The labels that the video shows, best first: any number with independent scores, otherwise one at most."""
        shown = [name for name, score in self.ranked if self._shows(name, score)]
        return shown if self.independent else shown[:1]

    def _shows(self, name: str, score: float) -> bool:
        if self.threshold is not None:
            return self.similarities[name] > self.threshold
        return not self.independent or score >= LIKELY


class Recognizer:
    """Recognizes any actions in any video.

    `model`: a `VideoStudent`, what `load_model` takes, or a `Runtime`, which several recognizers can share.
    `labels`: names, a mapping name -> description (`""` where there is none), or the name of a vocabulary such as
    `"ucf-101"`; by default the classes that the model was trained on, with their descriptions. `descriptions` of the
    labels: a mapping by name, or a file. `settings`: the fields of `froster.InferenceSettings`, such as `templates`,
    `views`, `frames`, `device` and `precision`; templates, views, frames and sampling are by default the model's own
    (`model.templates`, `model.clip_sampling`). `ensemble`: a second model whose logits are added; the similarities of
    its predictions are the weighted means of both.

    The class embeddings are computed once, and kept in the user's cache. Raises `FrosterError` where neither the
    caller nor the model names labels, and for words, devices or precisions that cannot be used, `WeightsError` for
    weights that cannot.
    """

    def __init__(
        self,
        model: VideoStudent | str | Path | Runtime,
        labels: LabelSet | None = None,
        *,
        descriptions: Mapping[str, str] | str | Path | None = None,
        ensemble: Ensemble | None = None,
        **settings: Unpack[InferenceOptions],
    ) -> None:
        chosen = InferenceSettings(**settings)  # raises before anything is fetched or loaded
        if labels is None:
            labels = labels_of(model)
        self.labels: ClassTexts = check_labels(labels)
        if descriptions is not None:
            self.labels = describe_labels(self.labels, descriptions)
        self.runtime = as_runtime(model, chosen)
        self.classes = self.runtime.encode_classes(self.labels)
        self.second = None if ensemble is None else SecondModel(ensemble, self.runtime)
        self.second_classes = None if self.second is None else self.second.runtime.encode_classes(self.labels)

    @classmethod
    def from_class_embeddings(cls, runtime: Runtime, labels: ClassTexts, class_embeddings: Tensor) -> "Recognizer":
        """A recognizer whose class embeddings `(K, ...)` of `labels` are known already."""
        recognizer = cls.__new__(cls)
        recognizer.runtime, recognizer.labels, recognizer.classes = runtime, labels, class_embeddings
        recognizer.second = recognizer.second_classes = None
        return recognizer

    @property
    def model(self) -> VideoStudent:
        """The network, on the recognizer's device and in its precision."""
        return self.runtime.model

    @property
    def templates(self) -> tuple[str, ...]:
        """The templates of the prompts, with `{}` for the name."""
        return self.runtime.templates

    @property
    def device(self) -> torch.device:
        """Where the network computes."""
        return self.runtime.device

    @property
    def clip_sampling(self) -> ClipSampling:
        """How clips are taken from a video."""
        return self.runtime.clip_sampling

    def predict(self, video: str | Path | NDArray[np.uint8], *, threshold: float | None = None) -> Prediction:
        """Rank the labels for one video: a file, a folder of images, or frames in memory, `(N, H, W, 3)` uint8 RGB.

        With `threshold` the prediction's `label` is None where no label's similarity exceeds it: the video shows none
        of these; see `calibrate_threshold`. Warns of a single label without a threshold: a softmax is always 1. Raises
        `VideoError` when nothing of the video can be decoded, `FrosterError` for frames of another form, and
        `WeightsError` where weights overflow.
        """
        if threshold is None and not self.runtime.score_head.is_independent:
            warn_of_one_label(self.labels)
        return self.rank(self.encode(video), threshold=threshold)

    def predict_many(
        self, videos: str | Path | Iterable[str | Path], *, threshold: float | None = None
    ) -> Iterator[tuple[str, Prediction | VideoError]]:
        """`predict` for many videos, decoding ahead of the network; pairs (video, result) in the given order.

        A video that cannot be used gives its `VideoError`; the others continue.
        """
        if threshold is None and not self.runtime.score_head.is_independent:
            warn_of_one_label(self.labels)
        for video, encoded in self.encode_many(videos):
            yield video, encoded if isinstance(encoded, VideoError) else self.rank(encoded, threshold=threshold)

    def calibrate_threshold(self, negatives: Iterable[str | Path], *, false_positive_rate: float = 0.05) -> float:
        """The lowest threshold for `predict` with at most `false_positive_rate` false positives on `negatives`.

        `negatives`: videos that show none of the labels, of the kind that the recognizer is for. One that cannot be
        read is skipped with a warning. Raises `FrosterError` if none can be read or the rate is outside [0, 1); warns
        if there are too few for the rate. For timelines: `froster.calibrate_threshold`.
        """
        check_false_positive_rate(false_positive_rate)
        best = list[float]()
        for _, encoded in self.encode_many(negatives):
            if isinstance(encoded, VideoError):
                left_out = f"{encoded.path}: {encoded.reason}; it is skipped."
                warnings.warn(left_out, FrosterWarning, stacklevel=2)
            else:
                best.append(max(self.rank(encoded).similarities.values()))
        if not best:
            raise FrosterError("None of the negatives can be read; give videos without the actions.")
        return quantile_threshold(best, false_positive_rate, "videos")

    def encode(self, video: str | Path | NDArray[np.uint8]) -> EncodedVideo:
        """Decode and encode one video, once for any number of label sets; takes and raises what `predict` does."""
        if isinstance(video, np.ndarray):
            if self.clip_sampling.sampling == "release":
                without = "Release sampling needs the frame rate of a file; frames in memory have none"
                if self.runtime.settings.sampling is not None:
                    raise FrosterError(f"{without}.")
                warnings.warn(f"{without}: frames are taken evenly from all of them.", FrosterWarning, stacklevel=3)
            frames, views = self.clip_sampling.frames, self.clip_sampling.views
            clips = clips_from_array(video, frames=frames, views=views, preprocess=self.model.preprocess)
            return self.encode_clips("", clips)
        if not isinstance(video, str | Path):
            raise FrosterError(f"A video is a path or an array (N, H, W, 3) uint8, not {type(video).__name__}.")
        ((_, encoded),) = self.encode_many([video])
        if isinstance(encoded, VideoError):
            raise encoded
        return encoded

    def encode_many(self, videos: str | Path | Iterable[str | Path]) -> Iterator[tuple[str, EncodedVideo | VideoError]]:
        """`encode` for many files, decoding ahead of the network; pairs (video, result) in the given order.

        A video that cannot be used gives its `VideoError`; the others continue.
        """
        if isinstance(videos, str | Path):
            videos = [videos]

        def load(video: str | Path) -> tuple[str, VideoClips | VideoError]:
            return str(video), self.runtime.load(video)

        for video, clips in run_ahead(load, videos, self.runtime.settings.workers):
            if isinstance(clips, VideoError):
                yield video, clips
                continue
            try:
                yield video, self.encode_clips(video, clips.frames, clips.warning)
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
                yield video, too_large(video, self.clip_sampling.views, self.clip_sampling.frames)

    def encode_clips(self, video: str, clips: Tensor, warning: str | None = None) -> EncodedVideo:
        """Encode the clips `(V, T, 3, S, S)` of a video that is decoded already."""
        second = None if self.second is None else self.second.runtime.encode(clips)
        return EncodedVideo(video, self.runtime.encode(clips), warning, second)

    def rank(
        self, encoded: EncodedVideo, labels: LabelSet | None = None, *, threshold: float | None = None
    ) -> Prediction:
        """Rank `labels`, by default the recognizer's own, for a video that is encoded already."""
        if threshold is not None and not -math.inf < threshold < math.inf:
            raise FrosterError(f"The threshold must be a finite cosine similarity, not {threshold}.")
        if labels is None:
            names, classes = list(self.labels), self.classes
        else:
            described = check_labels(labels)
            names, classes = list(described), self.runtime.encode_classes(described)
        views = len(encoded.features.frame_embeddings)
        similarities = self.runtime.similarities(encoded.features, classes, views)[0]
        if self.second is not None and encoded.second is not None:
            second = self.second_classes if labels is None else self.second.runtime.encode_classes(described)
            assert second is not None
            similarities = self.second.add(
                similarities, self.second.runtime.similarities(encoded.second, second, views)[0]
            )
        scores = self.runtime.score_head.scores(similarities)
        order = similarities.argsort(descending=True, stable=True).tolist()  # scores may be equal where they round to 1
        # One transfer each: reading label by label would wait for a GPU a thousand times.
        score_of, similarity_of = scores.tolist(), similarities.tolist()
        return Prediction(
            video=encoded.video,
            ranked=[(names[i], score_of[i]) for i in order],
            similarities={names[i]: similarity_of[i] for i in order},
            warning=encoded.warning,
            threshold=threshold,
            independent=self.runtime.score_head.is_independent,
        )


def labels_of(model: VideoStudent | str | Path | Runtime) -> ClassTexts:
    """The labels that a model was trained on. Raises `FrosterError` when it does not say."""
    network = model.model if isinstance(model, Runtime) else model
    labels = network.labels if isinstance(network, VideoStudent) else stored_provenance(network).labels
    if labels is None:
        name = network.title if isinstance(network, VideoStudent) else str(network)
        raise FrosterError(f"{name} does not know which labels it was trained on: give some.")
    return labels
