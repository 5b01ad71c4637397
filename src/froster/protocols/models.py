"""Who is tested in a protocol: a student that a recipe trains, or a model as it is."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from froster.backbones.clip import ClipConfig
from froster.checkpoints.hub import find_weights_file
from froster.checkpoints.read import read_checkpoint
from froster.data.manifests import LabeledVideo, read_manifest, write_manifest
from froster.errors import FrosterError
from froster.models import load_model, resolve, warn_of_random_start
from froster.protocols.results import FROZEN
from froster.students import VideoStudent
from froster.training.loop import train
from froster.training.processes import find_processes
from froster.training.recipe import TrainRecipe

Progress = Callable[[int, int], None]  # called with the videos done and their number
ShowProgress = Callable[[str], AbstractContextManager[Progress | None]]  # given a title, shows a progress bar


def no_progress(what: str) -> AbstractContextManager[None]:
    return nullcontext()


def is_vit_b_16(config: ClipConfig) -> bool:
    """Whether a network has the size that the papers' tables are of."""
    return (config.vision_width, config.vision_layers, config.patch_size) == (768, 12, 16)


@dataclass(frozen=True)
class TrainFromRecipe:
    """A student that a recipe trains, with `changes` to it (`"key=value"`)."""

    recipe: Path
    changes: tuple[str, ...] = ()

    def read(self, *more: str) -> TrainRecipe:
        return TrainRecipe.read(self.recipe, [*self.changes, *more])

    def model(self, folder: Path, videos: list[LabeledVideo], number: int = 0, *more: str) -> VideoStudent:
        """The student trained on `videos`, the `number`-th of several; an existing run in `folder` is resumed.

        Its seed is the recipe's, plus `number`. Raises `FrosterError` as `train` does, and where the run in `folder` is
        one on other clips.
        """
        manifest = folder / "train.csv"
        with find_processes().main_process_first():
            if find_processes().is_main_process:
                self.write_clips(manifest, videos)
        recipe = self.read(
            *more,
            f"out={folder / 'run'}",
            f"data.manifest={manifest}",
            "data.puppets=null",
            "data.split=null",
            f"seed={self.read().seed + number}",
        )
        return load_model(train(recipe, resume=True))

    def write_clips(self, manifest: Path, videos: list[LabeledVideo]) -> None:
        """List what is trained on; a list that a run has begun with stays."""
        if not manifest.exists() or not any((manifest.parent / "run").glob("*")):
            write_manifest(manifest, videos)
            return
        before, now = (
            {(video.path.resolve(), video.label, video.start, video.end) for video in of}
            for of in (read_manifest(manifest), videos)
        )
        if before != now:
            raise FrosterError(
                f"{manifest.parent} holds a run on other clips ({len(before)} then, {len(now)} now); "
                "choose another `out=`."
            )

    def describe(self) -> dict[str, Any]:
        recipe = self.read()
        return {"recipe": str(self.recipe), "changes": list(self.changes), "student": recipe.student}

    @property
    def published_as(self) -> tuple[str, str | None]:
        """The student's name and, where one network has several rows, the method in the papers' tables."""
        recipe = self.read()
        if not is_vit_b_16(read_checkpoint(find_weights_file(resolve(recipe.model).path)).config):
            return "", None
        student = recipe.student.partition(":")[0].replace("-", "_")
        if student != "vclip":
            return student, None
        return student, "FROSTER" if recipe.distillation else "Open-VCLIP"


@dataclass(frozen=True)
class Pretrained:
    """A model that is tested as it is: a name, a checkpoint or a run's folder."""

    name: str
    student: str | None = None

    @cached_property
    def network(self) -> VideoStudent:
        model = load_model(self.name, self.student, seed=0)
        warn_of_random_start(model)
        return model

    def describe(self) -> dict[str, Any]:
        return {"model": self.name, "student": self.network.name}

    @property
    def published_as(self) -> tuple[str, str | None]:
        """A plain CLIP is frozen CLIP; of a checkpoint the method is unknown."""
        if not is_vit_b_16(self.network.config):
            return "", None
        is_clip = self.network.clip_name is not None and self.network.name == "frame_clip"
        return self.network.name, FROZEN if is_clip else None
