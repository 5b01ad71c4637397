"""Opens media files and streams, and turns whatever a decoder raises into a `VideoError`."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import ParamSpec, TypeVar

import av
from av.container import InputContainer

from froster.errors import FrosterError, FrosterWarning, VideoError, is_out_of_memory

P = ParamSpec("P")
R = TypeVar("R")


def open_container(
    name: str,
    *,
    format: str | None = None,  # noqa: A002 (as FFmpeg and PyAV call it)
    options: dict[str, str] | None = None,
    timeout: tuple[float, float] | None = None,
) -> InputContainer:
    """`av.open` for reading. Raises `av.FFmpegError`."""
    # Tags in legacy encodings are common (Shift-JIS, Latin-1); PyAV's default is to raise on them.
    return av.open(name, "r", format=format, options=options, timeout=timeout, metadata_errors="replace")


class CallerError(Exception):
    """Carries an exception of a caller's function past `decoder_errors`."""

    def __init__(self, error: Exception) -> None:
        super().__init__(error)
        self.error = error


def of_caller(function: Callable[P, R]) -> Callable[P, R]:
    """`function`, whose exceptions `decoder_errors` leaves as they are."""

    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except Exception as error:
            raise CallerError(error) from error

    return call


@contextmanager
def decoder_errors(name: object) -> Iterator[None]:
    """Raise `VideoError` with `name` and the reason for every exception, so that no file can end a batch.

    FFmpeg, PyAV and Pillow raise exceptions of any class on damaged files. A `FrosterError` passes, and so does an
    exception of a function in `of_caller`, unless memory ran out.
    """
    try:
        yield
    except (FrosterError, FrosterWarning):
        raise
    except Exception as error:
        reason = error.error if isinstance(error, CallerError) else error
        if is_out_of_memory(reason):
            raise VideoError(f"{name}: there is not enough memory to decode it.") from reason
        if isinstance(error, CallerError):
            raise reason from reason.__cause__
        raise VideoError(f"{name}: cannot be decoded ({describe(error)}).") from error


def describe(error: Exception) -> str:
    """The class and message of an exception in one line."""
    message = " ".join(str(error).split())
    return f"{type(error).__name__}: {message}" if message else type(error).__name__
