"""From videos to scores, once for all: load a model, decode ahead, encode, score, batch as memory allows.

Recognizer, evaluation, protocols, timeline, explanation, report and server are built on it.
"""

import copy
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

from froster.device import pick_device, pick_precision
from froster.errors import FrosterError, FrosterWarning, VideoError, is_out_of_memory
from froster.models import load_model, warn_of_random_start
from froster.processes import count_processes, find_processes
from froster.scoring import ScoreHead, TemporalPooling, check_finite
from froster.settings import DECODERS, InferenceSettings
from froster.students import VideoFeatures, VideoStudent
from froster.text.classes import ClassTexts
from froster.text.classifier import load_or_encode_classes, templates_for, warn_of_unknown_labels
from froster.text.prompts import check_templates
from froster.video import Preprocessing, Sampling, VideoClips, load_video

FRAMES_PER_BATCH = 96  # four videos of 3 x 8 frames; more is not faster on a CPU
DEFAULT_SETTINGS = InferenceSettings()

Item = TypeVar("Item")
Result = TypeVar("Result")


class Source(Protocol):
    """A video, or the segment of it in [start, end) seconds."""

    @property
    def path(self) -> Path: ...
    @property
    def start(self) -> float | None: ...
    @property
    def end(self) -> float | None: ...


class Runtime:
    """A model on its device, in its precision, and how clips are taken from a video for it.

    `model`: what `load_model` takes, or a `VideoStudent`, which is copied; with `copy_model=False` it is moved itself.
    Under `torchrun` every process has a device of its own. Raises `FrosterError` for settings that cannot be used,
    `WeightsError` for the weights.
    """

    def __init__(
        self,
        model: VideoStudent | str | Path,
        settings: InferenceSettings = DEFAULT_SETTINGS,
        *,
        copy_model: bool = True,
    ) -> None:
        self.settings = settings
        templates = None if settings.templates is None else check_templates(settings.templates)
        self.device = pick_inference_device(settings.device)
        self.dtype = pick_precision(settings.precision, self.device)
        if isinstance(model, VideoStudent):
            for name, value in (("student", settings.student), ("backbone", settings.backbone)):
                if value:
                    raise FrosterError(
                        f"`{name}` goes with the name or file of a model; this one is a network already."
                    )
            network = copy.deepcopy(model) if copy_model else model
        else:
            network = load_model(model, settings.student, seed=0, backbone=settings.backbone)
        warn_of_random_start(network)
        self.score_head = ScoreHead.of(network)  # before the precision is changed
        self.model = network.to(self.device, self.dtype).eval()
        self.templates = templates_for(network, templates)
        self.clip_sampling = settings.clip_sampling(network.clip_sampling)

    @property
    def precision(self) -> str:
        """The precision it computes in, `"float32"` or `"bfloat16"`."""
        return str(self.dtype).removeprefix("torch.")

    def in_float32(self) -> "Runtime":
        """The same, computing in float32 with the weights as they are; a copy unless it does so already."""
        if self.dtype == torch.float32:
            return self
        runtime = copy.copy(self)
        runtime.dtype, runtime.model = torch.float32, copy.deepcopy(self.model).float()
        return runtime

    def encode_classes(self, labels: ClassTexts) -> Tensor:
        """Class embeddings `(K, ...)` float32 on the device, kept in the user's cache.

        Warns of labels with tokens that pretraining never saw, and of descriptions that the model's prompts leave out.
        """
        warn_of_unknown_labels(self.model, list(labels))
        if self.model.prompt_style == "templates" and self.templates and any(labels.descriptions.values()):
            warnings.warn(
                "The descriptions are not used: this model was trained with templates alone (prompt_style: templates).",
                FrosterWarning,
                stacklevel=2,
            )
        return load_or_encode_classes(self.model, labels, self.templates).to(self.device)

    def load(self, path: str | Path, start: float | None = None, end: float | None = None) -> VideoClips | VideoError:
        """Decode the clips of a video or segment, `(V, T, 3, S, S)`; one that cannot be used is its `VideoError`."""
        return load_or_error(path, start, end, **asdict(self.clip_sampling), preprocess=self.model.preprocess)

    def load_ahead(self, sources: Sequence[Source]) -> Iterator[tuple[int, VideoClips | VideoError]]:
        """`load_clips` as this model wants them: pairs (index, clips) in the given order."""
        workers = self.settings.workers
        return load_clips(sources, **asdict(self.clip_sampling), preprocess=self.model.preprocess, workers=workers)

    def encode(self, clips: Tensor) -> VideoFeatures:
        """`encode_clips` of this model."""
        return encode_clips(self.model, clips)

    def similarities(self, features: VideoFeatures, class_embeddings: Tensor, views: int) -> Tensor:
        """`video_similarities` of this model."""
        return video_similarities(self.model, features, class_embeddings, views, self.settings.temporal_pooling)

    @property
    def videos_per_batch(self) -> int:
        """Videos that go through the network together."""
        return videos_per_batch(self.clip_sampling.views, self.clip_sampling.frames)


@dataclass(frozen=True)
class Ensemble:
    """A second model, such as the frozen CLIP, whose logits are added to a model's own (FROSTER Fig. 1).

    `(1 - share) * own + share * second`: with 0.5 the ranking is that of the plain sum. `model`: as for `load_model`.
    It costs a second pass over the frames, and no second decoding. Raises `FrosterError` for a share outside (0, 1).
    """

    model: VideoStudent | str | Path
    share: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.share < 1:
            raise FrosterError(f"The share of an ensemble's second model is between 0 and 1, not {self.share}.")

    @classmethod
    def parse(cls, text: str) -> "Ensemble":
        """Read `MODEL` or `MODEL=SHARE`. Raises `FrosterError` for a share that is no number in (0, 1)."""
        if "=" not in text or Path(text).exists():
            return cls(text)
        name, _, share = text.rpartition("=")
        try:
            if not name:
                raise ValueError("no model")
            return cls(name, float(share))
        except FrosterError:
            raise
        except ValueError as error:
            raise FrosterError(f"The ensemble {text!r} is not of the form MODEL or MODEL=SHARE.") from error

    def add(self, own: Tensor, second: Tensor, first_head: ScoreHead, second_head: ScoreHead) -> Tensor:
        """Cosines of both models `(N, K)` as one, of which the first model's score head makes the summed logits."""
        scale = second_head.temperature / first_head.temperature
        offset = (second_head.bias - first_head.bias) / first_head.temperature
        return (1 - self.share) * own + self.share * (scale * second.to(own.device) + offset)

    def to_json(self) -> dict[str, object]:
        """For reports: the name of the model, and the share."""
        name = self.model.title if isinstance(self.model, VideoStudent) else str(self.model)
        return {"model": name, "share": self.share}


class SecondModel:
    """The second model of an ensemble, which sees the clips of the `first`.

    Raises `FrosterError` where both do not take the same frames, or one has a softmax and the other a sigmoid.
    """

    def __init__(self, ensemble: Ensemble, first: Runtime) -> None:
        sampling = first.clip_sampling
        settings = replace(
            first.settings, student=None, views=sampling.views, frames=sampling.frames, sampling=sampling.sampling
        )
        self.runtime = Runtime(ensemble.model, settings)
        if self.runtime.model.preprocess != first.model.preprocess:
            raise FrosterError("The models of an ensemble must take frames of one size and preparation; these do not.")
        if self.runtime.score_head.function != first.score_head.function:
            raise FrosterError("The models of an ensemble must both have softmax scores, or both sigmoid scores.")
        self.ensemble = ensemble
        self.heads = first.score_head, self.runtime.score_head

    def add(self, own: Tensor, second: Tensor) -> Tensor:
        """`Ensemble.add` of these two models' cosines."""
        return self.ensemble.add(own, second, *self.heads)


def as_runtime(model: VideoStudent | str | Path | Runtime, settings: InferenceSettings) -> Runtime:
    """The runtime of a model; one that is given as such has its settings already. Raises `FrosterError` for others."""
    if not isinstance(model, Runtime):
        return Runtime(model, settings)
    if settings not in (DEFAULT_SETTINGS, model.settings):
        raise FrosterError("A runtime has its settings already: give them where it is made.")
    return model


def pick_inference_device(device: str | torch.device) -> torch.device:
    """The device to compute on; of several processes that a launcher started, each has its own."""
    if isinstance(device, torch.device):
        return device
    if count_processes() > 1 and device != "cpu":
        return find_processes().device
    return pick_device(device)


def load_or_error(
    path: str | Path, start: float | None = None, end: float | None = None, *, views: int, frames: int, **options: Any
) -> VideoClips | VideoError:
    """`load_video`; a video that cannot be used, or is too large for the memory, comes as its `VideoError`."""
    try:
        return load_video(path, views=views, frames=frames, start=start, end=end, **options)
    except VideoError as error:
        return error
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        return too_large(path, views, frames)


def too_large(path: str | Path, views: int, frames: int) -> VideoError:
    """The error of a video whose clips do not fit into memory."""
    return VideoError(path, f"not enough memory for {views} views of {frames} frames; ask for fewer")


def load_clips(
    videos: Iterable[Source],
    *,
    frames: int = 8,
    views: int = 3,
    preprocess: Preprocessing | None = None,
    sampling: Sampling = "uniform",
    workers: int = DECODERS,
) -> Iterator[tuple[int, VideoClips | VideoError]]:
    """Decode videos in `workers` threads, a few ahead of the consumer; pairs (index, clips) in the given order.

    A video that has `start` or `end` is that segment. One that cannot be used comes as its `VideoError`; the others
    continue.
    """
    options = {"frames": frames, "views": views, "preprocess": preprocess, "sampling": sampling}

    def load(video: Source) -> VideoClips | VideoError:
        return load_or_error(video.path, video.start, video.end, **options)  # type: ignore[arg-type]

    return enumerate(run_ahead(load, videos, workers))


@torch.inference_mode()
def encode_clips(model: VideoStudent, clips: Tensor) -> VideoFeatures:
    """Features of B clips `(B, T, 3, S, S)`, normalized float32 or resized uint8, on the model's device."""
    clips = clips.to(model.device)
    if clips.dtype == torch.uint8:
        clips = model.preprocess.normalize(clips)
    return model.forward_features(clips.to(model.dtype))


@torch.inference_mode()
def video_similarities(
    model: VideoStudent,
    features: VideoFeatures,
    class_embeddings: Tensor,
    views: int,
    temporal_pooling: TemporalPooling | None = None,
) -> Tensor:
    """Cosines of N videos, each of `views` successive clips, with K classes: `(N, K)` float32, the mean over views.

    `model.similarities_to_logits` makes logits of them. Raises `WeightsError` where weights overflow, so that a score
    would be NaN.
    """
    classes = class_embeddings.to(features.frame_embeddings.device)
    # Where a norm overflows every cosine is 0; texts that did are 0 themselves, so their log is infinite.
    check_finite(features.frame_embeddings.float().norm(dim=-1))
    check_finite(classes.float().flatten(1).norm(dim=1).log())
    similarities = model.similarities(features, classes, temporal_pooling)
    check_finite(similarities)
    return similarities.unflatten(0, (-1, views)).mean(dim=1)


def videos_per_batch(views: int, frames: int, frames_per_batch: int = FRAMES_PER_BATCH) -> int:
    """Videos that go through the network together: up to this many frames, larger ones one by one."""
    return max(1, frames_per_batch // (views * frames))


def video_scores(
    model: VideoStudent,
    clips: Tensor,
    vocabularies: Sequence[Tensor],
    temporal_pooling: TemporalPooling | None = None,
) -> list[Tensor]:
    """Cosines of videos with every class of several vocabularies, encoded once.

    `(N, V, T, 3, S, S)`, normalized float32 or resized uint8, and class embeddings `(K, ...)` -> `(N, K)` float32 each,
    on the CPU; N V clips go through the network together.
    """
    features, views = encode_clips(model, clips.flatten(0, 1)), clips.shape[1]
    return [video_similarities(model, features, classes, views, temporal_pooling).cpu() for classes in vocabularies]


@dataclass(frozen=True)
class ScoredVideos:
    """How several models scored the same videos.

    `scores`: for each model and each of its vocabularies, cosines `(N, K)` float32. `indices`: which video each row is.
    `unreadable`, `partial`: by the video's index, why it has no row, or what part of it could not be used.
    """

    scores: list[list[Tensor]]
    indices: list[int]
    unreadable: dict[int, str]
    partial: dict[int, str]

    @classmethod
    def merged(cls, parts: "Sequence[ScoredVideos]") -> "ScoredVideos":
        """The parts of several processes as one, in the order of the videos."""
        indices = [index for part in parts for index in part.indices]
        order = sorted(range(len(indices)), key=indices.__getitem__)
        of_model = zip(*(part.scores for part in parts), strict=True)
        scores = [[torch.cat(of_vocabulary)[order] for of_vocabulary in zip(*of, strict=True)] for of in of_model]
        unreadable, partial = dict[int, str](), dict[int, str]()
        for part in parts:
            unreadable |= part.unreadable
            partial |= part.partial
        return cls(
            scores, [indices[place] for place in order], dict(sorted(unreadable.items())), dict(sorted(partial.items()))
        )


def score_videos(
    models: Sequence[tuple[VideoStudent, Sequence[Tensor]]],
    loaded: Iterable[tuple[int, VideoClips | VideoError]],
    frames_per_batch: int = FRAMES_PER_BATCH,
    temporal_pooling: TemporalPooling | None = None,
) -> ScoredVideos:
    """Score videos, as `load_clips` gives them, with models of one preprocessing; each video is decoded only once.

    Each model comes with its class embeddings, one a vocabulary. Videos go through the network together, those of
    each `videos_per_batch` successive indices: which ones does not depend on which others can be read, nor on the
    process that scores them. Raises `FrosterError` when a single video is too large for the memory.
    """
    rows = [[[torch.empty(0, len(classes))] for classes in vocabularies] for _, vocabularies in models]
    indices, unreadable, partial = list[int](), dict[int, str](), dict[int, str]()
    batch: list[Tensor] = []
    number = 0

    def score_batch() -> None:
        clips = torch.stack(batch)
        batch.clear()
        for (model, vocabularies), parts in zip(models, rows, strict=True):
            scored = scores_in_memory(model, clips, vocabularies, temporal_pooling)
            for scores, part in zip(scored, parts, strict=True):
                part.append(scores)

    for index, clips in loaded:
        if isinstance(clips, VideoError):
            unreadable[index] = str(clips)
            continue
        views, frames = clips.frames.shape[:2]
        size = videos_per_batch(views, frames, frames_per_batch)
        if batch and index // size != number:
            score_batch()
        number = index // size
        if clips.warning:
            partial[index] = clips.warning
        indices.append(index)
        batch.append(clips.frames)
        if len(batch) == size:
            score_batch()
    if batch:
        score_batch()
    return ScoredVideos([[torch.cat(part) for part in parts] for parts in rows], indices, unreadable, partial)


def scores_in_memory(
    model: VideoStudent, clips: Tensor, vocabularies: Sequence[Tensor], temporal_pooling: TemporalPooling | None
) -> list[Tensor]:
    """`video_scores`, in smaller and smaller batches where memory does not suffice."""
    try:
        return video_scores(model, clips, vocabularies, temporal_pooling)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        videos, views, frames = clips.shape[:3]
        if videos == 1:
            raise FrosterError(f"Not enough memory for {views} views of {frames} frames; ask for fewer.") from error
    # Outside of the handler, which holds on to the memory of the attempt.
    halves = [scores_in_memory(model, half, vocabularies, temporal_pooling) for half in clips.tensor_split(2)]
    return [torch.cat(parts) for parts in zip(*halves, strict=True)]


def run_ahead(function: Callable[[Item], Result], items: Iterable[Item], workers: int) -> Iterator[Result]:
    """`map` in threads that run up to `workers` items ahead of the consumer; results in the given order."""
    with ThreadPoolExecutor(workers) as pool:
        waiting: deque[Future[Result]] = deque()
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
