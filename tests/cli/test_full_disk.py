"""What a command says and leaves where nothing can be written: a limit of file sizes stands for a full disk."""

import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from commands import froster
from froster.checkpoints.own import save_checkpoint
from froster.data.puppets import write_videos
from froster.models import load_model

RECIPE = Path(__file__).parents[2] / "recipes" / "froster-puppets.yaml"
LABELS = ("--labels", "walking, juggling balls")
CLIP = "data/walking/0.mp4"
TRAIN = ("data.manifest=data/manifest.csv", "data.puppets=null", "data.frames=2", "optimizer.batch_size=4")
TRAIN += ("optimizer.epochs=2", "optimizer.warmup_epochs=0", "average_from=1")
CONVERT = ("--classes", "classes.txt", "--split", "test")
PROTOCOL = ("protocol", "cross-dataset", "--test", "mine")
COMMANDS: dict[str, tuple[object, ...]] = {  # what they write lies below `full`
    "train": ("train", RECIPE, *TRAIN, "out=full/run"),
    "train resumed": ("train", RECIPE, *TRAIN, "out=full/half", "--resume"),
    "average": ("average", "a.safetensors", "b.safetensors", "--out", "full/average.safetensors"),
    "patch": ("patch", "puppets", "a.safetensors", "--ratio", "0.5", "--out", "full/patch.safetensors"),
    "data convert": ("data", "convert", "list.txt", "--videos", "data", *CONVERT, "--out", "full/list.csv"),
    "data check": ("data", "check", "data", "--dataset", "folder", "--out", "full/check.csv"),
    "data check, decoding": ("data", "check", "data", "--dataset", "folder", "--decode", "--out", "full/decoded.csv"),
    "report": ("report", "puppets", "--data", "data/manifest.csv", *LABELS, "--out", "full/report.html"),
    "evaluate": ("evaluate", "puppets", "--data", "data/manifest.csv", *LABELS, "--out", "full/evaluation.json"),
    "explain": ("explain", CLIP, *LABELS, "--label", "walking", "--models", "puppets", "--out", "full/explained.png"),
    "timeline": ("timeline", CLIP, *LABELS, "--model", "puppets", "--out", "full/timeline"),
    "predict": ("predict", CLIP, *LABELS, "--model", "puppets", "--picture", "full/picture.png"),
    "puppets": ("puppets", "full/puppets", "--actions", "walking", "--videos", "1", "--frames", "4"),
    "distance": ("distance", "walking, running", "jumping, sitting", "--model", "puppets", "--picture", "full/map.png"),
    "protocol": (*PROTOCOL, "--model", "puppets", "--views", "1", "--frames", "2", "--out", "full/cross"),
}
SAYS_MORE = ("predict", "puppets", "describe")  # about the model, the progress or the cost
PROGRAM = """
import io, json, resource, sys, traceback
from contextlib import redirect_stderr, redirect_stdout
from froster.cli import main

limit, commands = json.loads(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
for name, arguments in commands.items():
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        try:
            status = main(arguments)
        except SystemExit as end:
            status = end.code
        except BaseException:
            status = traceback.format_exc()
    print(json.dumps([name, status, out.getvalue(), err.getvalue()]), file=sys.__stdout__, flush=True)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Videos, a list of them, checkpoints, an empty folder `full`."""
    folder = tmp_path_factory.mktemp("disk")
    write_videos(folder / "data", ["walking", "juggling balls"], videos=2, frames=8, size=64)
    model = load_model("puppets")
    for name in ("a", "b"):
        save_checkpoint(model, folder / f"{name}.safetensors")
    (folder / "list.txt").write_text("walking/0.mp4 0\nwalking/1.mp4 0\njuggling-balls/0.mp4 1\n")
    (folder / "classes.txt").write_text("walking\njuggling balls\n")
    (folder / "manifests").mkdir()
    rows = (folder / "data" / "manifest.csv").read_text().splitlines()
    lines = [f"{rows[0]},split", *(f"../data/{row},{('train', 'test')[n % 2]}" for n, row in enumerate(rows[1:]))]
    (folder / "manifests" / "mine.csv").write_text("\n".join(lines))
    (folder / "full").mkdir()
    return folder


def run_all(folder: Path, commands: dict[str, tuple[object, ...]], limit: int) -> dict[str, tuple[object, str, str]]:
    """Status, standard output and standard error of each command where no file may have more than `limit` bytes."""
    given = json.dumps([limit, {name: [str(one) for one in command] for name, command in commands.items()}])
    ran = subprocess.run(
        [sys.executable, "-B", "-c", PROGRAM, given],  # under the limit, Python would leave truncated bytecode behind
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return {name: tuple(rest) for name, *rest in map(json.loads, ran.stdout.splitlines())}


class Chat(BaseHTTPRequestHandler):
    """Describes every action."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        choice = {"message": {"content": "A person does something with both hands."}, "finish_reason": "stop"}
        body = json.dumps({"choices": [choice], "usage": {"prompt_tokens": 1, "completion_tokens": 1}}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def endpoint() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Chat) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/v1"
        server.shutdown()


def left(folder: Path) -> list[str]:
    """Files below a folder; the lock of a run says nothing."""
    return sorted(path.name for path in folder.rglob("*") if path.is_file() and path.name != ".lock")


def test_every_command_says_what_cannot_be_written(folder: Path, endpoint: str) -> None:
    describe = ("describe", "walking,", "--endpoint", endpoint, "--model", "m", "--out", "full/described.json")
    ran = run_all(folder, COMMANDS | {"describe": describe}, limit=10)
    assert ran.keys() == COMMANDS.keys() | {"describe"}
    for name, (status, out, err) in ran.items():
        *before, last = str(err).splitlines()
        assert status == 2 and re.fullmatch(r"froster: Cannot write full/[\w./-]+: File too large\.", last), (name, err)
        assert all(line.startswith("warning: ") or name in SAYS_MORE for line in before), (name, err)
        if name in ("evaluate", "predict", "describe"):  # the answer is not lost
            assert "walking" in str(out), name
    assert left(folder / "full") == ["decoded.decoded.jsonl"]  # as much as fits


def test_a_run_goes_on_when_there_is_room_again(folder: Path) -> None:
    """What was trained until the disk was full is not lost, and the end is that of a run without a stop."""
    stopped = run_all(folder, {"train": ("train", RECIPE, *TRAIN, "out=stopped")}, limit=300_000)
    status, _, err = stopped["train"]
    assert status == 2 and "File too large" in str(err) and "Traceback" not in str(err)
    assert "recipe.json" in left(folder / "stopped") and "model.safetensors" not in left(folder / "stopped")
    assert not [name for name in left(folder / "stopped") if "partial" in name]
    for out, arguments in (("stopped", ["--resume"]), ("whole", [])):
        ran = froster("train", RECIPE, *TRAIN, f"out={out}", *arguments, cwd=folder)
        assert ran.returncode == 0, ran.stderr
    resumed, whole = (load_file(folder / out / "model.safetensors") for out in ("stopped", "whole"))
    assert resumed.keys() == whole.keys()
    assert all(torch.equal(resumed[name], whole[name]) for name in whole)


def test_a_check_goes_on_when_there_is_room_again(folder: Path) -> None:
    check = ("data", "check", "data", "--dataset", "folder", "--decode", "--workers", "1", "--out", "again/check.csv")
    ((status, _, err),) = run_all(folder, {"check": check}, limit=250).values()
    assert (status, err) == (2, "froster: Cannot write again/check.decoded.jsonl: File too large.\n")
    ran = froster(*check, cwd=folder)
    assert ran.returncode == 0, ran.stderr
    assert left(folder / "again") == ["check.csv", "check.decoded.jsonl"]
    lines = (folder / "again" / "check.decoded.jsonl").read_text().splitlines()
    assert len([line for line in lines if line.endswith("]")]) == 4
