"""Damaged and unusual videos in every command: no traceback, the others are used, and what is damaged is said."""

import csv
import io
import json
import os
import shutil
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from commands import froster
from froster.data.manifests import read_manifest
from froster.data.puppets import action_index, draw_video
from froster.errors import FrosterError

LABELS = "walking, juggling balls"
RECIPE = Path(__file__).parents[2] / "recipes" / "froster-puppets.yaml"
FRAMES, RATE, SIZE = 60, 15, 96
ENCRYPTION = {
    "encryption_scheme": "cenc-aes-ctr",
    "encryption_key": "76a6c65c5ea762046bd749a2e632ccbb",
    "encryption_kid": "a7e61c373e219033c21091fa607bf3b8",
}
X264 = {"preset": "ultrafast", "bf": "0", "g": "20", "x264-params": "scenecut=0"}
USABLE = ("cover.mkv", "exif.mkv", "good.mp4", "tags.avi")
DAMAGED = {"concealed.mkv": f"of {FRAMES} frames are damaged", "cut.mkv": "breaks off after"}
UNUSABLE = {"encrypted.mp4": "it is encrypted", "noise.mp4": "are damaged, too many", "text.mp4": "not a video"}


def pictures(seed: int) -> np.ndarray:
    return draw_video(seed, action_index("walking"), FRAMES, SIZE, "easy")


def write(path: Path, codec: str = "libx264", **options: str) -> None:
    with av.open(str(path), "w", options=options) as container:
        container.metadata["title"] = "a title of 8"
        stream = container.add_stream(codec, rate=RATE, options=X264 if codec == "libx264" else {"g": "20"})
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = SIZE, SIZE, "yuv420p"
        stream.codec_context.thread_count = 1
        for picture in pictures(len(path.name)):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


def packets(path: Path) -> list[tuple[int, int]]:
    """Where each frame of a file begins, and its size."""
    with av.open(str(path)) as container:
        return [(packet.pos or 0, packet.size) for packet in container.demux(video=0) if packet.size]


def jpeg(picture: np.ndarray) -> bytes:
    exif, file = Image.Exif(), io.BytesIO()
    exif[0x0112] = 3
    Image.fromarray(picture).save(file, "JPEG", quality=90, exif=exif)
    return file.getvalue()


def write_jpegs(path: Path, cover: bool) -> None:
    """Pictures with EXIF as a video; or one of them as the cover of a video."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=RATE)
        film = container.add_stream("libx264", rate=RATE, options=X264) if cover else None
        for one in filter(None, (stream, film)):
            assert isinstance(one, av.VideoStream)
            one.width, one.height, one.pix_fmt = SIZE, SIZE, "yuvj420p" if one is stream else "yuv420p"
        if film:
            stream.disposition, film.disposition = av.stream.Disposition.attached_pic, av.stream.Disposition(0)
        for number, picture in enumerate(pictures(3)):
            if not film or number == 0:
                packet = av.Packet(jpeg(picture))
                packet.stream, packet.pts, packet.dts = stream, number, number
                packet.time_base, packet.is_keyframe = Fraction(1, RATE), True
                container.mux(packet)
            if film:
                container.mux(film.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        if film:
            container.mux(film.encode())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`clips/walking/` with a video of every kind, `manifest.csv` with all of them."""
    folder = tmp_path_factory.mktemp("damaged")
    clips = folder / "clips" / "walking"
    clips.mkdir(parents=True)
    for name in ("good.mp4", "noise.mp4", "concealed.mkv", "cut.mkv"):
        write(clips / name)
    write(clips / "tags.avi", "mpeg4")
    write(clips / "encrypted.mp4", **ENCRYPTION)
    write_jpegs(clips / "exif.mkv", cover=False)
    write_jpegs(clips / "cover.mkv", cover=True)
    (clips / "text.mp4").write_text("not a video\n" * 50)
    tags = (clips / "tags.avi").read_bytes()
    assert tags.count(b"a title of 8") == 1
    (clips / "tags.avi").write_bytes(tags.replace(b"a title of 8", "日本語の題".encode("shift-jis").ljust(12)))
    cut = (clips / "cut.mkv").read_bytes()
    (clips / "cut.mkv").write_bytes(cut[: 2 * len(cut) // 3])
    data = bytearray((clips / "concealed.mkv").read_bytes())
    place, size = packets(clips / "concealed.mkv")[5]
    for byte in range(place + size // 2, place + size // 2 + 12):
        data[byte] ^= 0x5A
    (clips / "concealed.mkv").write_bytes(data)
    data, noise = bytearray((clips / "noise.mp4").read_bytes()), np.random.default_rng(0)
    for place, size in packets(clips / "noise.mp4")[1:]:
        data[place + 5 + size // 3 : place + size] = noise.bytes(size - 5 - size // 3)
    (clips / "noise.mp4").write_bytes(data)
    names = sorted(path.name for path in clips.iterdir())
    with (folder / "manifest.csv").open("w", newline="") as file:
        csv.writer(file).writerows(
            [("path", "label"), *((f"clips/walking/{n}", LABELS.split(", ")[i % 2]) for i, n in enumerate(names))]
        )
    return folder


def lines(text: str) -> dict[str, list[dict[str, object]]]:
    """Lines of JSON by the name of the video."""
    found: dict[str, list[dict[str, object]]] = {}
    for line in map(json.loads, text.splitlines()):
        found.setdefault(Path(line["video"]).name, []).append(line)
    return found


def check_messages(stderr: str) -> None:
    """Every unusable video with its reason and every damaged one with its share is named; the others are not."""
    assert "Traceback" not in stderr
    for name, reason in (UNUSABLE | DAMAGED).items():
        assert any(name in line and reason in line for line in stderr.splitlines())
    assert not any(name in line for name in USABLE for line in stderr.splitlines() if "warning" in line)


def test_predict(folder: Path) -> None:
    ran = froster("predict", "clips", "--labels", LABELS, "--model", "puppets", cwd=folder)
    assert ran.returncode == 1
    check_messages(ran.stderr)
    found = lines(ran.stdout)
    assert found.keys() == {*USABLE, *DAMAGED, *UNUSABLE}
    for name in (*USABLE, *DAMAGED):
        assert len(found[name][0]["predictions"]) == 2  # type: ignore[arg-type]
        assert DAMAGED.get(name, "") in str(found[name][0].get("warning", ""))
    assert all(reason in str(found[name][0]["error"]) for name, reason in UNUSABLE.items())


def test_timeline(folder: Path, tmp_path: Path) -> None:
    options = ("--labels", LABELS, "--model", "puppets", "--out", tmp_path)
    ran = froster("timeline", "clips", *options, cwd=folder)
    assert ran.returncode == 1
    for name, reason in UNUSABLE.items():
        assert f"error: clips/walking/{name}" in ran.stderr and reason in ran.stderr
    assert f"concealed.mkv: 15 of {FRAMES} decoded frames are damaged" in ran.stderr
    assert "cut.mkv: breaks off after" in ran.stderr and "Traceback" not in ran.stderr
    written = {path.name for path in tmp_path.glob("*.json")}
    assert written == {f"{Path(name).stem}-timeline.json" for name in (*USABLE, *DAMAGED)}
    for name in USABLE:
        moments = json.loads((tmp_path / f"{Path(name).stem}-timeline.json").read_text())
        assert moments["complete"] is True


def test_explain(folder: Path, tmp_path: Path) -> None:
    for name in (*USABLE, *DAMAGED, *UNUSABLE):
        picture = tmp_path / f"{name}.png"
        options = ("--labels", LABELS, "--label", "walking", "--models", "puppets", "--out", picture)
        ran = froster("explain", f"clips/walking/{name}", *options, cwd=folder)
        assert "Traceback" not in ran.stderr
        assert (ran.returncode, picture.exists()) == ((2, False) if name in UNUSABLE else (0, True)), ran.stderr
        assert UNUSABLE.get(name, DAMAGED.get(name, "")) in ran.stderr


def test_evaluate(folder: Path) -> None:
    ran = froster("evaluate", "puppets", "--data", "manifest.csv", "--labels", LABELS, "--json", cwd=folder)
    assert (ran.returncode, ran.stderr) == (1, "")
    content = json.loads(ran.stdout)
    assert content["all"]["clips"] == len(USABLE) + len(DAMAGED)
    for part, expected in (("unreadable", UNUSABLE), ("partial", DAMAGED)):
        reasons = {Path(entry["video"]).name: entry["reason"] for entry in content[part]}
        assert reasons.keys() == expected.keys()
        assert all(reason in reasons[name] for name, reason in expected.items())


def test_data_check(folder: Path, tmp_path: Path) -> None:
    options = ("--dataset", "folder", "--thorough", "--workers", 1, "--out", tmp_path / "all.csv")
    ran = froster("data", "check", "clips", *options, cwd=folder)
    assert ran.returncode == 1 and "Traceback" not in ran.stderr
    for part, expected in (("unreadable", UNUSABLE), ("partial", DAMAGED)):
        with (tmp_path / f"all.{part}.csv").open(newline="") as file:
            rows = {Path(row["path"]).name: " ".join(map(str, row.values())) for row in csv.DictReader(file)}
        assert rows.keys() == expected.keys()
    with (tmp_path / "all.csv").open(newline="") as file:
        assert {Path(row["path"]).name for row in csv.DictReader(file)} == {*USABLE, *DAMAGED}


def test_train(folder: Path, tmp_path: Path) -> None:
    changes = ["data.manifest=manifest.csv", "data.puppets=null", "data.frames=2", "optimizer.batch_size=2"]
    changes += ["optimizer.epochs=2", "optimizer.warmup_epochs=0", "average_from=1", f"out={tmp_path / 'run'}"]
    refused = froster("train", RECIPE, *changes, cwd=folder)  # more clips are unusable than is taken for granted
    assert refused.returncode == 2 and "more than data.max_unreadable" in refused.stderr
    ran = froster("train", RECIPE, *changes, "data.max_unreadable=0.5", "--resume", cwd=folder)
    assert ran.returncode == 0, ran.stderr
    assert "Traceback" not in refused.stderr + ran.stderr
    reasons = (tmp_path / "run" / "unreadable.json").read_text()
    assert all(name in reasons and reason in reasons for name, reason in UNUSABLE.items())
    assert not any(name in reasons for name in (*USABLE, *DAMAGED))
    assert (tmp_path / "run" / "model.safetensors").exists()


def test_serve(folder: Path) -> None:
    pytest.importorskip("fastapi", reason="needs the extra serve: pip install -e '.[serve]'")
    from fastapi.testclient import TestClient

    from froster.serve.app import create_app
    from froster.serve.settings import ServeSettings

    with TestClient(create_app(ServeSettings(device="cpu")), "http://localhost") as client:
        for name in (*USABLE, *DAMAGED, *UNUSABLE):
            content = (folder / "clips" / "walking" / name).read_bytes()
            answer = client.post(
                "/v1/recognize", files={"file": (name, content)}, data={"labels": LABELS, "timeline": "1"}
            )
            if name in UNUSABLE:
                assert answer.status_code == 422 and UNUSABLE[name] in answer.json()["error"]["message"]
            else:
                assert answer.status_code == 200 and len(answer.json()["ranked"]) == 2
                assert DAMAGED.get(name, "") in (answer.json()["warning"] or "")


def test_file_names_that_are_not_utf8(folder: Path, tmp_path: Path) -> None:
    name = os.fsdecode(b"\xe4\xff.mp4")
    (tmp_path / "clips" / "walking").mkdir(parents=True)
    try:
        shutil.copy(folder / "clips" / "walking" / "good.mp4", tmp_path / "clips" / "walking" / name)
    except OSError:
        pytest.skip("names of files must be UTF-8 here")
    (tmp_path / "clips" / "walking" / os.fsdecode(b"no\xff.mp4")).write_text("not a video")
    clip, options = f"clips/walking/{name}", ("--labels", LABELS, "--model", "puppets")
    checked = froster("data", "check", "clips", "--dataset", "folder", "--decode", "--out", "all.csv", cwd=tmp_path)
    assert checked.returncode == 1, checked.stderr
    assert [video.path.name for video in read_manifest(tmp_path / "all.csv")] == [name]
    assert b"no\xff.mp4" in (tmp_path / "all.unreadable.csv").read_bytes()
    for arguments in (
        ("predict", clip, *options, "--picture", "picture.png"),
        ("timeline", clip, *options, "--out", "timeline"),
        ("evaluate", "puppets", "--data", "all.csv", "--labels", LABELS, "--out", "evaluation.json"),
    ):
        ran = froster(*arguments, cwd=tmp_path)
        assert ran.returncode == 0 and "Traceback" not in ran.stderr, ran.stderr
    assert json.loads((tmp_path / "timeline.json").read_bytes())["video"] == clip
    (tmp_path / "all.csv").write_bytes(b"path,label\nclip.mp4,caf\xe9\n")
    with pytest.raises(FrosterError, match="the label of line 2 is not UTF-8 text"):
        read_manifest(tmp_path / "all.csv")
