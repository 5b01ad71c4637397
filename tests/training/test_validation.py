"""Validation while training: what is held out, what is measured, which model is kept, when training stops."""

import json
import math
import re
from pathlib import Path

import pytest
import torch

import froster
from froster import load_model
from froster.data.manifests import LabeledVideo, read_manifest, write_manifest
from froster.data.puppets import write_videos
from froster.errors import FrosterError, FrosterWarning
from froster.settings import InferenceSettings
from froster.text.classes import ClassTexts
from froster.training import loop, metrics
from froster.training.checkpoint import RunFolder
from froster.training.data import read_data
from froster.training.recipe import TrainRecipe, ValidationSettings
from froster.training.run import Run
from froster.training.validation import Validation, choose_vocabularies

RECIPE = Path(__file__).parents[2] / "recipes" / "froster-puppets.yaml"
ACTIONS = ["walking", "juggling balls", "sitting down"]
SHORT = [
    "optimizer.epochs=3",
    "optimizer.warmup_epochs=0",
    "optimizer.batch_size=3",
    "average_from=null",
    "data.frames=2",
    "data.workers=0",
    "data.puppets=null",
    "precision=float32",
]


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """12 small videos of three actions."""
    return write_videos(tmp_path_factory.mktemp("clips"), ACTIONS, videos=4, frames=6, size=64)


def read(manifest: Path, out: Path, *changes: str) -> TrainRecipe:
    return TrainRecipe.read(RECIPE, [*SHORT, f"out={out}", f"data.manifest={manifest}", *changes])


def history(out: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (out / "validation.jsonl").read_text().splitlines()]


def equal(a: Path, b: Path) -> bool:
    ours, theirs = load_model(a).state_dict(), load_model(b).state_dict()
    return all(torch.equal(ours[key], theirs[key]) for key in ours)


# What is held out.


def test_a_share_is_held_out_of_training(manifest: Path, tmp_path: Path) -> None:
    data = read_data(read(manifest, tmp_path, "validation.share=0.25"), warn=False)
    assert len(data.videos) == 9 and len(data.held_out) == 3
    assert {video.label for video in data.held_out} == set(ACTIONS)
    assert not {video.path for video in data.videos} & {video.path for video in data.held_out}
    assert not data.novel


def test_segments_of_a_file_are_held_out_together(tmp_path: Path) -> None:
    rows = [
        LabeledVideo(tmp_path / f"{name}.mp4", label, (), start, start + 1)
        for name, label in (("a", "x"), ("b", "x"), ("c", "y"), ("d", "y"))
        for start in (0.0, 1.0)
    ]
    write_manifest(tmp_path / "rows.csv", rows)
    data = read_data(read(tmp_path / "rows.csv", tmp_path, "validation.share=0.5"), warn=False)
    assert len(data.videos) == len(data.held_out) == 4
    assert not {video.path for video in data.videos} & {video.path for video in data.held_out}


def test_rows_of_classes_that_are_not_trained_are_novel(manifest: Path, tmp_path: Path) -> None:
    rows = read_manifest(manifest)
    splits = {"walking": ("train", "val"), "juggling balls": ("train", "val"), "sitting down": ("val", "val")}
    write_manifest(
        tmp_path / "split.csv",
        [LabeledVideo(row.path, row.label, (splits[row.label][number % 2],)) for number, row in enumerate(rows)],
    )
    recipe = read(tmp_path / "split.csv", tmp_path, "data.split=train", "validation.split=val")
    data = read_data(recipe, warn=False)
    assert list(data.labels) == ["juggling balls", "walking"]
    assert list(data.novel) == ["sitting down"]
    both = choose_vocabularies(data.held_out, data.labels, data.novel)
    assert both == {"base": data.labels, "novel": data.novel}
    for described, expected in (("walking", ""), ("sitting down", "on a chair")):  # the other class has no description
        texts = {"juggling balls": "in the air", described: "on a chair"}
        (tmp_path / "texts.json").write_text(json.dumps(texts))
        changes = "data.split=train", "validation.split=val", f"data.descriptions={tmp_path / 'texts.json'}"
        novel = read_data(read(tmp_path / "split.csv", tmp_path, *changes), warn=False).novel
        assert novel.descriptions == {"sitting down": expected}
    only_novel = [video for video in data.held_out if video.label == "sitting down"]
    assert choose_vocabularies(only_novel, data.labels, data.novel) == {"novel": data.novel}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["validation.split=train"], "validation: 12 of 12 videos are trained on too"),
        (["validation.patience=2"], "give either share, or split or manifest"),
        (["validation.share=0.2", "validation.split=val"], "give either share, or split or manifest"),
    ],
)
def test_what_cannot_be_held_out(manifest: Path, tmp_path: Path, changes: list[str], message: str) -> None:
    rows = [LabeledVideo(row.path, row.label, ("train",)) for row in read_manifest(manifest)]
    write_manifest(tmp_path / "rows.csv", rows)
    with pytest.raises(FrosterError, match=message):
        read_data(read(tmp_path / "rows.csv", tmp_path, *changes), warn=False)


def test_segments_may_share_a_file_but_no_time(manifest: Path, tmp_path: Path) -> None:
    (row, other, *_) = read_manifest(manifest)
    write_manifest(tmp_path / "train.csv", [LabeledVideo(row.path, "a", end=2.0), LabeledVideo(other.path, "b")])
    recipe = read(tmp_path / "train.csv", tmp_path, f"validation.manifest={tmp_path / 'val.csv'}")
    write_manifest(tmp_path / "val.csv", [LabeledVideo(row.path, "a", start=2.0)])
    assert len(read_data(recipe, warn=False).held_out) == 1
    write_manifest(tmp_path / "val.csv", [LabeledVideo(row.path, "a", start=1.9)])
    with pytest.raises(FrosterError, match="1 of 1 videos are trained on too"):
        read_data(recipe, warn=False)


def test_single_files_cannot_be_held_out(manifest: Path, tmp_path: Path) -> None:
    first = {row.label: row for row in read_manifest(manifest)}
    write_manifest(tmp_path / "rows.csv", first.values())
    with pytest.raises(FrosterError, match="no class has two files"):
        read_data(read(tmp_path / "rows.csv", tmp_path, "validation.share=0.2"), warn=False)


# When, and what is best.


def validation(manifest: Path, *values: float, **settings: object) -> Validation:
    """A validation that measured these top-1, a step apart."""
    labels = ClassTexts.of_names(ACTIONS)
    chosen = ValidationSettings.model_validate({"split": "val", **settings})
    made = Validation(chosen, read_manifest(manifest), {"all": labels}, manifest, InferenceSettings())
    made.history = [
        {"step": step, "epoch": step, "videos": 12, "cross_entropy": 1.0, "top1": value}
        for step, value in enumerate(values)
    ]
    return made


def test_is_due_by_epochs_or_steps_and_at_the_end(manifest: Path) -> None:
    def due(**settings: object) -> list[int]:
        made = validation(manifest, **settings)
        return [step for step in range(21) if made.is_due(step, steps_per_epoch=5, steps=20)]

    assert due() == [0, 5, 10, 15, 20]
    assert due(every_epochs=3) == [0, 15, 20]
    assert due(every_steps=8) == [0, 8, 16, 20]
    assert not validation(manifest, 0.1, 0.2).is_due(1, 1, 20)  # measured before the run was interrupted


def test_cross_entropy_decides_between_equal_validations(manifest: Path) -> None:
    made = validation(manifest, 0.5, 0.7, 0.7, 0.6)
    assert made.best["step"] == 1 and not made.is_best
    assert made.describe(made.history[-1]) == (
        "validation at step 3: cross entropy 1.000, top-1 60.0 % (best 70.0 % at step 1)"
    )
    made.history[2]["cross_entropy"] = 0.9
    assert made.best["step"] == 2


def test_patience_counts_validations_since_the_best(manifest: Path) -> None:
    values = (0.5, 0.7, 0.7, 0.6)
    assert [validation(manifest, *values[:n], patience=2).should_stop for n in range(1, 5)] == [False] * 3 + [True]
    assert not validation(manifest, *values).should_stop


# Whole runs.


def stopped_at(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Interrupt training as this step begins."""
    take_step = loop.take_step

    def step_or_stop(run: Run, *rest: object) -> dict[str, float]:
        if run.step == step:
            raise KeyboardInterrupt
        return take_step(run, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(loop, "take_step", step_or_stop)


def test_the_state_is_saved_with_a_new_best_model(
    manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics, "compared_accuracy", lambda record: record["step"])  # each is better than the last
    recipe = read(manifest, tmp_path, "validation.share=0.25", "validation.every_steps=2")
    stopped_at(2, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        loop.train(recipe, show=False)
    saved = RunFolder(recipe.out).state.load()
    assert saved is not None and saved["step"] == 2


@pytest.mark.slow(10)
def test_the_best_model_is_kept_and_a_run_resumes_between_epochs_to_the_same_bits(
    manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    changes = "validation.share=0.25", "validation.every_steps=2", "patch_ratio=0.2", "optimizer.learning_rate=3e-4"
    model = loop.train(recipe := read(manifest, tmp_path / "whole", *changes))
    shown = capsys.readouterr().err
    measured = history(recipe.out)
    assert [record["step"] for record in measured] == [0, 2, 4, 6, 8, 9]
    assert all(re.search(rf"validation at step {record['step']}: cross entropy ", shown) for record in measured)

    # What it measured is what `evaluate` says, of the weights that it saved.
    best = max(measured, key=lambda record: (record["top1"], -record["cross_entropy"]))
    held_out = read_data(recipe, warn=False).held_out
    report = froster.evaluate(model, held_out, ACTIONS, views=1, precision="float32")
    assert report.parts["all"].top1 == best["top1"]
    assert report.parts["all"].mean_class_accuracy == best["mean_class_accuracy"]
    recognizer = froster.Recognizer(model, ACTIONS, views=1, precision="float32")
    shares = [dict(recognizer.predict(video.path).ranked)[video.label] for video in held_out]
    assert best["cross_entropy"] == pytest.approx(-sum(map(math.log, shares)) / len(shares), abs=1e-4)
    assert equal(model, recipe.out / "best.safetensors")

    broken = read(manifest, tmp_path / "broken", *changes, "save_every_minutes=1e-9")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        stopped_at(5, patch)
        loop.train(broken)
    assert loop.train(broken, resume=True) == broken.out / "model.safetensors"
    assert history(broken.out) == measured
    assert [step["step"] for step in map(json.loads, (broken.out / "log.jsonl").read_text().splitlines())] == list(
        range(1, 10)
    )
    assert equal(broken.out / "model.safetensors", model)


def test_training_that_hurts_stops_early_and_says_so(manifest: Path, tmp_path: Path) -> None:
    recipe = read(
        manifest, tmp_path / "run", "validation.share=0.5", "validation.patience=1", "optimizer.learning_rate=0.01"
    )
    with pytest.warns(FrosterWarning, match="No validation was better than that before the first step"):
        model = loop.train(recipe)
    assert [record["step"] for record in history(recipe.out)] == [0, 2]  # an epoch is two steps
    start = load_model("puppets", student="vclip").state_dict()
    assert all(torch.equal(value, start[key]) for key, value in load_model(model).state_dict().items())


def test_novel_classes_give_a_harmonic_mean(manifest: Path, tmp_path: Path) -> None:
    rows = read_manifest(manifest)
    trained = [row for row in rows if row.label != "sitting down"]
    held_out = [row for row in rows if row.label == "sitting down"] + trained[:1] + trained[-1:]
    write_manifest(tmp_path / "train.csv", trained[1:-1])
    write_manifest(tmp_path / "val.csv", held_out)
    recipe = read(
        tmp_path / "train.csv",
        tmp_path / "run",
        f"validation.manifest={tmp_path / 'val.csv'}",
        "validation.select=last",
        "optimizer.epochs=1",
    )
    loop.train(recipe)
    for record in history(recipe.out):
        base, novel = record["base_top1"], record["novel_top1"]
        assert record["videos"] == 6
        assert novel == 1.0  # the only novel class
        assert record["harmonic_mean"] == pytest.approx(2 * base * novel / (base + novel) if base else 0)
