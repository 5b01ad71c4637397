import csv
import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import av
import numpy as np
import pytest
from click.testing import Result
from typer.testing import CliRunner

from froster import FrosterError, Recognizer, score_timeline
from froster.cli import app
from froster.data.puppets import action_index, draw_video
from froster.data.puppets.files import write_mp4
from froster.data.puppets.scenes import find_gap
from froster.timeline import WindowScores

LABELS = ("--labels", "juggling balls, riding a bicycle, playing guitar", "--model", "puppets")
FROSTER = Path(sys.executable).with_name("froster")


def froster(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["timeline", *map(str, arguments)])


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def drawn(action: str, seed: int, seconds: int) -> np.ndarray:
    return draw_video(seed, action_index(action), 16 * seconds, 64, find_gap("default"))


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`film.mp4`: sweeping, riding a bicycle from 5 to 10 s, sweeping; `breaks/`: other actions."""
    folder = tmp_path_factory.mktemp("videos")
    boring = drawn("sweeping with a broom", 6003, 5)
    write_mp4(folder / "film.mp4", np.concatenate([boring, drawn("riding a bicycle", 5003, 5), boring]), 16)
    for seed, action in enumerate(["walking", "digging with a shovel", "fishing"], start=7000):
        write_mp4(folder / "breaks" / f"{seed}.mp4", drawn(action, seed, 8), 16)
    return folder


def test_plot_table_and_segments(videos: Path, tmp_path: Path) -> None:
    result = froster(videos / "film.mp4", *LABELS)
    assert result.exit_code == 0, result.output
    (line,) = map(json.loads, result.stdout.splitlines())
    assert line["label"] == "riding a bicycle"
    assert (line["start"], line["end"]) == pytest.approx((5, 10), abs=1)
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith("film")) == [
        "film-timeline.csv",
        "film-timeline.json",
        "film-timeline.png",
    ]
    content = json.loads((tmp_path / "film-timeline.json").read_text())
    assert content["segments"] == [line]
    assert content["seconds"] == pytest.approx(15)
    assert content["complete"] is True
    assert content["threshold"] == {"value": 2.0, "measure": "contrast"}
    rows = list(csv.DictReader((tmp_path / "film-timeline.csv").open()))
    assert [(float(row["start"]), float(row["end"])) for row in rows] == [(second, second + 2) for second in range(14)]
    assert {row["label"] for row in rows} == {"", "riding a bicycle"}
    names = ["juggling balls", "riding a bicycle", "playing guitar"]
    assert all(sum(float(row[name]) for name in names) == pytest.approx(1, abs=1e-5) for row in rows)
    assert all(-1 <= float(row[f"similarity: {name}"]) <= 1 for row in rows for name in names)
    assert (tmp_path / "film-timeline.png").read_bytes().startswith(b"\x89PNG")


def test_negatives_set_the_threshold(videos: Path, tmp_path: Path) -> None:
    negatives = ("--negatives", videos / "breaks", "--false-positive-rate", "0.1", "--out", "found/film.1")
    result = froster(videos / "film.mp4", *LABELS, *negatives, "--stride", "0.5")
    assert result.exit_code == 0, result.output
    (line,) = map(json.loads, result.stdout.splitlines())
    assert line["label"] == "riding a bicycle"
    content = json.loads((tmp_path / "found" / "film.1.json").read_text())
    assert content["threshold"]["measure"] == "similarity"
    assert f"Similarity threshold {content['threshold']['value']:.3f}, from 3 videos" in result.stderr
    recognizer = Recognizer("puppets", ["juggling balls", "riding a bicycle", "playing guitar"], views=1)
    breaks = [m for video in (videos / "breaks").iterdir() for m in score_timeline(recognizer, video, stride=0.5)]
    named = [window for window in breaks if window.similarities.max() > content["threshold"]["value"]]
    assert len(named) == int(0.1 * len(breaks)) == 3


@pytest.mark.parametrize(("threshold", "found"), [("-1", True), ("1", False)])
def test_a_threshold_on_the_similarity(videos: Path, tmp_path: Path, threshold: str, found: bool) -> None:
    result = froster(videos / "film.mp4", *LABELS, "--threshold", threshold, "--out", "film")
    assert result.exit_code == 0, result.output
    content = json.loads((tmp_path / "film.json").read_text())
    assert content["threshold"] == {"value": float(threshold), "measure": "similarity"}
    labeled = [row["label"] != "" for row in csv.DictReader((tmp_path / "film.csv").open())]
    assert labeled == [found] * len(labeled) and bool(content["segments"]) == found


@pytest.mark.slow
def test_negatives_that_cannot_be_read_are_told(videos: Path, tmp_path: Path) -> None:
    (tmp_path / "breaks").mkdir()
    (tmp_path / "breaks" / "empty.mp4").touch()
    only = FROSTER, "timeline", videos / "film.mp4", *LABELS, "--false-positive-rate", "0.2", "--negatives", "breaks"
    failed = subprocess.run(only, capture_output=True, text=True, cwd=tmp_path, timeout=300)
    assert failed.returncode == 2
    warning = "warning: breaks/empty.mp4: the file is empty; it is skipped."
    error = "froster: None of the negatives can be read; give videos without the actions."
    assert failed.stderr.splitlines() == [warning, error]
    more = (*only, "--negatives", videos / "breaks" / "7000.mp4")
    result = subprocess.run(more, capture_output=True, text=True, cwd=tmp_path, timeout=300)
    assert result.returncode == 0, result.stderr
    assert warning in result.stderr.splitlines()
    assert "from 1 video without the actions" in result.stderr


@pytest.mark.slow
def test_in_a_terminal_a_table(videos: Path, tmp_path: Path) -> None:
    primary, secondary = pty.openpty()
    process = subprocess.Popen(
        [FROSTER, "timeline", videos / "film.mp4", *LABELS], stdout=secondary, stderr=subprocess.PIPE, cwd=tmp_path
    )
    process.communicate(timeout=300)
    shown = os.read(primary, 65_536).decode()
    assert process.returncode == 0
    header, row = re.sub(r"\x1b\[\d*m", "", shown).strip().splitlines()
    assert header.split() == ["start", "end", "label", "score"]
    assert re.fullmatch(r"00:0[456]\.\d  00:(09|10|11)\.\d  riding a bicycle +\d+\.\d %", row)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("missing.mp4", *LABELS), "there is no such file"),
        (("film.mp4", *LABELS, "--stride", "0"), "must be more than 0 s"),
        (("film.mp4", *LABELS, "--negatives", "nothing"), "nothing: there is no such file or folder"),
        (("film.mp4", *LABELS, "--negatives", "breaks", "--false-positive-rate", "5"), "from 0 to below 1, not 5"),
        (("film.mp4", *LABELS, "--out", "/proc/film"), "Cannot write an image to /proc/film.png"),
        (("film.mp4", *LABELS, "--threshold", "0.2", "--negatives", "breaks"), "one of --threshold and --negatives"),
        (("film.mp4", *LABELS, "--threshold", "nan"), "--threshold must be a finite cosine similarity, not nan"),
        (("99", *LABELS), "/dev/video99: the camera cannot be opened"),
        (("film.mp4",), "--labels"),
    ],
)
def test_errors_are_one_sentence(
    videos: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], message: str
) -> None:
    monkeypatch.chdir(videos)
    result = froster(*arguments)
    assert isinstance(result.exception, FrosterError)
    assert message in str(result.exception)


def frames_of_film(videos: Path) -> bytes:
    """The film as a stream: MPEG-TS."""
    path = videos / "film.ts"
    with av.open(str(videos / "film.mp4")) as film, av.open(str(path), "w") as stream:
        out = stream.add_stream_from_template(film.streams.video[0])
        for packet in film.demux(video=0):
            if packet.dts is not None:
                packet.stream = out
                stream.mux(packet)
    return path.read_bytes()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.slow
def test_a_stream_is_told_as_it_happens_and_stops_cleanly(videos: Path, tmp_path: Path, number: int) -> None:
    process = subprocess.Popen(
        [FROSTER, "timeline", "-", *LABELS, "--out", "live"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=tmp_path,
    )
    assert process.stdin is not None and process.stdout is not None and process.stderr is not None
    process.stdin.write(frames_of_film(videos))
    process.stdin.flush()  # and it stays open: the stream has not ended
    first = json.loads(process.stdout.readline())
    assert first["label"] == "riding a bicycle"
    time.sleep(0.2)
    process.send_signal(number)
    assert process.wait(300) == 0
    errors = process.stderr.read().decode()
    assert "Traceback" not in errors
    content = json.loads((tmp_path / "live.json").read_text())
    assert content["segments"][0] == first
    assert 10 < content["seconds"] < 15.1
    assert (tmp_path / "live.png").exists() and (tmp_path / "live.csv").exists()


def test_an_interrupted_file_writes_what_is_done(videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*arguments: object, **options: float) -> Iterator[WindowScores]:
        yield from islice(score_timeline(*arguments, **options), 9)
        raise KeyboardInterrupt

    monkeypatch.setattr("froster.timeline.score_timeline", interrupted)
    result = froster(videos / "film.mp4", *LABELS, "--out", "many")
    assert result.exit_code == 130
    assert "Stopped after 00:10: the results so far are saved." in result.stderr
    assert len(list(csv.DictReader((tmp_path / "many.csv").open()))) == 9
    content = json.loads((tmp_path / "many.json").read_text())
    assert content["complete"] is False
    (segment,) = content["segments"]
    assert (segment["start"], segment["end"]) == pytest.approx((5, 10), abs=1)


def test_nothing_stands_out(videos: Path) -> None:
    result = froster(videos / "breaks" / "7000.mp4", *LABELS)
    assert result.exit_code == 0
    assert result.stdout == ""
    assert json.loads(Path("7000-timeline.json").read_text())["segments"] == []


def test_several_videos_each_with_its_files_and_a_bad_one_does_not_end_them(videos: Path, tmp_path: Path) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
    shutil.copy(videos / "film.mp4", tmp_path / "one" / "clip.mp4")
    shutil.copy(videos / "film.mp4", tmp_path / "two" / "clip.mp4")
    (tmp_path / "one" / "broken.mp4").write_bytes(b"no video" * 100)
    result = froster("one", "missing.mp4", "two/clip.mp4", *LABELS, "--stride", 2, "--out", "found")
    assert result.exit_code == 1, result.output
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert [line["video"] for line in lines if "error" in line] == ["missing.mp4", "one/broken.mp4"]
    assert [line["video"] for line in lines if "label" in line] == ["one/clip.mp4", "two/clip.mp4"]
    assert "2 of 4 videos could not be used" in result.stderr
    assert sorted(path.name for path in (tmp_path / "found").glob("*.json")) == [
        "clip-2-timeline.json",
        "clip-timeline.json",
    ]
    first, second = (json.loads((tmp_path / "found" / f"clip{n}-timeline.json").read_text()) for n in ("", "-2"))
    assert first.pop("video") == "one/clip.mp4" and second.pop("video") == "two/clip.mp4"
    assert first == second


def test_descriptions_change_the_similarities(videos: Path, tmp_path: Path) -> None:
    (tmp_path / "said.json").write_text(json.dumps({"riding a bicycle": "playing guitar"}))
    rows = {}
    for name, more in (("bare", ()), ("described", ("--descriptions", "said.json"))):
        result = froster(videos / "film.mp4", *LABELS, "--stride", 4, "--out", name, *more)
        assert result.exit_code == 0, result.output
        rows[name] = list(csv.DictReader((tmp_path / f"{name}.csv").open()))

    def moved(label: str) -> float:
        column = f"similarity: {label}"
        pairs = zip(rows["bare"], rows["described"], strict=True)
        return max(abs(float(one[column]) - float(other[column])) for one, other in pairs)

    assert moved("riding a bicycle") > 0.01
    assert moved("playing guitar") < 1e-4


def test_cells_that_a_spreadsheet_would_run_are_quoted_unless_raw(videos: Path, tmp_path: Path) -> None:
    labels = ("--labels", "=riding a bicycle, playing guitar", "--model", "puppets", "--stride", "2")
    for more, cell in (((), "'=riding a bicycle"), (("--raw-csv",), "=riding a bicycle")):
        result = froster(videos / "film.mp4", *labels, "--out", "cells", *more)
        assert result.exit_code == 0, result.output
        header, *rows = csv.reader((tmp_path / "cells.csv").open())
        assert header[3:5] == [cell, "playing guitar"]
        assert {row[2] for row in rows} == {"", cell}
        assert {s["label"] for s in json.loads((tmp_path / "cells.json").read_text())["segments"]} == {
            "=riding a bicycle"
        }
