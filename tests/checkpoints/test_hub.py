"""The hub's own client against a server on this machine that answers as the hub does."""

import hashlib
import http.server
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub.constants
import pytest

from froster.checkpoints.hub import HubReference, fetch_from_hub, find_in_hub_cache, parse_reference
from froster.errors import WeightsError

COMMIT = "0123456789abcdef0123456789abcdef01234567"
WEIGHTS = bytes(range(256)) * 8_000  # 2 MB
CONFIG = b'{"model_cfg": {}}'


class Hub(http.server.BaseHTTPRequestHandler):
    """Serves `repositories`. `closed`: the answer without a token. Once, a download breaks `breaks_after` bytes."""

    repositories: dict[str, dict[str, bytes]]
    closed: tuple[int, str] | None
    breaks_after: int | None
    sends_other_bytes: bool
    requests: list[tuple[str, str, str | None]]

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, body: bool) -> None:
        self.requests.append((self.command, self.path, self.headers.get("Range")))
        if self.closed and not self.headers.get("Authorization"):
            return self.refuse(*self.closed)
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/(.+))?", self.path):
            repository, revision = found.groups()
            if repository not in self.repositories:
                return self.refuse(404, "RepoNotFound")
            if revision not in (None, "main", "v1", COMMIT):
                return self.refuse(404, "RevisionNotFound")
            files = [{"rfilename": name} for name in self.repositories[repository]]
            about = {"id": repository, "sha": COMMIT, "siblings": files, "private": False, "tags": [], "downloads": 0}
            return self.send(json.dumps(about).encode(), {"Content-Type": "application/json"}, body)
        found = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", self.path)
        files = self.repositories.get(found[1], {}) if found else {}
        if not found or found[3] not in files:
            return self.refuse(404, "EntryNotFound")
        content = files[found[3]]
        digest = hashlib.sha256(content).hexdigest()
        is_large = len(content) > 1000
        headers = {
            "X-Repo-Commit": COMMIT,
            "ETag": f'"{digest if is_large else digest[:40]}"',
            "Accept-Ranges": "bytes",
        }
        if is_large:
            headers |= {"X-Linked-Size": str(len(content)), "X-Linked-ETag": f'"{digest}"'}
        if self.sends_other_bytes and is_large:
            content = content[::-1]
        return self.send(content, headers, body)

    def send(self, content: bytes, headers: dict[str, str], body: bool) -> None:
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")
        start = int(asked[1]) if asked else 0
        self.send_response(206 if asked else 200)
        if asked:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        if body:
            breaks = type(self).breaks_after if len(content) > 1000 else None
            if breaks:
                type(self).breaks_after = None
            self.wfile.write(content[start:breaks])
            if breaks:
                self.connection.close()

    def refuse(self, status: int, code: str) -> None:
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[type[Hub]]:
    Hub.repositories = {
        "lab/clip": {"README.md": b"", "open_clip_config.json": CONFIG, "open_clip_model.safetensors": WEIGHTS}
    }
    Hub.closed, Hub.breaks_after, Hub.sends_other_bytes, Hub.requests = None, None, False, []
    monkeypatch.delenv("HF_TOKEN", raising=False)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        use_endpoint(monkeypatch, f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
        yield Hub
        server.shutdown()


def use_endpoint(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    """What HF_ENDPOINT does before the library is imported."""
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", address)
    template = f"{address}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)


CLIP = HubReference("lab/clip")


def test_references() -> None:
    assert parse_reference("hf:lab/clip") == CLIP
    assert parse_reference("hf:lab/clip@v1") == HubReference("lab/clip", None, "v1")
    assert parse_reference("hf:lab/clip/runs/best.pth@v1") == HubReference("lab/clip", "runs/best.pth", "v1")
    assert str(parse_reference("hf:lab/clip/runs/best.pth@v1")) == "hf:lab/clip/runs/best.pth@v1"
    for wrong in ("hf:clip", "hf:", "hf:lab/clip@", "hf:lab/clip/../../secret"):
        with pytest.raises(WeightsError, match="is not hf:owner/name"):
            parse_reference(wrong)


def test_fetched_once_with_its_description_and_then_without_a_network(
    hub: type[Hub], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = fetch_from_hub(CLIP)
    assert path.read_bytes() == WEIGHTS
    assert path.with_name("open_clip_config.json").read_bytes() == CONFIG
    assert not path.with_name("README.md").exists()
    assert path.parent.name == COMMIT
    asked = len(hub.requests)
    assert fetch_from_hub(CLIP) == path == find_in_hub_cache(CLIP)
    assert len(hub.requests) == asked


def test_models_of_similar_names_are_not_taken_for_each_other(hub: type[Hub]) -> None:
    hub.repositories["lab/clip"] |= {"a/b.bin": WEIGHTS + b"1", "a_b.bin": WEIGHTS + b"2"}
    paths = [fetch_from_hub(HubReference("lab/clip", file)) for file in ("a/b.bin", "a_b.bin")]
    assert [path.read_bytes()[-1:] for path in paths] == [b"1", b"2"]


def test_a_broken_download_is_resumed(hub: type[Hub], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "DOWNLOAD_CHUNK_SIZE", 100_000)
    hub.breaks_after = 1_200_000
    assert fetch_from_hub(CLIP).read_bytes() == WEIGHTS
    ranges = [asked for command, path, asked in hub.requests if command == "GET" and path.endswith(".safetensors")]
    assert ranges == [None, "bytes=1200000-"]


def test_other_content_than_announced_is_not_kept(hub: type[Hub]) -> None:
    hub.sends_other_bytes = True
    with pytest.raises(WeightsError, match=r"open_clip_model\.safetensors of hf:lab/clip is damaged \(SHA-256\); try"):
        fetch_from_hub(CLIP)
    assert find_in_hub_cache(CLIP) is None
    hub.sends_other_bytes = False
    assert fetch_from_hub(CLIP).read_bytes() == WEIGHTS


def test_unknown_repositories_revisions_and_files(hub: type[Hub]) -> None:
    for reference, message in (
        (
            HubReference("lab/clap"),
            "no repository lab/clap at http.*, or it is private; for that, give a token in .* HF_TOKEN",
        ),
        (HubReference("lab/clip", None, "v2"), "lab/clip has no revision 'v2'"),
        (
            HubReference("lab/clip", "best.pth"),
            r"has no file best\.pth; its weights files are open_clip_model\.safetensors",
        ),
    ):
        with pytest.raises(WeightsError, match=message) as caught:
            fetch_from_hub(reference)
        assert "\n" not in str(caught.value)
    assert fetch_from_hub(HubReference("lab/clip", None, "v1")).read_bytes() == WEIGHTS


def test_gated_and_private_repositories_ask_for_a_token(hub: type[Hub], monkeypatch: pytest.MonkeyPatch) -> None:
    hub.closed = (403, "GatedRepo")
    with pytest.raises(WeightsError, match=r"is gated: accept its conditions at http://.*/lab/clip, then give a token"):
        fetch_from_hub(CLIP)
    hub.closed = (401, "RepoNotFound")
    with pytest.raises(WeightsError, match="or it is private; for that, give a token"):
        fetch_from_hub(CLIP)
    hub.closed = (401, "")
    with pytest.raises(WeightsError, match="HF_TOKEN"):
        fetch_from_hub(CLIP)
    monkeypatch.setenv("HF_TOKEN", "hf_abc")
    assert fetch_from_hub(CLIP).read_bytes() == WEIGHTS


def test_which_weights_are_taken(hub: type[Hub]) -> None:
    both = {"model.safetensors": b"tower", "open_clip_model.safetensors": b"both", "config.json": b"{}"}
    hub.repositories |= {
        "timm/clip": both,
        "lab/single": {"PE-Core-X.pt": b"pe", "config.yaml": b""},
        "lab/several": {"a.pth": b"a", "b.pth": b"b"},
        "lab/none": {"README.md": b""},
        "lab/usual": {"open_clip_pytorch_model.bin": b"bin", "model.safetensors": b"hf"},
    }
    assert fetch_from_hub(HubReference("timm/clip")).read_bytes() == b"both"
    assert fetch_from_hub(HubReference("lab/single")).read_bytes() == b"pe"
    assert fetch_from_hub(HubReference("lab/several", "b.pth")).read_bytes() == b"b"
    assert fetch_from_hub(HubReference("lab/usual"), "open_clip_pytorch_model.bin").read_bytes() == b"bin"
    with pytest.raises(WeightsError, match=r"files are a\.pth, b\.pth; name one, as in hf:lab/several/a\.pth"):
        fetch_from_hub(HubReference("lab/several"))
    with pytest.raises(WeightsError, match="has no weights files"):
        fetch_from_hub(HubReference("lab/none"))


def test_all_parts_of_a_sharded_checkpoint_are_fetched(hub: type[Hub]) -> None:
    index = json.dumps(
        {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
    )
    hub.repositories["lab/large"] = {
        "model.safetensors.index.json": index.encode(),
        "model-00001-of-00002.safetensors": b"1",
        "model-00002-of-00002.safetensors": b"2",
    }
    path = fetch_from_hub(HubReference("lab/large"))
    assert path.name == "model.safetensors.index.json"
    assert path.with_name("model-00002-of-00002.safetensors").read_bytes() == b"2"


def test_without_a_network_the_error_says_which_files_to_put_where(
    hub: type[Hub], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    use_endpoint(monkeypatch, "http://127.0.0.1:9")
    with pytest.raises(WeightsError, match="Cannot fetch hf:lab/clip ") as caught:
        fetch_from_hub(CLIP, "open_clip_model.safetensors")
    folder = tmp_path / "hub" / "models--lab--clip"
    assert f"`hf download lab/clip` keeps it in a folder models--lab--clip; copy that folder to {folder}" in str(
        caught.value
    )
    assert "put open_clip_model.safetensors and the .json files beside it into any folder" in str(caught.value)
    # As `hf download` on another machine leaves it there.
    snapshot = folder / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text(COMMIT)
    (snapshot / "open_clip_model.safetensors").write_bytes(WEIGHTS)
    assert fetch_from_hub(CLIP) == snapshot / "open_clip_model.safetensors"


def test_the_librarys_environment_variables_hold(hub: type[Hub], tmp_path: Path) -> None:
    """In a process of its own, as the library reads them when it is imported."""
    script = "from froster.checkpoints.hub import *\nprint(fetch_from_hub(parse_reference('hf:lab/clip')))"
    variables = {
        "HF_ENDPOINT": huggingface_hub.constants.ENDPOINT,
        "HF_HOME": str(tmp_path / "home"),
        "HF_TOKEN": "hf_abc",
        "FROSTER_CACHE": str(tmp_path / "froster"),
    }
    hub.closed = (401, "RepoNotFound")

    def fetch(**more: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, **variables, **more}
        return subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True)

    offline = fetch(HF_HUB_OFFLINE="1")
    assert offline.returncode == 1
    assert "Cannot fetch hf:lab/clip (HF_HUB_OFFLINE is set)" in offline.stderr
    first = fetch()
    assert Path(first.stdout.strip()) == (
        tmp_path / "home" / "hub" / "models--lab--clip" / "snapshots" / COMMIT / "open_clip_model.safetensors"
    )
    assert fetch(HF_HUB_OFFLINE="1").stdout == first.stdout
