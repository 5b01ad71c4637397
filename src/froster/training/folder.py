"""`froster.train_folder`: from a folder of labeled clips to a tested model and a report."""

import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from froster.backbones.base import Backbone
from froster.checkpoints.own import save_checkpoint
from froster.data.check import DataReport, check_data
from froster.data.datasets import find_dataset
from froster.data.manifests import listed
from froster.device import pick_autocast, pick_device
from froster.errors import FrosterError
from froster.evaluation import ScoredModel, score_model
from froster.merging import patch_model
from froster.models import load_backbone, load_model
from froster.processes import count_processes
from froster.reporting import report
from froster.settings import InferenceSettings
from froster.shipped import existing_recipe
from froster.students.frame_clip import FrameClip
from froster.text.classes import ClassTexts
from froster.training.checkpoint import RunFolder
from froster.training.data import read_data
from froster.training.loop import train
from froster.training.metrics import compared_accuracy
from froster.training.recipe import TrainRecipe, merged, read_yaml
from froster.training.validation import Validation

RECIPE = Path("few-clips")
TEST_SHARE, VALIDATION_SHARE = 0.2, 0.2
PATCH_RATIOS = (0.0, 0.25, 0.5, 0.75)

Override = Callable[[dict[str, Any]], dict[str, Any]]


@dataclass(frozen=True)
class FolderTraining:
    """What `train_folder` made.

    `run`: the folder of the run, which is a model's name too; `page`: the report. `tested` videos of `classes` actions
    were neither trained on nor chosen by; of them the untrained CLIP had `zero_shot` right and the model `trained`,
    shares of 1. `gained` and `lost`: how many became right and wrong. `patch_ratio`: weight of CLIP in the model.
    """

    run: Path
    page: Path
    classes: int
    videos: int
    tested: int
    zero_shot: float
    trained: float
    gained: int
    lost: int
    patch_ratio: float

    @property
    def sentence(self) -> str:
        """The comparison in words."""
        changes = f"{self.gained} more right, {self.lost} no longer"
        return (
            f"On {self.tested} videos that it never saw, the model is right in {100 * self.trained:.1f} %, untrained "
            f"CLIP in {100 * self.zero_shot:.1f} % ({changes}). CLIP's share in its weights is {self.patch_ratio:g}."
        )

    @property
    def helped(self) -> bool:
        """Whether training made it better on the test videos."""
        return self.trained > self.zero_shot


def train_folder(folder: str | Path, *, resume: bool = False, show: bool = True, **overrides: Any) -> FolderTraining:
    """Fine-tune CLIP on a folder of clips, choose by a validation split, and compare with CLIP on a test split.

    `folder` has a folder of videos for each action. A fifth of each is held out for the test and a fifth for
    validation, or what lies in folders named train, val and test. The recipe is `few-clips`; `overrides` as of
    `froster.train`, such as `model="vit-l-14"` or `optimizer={"epochs": 10}`. Of the validated models the best is
    kept, interpolated with CLIP by the ratio that validates best, of equal ones the nearest to CLIP. The run, in
    `out` (runs/FOLDER by default), has the manifest, the model, and a report of the test, report.html. `resume`
    continues an interrupted run, `show` draws progress on standard error.

    Raises `FrosterError` for a folder without labeled videos, `WeightsError` for a `model` that is fine-tuned already,
    and what `froster.train` raises.
    """
    return run_folder(Path(folder), lambda content: merged(content, overrides), resume, show)


def run_folder(folder: Path, override: Override, resume: bool, show: bool) -> FolderTraining:
    """`train_folder`; `override` changes the keys and values of a recipe."""
    if count_processes() > 1:
        raise FrosterError("A folder is trained on in one process; write a manifest first to train in several.")
    content = merged(
        read_yaml(existing_recipe(RECIPE)), {"out": str(Path("runs") / (folder.resolve().name or "clips"))}
    )
    given = override(content)
    run = RunFolder(Path(str(given["out"])))
    if not resume and (run.has_model or run.state.exists()):
        raise FrosterError(f"{run.path} holds a run already: choose another out=FOLDER, or resume it.")
    manifest, held_out = run.path / "manifest.csv", given.get("validation")
    has_source = isinstance(held_out, dict) and not held_out.keys().isdisjoint({"share", "split", "manifest"})

    def recipe_with(validation: dict[str, Any]) -> TrainRecipe:
        of_folder = {
            "data": {"manifest": str(manifest), "split": "train"},
            "validation": {} if has_source else validation,
        }
        return TrainRecipe.of_content(override(merged(content, of_folder)), f"The recipe of {folder}")

    recipe_with({"share": VALIDATION_SHARE})  # raises what is wrong with it before all clips are decoded
    checked, split = split_folder(folder, manifest)
    rows = checked.videos
    if show:
        print(describe_folder(checked), file=sys.stderr)
    validated = any("val" in row.splits for row in rows) and split != "val"
    recipe = recipe_with({"split": "val"} if validated else {"share": VALIDATION_SHARE})
    clip = load_backbone(recipe.model, recipe.backbone)
    train(recipe, resume, show)
    ratio = choose_patch_ratio(run, recipe, clip)
    tested = [row for row in rows if split in row.splits]
    labels = load_model(run.path).labels or ClassTexts()
    # Both see the same frames.
    settings = InferenceSettings(
        views=1, frames=recipe.data.frames, sampling=recipe.data.sampling, workers=max(1, recipe.data.workers)
    )
    before = right_videos(score_model(FrameClip(clip), tested, {"all": labels}, manifest, settings))
    after = right_videos(score_model(run.path, tested, {"all": labels}, manifest, settings))
    page = run.path / "report.html"
    report(run.path, recipe.data.manifest, page, labels, split=split, views=1, workers=settings.workers)
    return FolderTraining(
        run=run.path,
        page=page,
        classes=len(labels),
        videos=len(rows),
        tested=len(after),
        zero_shot=sum(before.values()) / len(before),
        trained=sum(after.values()) / len(after),
        gained=sum(after[index] and not before[index] for index in after),
        lost=sum(before[index] and not after[index] for index in after),
        patch_ratio=ratio,
    )


def split_folder(folder: Path, manifest: Path) -> tuple[DataReport, str]:
    """What class folders contain, with splits, and the split to test on; writes the manifest.

    Raises `FrosterError` where nothing is left to train or to test on.
    """
    dataset = find_dataset("folder")
    checked = check_data(dataset, folder, [], manifest, decode_all=True)
    if not any(row.splits for row in checked.videos):
        checked = check_data(
            dataset, folder, [], manifest, decode_all=True, test_share=TEST_SHARE, val_share=VALIDATION_SHARE
        )
    splits = {word for row in checked.videos for word in row.splits}
    test = next((split for split in ("test", "val") if split in splits), None)
    if test is None or "train" not in splits:
        raise FrosterError(
            f"{folder}: there is nothing to {'test' if test is None else 'train'} on; give two videos or more of each "
            "action, or folders train and test."
        )
    return checked, test


def describe_folder(checked: DataReport) -> str:
    """Lines with the videos of each split, what cannot be read, and classes that a split lacks."""
    counts = Counter(word for row in checked.videos for word in row.splits)
    number = len({row.label for row in checked.videos})
    splits = ", ".join(f"{count} in {word}" for word, count in sorted(counts.items()))
    lines = [f"{len(checked.videos)} videos of {number} actions: {splits} ({checked.manifest})"]
    if checked.unreadable:
        first = f"{checked.unreadable[0][0]}: {checked.unreadable[0][1]}"
        lines.append(f"{len(checked.unreadable)} cannot be read and are left out, such as {first}")
    lines += [f"without a video in {split}: {listed(names)}" for split, names in checked.missing_classes.items()]
    return "\n".join(lines)


def choose_patch_ratio(run: RunFolder, recipe: TrainRecipe, clip: Backbone) -> float:
    """Interpolate the best model with CLIP by the ratio that validates best, of equal ones the largest; returns it.

    0 where the recipe has no validation, keeps the last model or has a ratio of its own, or the student trains no
    weight of CLIP.
    """
    if not recipe.validation or recipe.validation.select == "last" or recipe.patch_ratio:
        return 0.0
    best = load_model(run.best)
    if best.backbone_source:  # CLIP is frozen
        return 0.0
    device = pick_device("auto")
    validation = Validation.of(recipe, read_data(recipe, warn=False), device, pick_autocast(recipe.precision, device))
    assert validation is not None

    def value(ratio: float) -> float:
        return compared_accuracy(validation.measure(patch_model(best, clip, ratio), step=0, epoch=0))

    ratio = max(PATCH_RATIOS, key=lambda ratio: (value(ratio), ratio))
    patched = recipe.model_copy(update={"patch_ratio": ratio})
    save_checkpoint(patch_model(best, clip, ratio), run.model, recipe=patched.model_dump_json())
    return ratio


def right_videos(scored: ScoredModel) -> dict[int, bool]:
    """Whether each readable video, by its index, was recognized."""
    part = scored.parts["all"]
    right = part.scores.argmax(dim=1) == part.targets
    return dict(zip(part.indices, right.tolist(), strict=True))
