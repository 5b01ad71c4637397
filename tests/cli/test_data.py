"""`froster data check` as people run it: output, files, exit status, one-line errors."""

import json
import os
import pty
import re
import subprocess
from pathlib import Path

import pytest

from commands import FROSTER, froster, froster_process
from froster.cli.data import check
from froster.data.manifests import read_manifest
from froster.errors import FrosterError
from standins import STANDINS, put_video


def cells(output: str) -> dict[str, list[str]]:
    return {line.split()[0]: line.split() for line in output.splitlines() if line.strip()}


@pytest.mark.slow
def test_a_data_set_with_faults(tmp_path: Path) -> None:
    standin = STANDINS["ucf_official"](tmp_path)
    (standin.root / "YoYo" / "v_YoYo_g01_c01.avi").unlink()
    (standin.root / "YoYo" / "v_YoYo_g02_c01.avi").write_text("this is a text\n" * 50)
    put_video(standin.root / "YoYo" / "[red]holiday.avi")
    result = froster_process("data", "check", "UCF-101", "--dataset", "UCF101", "--decode", cwd=tmp_path)
    assert result.returncode == 1, result.stderr
    assert result.stderr == ""
    lines = result.stdout.splitlines()
    assert lines[:2] == ["UCF-101 in UCF-101", "lists: ucfTrainTestlist"]
    table = cells(result.stdout)
    assert table["published"] == ["published", "listed", "found", "missing", "unreadable"]
    assert table["test1"] == ["test1", "3,783", "6", "5", "1", "1"]
    assert table["train1"] == ["train1", "9,537", "12", "12", "0", "0"]
    assert table["all"] == ["all", "13,320", "18", "17", "1", "1"]
    assert "1 video is missing, listed in manifests/ucf-101.missing.txt:" in lines
    assert "  YoYo/v_YoYo_g01_c01.avi" in lines
    assert "1 video is not readable and skipped, listed in manifests/ucf-101.unreadable.csv:" in lines
    assert any(line.startswith("  YoYo/v_YoYo_g02_c01.avi: not a video") for line in lines)
    assert "1 video is in no list:" in lines
    assert "  YoYo/[red]holiday.avi" in lines
    assert lines[-2] == "16 videos of 3 classes: manifests/ucf-101.csv"
    assert lines[-1] == ("Next: froster evaluate vit-b-16 --data manifests/ucf-101.csv --labels ucf-101 --split test1")
    assert len(read_manifest(tmp_path / "manifests" / "ucf-101.csv")) == 16
    assert (tmp_path / "manifests" / "ucf-101.missing.txt").read_text() == "YoYo/v_YoYo_g01_c01.avi\n"


def test_json_of_a_whole_data_set(tmp_path: Path) -> None:
    standin = STANDINS["kinetics_mmaction"](tmp_path / "k400")
    result = froster("data", "check", "k400", "--dataset", "k400", "--json", "--out", "m/k.csv", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    content = json.loads(result.stdout)
    assert (content["dataset"], content["videos"], content["classes"]) == ("kinetics-400", 12, 3)
    assert content["lists"] == ["k400/annotations/kinetics_train.csv", "k400/annotations/kinetics_val.csv"]
    assert content["splits"]["val"] == {"published": None, "listed": 3, "found": 3, "unreadable": 0}
    assert content["complete"] is True
    assert len(content["empty_classes"]) == 397
    assert content["next"] == "froster evaluate vit-b-16 --data m/k.csv --labels kinetics-400 --split val"
    assert {video.label for video in read_manifest(tmp_path / "m" / "k.csv")} == set(standin.labels.values())


def test_a_missing_list_is_named(tmp_path: Path) -> None:
    STANDINS["ssv2"](tmp_path)
    (tmp_path / "labels" / "validation.json").unlink()
    command = ("data", "check", "20bn-something-something-v2", "--dataset", "ssv2")
    result = froster(*command, cwd=tmp_path)
    assert result.returncode == 1, result.stderr
    assert "There is no list of the split val: put it next to the others" in result.stdout
    assert cells(result.stdout)["val"] == ["val", "24,777", "0", "0"]
    lists = [part for name in ("train", "test") for part in ("--lists", f"labels/{name}.json")]
    named = froster(*command, *lists, cwd=tmp_path)
    assert named.returncode == 0, named.stderr
    assert "There is no list of the split val: skipped." in named.stdout


def test_classes_without_a_split_are_named(tmp_path: Path) -> None:
    STANDINS["class_folders"](tmp_path / "clips")
    (tmp_path / "clips" / "kick").mkdir()
    put_video(tmp_path / "clips" / "kick" / "0.mp4")
    result = froster("data", "check", "clips", "--dataset", "folder", "--test-share", 0.3, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "1 class has no video in the split test: kick" in result.stdout


def test_own_clips_have_the_name_of_their_folder(tmp_path: Path) -> None:
    STANDINS["class_folders"](tmp_path / "my clips")
    result = froster("data", "check", "my clips/", "--dataset", "folder", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert cells(result.stdout)["push"] == ["push", "ups", "3"]
    assert "--test-share 0.2 holds out a fifth" in result.stdout
    assert result.stdout.splitlines()[-1] == (
        "Next: froster train few-clips out='runs/my clips' data.manifest='manifests/my clips.csv'"
    )
    again = froster("data", "check", ".", "--dataset", "folder", "--test-share", 0.3, cwd=tmp_path / "my clips")
    assert again.returncode == 0, again.stderr
    assert cells(again.stdout)["test"] == ["test", "3"]
    assert again.stdout.splitlines()[-1].endswith("data.split=train")
    assert len(read_manifest(tmp_path / "my clips" / "manifests" / "my clips.csv", split="test")) == 3
    validated = froster("data", "check", ".", "--dataset", "folder", "--val-share", 0.3, cwd=tmp_path / "my clips")
    assert validated.stdout.splitlines()[-1].endswith("data.split=train validation.split=val")


def test_misspelled_class_folders_are_corrected_by_people(tmp_path: Path) -> None:
    standin = STANDINS["kinetics_spaces"](tmp_path)
    (standin.root / "train" / "abseiling").rename(standin.root / "train" / "abseling")
    result = froster("data", "check", ".", "--dataset", "kinetics-400", cwd=tmp_path)
    assert result.returncode == 1, result.stderr
    assert "no list such as annotations/train.csv: classes are those of the folders" in result.stdout
    assert "'abseling', 3 videos (did you mean 'abseiling'?)" in result.stdout
    assert "in no class folder" not in result.stdout


@pytest.mark.slow
def test_progress_in_a_terminal(tmp_path: Path) -> None:
    STANDINS["split_folders"](tmp_path / "clips")
    controller, terminal = pty.openpty()
    command = [FROSTER, "data", "check", "clips", "--dataset", "folder", "--decode"]
    environment = {**os.environ, "COLUMNS": "90", "TERM": "xterm"}
    process = subprocess.Popen(command, stdout=terminal, stderr=terminal, cwd=tmp_path, env=environment)
    os.close(terminal)
    shown = b""
    try:
        while chunk := os.read(controller, 1 << 16):
            shown += chunk
    except OSError:  # Linux says so when the other end has closed
        pass
    assert process.wait(timeout=300) == 0
    text = shown.decode()
    assert "Decoding" in text
    assert "12/12" in text
    assert "12 videos of 2 classes" in text


def test_user_errors_are_one_line(tmp_path: Path) -> None:
    STANDINS["class_folders"](tmp_path / "clips")
    result = froster("data", "check", "clips", "--dataset", "ucf-11", cwd=tmp_path)
    assert result.returncode == 2
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line == "froster: There is no dataset 'ucf-11'; did you mean 'ucf-101'?"


@pytest.mark.parametrize(
    ("root", "dataset", "options", "message"),
    [
        ("nowhere", "folder", {}, "There is no folder nowhere."),
        ("clips", "folder", {"out": Path("clips")}, "--out clips is a folder"),
        ("clips", "folder", {"test_share": 1.0}, "--test-share 1 must be between 0 and 1"),
        (
            "clips",
            "ucf-101",
            {"test_share": 0.2},
            "--test-share is for --dataset folder; UCF-101 has splits of its own",
        ),
        ("clips", "ucf-101", {"val_share": 0.2}, "--val-share is for --dataset folder; UCF-101 has splits of its own"),
        ("clips", "folder", {"lists": [Path("none.txt")]}, "none.txt cannot be read"),
        ("clips", "ssv2", {}, "is a class of Something-Something V2 ('"),
    ],
)
def test_user_errors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, root: str, dataset: str, options: dict[str, object], message: str
) -> None:
    STANDINS["class_folders"](tmp_path / "clips")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FrosterError, match=re.escape(message)):
        check(Path(root), dataset, **options)
    assert not (tmp_path / "manifests").exists()
