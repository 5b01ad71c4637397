"""Copy http(s) URLs and standard input into a temporary file.

Frames of a video are chosen by the times of all of them, so it is read twice, which a pipe cannot do.
"""

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path, PurePosixPath
from typing import BinaryIO
from urllib.error import HTTPError, URLError
from urllib.parse import SplitResult, unquote, urlsplit
from urllib.request import Request, url2pathname, urlopen

from froster.errors import VideoError
from froster.files import is_dead_link

MAX_BYTES = 4 << 30
CHUNK = 1 << 20
READ_TIMEOUT = 20.0  # seconds to wait for a server


def is_spooled(source: str | os.PathLike[str]) -> bool:
    """Whether a name stands for standard input (`-`) or a URL, which `spooled` copies to a file."""
    name = os.fspath(source)
    return name == "-" or ("://" in name and not os.path.exists(name) and not is_dead_link(name))  # noqa: PTH110


@contextmanager
def spooled(source: str | os.PathLike[str], max_bytes: int = MAX_BYTES) -> Iterator[Path]:
    """A path with which `load_video` and `Recognizer` read an http(s) URL or standard input (`-`).

    A temporary copy that is removed when the block ends; a file of this machine, or a file:// URL, is itself. Raises
    `VideoError` for more than `max_bytes` bytes, for what cannot be fetched, breaks off or is empty, and for other
    URLs, whose streams may have no end: `score_timeline` reads them.
    """
    name = os.fspath(source)
    if not is_spooled(name):
        yield Path(name)
        return
    address = _split(name)
    if address.scheme.lower() == "file":
        yield Path(url2pathname(address.path))
        return
    if name != "-" and address.scheme.lower() not in ("http", "https"):
        raise VideoError(
            name,
            "only http and https addresses are read as a whole video; a stream is read window by window, as a timeline",
        )
    with tempfile.TemporaryDirectory(prefix="froster-", ignore_cleanup_errors=True) as folder:
        file = PurePosixPath(unquote(address.path)).name.replace("\0", "")[-100:] if name != "-" else "standard input"
        path = Path(folder, file or "video")
        if name == "-":
            _copy_standard_input(path, max_bytes)
        else:
            _download(name, path, max_bytes)
        yield path


def _split(name: str) -> SplitResult:
    try:
        return urlsplit(name)
    except ValueError as error:
        raise VideoError(name, f"is not a valid URL ({error})") from error


def _copy_standard_input(path: Path, max_bytes: int) -> None:
    if sys.stdin is None or sys.stdin.isatty():
        raise VideoError("-", "standard input is a terminal; send a video into it, as in: command < clip.mp4")
    _copy(sys.stdin.buffer, path, "-", max_bytes)


def _download(url: str, path: Path, max_bytes: int) -> None:
    try:
        with urlopen(Request(url, headers={"User-Agent": "froster"}), timeout=READ_TIMEOUT) as response:
            promised = response.headers.get("Content-Length", "")
            size = int(promised) if promised.isdecimal() else None
            if size is not None and size > max_bytes:
                raise _too_large(url, max_bytes)
            copied = _copy(response, path, url, max_bytes)
    except HTTPError as error:
        raise VideoError(url, f"the server responds {error.code} {error.reason}") from error
    except (URLError, HTTPException, OSError) as error:
        reason = getattr(error, "reason", None) or error
        raise VideoError(url, f"cannot be downloaded ({reason})") from error
    if size is not None and copied < size:
        raise VideoError(url, f"breaks off after {copied} of {size} bytes")


def _copy(source: BinaryIO, path: Path, name: str, max_bytes: int) -> int:
    copied = 0
    try:
        with path.open("wb") as file:
            while chunk := source.read(CHUNK):
                copied += len(chunk)
                if copied > max_bytes:
                    raise _too_large(name, max_bytes)
                file.write(chunk)
    except OSError as error:
        raise VideoError(name, f"cannot be copied into {path.parent} ({error.strerror or error})") from error
    if not copied:
        raise VideoError(name, "is empty")
    return copied


def _too_large(name: str, max_bytes: int) -> VideoError:
    return VideoError(name, f"is larger than the {max_bytes} bytes that are read into a temporary file")
