"""Pictures and folders of pictures as videos, and the list of videos that a user's words stand for."""

import os
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from froster.errors import FrosterError, FrosterWarning, VideoError
from froster.video import decode_frames, find_videos, load_video
from froster.video.limits import set_max_pixels
from froster.video.stream import SlidingWindows, read_windows
from froster.video.transforms import Preprocessing


def save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)
    return path


def test_a_picture_is_a_video_of_one_frame(tmp_path, picture):
    clips = load_video(save(tmp_path / "still.png", picture(9)), preprocess=Preprocessing(32))
    assert clips.frames.shape == (1, 8, 3, 32, 32) and clips.indices.tolist() == [[0] * 8]
    assert clips.warning is None


def test_a_picture_is_turned_by_its_exif_tag(tmp_path, picture, number_of):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held so that the picture must be turned a quarter clockwise
    Image.fromarray(picture(300)).rotate(90).save(tmp_path / "held.jpg", exif=exif)
    assert number_of(decode_frames(tmp_path / "held.jpg").frames[0]) == 300


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "LA", "1", "I;16"])
def test_picture_modes(tmp_path, picture, number_of, mode):
    gray = Image.fromarray(picture(77)).convert("L")
    if mode == "I;16":
        image = Image.fromarray(np.asarray(gray).astype(np.uint16) << 8)
    else:
        image = gray.convert("RGB").convert(mode) if mode != "1" else gray.point(lambda v: 255 * (v > 128), "1")
    image.save(tmp_path / "mode.png")
    assert number_of(decode_frames(tmp_path / "mode.png").frames[0]) == 77


@pytest.mark.parametrize("name", ["moving.webp", "moving.png", "moving.gif"])
def test_moving_pictures(tmp_path, picture, number_of, name):
    images = [Image.fromarray(picture(number)) for number in (1, 2, 3, 4)]
    durations = [100, 100, 100, 1700]  # the fourth is shown for most of the time
    images[0].save(tmp_path / name, save_all=True, append_images=images[1:], duration=durations, lossless=True)
    taken = decode_frames(tmp_path / name)
    assert [number_of(frame) for frame in taken.frames] == [1, 2, 3, 4]
    np.testing.assert_allclose(taken.times, [0, 0.1, 0.2, 0.3], atol=1e-3)
    assert load_video(tmp_path / name, frames=4, preprocess=Preprocessing(32)).indices.tolist() == [[2, 3, 3, 3]]


def test_a_default_image_that_is_no_frame_is_left_out(tmp_path, picture, number_of):
    images = [Image.fromarray(picture(number)) for number in (9, 1, 2, 3)]
    path = tmp_path / "hidden.png"
    images[0].save(path, save_all=True, append_images=images[1:], duration=[500, 1000, 250], default_image=True)
    taken = decode_frames(path)
    assert [number_of(frame) for frame in taken.frames] == [1, 2, 3]
    np.testing.assert_allclose(taken.times, [0, 0.5, 1.5], atol=1e-6)
    (window,) = read_windows(path, SlidingWindows(2.0, 2.0, 3), number_of)
    assert [number for _, number in window.frames] == [1, 2, 3] and window.end == pytest.approx(1.75)


@pytest.mark.parametrize("name", ["moving.webp", "moving.png", "moving.tiff"])
def test_an_animated_picture_is_opened_once_to_decode_it(tmp_path, picture, monkeypatch, name):
    images = [Image.fromarray(picture(number)) for number in range(40)]
    images[0].save(tmp_path / name, save_all=True, append_images=images[1:], duration=50, lossless=True)
    opened, original = [], Image.open
    monkeypatch.setattr(Image, "open", lambda *args, **options: opened.append(1) or original(*args, **options))
    decode_frames(tmp_path / name)
    assert len(opened) == 2  # the first time for the times alone
    opened.clear()
    assert len(list(read_windows(tmp_path / name, SlidingWindows(0.2, 0.1, 4), lambda image: 0))) in (19, 1)
    assert len(opened) == 2


def test_an_animated_picture_that_breaks_off(tmp_path, picture, number_of):
    images = [Image.fromarray(picture(number)) for number in range(10)]
    images[0].save(tmp_path / "cut.png", save_all=True, append_images=images[1:], duration=50)
    content = (tmp_path / "cut.png").read_bytes()
    at = -1
    for _ in range(7):
        at = content.index(b"fdAT", at + 1)
    (tmp_path / "cut.png").write_bytes(content[: at + 10])  # in the middle of frame 7
    taken = decode_frames(tmp_path / "cut.png")
    assert [number_of(frame) for frame in taken.frames] == list(range(7))
    assert taken.warning == "cut.png: 1 of 8 images cannot be read; the others are used"
    (tmp_path / "cut.png").write_bytes(content[: at - 4 - 38])  # between frames 6 and 7
    taken = decode_frames(tmp_path / "cut.png")
    assert [number_of(frame) for frame in taken.frames] == list(range(7))
    assert taken.warning == "cut.png: breaks off after 7 of 10 frames"
    with pytest.warns(FrosterWarning, match=r"cut\.png: breaks off after 7 of 10 frames"):
        list(read_windows(tmp_path / "cut.png", SlidingWindows(2.0, 1.0, 4), number_of))


def test_pictures_larger_than_the_limit_are_refused_until_it_is_raised(tmp_path, monkeypatch):
    monkeypatch.delenv("FROSTER_MAX_PIXELS", raising=False)
    Image.new("1", (8192, 4321)).save(tmp_path / "large.png")
    with pytest.raises(VideoError, match=r"8192 x 4321 exceed the maximum of 35389440 pixels.*FROSTER_MAX_PIXELS"):
        load_video(tmp_path / "large.png", preprocess=Preprocessing(32))
    with pytest.raises(VideoError, match="8192 x 4321"):
        list(read_windows(tmp_path / "large.png", SlidingWindows(2.0, 1.0, 8), lambda image: 0))
    monkeypatch.setenv("FROSTER_MAX_PIXELS", "")
    set_max_pixels(8192 * 4321)
    assert load_video(tmp_path / "large.png", preprocess=Preprocessing(32)).frames.shape == (1, 8, 3, 32, 32)
    with pytest.raises(ValueError, match="1 or more, not 0"):
        set_max_pixels(0)
    monkeypatch.setenv("FROSTER_MAX_PIXELS", "plenty")
    with pytest.raises(FrosterError, match="FROSTER_MAX_PIXELS must be a whole number of pixels"):
        load_video(tmp_path / "large.png", preprocess=Preprocessing(32))


def test_a_folder_of_pictures_is_in_natural_order(tmp_path, picture, number_of):
    for number in (10, 9, 2, 1):
        save(tmp_path / f"frame_{number}.png", picture(number))
    (tmp_path / ".hidden.png").write_bytes(b"")
    taken = decode_frames(tmp_path)
    assert [number_of(frame) for frame in taken.frames] == [1, 2, 9, 10]
    np.testing.assert_allclose(taken.times, np.arange(4) / 30, atol=1e-6)


def test_unreadable_pictures_are_left_out_and_said(tmp_path, picture, number_of):
    for number in range(10):
        save(tmp_path / f"{number}.png", picture(number))
    (tmp_path / "3.png").write_bytes(b"broken")
    whole = (tmp_path / "7.png").read_bytes()
    (tmp_path / "7.png").write_bytes(whole[: len(whole) // 2])
    taken = decode_frames(tmp_path)
    assert [number_of(frame) for frame in taken.frames] == [0, 1, 2, 4, 5, 6, 8, 9]
    assert taken.warning == f"{tmp_path.name}: 2 of 10 images cannot be read; the others are used"
    for number in range(10):
        (tmp_path / f"{number}.png").write_bytes(b"broken")
    with pytest.raises(VideoError, match="cannot be read"):
        load_video(tmp_path)


@pytest.fixture
def tree(tmp_path, picture):
    for name in (
        "b/clip10.mp4",
        "b/clip2.MP4",
        "a.mkv",
        "notes.txt",
        ".hidden.mp4",
        "c/poster.jpg",
        "c/d.webm",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    for number in range(2):
        save(tmp_path / "b" / "frames" / f"{number}.jpg", picture(number))
    (tmp_path / "nothing").mkdir()
    return tmp_path


def test_find_videos_in_folders(tree):
    found = [str(path.relative_to(tree)) for path in find_videos([tree])]
    assert found == ["a.mkv", "b/clip2.MP4", "b/clip10.mp4", "b/frames", "c/d.webm"]


def test_find_videos_by_name_and_pattern(tree):
    assert find_videos([tree / "notes.txt"]) == [tree / "notes.txt"]
    assert find_videos([str(tree / "b" / "*.mp4")]) == [tree / "b" / "clip10.mp4"]
    assert find_videos([str(tree / "**" / "*.webm")]) == [tree / "c" / "d.webm"]
    assert find_videos([tree / "a.mkv", tree, tree / "a.mkv"])[0] == tree / "a.mkv"
    assert len(find_videos([tree / "a.mkv", tree])) == 5
    assert find_videos([tree / "b" / "frames"]) == [tree / "b" / "frames"]


UNUSUAL = {
    "clip.asf": "asf",
    "clip.mxf": "mxf",
    "clip.divx": "avi",
    "clip.m2v": "mpeg2video",
    "clip.h264": "h264",
    "clip.265": "hevc",
    "clip.ogg": "ogg",
    "clip.nut": "nut",
    "clip.mjpeg": "mjpeg",
    "clip.3g2": "3g2",
    "clip.vob": "vob",
    "clip.ivf": "ivf",
}
CODECS = {"mpeg2video": "mpeg2video", "mjpeg": "mjpeg", "hevc": "libx265", "ivf": "libvpx", "ogg": "libvpx"}
CODECS |= {"mxf": "mpeg2video", "vob": "mpeg2video", "asf": "mpeg4", "avi": "mpeg4"}


@pytest.mark.parametrize("name", UNUSUAL)
def test_unusual_suffixes_are_found_in_folders_and_read(video, tmp_path, number_of, name):
    codec = CODECS.get(UNUSUAL[name], "libx264")
    pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    options = {"x265-params": "log-level=none"} if codec == "libx265" else None
    written = video(name, 12, codec=codec, format=UNUSUAL[name], pix_fmt=pix_fmt, options=options, rate=25)
    (found,) = find_videos([tmp_path])
    assert found == written
    assert [number_of(frame) for frame in decode_frames(found).frames] == list(range(12))


def test_digital_video_of_tapes(tmp_path):
    with av.open(str(tmp_path / "tape.dv"), "w") as container:
        stream = container.add_stream("dvvideo", rate=25)
        stream.width, stream.height, stream.pix_fmt = 720, 576, "yuv420p"
        for number in range(5):
            frame = av.VideoFrame.from_ndarray(np.full((576, 720, 3), 40 * number, np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    (found,) = find_videos([tmp_path])
    frames = decode_frames(found).frames
    np.testing.assert_allclose(frames.mean((1, 2, 3)), 40 * np.arange(5), atol=3)


def test_a_link_to_nothing_in_a_folder_is_said(tmp_path, tree):
    (tree / "b" / "clip3.mp4").symlink_to(tmp_path / "gone.mp4")
    assert tree / "b" / "clip3.mp4" in find_videos([tree])
    with pytest.raises(VideoError, match=r"clip3\.mp4: a link to .*gone\.mp4, which does not exist"):
        load_video(tree / "b" / "clip3.mp4")


def test_find_videos_says_what_is_missing(tree):
    for name, reason in (
        ("absent.mp4", "there is no such file or folder"),
        ("nothing", "contains no video"),
        ("*.mov", "no video matches"),
    ):
        with pytest.raises(VideoError, match=reason) as caught:
            find_videos([tree / "a.mkv", tree / name])
        assert name in str(caught.value)


def test_a_link_back_up_is_not_followed_for_ever(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "clip.mp4").touch()
    (tmp_path / "inner" / "up").symlink_to(tmp_path)
    assert find_videos([tmp_path]) == [tmp_path / "inner" / "clip.mp4"]


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    os.mkfifo(tmp_path / "pictures" / "0.png")
    with pytest.raises(VideoError, match="without images"):
        load_video(tmp_path / "pictures")
    os.mkfifo(tmp_path / "pipe.mp4")
    with pytest.raises(VideoError, match="neither a file nor a folder"):
        load_video(tmp_path / "pipe.mp4")


def test_unknown_home_and_empty_name(tmp_path: Path) -> None:
    with pytest.raises(VideoError, match="no such file"):
        find_videos(["~nobody-of-this-name/clip.mp4"])
    with pytest.raises(VideoError, match="name is empty"):
        find_videos([""])
