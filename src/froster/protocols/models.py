"""Who is tested in a protocol: a student that a recipe trains, or a model as it is."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from froster.data.manifests import LabeledVideo, read_manifest, write_manifest
from froster.errors import FrosterError
from froster.models import load_model, warn_of_random_start
from froster.processes import failing_together, find_processes
from froster.students import VideoStudent
from froster.training.loop import train
from froster.training.recipe import TrainRecipe

Progress = Callable[[int, int], None]  # called with the videos done and their number
ShowProgress = Callable[[str], AbstractContextManager[Progress | None]]  # given a title, shows a progress bar


def no_progress(what: str) -> AbstractContextManager[None]:
    return nullcontext()


@dataclass(frozen=True)
class TrainFromRecipe:
    """A student that a recipe trains, with `changes` to it (`"key=value"`)."""

    recipe: Path
    changes: tuple[str, ...] = ()

    is_trained: ClassVar[bool] = True

    def read(self, *more: str) -> TrainRecipe:
        return TrainRecipe.read(self.recipe, [*self.changes, *more])

    def load(
        self, folder: Path, videos: Sequence[LabeledVideo] = (), number: int = 0, changes: Sequence[str] = ()
    ) -> VideoStudent:
        """Train the student on `videos` in `folder`, where an existing run is resumed; a finished one is only loaded.

        Its seed is that of the recipe plus `number`, the draw. Raises `FrosterError` as `train` does, and
        where the run in `folder` is one on other clips.
        """
        manifest = folder / "train.csv"
        with failing_together():
            if find_processes().is_main_process:
                self.write_clips(manifest, videos)
        recipe = self.read(
            *changes,
            f"out={folder / 'run'}",
            f"data.manifest={manifest}",
            "data.puppets=null",
            "data.split=null",
            f"seed={self.read().seed + number}",
        )
        return load_model(train(recipe, resume=True))

    def write_clips(self, manifest: Path, videos: Sequence[LabeledVideo]) -> None:
        """Write the training manifest. Raises `FrosterError` where a run was started with another one."""
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


@dataclass(frozen=True)
class Pretrained:
    """A model that is tested as it is: a name, a checkpoint or a run's folder."""

    name: str
    student: str | None = None
    backbone: Mapping[str, Any] | None = None

    is_trained: ClassVar[bool] = False

    def load(
        self, folder: Path, videos: Sequence[LabeledVideo] = (), number: int = 0, changes: Sequence[str] = ()
    ) -> VideoStudent:
        """`network`; there is nothing to train."""
        return self.network

    @cached_property
    def network(self) -> VideoStudent:
        model = load_model(self.name, self.student, seed=0, backbone=self.backbone)
        warn_of_random_start(model)
        return model

    def describe(self) -> dict[str, Any]:
        return {"model": self.name, "student": self.network.name}
