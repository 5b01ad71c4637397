"""A few of the command lines of tests/fuzz/command_lines.py."""

from pathlib import Path

import pytest

from froster.errors import FrosterError
from froster.shipped import existing_recipe
from fuzz.command_lines import commands, fuzz


def test_hostile_command_lines_end_in_words(tmp_path: Path) -> None:
    results = list(fuzz(40, 1, tmp_path))
    bad = [(line, found) for line, found, _ in results if not found.startswith(("refused", "status 0"))]
    assert not bad
    refused = sum(found == "refused" for _, found, _ in results)
    assert refused > 30
    assert ("data", "check") in commands()


@pytest.mark.parametrize("name", ["", ".", "none", "none.yaml", "recipes/none.yaml", "..none"])
def test_recipes_that_are_none(name: str) -> None:
    with pytest.raises(FrosterError, match="There is no recipe"):
        existing_recipe(Path(name))
