"""The progress bar of long library calls: rich's if installed, else plain lines."""

import sys
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Self

if TYPE_CHECKING:
    from rich.progress import Progress, ProgressColumn


class ProgressBar:
    """A bar on standard error, in steps or bytes; with `show=False` it prints nothing."""

    def __init__(
        self, what: str, total: int | None, completed: int, unit: Literal["steps", "bytes"], show: bool = True
    ) -> None:
        self.show = show
        self.bar = rich_bar(unit, show)
        self.width = self.bar.console.width if self.bar else sys.maxsize
        if self.bar:
            self.task = self.bar.add_task(what, total=total, completed=completed, metrics="")

    def __enter__(self) -> Self:
        if self.bar:
            self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.bar:
            self.bar.stop()

    def update(self, completed: int, metrics: str = "") -> None:
        """Update the progress, and the metrics after the bar."""
        if self.bar:
            self.bar.update(self.task, completed=completed, metrics=metrics)

    def print(self, line: str) -> None:
        """Print a line above the bar."""
        if self.bar:
            self.bar.console.print(line, highlight=False, markup=False)
        elif self.show:
            print(line, file=sys.stderr)


def rich_bar(unit: Literal["steps", "bytes"], show: bool) -> "Progress | None":
    """Rich's progress bar; None if rich (extra `cli`) is not installed."""
    try:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
            TransferSpeedColumn,
        )
    except ModuleNotFoundError:
        return None
    amount: tuple[ProgressColumn, ...] = (MofNCompleteColumn(), TextColumn("{task.fields[metrics]}", markup=False))
    if unit == "bytes":
        amount = (DownloadColumn(), TransferSpeedColumn())
    name = TextColumn("{task.description}", markup=False)
    console = Console(stderr=True, quiet=not show, soft_wrap=True)
    return Progress(name, BarColumn(20), *amount, TimeRemainingColumn(), console=console)
