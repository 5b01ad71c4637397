import re
import signal
import socket
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from froster.serve.uploads import upload_folder
from serve.conftest import Running, running_server

TOKEN = "a-secret"
SIGNED = {"Authorization": f"Bearer {TOKEN}"}
HEAD = (
    "POST /v1/recognize HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer a-secret\r\nContent-Length: 1000\r\n"
    "Content-Type: multipart/form-data; boundary=x\r\n\r\n"
    '--x\r\nContent-Disposition: form-data; name="file"; filename="a.mp4"\r\n\r\nbytes'
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a server was killed before: its uploads still lie there, and a file of somebody else's."""
    folder = tmp_path_factory.mktemp("server")
    left = folder / "tmp" / "froster-serve-killed"
    left.mkdir(parents=True)
    (left / "upload.mp4").write_bytes(b"left over")
    (folder / "tmp" / "froster-serve-killed.lock").touch()
    (folder / "tmp" / "others").touch()
    return folder


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Running]:
    with running_server(folder, "--queue", "2", "--batch", "1", "--token", TOKEN) as running:
        yield running


def port(server: Running) -> int:
    return int(server.url.rpartition(":")[2])


def half_an_upload(server: Running) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port(server)), timeout=20)
    connection.sendall(HEAD.encode())
    return connection


def wait_for_metric(client: httpx.Client, name: str, value: int) -> None:
    end = time.monotonic() + 60
    while f"froster_{name} {value}.0" not in client.get("/metrics", headers=SIGNED).text:
        assert time.monotonic() < end
        time.sleep(0.02)


def test_leftovers_of_a_killed_server_are_removed(server: Running, folder: Path) -> None:
    names = {path.name for path in (folder / "tmp").iterdir()}
    assert "others" in names and "froster-serve-killed" not in names
    assert len([name for name in names if not name.endswith(".lock")]) == 2


def test_a_second_server_leaves_the_uploads_of_the_first(
    server: Running, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(folder / "tmp"))
    with half_an_upload(server), server.client() as client:
        wait_for_metric(client, "uploads_arriving", 1)
        with upload_folder() as second:
            assert second.is_dir() and len(server.uploads()) == 1
        assert not second.exists() and len(server.uploads()) == 1


def test_token(server: Running) -> None:
    with server.client() as client:
        for path in ("/v1/models", "/v1/samples", "/v1/vocabularies", "/v1/recognize", "/v1/nothing", "/metrics"):
            method = "POST" if path == "/v1/recognize" else "GET"
            wrong = (
                "",
                TOKEN,
                "Bearer",
                "Bearer a-secre",
                "Bearer a-secret2",
                "bearer  b-secret",
                "Basic a-secret",
                "Bearer ü",
            )
            for header in wrong:
                answer = client.request(method, path, headers={"Authorization": header.encode()} if header else {})
                assert (answer.status_code, answer.json()["error"]["code"]) == (401, "unauthorized"), (path, header)
                assert answer.headers["www-authenticate"] == "Bearer"
                assert TOKEN not in answer.text
        for path in ("/v1/models", "/metrics"):
            assert client.get(path, headers=SIGNED).status_code == 200
        # The page asks for the token itself.
        for path in ("/healthz", "/docs", "/openapi.json"):
            assert client.get(path).status_code == 200


def test_uploads_that_stay_incomplete_take_no_place(server: Running) -> None:
    """Twice as many as may be at work, and a byte a second each."""
    form = {"sample": (None, "bowing"), "labels": (None, "bowing, walking")}
    with server.client() as client:
        waiting = [half_an_upload(server) for _ in range(4)]
        wait_for_metric(client, "uploads_arriving", 4)
        for _ in range(2):
            for connection in waiting:
                connection.sendall(b"0")
            assert client.post("/v1/recognize", files=form, headers=SIGNED).json()["label"] == "bowing"
        assert "froster_queue_length 0.0" in client.get("/metrics", headers=SIGNED).text
        for connection in waiting:
            connection.close()
        wait_for_metric(client, "uploads_arriving", 0)


def test_refused_requests_are_read_to_their_end(server: Running) -> None:
    """Else the answer may be lost with the connection."""
    head = f"POST /v1/embed/text HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {TOKEN}\r\n"
    with socket.create_connection(("127.0.0.1", port(server)), timeout=0.5) as sending:
        sending.sendall(f"{head}Content-Length: 1000002\r\n\r\n".encode() + bytes(1_000_001))
        with pytest.raises(TimeoutError):
            sending.recv(1)
        sending.settimeout(20)
        sending.sendall(b"}")
        assert b"400" in sending.recv(100)


def test_stop(server: Running) -> None:
    """What runs is answered, what is still to come is refused, and nothing stays. The last test of this server."""
    form = {"sample": (None, "bowing"), "labels": (None, "puppets"), "timeline": (None, "1")}
    with server.client() as client, half_an_upload(server) as connection, ThreadPoolExecutor(1) as pool:
        asked = pool.submit(client.post, "/v1/recognize", files=form, headers=SIGNED)
        with server.client() as other:
            wait_for_metric(other, "queue_length", 1)
            wait_for_metric(other, "uploads_arriving", 1)
        begin = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        assert asked.result().status_code in (200, 503)
        answer = connection.makefile("rb").read()
        assert b"503" in answer.splitlines()[0] and b"shutting_down" in answer
        assert server.process.wait(60) == 0
        assert time.monotonic() - begin < 20
    assert {path.name for path in server.temporary.iterdir()} == {"others"}
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port(server)))


@pytest.mark.parametrize("log", [True, False])
def test_access_log(tmp_path: Path, log: bool) -> None:
    """A line for each request, on standard error, whatever clients send."""
    with (tmp_path / "errors").open("w+", encoding="utf-8") as errors:
        options = () if log else ("--no-access-log",)
        with running_server(tmp_path, *options, errors=errors) as running, running.client() as client:
            client.get("/healthz?a=%1b[31m")
            client.get("/%1b[31m%0d%0a\u202e", headers={"X-Forwarded-For": b"\x1b]0;evil\x07\x9b31m"})
        errors.seek(0)
        lines = errors.read().splitlines()
    if not log:
        assert lines == []
        return
    first, second = lines
    assert re.fullmatch(r'INFO:     127\.0\.0\.1:\d+ - "GET /healthz\?a=%1b\[31m HTTP/1.1" 200 OK', first)
    assert re.search(r' - "GET /%1B\S*%0D%0A\S* HTTP/1.1" 404 Not Found$', second)
    assert "evil" in second and second.isprintable()
