import os
from importlib import import_module
from pathlib import Path

import pytest
from PIL import Image

from commands import froster
from froster.bench.puppets import BASE, NOVEL
from froster.cli.demo import SHOWN_ACTIONS
from froster.models import load_model


@pytest.mark.slow(100)
def test_demo_trains_compares_and_recognizes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if made := os.environ.get("FROSTER_DEMO_OUTPUT"):  # CI has run it
        output, folder = Path(made).read_text(encoding="utf-8"), Path(made).parent / "demo"
    else:
        # Of each of 45 actions. Once the command has run, `froster.cli.demo` is its function.
        monkeypatch.setattr(import_module("froster.cli.demo"), "TEST_CLIPS", 4)
        result = froster("demo", cwd=tmp_path)
        assert result.returncode == 0, result.stderr
        output, folder = result.stdout, tmp_path / "demo"
    lines = output.splitlines()
    novel = {
        name: float(next(line for line in lines if line.startswith(name)).removeprefix(name).split()[1])
        for name in ("Frozen CLIP", "Fine-tuned VCLIP", "FROSTER, averaged epochs")
    }
    assert novel["Fine-tuned VCLIP"] < novel["FROSTER, averaged epochs"]
    assert all(any(line.startswith(name) for line in lines) for name in SHOWN_ACTIONS)
    page = folder / "results.html"
    assert "<table" in page.read_text(encoding="utf-8")
    with Image.open(folder / "demo.png") as picture:
        assert picture.width > 800
    assert load_model(folder / "models" / "froster_averaged.safetensors").name == "vclip"
    assert "knows puppets only" in output


def test_what_the_demo_shows_is_base_and_novel() -> None:
    base = [name for name in SHOWN_ACTIONS if name in BASE["hard"]]
    assert base == ["skipping rope"]
    assert set(SHOWN_ACTIONS) - set(base) <= set(NOVEL["hard"])


def test_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    result = froster("demo", "--out", tmp_path / "file")
    assert result.returncode == 2
    assert "Traceback" not in result.stderr
    assert len(result.stderr.splitlines()) == 1
