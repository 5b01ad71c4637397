"""How often a model is right: clips through the network once, then top-1, top-5 and confusions in any vocabulary."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from froster.data.manifests import LabeledVideo, class_indices
from froster.data.trained import warn_of_trained_videos
from froster.errors import FrosterError, VideoError
from froster.inference import Runtime, score_videos
from froster.provenance import ClipSampling
from froster.scoring import check_finite
from froster.students import VideoStudent
from froster.text.classifier import templates_for
from froster.text.labels import Labels
from froster.video import Sampling, VideoClips


@dataclass(frozen=True)
class Evaluation:
    """How often a vocabulary's classes were recognized; accuracies are shares, 0 to 1.

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
    check_finite(similarities)
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


def evaluate_model(
    model: str | Path,
    videos: Sequence[LabeledVideo],
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
    videos: Sequence[LabeledVideo],
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
    truths = None if vocabularies is None else find_classes(videos, vocabularies, manifest)
    runtime = Runtime(
        model, student=student, views=views, frames=frames, sampling=sampling, device=device, precision=precision
    )
    network, chosen = runtime.model, runtime.clip_sampling
    if vocabularies is None:
        vocabularies = {"all": described_classes(network, videos)}
    if truths is None:
        truths = find_classes(videos, vocabularies, manifest)
    trained_videos = warn_of_trained_videos(network.trained_on, videos, manifest)
    prompts = templates_for(network, templates)
    classes = [runtime.encode_classes(labels, prompts) for labels in vocabularies.values()]

    def counted() -> Iterator[tuple[int, VideoClips | VideoError]]:
        for index, clips in runtime.load_ahead(videos, workers):
            yield index, clips
            if seen is not None:
                seen(index + 1)

    scored = score_videos([(network, classes)], counted())
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
            "trained_videos": trained_videos,
            "templates": len(prompts),
            "descriptions": sum(bool(text) for labels in vocabularies.values() for text in labels.values()),
            "views": chosen.views,
            "frames": chosen.frames,
            "sampling": chosen.sampling,
            "device": str(runtime.device),
            "precision": str(runtime.dtype).removeprefix("torch."),
        },
        parts=parts,
        unreadable=[(str(videos[index].path), reason) for index, reason in scored.unreadable.items()],
        partial=[(str(videos[index].path), reason) for index, reason in scored.partial.items()],
    )
    names = {part: list(labels) for part, labels in vocabularies.items()}
    return ScoredModel(network, runtime.temperature, scored_parts, names, report)


def described_classes(model: VideoStudent, videos: Sequence[LabeledVideo]) -> Labels:
    """The classes of the videos, in alphabetical order, with the descriptions that the model was trained with."""
    known = model.labels or {}
    return {name: known.get(name, "") for name in sorted({video.label for video in videos})}


def find_classes(
    videos: Sequence[LabeledVideo], vocabularies: Mapping[str, Labels], manifest: Path
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
