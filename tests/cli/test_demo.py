import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from froster.bench.puppets import BASE, NOVEL
from froster.cli.demo import SHOWN
from froster.models import load_model

FROSTER = Path(sys.executable).with_name("froster")


@pytest.mark.slow
def test_demo_trains_compares_and_recognises(tmp_path: Path) -> None:
    result = subprocess.run([FROSTER, "demo"], capture_output=True, text=True, cwd=tmp_path, timeout=600)
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    novel = {
        name: float(next(line for line in lines if line.startswith(name)).removeprefix(name).split()[1])
        for name in ("Frozen CLIP", "Fine-tuned VCLIP", "FROSTER, averaged epochs")
    }
    assert novel["Fine-tuned VCLIP"] < novel["FROSTER, averaged epochs"]
    assert all(any(line.startswith(name) for line in lines) for name in SHOWN)
    page = tmp_path / "demo" / "results.html"
    assert "<table" in page.read_text(encoding="utf-8")
    with Image.open(tmp_path / "demo" / "demo.png") as picture:
        assert picture.width > 800
    assert load_model(tmp_path / "demo" / "models" / "froster_averaged.safetensors").name == "vclip"
    assert "knows drawn puppets only" in result.stdout


def test_what_the_demo_shows_is_base_and_novel() -> None:
    base = [name for name in SHOWN if name in BASE["hard"]]
    assert base == ["skipping rope"]
    assert set(SHOWN) - set(base) <= set(NOVEL["hard"])


def test_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    command = [FROSTER, "demo", "--out", tmp_path / "file"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert result.returncode == 2
    assert "Traceback" not in result.stderr
    assert len(result.stderr.splitlines()) == 1
