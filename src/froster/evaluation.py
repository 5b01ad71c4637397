"""How often a model is right: clips through the network once, then top-1, top-5 and confusions in any vocabulary."""

import operator
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import reduce
from pathlib import Path
from typing import Any, Unpack

import torch
from torch import Tensor

from froster.data.manifests import LabeledVideo, class_indices, describe_splits, read_manifest
from froster.data.trained import warn_of_trained_videos
from froster.errors import FrosterError, FrosterWarning, VideoError
from froster.inference import Ensemble, Runtime, ScoredVideos, SecondModel, as_runtime, score_videos
from froster.processes import count_processes, failing_together, gather_parts, process_index
from froster.scoring import check_finite
from froster.settings import InferenceOptions, InferenceSettings
from froster.students import VideoStudent
from froster.text.classes import ClassTexts
from froster.text.descriptions import describe_labels
from froster.text.labels import LabelSet, check_labels
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
class EvaluationSettings:
    """What was evaluated, and how: `templates` and `descriptions` are their numbers, `ensemble` its model and share."""

    model: str
    student: str
    student_options: dict[str, Any]
    manifest: str
    trained_videos: dict[str, Any] | None
    templates: int
    descriptions: int
    views: int
    frames: int
    sampling: Sampling
    device: str
    precision: str
    ensemble: dict[str, Any] | None = None


@dataclass(frozen=True)
class ModelReport:
    """A model's evaluation on a manifest.

    `parts`: by the name of the vocabulary, `"all"`, or `"base"` and `"novel"`. `settings`: what was evaluated, and how.
    `unreadable` videos are not among the clips; those read in `partial` are. Both are pairs (path, reason).
    """

    settings: EvaluationSettings
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
            **asdict(self.settings),
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

    The runtime's `score_head` makes scores of the cosines.
    """

    runtime: Runtime
    parts: dict[str, ScoredPart]
    classes: dict[str, list[str]]
    report: ModelReport


def harmonic_mean(base: float, novel: float) -> float:
    """`2 b n / (b + n)`, the papers' one number for base-to-novel; 0 where both are 0."""
    return 2 * base * novel / (base + novel) if base + novel else 0.0


def evaluate_scores(similarities: Tensor, targets: Tensor, names: Sequence[str]) -> Evaluation:
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


def evaluate(
    model: VideoStudent | str | Path | Runtime,
    videos: str | Path | Sequence[LabeledVideo],
    labels: LabelSet | None = None,
    *,
    base: LabelSet | None = None,
    novel: LabelSet | None = None,
    descriptions: Mapping[str, str] | str | Path | None = None,
    split: str | None = None,
    progress: Callable[[int, int], None] | None = None,
    ensemble: Ensemble | None = None,
    **settings: Unpack[InferenceOptions],
) -> ModelReport:
    """Evaluate a model on labeled videos: top-1, top-5, accuracy of every class, confusions.

    `model`: as for `froster.load_model`, the folder of a run, a network, or a `Runtime`. `videos`: a manifest, CSV with
    the columns `path` and `label`, of which `split` takes some rows; or its rows. `labels`: the classes to choose from,
    as for `froster.Recognizer`; by default those of the videos, with the descriptions that the model was trained with.
    `base` and `novel`, as in the papers: the clips of either kind are compared with their own classes alone.
    `descriptions` of the classes: a mapping by name, or a file. `progress` is called with the videos done and their
    number. `ensemble`: a second model whose logits are added. `settings`: the fields of `froster.InferenceSettings`.

    Accuracies are shares, 0 to 1. The numbers depend neither on `workers` nor on the run. Under `torchrun` every
    process scores a share of the videos, and all of them return the same report, bit for bit that of one process.

    Raises `FrosterError` for a class in two vocabularies or in none, a vocabulary without a readable video, and
    settings that cannot be used; `WeightsError` for the model. Videos that cannot be read are listed in the report.
    """
    chosen = InferenceSettings(**settings)
    rows, manifest = read_videos(videos, split)
    vocabularies = choose_vocabularies(rows, labels, base, novel, descriptions)
    return score_model(model, rows, vocabularies, manifest, chosen, progress, ensemble).report


def read_videos(
    videos: str | Path | Sequence[LabeledVideo], split: str | None
) -> tuple[Sequence[LabeledVideo], Path | None]:
    """The rows to test, and the manifest they are of; warns where several splits are tested together."""
    if not isinstance(videos, str | Path):
        if split is not None:
            raise FrosterError("`split` chooses rows of a manifest; give its path, or the rows of the split alone.")
        return videos, None
    rows = read_manifest(videos, split)
    if split is None and (splits := describe_splits(rows)):
        warnings.warn(
            f"Testing all {len(rows)} rows of {videos}, whatever their split ({splits}); `split` takes one alone.",
            FrosterWarning,
            stacklevel=3,
        )
    return rows, Path(videos)


def choose_vocabularies(
    videos: Sequence[LabeledVideo],
    labels: LabelSet | None,
    base: LabelSet | None,
    novel: LabelSet | None,
    descriptions: Mapping[str, str] | str | Path | None,
) -> dict[str, ClassTexts] | None:
    """The classes of each vocabulary, `all`, or `base` and `novel`; None for those of the videos as the model knows."""
    if (base is None) != (novel is None) or (labels is not None and base is not None):
        raise FrosterError("Give the classes in one way: `labels`, or `base` together with `novel`, or none of them.")
    vocabularies: dict[str, ClassTexts]
    if base is not None and novel is not None:
        vocabularies = {"base": check_labels(base, "base"), "novel": check_labels(novel, "novel")}
    elif labels is not None:
        vocabularies = {"all": check_labels(labels)}
    elif descriptions is None:
        return None
    else:
        vocabularies = {"all": ClassTexts.of_names(sorted({video.label for video in videos}))}
    if descriptions is not None:
        together = reduce(operator.or_, vocabularies.values())
        described = describe_labels(together, descriptions)
        vocabularies = {part: described.for_names(names) for part, names in vocabularies.items()}
    return vocabularies


def score_model(
    model: VideoStudent | str | Path | Runtime,
    videos: Sequence[LabeledVideo],
    vocabularies: Mapping[str, ClassTexts] | None,
    manifest: Path | None,
    settings: InferenceSettings,
    progress: Callable[[int, int], None] | None = None,
    ensemble: Ensemble | None = None,
) -> ScoredModel:
    """`evaluate`, with the model and the score of every video; `vocabularies` as of `choose_vocabularies`."""
    source = manifest or "the videos"
    truths = None if vocabularies is None else find_classes(videos, vocabularies, source)
    runtime = as_runtime(model, settings)
    network, sampling = runtime.model, runtime.clip_sampling
    if vocabularies is None:
        vocabularies = {"all": described_classes(network, videos)}
    if truths is None:
        truths = find_classes(videos, vocabularies, source)
    trained_videos = warn_of_trained_videos(network.trained_on, videos, source)
    classes = [runtime.encode_classes(labels) for labels in vocabularies.values()]
    second = None if ensemble is None else SecondModel(ensemble, runtime)
    second_classes = [second.runtime.encode_classes(labels) for labels in vocabularies.values()] if second else []
    scored = score_share(runtime, videos, classes, progress, second, second_classes)
    scored_parts, parts = evaluate_parts(scored, vocabularies, truths, source)
    report = ModelReport(
        settings=EvaluationSettings(
            model=str(model) if isinstance(model, str | Path) else network.title,
            student=network.name,
            student_options=network.options,
            manifest=str(manifest or "videos"),
            trained_videos=trained_videos,
            templates=len(runtime.templates),
            descriptions=sum(bool(text.description) for labels in vocabularies.values() for text in labels.values()),
            views=sampling.views,
            frames=sampling.frames,
            sampling=sampling.sampling,
            device=str(runtime.device),
            precision=runtime.precision,
            ensemble=None if ensemble is None else ensemble.to_json(),
        ),
        parts=parts,
        unreadable=[(str(videos[index].path), reason) for index, reason in scored.unreadable.items()],
        partial=[(str(videos[index].path), reason) for index, reason in scored.partial.items()],
    )
    names = {part: list(labels) for part, labels in vocabularies.items()}
    return ScoredModel(runtime, scored_parts, names, report)


def evaluate_parts(
    scored: ScoredVideos,
    vocabularies: Mapping[str, ClassTexts],
    truths: Sequence[tuple[str, int]],
    source: str | Path,
) -> tuple[dict[str, ScoredPart], dict[str, Evaluation]]:
    """The scores of each vocabulary's videos, as of one model, and how often they are right.

    `truths`: for every video, its vocabulary and the place of its class there, as of `find_classes`. Raises
    `FrosterError` for a vocabulary without a readable video.
    """
    scored_parts, parts = {}, {}
    for (part, labels), scores in zip(vocabularies.items(), scored.scores[0], strict=True):
        rows = [row for row, index in enumerate(scored.indices) if truths[index][0] == part]
        if not rows:
            error = next(reason for index, reason in scored.unreadable.items() if truths[index][0] == part)
            which = "" if part == "all" else f" of {part} classes"
            raise FrosterError(f"{source}: no video{which} can be read; the first of them: {error}")
        targets = torch.tensor([truths[scored.indices[row]][1] for row in rows])
        scored_parts[part] = ScoredPart(scores[rows], targets, [scored.indices[row] for row in rows])
        parts[part] = evaluate_scores(scores[rows], targets, list(labels))
    return scored_parts, parts


def score_share(
    runtime: Runtime,
    videos: Sequence[LabeledVideo],
    classes: Sequence[Tensor],
    progress: Callable[[int, int], None] | None,
    second: SecondModel | None = None,
    second_classes: Sequence[Tensor] = (),
) -> ScoredVideos:
    """Scores of all videos; of several processes each scores every nth batch, so that batches are those of one."""
    batch, processes, own = runtime.videos_per_batch, count_processes(), process_index()
    share = [index for index in range(len(videos)) if index // batch % processes == own]

    def loaded() -> Iterator[tuple[int, VideoClips | VideoError]]:
        for place, clips in runtime.load_ahead([videos[index] for index in share]):
            yield share[place], clips
            if progress is not None:
                progress(share[place] + 1, len(videos))

    pooling = runtime.settings.temporal_pooling
    models = [(runtime.model, classes)]
    if second is not None:
        models.append((second.runtime.model, second_classes))
    with failing_together():
        scored = score_videos(models, loaded(), temporal_pooling=pooling)
    if second is not None:
        first, added = scored.scores
        summed = [second.add(a, b) for a, b in zip(first, added, strict=True)]
        scored = replace(scored, scores=[summed])
    return ScoredVideos.merged(gather_parts(scored))


def described_classes(model: VideoStudent, videos: Sequence[LabeledVideo]) -> ClassTexts:
    """The classes of the videos, in alphabetical order, with the descriptions that the model was trained with."""
    known = model.labels or ClassTexts()
    return known.for_names(sorted({video.label for video in videos}))


def find_classes(
    videos: Sequence[LabeledVideo], vocabularies: Mapping[str, ClassTexts], manifest: str | Path
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
