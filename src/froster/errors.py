"""Errors meant for people: one sentence that says what was wrong, where, and what to do."""

import difflib
from collections.abc import Iterable


class FrosterError(Exception):
    """Base of every error a user can cause; the command line prints it as one line, without a traceback."""


class FrosterWarning(UserWarning):
    """Something was assumed that the user should know of."""


class VideoError(FrosterError):
    """A video that cannot be used at all; the message names the file and the reason."""


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
