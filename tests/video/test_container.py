"""Whatever a decoder raises is a `VideoError` with the file and the reason; what others raise is theirs."""

import ast
from pathlib import Path

import av
import numpy as np
import pytest

from froster.errors import FrosterWarning, VideoError
from froster.video import container, decode, decode_frames, load_video
from froster.video.stream import SlidingWindows, read_windows, seconds_of

ROOT = Path(__file__).parents[2]
TITLES = {"shift_jis": "動画の題名", "latin-1": "Fußball für Anfänger", "utf-16-le": "動画", "koi8-r": "Видео"}


@pytest.fixture
def tagged(video):
    """`tagged("name.avi", "shift_jis")` writes a video of 30 frames whose title is in that encoding."""

    def write(name, encoding):
        title = TITLES[encoding].encode(encoding)
        path = video(name, 30, title="T" * len(title))
        data = path.read_bytes()
        assert data.count(b"T" * len(title)) == 1
        path.write_bytes(data.replace(b"T" * len(title), title))
        with pytest.raises(UnicodeDecodeError), av.open(str(path)) as opened:
            print(opened.metadata)
        return path

    return write


@pytest.mark.parametrize("name", ["a.avi", "a.mp4", "a.mkv", "a.flv"])
@pytest.mark.parametrize("encoding", ["shift_jis", "latin-1"])
def test_tags_that_are_not_utf_8(tagged, number_of, name, encoding):
    path = tagged(name, encoding)
    taken = decode_frames(path)
    assert [number_of(frame) for frame in taken.frames] == list(range(30)) and taken.warning is None
    windows = list(read_windows(path, SlidingWindows(0.5, 0.5, 2), number_of))
    assert [number for window in windows for _, number in window.frames] == [3, 11, 18, 26]
    assert seconds_of(path) == pytest.approx(1, abs=0.1)


def test_the_handed_file_with_a_shift_jis_title(shared):
    path = shared / "files_that_fail" / "shiftjis-title.avi"
    assert load_video(path).warning is None
    assert len(list(read_windows(path, SlidingWindows(0.5, 0.5, 2), lambda image: 0))) >= 1


def test_every_file_is_opened_with_tags_of_any_encoding():
    for path in [*ROOT.glob("src/**/*.py"), *ROOT.glob("benchmarks/**/*.py")]:
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(call, ast.Call) and ast.unparse(call.func) == "av.open":
                writes = any(isinstance(value, ast.Constant) and value.value == "w" for value in call.args)
                assert writes or any(ast.unparse(word.value) == "TAG_OPTIONS" for word in call.keywords), path


ERRORS = [
    UnicodeDecodeError("utf-8", b"\x83", 0, 1, "invalid start byte"),
    ValueError("a plane is too small"),
    MemoryError(),
    RecursionError("maximum recursion depth exceeded"),
    OverflowError("int too big"),
    KeyError("side data"),
    AssertionError(),
    av.FFmpegError(1094995529, "Invalid data"),
    NotImplementedError("pixel format"),
    RuntimeError("two\nlines"),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("place", ["_survey", "_rgb", "_check_readable"])
def test_an_exception_of_any_class_is_a_video_error(video, monkeypatch, error, place):
    def fail(*args):
        raise error

    path = video("odd.mp4", 30)
    monkeypatch.setattr(decode, place, fail)
    for read in (lambda: load_video(path), lambda: decode_frames(path, [3])):
        with pytest.raises(VideoError, match=r"odd\.mp4: ") as caught:
            read()
        assert "\n" not in str(caught.value)
    if place != "_survey":
        with pytest.raises(VideoError, match=r"odd\.mp4: "):
            list(read_windows(path, SlidingWindows(1, 1, 2), lambda image: 0))


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_passes(video, monkeypatch, error):
    def interrupt(*args):
        raise error

    path = video("sound.mp4", 30)
    monkeypatch.setattr(decode, "_rgb", interrupt)
    with pytest.raises(error):
        load_video(path)
    with pytest.raises(error):
        list(read_windows(path, SlidingWindows(1, 1, 2), lambda image: 0))


def test_an_exception_of_the_callers_function_is_not_the_files(video):
    def fail(argument):
        raise ZeroDivisionError

    path = video("sound.mp4", 30)
    with pytest.raises(ZeroDivisionError):
        decode.read(path, fail, lambda image: image)
    with pytest.raises(ZeroDivisionError):
        decode.read(path, lambda timeline: np.array([0]), fail)
    with pytest.raises(ZeroDivisionError):
        list(read_windows(path, SlidingWindows(1, 1, 2), fail))


def test_memory_that_runs_out_in_the_callers_function_is_the_files(video):
    def fail(image):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes")

    with pytest.raises(VideoError, match=r"sound\.mp4: there is not enough memory"):
        decode.read(video("sound.mp4", 30), lambda timeline: np.array([0]), fail)


def test_a_warning_made_an_error_stays_a_warning():
    with pytest.raises(FrosterWarning), container.decoder_errors("a.mp4"):
        raise FrosterWarning


def test_names_that_no_file_can_have():
    for name in ("a\0b.mp4", "a" * 5000 + ".mp4"):
        with pytest.raises(VideoError):
            load_video(name)
