import io
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest

from froster import VideoError
from froster.data.puppets import action_index, draw_video
from froster.data.puppets.files import write_mp4
from froster.data.puppets.scenes import find_gap
from froster.video import load_video, spooled


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clips") / "clip.mp4"
    write_mp4(path, draw_video(5, action_index("walking"), 16, 64, find_gap("default")), 16)
    return path


@pytest.fixture(scope="module")
def server(clip: Path) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content = clip.read_bytes()
            if self.path.startswith("/missing"):
                self.send_error(404)
                return
            self.send_response(302 if self.path == "/elsewhere" else 200)
            if self.path == "/elsewhere":
                self.send_header("Location", f"file://{clip}")
            elif self.path != "/unknown-length.mp4":
                self.send_header("Content-Length", str(len(content) + (self.path == "/breaks-off.mp4")))
            self.end_headers()
            self.wfile.write(b"" if self.path == "/empty" else content)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


@pytest.mark.parametrize("name", ["a%20clip.mp4?token=a/b", "unknown-length.mp4", ""])
def test_an_address_is_read_as_the_file_is(clip: Path, server: str, name: str) -> None:
    with spooled(f"{server}/{name}") as path:
        assert path.read_bytes() == clip.read_bytes()
        assert load_video(path).frames.equal(load_video(clip).frames)
    assert not path.parent.exists()


def test_standard_input_is_read_as_the_file_is(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(clip.read_bytes())))
    with spooled("-") as path:
        assert path.read_bytes() == clip.read_bytes()
    assert not path.parent.exists()


def test_a_file_is_itself(clip: Path) -> None:
    for name in (clip, str(clip), clip.as_uri()):
        with spooled(name) as path:
            assert path == clip
    assert clip.exists()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing.mp4", "missing.mp4: the server responds 404 Not Found"),
        ("breaks-off.mp4", r"breaks off after \d+ of \d+ bytes"),
        ("elsewhere", "elsewhere: the server responds 302"),
    ],
)
def test_what_cannot_be_fetched_is_named(server: str, name: str, message: str) -> None:
    with pytest.raises(VideoError, match=message), spooled(f"{server}/{name}"):
        pass


@pytest.mark.parametrize("name", ["clip.mp4", "unknown-length.mp4"])
def test_larger_than_allowed(clip: Path, server: str, name: str) -> None:
    most = clip.stat().st_size - 1
    with pytest.raises(VideoError, match=f"is larger than the {most} bytes"), spooled(f"{server}/{name}", most):
        pass


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("rtsp://camera/1", "only http and https addresses"),
        ("http://127.0.0.1:1/clip.mp4", "cannot be downloaded"),
        ("http://[clip.mp4", "is not a valid URL"),
    ],
)
def test_other_addresses(source: str, message: str) -> None:
    with pytest.raises(VideoError, match=message), spooled(source):
        pass


def test_standard_input_that_holds_no_video(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO()))
    with pytest.raises(VideoError, match="-: is empty"), spooled("-"):
        pass
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(isatty=lambda: True))
    with pytest.raises(VideoError, match="standard input is a terminal"), spooled("-"):
        pass
