"""What a run trains on: the files that a recipe names, read and checked."""

import shlex
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from froster.data.manifests import LabeledVideo, describe_splits, read_manifest
from froster.data.puppets import write_videos
from froster.errors import FrosterError, FrosterWarning
from froster.text.descriptions import describe_labels, read_descriptions
from froster.text.labels import Labels, check_labels, read_labels
from froster.text.prompts import read_templates
from froster.training.checkpoint import Fingerprint, digest, read_json, write_json
from froster.training.recipe import TrainRecipe


@dataclass(frozen=True)
class TrainingData:
    """What the recipe's files hold: the clips' rows, the classes, and templates where it names some of its own."""

    videos: list[LabeledVideo]
    labels: Labels
    templates: tuple[str, ...] | None

    @property
    def fingerprint(self) -> Fingerprint:
        # Start and end only where there are any: so it was before they counted.
        rows = [
            (str(video.path), video.label, *((video.start, video.end) if video.start or video.end else ()))
            for video in self.videos
        ]
        of_data = {
            "clips": (f"{len(rows)} rows", digest(rows)),
            "labels": (f"{len(self.labels)} classes", digest(self.labels)),
        }
        if self.templates:
            of_data["templates"] = (f"{len(self.templates)} of them", digest(self.templates))
        return of_data


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
    if files.description_files:
        labels = describe_from_files(labels, files.description_files, warn)
    return TrainingData(videos, labels, read_templates(files.templates) if files.templates else None)


def describe_from_files(labels: Labels, files: Sequence[Path], warn: bool) -> Labels:
    """The labels with the descriptions of all `files`. Raises `FrosterError` where two files disagree about a class."""
    if len(files) == 1:
        return describe_labels(labels, files[0], warn=warn)
    merged: dict[str, str] = {}
    for file in files:
        for name, description in read_descriptions(file).items():
            if merged.setdefault(name, description) != description:
                names = ", ".join(map(str, files))
                raise FrosterError(f"data.descriptions: {names} have different descriptions of {name!r}; keep one.")
    return describe_labels(labels, merged, ", ".join(map(str, files)), warn=warn)


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
