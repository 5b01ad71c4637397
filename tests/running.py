"""The command line, run inside the test: a Python of its own takes seconds to start."""

import io
import sys
import warnings
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from typing import NamedTuple

from froster.cli import main


class Ran(NamedTuple):
    status: int
    stdout: str
    stderr: str


class _Output(io.TextIOWrapper):
    """Text that is kept, and may claim to be a terminal."""

    def __init__(self, terminal: bool) -> None:
        super().__init__(io.BytesIO(), encoding="utf-8", write_through=True)
        self.terminal = terminal

    def isatty(self) -> bool:
        return self.terminal

    def text(self) -> str:
        return self.buffer.getvalue().decode()  # type: ignore[attr-defined]


def run(*arguments: object, terminal: bool = False, entry: Callable[[list[str]], object] = main) -> Ran:
    """Status, standard output and standard error of `froster ARGUMENTS`, whose exceptions are let through."""
    out, err = _Output(terminal), _Output(terminal)
    shown = warnings.showwarning
    with redirect_stdout(out), redirect_stderr(err), warnings.catch_warnings():
        warnings.simplefilter("always")
        try:
            entry([*map(str, arguments)])
            status = 0
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else int(end.code is not None)
        finally:
            warnings.showwarning = shown
    sys.stdout.flush()
    return Ran(status, out.text(), err.text())
