"""Stop long commands by Ctrl-C, or by SIGTERM from a scheduler."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

import typer

from froster.cli.terminal import warn


@contextmanager
def stopped_by_signals(message: str) -> Iterator[None]:
    """On Ctrl-C or SIGTERM, print `message` on standard error and exit with the signal's status."""
    from froster.processes import find_processes

    processes = find_processes()
    signal.signal(signal.SIGTERM, stop)
    try:
        yield
    except KeyboardInterrupt as interrupt:
        if processes.is_main_process:
            warn(message)
        raise typer.Exit(128 + (interrupt.args[0] if interrupt.args else signal.SIGINT)) from None
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        processes.destroy_process_group()


def stop(number: int, frame: FrameType | None) -> NoReturn:
    """Raise KeyboardInterrupt as for Ctrl-C; a second signal ends the process at once."""
    signal.signal(number, signal.SIG_DFL)
    raise KeyboardInterrupt(number)
