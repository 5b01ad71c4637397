"""Puppets as files: real H.264, a manifest, a contact sheet, and the command that writes them."""

import csv
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from froster.cli.puppets import puppets
from froster.data.puppets import action_index, draw_video
from froster.errors import FrosterError


def decoded(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert stream.average_rate == 12
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(stream)])


def test_command_writes_videos_manifest_and_sheet(tmp_path: Path) -> None:
    puppets(
        tmp_path,
        actions="kicking, doing a handstand",
        videos=2,
        frames=7,
        fps=12,
        size=64,
        gap="easy",
        seed=3,
    )
    with (tmp_path / "manifest.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["path"] for row in rows] == [
        f"{folder}/{seed}.mp4" for folder in ("kicking", "doing-a-handstand") for seed in (3, 4)
    ]
    assert [row["label"] for row in rows] == ["kicking"] * 2 + ["doing a handstand"] * 2
    video = decoded(tmp_path / "kicking" / "3.mp4")
    drawn = draw_video(3, action_index("kicking"), frames=7, size=64, gap="easy")
    assert video.shape == drawn.shape
    assert np.abs(video.astype(int) - drawn).mean() < 6  # 4:2:0 color and crf 18 on a 64-pixel picture
    with Image.open(tmp_path / "contact_sheet.png") as sheet:
        assert sheet.width > 1000 and np.asarray(sheet).std() > 10
    assert not list(tmp_path.rglob("*.partial"))


def test_files_are_the_same_twice(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        puppets(tmp_path / folder, actions="bowing", videos=1, frames=6, size=64)
    for name in ("manifest.csv", "contact_sheet.png", "bowing/0.mp4"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_unknown_values_are_told_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(FrosterError, match="did you mean 'walking'"):
        puppets(tmp_path / "out", actions="kicking, waking")
    with pytest.raises(FrosterError, match="did you mean 'hard'"):
        puppets(tmp_path / "out", gap="harder")
    with pytest.raises(FrosterError, match="even size"):
        puppets(tmp_path / "out", size=65)
    assert not (tmp_path / "out").exists()
