"""The package as users install it: a wheel, built from the source distribution, in an environment of its own."""

import json
import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

from froster import __version__
from froster.extras import DISTRIBUTION

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[1]


def start(*command: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, cwd=cwd, env=variables, timeout=300)


def run(*command: str | Path, cwd: Path) -> str:
    result = start(*command, cwd=cwd)
    assert result.returncode == 0, f"{command}: {result.stdout}{result.stderr}"
    return result.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("hatchling", reason="needs hatchling: pip install -e '.[dev]'")
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", folder, cwd=ROOT)
    (sdist,) = folder.glob("*.tar.gz")
    options = ("--no-deps", "--no-build-isolation", "--quiet", "--disable-pip-version-check")
    run(sys.executable, "-m", "pip", "wheel", *options, "-w", folder, sdist, cwd=folder)
    (built,) = folder.glob("*.whl")
    return built


def environment(folder: Path, *wheels: Path) -> Path:
    """The `bin` of a new environment that holds the wheels; what they depend on comes from that of the tests."""
    venv.create(folder, with_pip=False)
    binaries = folder / ("Scripts" if os.name == "nt" else "bin")
    options = ("--no-deps", "--no-index", "--quiet", "--disable-pip-version-check")
    for file in wheels:
        run(sys.executable, "-m", "pip", "--python", binaries / "python", "install", *options, file, cwd=folder)
    here = run(binaries / "python", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder)
    (Path(here.strip()) / "tests.pth").write_text(sysconfig.get_path("purelib"))
    return binaries


@pytest.fixture(scope="module")
def binaries(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return environment(tmp_path_factory.mktemp("environment"), wheel)


def test_names(wheel: Path) -> None:
    assert wheel.name == f"{DISTRIBUTION.replace('-', '_')}-{__version__}-py3-none-any.whl"
    with zipfile.ZipFile(wheel) as archive:
        metadata = archive.read(f"froster_video-{__version__}.dist-info/METADATA").decode()
        roots = {name.split("/")[0] for name in archive.namelist()}
    assert roots == {"froster", "froster_video.py", f"froster_video-{__version__}.dist-info"}
    needed = [line for line in metadata.splitlines() if line.startswith("Requires-Dist") and "extra ==" not in line]
    assert needed and not [
        line for line in needed if line.split()[1].startswith(("typer", "rich", "matplotlib", "mark"))
    ]


def test_commands(binaries: Path, tmp_path: Path, own_cache: Path) -> None:
    froster = binaries / "froster"
    assert run(froster, "--version", cwd=tmp_path) == f"froster {__version__}\n"
    assert "kinetics-400" in run(froster, "classes", cwd=tmp_path)
    run(froster, "puppets", "drawn", "--videos", "1", "--size", "72", "--frames", "16", cwd=tmp_path)
    (video,) = (tmp_path / "drawn").rglob("running/*.mp4")
    answer = run(froster, "predict", video, "--model", "puppets", "--labels", "running, waving", cwd=tmp_path)
    assert json.loads(answer)["predictions"][0]["label"] == "running"


def test_files_that_are_no_code(binaries: Path, tmp_path: Path) -> None:
    code = f"""
from importlib.resources import files
from pathlib import Path
import froster
from froster.shipped import shipped_recipes
assert not Path(froster.__file__).is_relative_to({str(ROOT)!r}), froster.__file__
recipes = shipped_recipes()
assert all(path.is_relative_to(Path(froster.__file__).parent) for path in recipes.values())
pages = [file.name for package, folder in (("froster.serve", "page"), ("froster.reporting", "."))
         for file in (files(package) / folder).iterdir()]
print(*sorted(recipes))
print(*sorted(pages))
print((files("froster") / "py.typed").is_file())
"""
    recipes, pages, typed = run(binaries / "python", "-c", code, cwd=tmp_path).splitlines()
    of_clone = [path.relative_to(ROOT / "recipes").with_suffix("") for path in (ROOT / "recipes").rglob("*.yaml")]
    assert recipes.split() == sorted(path.as_posix() for path in of_clone)
    assert {"index.html", "page.css", "page.js", "sort.js"} <= set(pages.split())
    assert typed == "True"


def archiving_tool(folder: Path) -> Path:
    """A wheel with the names of PyPI's `froster`."""
    wheel, information = folder / "froster-0.22.0-py3-none-any.whl", "froster-0.22.0.dist-info"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("froster/__init__.py", "")
        archive.writestr("froster/froster.py", "def main(): print('archiving')")
        archive.writestr(f"{information}/METADATA", "Metadata-Version: 2.1\nName: froster\nVersion: 0.22.0\n")
        archive.writestr(f"{information}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{information}/entry_points.txt", "[console_scripts]\nfroster=froster.froster:main\n")
        archive.writestr(f"{information}/RECORD", "")
    return wheel


@pytest.mark.parametrize("ours_first", [True, False])
def test_beside_the_other_project(wheel: Path, tmp_path: Path, ours_first: bool) -> None:
    """pip lays the two packages over each other without a word."""
    both = (wheel, archiving_tool(tmp_path)) if ours_first else (archiving_tool(tmp_path), wheel)
    binaries = environment(tmp_path / "environment", *both)
    # The command is the last one's: where it is theirs, ours still starts as a module.
    command = (binaries / "python", "-m", "froster") if ours_first else (binaries / "froster",)
    result = start(*command, "--version", cwd=tmp_path)
    assert result.returncode == 2 and result.stdout == ""
    assert "holds the archiving tool froster of PyPI, another project" in result.stderr
    assert len(result.stderr.splitlines()) == 1
