"""The command's start beside PyPI's `froster`, another project whose package has the same name."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SOURCES = Path(__file__).parents[1] / "src"


def put_archiving_tool(folder: Path) -> None:
    """The other project's package, as its wheel holds it: `__init__.py` and `froster.py`."""
    (folder / "froster").mkdir(parents=True, exist_ok=True)
    (folder / "froster" / "__init__.py").write_text('__all__ = ["froster"]\n')
    (folder / "froster" / "froster.py").write_text("def main(): print('archiving')\n")


def put_ours(folder: Path) -> None:
    shutil.copytree(SOURCES / "froster", folder / "froster", dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.pyc"))
    shutil.copy(SOURCES / "froster_video.py", folder)


def run(*arguments: str, path: list[Path], cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path))}
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, env=environment, cwd=cwd, timeout=300
    )


def refused(result: subprocess.CompletedProcess[str], *words: str) -> bool:
    line = result.stderr.strip()
    return (result.returncode, result.stdout) == (2, "") and "\n" not in line and all(word in line for word in words)


START = ("-c", "import froster_video; froster_video.main()", "--version")


def test_the_command_starts(tmp_path: Path) -> None:
    for start in (START, ("-m", "froster", "--version")):
        result = run(*start, path=[SOURCES], cwd=tmp_path)
        assert (result.returncode, result.stdout.split()[0], result.stderr) == (0, "froster", ""), start


def test_the_start_does_not_wait_for_pytorch(tmp_path: Path) -> None:
    code = (
        "import sys, froster, froster_video; assert not froster_video.conflict(froster); print('torch' in sys.modules)"
    )
    assert run("-c", code, path=[SOURCES], cwd=tmp_path).stdout == "False\n"


def test_the_other_package_hides_ours(tmp_path: Path) -> None:
    put_archiving_tool(tmp_path / "site")
    assert refused(
        run(*START, path=[tmp_path / "site", SOURCES], cwd=tmp_path), "archiving tool", str(tmp_path / "site")
    )


def test_the_other_package_was_installed_over_ours(tmp_path: Path) -> None:
    put_ours(tmp_path / "site")
    put_archiving_tool(tmp_path / "site")
    for start in (START, ("-m", "froster", "--version")):
        assert refused(run(*start, path=[tmp_path / "site"], cwd=tmp_path), "archiving tool", "pip uninstall froster ")


def test_ours_was_installed_over_the_other_package(tmp_path: Path) -> None:
    put_archiving_tool(tmp_path / "site")
    put_ours(tmp_path / "site")
    assert refused(run(*START, path=[tmp_path / "site"], cwd=tmp_path), "archiving tool")
    imported = run("-c", "import froster", path=[tmp_path / "site"], cwd=tmp_path)
    assert imported.stderr.splitlines()[-1].startswith("ImportError: ") and "archiving tool" in imported.stderr


def test_the_other_package_was_removed_and_took_files_of_ours_along(tmp_path: Path) -> None:
    put_ours(tmp_path / "site")
    (tmp_path / "site" / "froster" / "__init__.py").unlink()
    # -S: without this environment's packages, where froster may be installed.
    result = run("-S", *START, path=[tmp_path / "site"], cwd=tmp_path)
    assert refused(result, "not all of it", "install it again")


@pytest.mark.parametrize("name", ["froster.py", "froster/__init__.py"])
def test_a_file_of_the_user_hides_ours(tmp_path: Path, name: str) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("")
    assert refused(run(*START, path=[SOURCES], cwd=tmp_path), "rename a file or folder froster of your own")


def test_the_library_alone_says_what_the_command_needs(tmp_path: Path) -> None:
    blocked = "import sys; sys.modules['rich'] = None; import froster_video; froster_video.main()"
    result = run("-c", blocked, path=[SOURCES], cwd=tmp_path)
    assert refused(result, 'The command froster needs the extra cli: pip install "froster-video[cli]"')
