"""`check_data` on stand-ins of every dataset and layout: counts, what is missing or broken, manifests, resumption."""

import csv
import json
import os
import shutil
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from froster.data.check import DataReport, check_data, decoding
from froster.data.datasets import DATASETS
from froster.data.manifests import LabeledVideo, read_manifest
from froster.errors import FrosterError, FrosterWarning
from standins import STANDINS, KineticsClip, Standin, kinetics_list, put_text, put_video, video_bytes


def checked(standin: Standin, folder: Path, lists: Sequence[Path] = (), **settings: Any) -> DataReport:
    return check_data(DATASETS[standin.dataset], standin.root, lists, folder / "manifests" / "m.csv", **settings)


def manifest_labels(report: DataReport) -> dict[str, str]:
    root = report.root.absolute()
    return {video.path.relative_to(root).as_posix(): video.label for video in read_manifest(report.manifest)}


def files(folder: Path) -> set[str]:
    return {path.name for path in (folder / "manifests").iterdir()}


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that are decoded."""
    paths, real = list[Path](), decoding.decode.read

    def read(path: Path, *arguments: Any) -> Any:
        paths.append(path)
        return real(path, *arguments)

    monkeypatch.setattr(decoding.decode, "read", read)
    return paths


@pytest.mark.parametrize("layout", STANDINS)
def test_every_layout_is_complete(tmp_path: Path, layout: str) -> None:
    standin = STANDINS[layout](tmp_path)
    report = checked(standin, tmp_path, decode_all=True)
    assert report.complete
    assert (report.missing, report.unlisted, report.unreadable, report.partial, report.unknown_labels) == (
        [],
        [],
        [],
        [],
        {},
    )
    assert manifest_labels(report) == standin.labels
    rows = read_manifest(report.manifest)
    assert Counter(word for video in rows for word in video.splits) == standin.splits
    assert {(video.start, video.end) for video in rows} == {(None, None)}
    counts = {name: (count.listed, count.found) for name, count in report.splits.items()}
    assert counts == {name: (number, number) for name, number in standin.splits.items()} | {
        "all": (len(standin.labels), len(standin.labels))
    }
    assert files(tmp_path) == {"m.csv", "m.decoded.jsonl"}
    assert (report.dataset.classes == ()) or {video.label for video in rows} <= set(report.dataset.classes)


def test_official_splits_are_all_in_a_row(tmp_path: Path) -> None:
    report = checked(STANDINS["ucf_official"](tmp_path), tmp_path)
    splits = {video.path.name: video.splits for video in read_manifest(report.manifest)}
    assert set(splits["v_YoYo_g01_c01.avi"]) == {"test1", "train2", "train3"}
    assert set(splits["v_YoYo_g06_c01.avi"]) == {"train1", "train2", "test3"}
    assert report.splits["test1"].published == 3783
    assert report.published_not_listed == 13_320 - 18
    assert report.complete  # of the real set only the lists say what is missing


def test_splits_of_several_lists_come_together(tmp_path: Path) -> None:
    standin = STANDINS["ucf_official"](tmp_path)
    lists = [
        tmp_path / "ucfTrainTestlist" / f"{name}list0{split}.txt" for split in (1, 2) for name in ("train", "test")
    ]
    splits = {video.path.name: video.splits for video in checked(standin, tmp_path, lists).videos}
    assert splits["v_YoYo_g01_c01.avi"] == ("test1", "train2")
    assert splits["v_YoYo_g05_c01.avi"] == ("train1", "train2")


def test_videos_in_no_split_stay_in_the_manifest(tmp_path: Path) -> None:
    report = checked(STANDINS["hmdb_official"](tmp_path), tmp_path)
    last = [video for video in read_manifest(report.manifest) if video.path.name.endswith("_2.avi")]
    assert {video.splits for video in last} == {("train1", "train2")}  # neither in the third
    assert report.splits["all"].found == 12


def test_missing_videos_are_named_and_the_others_written(tmp_path: Path) -> None:
    standin = STANDINS["ucf_official"](tmp_path)
    gone = ["ApplyEyeMakeup/v_ApplyEyeMakeup_g02_c01.avi", "YoYo/v_YoYo_g05_c01.avi"]
    for name in gone:
        (standin.root / name).unlink()
    report = checked(standin, tmp_path)
    assert not report.complete
    assert sorted(report.missing) == gone
    assert sorted((tmp_path / "manifests" / "m.missing.txt").read_text().splitlines()) == gone
    assert manifest_labels(report) == {name: label for name, label in standin.labels.items() if name not in gone}
    counts = {name: count.listed - count.found for name, count in report.splits.items()}
    assert counts == {"train1": 1, "test1": 1, "train2": 2, "test2": 0, "train3": 1, "test3": 1, "all": 2}

    for name in gone:
        put_video(standin.root / name)
    assert checked(standin, tmp_path).complete
    assert files(tmp_path) == {"m.csv"}  # an old list of what was missing would mislead


def test_unlisted_videos_and_second_copies(tmp_path: Path) -> None:
    standin = STANDINS["ucf_official"](tmp_path)
    put_video(standin.root / "YoYo" / "holiday.mp4")
    shutil.copytree(standin.root / "YoYo", standin.root / "backup" / "YoYo")
    report = checked(standin, tmp_path)
    assert report.complete
    assert manifest_labels(report) == standin.labels
    assert len(report.unlisted) == 8
    assert {path for path in report.unlisted if path.endswith("holiday.mp4")} == {
        "YoYo/holiday.mp4",
        "backup/YoYo/holiday.mp4",
    }
    assert report.duplicates == 6


def test_broken_files_are_left_out_with_the_reason(tmp_path: Path) -> None:
    standin = STANDINS["kinetics_compressed"](tmp_path)
    broken, cut, *_ = sorted(name for name in standin.labels if name.startswith("train"))
    (standin.root / broken).write_text("this is no video\n" * 50)
    (standin.root / cut).write_bytes(video_bytes()[:200])
    report = checked(standin, tmp_path, decode_all=True)
    assert not report.complete
    reasons = dict(report.unreadable)
    assert reasons.keys() == {broken, cut}
    assert reasons[broken].startswith("not a video")
    assert "cut short" in reasons[cut]
    with (tmp_path / "manifests" / "m.unreadable.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["path"], row["reason"]) for row in rows] == [
        (str(standin.root / name), reason) for name, reason in report.unreadable
    ]
    assert manifest_labels(report).keys() == standin.labels.keys() - {broken, cut}
    assert (report.splits["train"].unreadable, report.splits["val"].unreadable) == (2, 0)


def test_files_that_break_off_are_named_but_kept(tmp_path: Path, shared: Path) -> None:
    standin = STANDINS["class_folders"](tmp_path)
    shutil.copy(shared / "videos" / "corrupted.mp4", standin.root / "brush_hair")
    report = checked(standin, tmp_path, decode_all=True)
    assert report.complete
    assert [video for video, _ in report.partial] == ["brush_hair/corrupted.mp4"]
    assert "28 of 50" in report.partial[0][1]
    assert "brush_hair/corrupted.mp4" in manifest_labels(report)


def write_damaged_in_between(path: Path) -> None:
    """100 frames of which the first, the middle and the last are sound, and some after the 20th are not."""
    noise = np.random.default_rng(0)
    with av.open(str(path), "w") as container:
        options = {"preset": "ultrafast", "bf": "0", "g": "10", "x264-params": "scenecut=0"}
        stream = container.add_stream("libx264", rate=25, options=options)
        stream.width = stream.height = 64
        for _ in range(100):
            image = noise.integers(0, 256, (64, 64, 3), np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    with av.open(str(path)) as container:
        packet = [packet for packet in container.demux(video=0) if packet.size][20]
    content = bytearray(path.read_bytes())
    middle = packet.pos + packet.size // 2
    content[middle : middle + 12] = bytes(byte ^ 0x5A for byte in content[middle : middle + 12])
    path.write_bytes(content)


def test_a_thorough_check_finds_damage_between_the_frames_of_a_quick_one(tmp_path: Path, opened: list[Path]) -> None:
    standin = STANDINS["class_folders"](tmp_path / "clips")
    write_damaged_in_between(standin.root / "brush_hair" / "damaged.mp4")
    quick = checked(standin, tmp_path, decode_all=True)
    assert (quick.unreadable, quick.partial) == ([], [])

    report = checked(standin, tmp_path, thorough=True)
    ((video, reason),) = report.partial
    assert video == "brush_hair/damaged.mp4"
    assert reason == "10 of 100 frames are damaged; the 90 others are used"
    with (tmp_path / "manifests" / "m.partial.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows == [{"path": str(standin.root / video), "reason": reason}]
    assert report.complete and video in manifest_labels(report)

    opened.clear()
    for settings in ({"thorough": True}, {"decode_all": True}, {}):  # a quick check after a thorough one reads no file
        assert checked(standin, tmp_path, **settings).to_json() == report.to_json()
    assert opened == []


def test_no_file_is_decoded_twice(tmp_path: Path, opened: list[Path]) -> None:
    standin = STANDINS["class_folders"](tmp_path / "clips")
    first, second, *_ = (standin.root / name for name in sorted(standin.labels))
    second.write_text("this is no video\n" * 50)
    before = checked(standin, tmp_path, decode_all=True, workers=3)
    assert sorted(opened) == sorted(standin.root / name for name in standin.labels)
    opened.clear()
    assert checked(standin, tmp_path, decode_all=True).to_json() == before.to_json()
    assert opened == []

    first.write_bytes(video_bytes(frames=6))  # only what has changed
    mended = checked(standin, tmp_path, decode_all=True)
    assert opened == [first]
    assert mended.unreadable == before.unreadable
    os.utime(second, ns=(1, 1))
    checked(standin, tmp_path, decode_all=True)
    assert opened == [first, second]


def test_a_run_without_decoding_remembers_what_was_unreadable(tmp_path: Path, opened: list[Path]) -> None:
    standin = STANDINS["class_folders"](tmp_path / "clips")
    broken = min(standin.labels)
    (standin.root / broken).write_text("this is no video\n" * 50)
    before = checked(standin, tmp_path, decode_all=True)
    opened.clear()
    assert checked(standin, tmp_path).to_json() == before.to_json()
    assert opened == []
    (standin.root / broken).write_bytes(video_bytes())
    assert checked(standin, tmp_path).complete
    assert files(tmp_path) == {"m.csv", "m.decoded.jsonl"}


def test_a_stopped_run_goes_on_where_it_was(tmp_path: Path, opened: list[Path]) -> None:
    standin = STANDINS["split_folders"](tmp_path / "clips")
    cache = tmp_path / "manifests" / "m.decoded.jsonl"

    def stop_at_5(done: int, total: int) -> None:
        assert total == 12
        assert len(cache.read_text().splitlines()) == done  # on the disk, whatever happens next
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        checked(standin, tmp_path, decode_all=True, workers=1, on_progress=stop_at_5)
    assert files(tmp_path) == {"m.decoded.jsonl"}
    known = [json.loads(line)[0] for line in cache.read_text().splitlines()]
    assert len(known) == 5
    damaged = [
        b'["\xff\xfe.mp4", 1, 1, null, null, "", "", false]',
        b"null",
        b'[["a"], 1, 1, null, null, "", "", true]',
    ]
    damaged += [b'["a.mp4", 1, 1, null, null, 5, {}, true]', b"[" * 100_000, b"\x80\x00"]
    with cache.open("ab") as file:
        file.write(b"\n".join([*damaged, b'["/half/a/li']))  # its end as a kill leaves it
    opened.clear()
    assert checked(standin, tmp_path, decode_all=True).complete
    assert {str(path) for path in opened} == {str(standin.root / name) for name in standin.labels} - set(known)
    opened.clear()
    assert checked(standin, tmp_path, decode_all=True).complete
    assert opened == []


def test_a_file_that_may_not_be_opened_is_tried_again(
    tmp_path: Path, opened: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    standin = STANDINS["class_folders"](tmp_path / "clips")
    locked = standin.root / min(standin.labels)
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != locked)
    report = checked(standin, tmp_path, decode_all=True)
    assert [reason for _, reason in report.unreadable] == ["cannot be opened, permission denied."]
    monkeypatch.undo()
    assert checked(standin, tmp_path, decode_all=True).complete


def test_nothing_is_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    standin = STANDINS["class_folders"](tmp_path / "clips")
    checked(standin, tmp_path)
    before = (tmp_path / "manifests" / "m.csv").read_text()
    put_video(standin.root / "brush_hair" / "9.mp4")

    def full_disk(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full_disk)
    with pytest.raises(OSError, match="No space left"):
        checked(standin, tmp_path)
    monkeypatch.undo()
    assert (tmp_path / "manifests" / "m.csv").read_text() == before
    assert files(tmp_path) == {"m.csv"}


def test_lists_are_found_where_people_keep_them(tmp_path: Path) -> None:
    lists = ["ucfTrainTestlist", "annotations", "UCF101TrainTestSplits-RecognitionTask/ucfTrainTestlist", "."]
    for number, place in enumerate(lists):
        for beside in (True, False):
            folder = tmp_path / f"{number}{beside}"
            standin = STANDINS["ucf_official"](folder)
            target = (folder if beside else standin.root) / place
            shutil.copytree(folder / "ucfTrainTestlist", folder / "lists of ucf")
            shutil.rmtree(folder / "ucfTrainTestlist")
            shutil.copytree(folder / "lists of ucf", target, dirs_exist_ok=True)
            assert [path.resolve() for path in checked(standin, folder).lists] == [target.resolve()]


def test_tables_of_other_data_sets_are_no_lists(tmp_path: Path) -> None:
    standin = STANDINS["kinetics_spaces"](tmp_path)
    put_text(tmp_path / "train.csv", ["clip_name,label", "a.mp4,abseiling"])
    kinetics_list(tmp_path / "annotations" / "kinetics_600_train.csv", [KineticsClip("x", "01234567890", "train")])
    report = checked(standin, tmp_path)
    assert report.lists == []
    assert manifest_labels(report) == standin.labels


def test_lists_may_be_named_and_labels_of_something_else_are_not_silent(tmp_path: Path) -> None:
    standin = STANDINS["kinetics_cvdf"](tmp_path)
    shutil.move(tmp_path / "annotations", tmp_path / "elsewhere")
    train, other = tmp_path / "elsewhere" / "train.csv", tmp_path / "elsewhere" / "other.csv"
    kinetics_list(other, [KineticsClip("arm wresling", "01234567890", "train")])
    report = checked(standin, tmp_path, [train, other])
    assert report.lists == [train, other]
    assert report.unknown_labels == {"arm wresling": 1}
    assert not report.complete
    assert report.splits.keys() == {"train", "all"}
    assert len(report.unlisted) == 3  # those of val
    with pytest.raises(FrosterError, match=r"No label of .*other\.csv is a class of Kinetics-400, .*'arm wresling'"):
        checked(standin, tmp_path, [other])


@pytest.mark.parametrize(("layout", "lists"), [("kinetics_cvdf", "annotations"), ("ssv2", "labels")])
def test_a_folder_of_lists_may_be_named(tmp_path: Path, layout: str, lists: str) -> None:
    standin = STANDINS[layout](tmp_path / "data")
    shutil.move(tmp_path / "data" / lists, tmp_path / "elsewhere")
    report = checked(standin, tmp_path, [tmp_path / "elsewhere"])
    assert manifest_labels(report) == standin.labels
    assert {word: count.listed for word, count in report.splits.items() if word != "all"} == standin.splits


def test_contradictory_lists(tmp_path: Path) -> None:
    standin = STANDINS["kinetics_cvdf"](tmp_path)
    clip = KineticsClip("arm wrestling", "-tr0_xY0000", "train")
    kinetics_list(tmp_path / "more.csv", [clip])
    with pytest.raises(FrosterError, match="contradict each other: -tr0_xY0000_000055_000065 is 'abseiling' and 'arm"):
        checked(standin, tmp_path, [tmp_path / "annotations" / "train.csv", tmp_path / "more.csv"])


@pytest.mark.parametrize(("seconds", "kept"), [(20, True), (2, False)])
def test_films_keep_their_segments_and_clips_do_not(tmp_path: Path, seconds: int, kept: bool) -> None:
    clips = [
        KineticsClip("abseiling", "01234567890", "train", 3, 5),
        KineticsClip("archery", "-bcdefghijk", "train", 0, 2),
    ]
    clips += [KineticsClip("archery", "01234567890", "train", 8, 10)]
    kinetics_list(tmp_path / "annotations" / "train.csv", clips)
    for clip in clips:
        put_video(tmp_path / "train" / f"{clip.id}.mp4", frames=8 * seconds)
    standin = Standin(tmp_path, "kinetics-400", {}, {})
    rows = read_manifest(checked(standin, tmp_path).manifest)
    segments = [(clip.start, clip.end) if kept else (None, None) for clip in clips]
    assert [(video.path.stem, video.label, video.start, video.end) for video in rows] == [
        (clip.id, clip.label, *segment) for clip, segment in zip(clips, segments, strict=True)
    ]


def test_segments_of_ones_own_manifest_stay(tmp_path: Path) -> None:
    put_video(tmp_path / "clips" / "a.mp4", frames=8)
    put_text(tmp_path / "list.csv", ["path,label,start,end", "clips/a.mp4,car,0,0.5", "clips/a.mp4,bus,0.5,1"])
    report = checked(Standin(tmp_path / "clips", "folder", {}, {}), tmp_path, [tmp_path / "list.csv"])
    assert [(video.label, video.start, video.end) for video in report.videos] == [("car", 0, 0.5), ("bus", 0.5, 1)]


def test_a_video_of_another_class_does_not_stand_in(tmp_path: Path) -> None:
    put_video(tmp_path / "clips" / "walking" / "7.mp4")
    put_text(tmp_path / "list.csv", ["path,label", "walking/7.mp4,walking", "running/7.mp4,running"])
    report = checked(Standin(tmp_path / "clips", "folder", {}, {}), tmp_path, [tmp_path / "list.csv"])
    assert report.missing == ["running/7.mp4"]
    assert manifest_labels(report) == {"walking/7.mp4": "walking"}


def test_a_segment_behind_the_end_of_its_film_is_unreadable(tmp_path: Path) -> None:
    clips = [KineticsClip("abseiling", name, "train", 3, 5) for name in ("01234567890", "-bcdefghijk")]
    kinetics_list(tmp_path / "annotations" / "train.csv", clips)
    put_video(tmp_path / "train" / f"{clips[0].id}.mp4", frames=80)
    put_video(tmp_path / "train" / f"{clips[1].id}.mp4", frames=8)
    report = checked(Standin(tmp_path, "kinetics-400", {}, {}), tmp_path, decode_all=True)
    ((video, reason),) = report.unreadable
    assert video == "train/-bcdefghijk.mp4"
    assert "1.00 s" in reason


def test_without_its_answers_the_test_list_has_no_classes(tmp_path: Path) -> None:
    standin = STANDINS["ssv2"](tmp_path)
    (tmp_path / "labels" / "test-answers.csv").unlink()
    report = checked(standin, tmp_path)
    assert (report.unlabeled, report.splits["test"].found) == (2, 2)
    assert manifest_labels(report) == {name: label for name, label in standin.labels.items() if name < "108"}
    assert report.complete


def test_published_videos_are_missed_without_lists(tmp_path: Path) -> None:
    standin = STANDINS["ucf_official"](tmp_path)
    shutil.rmtree(tmp_path / "ucfTrainTestlist")
    report = checked(standin, tmp_path)
    assert manifest_labels(report) == standin.labels
    assert (report.published_not_listed, report.complete) == (13_320 - 18, False)
    assert (report.splits["all"].published, report.splits["all"].found) == (13_320, 18)


def test_folders_that_are_no_class_are_left_out(tmp_path: Path) -> None:
    standin = STANDINS["kinetics_spaces"](tmp_path)
    (standin.root / "train" / "abseiling").rename(standin.root / "train" / "abseling")
    report = checked(standin, tmp_path)
    assert report.unknown_labels == {"abseling": 3}
    assert not report.complete
    assert "train/abseling" not in " ".join(manifest_labels(report))
    assert report.unlisted == []


@pytest.mark.parametrize(
    ("layout", "splits"),
    [
        ({"videos/car/1.mp4": "car", "videos/test/1.mp4": "test", "videos/a.mp4": None}, []),  # a class called test
        ({"train/car/a/1.mp4": "car", "train/bus/1.mp4": "bus", "val_set/car/2.mp4": "car"}, ["train", "val"]),
        ({"car/train/1.mp4": "car", "bus/test/2.mp4": "bus"}, ["train", "test"]),
        ({"train/car/1.mp4": "car", "train/bus/2.mp4": "bus", "train/stray.mp4": None, "4.mp4": None}, ["train"]),
        ({"TakingOff/1.mp4": "taking off", "self-defence_2/1.mp4": "self-defence 2", "up-down/3.mp4": "up down"}, []),
        ({"only/1.mp4": "only", "only/2.mp4": "only"}, []),
    ],
)
def test_class_folders_of_ones_own(tmp_path: Path, layout: dict[str, str | None], splits: list[str]) -> None:
    for name in layout:
        put_video(tmp_path / "clips" / name)
    report = checked(Standin(tmp_path / "clips", "folder", {}, {}), tmp_path)
    assert manifest_labels(report) == {name: label for name, label in layout.items() if label}
    assert report.unlisted == sorted(name for name, label in layout.items() if not label)
    assert {word for video in report.videos for word in video.splits} == set(splits)
    assert report.complete


def test_a_share_of_each_class_is_kept_for_testing(tmp_path: Path) -> None:
    numbers = {"one": 1, "two": 2, "ten": 10, "twenty": 20}
    for name, number in numbers.items():
        for clip in range(number):
            put_video(tmp_path / "clips" / name / f"{clip}.mp4")
    standin = Standin(tmp_path / "clips", "folder", {}, {})

    def tested(**settings: Any) -> set[str]:
        videos = read_manifest(checked(standin, tmp_path, **settings).manifest)
        assert {video.splits for video in videos} <= {("train",), ("test",)}
        return {f"{video.path.parent.name}/{video.path.name}" for video in videos if video.splits == ("test",)}

    first = tested(test_share=0.2)
    assert Counter(name.split("/")[0] for name in first) == {"two": 1, "ten": 2, "twenty": 4}
    assert tested(test_share=0.2) == first
    assert tested(test_share=0.2, seed=1) != first
    assert first < tested(test_share=0.5)
    for clip in range(20, 25):  # more clips: those that were tested before mostly stay
        put_video(tmp_path / "clips" / "twenty" / f"{clip}.mp4")
    assert len(first & tested(test_share=0.2)) >= len(first) - 2


@pytest.mark.skipif(sys.platform != "linux", reason="needs file names that are not UTF-8")
def test_class_folders_that_are_not_utf8_are_named(tmp_path: Path) -> None:
    put_video(tmp_path / "clips" / "good" / "0.mp4")
    put_video(tmp_path / "clips" / "b\udcff" / "0.mp4")
    with pytest.raises(FrosterError, match=r"The folder b\\udcff under .*clips is not named in UTF-8; rename it"):
        checked(Standin(tmp_path / "clips", "folder", {}, {}), tmp_path)


def test_validation_has_a_share_of_its_own(tmp_path: Path) -> None:
    for clip in range(10):
        put_video(tmp_path / "clips" / "ten" / f"{clip}.mp4")
    report = checked(Standin(tmp_path / "clips", "folder", {}, {}), tmp_path, test_share=0.2, val_share=0.3)
    assert Counter(video.splits for video in read_manifest(report.manifest)) == {
        ("train",): 5,
        ("test",): 2,
        ("val",): 3,
    }
    with pytest.raises(FrosterError, match=r"above 0 and below 1 together, not 0\.5, 0\.5"):
        checked(Standin(tmp_path / "clips", "folder", {}, {}), tmp_path, test_share=0.5, val_share=0.5)


def test_broken_clips_take_no_place_in_a_split(tmp_path: Path) -> None:
    standin = Standin(tmp_path / "clips", "folder", {}, {})
    for name, number in {"four": 4, "two": 2, "none": 1}.items():
        for clip in range(number):
            put_video(standin.root / name / f"{clip}.mp4")
    drawn = checked(standin, tmp_path, test_share=0.5)
    assert drawn.missing_classes == {"test": ["none"]}
    # Broken is what would have been drawn, the same files whether they are opened now or were before.
    broken = [video.path for video in drawn.videos if video.splits == ("test",)]
    for path in [*broken, standin.root / "none" / "0.mp4"]:
        path.write_text("no video")
    for settings in ({"decode_all": True}, {}):
        report = checked(standin, tmp_path, test_share=0.5, **settings)
        rows = Counter((video.label, *video.splits) for video in read_manifest(report.manifest))
        assert rows == {("four", "train"): 1, ("four", "test"): 1, ("two", "train"): 1}
        assert report.missing_classes == {"train": ["none"], "test": ["none", "two"]}
        assert len(report.unreadable) == 4
        assert {name: count.found for name, count in report.splits.items()} == {"train": 2, "test": 1, "all": 7}


def test_classes_that_own_splits_lack_are_named(tmp_path: Path) -> None:
    for name in ("train/car/1.mp4", "train/bus/1.mp4", "test/car/2.mp4"):
        put_video(tmp_path / "clips" / name)
    report = checked(Standin(tmp_path / "clips", "folder", {}, {}), tmp_path)
    assert (report.missing_classes, report.complete) == ({"test": ["bus"]}, True)


def test_links_to_nothing_are_missing(tmp_path: Path) -> None:
    standin = STANDINS["ucf_official"](tmp_path)
    (standin.root / "YoYo" / "v_YoYo_g99_c01.avi").symlink_to(tmp_path / "gone.avi")
    (tmp_path / "ucfTrainTestlist").rename(tmp_path / "away")
    with pytest.warns(FrosterWarning, match=r"v_YoYo_g99_c01\.avi is a link to a missing file"):
        report = checked(Standin(standin.root, "folder", {}, {}), tmp_path)
    assert (report.missing, report.complete) == (["YoYo/v_YoYo_g99_c01.avi"], False)


def test_a_folder_without_permission_is_named_and_the_others_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    standin, real = STANDINS["ucf_official"](tmp_path), os.scandir

    def scandir(path: Any) -> Any:
        if Path(str(path)).name == "YoYo":  # not by its mode: root may look into everything
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr("froster.data.datasets.os.scandir", scandir)
    with pytest.warns(FrosterWarning, match=r"No permission to read .*UCF-101/YoYo; its videos are skipped"):
        report = checked(standin, tmp_path)
    assert (report.unreadable_folders, report.complete) == (["YoYo"], False)
    assert sorted(report.missing) == [f"YoYo/v_YoYo_g{group:02}_c01.avi" for group in range(1, 7)]
    assert len(report.videos) == 12
    (tmp_path / "ucfTrainTestlist").rename(tmp_path / "away")
    with pytest.warns(FrosterWarning):
        assert not checked(Standin(standin.root, "folder", {}, {}), tmp_path).complete
    for name in ("ApplyEyeMakeup", "HandstandPushups"):
        shutil.rmtree(standin.root / name)
    with (
        pytest.warns(FrosterWarning),
        pytest.raises(FrosterError, match=r"no video file under .* that can be read"),
    ):
        checked(standin, tmp_path)


@pytest.mark.parametrize(
    ("layout", "list_file", "without_list"),
    [
        ("ssv2", "labels/validation.json", ["val"]),
        ("ucf_official", "ucfTrainTestlist/trainlist03.txt", ["train3"]),
        ("kinetics_cvdf", "annotations/train.csv", ["train"]),
        ("kinetics_cvdf", "annotations/val.csv", ["val"]),
    ],
)
def test_a_split_without_a_list_is_not_silent(
    tmp_path: Path, layout: str, list_file: str, without_list: list[str]
) -> None:
    standin = STANDINS[layout](tmp_path)
    (tmp_path / list_file).unlink()
    report = checked(standin, tmp_path)
    assert (report.splits_without_list, report.complete) == (without_list, False)
    assert (report.to_json()["splits_without_list"], report.to_json()["complete"]) == (without_list, False)


def test_all_splits_of_hmdb_are_missed(tmp_path: Path) -> None:
    standin = STANDINS["hmdb_official"](tmp_path)
    for path in (tmp_path / "testTrainMulti_7030_splits").glob("*_test_split3.txt"):
        path.unlink()
    report = checked(standin, tmp_path)
    assert (report.splits_without_list, report.complete) == (["train3", "test3"], False)


def test_a_split_may_be_left_out_on_purpose(tmp_path: Path) -> None:
    standin = STANDINS["kinetics_cvdf"](tmp_path)
    lists = standin.root / "annotations"
    named = checked(standin, tmp_path, [lists / "val.csv"])
    assert (named.splits_without_list, named.complete, len(named.unlisted)) == (["train"], True, 9)
    (lists / "train.csv").unlink()
    shutil.rmtree(standin.root / "train")
    report = checked(standin, tmp_path)
    assert (report.splits_without_list, report.complete, len(report.videos)) == (["train"], True, 3)
    put_video(standin.root / "val" / "holiday.mp4")
    assert checked(standin, tmp_path).complete
    put_video(standin.root / "more" / "holiday2.mp4")  # in no folder of a split: it may be of any
    assert not checked(standin, tmp_path).complete


def test_two_spellings_of_a_folder_are_one_class(tmp_path: Path) -> None:
    put_video(tmp_path / "clips" / "brush_hair" / "1.mp4")
    put_video(tmp_path / "clips" / "Brush Hair" / "2.mp4")
    put_video(tmp_path / "clips" / "kick" / "2.mp4")
    report = checked(Standin(tmp_path / "clips", "folder", {}, {}), tmp_path)
    assert Counter(video.label for video in report.videos) == {"brush hair": 2, "kick": 1}


def test_a_manifest_inside_the_folder_can_be_moved_with_it(tmp_path: Path) -> None:
    standin = STANDINS["class_folders"](tmp_path / "clips")
    check_data(DATASETS["folder"], standin.root, [], standin.root / "all.csv")
    (tmp_path / "clips").rename(tmp_path / "moved")
    rows = read_manifest(tmp_path / "moved" / "all.csv")
    assert rows[0] == LabeledVideo(tmp_path / "moved" / "brush_hair" / "0.mp4", "brush hair")
    assert all(video.path.is_file() for video in rows)


@pytest.mark.parametrize(
    ("dataset", "files", "message"),
    [
        ("folder", ["1.mp4", "2.mp4"], "no class folders: arrange the videos as .*/CLASS/VIDEO.mp4 or .*`lists=`"),
        ("folder", ["train/1.mp4", "test/2.mp4"], "no class folders"),
        (
            "ssv2",
            ["videos/1.webm"],
            r"is a class of Something-Something V2 \('videos'\), .*no list such as labels/train",
        ),
        ("kinetics-400", ["train/1.mp4"], "no class folders, and there is no list such as annotations/train.csv"),
        ("ucf-101", ["walking dogs/1.mp4"], "No folder .* is a class of UCF-101 .*use `dataset='folder'`"),
        ("ucf-101", ["notes.txt"], "no video file under"),
    ],
)
def test_folders_without_classes(tmp_path: Path, dataset: str, files: list[str], message: str) -> None:
    for name in files:
        put_text(tmp_path / "data" / name, [])
    with pytest.raises(FrosterError, match=message):
        checked(Standin(tmp_path / "data", dataset, {}, {}), tmp_path)
    assert not (tmp_path / "manifests").exists()


def test_wrong_folders_and_lists(tmp_path: Path) -> None:
    standin = STANDINS["ucf_official"](tmp_path)
    put_video(tmp_path / "else" / "clip.mp4")
    with pytest.raises(FrosterError, match=r"None of the 18 videos .* is among the 1 files under .*else, for example"):
        checked(Standin(tmp_path / "else", "ucf-101", {}, {}), tmp_path)
    with pytest.raises(FrosterError, match=r"no folder .*nowhere"):
        checked(Standin(tmp_path / "nowhere", "ucf-101", {}, {}), tmp_path)
    with pytest.raises(FrosterError, match="for folders without lists"):
        checked(standin, tmp_path, test_share=0.2)
    splits = STANDINS["split_folders"](tmp_path / "splits")
    with pytest.raises(FrosterError, match="has folders for its splits; leave out `test_share` and `val_share`"):
        checked(splits, tmp_path, test_share=0.2)
    for video in splits.labels:
        (splits.root / video).write_text("no video\n" * 50)
    with pytest.raises(FrosterError, match=r"None of the 12 videos can be read.*m\.unreadable\.csv"):
        checked(splits, tmp_path, decode_all=True)
    assert "m.csv" not in files(tmp_path)


def test_the_real_test_list_of_ucf(tmp_path: Path, shared: Path) -> None:
    source = shared / "splits" / "froster_csv" / "ucf101_testlist01.txt"
    for name in source.read_text().split():
        put_text(tmp_path / "videos" / name, [])
    report = checked(Standin(tmp_path / "videos", "ucf-101", {}, {}), tmp_path, [source])
    assert (report.splits["test1"].found, report.splits["test1"].published, report.missing) == (3783, 3783, [])
    assert report.empty_classes == []
    assert len({video.label for video in read_manifest(report.manifest)}) == 101
