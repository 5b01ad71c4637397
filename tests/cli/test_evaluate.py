import json
import os
import pty
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from commands import FROSTER, froster, froster_process
from froster import Recognizer
from froster.data.puppets import write_videos
from froster.models import puppets_weights

BASE = ["juggling balls", "riding a bicycle", "throwing a ball"]
NOVEL = ["walking", "sitting down", "catching a ball"]
UNREADABLE = "text.mp4"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two videos of each action, one file that is no video, and class lists."""
    folder = tmp_path_factory.mktemp("data")
    manifest = write_videos(folder, [*BASE, *NOVEL], videos=2, frames=16, size=64, seed=40)
    (folder / UNREADABLE).write_text("this is a text file\n" * 50)
    with manifest.open("a", encoding="utf-8") as file:
        file.write(f"{UNREADABLE},walking\n")
    (folder / "novel.txt").write_text("\n".join(NOVEL))
    return folder


def evaluated(data: Path, *arguments: object) -> dict[str, Any]:
    result = froster("evaluate", "puppets", "--data", "manifest.csv", "--json", *arguments, cwd=data)
    assert result.returncode == 1, result.stderr  # one video cannot be read
    assert result.stderr == ""
    return json.loads(result.stdout)


@pytest.mark.slow
def test_json_holds_everything_and_does_not_depend_on_workers(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "made" / "report.json"
    content = evaluated(data, "--precision", "float32", "--workers", 1, "--out", out)
    assert json.loads(out.read_text(encoding="utf-8")) == content
    assert [path.name for path in out.parent.iterdir()] == ["report.json"]
    assert evaluated(data, "--precision", "float32", "--workers", 2) == content

    names = sorted([*BASE, *NOVEL])
    recognizer = Recognizer("puppets", names, precision="float32")
    files = [(label, data / label.replace(" ", "-") / f"{number}.mp4") for label in names for number in (40, 41)]
    rankings = [(label, [name for name, _ in recognizer.predict(file).ranked]) for label, file in files]
    part = content["all"]
    assert (part["clips"], part["classes"]) == (12, 6)
    assert part["top1"] == sum(ranking[0] == label for label, ranking in rankings) / 12
    assert part["top5"] == sum(label in ranking[:5] for label, ranking in rankings) / 12
    assert part["mean_class_accuracy"] == pytest.approx(part["top1"])
    assert sum(pair["count"] for pair in part["confusions"]) == 12 - round(12 * part["top1"])
    assert {name: entry["clips"] for name, entry in part["per_class"].items()} == dict.fromkeys(names, 2)
    ((unreadable),) = content["unreadable"]
    assert unreadable["video"] == UNREADABLE
    assert "not a video" in unreadable["reason"]
    assert content["partial"] == []
    assert (content["model"], content["student"], content["views"], content["frames"]) == (
        "puppets",
        "frame_clip",
        3,
        8,
    )


@pytest.mark.slow
def test_base_and_novel_of_a_run_folder_as_tables_in_a_pipe(data: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    shutil.copy(puppets_weights(), run)
    out = tmp_path / "report.json"
    split = ["--base", ", ".join(BASE), "--novel", "novel.txt", "--student", "vclip:window=2", "--out", out]
    result = froster_process("evaluate", run, "--data", "manifest.csv", *split, cwd=data)
    assert result.returncode == 1, result.stderr  # after all that follows
    content = json.loads(out.read_text(encoding="utf-8"))
    base, novel, mean = content["base"]["top1"], content["novel"]["top1"], content["harmonic_mean"]
    assert mean == pytest.approx(2 * base * novel / (base + novel))
    assert content["student_options"] == {"window": 2, "boundary": "zero"}
    assert content["base"]["top5"] is None
    lines = result.stdout.splitlines()
    assert f"{run} (vclip window=2 boundary=zero) on manifest.csv" == lines[0]
    cells = {line.split("  ")[0]: line.split() for line in lines}
    assert cells["base"][1:4] == ["6", "3", f"{100 * base:.1f}"]
    assert cells["novel"][1:4] == ["6", "3", f"{100 * novel:.1f}"]
    assert cells["harmonic mean"][2] == f"{100 * mean:.1f}"
    assert "1 of 13 videos could not be read; not counted among the clips:" in lines
    assert lines[-1].startswith(f"  {UNREADABLE}: not a video")
    assert "█" not in result.stdout
    assert result.stderr == ""


@pytest.mark.slow
def test_bars_and_progress_in_a_terminal(data: Path) -> None:
    controller, terminal = pty.openpty()
    command = [FROSTER, "evaluate", "puppets", "--data", "manifest.csv", "--views", "1"]
    environment = {**os.environ, "COLUMNS": "90", "TERM": "xterm"}
    process = subprocess.Popen(command, stdout=terminal, stderr=terminal, cwd=data, env=environment)
    os.close(terminal)
    shown = b""
    try:
        while chunk := os.read(controller, 1 << 16):
            shown += chunk
    except OSError:  # Linux says so when the other end has closed
        pass
    assert process.wait(timeout=300) == 1
    text = shown.decode()
    assert "Loading puppets and reading its labels" in text
    assert "13/13" in text
    assert "6 classes, worst first" in text
    assert "█" in text


def test_labels_in_a_wider_vocabulary(data: Path) -> None:
    content = evaluated(data, "--labels", "puppets", "--views", 1, "--frames", 4)
    assert content["all"]["classes"] > 40
    assert len(content["all"]["per_class"]) == 6
    assert (content["views"], content["frames"]) == (1, 4)


def test_status_is_0_where_every_video_is_read_and_help_says_so(data: Path) -> None:
    (data / "readable.csv").write_text("path, label\njuggling-balls/40.mp4, juggling balls\n")
    command = ["--data", "readable.csv", "--labels", ", ".join(BASE), "--views", 1, "--frames", 4]
    result = froster("evaluate", "puppets", *command, cwd=data)
    assert result.returncode == 0, result.stderr
    assert "could not be read" not in result.stdout
    shown = " ".join(froster("evaluate", "--help", cwd=data).stdout.split())
    assert "where there are any, the exit status is 1" in shown


def test_long_tables_show_the_worst() -> None:
    from rich.console import Console

    from froster.cli.evaluate import show
    from froster.evaluation import Evaluation, EvaluationSettings, ModelReport

    accuracy = {f"[red]class {number}": number / 20 for number in range(20)}
    clips = dict.fromkeys(accuracy, 20)
    confusions = [(f"[red]class {number}", "[red]class 19", 20 - number) for number in range(19)]
    part = Evaluation(400, 30, 0.475, 0.9, 0.475, accuracy, clips, confusions)
    settings = EvaluationSettings("m", "vclip", {}, "clips.csv", None, 28, 0, 3, 8, "uniform", "cpu", "float32")
    unreadable = [(f"{number}.mp4", f"{number}.mp4: there is no such file.") for number in range(25)]
    console = Console(record=True, width=80, markup=False, file=open(os.devnull, "w"))  # noqa: PTH123, SIM115
    show(ModelReport(settings, {"all": part}, unreadable, []), console)
    text = console.export_text()
    assert "The worst 10 of 20 classes (the others have no clips)" in text
    assert "[red]class 9 " in text
    assert "[red]class 10" not in text
    assert "20 of 20" in text
    assert "25 of 425 videos could not be read" in text
    assert "19.mp4: there" in text
    assert "20.mp4: there" not in text
    assert "… and 5 more" in text


def test_full_disk_does_not_cost_the_result(data: Path) -> None:
    (data / "file").touch()
    result = froster("evaluate", "puppets", "--data", "manifest.csv", "--out", "file/report.json", cwd=data)
    assert result.returncode == 2
    assert len(result.stderr.splitlines()) == 1
    assert "6 classes, worst first" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--labels", "a", "--labels-file", "b"], "the classes in one way"),
        (["--labels", "a", "--base", "a", "--novel", "b"], "the classes in one way"),
        (["--base", "a"], "--base together with --novel"),
        (["--out", "."], "--out . is a folder"),
        (["--data", "none.csv"], "none.csv cannot be read"),
        (["--base", "none.txt", "--novel", "novel.txt"], "none.txt cannot be read"),
        (["--base", "walking", "--novel", "novel.txt"], "'walking' is both base and novel"),
        (["--base", "juggling balls, riding a bicycle", "--novel", "novel.txt"], "'throwing a ball'"),
        (["--base", "a, a", "--novel", "novel.txt"], "--base: the label 'a' is given twice"),
        (["--labels", "walking"], "not among the 1 classes, 'juggling balls'"),
        (
            ["--labels", "Walking, Jugling_Balls"],
            "'juggling balls' (did you mean 'Jugling_Balls'?), 'riding a bicycle',",
        ),
        (["--labels", "puppet"], "did you mean the vocabulary 'puppets'"),
        (["--student", "vklip"], "did you mean 'vclip'"),
    ],
)
def test_user_errors_are_one_line(data: Path, arguments: list[str], message: str) -> None:
    result = froster("evaluate", "puppets", "--data", "manifest.csv", *arguments, cwd=data)
    assert result.returncode == 2
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert message in line
