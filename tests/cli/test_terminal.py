import ast
import io
import json
import re
from pathlib import Path

import pytest
from rich.table import Table
from rich.text import Text

import froster
from froster.cli import main
from froster.cli.terminal import CONTROLS, Screen, as_flags, echo, echo_json, one_line, printable
from running import run

COMMAND = re.compile(r"froster [a-z]|^ +--|--[a-z-]+: ?[#\d]|:root")
HOSTILE = "\x1b]0;owned\x07\x1b[31mred\x9b2J\x7f\u202egpj\r"


def test_control_characters_become_pictures() -> None:
    assert printable("\x1b[31m\x07\r\x7f") == "␛[31m␇␍␡"
    assert printable("\x9b2J\u202e") == "\ufffd2J\ufffd"
    assert printable("跑步\ta\nb é 🏃") == "跑步\ta\nb é 🏃"
    assert one_line("a\nfroster: all is well") == "a\u2424froster: all is well"


def test_json_stays_json(capsys: pytest.CaptureFixture[str]) -> None:
    content = {HOSTILE: ["é", "\udc83", "line\nbreak"]}
    echo_json(content)
    shown = capsys.readouterr().out
    assert json.loads(shown) == content
    assert not CONTROLS.search(shown)


def test_a_screen_shows_only_its_own_escape_sequences() -> None:
    file = io.StringIO()
    screen = Screen(file=file, force_terminal=True, width=60, color_system="standard")
    table = Table("name", HOSTILE)
    table.add_row(HOSTILE, Text(HOSTILE, style="bold red"))
    screen.print(table)
    screen.print(HOSTILE)
    shown = re.sub(r"\x1b\[[\d;]*m", "", file.getvalue())
    assert "␛]0;owned␛[31mred" in shown
    assert not CONTROLS.search(shown)
    assert "\x1b[1;31m" in file.getvalue()  # its own colors


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("go on with `resume=True`, or", "go on with --resume, or"),
        ("leave them out with `attention=False`.", "leave them out with --no-attention."),
        ("try `device='cpu'`.", "try --device cpu."),
        ("give it as `labels_file=`", "give it as --labels-file"),
        ("lacks the column `label`", "lacks the column `label`"),
        ("`nobody=7`", "`nobody=7`"),
    ],
)
def test_parameters_are_spelled_as_flags(message: str, shown: str) -> None:
    assert as_flags(message) == shown


def test_library_messages_name_no_flags() -> None:
    """Python users read them too: parameters are in backticks, which the command line translates."""
    package = Path(froster.__file__).parent
    found = []
    for path in package.rglob("*.py"):
        if path.is_relative_to(package / "cli"):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                lines = [line for line in node.value.splitlines() if re.search(r"(?<![\w(-])--[a-z]", line)]
                # Whole command lines are examples; --paper is CSS.
                found += [f"{path.name}:{node.lineno}: {line}" for line in lines if not COMMAND.search(line)]
    assert not found


@pytest.mark.parametrize(
    "arguments",
    [
        ("predict", f"{HOSTILE}.mp4", "--labels", "a, b"),
        ("predict", "missing.mp4", "--labels", f"{HOSTILE}.txt"),
        ("classes", HOSTILE),
        (HOSTILE,),
        ("predict", "--top", HOSTILE, "x.mp4"),
        ("train", f"{HOSTILE}.yaml"),
        ("evaluate", "puppets", "--data", HOSTILE),
        ("report", "puppets", "--data", "x.csv", "--out", HOSTILE),
        ("methods", "--model", HOSTILE),
    ],
)
@pytest.mark.parametrize("terminal", [False, True])
def test_hostile_arguments_are_not_obeyed(arguments: tuple[str, ...], terminal: bool) -> None:
    ran = run(*arguments, terminal=terminal)
    assert ran.status in (1, 2)
    shown = re.sub(r"\x1b\[[\d;]*m|\x1b\[\?25[hl]|\x1b\[2K|\x1b\[1A|\r", "", ran.stdout + ran.stderr)
    assert not CONTROLS.search(shown)


def test_wrong_usage_is_one_line() -> None:
    ran = run("predict", "x.mp4", "--frames", "many")
    assert ran.status == 2
    assert ran.stderr.startswith("froster: Invalid value for '--frames'")
    assert ran.stderr.rstrip().endswith("predict --help") and ran.stderr.count("\n") == 1
    assert run("predict", "x.mp4", "--lables", "a").stderr.startswith("froster: No such option: --lables")


def test_nobody_reads_the_output(monkeypatch: pytest.MonkeyPatch) -> None:
    def closed(*_: object, **__: object) -> None:
        raise BrokenPipeError

    monkeypatch.setattr("builtins.print", closed)
    assert run("classes").status == 141


def test_main_takes_arguments(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["--version"])
    assert not end.value.code
    echo()
    assert capsys.readouterr().out.startswith("froster ")
