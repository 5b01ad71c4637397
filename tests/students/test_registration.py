"""Students from outside the package: by decorator, and by the entry points of installed packages."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from froster.backbones.clip import Clip, ClipConfig
from froster.errors import FrosterError
from froster.students import STUDENTS, VideoStudent, build_student, register_student

SMALL = ClipConfig(16, 8, 64, 2, 1, 64, 2, 1, 32)
PACKAGE = """
import torch
from froster.students import VideoFeatures, VideoStudent


class Reversed(VideoStudent):
    name, title = "reversed", "Frames backwards"

    def forward_features(self, frames):
        return VideoFeatures(self.visual(frames.flip(1)))
"""
USE = """
import froster
from froster.students import STUDENTS

model = froster.load_model("puppets", student="reversed")
print(type(model).__module__, STUDENTS["reversed"].title)
"""


@pytest.fixture(autouse=True)
def table() -> Iterator[None]:
    known = dict(STUDENTS)
    yield
    STUDENTS.clear()
    STUDENTS.update(known)


def test_a_decorated_class_is_a_student() -> None:
    @register_student
    class Mine(VideoStudent):
        name, title = "mine", "Mine"

        def __init__(self, clip: Clip, width: int = 3) -> None:
            super().__init__(clip)
            self.options = {"width": width}

    assert STUDENTS["mine"] is Mine
    assert build_student("mine:width=5", Clip(SMALL)).options == {"width": 5}


def test_a_name_that_is_taken_is_refused() -> None:
    class Mine(VideoStudent):
        name, title = "vclip", "Mine"

    with pytest.raises(FrosterError, match=r"vclip\.py has a student 'vclip' too; choose another name"):
        register_student(Mine)
    assert STUDENTS["vclip"] is not Mine


def install(folder: Path, module: str, code: str, entry: str) -> None:
    (folder / f"{module}.py").write_text(code)
    info = folder / f"{module}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[froster.students]\n{entry}\n")


def run(folder: Path, code: str) -> subprocess.CompletedProcess[str]:
    script = f"import sys; sys.path.append({str(folder)!r})\n{code}"
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300, check=False)


def test_an_installed_package_brings_its_student(tmp_path: Path) -> None:
    install(tmp_path, "outside_students", PACKAGE, "reversed = outside_students:Reversed")
    install(tmp_path, "broken_students", "import no_such_module", "broken = broken_students:Broken")
    done = run(tmp_path, USE)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["outside_students", "Frames", "backwards"]
    assert (
        "The student 'broken' of broken_students:Broken cannot be used: No module named 'no_such_module'" in done.stderr
    )
