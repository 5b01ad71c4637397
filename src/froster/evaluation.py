"""How often a model is right: clips through the network once, then top-1, top-5 and confusions in any vocabulary."""

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from froster.data.manifests import LabelledVideo, class_indices
from froster.device import pick_device, pick_precision
from froster.errors import FrosterError, VideoError, is_out_of_memory
from froster.models import load_model, warn_of_random_start
from froster.provenance import ClipSampling
from froster.students import VideoStudent
from froster.text.classifier import load_or_encode_classes, templates_for, warn_of_unknown_labels
from froster.text.labels import Labels
from froster.video import Sampling, VideoClips, load_video
from froster.video.transforms import clip_normalize

FRAMES_PER_BATCH = 96  # four videos of 3 x 8 frames; more is not faster on a CPU


@dataclass(frozen=True)
class Evaluation:
    """How often a vocabulary's classes were recognised; accuracies are shares, 0 to 1.

    `top5`: None for 5 classes or fewer. `per_class`: accuracy of each class that has clips, worst first, then in class
    order; `clips_per_class` in the same order. `confusions`: (truth, predicted, count), most frequent first.
    """

    clips: int
    classes: int
    top1: float
    top5: float | None
    mean_class_accuracy: float
    per_class: dict[str, float]
    clips_per_class: dict[str, int]
    confusions: list[tuple[str, str, int]]

    def to_json(self) -> dict[str, Any]:
        """Everything, in plain types."""
        return {
            "clips": self.clips,
            "classes": self.classes,
            "top1": self.top1,
            "top5": self.top5,
            "mean_class_accuracy": self.mean_class_accuracy,
            "per_class": {
                name: {"clips": self.clips_per_class[name], "accuracy": accuracy}
                for name, accuracy in self.per_class.items()
            },
            "confusions": [
                {"truth": truth, "predicted": predicted, "count": count} for truth, predicted, count in self.confusions
            ],
        }


@dataclass(frozen=True)
class ScoredVideos:
    """How several models scored the same videos.

    `scores`: for each model and each of its vocabularies `(N, K)` float32, as `video_scores` gives them. `indices`:
    which video each row is. `unreadable`, `partial`: by the video's index, why it has no row, or what part of it could
    not be used.
    """

    scores: list[list[Tensor]]
    indices: list[int]
    unreadable: dict[int, str]
    partial: dict[int, str]


@dataclass(frozen=True)
class ModelReport:
    """A model's evaluation on a manifest.

    `parts`: by the name of the vocabulary, `"all"`, or `"base"` and `"novel"`. `settings`: what was evaluated, and how.
    `unreadable` videos are not among the clips; those read in `partial` are. Both are pairs (path, reason).
    """

    settings: dict[str, Any]
    parts: dict[str, Evaluation]
    unreadable: list[tuple[str, str]]
    partial: list[tuple[str, str]]

    @property
    def videos(self) -> int:
        """Videos in the manifest, readable or not."""
        return sum(part.clips for part in self.parts.values()) + len(self.unreadable)

    @property
    def harmonic_mean(self) -> float | None:
        """Of the top-1 on base and on novel classes; None without them."""
        if self.parts.keys() != {"base", "novel"}:
            return None
        return harmonic_mean(self.parts["base"].top1, self.parts["novel"].top1)

    def to_json(self) -> dict[str, Any]:
        """Everything, in plain types; the same for every run with the same settings."""
        parts = {name: part.to_json() for name, part in self.parts.items()}
        mean = {} if self.harmonic_mean is None else {"harmonic_mean": self.harmonic_mean}
        return {
            **self.settings,
            **mean,
            **parts,
            "unreadable": [{"video": video, "reason": reason} for video, reason in self.unreadable],
            "partial": [{"video": video, "reason": reason} for video, reason in self.partial],
        }


@dataclass(frozen=True)
class ScoredPart:
    """How a model scored the videos of one vocabulary: `scores` `(N, K)` float32 cosines, the right classes `targets`
    `(N,)` int64, and `indices`, which video of the manifest each row is.
    """

    scores: Tensor
    targets: Tensor
    indices: list[int]


@dataclass(frozen=True)
class ScoredModel:
    """A model, its scores by the name of the vocabulary, the classes of each, and the evaluation that they give.

    Softmax of `temperature` times the cosines is the labels' shares.
    """

    network: VideoStudent
    temperature: float
    parts: dict[str, ScoredPart]
    classes: dict[str, list[str]]
    report: ModelReport


def harmonic_mean(base: float, novel: float) -> float:
    """`2 b n / (b + n)`, the papers' one number for base-to-novel; 0 where both are 0."""
    return 2 * base * novel / (base + novel) if base + novel else 0.0


def evaluate(similarities: Tensor, targets: Tensor, names: Sequence[str]) -> Evaluation:
    """Accuracies and confusions from scores `(N, K)`, right classes `(N,)` int64 and the K class names.

    Of equal scores, the first in class order ranks higher. Raises `FrosterError` when there are no clips, or a score
    is not a finite number.
    """
    clips, classes = similarities.shape
    if not clips:
        raise FrosterError("There are no clips to evaluate.")
    if not similarities.isfinite().all():
        raise FrosterError("The model's scores are not finite numbers: its weights are damaged, or overflow.")
    own = similarities.gather(1, targets[:, None])
    earlier = torch.arange(classes) < targets[:, None]
    ranks = ((similarities > own) | ((similarities == own) & earlier)).sum(dim=1)
    pairs = Counter(zip(targets.tolist(), similarities.argmax(dim=1).tolist(), strict=True))
    counts = Counter(targets.tolist())
    accuracy = {i: pairs[i, i] / counts[i] for i in sorted(counts)}
    worst_first = sorted(accuracy, key=accuracy.__getitem__)
    wrong = sorted((-count, i, j) for (i, j), count in pairs.items() if i != j)
    return Evaluation(
        clips=clips,
        classes=classes,
        top1=int((ranks < 1).sum()) / clips,
        top5=int((ranks < 5).sum()) / clips if classes > 5 else None,
        mean_class_accuracy=sum(accuracy.values()) / len(accuracy),
        per_class={names[i]: accuracy[i] for i in worst_first},
        clips_per_class={names[i]: counts[i] for i in worst_first},
        confusions=[(names[i], names[j], -count) for count, i, j in wrong],
    )


@torch.inference_mode()
def video_scores(model: VideoStudent, clips: Tensor, vocabularies: Sequence[Tensor]) -> list[Tensor]:
    """Cosine of videos with every class, averaged over views, in several vocabularies; `exp(logit_scale)` makes logits.

    `(N, V, T, 3, S, S)`, CLIP-normalised float32 or raw uint8, and class matrices of `encode_classes`, `(K, …)` ->
    `(N, K)` float32 each, on the CPU; N V clips go through the network together, on its device and in its precision.
    """
    parameter = model.visual.get_parameter("proj")
    if clips.dtype == torch.uint8:
        clips = clip_normalize(clips)
    video_features = model.forward_features(clips.flatten(0, 1).to(parameter.device, parameter.dtype))
    scores = [model.similarities(video_features, classes.to(parameter.device)) for classes in vocabularies]
    return [of_views.unflatten(0, clips.shape[:2]).mean(dim=1).cpu() for of_views in scores]


def score_videos(
    models: Sequence[tuple[VideoStudent, Sequence[Tensor]]],
    loaded: Iterable[tuple[int, VideoClips | VideoError]],
    frames_per_batch: int = FRAMES_PER_BATCH,
) -> ScoredVideos:
    """Score videos, as `load_clips` gives them, with models of one image size; each video is decoded only once.

    Each model comes with its class matrices, one a vocabulary. Videos go through together up to `frames_per_batch`
    frames, larger ones one by one. Raises `FrosterError` when a single video is too large for the memory.
    """
    rows = [[[torch.empty(0, len(classes))] for classes in vocabularies] for _, vocabularies in models]
    indices, unreadable, partial = [], {}, {}
    batch: list[Tensor] = []

    def encode_batch() -> None:
        clips = torch.stack(batch)
        batch.clear()
        for (model, vocabularies), of_model in zip(models, rows, strict=True):
            for scores, batches in zip(scores_in_memory(model, clips, vocabularies), of_model, strict=True):
                batches.append(scores)

    for index, clips in loaded:
        if isinstance(clips, VideoError):
            unreadable[index] = str(clips)
            continue
        if clips.warning:
            partial[index] = clips.warning
        indices.append(index)
        batch.append(clips.frames)
        views, frames = clips.frames.shape[:2]
        if (len(batch) + 1) * views * frames > frames_per_batch:
            encode_batch()
    if batch:
        encode_batch()
    scores = [[torch.cat(batches) for batches in of_model] for of_model in rows]
    return ScoredVideos(scores, indices, unreadable, partial)


def scores_in_memory(model: VideoStudent, clips: Tensor, vocabularies: Sequence[Tensor]) -> list[Tensor]:
    """`video_scores`, in smaller and smaller batches where memory does not suffice."""
    try:
        return video_scores(model, clips, vocabularies)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        videos, views, frames = clips.shape[:3]
        if videos == 1:
            raise FrosterError(f"Not enough memory for {views} views of {frames} frames; ask for fewer.") from error
    # Outside of the handler, which holds on to the memory of the attempt.
    halves = [scores_in_memory(model, half, vocabularies) for half in clips.tensor_split(2)]
    return [torch.cat(parts) for parts in zip(*halves, strict=True)]


def load_clips(
    videos: Sequence[LabelledVideo],
    *,
    frames: int = 8,
    views: int = 3,
    size: int = 224,
    sampling: Sampling = "uniform",
    workers: int = 2,
) -> Iterator[tuple[int, VideoClips | VideoError]]:
    """Decode videos in `workers` threads, a few ahead of the consumer; pairs (index, clips) in the given order.

    A video that has `start` or `end` is that segment. One that cannot be used comes as its `VideoError`; the others
    go on.
    """

    def load(video: LabelledVideo) -> VideoClips | VideoError:
        try:
            return load_video(
                video.path,
                frames=frames,
                views=views,
                size=size,
                sampling=sampling,
                start=video.start,
                end=video.end,
            )
        except VideoError as error:
            return error
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            return VideoError(f"{video.path}: not enough memory for {views} views of {frames} frames; ask for fewer.")

    with ThreadPoolExecutor(workers) as pool:
        waiting: deque[tuple[int, Future[VideoClips | VideoError]]] = deque()
        for index, video in enumerate(videos):
            waiting.append((index, pool.submit(load, video)))
            if len(waiting) > workers:
                first, clips = waiting.popleft()
                yield first, clips.result()
        while waiting:
            first, clips = waiting.popleft()
            yield first, clips.result()


def evaluate_model(
    model: str | Path,
    videos: Sequence[LabelledVideo],
    vocabularies: Mapping[str, Labels] | None,
    manifest: Path,
    *,
    student: str | None = None,
    templates: tuple[str, ...] | None = None,
    views: int | None = None,
    frames: int | None = None,
    sampling: Sampling | None = None,
    device: str = "auto",
    precision: str = "auto",
    workers: int = 2,
    seen: Callable[[int], None] | None = None,
) -> ModelReport:
    """Evaluate `load_model(model, student)` on the videos of a manifest.

    `vocabularies`: labels (name -> description) by name, one vocabulary `"all"`, or `"base"` and `"novel"` as in the
    papers; None for the classes of the videos, with the descriptions that the model was trained with. A video is
    compared with the labels of the one vocabulary that holds its class. `templates`, `views`, `frames` and `sampling`:
    by default the model's own (`model.templates`, `model.clip_sampling`). `seen` is called with the number of videos
    done so far. The numbers depend neither on `workers` nor on the run.

    Raises `FrosterError` for a label in two vocabularies or in none, a vocabulary without a readable video, counts
    below 1, and a device or precision that cannot be used; `WeightsError` for the model.
    """
    return score_model(
        model,
        videos,
        vocabularies,
        manifest,
        student=student,
        templates=templates,
        views=views,
        frames=frames,
        sampling=sampling,
        device=device,
        precision=precision,
        workers=workers,
        seen=seen,
    ).report


def score_model(
    model: str | Path,
    videos: Sequence[LabelledVideo],
    vocabularies: Mapping[str, Labels] | None,
    manifest: Path,
    *,
    student: str | None = None,
    templates: tuple[str, ...] | None = None,
    views: int | None = None,
    frames: int | None = None,
    sampling: Sampling | None = None,
    device: str = "auto",
    precision: str = "auto",
    workers: int = 2,
    seen: Callable[[int], None] | None = None,
) -> ScoredModel:
    """`evaluate_model`, with the network and the score of every video."""
    if workers < 1:
        raise FrosterError(f"workers ({workers}) must be 1 or more.")
    ClipSampling().override(frames, views, sampling)  # raises before the model is loaded
    if vocabularies is not None:
        find_classes(videos, vocabularies, manifest)
    where = pick_device(device)
    dtype = pick_precision(precision, where)
    network = load_model(model, student, seed=0)
    chosen = network.clip_sampling.override(frames, views, sampling)
    if vocabularies is None:
        vocabularies = {"all": described_classes(network, videos)}
    truths = find_classes(videos, vocabularies, manifest)
    warn_of_random_start(network)
    temperature = network.logit_scale.detach().float().exp().item()
    network = network.to(where, dtype)
    warn_of_unknown_labels(network, [name for labels in vocabularies.values() for name in labels])
    prompts = templates_for(network, templates)
    classes = {part: load_or_encode_classes(network, labels, prompts) for part, labels in vocabularies.items()}

    def counted() -> Iterator[tuple[int, VideoClips | VideoError]]:
        size = network.config.image_size
        for index, clips in load_clips(videos, **asdict(chosen), size=size, workers=workers):
            yield index, clips
            if seen is not None:
                seen(index + 1)

    scored = score_videos([(network, list(classes.values()))], counted())
    scored_parts, parts = {}, {}
    for (part, labels), scores in zip(vocabularies.items(), scored.scores[0], strict=True):
        rows = [row for row, index in enumerate(scored.indices) if truths[index][0] == part]
        if not rows:
            error = next(reason for index, reason in scored.unreadable.items() if truths[index][0] == part)
            which = "" if part == "all" else f" of {part} classes"
            raise FrosterError(f"{manifest}: no video{which} can be read; the first of them: {error}")
        targets = torch.tensor([truths[scored.indices[row]][1] for row in rows])
        scored_parts[part] = ScoredPart(scores[rows], targets, [scored.indices[row] for row in rows])
        parts[part] = evaluate(scores[rows], targets, list(labels))
    report = ModelReport(
        settings={
            "model": str(model),
            "student": network.name,
            "student_options": network.options,
            "manifest": str(manifest),
            "templates": len(prompts),
            "descriptions": sum(bool(text) for labels in vocabularies.values() for text in labels.values()),
            "views": chosen.views,
            "frames": chosen.frames,
            "sampling": chosen.sampling,
            "device": str(where),
            "precision": str(dtype).removeprefix("torch."),
        },
        parts=parts,
        unreadable=[(str(videos[index].path), reason) for index, reason in scored.unreadable.items()],
        partial=[(str(videos[index].path), reason) for index, reason in scored.partial.items()],
    )
    names = {part: list(labels) for part, labels in vocabularies.items()}
    return ScoredModel(network, temperature, scored_parts, names, report)


def described_classes(model: VideoStudent, videos: Sequence[LabelledVideo]) -> Labels:
    """The classes of the videos, in alphabetical order, with the descriptions that the model was trained with."""
    known = model.labels or {}
    return {name: known.get(name, "") for name in sorted({video.label for video in videos})}


def find_classes(
    videos: Sequence[LabelledVideo], vocabularies: Mapping[str, Labels], manifest: Path
) -> list[tuple[str, int]]:
    """For every video, the vocabulary that holds its class, and the class's place there."""
    places: dict[str, tuple[str, int]] = {}
    for part, labels in vocabularies.items():
        for number, name in enumerate(labels):
            if name in places:
                raise FrosterError(f"The class {name!r} is both {places[name][0]} and {part}; leave it out of one.")
            places[name] = part, number
    names = list(places)
    truths = [places[names[index]] for index in class_indices(videos, names, manifest)]
    for part in vocabularies:
        if not any(of_video == part for of_video, _ in truths):
            raise FrosterError(f"The manifest {manifest} has no video of the {part} classes; there must be some.")
    return truths
