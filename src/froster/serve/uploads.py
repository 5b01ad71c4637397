"""Request bodies: streamed to disk with size and time limits, deleted after the answer."""

import asyncio
import contextlib
import os
import secrets
import shutil
import stat
import tempfile
import time
from collections.abc import AsyncIterator, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from filelock import FileLock, Timeout
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect, Request
from starlette.types import Message

from froster.errors import did_you_mean
from froster.serve.errors import RequestError, bad_request, busy, shutting_down
from froster.serve.settings import show_size
from froster.video.files import VIDEO_SUFFIXES
from froster.video.images import IMAGE_SUFFIXES

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

PREFIX = "froster-serve-"
MAX_FIELDS = 32  # parts of a form; ours has nine
FIELD_BYTES = 1_000_000  # of all parts except the file; 1000 labels are 30 kB
SHORT_BYTES = 5000  # of each part except the labels
RATE_WINDOW = 30.0  # seconds over which MIN_RATE applies
MIN_RATE = 10_000  # bytes per second
DEADLINE_RATE = 200_000  # bytes per second at which the largest allowed body arrives in time
EXTRA_SECONDS = 60.0  # on top of the deadline, for small bodies
DRAIN_SECONDS = 2.0  # a rejected upload is read on, since a client that is still sending does not read the answer
WARMUP_SECONDS = 2.0  # before the rate of an upload is meaningful


@dataclass
class Form:
    """The text fields of a form by name, and its file in the upload folder, if any."""

    fields: dict[str, str] = field(default_factory=dict)
    file: Path | None = None


@contextmanager
def upload_folder() -> Iterator[Path]:
    """A temporary folder for this process; folders of killed processes are deleted first.

    A lock next to the folder shows that its process is running.
    """
    temporary = Path(tempfile.gettempdir())
    for folder in temporary.glob(f"{PREFIX}*"):
        remove_if_left(folder)
    folder = temporary / f"{PREFIX}{secrets.token_hex(8)}"
    lock = FileLock(folder.with_suffix(".lock"))
    with lock:
        folder.mkdir(mode=0o700)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            Path(lock.lock_file).unlink(missing_ok=True)


def remove_if_left(folder: Path) -> None:
    """Delete one of our folders that no process has locked."""
    with contextlib.suppress(OSError):  # already deleted, or no permission
        found = folder.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != getattr(os, "getuid", lambda: 0)():
            return
        lock = FileLock(folder.with_suffix(".lock"))
        with contextlib.suppress(Timeout), lock.acquire(timeout=0):
            shutil.rmtree(folder, ignore_errors=True)
            Path(lock.lock_file).unlink(missing_ok=True)


class Body:
    """The body of a request as it arrives: at most `limit` bytes, in time.

    `closing` is set when the server is about to stop, `dropped` when the body has to make room for another.
    """

    def __init__(self, request: Request, closing: asyncio.Event, limit: int) -> None:
        self.receive, self.closing, self.limit = request.receive, closing, limit
        self.ended = False
        self.dropped = asyncio.Event()
        self.received = 0
        self.begun = time.monotonic()

    @property
    def deadline(self) -> float:
        """The deadline of the whole body, on the monotonic clock."""
        return self.begun + EXTRA_SECONDS + self.limit / DEADLINE_RATE

    async def chunks(self) -> AsyncIterator[bytes]:
        """Raises `RequestError` if the body is too slow or the server stops, `ClientDisconnect` if it breaks off."""
        stopped, dropped = (asyncio.ensure_future(event.wait()) for event in (self.closing, self.dropped))
        coming: asyncio.Future[Message] | None = None
        window_end, wanted = time.monotonic() + RATE_WINDOW, self.received + RATE_WINDOW * MIN_RATE
        try:
            while not self.ended:
                coming = coming or asyncio.ensure_future(self.receive())
                left = min(window_end, self.deadline) - time.monotonic()
                events: set[asyncio.Future[Any]] = {coming, stopped, dropped}
                await asyncio.wait(events, timeout=left, return_when=asyncio.FIRST_COMPLETED)
                if stopped.done():
                    raise shutting_down()
                if coming.done():
                    message, coming = coming.result(), None
                    if message["type"] == "http.disconnect":
                        raise ClientDisconnect
                    self.ended = not message.get("more_body", False)
                    chunk = message.get("body", b"")
                    self.received += len(chunk)
                    yield chunk
                if self.ended:
                    return
                now = time.monotonic()
                if now >= self.deadline:
                    most = self.deadline - self.begun
                    raise too_slow(f"was not complete after {most:.0f} s")
                if dropped.done() or (now >= window_end and self.received < wanted):
                    raise too_slow(f"was slower than {MIN_RATE / 1000:g} kB/s")
                if now >= window_end:
                    window_end, wanted = now + RATE_WINDOW, self.received + RATE_WINDOW * MIN_RATE
        finally:
            for waiting in (stopped, dropped, coming):
                if waiting is not None:
                    waiting.cancel()

    async def whole(self, arrivals: "Arrivals") -> bytes:
        """A small body. Raises `RequestError` for one of more than `limit` bytes."""
        content = bytearray()
        try:
            with arrivals.admit(self):
                async for chunk in self.chunks():
                    content += chunk
                    if len(content) > self.limit:
                        raise bad_request(f"The request exceeds {show_size(self.limit)}.")
        except RequestError:
            await self.discard()
            raise
        return bytes(content)

    async def discard(self) -> None:
        """Read and discard what a client still sends, for a short time."""
        with contextlib.suppress(TimeoutError, ClientDisconnect, RequestError):
            async with asyncio.timeout(DRAIN_SECONDS):
                async for _ in self.chunks():
                    pass


def too_slow(what: str) -> RequestError:
    return RequestError(408, "upload_timeout", f"The upload {what}; send it again over a faster connection.")


class Arrivals:
    """The arriving bodies, at most `most` at a time, and the `stored` bytes of uploads on disk."""

    def __init__(self, most: int, most_bytes: int) -> None:
        self.most, self.most_bytes = most, most_bytes
        self.bodies: set[Body] = set()
        self.stored = 0

    @contextmanager
    def admit(self, body: Body) -> Iterator[None]:
        """Count a body while it arrives. If there are too many, the slowest is dropped if it is below the minimum rate.

        Raises `RequestError` when all others are fast enough.
        """
        if len(self.bodies) >= self.most:
            now = time.monotonic()
            active = [
                other for other in self.bodies if now - other.begun > WARMUP_SECONDS and not other.dropped.is_set()
            ]
            slowest = min(active, key=lambda other: other.received / (now - other.begun), default=None)
            if slowest is None or slowest.received > MIN_RATE * (now - slowest.begun):
                raise busy("Too many uploads are arriving")
            slowest.dropped.set()
        self.bodies.add(body)
        try:
            yield
        finally:
            self.bodies.discard(body)

    def store(self, size: int) -> None:
        """Count bytes written to disk. Raises `RequestError` if there are too many."""
        if self.stored + size > self.most_bytes:
            raise busy(f"Uploads have used up their limit of {show_size(self.most_bytes)}")
        self.stored += size

    def remove(self, size: int) -> None:
        self.stored -= size


@contextlib.asynccontextmanager
async def read_form(
    request: Request, body: Body, folder: Path, arrivals: Arrivals, fields: Collection[str]
) -> AsyncIterator[Form]:
    """The multipart form of a request, with some of these `fields`; the file in `file` is removed at the end.

    Raises `RequestError` as soon as something is too large, unknown or malformed.
    """
    reader = FormReader(folder, arrivals, body.limit, fields)
    try:
        try:
            with arrivals.admit(body):
                reader.begin(request)
                async for chunk in body.chunks():
                    if body.received > body.limit + FIELD_BYTES:
                        raise reader.too_large()
                    reader.write(chunk)
            form = reader.finish()
        except RequestError:
            reader.close()
            await body.discard()
            raise
        yield form
    finally:
        reader.close()


class FormReader:
    """Parses a multipart body incrementally; the part `file` is written to disk, the others stay in memory."""

    def __init__(self, folder: Path, arrivals: Arrivals, limit: int, fields: Collection[str]) -> None:
        self.folder, self.arrivals, self.limit, self.fields = folder, arrivals, limit, fields
        self.form = Form()
        self.written = self.in_memory = self.parts = 0
        self.ended = False
        self.sink: IO[bytes] | None = None
        self.name = self.file_name = ""
        self.value, self.header, self.content = bytearray(), bytearray(), bytearray()

    def begin(self, request: Request) -> None:
        kind, options = parse_options_header(request.headers.get("content-type", ""))
        if kind != b"multipart/form-data" or not options.get(b"boundary"):
            raise bad_request("Send the request as multipart/form-data, with a file, a path or a sample.")
        if int(request.headers.get("content-length", 0)) > self.limit + FIELD_BYTES:
            raise self.too_large()
        callbacks: MultipartCallbacks = {
            "on_part_begin": self.begin_part,
            "on_part_data": self.part_data,
            "on_part_end": self.end_part,
            "on_header_field": self.header_field,
            "on_header_value": self.header_value,
            "on_header_end": self.end_header,
            "on_headers_finished": self.end_headers,
            "on_end": self.end,
        }
        try:
            self.parser = MultipartParser(options[b"boundary"], callbacks)
        except FormParserError as error:
            raise bad_request(f"The form is malformed ({error}).") from error

    def too_large(self) -> RequestError:
        limit = show_size(self.limit)
        return RequestError(413, "file_too_large", f"The file exceeds the maximum of {limit}.")

    def write(self, chunk: bytes) -> None:
        try:
            self.parser.write(chunk)
        except FormParserError as error:
            raise bad_request(f"The form is malformed ({error}).") from error
        except OSError as error:
            raise RequestError(507, "no_space", f"The upload cannot be stored ({error.strerror}).") from error

    def finish(self) -> Form:
        if not self.ended:
            raise bad_request("The form breaks off; send it again.")
        return self.form

    def close(self) -> None:
        if self.sink is not None:
            self.sink.close()
        if self.form.file is not None:
            self.form.file.unlink(missing_ok=True)
        self.arrivals.remove(self.written)
        self.written = 0

    def begin_part(self) -> None:
        self.parts += 1
        if self.parts > MAX_FIELDS:
            raise bad_request(f"The form has more than {MAX_FIELDS} parts.")
        self.name = self.file_name = ""
        self.value = bytearray()

    def header_field(self, data: bytes, start: int, end: int) -> None:
        self.header += data[start:end]

    def header_value(self, data: bytes, start: int, end: int) -> None:
        self.content += data[start:end]

    def end_header(self) -> None:
        if self.header.lower() == b"content-disposition":
            _, options = parse_options_header(bytes(self.content))
            self.name = options.get(b"name", b"").decode(errors="replace")
            self.file_name = options.get(b"filename", b"").decode(errors="replace")
        self.header, self.content = bytearray(), bytearray()

    def end_headers(self) -> None:
        if self.name not in self.fields:
            hint = did_you_mean(self.name, self.fields)
            raise bad_request(f"The form has an unknown field {self.name[:99]!r}; {hint}")
        if self.name in self.form.fields:
            raise bad_request(f"The field {self.name!r} is given twice; send it once.")
        if self.name == "file":
            if self.form.file is not None:
                raise bad_request("Send one file at a time.")
            # Only a known suffix of the client's file name is used, to distinguish images from videos.
            suffix = os.path.splitext(self.file_name)[1].lower()  # noqa: PTH122 (any text, not a path)
            known = suffix if suffix in VIDEO_SUFFIXES | IMAGE_SUFFIXES else ""
            self.form.file = self.folder / f"{secrets.token_hex(8)}{known}"
            self.sink = self.form.file.open("xb")

    def part_data(self, data: bytes, start: int, end: int) -> None:
        if self.sink is None:
            self.in_memory += end - start
            if self.in_memory > FIELD_BYTES:
                raise bad_request(f"The text of the form exceeds {show_size(FIELD_BYTES)}.")
            self.value += data[start:end]
            return
        if self.written + end - start > self.limit:
            raise self.too_large()
        self.arrivals.store(end - start)
        self.written += end - start
        self.sink.write(data[start:end])

    def end_part(self) -> None:
        if self.sink is not None:
            self.sink.close()
            self.sink = None
            if not self.written and not self.file_name and self.form.file:  # an empty file input of a page
                self.form.file.unlink()
                self.form.file = None
            return
        if self.name != "labels" and len(self.value) > SHORT_BYTES:
            raise bad_request(f"The field {self.name[:99]!r} exceeds {show_size(SHORT_BYTES)}.")
        try:
            self.form.fields[self.name] = self.value.decode()
        except UnicodeDecodeError as error:
            raise bad_request(f"The field {self.name!r} is not UTF-8 text.") from error

    def end(self) -> None:
        self.ended = True
