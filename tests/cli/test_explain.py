import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from commands import froster, froster_process
from froster.checkpoints.own import save_checkpoint
from froster.cli.explain import explain
from froster.data.puppets import write_videos
from froster.errors import FrosterError
from froster.models import load_model


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    write_videos(folder, ["juggling balls"], videos=1, frames=16, size=64, seed=5)
    return folder / "juggling-balls" / "5.mp4"


@pytest.mark.slow
def test_picture_and_films(video: Path, tmp_path: Path) -> None:
    labels = ("--label", "juggling balls", "--labels", "riding a bicycle, juggling balls")
    models = ("--models", "frozen=puppets, again = puppets")
    result = froster_process(
        "explain", video, *labels, *models, "--kind", "gradient", "--out", tmp_path / "out" / "look.png"
    )
    assert result.returncode == 0, result.stderr
    first, second = result.stdout.splitlines()
    assert first.startswith("frozen: juggling balls ")
    assert float(first.split()[-2]) > 50
    assert second == first.replace("frozen", "again")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["look.gif", "look.mp4", "look.png"]
    with Image.open(tmp_path / "out" / "look.png") as picture:
        assert picture.size == (2 * 18 + 112 + 8 * 164 - 4, 68 + 3 * 164 - 4 + 18)


def test_without_models_labels_and_films(video: Path, tmp_path: Path) -> None:
    result = froster("explain", video, "--label", " bowing ", "--no-animation", "--frames", 2, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "(puppets only)" in result.stderr
    assert result.stdout.startswith("puppets: bowing cosine ")
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["explain.png"]


def test_a_run_is_asked_with_the_prompts_that_it_was_trained_with(video: Path, tmp_path: Path) -> None:
    model = load_model("puppets")
    model.templates = ("riding a bicycle and {}",)
    save_checkpoint(model, tmp_path / "run" / "model.safetensors")
    options = ("--labels", "riding a bicycle, bowing", "--frames", 2)
    models = ("--models", "usual=puppets,own=run", "--no-animation")
    result = froster("explain", video, "--label", "bowing", *options, *models, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "Using the 1 template that run was trained with." in result.stderr
    said = {}
    for name, model in (("usual", "puppets"), ("own", "run")):
        same = ("--model", model, "--views", 1, "--precision", "float32", "--json")
        predicted = froster("predict", video, *options, *same, cwd=tmp_path)
        scores = {row["label"]: row["score"] for row in json.loads(predicted.stdout)["predictions"]}
        said[name] = f"{name}: bowing {100 * scores['bowing']:.1f} %"
    assert result.stdout.splitlines() == list(said.values())
    usual, own = (float(line.split()[-2]) for line in said.values())
    assert abs(usual - own) > 2, said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"video": "*.mp4"}, r"\*.mp4 holds 2 videos"),
        ({"out": Path("look.jpg")}, "look.jpg must end in .png"),
        ({"out": Path("clip.mp4/look.png")}, "clip.mp4"),
        ({"label": "  "}, "label: an action name is empty"),
        ({"labels": "kinetics-40"}, "did you mean the vocabulary 'kinetics-400'"),
        ({"models": "frozen=puppets,frozen=puppets"}, "the name 'frozen' twice"),
        ({"models": "frozen="}, "write NAME=MODEL"),
        ({"models": "=puppets"}, "write NAME=MODEL"),
        ({"models": ","}, "names no model"),
        ({"models": "vit-b16"}, "did you mean 'vit-b-16'"),
        ({"models": "clip=clip.mp4"}, "clip.mp4 is not a checkpoint"),
        ({"device": "cuda:77"}, "device 'cuda:77' cannot be used"),
        ({"video": "text.mp4"}, "text.mp4"),
    ],
)
def test_what_users_can_get_wrong_is_named(
    video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: dict[str, Any], message: str
) -> None:
    for name in ("clip.mp4", "other.mp4"):
        shutil.copy(video, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    if arguments.get("video") == "text.mp4":
        Path("text.mp4").write_text("this is no video\n" * 50)
    with pytest.raises(FrosterError, match=message):
        explain(**{"video": "clip.mp4", "label": "bowing", "models": "puppets", **arguments})
    assert not [path for path in tmp_path.rglob("*") if path.suffix in (".png", ".gif") or "look" in path.name]


def test_errors_are_one_line(tmp_path: Path) -> None:
    result = froster("explain", "none.mp4", "--label", "bowing", cwd=tmp_path)
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.splitlines() == ["froster: none.mp4: there is no such file or folder."]


def test_labels_descriptions_and_templates_are_those_of_predict(video: Path, tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("juggling balls\nbowing\n")
    (tmp_path / "said.json").write_text(json.dumps({"bowing": "throws balls into the air"}))
    (tmp_path / "prompts.txt").write_text("a drawing of {}.\n")
    words = ("--labels-file", "labels.txt", "--descriptions", "said.json", "--templates", "prompts.txt")
    result = froster(
        "explain", video, "--label", "bowing", *words, "--models", "puppets", "--no-animation", cwd=tmp_path
    )
    assert result.returncode == 0, result.stderr
    predicted = froster(
        "predict", video, *words, "--model", "puppets", "--views", 1, "--precision", "float32", cwd=tmp_path
    )
    scores = {row["label"]: row["score"] for row in json.loads(predicted.stdout)["predictions"]}
    assert result.stdout == f"puppets: bowing {100 * scores['bowing']:.1f} %\n"
