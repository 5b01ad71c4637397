import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

import httpx
import numpy as np
import pytest

from froster.checkpoints.own import save_checkpoint
from froster.data.puppets import ACTIONS, draw_video
from froster.data.puppets.files import write_mp4
from froster.models import load_model

if TYPE_CHECKING:
    from playwright.sync_api import Browser

BROWSERS = ("chromium", "chromium-browser", "google-chrome")


@dataclass(frozen=True)
class Running:
    """A server in a process of its own, and the folder its temporary files lie in."""

    process: subprocess.Popen[str]
    url: str
    temporary: Path

    def client(self, **options: object) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=120, verify=False, trust_env=False, **options)  # type: ignore[arg-type]

    def uploads(self) -> list[Path]:
        return list(self.temporary.glob("froster-serve-*/*"))


@contextmanager
def running_server(folder: Path, *options: str, errors: IO[str] | None = None) -> Iterator[Running]:
    """`froster serve` on a free port of this machine, with cache and temporary files below `folder`.

    Its standard error goes to the file `errors`.
    """
    temporary = folder / "tmp"
    temporary.mkdir(exist_ok=True)
    process = subprocess.Popen(
        [sys.executable, "-m", "froster", "serve", "--port", "0", "--precision", "float32", *options],
        env=os.environ | {"FROSTER_CACHE": str(folder / "cache"), "TMPDIR": str(temporary), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=errors,
        text=True,
    )
    try:
        assert process.stdout is not None
        lines = iter(process.stdout.readline, "")
        address = next((found[0] for line in lines if (found := re.search(r"http://\S+", line))), None)
        assert address, "the server did not start"
        yield Running(process, address, temporary)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A short clip of eight actions each, by the action's name."""
    folder = tmp_path_factory.mktemp("videos")
    clips = {}
    for index in range(0, 40, 5):
        clips[ACTIONS[index]] = folder / f"{index}.mp4"
        write_mp4(clips[ACTIONS[index]], draw_video(1, index, 12, 64, "easy"), 8)
    return clips


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run's folder: the small model as one that was trained on three classes, one of them with a description."""
    folder = tmp_path_factory.mktemp("runs") / "my-run"
    folder.mkdir()
    model = load_model("puppets")
    model.labels = {"juggling balls": "throwing balls up and catching them", "crawling": "", "bowing": ""}
    model.templates = ("a video of {}.",)
    save_checkpoint(model, folder / "model.safetensors")
    return folder


@pytest.fixture(scope="module")
def long_video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten seconds."""
    path = tmp_path_factory.mktemp("long") / "long.mp4"
    write_mp4(path, np.zeros((20, 32, 32, 3), np.uint8), 2)
    return path


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    """A headless Chromium of this machine; a machine without one skips the test."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install -e '.[dev]'")
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        pytest.skip("needs Chromium: make browser")
    with playwright.sync_playwright() as started:
        launched = started.chromium.launch(executable_path=program)
        yield launched
        launched.close()
