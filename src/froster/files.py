"""Atomic file writing, CSV escaping, and the user's cache folder."""

import errno
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import platformdirs

from froster.errors import FrosterError

CANNOT_WRITE = {errno.ENOSPC, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EDQUOT, errno.EIO}
RUST_ERROR = re.compile(r"\(os error (\d+)\)")  # safetensors' format of system errors


class WriteError(OSError, FrosterError):
    """A file cannot be written: the disk is full, a limit is reached, or there is no permission."""

    def __str__(self) -> str:
        return f"Cannot write {self.filename}: {self.strerror}."


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Raise `WriteError` if the block cannot write `path`, whichever library reports it."""
    try:
        yield
    except FrosterError:
        raise
    except Exception as error:
        if (number := write_error_number(error)) is None:
            raise
        raise WriteError(number, os.strerror(number), str(path)) from error


def write_error_number(error: BaseException) -> int | None:
    """The errno of a failed write, which PyTorch and safetensors wrap in their own errors; None for other errors."""
    cause: BaseException | None = error
    while cause is not None:
        found = RUST_ERROR.search(str(cause))
        number = int(found[1]) if found else getattr(cause, "errno", None)
        if number in CANNOT_WRITE:
            return number
        cause = cause.__context__
    return None


@contextmanager
def replace_when_written(path: Path) -> Iterator[Path]:
    """A temporary path next to `path` that replaces it if the block succeeds, and is deleted otherwise.

    The file is synced to disk, so a power failure leaves either the old or the new file. Raises `WriteError` if it
    cannot be written.
    """
    temporary = path.with_name(f".{path.stem}.{secrets.token_hex(4)}.partial{path.suffix}")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            synchronize(temporary)
            temporary.replace(path)
        finally:
            with suppress(OSError):  # without write permission there is no such file
                temporary.unlink(missing_ok=True)
        if os.name == "posix":  # other systems cannot open folders
            synchronize(path.parent)


def synchronize(path: Path) -> None:
    """Flush a file, or a folder's entries, to disk, if the file system supports it."""
    descriptor = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)


def cache_dir() -> Path:
    """The user's cache folder; overridden by the environment variable `FROSTER_CACHE`."""
    return Path(os.environ.get("FROSTER_CACHE") or platformdirs.user_cache_dir("froster"))


def printable_name(name: str) -> str:
    """A file name for text that must be UTF-8: bytes that are not become \\udc80 to \\udcff, as in JSON."""
    return name.encode(errors="backslashreplace").decode()


def is_utf8(name: str) -> bool:
    """Whether a file name can be written as UTF-8."""
    return not any("\udc80" <= character <= "\udcff" for character in name)


def is_dead_link(path: str | os.PathLike[str]) -> bool:
    """Whether a path is a link to a missing file."""
    return os.path.islink(path) and not os.path.exists(path)  # noqa: PTH110, PTH114 (Path fails on a loop of links)


FORMULA = re.compile(
    r"'*[=+\-@\t\r]"
)  # start of a cell that a spreadsheet would run as a formula, or that `csv_cell` escaped


def csv_cell(text: str) -> str:
    """Escape a CSV cell that starts with = + - @ with a leading ', so that no spreadsheet runs it.

    `read_cell` is the exact inverse.
    """
    return f"'{text}" if FORMULA.match(text) else text


def read_cell(text: str) -> str:
    """The inverse of `csv_cell`."""
    return text[1:] if text.startswith("'") and FORMULA.match(text) else text
