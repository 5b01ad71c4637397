"""Scores of a dataset's videos, kept on disk as they come: an interrupted test resumes where it stopped."""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from froster.checkpoints.own import hash_exactly
from froster.data.manifests import LabeledVideo
from froster.errors import FrosterError, VideoError
from froster.files import replace_when_written
from froster.inference import Ensemble, Runtime, ScoredVideos, score_videos
from froster.models import load_model
from froster.processes import failing_together, find_processes
from froster.scoring import ScoreHead
from froster.settings import InferenceSettings
from froster.students import VideoStudent
from froster.text.classes import ClassTexts
from froster.video import VideoClips

# As the authors' code tests.
PAPER_SETTINGS = InferenceSettings(views=3, frames=8, sampling="release", precision="float32")
CHUNK = 256  # videos that a kill may cost

Loaded = Iterator[tuple[int, VideoClips | VideoError]]


@dataclass(frozen=True)
class Scores:
    """Cosine of N videos with K classes.

    `values` `(N, K)` float32, a row for each of `videos`, a column for each of `labels`. `unreadable` videos have no
    row; those read in `partial` have. Both are pairs (path, reason).
    """

    values: Tensor
    videos: list[LabeledVideo]
    labels: list[str]
    unreadable: list[tuple[str, str]]
    partial: list[tuple[str, str]]


def score_dataset(
    models: Sequence[VideoStudent],
    labels: ClassTexts,
    videos: Sequence[LabeledVideo],
    folder: Path,
    settings: InferenceSettings,
    progress: Callable[[int, int], None] | None = None,
) -> list[Scores]:
    """Scores of all videos with all labels, for each of some models of one image size; each video is decoded once.

    What is done is kept in `folder`, under a hash of models, labels, videos and settings, and not done again. Under
    `accelerate launch` every process does a share. `progress` is called with the videos done and their number. Raises
    `FrosterError` for a device or precision that cannot be used, and where no video can be read.
    """
    processes = find_processes()
    runtimes = [Runtime(model, settings, copy_model=False) for model in models]
    classes = [runtime.encode_classes(labels) for runtime in runtimes]
    folder /= scores_key(runtimes, labels, videos, settings)
    starts = range(0, len(videos), CHUNK)
    with failing_together():
        for number, start in enumerate(starts):
            chunk = folder / f"{start:07d}.safetensors"
            if number % processes.num_processes == processes.process_index and not chunk.exists():
                loaded = counted(runtimes[0].load_ahead(videos[start : start + CHUNK]), start, len(videos), progress)
                pairs = [(runtime.model, [matrix]) for runtime, matrix in zip(runtimes, classes, strict=True)]
                write_scores(chunk, score_videos(pairs, loaded, temporal_pooling=settings.temporal_pooling), start)
    return read_scores([folder / f"{start:07d}.safetensors" for start in starts], len(runtimes), labels, videos)


def write_scores(chunk: Path, scored: ScoredVideos, start: int) -> None:
    """Write the scores of the videos from number `start` on."""
    tensors = {str(place): of_model[0] for place, of_model in enumerate(scored.scores)}
    tensors["indices"] = torch.tensor(scored.indices, dtype=torch.int64) + start
    reasons = {
        "unreadable": json.dumps({start + index: reason for index, reason in scored.unreadable.items()}),
        "partial": json.dumps({start + index: reason for index, reason in scored.partial.items()}),
    }
    with replace_when_written(chunk) as temporary:
        safetensors.torch.save_file(tensors, temporary, reasons)


def score_with_ensemble(
    model: VideoStudent,
    labels: ClassTexts,
    videos: Sequence[LabeledVideo],
    folder: Path,
    settings: InferenceSettings,
    progress: Callable[[int, int], None] | None = None,
    ensemble: Ensemble | None = None,
) -> Scores:
    """`score_dataset` of one model: cosines, or with an `ensemble` the weighted sum of both models' logits."""
    if ensemble is None:
        [scores] = score_dataset([model], labels, videos, folder, settings, progress)
        return scores
    second = ensemble.model if isinstance(ensemble.model, VideoStudent) else load_model(ensemble.model)
    # Before scoring, which converts the models to its precision: bfloat16 would round the temperatures.
    heads = ScoreHead.of(model), ScoreHead.of(second)
    [scores] = score_dataset([model], labels, videos, folder, settings, progress)
    [added] = score_dataset([second], labels, videos, folder, settings, progress)
    if scores.videos != added.videos:
        raise FrosterError("Some videos could be read for one model of the ensemble only; test again.")
    return replace(scores, values=heads[0].temperature * ensemble.add(scores.values, added.values, *heads))


def counted(clips: Loaded, start: int, total: int, progress: Callable[[int, int], None] | None) -> Loaded:
    for index, loaded in clips:
        yield index, loaded
        if progress is not None:
            progress(start + index + 1, total)


def scores_key(
    runtimes: Sequence[Runtime], labels: ClassTexts, videos: Sequence[LabeledVideo], settings: InferenceSettings
) -> str:
    """Hash of all that the scores depend on."""
    what = {
        "labels": list(labels.descriptions.items()),
        "videos": [(str(video.path), video.start, video.end, *version_of(video.path)) for video in videos],
        "sampling": asdict(runtimes[0].clip_sampling),
        "networks": [
            {
                "student": [of.model.name, of.model.options, of.model.prompt_style],
                "temporal_pooling": settings.temporal_pooling or of.model.temporal_pooling,
                "backbone": [of.model.config.family, asdict(of.model.config)],
                "precision": of.precision,
                "templates": of.templates,
            }
            for of in runtimes
        ],
    }
    digest = hashlib.sha256(json.dumps(what).encode())
    for runtime in runtimes:
        hash_exactly(digest, runtime.model.state_dict())
    return digest.hexdigest()[:16]


def version_of(path: Path) -> tuple[int, int]:
    """Size and modification time, so that a changed video is scored again."""
    try:
        state = path.stat()
    except OSError:
        return 0, 0
    return state.st_size, state.st_mtime_ns


def read_scores(
    chunks: Sequence[Path], models: int, labels: ClassTexts, videos: Sequence[LabeledVideo]
) -> list[Scores]:
    values: list[list[Tensor]] = [[] for _ in range(models)]
    indices, unreadable, partial = list[int](), dict[str, str](), dict[str, str]()
    for chunk in chunks:
        with safetensors.safe_open(chunk, "pt") as file:
            for place in range(models):
                values[place].append(file.get_tensor(str(place)))
            indices += file.get_tensor("indices").tolist()
            unreadable |= json.loads(file.metadata()["unreadable"])
            partial |= json.loads(file.metadata()["partial"])
    if not indices:
        first = next(iter(unreadable.values()))
        raise FrosterError(f"None of the {len(videos)} videos can be read; the first of them: {first}")
    readable = [videos[index] for index in indices]
    reasons = [[(str(videos[int(i)].path), why) for i, why in found.items()] for found in (unreadable, partial)]
    return [Scores(torch.cat(of_model), readable, list(labels), *reasons) for of_model in values]
