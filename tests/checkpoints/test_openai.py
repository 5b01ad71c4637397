import hashlib
import http.server
import resource
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from froster.checkpoints import openai
from froster.errors import WeightsError
from froster.files import WriteError

CONTENT = bytes(range(256)) * 20_000  # 5 MB


class Server(http.server.BaseHTTPRequestHandler):
    """Serves CONTENT with ranges; `breaks_after` bytes of the body the connection closes."""

    breaks_after: int | None = None
    knows_ranges = True
    requests: list[str | None]

    def do_GET(self) -> None:
        asked = self.headers.get("Range") if self.knows_ranges else None
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
    Server.breaks_after, Server.knows_ranges, Server.requests = None, True, []
    with http.server.HTTPServer(("127.0.0.1", 0), Server) as httpd:
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        monkeypatch.setattr(openai, "HOST", f"http://127.0.0.1:{httpd.server_port}")
        digest = hashlib.sha256(CONTENT).hexdigest()
        monkeypatch.setitem(openai.RELEASES, "vit-b-16", (digest, "ViT-B-16.pt"))
        yield Server
        httpd.shutdown()


def test_fetched_once(server: type[Server], own_cache: Path) -> None:
    path = openai.fetch_release("vit-b-16")
    assert path == own_cache / "clip" / "ViT-B-16.pt"
    assert path.read_bytes() == CONTENT
    assert openai.fetch_release("vit-b-16") == path
    assert server.requests == [None]
    assert not list(path.parent.glob("*.partial"))


def test_broken_download_goes_on_where_it_stopped(server: type[Server]) -> None:
    server.breaks_after = 3_000_000
    with pytest.raises(WeightsError, match="3000000 of 5120000 bytes"):
        openai.fetch_release("vit-b-16")
    assert openai.find_release("vit-b-16") is None
    server.breaks_after = None
    assert openai.fetch_release("vit-b-16").read_bytes() == CONTENT
    assert server.requests == [None, "bytes=3000000-"]


def test_wrong_content_is_not_kept(server: type[Server], monkeypatch: pytest.MonkeyPatch, own_cache: Path) -> None:
    monkeypatch.setitem(openai.RELEASES, "vit-b-16", ("0" * 64, "ViT-B-16.pt"))
    with pytest.raises(WeightsError, match="SHA-256 differs"):
        openai.fetch_release("vit-b-16")
    assert not list((own_cache / "clip").glob("ViT-B-16.pt"))
    assert not list((own_cache / "clip").glob("*.partial"))


def test_complete_but_unchecked_download_is_checked(server: type[Server], own_cache: Path) -> None:
    (own_cache / "clip").mkdir(parents=True)
    (own_cache / "clip" / "ViT-B-16.pt.partial").write_bytes(CONTENT)
    assert openai.fetch_release("vit-b-16").read_bytes() == CONTENT


def test_without_a_network_the_error_says_which_file_to_put_where(
    monkeypatch: pytest.MonkeyPatch, own_cache: Path
) -> None:
    monkeypatch.setattr(openai, "HOST", "http://127.0.0.1:9")
    with pytest.raises(WeightsError) as error:
        openai.fetch_release("vit-l-14")
    assert f"put it at {own_cache / 'clip' / 'ViT-L-14.pt'}" in str(error.value)
    assert "b8cca3fd41ae0c99ba7e8951adf17d267cdb84cd88be6f7c2e0eca1737a03836/ViT-L-14.pt" in str(error.value)


def test_file_of_the_original_package_is_used_if_it_is_whole(server: type[Server], own_cache: Path) -> None:
    theirs = Path.home() / ".cache" / "clip" / "ViT-B-16.pt"
    theirs.parent.mkdir(parents=True)
    theirs.write_bytes(CONTENT[:-1])
    assert openai.find_release("vit-b-16") is None
    theirs.write_bytes(CONTENT)
    assert openai.fetch_release("vit-b-16") == theirs
    assert server.requests == []


def test_whole_file_is_hashed_once(server: type[Server], monkeypatch: pytest.MonkeyPatch) -> None:
    path = openai.fetch_release("vit-b-16")
    monkeypatch.setattr(openai, "sha256", lambda path: pytest.fail("hashed again"))
    assert openai.find_release("vit-b-16") == path


def test_damaged_file_in_the_cache_is_fetched_anew(server: type[Server]) -> None:
    path = openai.fetch_release("vit-b-16")
    path.write_bytes(CONTENT[:1000])
    assert openai.fetch_release("vit-b-16").read_bytes() == CONTENT


def test_server_that_knows_no_ranges_sends_everything(server: type[Server], own_cache: Path) -> None:
    (own_cache / "clip").mkdir(parents=True)
    (own_cache / "clip" / "ViT-B-16.pt.partial").write_bytes(CONTENT[:1000])
    server.knows_ranges = False
    assert openai.fetch_release("vit-b-16").read_bytes() == CONTENT


def test_two_at_once_download_once(server: type[Server]) -> None:
    with ThreadPoolExecutor(2) as pool:
        paths = list(pool.map(openai.fetch_release, ["vit-b-16"] * 2))
    assert paths[0] == paths[1]
    assert paths[0].read_bytes() == CONTENT
    assert len(server.requests) == 1


def test_unwritable_cache_is_one_sentence(
    server: type[Server], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("FROSTER_CACHE", str(tmp_path / "file"))
    with pytest.raises(WeightsError, match="Cannot fetch vit-b-16"):
        openai.fetch_release("vit-b-16")


def test_a_full_disk_is_said_and_what_was_fetched_is_kept(server: type[Server], own_cache: Path) -> None:
    """A limit of file sizes stands for a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, before[1]))
    try:
        with pytest.raises(WriteError, match=r"^Cannot write .*ViT-B-16\.pt\.partial: File too large\.$"):
            openai.fetch_release("vit-b-16")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert (own_cache / "clip" / "ViT-B-16.pt.partial").read_bytes() == CONTENT[:2_000_000]
    assert openai.fetch_release("vit-b-16").read_bytes() == CONTENT
    assert server.requests == [None, "bytes=2000000-"]
