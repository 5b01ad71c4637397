"""Errors meant for people: one sentence that says what was wrong, where, and what to do."""

import difflib
from collections.abc import Iterable
from os import PathLike, fspath


class FrosterError(ValueError):
    """Base of every error a user can cause; the command line prints it as one line, without a traceback."""


class FrosterWarning(UserWarning):
    """Something was assumed that the user should know of."""


class VideoError(FrosterError):
    """A video that cannot be used at all: `path`, the file or address, and `reason`, a clause without a full stop."""

    def __init__(self, path: str | PathLike[str], reason: str) -> None:
        super().__init__(fspath(path), reason)  # both, so that it can be pickled
        self.path = fspath(path)
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}."


class WeightsError(FrosterError):
    """A checkpoint that cannot be read; the message names the file and what to do."""


def did_you_mean(name: str, known: Iterable[str], otherwise: str = "there are:") -> str:
    """The end of a sentence about an unknown name: the nearest known one, or all of them behind `otherwise`."""
    known = list(known)
    near = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {near[0]!r}?" if near else f"{otherwise} {', '.join(known)}."


def is_out_of_memory(error: Exception) -> bool:
    """Whether memory ran out: PyTorch raises RuntimeErrors for that."""
    if isinstance(error, RuntimeError):
        return "allocate" in str(error) or "out of memory" in str(error)
    return isinstance(error, MemoryError)
