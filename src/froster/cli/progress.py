"""The progress bar of long commands."""

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


def progress_bar(console: Console, hide: bool = False, redirect: bool = False) -> Progress:
    """A transient progress bar; disabled if `console` is not a terminal.

    `redirect`: print other output above the bar.
    """
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=hide or not console.is_terminal,
        redirect_stdout=redirect,
        redirect_stderr=redirect,
    )
