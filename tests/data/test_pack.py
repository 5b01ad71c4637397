"""Packed data gives the frames, times, labels and segments of the originals, whatever happens on the way."""

import csv
import json
import shutil
from fractions import Fraction
from pathlib import Path

import av
import filelock
import numpy as np
import pytest
from PIL import Image

import froster
from froster.data import pack
from froster.data.manifests import read_manifest
from froster.data.pack import PackSettings, pack_data, psnr
from froster.data.pack_workers import Crashed, run_each
from froster.errors import FrosterError, VideoError
from froster.video import decode_frames, find_videos, load_video
from froster.video.stream import SlidingWindows, read_windows
from numbered import numbered, read_number, write_video

UNEVEN = np.cumsum([0, *([1, 2, 5, 1, 1] * 7)]).tolist()
FORMATS = ("h264", "jpeg")


def write_manifest(path, rows, columns=("path", "label", "split", "start", "end", "note")):
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerows([columns, *rows])
    return path


@pytest.fixture
def originals(tmp_path):
    """A manifest of videos of many kinds."""
    folder = tmp_path / "originals"
    for name in ("a", "b", "pictures"):
        (folder / name).mkdir(parents=True)
    write_video(folder / "a" / "x.mp4", 40, size=(96, 64))
    write_video(folder / "b" / "x.mkv", len(UNEVEN), size=(96, 64), ticks=UNEVEN, tick=Fraction(1, 30))
    write_video(folder / "b" / "x.mp4", 30, size=(80, 60), audio=1.0)
    write_video(folder / "turned.mov", 20, size=(96, 64), rotation=90)
    write_video(folder / "old.avi", 25, size=(66, 50), codec="mpeg4", rate=Fraction(30000, 1001))
    for number in range(12):
        Image.fromarray(numbered(number, (96, 64))).save(folder / "pictures" / f"{number}.png")
    rows = [
        ["a/x.mp4", "walk", "train test1", "", "", "first"],
        ["a/x.mp4", "run", "train", "0.5", "1", "=1, or 2"],
        ["b/x.mkv", "walk", "test1", "", "", ""],
        ["b/x.mp4", "run", "", "0.2", "0.5", ""],
        ["b/x.mp4", "'-1", "", "0.6", "", ""],
        ["turned.mov", "run", "", "", "", ""],
        ["old.avi", "walk", "", "", "", ""],
        ["pictures", "walk", "", "", "", ""],
    ]
    return write_manifest(folder / "all.csv", rows)


def rows_of(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("format_name", FORMATS)
def test_frames_times_and_labels_are_those_of_the_originals(tmp_path, originals, format_name):
    before = {path: path.read_bytes() for path in originals.parent.rglob("*") if path.is_file()}
    report = pack_data(originals, tmp_path / "packed", format=format_name, short_side=48, workers=0)
    assert (report.rows, report.all_rows, report.videos, report.unreadable, report.partial) == (8, 8, 6, [], [])
    assert report.manifest == tmp_path / "packed" / "all.csv" and report.psnr > 30
    assert {path: path.read_bytes() for path in before} == before
    for old, new in zip(rows_of(originals), rows_of(report.manifest), strict=True):
        assert {**old, "path": 0, "start": 0, "end": 0} == {**new, "path": 0, "start": 0, "end": 0}
    pairs = list(zip(read_manifest(originals), read_manifest(report.manifest), strict=True))
    assert len({new.path for _, new in pairs}) == 7  # the first two rows share a file
    for old, new in pairs:
        one = decode_frames(old.path, start=old.start, end=old.end)
        other = decode_frames(new.path, start=new.start, end=new.end)
        assert min(other.frames.shape[1:3]) == 48 and other.warning is None
        turned = (lambda frame: np.rot90(frame, 1)) if "turned" in old.path.name else (lambda frame: frame)
        assert [read_number(turned(f)) for f in other.frames] == [read_number(turned(f)) for f in one.frames]
        np.testing.assert_allclose(other.times - other.times[0], one.times - one.times[0], atol=1e-6)
        for sampling in ("uniform", "release"):
            if sampling == "uniform" or (format_name == "jpeg" and old.start == new.start):
                clips = [load_video(v.path, views=3, sampling=sampling, start=v.start, end=v.end) for v in (old, new)]
                places = [clip.indices - clip.indices.min() * (old.start != new.start) for clip in clips]
                np.testing.assert_array_equal(*places)
    with (
        av.open(str(tmp_path / "packed" / "videos" / "b" / "x_0.2_0.5.mp4"))
        if format_name == "h264"
        else av.open(str(originals.parent / "a" / "x.mp4")) as container
    ):
        assert not container.streams.audio


@pytest.mark.parametrize("format_name", FORMATS)
def test_fewer_frames_a_second_keep_their_times(tmp_path, format_name):
    write_video(tmp_path / "x.mp4", 60, size=(96, 64))
    manifest = write_manifest(tmp_path / "m.csv", [["x.mp4", "walk"]], ("path", "label"))
    report = pack_data(manifest, tmp_path / "packed", format=format_name, fps=8, workers=0)
    taken = decode_frames(read_manifest(report.manifest)[0].path)
    shown = [int(30 * k / 8 + 1e-6) for k in range(16)]
    assert [read_number(frame) for frame in taken.frames] == shown
    np.testing.assert_allclose(taken.times, np.array(shown) / 30, atol=1e-6)
    assert load_video(read_manifest(report.manifest)[0].path).times.max() > 1.7


def test_colors_are_those_of_the_original(tmp_path):
    bars = np.zeros((64, 96, 3), np.uint8)
    for channel in range(3):
        bars[:, channel * 32 : (channel + 1) * 32, channel] = 220
    rows = []
    for number, (pix_fmt, colorspace, color_range) in enumerate(
        (("yuv420p", 1, 1), ("yuv420p", 5, 1), ("yuv420p", 1, 2), ("yuv444p", 2, 1), ("yuv420p10le", 9, 1))
    ):
        with av.open(str(tmp_path / f"{number}.mp4"), "w") as container:
            stream = container.add_stream("libx264", rate=10)
            stream.width, stream.height, stream.pix_fmt = 96, 64, pix_fmt
            stream.codec_context.colorspace, stream.codec_context.color_range = colorspace, color_range
            for _ in range(3):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(bars, format="rgb24")))
            container.mux(stream.encode())
        rows.append([f"{number}.mp4", "x"])
    manifest = write_manifest(tmp_path / "m.csv", rows, ("path", "label"))
    for format_name in FORMATS:
        report = pack_data(manifest, tmp_path / format_name, format=format_name, workers=0)
        for old, new in zip(read_manifest(manifest), read_manifest(report.manifest), strict=True):
            one, other = (decode_frames(video.path, [1]).frames[0][8:56, 16::32].astype(int) for video in (old, new))
            assert np.abs(one - other).max() <= 4, (old.path.name, format_name)


def test_a_stopped_run_repeats_nothing(tmp_path, originals, monkeypatch):
    out, packed, pack_source = tmp_path / "packed", [], pack.pack_source

    def stopping(source, *rest):
        if len(packed) == 3:
            (out / "videos" / ".x.0.partial.mp4").touch()  # as a killed process leaves it
            raise KeyboardInterrupt
        packed.append(source.path)
        return pack_source(source, *rest)

    monkeypatch.setattr(pack, "pack_source", stopping)
    with pytest.raises(KeyboardInterrupt):
        pack_data(originals, out, short_side=48, workers=0)
    assert not (out / "all.csv").exists() and not list(out.rglob("*.partial.*"))
    with (out / "packed.jsonl").open("a") as journal:
        journal.write('{"source": "cut sho')
    first = list(packed)
    packed.clear()
    packed.append("not the third again")
    counts = []
    monkeypatch.setattr(pack, "pack_source", lambda *a: packed.append(a[0].path) or pack_source(*a))
    report = pack_data(originals, out, short_side=48, workers=0, on_progress=lambda *of: counts.append(of))
    assert not set(first) & set(packed) and len(first) + len(packed) - 1 == 6
    assert counts[0] == (3, 6) and counts[-1] == (6, 6) and report.reused == 3
    table = report.manifest.read_text()
    assert pack_data(originals, out, short_side=48, workers=0).reused == 6 and report.manifest.read_text() == table
    # What has changed or is gone is packed again, to the same file.
    write_video(originals.parent / "a" / "x.mp4", 50, size=(96, 64))
    (out / "videos" / "old.mp4").unlink()
    assert pack_data(originals, out, short_side=48, workers=0).reused == 4 and report.manifest.read_text() == table
    assert len(decode_frames(out / "videos" / "a" / "x.mp4").frames) == 50
    with pytest.raises(FrosterError, match=r"packed with format h264, short side 48, every frame, not with .*side 64"):
        pack_data(originals, out, short_side=64, workers=0)
    with filelock.FileLock(out / ".lock"), pytest.raises(FrosterError, match="Another run is packing"):
        pack_data(originals, out, short_side=48, workers=0)


def test_two_manifests_share_a_folder(tmp_path):
    for name in ("train", "test"):
        (tmp_path / name).mkdir()
        write_video(tmp_path / name / "0.mp4", 10 + (name == "test"))
        write_manifest(tmp_path / f"{name}.csv", [[f"../{tmp_path.name}/{name}/0.mp4", "walk"]], ("path", "label"))
    reports = [pack_data(tmp_path / f"{name}.csv", tmp_path / "packed", workers=0) for name in ("train", "test")]
    paths = [read_manifest(report.manifest)[0].path for report in reports]
    assert [len(decode_frames(path).frames) for path in paths] == [10, 11]


def test_videos_that_cannot_be_read_are_left_out(tmp_path):
    options = {"preset": "ultrafast", "bf": "0", "g": "15"}
    write_video(tmp_path / "good.mp4", 45, options=options)
    shutil.copy(tmp_path / "good.mp4", tmp_path / "headless.mp4")
    with av.open(str(tmp_path / "good.mp4")) as container:
        first = next(packet for packet in container.demux(video=0))
        place, size = first.pos, first.size
    data = bytearray((tmp_path / "good.mp4").read_bytes())
    data[place : place + size] = b"\xff" * size
    (tmp_path / "headless.mp4").write_bytes(data)
    (tmp_path / "words.mp4").write_text("These are words.\n" * 50)
    columns = ("path", "label", "start", "end")
    rows = [
        ["good.mp4", "a", "", ""],
        ["headless.mp4", "a", "", ""],
        ["headless.mp4", "a", "0.1", "0.4"],
        ["headless.mp4", "a", "0.8", "1.2"],
        ["words.mp4", "a", "", ""],
        ["good.mp4", "b", "7", "9"],
        ["gone.mp4", "a", "", ""],
    ]
    manifest = write_manifest(tmp_path / "m.csv", rows, columns)
    report = pack_data(manifest, tmp_path / "packed", workers=0)
    unreadable = dict(report.unreadable)
    assert [Path(name.split(" ")[0]).name for name in unreadable] == ["headless.mp4", "words.mp4", "gone.mp4"]
    assert rows_of(tmp_path / "packed" / "m.unreadable.csv")[1]["reason"].startswith("not a video")
    assert [Path(name).name for name, _ in report.partial] == ["headless.mp4"]
    assert "30 of 45 frames" in (tmp_path / "packed" / "m.partial.csv").read_text()
    moved = read_manifest(report.manifest)[2]
    assert (moved.start, moved.end) == (pytest.approx(0.3), pytest.approx(0.7))
    taken = decode_frames(moved.path, start=moved.start, end=moved.end)
    assert [read_number(frame) for frame in taken.frames] == list(range(24, 36))
    manifest = write_manifest(tmp_path / "bad.csv", [["words.mp4", "a"]], ("path", "label"))
    with pytest.raises(FrosterError, match=r"None of the 1 videos .*bad\.csv can be packed: .*words\.mp4: not"):
        pack_data(manifest, tmp_path / "packed", workers=0)
    assert not (tmp_path / "packed" / "bad.csv").exists()


@pytest.mark.parametrize(
    "fault, reason", [("a frame is lost", "has 11 of 12 frames"), ("frames are black", "a frame has a PSNR of")]
)
def test_a_wrong_packed_file_is_noticed(tmp_path, monkeypatch, fault, reason):
    add, added = pack.H264Writer.add, []

    def wrong(writer, image):
        added.append(1)
        if fault == "frames are black":
            image = np.zeros_like(image)
        if fault != "a frame is lost" or len(added) != 5:
            add(writer, image)

    monkeypatch.setattr(pack.H264Writer, "add", wrong)
    write_video(tmp_path / "x.mp4", 12)
    manifest = write_manifest(tmp_path / "m.csv", [["x.mp4", "walk"]], ("path", "label"))
    with pytest.raises(FrosterError, match=reason):
        pack_data(manifest, tmp_path / "packed", workers=0)
    assert not list((tmp_path / "packed" / "videos").iterdir())


def test_the_estimate_and_a_disk_that_is_too_small(tmp_path, monkeypatch):
    for number in range(12):
        write_video(tmp_path / f"{number}.mp4", 12)
    manifest = write_manifest(tmp_path / "m.csv", [[f"{n}.mp4", "walk"] for n in range(12)], ("path", "label"))
    estimates = []
    monkeypatch.setattr(pack.shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(1, 1, 1))
    with pytest.raises(FrosterError, match="the other 4 videos would take about"):
        pack_data(manifest, tmp_path / "packed", workers=0, on_estimate=estimates.append)
    monkeypatch.undo()
    report = pack_data(manifest, tmp_path / "packed", workers=0, on_estimate=estimates.append)
    assert len(estimates) == 1 and estimates[0].sampled == 8 and estimates[0].seconds > 0 and report.reused == 8
    assert estimates[0].bytes == pytest.approx(report.packed_bytes, rel=0.1)


def test_workers_that_crash_end_nothing():
    items = [("1 + 1",), ("__import__('os')._exit(3)",), *((f"{n} * 2",) for n in range(6))]
    results = dict(run_each(eval, items, 1))
    assert isinstance(results.pop(items[1]), Crashed)
    assert results == {("1 + 1",): 2, **{(f"{n} * 2",): 2 * n for n in range(6)}}
    with pytest.raises(ZeroDivisionError):
        list(run_each(eval, [("1 / 0",)], 1))


def test_wrong_arguments(tmp_path, originals):
    for wrong, message in (
        ({"format": "webm"}, "There is no format 'webm'; choose from h264, jpeg"),
        ({"short_side": 1}, "must be 2 pixels or more"),
        ({"fps": 0}, "fps must be above 0"),
        ({"workers": -1}, "must be 0 or more"),
    ):
        with pytest.raises(ValueError, match=message):
            froster.pack_data(originals, tmp_path / "packed", **wrong)
    assert not (tmp_path / "packed").exists()
    with pytest.raises(FrosterError, match="would replace"):
        pack_data(originals, originals.parent)
    with pytest.raises(FrosterError, match="is a file"):
        pack_data(originals, originals.parent / "old.avi")


def test_sizes():
    for width, height, expected in (
        (1280, 720, (456, 256)),
        (340, 256, (340, 256)),
        (67, 61, (68, 60)),
        (1, 9, (2, 8)),
    ):
        assert PackSettings().size(width, height) == expected
    assert PackSettings("jpeg").size(67, 61) == (67, 61) and PackSettings("jpeg").size(720, 1280) == (256, 455)


def test_psnr():
    black = np.zeros((4, 4, 3), np.uint8)
    assert psnr(black, black) == 100 and psnr(black, black + 255) == 0
    assert psnr(black, black + 1) == pytest.approx(48.1308, abs=1e-4)  # 20 log10(255)


def test_packed_jpegs_are_found_in_folders_and_give_the_windows_of_the_original(tmp_path):
    write_video(tmp_path / "x.mp4", 75)
    manifest = write_manifest(tmp_path / "m.csv", [["x.mp4", "walk"]], ("path", "label"))
    pack_data(manifest, tmp_path / "packed", format="jpeg", workers=0)
    (path,) = find_videos([tmp_path / "packed"])
    assert path.name == "x.arrow"
    one, other = (
        list(read_windows(video, SlidingWindows(1.0, 0.5, 4), read_number)) for video in (tmp_path / "x.mp4", path)
    )
    assert len(one) == len(other) > 3
    for window, packed in zip(one, other, strict=True):
        assert [number for _, number in packed.frames] == [number for _, number in window.frames]
        assert (packed.start, packed.end) == (pytest.approx(window.start), pytest.approx(window.end))


def test_damaged_packed_jpegs_are_named(tmp_path):
    write_video(tmp_path / "x.mp4", 80)
    manifest = write_manifest(tmp_path / "m.csv", [["x.mp4", "walk"]], ("path", "label"))
    path = read_manifest(pack_data(manifest, tmp_path / "packed", format="jpeg", workers=0).manifest)[0].path
    whole = path.read_bytes()
    assert [read_number(frame) for frame in decode_frames(path, [0, 63, 64, 79]).frames] == [0, 63, 64, 79]
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(VideoError, match=r"x\.arrow: damaged or incomplete, pack it again"):
        load_video(path)
    start = whole.index(b"\xff\xd8\xff")
    path.write_bytes(whole[:start] + b"\0" * 8 + whole[start + 8 :])
    with pytest.raises(VideoError, match=r"x\.arrow: frame 0 is damaged, pack it again"):
        decode_frames(path)
    path.write_bytes(b"ARROW1\0\0" + json.dumps([1]).encode())
    with pytest.raises(VideoError, match=r"x\.arrow: damaged or incomplete"):
        load_video(path)
