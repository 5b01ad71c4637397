"""From a folder of clips to a tested model: `froster.train_folder` and `froster train --fast`."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open

import froster
from commands import froster as command
from froster.data.manifests import read_manifest
from froster.data.puppets import write_videos
from froster.errors import FrosterError, WeightsError
from froster.models import load_model, save_model
from froster.training.folder import PATCH_RATIOS, describe_folder, split_folder

ACTIONS = ["walking", "juggling balls", "sitting down"]
SHORT: dict[str, Any] = {
    "model": "puppets",
    "data": {"frames": 2, "workers": 0, "resize_short_side": [64, 64]},
    "optimizer": {"epochs": 2, "min_steps": 0, "warmup_epochs": 1, "batch_size": 3},
    "average_from": None,
    "precision": "float32",
}


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five small videos of three actions, in class folders."""
    folder = tmp_path_factory.mktemp("folder") / "clips"
    write_videos(folder, ACTIONS, videos=5, frames=6, size=64).unlink()
    return folder


@pytest.mark.slow(8)
def test_a_folder_becomes_a_model_that_is_compared_with_clip(clips: Path, tmp_path: Path) -> None:
    done = froster.train_folder(clips, out=str(tmp_path / "run"), show=False, **SHORT)
    rows = read_manifest(done.run / "manifest.csv")
    assert (done.videos, done.classes, done.tested) == (15, 3, 3)
    tested = [row for row in rows if row.splits == ("test",)]
    before, after = (
        froster.evaluate(model, tested, sorted({row.label for row in rows}), views=1, frames=2).parts["all"].top1
        for model in (froster.load_model("puppets"), done.run)
    )
    assert (done.zero_shot, done.trained) == (before, after)
    assert done.gained - done.lost == round(3 * (after - before))
    assert done.helped == (after > before)
    assert "untrained" in done.sentence and "CLIP" in done.page.read_text(encoding="utf-8")

    # The ratio was chosen on the validation split alone, from the best model of training.
    validated = [row for row in rows if row.splits == ("val",)]
    accuracy = {
        ratio: froster.evaluate(
            froster.patch_model(done.run / "best.safetensors", "puppets", ratio),
            validated,
            views=1,
            precision="float32",
        )
        .parts["all"]
        .top1
        for ratio in PATCH_RATIOS
    }
    assert done.patch_ratio == max(PATCH_RATIOS, key=lambda ratio: (accuracy[ratio], ratio))
    with safe_open(done.run / "model.safetensors", "pt") as file:
        assert json.loads(file.metadata()["recipe"])["patch_ratio"] == done.patch_ratio

    again = froster.train_folder(clips, out=str(tmp_path / "run"), show=False, resume=True, **SHORT)
    assert again == done
    with pytest.raises(FrosterError, match="holds a run already"):
        froster.train_folder(clips, out=str(tmp_path / "run"), **SHORT)


def test_a_wrong_recipe_is_said_before_clips_are_decoded(clips: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    wrong: dict[str, dict[str, Any]] = {
        "unknown key 'optimizer.epoch', did you mean 'epochs'": {"optimizer": {"epoch": 3}},
        "out: input is not a valid path": {"out": None},
        "give either share, or split or manifest": {"validation": {"share": 0.2, "split": "val"}},
    }
    for message, overrides in wrong.items():
        with pytest.raises(FrosterError, match=message):
            froster.train_folder(clips, show=False, **{**SHORT, "out": str(out), **overrides})
    assert not out.exists()


def test_a_fine_tuned_model_is_refused_before_it_is_trained(clips: Path, tmp_path: Path) -> None:
    save_model(load_model("puppets", "vclip"), tmp_path / "tuned.safetensors")
    changes = {
        **SHORT,
        "model": str(tmp_path / "tuned.safetensors"),
        "out": str(tmp_path / "run"),
        "teacher": "puppets",
    }
    with pytest.raises(WeightsError, match="is a fine-tuned student"):
        froster.train_folder(clips, show=False, **changes)
    assert not (tmp_path / "run" / "log.jsonl").exists()


def test_folders_of_splits_are_kept(clips: Path, tmp_path: Path) -> None:
    for number, split in enumerate(("train", "train", "val")):
        for action in clips.iterdir():
            if action.is_dir():
                target = tmp_path / "clips" / split / action.name
                target.mkdir(parents=True, exist_ok=True)
                shutil.copy(sorted(action.iterdir())[number], target)
    (tmp_path / "clips" / "train" / "walking" / "broken.mp4").write_bytes(b"no video")
    checked, split = split_folder(tmp_path / "clips", tmp_path / "manifest.csv")
    assert split == "val" and len(checked.videos) == 9
    told = describe_folder(checked).splitlines()
    assert told[0] == f"9 videos of 3 actions: 6 in train, 3 in val ({tmp_path / 'manifest.csv'})"
    assert told[1].startswith("1 cannot be read and are left out, such as train/walking/broken.mp4: ")
    shutil.rmtree(tmp_path / "clips" / "val")
    with pytest.raises(FrosterError, match="there is nothing to test on"):
        split_folder(tmp_path / "clips", tmp_path / "manifest.csv")


def test_the_command_names_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    result = command("train", "--fast", "empty", cwd=tmp_path)
    assert result.returncode == 2
    assert result.stderr.splitlines()[-1] == "froster: There is no video file under empty."
    assert "is a folder, not a recipe; --fast trains" in command("train", "empty", cwd=tmp_path).stderr
    (tmp_path / "clips.csv").touch()
    assert "clips.csv is a file; --fast takes a folder" in command("train", "--fast", "clips.csv", cwd=tmp_path).stderr
    bad = command("train", "--fast", "empty", "out=clips.csv/run", cwd=tmp_path)
    assert bad.returncode == 2 and "Traceback" not in bad.stderr
