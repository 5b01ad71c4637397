import csv
import io
import json
import os
import pty
import re
import shutil
import subprocess
import sys
from pathlib import Path

import av
import pytest

from commands import FROSTER, froster, froster_process
from froster.checkpoints.own import save_checkpoint
from froster.data.puppets import write_videos
from froster.data.vocabularies import read_vocabulary
from froster.models import load_model

LABELS = "juggling balls, riding a bicycle, playing guitar"
# Twenty labels, two of them what the real clips show.
TWENTY = "arm wrestling, flipping pancake, " + ", ".join(read_vocabulary("hmdb-51")[:18])


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    write_videos(folder, ["juggling balls", "riding a bicycle"], videos=1, frames=16, size=64, seed=5)
    return folder


@pytest.mark.slow
def test_json_lines_in_a_pipe(videos: Path) -> None:
    result = froster_process("predict", videos / "juggling-balls" / "5.mp4", "--labels", LABELS, "--model", "puppets")
    assert result.returncode == 0, result.stderr
    (line,) = result.stdout.splitlines()
    content = json.loads(line)
    assert content["video"] == str(videos / "juggling-balls" / "5.mp4")
    assert content["predictions"][0]["label"] == "juggling balls"
    assert sum(entry["score"] for entry in content["predictions"]) == pytest.approx(1)
    assert all(-1 <= entry["similarity"] <= 1 for entry in content["predictions"])
    assert "Traceback" not in result.stderr


def test_folder_and_glob_csv_and_top(videos: Path) -> None:
    for what in (videos, videos / "*" / "*.mp4"):
        result = froster(
            "predict", what, "--labels", LABELS, "--model", "puppets", "--csv", "--top", "2", "--views", "1"
        )
        rows = list(csv.DictReader(io.StringIO(result.stdout)))
        assert [(Path(row["video"]).parent.name, row["rank"]) for row in rows] == [
            ("juggling-balls", "1"),
            ("juggling-balls", "2"),
            ("riding-a-bicycle", "1"),
            ("riding-a-bicycle", "2"),
        ]
        assert [row["label"] for row in rows if row["rank"] == "1"] == ["juggling balls", "riding a bicycle"]


@pytest.mark.slow
def test_table_with_bars_in_a_terminal(videos: Path) -> None:
    controller, terminal = pty.openpty()
    command = [
        FROSTER,
        "predict",
        videos / "juggling-balls" / "5.mp4",
        "--labels",
        LABELS,
        "--model",
        "puppets",
    ]
    process = subprocess.Popen(command, stdout=terminal, stderr=subprocess.PIPE, env={**os.environ, "COLUMNS": "90"})
    os.close(terminal)
    shown = b""
    try:
        while chunk := os.read(controller, 1 << 16):
            shown += chunk
    except OSError:  # Linux says so when the other end has closed
        pass
    assert process.wait(timeout=300) == 0
    text = shown.decode()
    assert "juggling balls" in text
    assert "█" in text
    assert " %" in text
    assert not text.lstrip().startswith("{")


@pytest.mark.slow
def test_redirected_output_is_whole_while_the_bar_is_on_the_terminal(videos: Path, tmp_path: Path) -> None:
    controller, terminal = pty.openpty()
    out = tmp_path / "out.jsonl"
    with out.open("wb") as file:
        command = [FROSTER, "predict", videos, "--labels", LABELS, "--model", "puppets"]
        process = subprocess.Popen(command, stdout=file, stderr=terminal)
        os.close(terminal)
        shown = b""
        try:
            while chunk := os.read(controller, 1 << 16):
                shown += chunk
        except OSError:
            pass
        assert process.wait(timeout=300) == 0
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert [line["predictions"][0]["label"] for line in lines] == ["juggling balls", "riding a bicycle"]
    assert b"Recognizing" in shown


@pytest.mark.parametrize("output", ["json", "csv"])
@pytest.mark.slow
def test_full_disk_is_one_line(videos: Path, output: str) -> None:
    with open("/dev/full", "wb") as full:  # noqa: PTH123
        command = [FROSTER, "predict", videos, "--labels", LABELS, "--model", "puppets", f"--{output}"]
        result = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=300)
    assert result.returncode != 0
    assert "No space left on device" in result.stderr
    assert "Traceback" not in result.stderr


def test_labels_that_look_like_markup_and_mathematics(videos: Path, tmp_path: Path) -> None:
    labels = tmp_path / "labels.txt"
    labels.write_text("[red] card\n$x_{$\n#1 fan\nünï\n跑步\njuggling balls\n")
    picture = tmp_path / "out.png"
    command = ["predict", videos / "juggling-balls", "--labels-file", labels, "--model", "puppets", "--top", "9"]
    result = froster(*command, "--picture", picture)
    assert result.returncode == 0, result.stderr
    names = {entry["label"] for entry in json.loads(result.stdout)["predictions"]}
    assert names == {"[red] card", "$x_{$", "ünï", "跑步", "juggling balls"}
    assert picture.is_file()


def test_notice_says_which_model_is_used_and_how_to_name_a_real_one(videos: Path) -> None:
    result = froster("predict", videos / "juggling-balls" / "5.mp4", "--labels", LABELS)
    assert "(puppets only)" in result.stderr
    assert "--model vit-b-16" in result.stderr


def test_picture(videos: Path, tmp_path: Path) -> None:
    picture = tmp_path / "out.png"
    result = froster("predict", videos, "--labels", LABELS, "--model", "puppets", "--picture", picture)
    assert result.returncode == 0, result.stderr
    assert picture.read_bytes().startswith(b"\x89PNG")
    wrong = froster("predict", videos, "--labels", LABELS, "--model", "puppets", "--picture", tmp_path / "out.doc")
    assert wrong.returncode == 2
    assert "out.doc" in wrong.stderr
    assert wrong.stdout == ""


def test_real_clips_good_and_broken(shared: Path) -> None:
    result = froster("predict", shared / "videos", "--labels", TWENTY, "--model", "puppets", "--student", "vclip")
    assert result.returncode == 0, result.stderr
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert sorted(Path(line["video"]).name for line in lines) == [
        "arm_wrestling.mp4",
        "corrupted.mp4",
        "flipping_a_pancake.mkv",
        "rotated_90.mov",
        "short.avi",
    ]
    warned = {Path(line["video"]).name: line["warning"] for line in lines if "warning" in line}
    assert list(warned) == ["corrupted.mp4"]
    assert "28 of 50 frames" in warned["corrupted.mp4"]
    assert "warning: corrupted.mp4" in result.stderr


def test_batch_goes_on_and_ends_with_a_list(videos: Path, tmp_path: Path) -> None:
    good = tmp_path / "good.mp4"
    shutil.copy(videos / "juggling-balls" / "5.mp4", good)
    (tmp_path / "text.mp4").write_text("this is a text file\n" * 50)
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "cut.mp4").write_bytes(good.read_bytes()[:2000])
    (tmp_path / "folder").mkdir()
    names = ["text.mp4", "empty.mp4", "good.mp4", "cut.mp4"]
    absent = ["nothing.mp4", "folder", "*.mkv"]
    result = froster("predict", *absent, *names, "--labels", LABELS, "--model", "puppets", cwd=tmp_path)
    assert result.returncode == 1
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert [line["video"] for line in lines] == [*absent, *names]
    failed = [*absent, "text.mp4", "empty.mp4", "cut.mp4"]
    assert [line["video"] for line in lines if "error" in line] == failed
    summary = result.stderr.partition("6 of 7 videos could not be used:\n")[2].splitlines()
    assert [line.strip().partition(":")[0] for line in summary] == failed
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["clip.mp4"], "--labels-file FILE"),
        (["clip.mp4", "--model", "puppets"], "--labels-file FILE"),
        (["clip.mp4", "--model", "vit-b-16"], "--labels-file FILE"),
        (["clip.mp4", "--model", "folder"], "folder holds no weights"),
        (["clip.mp4", "--labels", "kinetics-40"], "did you mean the vocabulary 'kinetics-400'"),
        (["clip.mp4", "--labels", "a", "--labels-file", "b"], "either --labels"),
        (["clip.mp4", "--labels", ","], "No action names"),
        (["clip.mp4", "--labels-file", "none.txt"], "none.txt cannot be read"),
        (["clip.mp4", "--labels", "a", "--json", "--csv"], "one of --json and --csv"),
        (["clip.mp4", "--labels", "a", "--model", "vit-b16"], "did you mean 'vit-b-16'"),
        (["clip.mp4", "--labels", "a", "--model", "clip.mp4"], "clip.mp4 is not a checkpoint"),
        (["clip.mp4", "--labels", "a", "--model", "puppets", "--student", "vklip"], "did you mean 'vclip'"),
        (
            ["clip.mp4", "--labels", "a", "--model", "puppets", "--device", "cuda:77"],
            "device 'cuda:77' cannot be used",
        ),
    ],
)
def test_user_errors_are_one_line(videos: Path, tmp_path: Path, arguments: list[str], message: str) -> None:
    shutil.copy(videos / "juggling-balls" / "5.mp4", tmp_path / "clip.mp4")
    (tmp_path / "folder").mkdir()
    result = froster("predict", *arguments, cwd=tmp_path)
    assert result.returncode == 2
    assert result.stdout == ""
    (line,) = [line for line in result.stderr.splitlines() if not line.startswith("Using the package's small")]
    assert message in line


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run's folder whose weights say what they were trained on."""
    labels = {"walking": "", "juggling balls": "throwing balls up in turn"}
    save_checkpoint(load_model("puppets"), tmp_path / "run" / "model.safetensors", labels=json.dumps(labels))
    return tmp_path / "run"


def test_picture_size_limit_is_an_option_of_every_command(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FROSTER_MAX_PIXELS", "4095")
    video = videos / "juggling-balls" / "5.mp4"
    for command in ("predict", "timeline"):
        refused = froster(command, video, "--labels", "a, b", "--model", "puppets", cwd=tmp_path)
        assert refused.returncode in (1, 2)
        assert "64 x 64 exceed the maximum of 4095 pixels" in refused.stderr
        taken = froster("--max-pixels", "4096", command, video, "--labels", "a, b", "--model", "puppets", cwd=tmp_path)
        assert taken.returncode == 0, taken.stderr
    wrong = froster("--max-pixels", "0", "predict", video, "--labels", "a, b")
    assert wrong.returncode == 2
    assert "--max-pixels" in wrong.stderr


def test_labels_of_a_run_by_default(videos: Path, run: Path) -> None:
    video = videos / "juggling-balls" / "5.mp4"
    result = froster("predict", video, "--model", run)
    assert result.returncode == 0, result.stderr
    assert "Using the 2 labels the model was trained on." in result.stderr.splitlines()
    described = run / "labels.json"
    described.write_text('{"walking": "", "juggling balls": "throwing balls up in turn"}')
    assert result.stdout == froster("predict", video, "--model", run, "--labels-file", described).stdout
    other = froster("predict", video, "--model", run, "--labels", "fencing, walking")
    assert {entry["label"] for entry in json.loads(other.stdout)["predictions"]} == {"fencing", "walking"}
    assert "was trained on" not in other.stderr


@pytest.mark.slow
def test_matplotlib_is_loaded_for_pictures_only(videos: Path, run: Path) -> None:
    script = "import sys; from froster.cli import app; app(sys.argv[1:], standalone_mode=False); "
    script += "print('matplotlib' in sys.modules, file=sys.stderr)"
    command = [sys.executable, "-c", script, "predict", videos / "juggling-balls" / "5.mp4", "--model", run]
    for picture, loaded in (([], "False"), (["--picture", run / "out.png"], "True")):
        result = subprocess.run([*command, *picture], capture_output=True, text=True, timeout=300)
        assert result.stderr.splitlines()[-1] == loaded


def test_second_run_reads_the_class_matrix_from_the_cache(videos: Path, own_cache: Path) -> None:
    arguments = ("predict", videos / "juggling-balls" / "5.mp4", "--labels", LABELS, "--model", "puppets")
    first = froster(*arguments)
    (file,) = (own_cache / "classes").iterdir()
    written = file.stat().st_mtime_ns
    second = froster(*arguments)
    assert first.stdout == second.stdout
    assert file.stat().st_mtime_ns == written


def test_help_is_quick_and_classes_are_listed() -> None:
    assert "predict" in froster("--help").stdout
    assert "a run's folder" in " ".join(froster("predict", "--help").stdout.replace("│", " ").split())
    assert "kinetics-400           400 classes" in froster("classes").stdout
    assert froster("classes", "ucf-101").stdout.splitlines()[0] == "apply eye makeup"
    assert "did you mean 'ssv2'" in froster("classes", "ssv").stderr
    loaded = subprocess.run(
        [sys.executable, "-c", "import sys, froster.cli; print('torch' in sys.modules)"],
        capture_output=True,
        text=True,
    )
    assert loaded.stdout.strip() == "False"


def test_none_of_these(videos: Path) -> None:
    juggling = videos / "juggling-balls" / "5.mp4"
    command = ("predict", juggling, "--model", "puppets", "--views", "1", "--labels")
    negatives = ("--negatives", videos / "riding-a-bicycle", "--false-positive-rate", "0")
    result = froster(*command, "playing guitar, juggling balls", *negatives)
    assert result.returncode == 0, result.stderr
    content = json.loads(result.stdout)
    assert content["label"] == "juggling balls"
    assert content["predictions"][0]["similarity"] > content["threshold"]
    assert f"Similarity threshold {content['threshold']:.3f}." in result.stderr

    threshold = content["predictions"][0]["similarity"] + 0.001
    unnamed = froster(*command, "playing guitar, juggling balls", "--threshold", threshold)
    assert unnamed.returncode == 0, unnamed.stderr
    assert json.loads(unnamed.stdout)["label"] is None
    assert json.loads(unnamed.stdout)["predictions"] == content["predictions"]
    table = froster(*command, "juggling balls", "--threshold", threshold, "--csv")
    assert "There is one label" not in table.stderr
    (row,) = csv.DictReader(io.StringIO(table.stdout))
    assert float(row["similarity"]) < float(row["threshold"]) == threshold

    for arguments, message in (
        (("--threshold", "0.2", *negatives), "Choose one of --threshold and --negatives"),
        (("--threshold", "nan"), "must be a finite cosine similarity"),
        (("--negatives", "none.mp4"), "none.mp4"),
        ((*negatives[:2], "--false-positive-rate", "7"), "must be from 0 to below 1, not 7"),
    ):
        wrong = froster(*command, "a, b", *arguments)
        assert wrong.returncode == 2
        assert message in wrong.stderr
        assert "Traceback" not in wrong.stderr


@pytest.mark.slow
def test_csv_on_a_terminal_shows_no_control_characters_and_elsewhere_is_exact(videos: Path, tmp_path: Path) -> None:
    name = tmp_path / "\x1b[31mred.mp4"
    shutil.copy(videos / "juggling-balls" / "5.mp4", name)
    command = [FROSTER, "predict", name, "--labels", "=1+1, walking", "--model", "puppets", "--csv", "--views", "1"]
    controller, terminal = pty.openpty()
    with subprocess.Popen(command, stdout=terminal, stderr=subprocess.DEVNULL) as process:
        os.close(terminal)
        shown = b""
        try:
            while chunk := os.read(controller, 4096):
                shown += chunk
        except OSError:  # how a terminal ends
            pass
    os.close(controller)
    assert process.returncode == 0
    assert b"\x1b" not in shown
    assert "\u241b[31mred.mp4" in shown.decode()
    for more, cell in (((), "'=1+1"), (("--raw-csv",), "=1+1")):
        result = froster(*command[1:], *more)
        rows = list(csv.DictReader(io.StringIO(result.stdout, newline="")))
        assert {row["label"] for row in rows} == {cell, "walking"}
        assert {row["video"] for row in rows} == {str(name)}


@pytest.mark.slow
def test_standard_input_is_a_video_of_the_batch(videos: Path, tmp_path: Path) -> None:
    clip, other = videos / "juggling-balls" / "5.mp4", videos / "riding-a-bicycle" / "5.mp4"
    command = [FROSTER, "predict", "-", other, "--labels", LABELS, "--model", "puppets", "--views", "1"]
    result = subprocess.run(command, input=clip.read_bytes(), capture_output=True, check=False)
    assert result.returncode == 0, result.stderr
    first, second = map(json.loads, result.stdout.splitlines())
    assert (first["video"], second["video"]) == ("-", str(other))
    alone = json.loads(froster(*command[1:2], clip, *command[4:]).stdout)
    assert first["predictions"] == alone["predictions"]

    # Cut off, in the order of a stream: what is said of it, and the picture, name no temporary file.
    stream = tmp_path / "stream.ts"
    with av.open(str(clip)) as source, av.open(str(stream), "w", format="mpegts") as target:
        out = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = out
                target.mux(packet)
    cut, picture = stream.read_bytes()[:-600], tmp_path / "out.svg"
    result = subprocess.run([*command, "--picture", picture], input=cut, capture_output=True, check=False)
    assert result.returncode == 0, result.stderr
    told = json.loads(result.stdout.splitlines()[0])
    assert told["warning"].startswith("standard input: ") and f"warning: {told['warning']}" in result.stderr.decode()
    titles = re.findall("<!-- (.*?) -->", picture.read_text())
    assert "standard input" in titles and "riding-a-bicycle/5.mp4" in titles
    assert not [title for title in titles if "tmp" in title]

    result = subprocess.run(command, input=b"no video" * 100, capture_output=True, check=False)
    assert result.returncode == 1
    errors = [line for line in map(json.loads, result.stdout.splitlines()) if "error" in line]
    assert [line["video"] for line in errors] == ["-"]
    assert errors[0]["error"].startswith("-: ")
