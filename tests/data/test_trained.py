"""Videos that were trained on are known again, whatever they are called, and nothing else is taken for one."""

import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from froster.data.manifests import LabeledVideo
from froster.data.trained import TrainedVideos, file_digest, note_trained_videos, warn_of_trained_videos
from froster.errors import FrosterError, FrosterWarning


def write(path: Path, seed: int, size: int = 1000) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(np.random.default_rng(seed).bytes(size))
    return path


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    return [write(tmp_path / f"{number}.mp4", number) for number in range(4)]


def test_copies_and_renamed_files_are_the_same_video(files: list[Path], tmp_path: Path) -> None:
    trained = TrainedVideos.of([LabeledVideo(path, "a") for path in files[:2]], "train.csv")
    copied = tmp_path / "elsewhere" / "other name.avi"
    copied.parent.mkdir()
    shutil.copy(files[1], copied)
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(files[0].read_bytes()[:-1])
    tested = [LabeledVideo(path, "b") for path in (files[0], copied, files[2], cut, tmp_path / "missing.mp4")]
    assert trained.among(tested) == [True, True, False, False, False]


def test_a_large_file_is_told_by_its_size_and_its_beginning(tmp_path: Path) -> None:
    whole = write(tmp_path / "a.mp4", 0, 200_000)
    assert file_digest(whole) == file_digest(Path(shutil.copy(whole, tmp_path / "b.mp4")))
    longer = write(tmp_path / "c.mp4", 0, 200_001)
    assert longer.read_bytes()[:65536] == whole.read_bytes()[:65536]
    assert file_digest(longer) != file_digest(whole)


def test_folders_of_pictures_are_videos_too(tmp_path: Path) -> None:
    for folder, seeds in (("a", (1, 2)), ("same", (1, 2)), ("longer", (1, 2, 3)), ("other", (5, 2))):
        for number, seed in enumerate(seeds):
            write(tmp_path / folder / f"{number:03d}.jpg", seed)
    (tmp_path / "empty").mkdir()
    trained = TrainedVideos.of([LabeledVideo(tmp_path / "a", "a")], "train.csv")
    names = ("a", "same", "longer", "other", "empty")
    assert trained.among([LabeledVideo(tmp_path / name, "a") for name in names]) == [True, True, False, False, False]


@pytest.mark.parametrize(
    ("trained", "tested", "expected"),
    [
        ((None, None), (1.0, 2.0), True),
        ((1.0, 2.0), (None, None), True),
        ((1.0, 2.0), (1.0, 2.0), True),
        ((1.0, 2.0), (1.9, 5.0), True),
        ((1.0, 2.0), (2.0, 5.0), False),
        ((1.0, 2.0), (None, 1.0), False),
        ((3.0, None), (None, 3.0), False),
        ((3.0, None), (7.0, None), True),
    ],
)
def test_segments_are_trained_on_where_they_share_frames(
    files: list[Path], trained: tuple[float, float], tested: tuple[float, float], expected: bool
) -> None:
    known = TrainedVideos.of([LabeledVideo(files[0], "a", (), *trained)], "train.csv")
    assert known.among([LabeledVideo(files[0], "a", (), *tested), LabeledVideo(files[1], "a", (), *tested)]) == [
        expected,
        False,
    ]


def test_what_is_stored_is_read_again_and_names_no_video(files: list[Path]) -> None:
    rows = [LabeledVideo(files[0], "a"), LabeledVideo(files[1], "a"), LabeledVideo(files[2], "a", (), 1.5)]
    trained = TrainedVideos.of([*rows, LabeledVideo(files[2], "a", (), 0.0, 1.0)], "train.csv")
    text = json.dumps(trained.to_json(), allow_nan=False)
    assert TrainedVideos.from_json(json.loads(text)) == trained
    assert "mp4" not in text and len(trained.to_json()["files"]) == 2 * 8
    assert list(trained.segments.values()) == [((0.0, 1.0), (1.5, math.inf))]
    other = TrainedVideos.of([LabeledVideo(files[2], "a", (), 3.0, 4.0), rows[0]], "other.csv")
    both = trained | other
    assert both.manifests == ("train.csv", "other.csv") and both.files == trained.files
    assert list(both.segments.values()) == [((0.0, 1.0), (1.5, math.inf), (3.0, 4.0))]


@pytest.mark.parametrize(
    "content",
    [
        7,
        [],
        {},
        {"manifests": [], "files": ""},
        {"manifests": "a.csv", "files": "", "segments": {}},
        {"manifests": ["a" * 5000], "files": "", "segments": {}},
        {"manifests": [], "files": "AAAAAAA", "segments": {}},
        {"manifests": [], "files": "AAAA", "segments": {}},
        {"manifests": [], "files": "é" * 8, "segments": {}},
        {"manifests": [], "files": 8, "segments": {}},
        {"manifests": [], "files": "", "segments": []},
        {"manifests": [], "files": "", "segments": {"AAAAAAAA": [[2, 1]]}},
        {"manifests": [], "files": "", "segments": {"AAAAAAAA": [["a", 1]]}},
        {"manifests": [], "files": "", "segments": {"AAAAAAAA": [[float("nan"), 1]]}},
        {"manifests": [], "files": "", "segments": {"AAAAAAAA": 1}},
        {"manifests": [], "files": "", "segments": {"AAAA": [[0, 1]]}},
    ],
)
def test_what_is_not_of_this_form_is_refused(content: Any) -> None:
    with pytest.raises((ValueError, TypeError)):
        TrainedVideos.from_json(content)


def test_tests_say_how_much_was_trained_on(files: list[Path]) -> None:
    rows = [LabeledVideo(path, "a", (split,)) for path, split in zip(files, ("train",) * 3 + ("test",), strict=True)]
    trained = TrainedVideos.of(rows[:3], "clips.csv")
    said = (
        r"all\.csv: 3 of 4 tested videos \(75 %\) are among the model's training videos \(clips\.csv\).*"
        "test the split 'test' instead"
    )
    with pytest.warns(FrosterWarning, match=said):
        found = warn_of_trained_videos(trained, rows, "all.csv")
    assert found == {"videos": 3, "share": 0.75, "manifests": ["clips.csv"]}
    assert warn_of_trained_videos(trained, rows[3:], "all.csv") == {
        "videos": 0,
        "share": 0.0,
        "manifests": ["clips.csv"],
    }
    assert warn_of_trained_videos(None, rows, "all.csv") is None
    with pytest.warns(
        FrosterWarning, match=r"every tested video \(2\) is among .*; test videos of another split instead"
    ):
        warn_of_trained_videos(trained, rows[:2], "all.csv")


def test_a_protocol_notes_trained_videos_and_refuses_nothing_else(files: list[Path]) -> None:
    rows = [LabeledVideo(path, "a") for path in files]
    trained = TrainedVideos.of(rows[:1], "clips.csv")
    with pytest.warns(FrosterWarning, match="UCF-101: 1 of 4 tested videos"):
        [note] = note_trained_videos(trained, rows, "UCF-101")
    assert "25 %" in note
    assert note_trained_videos(trained, rows[1:], "UCF-101") == note_trained_videos(None, rows, "UCF-101") == []
    with pytest.raises(FrosterError, match=r"UCF-101: every tested video \(1\) is among .*; test others instead"):
        note_trained_videos(trained, rows[:1], "UCF-101")
