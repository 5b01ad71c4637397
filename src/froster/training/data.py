"""What a run trains on: the files that a recipe names, read and checked."""

import os
import shlex
import warnings
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from froster.data.held_out import assign_splits
from froster.data.manifests import LabeledVideo, describe_splits, read_manifest
from froster.data.puppets import write_videos
from froster.data.trained import Segment, segment_of
from froster.errors import FrosterError, FrosterWarning
from froster.text.classes import ClassTexts
from froster.text.descriptions import describe_labels, merge_descriptions
from froster.text.labels import check_labels, read_labels
from froster.text.names import name_key
from froster.text.prompts import read_templates
from froster.training.checkpoint import Fingerprint, digest, read_json, write_json
from froster.training.recipe import TrainRecipe


@dataclass(frozen=True)
class TrainingData:
    """What the recipe's files contain.

    `videos`: rows to train on; `labels`: their classes; `templates`: None for those of the student; `held_out`: rows to
    validate on; `novel`: those of their classes that are not trained on.
    """

    videos: list[LabeledVideo]
    labels: ClassTexts
    templates: tuple[str, ...] | None
    held_out: list[LabeledVideo]
    novel: ClassTexts

    @property
    def fingerprint(self) -> Fingerprint:
        of_data = {
            "clips": rows_fingerprint(self.videos),
            "labels": (f"{len(self.labels)} classes", digest(self.labels.descriptions)),
        }
        if self.held_out:
            of_data["validation clips"] = rows_fingerprint(self.held_out)
        if self.templates:
            of_data["templates"] = (f"{len(self.templates)} of them", digest(self.templates))
        return of_data


def rows_fingerprint(videos: Sequence[LabeledVideo]) -> tuple[str, str]:
    """The number of rows in words, and their hash."""
    # Start and end only where there are any: so it was before they counted.
    rows = [
        (str(video.path), video.label, *((video.start, video.end) if video.start or video.end else ()))
        for video in videos
    ]
    return f"{len(rows)} rows", digest(rows)


def read_data(recipe: TrainRecipe, warn: bool) -> TrainingData:
    """Read the recipe's files; `warn` about labels without a description. Raises `FrosterError` for invalid files."""
    files = recipe.data
    videos = read_manifest(files.manifest, files.split)
    if warn and files.split is None and (splits := describe_splits(videos)):
        warnings.warn(
            f"{files.manifest} has several splits ({splits}) and data.split names none: all rows are trained on, also "
            "those to test with.",
            FrosterWarning,
            stacklevel=2,
        )
    named = check_labels(sorted({video.label for video in videos}), files.manifest)
    labels = read_labels(files.labels) if files.labels else named
    videos, held_out = hold_out(recipe, videos)
    novel = novel_classes(held_out, labels)
    if files.description_files:
        descriptions, source = merge_descriptions(files.description_files), ", ".join(map(str, files.description_files))
        # Together, as the files need not describe any of the novel classes.
        novel = describe_labels(labels | novel, descriptions, source, warn=False).for_names(novel)
        labels = describe_labels(labels, descriptions, source, warn)
    templates = read_templates(files.templates) if files.templates else None
    return TrainingData(videos, labels, templates, held_out, novel)


def hold_out(recipe: TrainRecipe, videos: list[LabeledVideo]) -> tuple[list[LabeledVideo], list[LabeledVideo]]:
    """The rows to train on and those to validate on, of the training rows and the recipe's `validation`.

    A file is on one side with all its rows. Raises `FrosterError` where no class has two files, and where rows to
    validate on are trained on too.
    """
    settings = recipe.validation
    if settings is None:
        return videos, []
    if settings.share is None:
        manifest = settings.manifest or recipe.data.manifest
        held_out = read_manifest(manifest, settings.split)
        if settings.split is None and (splits := describe_splits(held_out)):
            raise FrosterError(f"{manifest} has several splits ({splits}); set validation.split to one of them.")
        trained = defaultdict[Path, list[Segment]](list)
        for video in videos:
            trained[video.path].append(segment_of(video))
        if twice := [video for video in held_out if overlap(segment_of(video), trained[video.path])]:
            raise FrosterError(
                f"validation: {len(twice)} of {len(held_out)} videos are trained on too ({twice[0].path}); set "
                "data.split to the rows to train on, or take validation.share."
            )
        return videos, held_out
    names = {video.path: relative_name(video.path, recipe.data.manifest.parent) for video in videos}
    rows = [(names[video.path], video.label) for video in videos]
    chosen = assign_splits(rows, {"val": settings.share}, recipe.seed)
    kept = [video for video in videos if names[video.path] not in chosen]
    held_out = [video for video in videos if names[video.path] in chosen]
    if lost := sorted({video.label for video in videos} - {video.label for video in kept}):
        raise FrosterError(
            f"validation.share: every file of {lost[0]!r} also shows another class and would be held out; take "
            "validation.split or validation.manifest."
        )
    if not held_out:
        raise FrosterError("validation.share: no class has two files, so none can be held out.")
    return kept, held_out


def overlap(segment: Segment, others: Sequence[Segment]) -> bool:
    """Whether a segment shares time with one of the others."""
    return any(segment[0] < end and start < segment[1] for start, end in others)


def relative_name(path: Path, folder: Path) -> str:
    """A file's name that does not depend on where the dataset lies."""
    return Path(os.path.relpath(path, folder)).as_posix()


def novel_classes(videos: Sequence[LabeledVideo], trained: ClassTexts) -> ClassTexts:
    """The classes of the videos, in alphabetical order, that are not trained on, in whatever spelling."""
    known = {name_key(name) for name in trained}
    return ClassTexts.of_names(sorted({video.label for video in videos if name_key(video.label) not in known}))


def draw_missing_puppets(recipe: TrainRecipe) -> None:
    """Draw the recipe's videos: first their settings, last their manifest, without which they count as unfinished.

    Raises `FrosterError` when the folder holds videos of other settings.
    """
    puppets, manifest = recipe.data.puppets, recipe.data.manifest
    if puppets is None:
        return
    settings, drawn = manifest.with_name("puppets.json"), puppets.model_dump(mode="json")
    if not manifest.exists():
        write_json(settings, drawn)
        write_videos(manifest.parent, **puppets.model_dump())
    elif read_json(settings) != drawn:
        free, number = recipe.out / "videos", 1
        while free.exists():
            number += 1
            free = recipe.out / f"videos-{number}"
        raise FrosterError(
            f"{manifest.parent} holds other videos than data.puppets asks for; "
            f"type {shlex.quote(f'data.manifest={free / manifest.name}')} to draw them there, "
            "or data.puppets=null to train on these."
        )
