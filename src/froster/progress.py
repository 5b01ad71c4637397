"""The progress bar of long calls into the library: rich's where it is installed, without it only lines."""

import sys
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Self

if TYPE_CHECKING:
    from rich.progress import Progress, ProgressColumn


class ProgressBar:
    """A bar on standard error, of steps or of bytes; with `show=False` it writes nothing."""

    def __init__(
        self, what: str, total: int | None, completed: int, unit: Literal["steps", "bytes"], show: bool = True
    ) -> None:
        self.show = show
        self.bar = rich_bar(unit, show)
        self.width = self.bar.console.width if self.bar else sys.maxsize
        if self.bar:
            self.task = self.bar.add_task(what, total=total, completed=completed, figures="")

    def __enter__(self) -> Self:
        if self.bar:
            self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.bar:
            self.bar.stop()

    def update(self, completed: int, figures: str = "") -> None:
        """Show how much is done, and figures behind the bar."""
        if self.bar:
            self.bar.update(self.task, completed=completed, figures=figures)

    def print(self, line: str) -> None:
        """Leave a line above the bar."""
        if self.bar:
            self.bar.console.print(line, highlight=False, markup=False)
        elif self.show:
            print(line, file=sys.stderr)


def rich_bar(unit: Literal["steps", "bytes"], show: bool) -> "Progress | None":
    """The bar that rich draws; None where rich, of the extra `cli`, is not installed."""
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
    amount: tuple[ProgressColumn, ...] = (MofNCompleteColumn(), TextColumn("{task.fields[figures]}", markup=False))
    if unit == "bytes":
        amount = (DownloadColumn(), TransferSpeedColumn())
    name = TextColumn("{task.description}", markup=False)
    console = Console(stderr=True, quiet=not show, soft_wrap=True)
    return Progress(name, BarColumn(20), *amount, TimeRemainingColumn(), console=console)
