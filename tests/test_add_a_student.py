"""docs/add-a-student.md, followed to the letter in a copy of the project."""

import json
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


# All commands in one process: starting Python takes seconds.
RUN_ALL = """
import json, sys
from pathlib import Path
from commands import expanded, froster

for line in sys.stdin:
    result = froster(*(expanded(word, Path())[0] for word in json.loads(line)))
    print(json.dumps([result.returncode, result.stdout, result.stderr]))
"""


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


def python(copy: Path, *arguments: str, stdin: str = "") -> str:
    path = os.pathsep.join(str(copy / folder) for folder in ("src", "tests"))
    environment = {**os.environ, "PYTHONPATH": path, "FROSTER_CACHE": str(copy / "cache"), "COLUMNS": "80"}
    result = subprocess.run(
        [sys.executable, *arguments], cwd=copy, env=environment, input=stdin, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def run(copy: Path, *commands: tuple[str, ...]) -> list[str]:
    """What these commands print; a word with `*` is the first file that it matches."""
    lines = python(copy, "-c", RUN_ALL, stdin="\n".join(map(json.dumps, commands))).splitlines()
    printed = []
    for status, output, errors in map(json.loads, lines):
        assert status == 0, errors
        printed.append(output)
    assert len(printed) == len(commands)
    return printed


def test_the_page_names_these_commands() -> None:
    assert block("sh").splitlines() == [
        ".venv/bin/pytest tests/students/test_base.py -k motion",
        ".venv/bin/froster methods",
        ".venv/bin/froster train recipes/puppets/motion.yaml",
        ".venv/bin/froster train recipes/puppets/motion.yaml 'distillation={}' out=runs/puppets/motion-froster",
        ".venv/bin/froster bench puppets --methods motion --out runs/motion-bench",
    ]


@pytest.mark.slow
def test_the_tests_of_every_student_and_of_the_list_take_it(copy: Path) -> None:
    files, chosen = ("tests/students/test_base.py", "tests/cli/test_methods.py"), "motion or (tables_fit and 80)"
    printed = python(copy, "-m", "pytest", "-p", "no:cacheprovider", *files, "-k", chosen, "--cpu-times", "0")
    assert "test_base.py" in printed and "test_methods.py" in printed


@pytest.mark.slow
def test_it_is_listed_trained_without_and_with_froster_and_predicts(copy: Path) -> None:
    train = ("train", "recipes/puppets/motion.yaml", *SHORT)
    of_video = ("predict", "clips/**/*.mp4", "--labels", "fishing, kicking", "--model")
    listed, _, _, *answers = run(
        copy,
        ("methods", "--model", "puppets"),
        (*train, "out=without"),
        (*train, "distillation={}", "out=with"),
        (*of_video, "without"),
        (*of_video, "with"),
    )
    assert re.search(r"^motion +Motion ", listed, re.MULTILINE)
    for out in ("without", "with"):
        assert (copy / out / "model.safetensors").stat().st_size < 2**20  # CLIP is not in it
        log = (copy / out / "log.jsonl").read_text()
        assert ('"video_distillation"' in log) == (out == "with")
    assert all("fishing" in answer for answer in answers)
