"""Training runs that rows and tables share: each is kept under a hash of all that it depends on."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from froster.checkpoints.folders import find_weights_file
from froster.data.manifests import LabeledVideo
from froster.merging import patch_model
from froster.protocols.models import TrainFromRecipe
from froster.students import VideoStudent
from froster.training.checkpoint import RunFolder, comparable_recipe
from froster.training.recipe import TrainRecipe
from froster.training.run import load_original

UNPATCHED = ("patch_ratio=0",)  # patching costs nothing: one run serves every ratio


@dataclass(frozen=True)
class SharedRun(TrainFromRecipe):
    """A student that a recipe trains, in a folder of `runs` that every row with the same training shares."""

    runs: Path = Path("runs")

    def folder(self, videos: Sequence[LabeledVideo], number: int = 0) -> Path:
        """The run's folder: the student's name and a hash of recipe, seed, clips and the files that the recipe names.

        The recipe's own name does not count: two rows that train the same share a run.
        """
        recipe = self.read(*UNPATCHED)
        settings = json.loads(comparable_recipe(recipe))
        del settings["data"]["manifest"], settings["data"]["split"]
        content = {
            "recipe": settings,
            "seed": recipe.seed + number,
            "clips": sorted((str(video.path), video.label, video.start or 0, video.end or 0) for video in videos),
            "files": [hashlib.sha256(path.read_bytes()).hexdigest() for path in named_files(recipe)],
            "weights": [weights_digest(name) for name in (recipe.model, recipe.teacher)],
        }
        digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]
        return self.runs / f"{recipe.student.partition(':')[0]}-{digest}"

    def load(
        self, folder: Path, videos: Sequence[LabeledVideo] = (), number: int = 0, changes: Sequence[str] = ()
    ) -> VideoStudent:
        """`TrainFromRecipe.load` in the shared folder, then patched with CLIP as the recipe says."""
        recipe = self.read()
        model = super().load(self.folder(videos, number), videos, number, (*changes, *UNPATCHED))
        if not recipe.patch_ratio:
            return model
        return patch_model(model, load_original(recipe, model), recipe.patch_ratio)

    def is_done(self, videos: Sequence[LabeledVideo], number: int = 0) -> bool:
        return RunFolder(self.folder(videos, number) / "run").has_model


def weights_digest(model: str | None) -> str | None:
    """Hash of the weights that a recipe names by a path; None for a release, which never changes."""
    path = None if model is None else Path(model)
    if path is None or not path.exists():
        return None
    with find_weights_file(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def named_files(recipe: TrainRecipe) -> list[Path]:
    """The files of texts that the recipe names, besides the manifest."""
    data = recipe.data
    descriptions = data.descriptions if isinstance(data.descriptions, list) else [data.descriptions]
    return [path for path in (data.labels, data.templates, *descriptions) if path is not None]
