from collections import defaultdict
from typing import Any

from typer.main import get_command

from froster.cli import app

SHARED = ("--device", "--precision", "--student", "--labels-file", "--templates", "--workers", "--data")


def test_a_shared_option_has_one_help_text() -> None:
    texts, commands = defaultdict[str, list[str]](list), list[Any]([get_command(app)])
    while commands:
        command = commands.pop()
        commands += getattr(command, "commands", {}).values()
        for parameter in command.params:
            for option in parameter.opts:
                texts[option].append(parameter.help)
    assert {option: set(texts[option]) for option in SHARED if len(set(texts[option])) > 1} == {}
    assert all(len(texts[option]) > 1 for option in SHARED)
