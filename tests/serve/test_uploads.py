import asyncio
import os
import tempfile
import tracemalloc
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from filelock import FileLock
from starlette.requests import ClientDisconnect, Request
from starlette.types import Message

from froster.serve.errors import RequestError
from froster.serve.uploads import Arrivals, Body, read_form, upload_folder

FORM = (
    b'--x\r\nContent-Disposition: form-data; name="file"; filename="../../a.MP4"\r\n\r\nbytes\r\n'
    b'--x\r\nContent-Disposition: form-data; name="labels"\r\n\r\nwalking\r\n--x--\r\n'
)


START = b'--x\r\nContent-Disposition: form-data; name="file"\r\n\r\n'
FIELDS = ("file", "labels", "top")


def request(pieces: Iterable[bytes], ends: bool = True, pause: float = 0) -> Request:
    """A form that comes in pieces; without `ends`, more is promised and never comes."""
    pieces = list(pieces)

    async def receive() -> Message:
        if not pieces:
            await asyncio.sleep(60)
        await asyncio.sleep(pause)
        return {"type": "http.request", "body": pieces.pop(0), "more_body": bool(pieces) or not ends}

    headers = [(b"content-type", b"multipart/form-data; boundary=x")]
    return Request({"type": "http", "method": "POST", "headers": headers}, receive)


def read(
    form: Request, folder: Path, limit: int = 1000, arrivals: Arrivals | None = None
) -> tuple[dict[str, str], bytes, str]:
    arrivals = arrivals or Arrivals(most=8, most_bytes=1_000_000)

    async def work() -> tuple[dict[str, str], bytes, str]:
        body = Body(form, asyncio.Event(), limit)
        async with read_form(form, body, folder, arrivals, FIELDS) as read:
            assert read.file is not None and read.file.parent == folder
            content = read.file.read_bytes()
            assert not arrivals.bodies and arrivals.stored == len(content)
            return read.fields, content, read.file.suffix

    try:
        return asyncio.run(work())
    finally:
        assert not arrivals.bodies and not arrivals.stored


def refusal(form: Request, folder: Path, **options: object) -> RequestError:
    with pytest.raises(RequestError) as error:
        read(form, folder, **options)  # type: ignore[arg-type]
    assert not list(folder.iterdir())
    return error.value


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_forms_in_pieces(tmp_path: Path, size: int) -> None:
    pieces = [FORM[start : start + size] for start in range(0, len(FORM), size)]
    assert read(request(pieces), tmp_path) == ({"labels": "walking"}, b"bytes", ".mp4")
    assert not list(tmp_path.iterdir())


def test_files_are_cut_off_at_the_limit(tmp_path: Path) -> None:
    assert read(request([FORM]), tmp_path, limit=5)[1] == b"bytes"
    refused = refusal(request([FORM]), tmp_path, limit=4)
    assert (refused.status, refused.code) == (413, "file_too_large")
    # The closing boundary may be followed by anything, but not without end.
    refused = refusal(request([FORM, *[bytes(100_000)] * 11]), tmp_path)
    assert (refused.status, refused.code) == (413, "file_too_large")


def field(name: str, value: bytes = b"1", headers: bytes = b"") -> bytes:
    head = f'--x\r\nContent-Disposition: form-data; name="{name}"\r\n'.encode()
    return head + headers + b"\r\n" + value + b"\r\n"


def test_unknown_and_repeated_fields_are_refused(tmp_path: Path) -> None:
    for form, sentence in (
        (field("lables") + FORM, "The form has an unknown field 'lables'; did you mean 'labels'?"),
        (field("zzz") + FORM, "The form has an unknown field 'zzz'; there are: file, labels, top."),
        (field("top") + field("top") + FORM, "The field 'top' is given twice; send it once."),
        (FORM[: FORM.rindex(b"--x--")] + FORM, "Send one file at a time."),
    ):
        refused = refusal(request([form]), tmp_path)
        assert (refused.status, str(refused)) == (400, sentence)


@pytest.mark.parametrize(
    "headers",
    [b"X: " + b"a" * 4_000_000, b"X" * 4_000_000 + b": a\r\n", b"X: a\r\n" * 600_000],
    ids=["value", "name", "many"],
)
def test_headers_of_a_part_take_no_memory(tmp_path: Path, headers: bytes) -> None:
    """python-multipart < 0.0.27 keeps headers of any size."""
    whole = field("labels", headers=headers) + FORM

    def pieces() -> Iterator[bytes]:
        for start in range(0, len(whole), 65_536):
            yield whole[start : start + 65_536]

    tracemalloc.start()
    try:
        refused = refusal(request(pieces()), tmp_path)
        assert tracemalloc.get_traced_memory()[1] < len(whole) + 500_000  # `request` holds all pieces
    finally:
        tracemalloc.stop()
    assert refused.status == 400 and "malformed" in str(refused)


def test_uploads_that_come_too_slowly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("froster.serve.uploads.DRAIN_SECONDS", 0.05)
    monkeypatch.setattr("froster.serve.uploads.RATE_WINDOW", 0.1)
    monkeypatch.setattr("froster.serve.uploads.MIN_RATE", 500)
    drops = [FORM[start : start + 1] for start in range(len(FORM))]
    steady = [FORM[start : start + 20] for start in range(0, len(FORM), 20)]
    for slow in (
        request([FORM[:90]], ends=False),  # nothing more
        request(drops, pause=0.02),  # a byte now and then
        request([FORM[:60], b"", *drops[60:]], pause=0.03),  # fast at first
    ):
        refused = refusal(slow, tmp_path)
        assert (refused.status, refused.code) == (408, "upload_timeout")
        assert "slower than 0.5 kB/s" in str(refused)
    assert read(request(steady, pause=0.01), tmp_path)[1] == b"bytes"


def test_uploads_have_a_deadline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("froster.serve.uploads.DRAIN_SECONDS", 0.05)
    monkeypatch.setattr("froster.serve.uploads.EXTRA_SECONDS", 0.2)
    monkeypatch.setattr("froster.serve.uploads.DEADLINE_RATE", 1_000_000)
    refused = refusal(request([START, *[bytes(1000)] * 99], pause=0.01), tmp_path, limit=100_000)
    assert (refused.status, refused.code) == (408, "upload_timeout")
    assert "not complete" in str(refused)


def test_the_slowest_upload_gives_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("froster.serve.uploads.WARMUP_SECONDS", 0.1)
    monkeypatch.setattr("froster.serve.uploads.DRAIN_SECONDS", 0.05)
    arrivals = Arrivals(most=2, most_bytes=10_000_000)

    async def arrive(pieces: list[bytes], pause: float = 0.02) -> str:
        form = request(pieces, pause=pause)
        body = Body(form, asyncio.Event(), 1_000_000)
        try:
            async with read_form(form, body, tmp_path, arrivals, FIELDS):
                return "complete"
        except RequestError as error:
            return error.code

    async def work() -> None:
        end = b"\r\n--x--\r\n"
        fast = asyncio.ensure_future(arrive([START, *[bytes(1000)] * 30, end]))  # 50 kB/s
        slow = asyncio.ensure_future(arrive([START, *[b"0"] * 30, end]))
        await asyncio.sleep(0.01)
        assert await arrive([FORM]) == "queue_full"  # too early to say which is slow
        await asyncio.sleep(0.2)
        assert await arrive([FORM]) == "complete"
        assert await slow == "upload_timeout"
        assert await fast == "complete"

    asyncio.run(work())
    assert not arrivals.bodies and not list(tmp_path.iterdir())


def test_uploads_fill_no_more_of_the_disk_than_is_allowed(tmp_path: Path) -> None:
    arrivals = Arrivals(most=8, most_bytes=12)

    async def work() -> None:
        async def hold(form: Request, times: int) -> None:
            async with read_form(form, Body(form, asyncio.Event(), 1000), tmp_path, arrivals, FIELDS):
                if times:
                    await hold(request([FORM]), times - 1)

        await hold(request([FORM]), 1)
        with pytest.raises(RequestError) as error:
            await hold(request([FORM]), 2)
        assert (error.value.status, error.value.code, error.value.retry_after) == (429, "queue_full", 10)

    asyncio.run(work())
    assert arrivals.stored == 0 and not list(tmp_path.iterdir())


def test_clients_that_leave(tmp_path: Path) -> None:
    async def receive() -> Message:
        messages.append({"type": "http.disconnect"})
        return messages.pop(0)

    messages: list[Message] = [{"type": "http.request", "body": FORM[:90], "more_body": True}]
    form = request([])
    form._receive = receive
    with pytest.raises(ClientDisconnect):
        read(form, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_full_disk(tmp_path: Path) -> None:
    with pytest.raises(RequestError) as error:
        read(request([FORM]), tmp_path / "missing")
    assert (error.value.status, error.value.code) == (507, "no_space")


def test_folders_of_killed_servers_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for name in ("froster-serve-dead", "froster-serve-alive", "froster-else"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "upload.mp4").touch()
    (tmp_path / "froster-serve-link").symlink_to(tmp_path / "froster-else")
    with FileLock(tmp_path / "froster-serve-alive.lock"), upload_folder() as folder:
        assert folder.stat().st_mode & 0o777 == 0o700 and folder.stat().st_uid == os.getuid()
        kept = {path.name for path in tmp_path.iterdir() if not path.name.endswith(".lock")}
        assert kept == {folder.name, "froster-serve-alive", "froster-else", "froster-serve-link"}
        assert (tmp_path / "froster-else" / "upload.mp4").exists()
        (folder / "upload.mp4").touch()
    assert not folder.exists() and not folder.with_suffix(".lock").exists()
