"""The library as `pip install froster-video` installs it: without the packages of the extra `cli`."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from froster.data.puppets import write_videos
from froster_video import ALL_OF_CLI
from test_install_lines import EXTRAS

# Such an entry is for `import` and for `find_spec` as if the package were not installed.
BLOCKER = f"import sys; sys.modules.update(dict.fromkeys({ALL_OF_CLI!r}))\n"


def run_without_cli(code: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", BLOCKER + code], capture_output=True, text=True, cwd=cwd, env=os.environ, timeout=300
    )


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drawn")
    write_videos(folder / "videos", ["running"], videos=1, frames=16, size=72)
    return folder


def test_the_command_knows_the_packages_of_its_extra() -> None:
    modules = {requirement.split(">=")[0].removesuffix("-py").replace("-", "_") for requirement in EXTRAS["cli"]}
    assert modules == set(ALL_OF_CLI)


def test_recognize(drawn: Path, own_cache: Path) -> None:
    code = """
import froster
model = froster.load_model("puppets")
recognizer = froster.Recognizer(model, labels=["running", "waving", "sitting down"])
print(recognizer.predict("videos/running/0.mp4").label)
print(sum(1 for _ in froster.score_timeline(recognizer, "videos/running/0.mp4")))
"""
    result = run_without_cli(code, drawn)
    assert result.returncode == 0, result.stderr
    label, windows = result.stdout.split("\n")[:2]
    assert label == "running" and int(windows) >= 1


def test_every_module_of_the_library_imports_or_says_what_it_needs(tmp_path: Path) -> None:
    code = """
import importlib, pkgutil
import froster
for module in pkgutil.walk_packages(froster.__path__, "froster."):
    if module.name.startswith(("froster.cli", "froster.__main__", "froster.serve")):
        continue
    try:
        importlib.import_module(module.name)
    except froster.FrosterError as error:
        assert 'needs the extra cli: pip install "froster-video[cli]"' in str(error), error
        print(module.name)
"""
    result = run_without_cli(code, tmp_path)
    assert result.returncode == 0, result.stderr
    assert "froster.picture" in result.stdout
