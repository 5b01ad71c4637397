import hashlib
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from froster.clip import release
from froster.errors import WeightsError

CONTENT = bytes(range(256)) * 20_000  # 5 MB


class Server(http.server.BaseHTTPRequestHandler):
    """Serves CONTENT with ranges; `breaks_after` bytes of the body the connection closes."""

    breaks_after: int | None = None
    requests: list[str | None]

    def do_GET(self) -> None:
        asked = self.headers.get("Range")
        self.requests.append(asked)
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
        if start >= len(CONTENT):
            self.send_error(416)
            return
        self.send_response(206 if asked else 200)
        self.send_header("Content-Length", str(len(CONTENT) - start))
        self.end_headers()
        self.wfile.write(CONTENT[start : self.breaks_after])

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Server]]:
    Server.breaks_after, Server.requests = None, []
    with http.server.HTTPServer(("127.0.0.1", 0), Server) as httpd:
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        monkeypatch.setattr(release, "HOST", f"http://127.0.0.1:{httpd.server_port}")
        digest = hashlib.sha256(CONTENT).hexdigest()
        monkeypatch.setitem(release.RELEASES, "vit-b-16", (digest, "ViT-B-16.pt"))
        yield Server
        httpd.shutdown()


def test_fetched_once(server: type[Server], own_cache: Path) -> None:
    path = release.fetch_release("vit-b-16")
    assert path == own_cache / "clip" / "ViT-B-16.pt"
    assert path.read_bytes() == CONTENT
    assert release.fetch_release("vit-b-16") == path
    assert server.requests == [None]
    assert list(path.parent.iterdir()) == [path]


def test_broken_download_goes_on_where_it_stopped(server: type[Server]) -> None:
    server.breaks_after = 3_000_000
    with pytest.raises(WeightsError, match="3000000 of 5120000 bytes"):
        release.fetch_release("vit-b-16")
    assert release.find_release("vit-b-16") is None
    server.breaks_after = None
    assert release.fetch_release("vit-b-16").read_bytes() == CONTENT
    assert server.requests == [None, "bytes=3000000-"]


def test_wrong_content_is_not_kept(server: type[Server], monkeypatch: pytest.MonkeyPatch, own_cache: Path) -> None:
    monkeypatch.setitem(release.RELEASES, "vit-b-16", ("0" * 64, "ViT-B-16.pt"))
    with pytest.raises(WeightsError, match="SHA-256 differs"):
        release.fetch_release("vit-b-16")
    assert list((own_cache / "clip").iterdir()) == []


def test_complete_but_unchecked_download_is_checked(server: type[Server], own_cache: Path) -> None:
    (own_cache / "clip").mkdir(parents=True)
    (own_cache / "clip" / "ViT-B-16.pt.partial").write_bytes(CONTENT)
    assert release.fetch_release("vit-b-16").read_bytes() == CONTENT


def test_without_a_network_the_error_says_which_file_to_put_where(
    monkeypatch: pytest.MonkeyPatch, own_cache: Path
) -> None:
    monkeypatch.setattr(release, "HOST", "http://127.0.0.1:9")
    with pytest.raises(WeightsError) as error:
        release.fetch_release("vit-l-14")
    assert f"put it at {own_cache / 'clip' / 'ViT-L-14.pt'}" in str(error.value)
    assert "b8cca3fd41ae0c99ba7e8951adf17d267cdb84cd88be6f7c2e0eca1737a03836/ViT-L-14.pt" in str(error.value)


def test_file_of_the_original_package_is_used() -> None:
    theirs = Path.home() / ".cache" / "clip" / "ViT-B-32.pt"
    theirs.parent.mkdir(parents=True)
    theirs.write_bytes(b"")
    assert release.fetch_release("vit-b-32") == theirs
