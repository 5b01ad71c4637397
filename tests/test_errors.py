"""What a caller can do with an error: catch it as Python's own, and read what it is about."""

import pickle
from pathlib import Path

import numpy as np
import pytest

import froster
from froster.data.manifests import read_manifest, read_text
from froster.video import decode_frames, find_videos, load_video
from froster.video.stream import SlidingWindows

WRONG_ARGUMENTS = {
    "views": lambda: froster.load_video("clip.mp4", views=0),
    "sampling": lambda: froster.load_video("clip.mp4", sampling="middle"),  # type: ignore[arg-type]
    "student": lambda: froster.load_model("puppets", student="vclap"),
    "window": lambda: SlidingWindows(0, 1, 8),
    "labels": lambda: froster.Recognizer("puppets", []),
    "precision": lambda: froster.Recognizer("puppets", ["waving"], precision="float3"),
    "frames": lambda: froster.Recognizer("puppets", ["waving", "bowing"]).predict(np.zeros((2, 8, 8, 3), np.float32)),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("wrong", WRONG_ARGUMENTS)
def test_wrong_arguments_are_value_errors(wrong: str) -> None:
    with pytest.raises(ValueError, match=r"\w") as caught:
        WRONG_ARGUMENTS[wrong]()
    assert isinstance(caught.value, froster.FrosterError)


def test_a_video_error_knows_the_path_and_the_reason(tmp_path: Path) -> None:
    empty = tmp_path / "a: b.mp4"
    empty.touch()
    folder = tmp_path / "pictures"
    folder.mkdir()
    (folder / "1.png").write_bytes(b"\x89PNG not really")
    cases = {
        empty: (empty, "the file is empty"),
        tmp_path / "missing.mp4": (tmp_path / "missing.mp4", "there is no such file"),
        folder: (folder / "1.png", "the image cannot be read (of no known format)"),
    }
    for source, (path, reason) in cases.items():
        for read in (load_video, decode_frames):
            with pytest.raises(froster.VideoError) as caught:
                read(source)
            error = caught.value
            assert (error.path, error.reason) == (str(path), reason)
            assert str(error) == f"{path}: {reason}."
            copy = pickle.loads(pickle.dumps(error))
            assert (copy.path, copy.reason, str(copy)) == (error.path, error.reason, str(error))
    with pytest.raises(froster.VideoError) as caught:
        find_videos([tmp_path / "*.avi"])
    assert caught.value.path == str(tmp_path / "*.avi")


def test_errors_within_errors_keep_their_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("froster.data.manifests.MAX_TEXT_BYTES", 3)
    large = tmp_path / "clips.csv"
    large.write_text("video,label\n")
    with pytest.raises(froster.FrosterError, match="larger than 0 MiB"):
        read_text(large, "It")
    monkeypatch.undo()
    large.write_bytes(b"video,label\n\xff\xff,a\n")
    with pytest.raises(froster.FrosterError, match="not UTF-8 text"):
        read_text(large, "It")
    with pytest.raises(froster.FrosterError, match="null byte"):
        read_manifest(Path("a\0b.csv"))
