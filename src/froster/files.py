"""Files that are written whole or not at all, and the user's cache folder."""

import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import platformdirs


@contextmanager
def replace_when_written(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` that takes its place when the block ends well, and vanishes when it does not."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{secrets.token_hex(4)}.partial{path.suffix}")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


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
