"""Terminal output without foreign control characters, and with the command line's names for parameters.

File names, labels, checkpoints and container metadata may contain escape sequences, which a terminal would execute.
Everything that the commands print goes through `echo`, `warn` or a `Screen`.
"""

import csv
import io
import json
import re
import sys
from collections.abc import Iterable
from functools import cache
from typing import TYPE_CHECKING, Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

if TYPE_CHECKING:
    from typing import TextIO

# C0 controls except tab and newline, delete, C1 controls, and bidirectional text controls.
CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
KEYWORD = re.compile(r"`(\w+)=([^`]*)`")  # a parameter in a library message: `resume=True`, `out=`


class OutputClosedError(Exception):
    """Standard output is closed, as in `froster predict … | head`."""


def printable(text: str) -> str:
    """Replace control characters by visible symbols (␛ for escape), others by �."""
    return CONTROLS.sub(_symbol, text)


def one_line(text: str) -> str:
    return printable(text.replace("\n", "\u2424"))


def _symbol(found: re.Match[str]) -> str:
    code = ord(found[0])
    return chr(0x2400 + code) if code < 0x20 else "\u2421" if code == 0x7F else "\ufffd"


def as_flags(text: str) -> str:
    """Replace parameters in a library message by command-line options: `out=` by --out."""
    return KEYWORD.sub(_flag, text)


def _flag(found: re.Match[str]) -> str:
    name, value = found[1], found[2].strip("'\"")
    flag, opposite = _flags().get(name, ("", ""))
    if not flag or (value == "False" and not opposite):
        return found[0]
    if value in ("True", "False"):
        return flag if value == "True" else opposite
    return f"{flag} {value}".strip()


@cache
def _flags() -> dict[str, tuple[str, str]]:
    """Parameter -> its option, and its negation (--no-…) if any, over all commands."""
    from typer.main import get_command

    from froster.cli import app

    flags, commands = dict[str, tuple[str, str]](), list[Any]([get_command(app)])
    while commands:
        command = commands.pop()
        commands += getattr(command, "commands", {}).values()
        for parameter in command.params:
            if parameter.name and parameter.opts and parameter.opts[0].startswith("--"):
                flags[parameter.name] = parameter.opts[0], "".join(parameter.secondary_opts[:1])
    return flags


def echo(text: str = "") -> None:
    """Print a result on standard output, at once. Raises `OutputClosedError`."""
    try:
        print(printable(text), flush=True)
    except BrokenPipeError:
        raise OutputClosedError from None


def echo_json(content: object, indent: int | None = None) -> None:
    """Print a result as JSON, losslessly, with control characters escaped."""
    text = json.dumps(content, indent=indent, ensure_ascii=False)
    echo(re.sub(rf"{CONTROLS.pattern}|[\ud800-\udfff]", lambda found: f"\\u{ord(found[0]):04x}", text))


def echo_csv(row: Iterable[object]) -> None:
    """Print a row as CSV: losslessly, except on a terminal, where control characters are replaced.

    Raises `OutputClosedError`.
    """
    line = io.StringIO(newline="")
    csv.writer(line).writerow(row)
    if sys.stdout.isatty():
        echo(line.getvalue().removesuffix("\r\n"))
        return
    try:
        sys.stdout.write(line.getvalue())
        sys.stdout.flush()
    except BrokenPipeError:
        raise OutputClosedError from None


def warn(text: str) -> None:
    """Print a message on standard error, in one line."""
    print(one_line(as_flags(text)), file=sys.stderr, flush=True)


class Screen(Console):
    """A console for tables and lines, without markup and foreign control characters."""

    def __init__(self, stderr: bool = False, file: "TextIO | None" = None, **options: Any) -> None:
        super().__init__(stderr=stderr, file=file, **{"highlight": False, "markup": False, "emoji": False} | options)

    def print(self, *objects: Any, **options: Any) -> None:
        super().print(*(as_flags(text) if isinstance(text, str) else text for text in objects), **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for text, style, control in super().render(renderable, options):
            yield Segment(text if control else printable(text), style, control)

    def on_broken_pipe(self) -> None:
        raise OutputClosedError
