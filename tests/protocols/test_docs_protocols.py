"""The commands of docs/protocols.md are commands that froster knows, with options that it has."""

import re
import shlex
from pathlib import Path

import pytest
import typer
from click import Context

from froster.cli import app

PAGE = (Path(__file__).parents[2] / "docs" / "protocols.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```bash\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)
COMMANDS = [shlex.split(line, comments=True) for block in BLOCKS for line in block.replace("\\\n", "").splitlines()]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_commands_parse(command: list[str]) -> None:
    program, *arguments = command
    assert program == "froster"
    group = typer.main.get_command(app)
    while hasattr(group, "commands"):
        name, *arguments = arguments
        group = group.commands[name]
    context: Context = group.make_context(name, arguments)
    assert context.params


def test_there_are_commands_of_every_protocol() -> None:
    assert {command[2] for command in COMMANDS if command[1] == "protocol"} == {
        "base-to-novel",
        "cross-dataset",
        "trade-off",
    }
