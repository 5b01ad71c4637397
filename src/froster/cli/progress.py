"""The bar that long commands show."""

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


def progress_bar(console: Console, hide: bool = False, redirect: bool = False) -> Progress:
    """A bar that vanishes at the end; none where `console` is no terminal.

    With `redirect`, what is printed meanwhile appears above the bar.
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
