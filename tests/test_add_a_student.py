"""docs/add-a-student.md, followed to the letter in a copy of the project."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "add-a-student.md").read_text(encoding="utf-8")
# As little training as will do.
SHORT = [
    "data.puppets.videos=1",
    "data.manifest=clips/manifest.csv",
    "optimizer.epochs=2",
    "optimizer.warmup_epochs=1",
]


def block(language: str) -> str:
    (found,) = re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    return str(found)


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project with the page's file and recipe."""
    project = tmp_path_factory.mktemp("project")
    for folder in ("src", "recipes", "tests"):
        shutil.copytree(ROOT / folder, project / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copyfile(ROOT / "pyproject.toml", project / "pyproject.toml")
    (project / "src" / "froster" / "students" / "motion.py").write_text(block("python"))
    (project / "recipes" / "puppets" / "motion.yaml").write_text(block("yaml"))
    return project


def run(copy: Path, *arguments: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(copy / "src"), "FROSTER_CACHE": str(copy / "cache"), "COLUMNS": "80"}
    command = [sys.executable, "-m", *arguments]
    result = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def test_the_page_names_these_commands() -> None:
    assert block("sh").splitlines() == [
        ".venv/bin/pytest tests/students/test_base.py -k motion",
        ".venv/bin/froster methods",
        ".venv/bin/froster train recipes/puppets/motion.yaml",
        ".venv/bin/froster train recipes/puppets/motion.yaml 'distillation={}' out=runs/puppets/motion-froster",
        ".venv/bin/froster bench puppets --methods motion --out runs/motion-bench",
    ]


@pytest.mark.slow
def test_the_tests_of_every_student_take_it(copy: Path) -> None:
    run(copy, "pytest", "-q", "-p", "no:cacheprovider", "tests/students/test_base.py", "-k", "motion")


@pytest.mark.slow
def test_the_tests_of_the_list_take_it(copy: Path) -> None:
    run(copy, "pytest", "-q", "-p", "no:cacheprovider", "tests/cli/test_methods.py", "-k", "tables_fit and 80")


@pytest.mark.slow
def test_it_is_listed_with_its_cost(copy: Path) -> None:
    listed = run(copy, "froster", "methods", "--model", "puppets")
    assert re.search(r"^motion +Motion ", listed, re.MULTILINE)


@pytest.mark.slow
@pytest.mark.parametrize("changes", [[], ["distillation={}"]])
def test_it_is_trained_without_and_with_froster(copy: Path, changes: list[str]) -> None:
    out = "with" if changes else "without"
    run(copy, "froster", "train", "recipes/puppets/motion.yaml", *changes, *SHORT, f"out={out}")
    assert (copy / out / "model.safetensors").stat().st_size < 2**20  # CLIP is not in it
    log = (copy / out / "log.jsonl").read_text()
    assert ('"video_distillation"' in log) == bool(changes)
    video = next((copy / "clips").rglob("*.mp4"))
    assert "fishing" in run(copy, "froster", "predict", str(video), "--model", out, "--labels", "fishing, kicking")
