import subprocess
import sys
from pathlib import Path

from PIL import Image

from froster.cli.demo import ACTIONS_SHOWN
from froster.data.puppets import ACTIONS

FROSTER = Path(sys.executable).with_name("froster")


def test_demo_draws_recognises_and_says_what_the_small_model_is(tmp_path: Path) -> None:
    result = subprocess.run([FROSTER, "demo"], capture_output=True, text=True, cwd=tmp_path, timeout=120)
    assert result.returncode == 0, result.stderr
    assert len(list((tmp_path / "demo").rglob("*.mp4"))) == len(ACTIONS_SHOWN)
    with Image.open(tmp_path / "demo" / "demo.png") as picture:
        assert picture.width > 800
    right = next(line for line in result.stdout.splitlines() if "right, among" in line)
    assert int(right.split()[0]) >= 4
    assert "knows drawn puppets only" in result.stdout
    assert "--model vit-b-16" in result.stdout


def test_what_the_demo_shows_are_puppet_actions() -> None:
    assert set(ACTIONS_SHOWN) <= set(ACTIONS)


def test_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    command = [FROSTER, "demo", "--out", tmp_path / "file"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert result.returncode == 2
    assert "Traceback" not in result.stderr
    assert len(result.stderr.splitlines()) == 1
