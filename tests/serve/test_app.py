import base64
import io
import json
import os
import re
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urljoin

import av
import httpx
import numpy as np
import pytest
from PIL import Image

import froster.serve
from froster.data.puppets import ACTIONS, draw_video
from froster.data.vocabularies import read_vocabulary
from froster.models import puppets_weights
from froster.recognizer import Recognizer
from froster.text.classifier import encode_texts
from serve.conftest import Running, running_server

MAX_UPLOAD = 300_000


@pytest.fixture(scope="module")
def allowed(tmp_path_factory: pytest.TempPathFactory, videos: dict[str, Path]) -> Path:
    """A folder that the server may read, with links out of it and within it."""
    folder = tmp_path_factory.mktemp("disk") / "allowed"
    (folder / "deep").mkdir(parents=True)
    clip = videos[ACTIONS[0]]
    shutil.copy(clip, folder / "deep" / "clip.mp4")
    shutil.copy(clip, folder.parent / "secret.mp4")
    (folder / "out.mp4").symlink_to(folder.parent / "secret.mp4")
    (folder / "up").symlink_to(folder.parent)
    (folder / "within.mp4").symlink_to(folder / "deep" / "clip.mp4")
    (folder / "loop.mp4").symlink_to(folder / "loop.mp4")
    os.mkfifo(folder / "pipe.mp4")
    return folder


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, allowed: Path) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("server")
    other = folder / "other.safetensors"
    shutil.copy(puppets_weights(), other)
    limits = ("--max-upload", "300KB", "--max-seconds", "8", "--max-labels", "45", "--batch", "4")
    models = ("--model", "puppets", "--model", str(other))
    with running_server(folder, *models, *limits, "--allow-folder", str(allowed)) as running:
        yield running


@pytest.fixture
def client(server: Running) -> Iterator[httpx.Client]:
    with server.client() as client:
        yield client
    # Whatever a test did: nothing of it stays.
    assert wait_for(lambda: server.uploads() == [])


def wait_for(condition: Callable[[], bool], seconds: float = 20) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.02)
    return False


def metric(client: httpx.Client, name: str) -> float:
    lines = client.get("/metrics").text.splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name))


def failure(answer: httpx.Response) -> tuple[int, str]:
    error = answer.json()["error"]
    assert error["message"].endswith((".", "?")) and len(error["message"]) < 300
    return answer.status_code, error["code"]


def upload(client: httpx.Client, video: Path, **fields: str) -> httpx.Response:
    with video.open("rb") as file:
        return client.post("/v1/recognize", files={"file": ("clip.mp4", file)}, data=fields)


def test_recognize(client: httpx.Client, videos: dict[str, Path]) -> None:
    labels = list(videos)
    recognizer = Recognizer("puppets", labels, precision="float32")
    for action, video in list(videos.items())[:3]:
        answer = upload(client, video, labels=", ".join(labels), top="8").json()
        expected = recognizer.predict(video)
        assert answer["model"] == "puppets" and answer["warning"] is None and answer["seconds"] > 0
        assert answer["label"] == expected.label == action
        assert [entry["label"] for entry in answer["ranked"]] == [label for label, _ in expected.ranked]
        for entry, (label, score) in zip(answer["ranked"], expected.ranked, strict=True):
            assert entry["score"] == pytest.approx(score, abs=1e-4)
            assert entry["similarity"] == pytest.approx(expected.similarities[label], abs=1e-4)
        assert not answer.keys() & {"frames", "attention", "timeline"}


def test_clients_at_once_get_their_own_answers(client: httpx.Client, server: Running, videos: dict[str, Path]) -> None:
    everything = Recognizer("puppets", ACTIONS, precision="float32")
    similarities = {action: everything.predict(video).similarities for action, video in videos.items()}
    before = metric(client, "froster_batch_videos_count"), metric(client, "froster_batch_videos_sum")

    def ask(number: int) -> None:
        rng = np.random.default_rng((0, number))
        action = list(videos)[number % len(videos)]
        labels = rng.permutation(ACTIONS)[: rng.integers(2, 20)].tolist()
        model = ("puppets", "other")[number % 3 == 0]
        with server.client() as own:
            answer = upload(own, videos[action], labels=json.dumps(labels), top="45", model=model).json()
        assert answer["model"] == model
        found = {entry["label"]: entry for entry in answer["ranked"]}
        assert found.keys() == set(labels)
        expected = np.array([similarities[action][label] for label in labels])
        scores = np.exp(everything.runtime.score_head.temperature * (expected - expected.max()))
        np.testing.assert_allclose([found[label]["similarity"] for label in labels], expected, atol=1e-4)
        np.testing.assert_allclose([found[label]["score"] for label in labels], scores / scores.sum(), atol=1e-3)

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(ask, range(32)))
    batches = metric(client, "froster_batch_videos_count") - before[0]
    assert metric(client, "froster_batch_videos_sum") - before[1] == 32
    assert batches < 32  # some went through together
    assert metric(client, "froster_queue_length") == 0


def test_pictures_attention_and_timeline(client: httpx.Client, videos: dict[str, Path]) -> None:
    video = videos[ACTIONS[5]]
    wanted = {"labels": ", ".join(videos), "frames": "1", "timeline": "1", "top": "2"}
    for kind in ("attention", "rollout", "gradient"):
        answer = upload(client, video, **wanted, explain=kind).json()
        pictures = [decoded(entry["image"]) for entry in answer["frames"]]
        maps = [decoded(entry["image"]) for entry in answer["attention"]]
        times = [entry["time"] for entry in answer["frames"]]
        assert len(times) == 8 and times == sorted(times) and 0 <= times[0] < times[-1] < 1.5
        assert {picture.shape for picture in pictures + maps} == {(256, 256, 3)}
        assert np.abs(pictures[0].astype(int) - maps[0]).mean() > 5
    timeline = answer["timeline"]
    assert timeline["windows"][0]["start"] == 0 and len(timeline["windows"][0]["ranked"]) == 2
    assert timeline["segments"][0]["label"] == ACTIONS[5]
    assert timeline["segments"][0].keys() == {"start", "end", "label", "score"}


def decoded(url: str) -> np.ndarray:
    kind, _, data = url.partition(",")
    assert kind == "data:image/jpeg;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))


def test_labels(client: httpx.Client, videos: dict[str, Path]) -> None:
    video = videos[ACTIONS[0]]
    assert upload(client, video, labels="Puppets", top="99").json()["ranked"].__len__() == len(ACTIONS)
    assert upload(client, video, labels='["walking, slowly"]').json()["label"] == "walking, slowly"
    assert upload(client, video, labels="walking").json()["ranked"][0]["score"] == 1
    unknown = upload(client, video, labels="walking, quantum chromodynamics").json()
    assert "unseen" in unknown["warning"] and "quantum chromodynamics" in unknown["warning"]
    cut = upload(client, video, labels=f"walking, {'walking ' * 90}").json()
    assert "truncated" in cut["warning"]
    for text in ("", " , ,", "[]"):
        assert failure(upload(client, video, labels=text)) == (422, "no_labels")
    assert failure(upload(client, video)) == (422, "no_labels")
    assert failure(upload(client, video, labels=",".join(map(str, range(46))))) == (422, "too_many_labels")
    for text in (
        "walking, walking",
        "[1, 2]",
        '{"walking": ""}',
        '["walking"',
        '["a", ["b"]]',
        '[" "]',
        "[" * 100_000 + "]",
        "a" * 1001,
        '["\\ud800", "b"]',
        '["a\\u0000", "b"]',
    ):
        assert failure(upload(client, video, labels=text)) == (400, "bad_request"), text[:99]


def test_bad_requests(client: httpx.Client, videos: dict[str, Path], tmp_path: Path) -> None:
    video = videos[ACTIONS[0]]
    for field in ({"top": "0"}, {"top": "x"}, {"top": "²"}, {"frames": "2"}, {"explain": "magic"}, {"timeline": "no"}):
        assert failure(upload(client, video, labels="a, b", **field)) == (400, "bad_request"), field
    assert failure(upload(client, video, labels="a, b", model="vit-b-61")) == (404, "unknown_model")
    sample = {"labels": (None, "a"), "sample": (None, "x")}
    assert failure(client.post("/v1/recognize", files=sample)) == (404, "unknown_sample")
    unknown = client.post("/v1/recognize", files=sample | {"label": (None, "a")})
    assert failure(unknown) == (400, "bad_request") and "did you mean 'labels'?" in unknown.text
    assert failure(client.post("/v1/embed/video", files=sample)) == (400, "bad_request")  # it takes no labels
    one_too_many = {"labels": "a, b", "path": "deep/clip.mp4"}
    assert failure(upload(client, video, **one_too_many)) == (400, "bad_request")
    assert failure(client.post("/v1/recognize", files={"labels": (None, "a")})) == (400, "bad_request")
    assert failure(client.post("/v1/recognize", json={"labels": "a"})) == (400, "bad_request")
    assert failure(client.post("/v1/recognize")) == (400, "bad_request")
    for body in (b"--x\r\nnonsense", b"--x\r\nContent-Disposition: form-data; name=labels\r\n\r\na", b"", b"\x00" * 99):
        answer = client.post("/v1/recognize", content=body, headers={"Content-Type": "multipart/form-data; boundary=x"})
        assert failure(answer) == (400, "bad_request"), body
    assert failure(client.post("/v1/recognize", files={"model": (None, "x" * 5001)})) == (400, "bad_request")
    kind = {"Content-Type": f"multipart/form-data; boundary={'x' * 5000}"}
    assert failure(client.post("/v1/recognize", content=b"a", headers=kind)) == (400, "bad_request")
    two = [("file", ("a.mp4", video.read_bytes())), ("file", ("b.mp4", video.read_bytes()))]
    assert failure(client.post("/v1/recognize", files=two, data={"labels": "a, b"})) == (400, "bad_request")
    many = {f"x{number}": (None, "1") for number in range(40)}
    assert failure(client.post("/v1/recognize", files=many)) == (400, "bad_request")
    assert failure(client.post("/v1/recognize", files={"labels": (None, b"\xff\xfe")})) == (400, "bad_request")
    assert failure(client.get("/v1/nothing")) == (404, "not_found")


def test_other_methods_are_refused_with_those_allowed(client: httpx.Client) -> None:
    for method, path, allowed in (
        ("GET", "/v1/recognize", "POST"),
        ("DELETE", "/v1/models", "GET, HEAD"),
        ("POST", "/page/page.js", "GET, HEAD"),
        ("PUT", "/openapi.json", "GET, HEAD"),
        ("PATCH", "/samples/bowing.mp4", "GET, HEAD"),
        ("OPTIONS", "/", "GET, HEAD"),
    ):
        answer = client.request(method, path)
        assert failure(answer) == (405, "method_not_allowed")
        assert answer.headers["allow"] == allowed, path


def test_unreadable_videos(client: httpx.Client, videos: dict[str, Path], tmp_path: Path, allowed: Path) -> None:
    text = tmp_path / "text.mp4"
    for content in (b"", b"not a video " * 99, b"\x00\x00\x00\x18ftypmp42" + bytes(99)):
        text.write_bytes(content)
        answer = upload(client, text, labels="a, b")
        assert failure(answer) == (422, "unreadable_video")
        assert "froster-serve" not in answer.text
    half = tmp_path / "half.mp4"
    half.write_bytes(videos[ACTIONS[0]].read_bytes()[:2000])
    assert failure(upload(client, half, labels="a, b")) == (422, "unreadable_video")


def test_tags_that_are_not_utf8(client: httpx.Client, tmp_path: Path) -> None:
    clip = tmp_path / "clip.avi"
    with av.open(clip, "w") as container:
        container.metadata["title"] = "a title of 8"
        stream = container.add_stream("mpeg4", rate=8)
        stream.width = stream.height = 64
        for frame in draw_video(1, 0, 12, 64, "easy"):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame)))
        container.mux(stream.encode())
    content = clip.read_bytes()
    assert content.count(b"a title of 8") == 1
    clip.write_bytes(content.replace(b"a title of 8", "動画の題名".encode("shift-jis") + b"\x83\xff"))
    answer = upload(client, clip, labels=", ".join(ACTIONS))
    assert answer.status_code == 200, answer.text
    assert answer.json()["label"] == ACTIONS[0]


def test_pictures_too_large_to_hold(client: httpx.Client) -> None:
    for kind in ("PNG", "GIF"):
        buffer = io.BytesIO()
        Image.new("L", (9000, 8000)).save(buffer, kind)
        files = {"file": (f"a.{kind}", buffer.getvalue())}
        answer = client.post("/v1/recognize", files=files, data={"labels": "walking, bowing"})
        assert failure(answer) == (422, "unreadable_video")
        assert "9000 x 8000" in answer.json()["error"]["message"]


def test_playlists_open_no_other_files(client: httpx.Client, allowed: Path, tmp_path: Path) -> None:
    secret = allowed.parent / "secret.mp4"
    playlists = {
        "hls": f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:1.5,\nfile://{secret}\n#EXT-X-ENDLIST\n",
        "concat": f"ffconcat version 1.0\nfile {secret}\n",
    }
    for name, content in playlists.items():
        playlist = tmp_path / name
        playlist.write_text(content)
        for file_name in ("clip.mp4", "clip.m3u8", "clip.ts", "clip.ffconcat"):
            answer = client.post(
                "/v1/recognize", files={"file": (file_name, playlist.read_bytes())}, data={"labels": "a, b"}
            )
            assert failure(answer) == (422, "unreadable_video"), (name, file_name)


def test_pictures_are_videos(client: httpx.Client) -> None:
    buffer = io.BytesIO()
    Image.fromarray(np.full((40, 60, 3), 200, np.uint8)).save(buffer, "PNG")
    files = {"file": ("../../picture.PNG", buffer.getvalue())}
    assert client.post("/v1/recognize", files=files, data={"labels": "walking, bowing"}).status_code == 200


def test_names_of_uploads_are_not_paths(client: httpx.Client, server: Running, videos: dict[str, Path]) -> None:
    content = videos[ACTIONS[0]].read_bytes()
    around = sorted(server.temporary.parent.rglob("*"))
    for name in ("../../../evil.mp4", "/tmp/evil.mp4", "a\\..\\evil.mp4", "evil.mp4%00.txt", "", "x" * 3000, "ü\n.mp4"):
        answer = client.post("/v1/recognize", files={"file": (name, content)}, data={"labels": "walking, bowing"})
        assert answer.status_code in (200, 400)
    assert wait_for(lambda: sorted(server.temporary.parent.rglob("*")) == around)


def test_too_large(client: httpx.Client, server: Running, videos: dict[str, Path]) -> None:
    fits = videos[ACTIONS[0]].read_bytes()
    fits += bytes(MAX_UPLOAD - len(fits))
    fields = {"labels": "walking, bowing"}
    assert client.post("/v1/recognize", files={"file": ("a.mp4", fits)}, data=fields).status_code == 200
    answer = client.post("/v1/recognize", files={"file": ("a.mp4", fits + b"0")}, data=fields)
    assert failure(answer) == (413, "file_too_large")
    assert "300 KB" in answer.json()["error"]["message"]
    big = client.post("/v1/recognize", files={"file": ("a.mp4", bytes(5_000_000))}, data=fields)
    assert failure(big) == (413, "file_too_large")

    def endless() -> Iterator[bytes]:
        yield b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.mp4"\r\n\r\n'
        for _ in range(60):
            yield bytes(100_000)
            stored.append(sum(path.stat().st_size for path in server.uploads()))

    stored: list[int] = []
    kind = {"Content-Type": "multipart/form-data; boundary=x"}
    assert failure(client.post("/v1/recognize", content=endless(), headers=kind)) == (413, "file_too_large")
    assert max(stored) <= MAX_UPLOAD
    text = client.post("/v1/recognize", files={"labels": (None, "a" * 1_200_000)})
    assert failure(text)[0] in (400, 413)


def test_too_long(client: httpx.Client, long_video: Path) -> None:
    answer = upload(client, long_video, labels="walking, bowing")
    assert failure(answer) == (413, "video_too_long")
    assert "10 seconds" in answer.json()["error"]["message"]


def test_paths(client: httpx.Client, allowed: Path) -> None:
    def ask(path: str) -> httpx.Response:
        return client.post("/v1/recognize", files={"path": (None, path), "labels": (None, "walking, bowing")})

    for good in ("deep/clip.mp4", "within.mp4", "deep/../within.mp4", str(allowed / "deep" / "clip.mp4")):
        assert ask(good).status_code == 200, good
    evil = [
        "../secret.mp4",
        "deep/../../secret.mp4",
        str(allowed.parent / "secret.mp4"),
        "/etc/passwd",
        "out.mp4",
        "up/secret.mp4",
        "up/nothing.mp4",
        "loop.mp4/../../secret.mp4",
        "a\0b",
        "\0",
        "deep/clip.mp4\0.txt",
        "..",
        "/",
        "//etc/passwd",
        "~/../../etc/passwd" + "/.." * 9,
        "x" * 4999,
    ]
    for path in evil:
        answer = ask(path)
        assert failure(answer) == (403, "path_not_allowed"), path
        assert str(allowed.parent) not in answer.text
    for path in (
        "missing.mp4",
        "deep",
        ".",
        "pipe.mp4",
        "file:///etc/passwd",
        "loop.mp4",
        "concat:out.mp4",
        "%2e%2e/secret.mp4",
    ):
        answer = ask(path)
        assert failure(answer) in ((422, "unreadable_video"), (403, "path_not_allowed")), path
        assert str(allowed) not in answer.text


def test_embed_video(client: httpx.Client, videos: dict[str, Path]) -> None:
    answer = client.post("/v1/embed/video", files={"file": videos[ACTIONS[0]].read_bytes()}).json()
    assert (answer["model"], answer["frames"], len(answer["features"])) == ("puppets", 24, 128)
    assert np.linalg.norm(answer["features"]) == pytest.approx(1, abs=1e-5)
    same = client.post("/v1/embed/video", files={"path": (None, "deep/clip.mp4"), "model": (None, "other")}).json()
    assert same["model"] == "other"
    np.testing.assert_allclose(same["features"], answer["features"], atol=1e-5)


def test_embed_text(client: httpx.Client) -> None:
    texts = ["walking", "a person is riding a bicycle"]
    answer = client.post("/v1/embed/text", json={"texts": texts}).json()
    expected = encode_texts(Recognizer("puppets", ["walking"], precision="float32").model, texts).numpy()
    np.testing.assert_allclose(
        answer["features"], expected / np.linalg.norm(expected, axis=1, keepdims=True), atol=1e-4
    )
    for texts in ([], [1], "walking", [""], ["a", " "]):
        assert failure(client.post("/v1/embed/text", json={"texts": texts})) == (400, "bad_request"), texts
    for body in ({}, [], "x"):
        assert failure(client.post("/v1/embed/text", json=body)) == (400, "bad_request"), body
    assert failure(client.post("/v1/embed/text", content=b"{")) == (400, "bad_request")
    assert failure(client.post("/v1/embed/text", content=bytes(2_000_000))) == (400, "bad_request")
    assert failure(client.post("/v1/embed/text", json={"texts": ["a"] * 46})) == (422, "too_many_labels")
    assert failure(client.post("/v1/embed/text", json={"texts": ["a"], "model": "x"})) == (404, "unknown_model")


def test_lists(client: httpx.Client) -> None:
    assert client.get("/healthz").json() == {"status": "ok"}
    models = client.get("/v1/models").json()["models"]
    assert models == [
        {"name": "puppets", "student": "frame_clip", "size": 64, "default": True, "labels": []},
        {"name": "other", "student": "frame_clip", "size": 64, "default": False, "labels": []},
    ]
    vocabularies = {entry["name"]: entry["labels"] for entry in client.get("/v1/vocabularies").json()["vocabularies"]}
    assert vocabularies["ucf-101"] == list(read_vocabulary("ucf-101"))


def test_samples(client: httpx.Client) -> None:
    samples = client.get("/v1/samples").json()["samples"]
    assert len(samples) == 6
    for sample in samples[:2]:
        labels = json.dumps(sample["labels"])
        fields = {"sample": (None, sample["name"]), "labels": (None, labels)}
        answer = client.post("/v1/recognize", files=fields).json()
        assert answer["label"].capitalize() == sample["title"]
    picture = Image.open(io.BytesIO(client.get(urljoin("/v1/samples", samples[0]["picture"])).content))
    assert picture.size == (256, 256)
    part = client.get(urljoin("/v1/samples", samples[0]["video"]), headers={"Range": "bytes=4-7"})
    assert (part.status_code, part.content, part.headers["content-type"]) == (206, b"ftyp", "video/mp4")
    for file in ("..%2fsecret.mp4", "nothing.mp4", f"{samples[0]['name']}.txt", samples[0]["name"]):
        assert client.get(f"/samples/{file}").status_code == 404


def test_documentation(client: httpx.Client) -> None:
    schema = client.get("/openapi.json").json()
    posted = {"/v1/recognize", "/v1/embed/video", "/v1/embed/text"}
    assert {path for path, methods in schema["paths"].items() if "post" in methods} == posted
    for path in posted:
        operation = schema["paths"][path]["post"]
        assert operation["description"] and operation["requestBody"]["required"]
        assert {"200", "400", "401", "403", "404", "422", "429"} <= operation["responses"].keys()
    fields = schema["paths"]["/v1/recognize"]["post"]["requestBody"]["content"]["multipart/form-data"]["schema"]
    assert fields["properties"].keys() == {
        *("file", "path", "sample", "labels", "top", "model", "frames", "explain", "timeline")
    }
    page = client.get("/docs").text
    assert all(path in page for path in schema["paths"])
    icon = re.search(r'<link rel=icon href="([^"]+)"', page)
    assert icon and client.get(urljoin("/docs", icon[1])).headers["content-type"].startswith("image/svg+xml")
    assert "src=" not in page and "http://" not in page and "https://" not in page


def test_codes_of_errors_are_in_the_docs() -> None:
    told = (Path(__file__).parents[2] / "docs" / "serving.md").read_text(encoding="utf-8")
    sources = "".join(path.read_text(encoding="utf-8") for path in Path(froster.serve.__file__).parent.glob("*.py"))
    codes = {(int(status), code) for status, code in re.findall(r'RequestError\((\d{3}), "(\w+)"', sources)}
    codes |= {(int(status), code) for status, code in re.findall(r'\b(40[45]): "(\w+)"', sources)}
    assert {(404, "not_found"), (405, "method_not_allowed"), (429, "queue_full")} <= codes
    for status, code in codes - {(499, "cancelled")}:  # which nobody hears
        assert re.search(rf"^\| {status} \|[^|]*`{code}`", told, re.M), code


def test_head_is_get_without_the_body(client: httpx.Client) -> None:
    for path in ("/", "/healthz", "/docs", "/openapi.json", "/v1/models", "/v1/vocabularies", "/page/icon.svg"):
        whole, head = client.get(path), client.head(path)
        assert (head.status_code, head.content) == (200, b""), path
        for name in ("content-type", "content-length", "content-security-policy"):
            assert head.headers[name] == whole.headers[name], (path, name)
    assert client.head("/v1/nothing").status_code == 404
    assert client.head("/v1/recognize").status_code == 405
    assert client.head("/healthz", headers={"Host": "evil.example"}).status_code == 403
    assert not any("head" in methods for methods in client.get("/openapi.json").json()["paths"].values())


def test_only_this_machine_is_answered(client: httpx.Client, server: Running) -> None:
    port = server.url.rpartition(":")[2]
    for host in (f"localhost:{port}", f"127.0.0.1:{port}", "[::1]:80", "localhost"):
        assert client.get("/healthz", headers={"Host": host}).status_code == 200, host
    for host in (
        "evil.example",
        f"evil.example:{port}",
        "localhost.evil.example",
        "10.0.0.1",
        "",
        "[::1",
        "127.0.0.1@evil",
    ):
        assert failure(client.get("/healthz", headers={"Host": host})) == (403, "wrong_host"), host


def test_foreign_pages_are_refused(client: httpx.Client, server: Running) -> None:
    def ask(**headers: str) -> httpx.Response:
        return client.post("/v1/embed/text", json={"texts": ["walking"]}, headers=headers)

    port = server.url.rpartition(":")[2]
    assert ask(Origin=server.url).status_code == 200
    for origin in (
        "http://evil.example",
        "null",
        f"http://localhost:{port}",
        "http://127.0.0.1:1",
        "file://",
        "",
        "http://[",
    ):
        assert failure(ask(Origin=origin)) == (403, "cross_site"), origin
    assert failure(ask(**{"Sec-Fetch-Site": "cross-site"})) == (403, "cross_site")
    assert ask(**{"Sec-Fetch-Site": "same-origin", "Origin": server.url}).status_code == 200
    assert "access-control-allow-origin" not in ask(Origin=server.url).headers
    assert "frame-ancestors 'none'" in client.get("/docs").headers["content-security-policy"]


def test_clients_that_leave(client: httpx.Client, server: Running, videos: dict[str, Path]) -> None:
    def send(complete: bool) -> socket.socket:
        request = client.build_request(
            "POST",
            "/v1/recognize",
            files={"file": videos[ACTIONS[0]].read_bytes()},
            data={"labels": "walking, bowing", "timeline": "1", "explain": "gradient"},
        )
        body = request.read()
        lines = [f"{name}: {value}" for name, value in request.headers.items()]
        head = "\r\n".join(["POST /v1/recognize HTTP/1.1", *lines, "", ""]).encode()
        connection = socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2])))
        connection.sendall(head + (body if complete else body[: len(body) // 2]))
        return connection

    before = metric(client, 'froster_requests_total{endpoint="/v1/recognize",status="499"}')
    waiting = [send(complete=False) for _ in range(3)]
    assert wait_for(lambda: metric(client, "froster_uploads_arriving") == 3)
    assert metric(client, "froster_queue_length") == 0
    assert len(server.uploads()) == 3
    for connection in waiting:
        connection.close()
    assert wait_for(lambda: metric(client, "froster_uploads_arriving") == 0)
    for _ in range(6):
        send(complete=True).close()
    assert wait_for(
        lambda: metric(client, 'froster_requests_total{endpoint="/v1/recognize",status="499"}') - before == 9
    )
    assert metric(client, "froster_queue_length") == 0
    assert metric(client, 'froster_requests_total{endpoint="/v1/recognize",status="500"}') == 0
    assert upload(client, videos[ACTIONS[0]], labels="walking, bowing").status_code == 200


def test_metrics(client: httpx.Client, videos: dict[str, Path]) -> None:
    def counts() -> tuple[float, ...]:
        names = ('requests_total{endpoint="/v1/recognize",status="200"}', "videos_decoded_total", "batch_videos_sum")
        seconds = 'request_seconds_count{endpoint="/v1/recognize"}'
        return tuple(metric(client, f"froster_{name}") for name in (*names, seconds))

    before = counts()
    upload(client, videos[ACTIONS[0]], labels="walking, bowing")
    assert [after - then for after, then in zip(counts(), before, strict=True)] == [1, 1, 1, 1]
    assert client.get("/metrics").headers["content-type"].startswith("text/plain")
    client.get("/no/such/page/0"), client.get("/no/such/page/1")
    assert "/no/such" not in client.get("/metrics").text
