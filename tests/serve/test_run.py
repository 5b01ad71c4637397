import signal
import socket
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from froster.errors import FrosterError
from froster.serve.run import bound_socket
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


def wait_for_queue(client: httpx.Client, length: int) -> None:
    end = time.monotonic() + 10
    while f"froster_queue_length {length}.0" not in client.get("/metrics", headers=SIGNED).text:
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
        wait_for_queue(client, 1)
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


def test_full_queue(server: Running) -> None:
    with server.client() as client:
        waiting = [half_an_upload(server) for _ in range(2)]
        wait_for_queue(client, 2)
        form = {"sample": (None, "bowing"), "labels": (None, "bowing, walking")}
        for path, body in (("/v1/recognize", {"files": form}), ("/v1/embed/text", {"json": {"texts": ["a"]}})):
            answer = client.post(path, headers=SIGNED, **body)
            assert (answer.status_code, answer.json()["error"]["code"]) == (429, "queue_full")
            assert 1 <= int(answer.headers["retry-after"]) <= 60
        assert client.get("/healthz").status_code == 200
        # Who is still sending is heard out first, else the answer may be lost with the connection.
        head = f"POST /v1/embed/text HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: 2"
        with socket.create_connection(("127.0.0.1", port(server)), timeout=0.5) as sending:
            sending.sendall(f"{head}\r\n\r\n{{".encode())
            with pytest.raises(TimeoutError):
                sending.recv(1)
            sending.settimeout(20)
            sending.sendall(b"}")
            assert b"429" in sending.recv(100)
        for connection in waiting:
            connection.close()
        wait_for_queue(client, 0)
        assert client.post("/v1/recognize", files=form, headers=SIGNED).json()["label"] == "bowing"


def test_stop(server: Running) -> None:
    """What runs is answered, what is still to come is refused, and nothing stays. The last test of this server."""
    form = {"sample": (None, "bowing"), "labels": (None, "puppets"), "timeline": (None, "1")}
    with server.client() as client, half_an_upload(server) as connection, ThreadPoolExecutor(1) as pool:
        asked = pool.submit(client.post, "/v1/recognize", files=form, headers=SIGNED)
        with server.client() as other:
            wait_for_queue(other, 2)
        begin = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        assert asked.result().status_code in (200, 503)
        answer = connection.makefile("rb").read()
        assert b"503" in answer.splitlines()[0] and b"shutting_down" in answer
        assert server.process.wait(10) == 0
        assert time.monotonic() - begin < 8
    assert {path.name for path in server.temporary.iterdir()} == {"others"}
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port(server)))


def test_a_port_that_cannot_be_had() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = taken.getsockname()[1]
        with pytest.raises(FrosterError, match=rf"port {number} .*`port=`"):
            bound_socket("127.0.0.1", number)
    with pytest.raises(FrosterError, match="Cannot listen"):
        bound_socket("no.such.host.invalid", 0)
    # Nobody can connect before the models are loaded.
    with bound_socket("127.0.0.1", 0) as bound, pytest.raises(ConnectionRefusedError):
        socket.create_connection(bound.getsockname())
