import asyncio
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

import pytest
from filelock import FileLock
from starlette.requests import ClientDisconnect, Request
from starlette.types import Message

from froster.serve.errors import RequestError
from froster.serve.uploads import Body, read_form, upload_folder

FORM = (
    b'--x\r\nContent-Disposition: form-data; name="file"; filename="../../a.MP4"\r\n\r\nbytes\r\n'
    b'--x\r\nContent-Disposition: form-data; name="labels"\r\n\r\nwalking\r\n--x--\r\n'
)


def request(pieces: Iterable[bytes], ends: bool = True) -> Request:
    """A form that comes in pieces; without `ends`, more is promised and never comes."""
    pieces = list(pieces)

    async def receive() -> Message:
        if not pieces:
            await asyncio.sleep(60)
        return {"type": "http.request", "body": pieces.pop(0), "more_body": bool(pieces) or not ends}

    headers = [(b"content-type", b"multipart/form-data; boundary=x")]
    return Request({"type": "http", "method": "POST", "headers": headers}, receive)


def read(form: Request, folder: Path, limit: int = 1000) -> tuple[dict[str, str], bytes, str]:
    async def work() -> tuple[dict[str, str], bytes, str]:
        async with read_form(form, Body(form, asyncio.Event()), folder, limit) as read:
            assert read.file is not None and read.file.parent == folder
            return read.fields, read.file.read_bytes(), read.file.suffix

    return asyncio.run(work())


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_forms_in_pieces(tmp_path: Path, size: int) -> None:
    pieces = [FORM[start : start + size] for start in range(0, len(FORM), size)]
    assert read(request(pieces), tmp_path) == ({"labels": "walking"}, b"bytes", ".mp4")
    assert not list(tmp_path.iterdir())


def test_files_are_cut_off_at_the_limit(tmp_path: Path) -> None:
    assert read(request([FORM]), tmp_path, limit=5)[1] == b"bytes"
    with pytest.raises(RequestError) as error:
        read(request([FORM]), tmp_path, limit=4)
    assert (error.value.status, error.value.code) == (413, "file_too_large")
    assert not list(tmp_path.iterdir())


def test_uploads_that_stop_coming(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("froster.serve.uploads.PATIENCE", 0.05)
    monkeypatch.setattr("froster.serve.uploads.LINGER", 0.05)
    with pytest.raises(RequestError) as error:
        read(request([FORM[:90]], ends=False), tmp_path)
    assert (error.value.status, error.value.code) == (408, "upload_timeout")
    assert not list(tmp_path.iterdir())


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
