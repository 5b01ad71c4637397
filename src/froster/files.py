"""Files that are written whole or not at all, and the user's cache folder."""

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
RUST_ERROR = re.compile(r"\(os error (\d+)\)")  # how safetensors names an error of the system


class WriteError(OSError, FrosterError):
    """A file that cannot be written: the disk is full, a limit is reached, or the folder may not be written."""

    def __str__(self) -> str:
        return f"Cannot write {self.filename}: {self.strerror}."


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Raise `WriteError` where the block cannot write `path`, whatever library finds that out."""
    try:
        yield
    except FrosterError:
        raise
    except Exception as error:
        if (number := write_error_number(error)) is None:
            raise
        raise WriteError(number, os.strerror(number), str(path)) from error


def write_error_number(error: BaseException) -> int | None:
    """The errno of a failed write, which PyTorch and safetensors hide in errors of their own; None for other errors."""
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
    """A temporary path beside `path` that takes its place when the block ends well, and vanishes when it does not.

    When the block is left, the file is on the disk: a power cut leaves the old one or the new one, whole. Raises
    `WriteError` where it cannot be written.
    """
    temporary = path.with_name(f".{path.stem}.{secrets.token_hex(4)}.partial{path.suffix}")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            synchronize(temporary)
            temporary.replace(path)
        finally:
            with suppress(OSError):  # a folder that cannot be written has no such file
                temporary.unlink(missing_ok=True)
        if os.name == "posix":  # elsewhere a folder cannot be opened
            synchronize(path.parent)


def synchronize(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk, where the file system can tell."""
    descriptor = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)


def cache_dir() -> Path:
    """The user's cache folder; the environment variable `FROSTER_CACHE` moves it."""
    return Path(os.environ.get("FROSTER_CACHE") or platformdirs.user_cache_dir("froster"))


def is_dead_link(path: str | os.PathLike[str]) -> bool:
    """Whether a path is a link to what is not there."""
    return os.path.islink(path) and not os.path.exists(path)  # noqa: PTH110, PTH114 (Path fails on a loop of links)


FORMULA = re.compile(r"'*[=+\-@\t\r]")  # how a cell begins that a spreadsheet runs; behind quotes, one that we quoted


def csv_cell(text: str) -> str:
    """A text as a cell of a CSV file: one that begins with = + - @ gets a ' before it, so that no spreadsheet runs it.

    `read_cell` takes it away again, exactly.
    """
    return f"'{text}" if FORMULA.match(text) else text


def read_cell(text: str) -> str:
    """The text of a cell that `csv_cell` wrote."""
    return text[1:] if text.startswith("'") and FORMULA.match(text) else text
