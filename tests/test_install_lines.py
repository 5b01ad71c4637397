"""Every line that tells how to install froster names this distribution, and extras that it has."""

import re
import shlex
import tomllib
from pathlib import Path

import pytest

from froster.errors import FrosterError
from froster.extras import DISTRIBUTION, extra, needs_extra

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
FILES = [
    *ROOT.glob("*.md"),
    *ROOT.glob("docs/**/*.md"),
    *ROOT.glob("docs/**/*.ipynb"),
    *ROOT.glob("src/**/*.py"),
    *ROOT.glob("src/**/*.md"),
    *ROOT.glob("tests/**/*.py"),
    *ROOT.glob("benchmarks/**/*.py"),
    *ROOT.glob(".github/**/*.*"),
    ROOT / ".ci" / "run",
    ROOT / "Makefile",
    ROOT / "mkdocs.yml",
]
INSTALL = re.compile(r"pip install ([^\n`]*)")
REQUIREMENT = re.compile(r"(?P<name>\.|froster[-\w]*)\[(?P<extras>[\w,]+)\]")


def texts() -> list[tuple[Path, str]]:
    return [(file, file.read_text(encoding="utf-8")) for file in FILES if file.exists() and file != Path(__file__)]


def install_lines() -> list[tuple[str, str]]:
    """Where each stands, and what follows `pip install`."""
    return [
        (str(file.relative_to(ROOT)), line.replace('\\"', '"'))
        for file, text in texts()
        for line in INSTALL.findall(text)
    ]


def test_the_distributions_name() -> None:
    assert PROJECT["name"] == DISTRIBUTION != "froster"


def test_install_lines_name_this_distribution_and_its_extras() -> None:
    found = install_lines()
    assert {"README.md", "docs/serving.md", "docs/words.md", "Makefile"} <= {file for file, _ in found}
    for file, line in found:
        for name, extras in REQUIREMENT.findall(line):
            assert name in (DISTRIBUTION, "."), (file, line)
            assert set(extras.split(",")) <= set(EXTRAS), (file, line)
        names = re.findall(r"(?<![\w./-])froster[-\w]*", line.split("#")[0])
        assert set(names) <= {DISTRIBUTION}, (file, line)  # `froster` is the other project


def test_extras_that_are_spoken_of_exist() -> None:
    for file, text in texts():
        assert not re.search(r"froster\\*\[\w", text), file
        for name in re.findall(r"[Tt]he extra `(\w+)`", text):
            assert name in EXTRAS, (file, name)


def test_messages_name_extras_that_exist() -> None:
    sources = "\n".join(text for file, text in texts() if file.is_relative_to(ROOT / "src"))
    named = re.findall(r'needs_extra\([^)]*?, "(\w+)"\)', sources) + re.findall(r'\bextra\("(\w+)", ', sources)
    assert {"cli", "serve", "describe", "track"} <= set(named) <= set(EXTRAS)
    assert len(re.findall(r"pip install \S", sources)) == 1  # one function says it


def test_the_sentence_can_be_pasted_into_a_shell() -> None:
    sentence = needs_extra("The server", "serve")
    assert sentence.startswith("The server needs the extra serve: ")
    assert shlex.split(sentence.split(": ", 1)[1]) == ["pip", "install", f"{DISTRIBUTION}[serve]"]


def test_missing_packages_become_the_sentence_and_faults_of_ours_stay() -> None:
    with pytest.raises(FrosterError, match=re.escape(needs_extra("It", "track"))), extra("track", "It"):
        import no_such_package  # noqa: F401
    with pytest.raises(ModuleNotFoundError), extra("track", "It"):
        import froster.no_such_module  # noqa: F401
