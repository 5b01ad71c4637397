import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from commands import froster, froster_process
from froster.data.manifests import read_manifest, write_manifest
from froster.data.puppets import write_videos

ACTIONS = ("fishing", "kicking", "painting a wall", "running")
QUICK = (
    "optimizer.epochs=1",
    "optimizer.warmup_epochs=0",
    "average_from=null",
    "optimizer.batch_size=4",
    "data.frames=4",
)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with manifests of puppets: `mine`, and `hmdb-51` with its labels and three splits."""
    folder = tmp_path_factory.mktemp("place")
    rows = []
    for split, videos, seed in (("train", 2, 10), ("test", 1, 1000)):
        drawn = write_videos(folder / split, ACTIONS, videos, frames=10, size=64, seed=seed)
        rows += [replace(video, splits=(split,)) for video in read_manifest(drawn)]
    write_manifest(folder / "manifests" / "mine.csv", rows)
    labels = dict(zip(ACTIONS, ("pullup", "pour", "brush_hair", "cartwheel"), strict=True))  # two base, two novel
    splits = {"train": ("train1", "test2", "test3"), "test": ("test1", "train2", "train3")}
    rows = [replace(row, label=labels[row.label], splits=splits[row.splits[0]]) for row in rows]
    write_manifest(folder / "manifests" / "hmdb-51.csv", rows)
    (folder / "texts.json").write_text('{"Pour": "a person tips a bottle", "kick": "a leg swings"}', encoding="utf-8")
    return folder


@pytest.mark.slow
def test_base_to_novel_trains_tests_and_compares(place: Path) -> None:
    command = (
        *("protocol", "base-to-novel", "--dataset", "mine", "--recipe", "froster-puppets", *QUICK),
        *("--shots", 2, "--draws", 2, "--views", 1, "--frames", 4, "--out", "b2n"),
    )
    first = froster_process(*command, cwd=place)
    assert first.returncode == 0, first.stderr
    report = json.loads((place / "b2n" / "report.json").read_text(encoding="utf-8"))
    assert report["scores"]["mine"]["base"]["n"] == 2
    assert [n["clips"] for n in report["results"]] == [2, 2, 2, 2]
    assert "this run" in first.stdout
    assert "epoch 1/1" in first.stderr
    again = froster(*command, cwd=place)
    assert (again.returncode, again.stdout) == (0, first.stdout)
    assert "epoch" not in again.stderr
    changed = froster(*command, "seed=7", cwd=place)
    assert changed.returncode == 2
    assert "holds a run of another recipe (seed differs)" in changed.stderr


def test_published_numbers_beside_those_of_frozen_clip(place: Path) -> None:
    out = ("--views", 1, "--frames", 4, "--model", "puppets")
    result = froster(
        *("protocol", "base-to-novel", "--dataset", "hmdb-51", *out, "--out", "frozen"),
        *("--compare", "Frozen CLIP", "--descriptions", "HMDB51=texts.json"),
        cwd=place,
    )
    assert result.returncode == 0, result.stderr
    assert "HMDB-51 is not complete: 12 of 6,766 videos, 4 of 51 classes." in result.stdout
    report = json.loads((place / "frozen" / "report.json").read_text(encoding="utf-8"))
    assert report["descriptions"] == {"hmdb-51": ["texts.json"]}
    assert report["data"] == {"hmdb-51": "manifests/hmdb-51.csv (12 videos)"}
    assert report["settings"]["sampling"] == "release"
    lines = result.stdout.splitlines()
    assert any(line.split() == ["Frozen", "CLIP", "53.3", "46.8", "49.8"] for line in lines)
    assert any(line.startswith("minus Frozen CLIP") for line in lines)
    assert "unseen in this model's pretraining" in result.stderr
    other = ("--compare", "froster")
    result = froster("protocol", "cross-dataset", "--test", "hmdb-51,mine", *out, *other, "--out", "cross", cwd=place)
    assert result.returncode == 0, result.stderr
    header = result.stdout.splitlines()[0].split("  ")
    assert [name.strip() for name in header if name.strip()] == [
        *("method", "HMDB EP1", "HMDB*", "HMDB", "mine EP1", "mine*", "mine")
    ]
    report = json.loads((place / "cross" / "report.json").read_text(encoding="utf-8"))
    assert [n["draw"] for n in report["results"] if n["data"] == "HMDB EP1"] == ["train1 and test1"] * 10
    assert report["reference"]["method"] == "FROSTER"
    assert "FROSTER was published with class descriptions; give them with --descriptions." in report["notes"]
    assert report["differences"]["HMDB*"]["mean"] == pytest.approx(report["scores"]["HMDB*"]["mean"]["mean"] - 54.5)
    assert [n["part"] for n in report["results"] if n["data"] == "HMDB"] == ["test1", "test2", "test3"]


@pytest.mark.slow
def test_cross_dataset_trains_on_one_and_tests_on_another(place: Path) -> None:
    command = (
        *("protocol", "cross-dataset", "--train", "mine", "--test", "hmdb-51", "--recipe", "froster-puppets", *QUICK),
        *("--views", 1, "--frames", 4, "--out", "trained"),
    )
    result = froster(*command, cwd=place)
    assert result.returncode == 0, result.stderr
    recipe = json.loads((place / "trained" / "run" / "recipe.json").read_text(encoding="utf-8"))
    assert len(read_manifest(Path(place / recipe["data"]["manifest"]))) == 8, "the training split alone"
    assert "Trained on 8 clips of manifests/mine.csv" in result.stdout

    result = froster(
        *("protocol", "trade-off", "trained/run", "puppets", "--closed", "mine", "--test", "mine,hmdb-51"),
        *("--ratio", 0, "--ratio", 0.5, "--ratio", 1, "--views", 1, "--frames", 4),
        cwd=place,
    )
    assert result.returncode == 0, result.stderr
    assert [Path(line).name for line in result.stdout.split()] == ["trade-off.md", "trade-off.json", "trade-off.png"]
    found = json.loads((place / "runs" / "trade-off" / "trade-off.json").read_text(encoding="utf-8"))
    assert found["ratios"] == [0, 0.5, 1]
    assert set(found["top1"]) == {"mine", "HMDB*"}


def test_an_ensemble_with_itself_is_the_model(place: Path) -> None:
    options = ("protocol", "cross-dataset", "--test", "mine", "--model", "puppets", "--views", 1, "--frames", 4)
    scores = []
    for out, ensemble in (("alone", ()), ("both", ("--ensemble", "puppets=0.3"))):
        result = froster(*options, "--out", out, *ensemble, cwd=place)
        assert result.returncode == 0, result.stderr
        report = json.loads((place / out / "report.json").read_text(encoding="utf-8"))
        scores.append(report["scores"])
        assert report.get("ensemble") == (ensemble[1] if ensemble else None)
    assert scores[0] == scores[1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["cross-dataset", "--test", "mine", "--model", "puppets", "--ensemble", "puppets=half"], "MODEL=SHARE"),
        (["cross-dataset", "--test", "mine", "--model", "puppets", "--ensemble", "puppets=2"], "between 0 and 1"),
        (["base-to-novel", "--dataset", "yours"], "no manifest manifests/yours.csv; write it with `froster data check"),
        (["base-to-novel", "--dataset", "mine", "--model", "puppets", "seed=1"], "either --recipe.*or --model"),
        (["base-to-novel", "--dataset", "mine", "--student", "aim"], "--student is for --model"),
        (["base-to-novel", "--dataset", "mine", "--base", "running"], "--base and --novel go together"),
        (["base-to-novel", "--dataset", "mine", "--model", "puppets", "--compare", "FROSTR"], "did you mean 'FROSTER'"),
        (
            ["base-to-novel", "--dataset", "mine", "--descriptions", "your=texts.json"],
            "'your' is none of the datasets",
        ),
        (["base-to-novel", "--dataset", "mine", "--descriptions", "mine=none.json"], "there is no file none.json"),
        (["base-to-novel", "--dataset", "mine", "--model", "puppets", "--shots", "3"], "no meaning with --model"),
        (["base-to-novel", "--dataset", "mine", "--base", "runing,", "--novel", "kicking,"], "did you mean 'running'"),
        (["cross-dataset", "--test", "hmdb-51", "--model", "puppets", "--half", "x.json"], "not of the form NAME=FILE"),
        (["cross-dataset", "--test", "hmdb-51", "--model", "puppets", "--train", "mine"], "--train is to train"),
        (["cross-dataset", "--test", ","], "Name at least one dataset"),
        (["base-to-novel", "--dataset", "mine", "--recipe", "nothing"], "There is no recipe nothing, neither"),
    ],
)
def test_errors_are_one_line(place: Path, arguments: list[str], message: str) -> None:
    result = froster("protocol", *arguments, cwd=place)
    assert result.returncode == 2
    assert result.stderr.startswith("froster: ")
    assert result.stderr.count("\n") == 1
    assert re.search(message, result.stderr), result.stderr
