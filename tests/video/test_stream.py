"""Windows must hold the very frames that `load_video` takes of a segment, each decoded and converted once."""

import os
import threading
from contextlib import contextmanager, suppress
from fractions import Fraction
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from PIL import Image

from froster.errors import FrosterError, FrosterWarning, VideoError
from froster.video import decode, decode_frames, load_video
from froster.video.stream import SlidingWindows, is_stream, read_windows
from froster.video.transforms import Preprocessing

VARIABLE = list(np.cumsum(np.random.default_rng(0).integers(10, 90, 200)).tolist())  # milliseconds
OPEN_GOP = {"preset": "ultrafast", "bf": "3", "g": "40", "x264-params": "open-gop=1:b-pyramid=normal:scenecut=0"}
FILES = {
    "b_frames.mp4": {},
    "b_frames.mkv": {},
    "b_frames.ts": {},
    "vp9.webm": {"codec": "libvpx-vp9", "options": {"deadline": "realtime", "cpu-used": "8", "g": "40"}},
    "vp8.webm": {"codec": "libvpx", "options": {"deadline": "realtime", "auto-alt-ref": "1", "lag-in-frames": "8"}},
    "av1.mp4": {"codec": "libsvtav1", "options": {"preset": "12", "g": "40"}},
    "open_gop.mkv": {"options": OPEN_GOP},
    "plain.avi": {"codec": "mpeg4", "options": {"g": "40"}},
    "b_frames.avi": {},
    "mpeg4.avi": {"codec": "mpeg4", "options": {"bf": "2", "g": "40"}},
    "raw.h264": {},
    "sound.mp4": {"audio": 6.7},
    "variable.mp4": {"ticks": VARIABLE, "tick": Fraction(1, 1000)},
    "variable.mkv": {"ticks": VARIABLE, "tick": Fraction(1, 1000)},
    "slow.mp4": {"ticks": list(range(0, 200 * 77, 77)), "tick": Fraction(1, 1000)},
    "starts_late.mkv": {"ticks": list(range(45, 245)), "tick": Fraction(1, 30)},
    "starts_early.mp4": {
        "ticks": list(range(-45, 155)),
        "tick": Fraction(1, 30),
        "container_options": {"avoid_negative_ts": "disabled", "use_editlist": "1"},
    },
    "fragmented.mp4": {"container_options": {"movflags": "frag_keyframe+empty_moov"}},
}


def number_in(picture):
    """The number that a normalized frame of the tests shows: `(3, 64, 64)`."""
    blocks = picture.mean(0).numpy()[8::16, 8::16]
    return int(((blocks > 0).ravel() << np.arange(16)).sum())


@pytest.mark.parametrize("length, stride, frames", [(2.0, 1.0, 8), (1.3, 0.37, 5), (0.5, 1.7, 3)])
@pytest.mark.parametrize("name", FILES)
def test_windows_are_what_load_video_takes_of_a_segment(video, number_of, name, length, stride, frames):
    path, kept = video(name, 200, **FILES[name]), []

    def keep(image):
        kept.append(number_of(image))
        return kept[-1]

    windows = list(read_windows(path, SlidingWindows(length, stride, frames), keep))
    assert len(windows) > 2
    for window in windows:
        clip = load_video(path, frames=frames, preprocess=Preprocessing(64), start=window.start, end=window.end).frames[
            0
        ]
        assert [number for _, number in window.frames] == [number_in(picture) for picture in clip]
    np.testing.assert_allclose([window.start for window in windows], np.arange(len(windows)) * stride)
    assert len(kept) == len(set(kept))
    wanted = {number for window in windows for _, number in window.frames}
    if not name.endswith((".h264", ".avi")) or name == "plain.avi":
        assert set(kept) == wanted
    end = decode_frames(path, [-1]).times[0]
    assert end - max(stride, length / 2) < windows[-1].end < end + 0.1 or stride > length


def flv_pictures(data):
    """Where the tags of coded pictures begin, which follow the codec's own header (9: video, 1: a picture)."""
    at = 13
    while at < len(data):
        if data[at] == 9 and data[at + 12] == 1:
            yield at
        at += 15 + int.from_bytes(data[at + 1 : at + 4], "big")


def test_a_frame_said_to_be_shown_long_after_it_is_decoded_is_left_out(video, number_of):
    path = video("clip.flv", 50, rate=25)
    data = bytearray(path.read_bytes())
    tag = list(flv_pictures(data))[6]
    data[tag + 13 : tag + 16] = b"\x80\x00\x00"  # shown 8,388 s before it is decoded: read as 4.3 million s after
    path.write_bytes(data)
    with pytest.warns(FrosterWarning, match=r"clip\.flv: 1 of its frames have damaged timestamps"):
        windows = list(read_windows(path, SlidingWindows(1.0, 1.0, 4), number_of))
    assert [(window.start, window.end) for window in windows] == [(0.0, 1.0), (1.0, pytest.approx(2.0, abs=0.1))]
    assert all(window.frames for window in windows)
    taken = decode_frames(path)
    assert [number_of(frame) for frame in taken.frames] == list(range(50))
    np.testing.assert_allclose(taken.times, np.arange(50) / 25, atol=1e-6)
    assert taken.warning == "clip.flv: has damaged timestamps; 25 frames per second are assumed"


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv", "clip.ts", "clip.flv"])
def test_no_timestamps_make_windows_without_end(video, number_of, name):
    steps = [100] * 10 + [3_500_000] * 10  # each is short enough to be believed, together they are 10 hours
    ticks = [0, *np.cumsum(steps)[:-1].tolist()]
    path = video(name, 20, ticks=ticks, tick=Fraction(1, 1000), options={"preset": "ultrafast", "bf": "0"})
    with pytest.warns(
        FrosterWarning, match=rf"{name}: its timestamps, .* without a new frame; the windows end at \d+ s"
    ):
        windows = list(read_windows(path, SlidingWindows(1.0, 1.0, 4), number_of))
    assert [number for _, number in windows[0].frames] == [1, 3, 6, 8]
    assert 3600 < len(windows) < 3600 + 20 * 60 + 10


def test_no_durations_of_pictures_make_windows_without_end(tmp_path, picture):
    path = tmp_path / "slow.png"
    frames = [Image.fromarray(picture(number)) for number in range(8)]
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=[100] * 4 + [60_000_000] * 4)
    with pytest.warns(FrosterWarning, match=r"slow\.png: its timestamps, .* without a new frame"):
        windows = list(read_windows(path, SlidingWindows(1.0, 1.0, 4), lambda image: None))
    assert 3600 < len(windows) < 3600 + 8 * 60 + 10


def test_the_pass_over_the_file_is_one(video, monkeypatch):
    path, packets, original = video("b_frames.mp4", 200), [], decode._decode
    monkeypatch.setattr(decode, "_decode", lambda packet: packets.append(packet.pts) or original(packet))
    list(read_windows(path, SlidingWindows(2.0, 0.5, 8), lambda image: None))
    assert len(packets) == len(set(packets)) == 200


def test_the_last_window_is_cut_where_it_adds_something_and_half_of_it_is_there(video):
    def bounds(seconds, length, stride):
        windows = read_windows(
            video("cut.mp4", round(seconds * 30)), SlidingWindows(length, stride, 2), lambda image: None
        )
        return [(pytest.approx(w.start), pytest.approx(w.end, abs=1e-3)) for w in windows]

    assert bounds(3.0, 2.0, 1.0) == [(0, 2), (1, 3)]
    assert bounds(3.5, 2.0, 1.0) == [(0, 2), (1, 3), (2, 3.5)]
    assert bounds(2.9, 2.0, 2.0) == [(0, 2)]
    assert bounds(3.0, 2.0, 2.0) == [(0, 2), (2, 3)]
    assert bounds(0.5, 2.0, 1.0) == [(0, 0.5)]


@pytest.mark.parametrize("name", ["damaged.mp4", "damaged.mkv"])
def test_damage_in_the_middle_is_a_gap(video, number_of, name):
    path = video(name, 900, options={"preset": "ultrafast", "g": "30", "bf": "2"})
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 3 : 2 * len(damaged) // 3] = bytes(2 * len(damaged) // 3 - len(damaged) // 3)
    path.write_bytes(damaged)
    with pytest.warns(FrosterWarning, match="damaged|breaks off"):
        windows = list(read_windows(path, SlidingWindows(2.0, 1.0, 8), number_of))
    gaps = [window.start for window in windows if not window.frames]
    assert 6 <= len(gaps) <= 12
    assert gaps == list(np.arange(gaps[0], gaps[-1] + 1))
    assert min(gaps) >= 6 and max(gaps) <= 22
    assert windows[-1].start == pytest.approx(28)
    for window in windows:
        for _, number in window.frames:  # times are real, also behind the gap
            assert window.start - 0.001 <= number / 30 < window.end


def test_a_file_that_breaks_off_gives_what_is_there(video, number_of):
    path = video("cut.mkv", 900)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.warns(FrosterWarning, match=r"cut\.mkv: breaks off after 1\d\.\d of 30\.0 s"):
        windows = list(read_windows(path, SlidingWindows(2.0, 1.0, 8), number_of))
    assert 10 < len(windows) < 20
    assert all(window.frames for window in windows)


def test_a_still_counts_as_shown_as_long_as_its_file_says(video, number_of):
    ticks = [*range(0, 3000, 100), *range(12_000, 15_000, 100)]
    path = video("still.mp4", 60, ticks=ticks, tick=Fraction(1, 1000))
    windows = {window.start: window for window in read_windows(path, SlidingWindows(2.0, 1.0, 4), number_of)}
    assert [number for _, number in windows[5.0].frames] == [29] * 4
    assert all(window.frames for window in windows.values())
    assert {number for _, number in windows[12.0].frames} <= set(range(30, 50))


@pytest.mark.parametrize("codec", ["libx264", "mpeg2video"])
def test_joined_transport_streams_lose_no_frame(tmp_path, video, number_of, codec):
    """The counters of a transport stream's pieces start anew at a join, as if a piece were lost."""
    options = {"preset": "ultrafast", "bf": "2", "g": "20"} if codec == "libx264" else {"bf": "2", "g": "20", "b": "2M"}
    part, joined = video("part.ts", 40, codec=codec, options=options), tmp_path / "joined.ts"
    joined.write_bytes(part.read_bytes() * 3)
    taken = decode_frames(joined)
    assert [number_of(frame) for frame in taken.frames] == list(range(40)) * 3
    assert taken.warning is None
    windows = list(read_windows(joined, SlidingWindows(1.0, 1.0, 30), number_of))
    numbers = [number for window in windows for _, number in window.frames]
    assert numbers == list(range(40)) * 3


def test_a_piece_lost_from_a_transport_stream_is_damage(video, number_of):
    path = video("lost.ts", 120, options={"preset": "ultrafast", "bf": "2", "g": "20"}, size=(128, 128))
    data = path.read_bytes()
    pieces = [data[at : at + 188] for at in range(0, len(data), 188)]
    inner = [number for number, piece in enumerate(pieces) if piece[1:3] == b"\x01\x00"]  # of a frame, not its first
    del pieces[inner[len(inner) // 2]]
    path.write_bytes(b"".join(pieces))
    taken = decode_frames(path)
    numbers = [number_of(frame) for frame in taken.frames]
    assert numbers == sorted(set(numbers))
    assert 90 <= len(numbers) < 120
    assert "lost.ts: is damaged" in taken.warning
    with pytest.warns(FrosterWarning, match="damaged"):
        windows = list(read_windows(path, SlidingWindows(1.0, 1.0, 30), number_of))
    assert {number for window in windows for _, number in window.frames} <= set(numbers)


def test_a_clock_that_starts_anew_does_not_end_the_video(tmp_path, video, number_of):
    parts = [video(f"{part}.ts", 150).read_bytes() for part in range(2)]
    path = tmp_path / "joined.ts"
    path.write_bytes(b"".join(parts))
    windows = list(read_windows(path, SlidingWindows(2.0, 1.0, 4), number_of))
    assert windows[-1].end == pytest.approx(10.0, abs=0.2)
    assert all(window.frames for window in windows)
    assert [number for _, number in windows[7].frames] == pytest.approx([67, 82, 97, 112], abs=2)


def test_folders_of_pictures(tmp_path):
    for number in range(100):
        Image.new("L", (8, 8), number).save(tmp_path / f"{number}.png")
    windows = list(read_windows(tmp_path, SlidingWindows(2.0, 1.0, 3), lambda image: int(image[0, 0, 0])))
    assert [[number for _, number in window.frames] for window in windows] == [[10, 30, 50], [40, 60, 80], [66, 80, 93]]
    for number in range(60, 100):
        (tmp_path / f"{number}.png").write_bytes(b"damaged")
    with pytest.warns(FrosterWarning, match=r"cannot be read"):
        windows = list(read_windows(tmp_path, SlidingWindows(2.0, 1.0, 3), lambda image: int(image[0, 0, 0])))
    assert [[number for _, number in window.frames] for window in windows] == [[10, 30, 50], [], []]


@pytest.mark.parametrize("name", ["missing.mp4", "text.mp4", "empty.mp4"])
def test_what_cannot_be_read_is_one_sentence(tmp_path, name):
    (tmp_path / "text.mp4").write_text("no video")
    (tmp_path / "empty.mp4").touch()
    with pytest.raises(VideoError, match=name):
        list(read_windows(tmp_path / name, SlidingWindows(2.0, 1.0, 8), lambda image: None))


@pytest.mark.parametrize("length, stride, frames", [(0, 1, 8), (2, 0, 8), (2, -1, 8), (float("nan"), 1, 8), (2, 1, 0)])
def test_windows_that_make_no_sense(length, stride, frames):
    with pytest.raises(FrosterError, match="must be"):
        SlidingWindows(length, stride, frames)


def test_what_is_a_stream(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert all(map(is_stream, ["0", "/dev/video1", "rtsp://camera/1", "http://host/a.mp4", "-"]))
    (tmp_path / "0").touch()
    assert not any(map(is_stream, ["0", "a.mp4", tmp_path]))
    with pytest.raises(VideoError, match=r"/dev/video73: the camera cannot be opened"):
        list(read_windows("73", SlidingWindows(2.0, 1.0, 8), lambda image: None))
    with pytest.raises(VideoError, match="the stream cannot be opened"):
        list(read_windows("http://127.0.0.1:9/a.mp4", SlidingWindows(2.0, 1.0, 8), lambda image: None))


@pytest.mark.parametrize(
    "length, stride, message",
    [
        (float("nan"), 1, r"^window \(nan\) is not a number; it must be more than 0 s\.$"),
        (2, float("nan"), r"^stride \(nan\) is not a number; it must be more than 0 s\.$"),
        (2, -1, r"^stride \(-1 s\) must be more than 0 s\.$"),
        (float("inf"), 1, r"^window \(inf s\) must be finite\.$"),
    ],
)
def test_only_what_is_wrong_of_the_windows_is_named(length, stride, message):
    with pytest.raises(FrosterError, match=message):
        SlidingWindows(length, stride, 8)


@contextmanager
def served(content, stalls=False):
    """A URL of bytes; `stalls`: the connection then stays open and silent."""
    done = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Length", str(len(content) + stalls))
            self.end_headers()
            with suppress(OSError):  # the client may have seen enough
                self.wfile.write(content)
                self.wfile.flush()
                if stalls:
                    done.wait(30)

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/served"
    finally:
        done.set()
        server.shutdown()
        server.server_close()


def test_a_url_gives_the_windows_of_the_file(video, number_of):
    path = video("served.ts", 300)
    with served(path.read_bytes()) as url:
        streamed = list(read_windows(url, SlidingWindows(2.0, 1.0, 8), number_of))
    assert streamed == list(read_windows(path, SlidingWindows(2.0, 1.0, 8), number_of))


def test_an_index_at_the_end_of_what_cannot_seek_is_said(tmp_path, video, number_of):
    """A server without ranges, as `python -m http.server`, and a named pipe; the index first, both are read."""
    for options, readable in (({}, False), ({"movflags": "faststart"}, True)):
        path = video("served.mp4", 900, container_options=options)
        pipe = tmp_path / f"pipe-{readable}"
        os.mkfifo(pipe)
        feed = Feed(pipe, path.read_bytes())
        feed.start()
        with served(path.read_bytes()) as url:
            for source, what in ((url, "the server"), (pipe, "the pipe")):
                if readable:
                    windows = list(read_windows(source, SlidingWindows(2.0, 1.0, 8), number_of))
                    assert windows == list(read_windows(path, SlidingWindows(2.0, 1.0, 8), number_of))
                    continue
                with pytest.raises(VideoError, match=rf"{what} cannot seek, and .* at its end: download it") as caught:
                    list(read_windows(source, SlidingWindows(2.0, 1.0, 8), number_of))
                assert "-movflags faststart" in str(caught.value)
        feed.join()


class Feed(threading.Thread):
    """Writes bytes into a named pipe, until nobody reads."""

    def __init__(self, pipe, content):
        super().__init__(daemon=True)
        self.pipe, self.content = pipe, content

    def run(self):
        with suppress(OSError), self.pipe.open("wb", buffering=0) as file:
            file.write(self.content)


def test_a_url_that_falls_silent_ends(video, number_of, monkeypatch):
    monkeypatch.setattr("froster.video.stream.READ_TIMEOUT", 0.5)
    with (
        served(video("served.ts", 300).read_bytes(), stalls=True) as url,
        pytest.warns(FrosterWarning, match=r"no data for 0\.5 s"),
    ):
        windows = list(read_windows(url, SlidingWindows(2.0, 1.0, 8), number_of))
    assert [window.start for window in windows] == list(range(9))


def test_a_stream_gives_windows_before_it_ends(tmp_path, video, number_of):
    """A named pipe that is written in halves: the windows of the first half come while the second does not exist."""
    content, pipe = video("live.ts", 600).read_bytes(), tmp_path / "pipe"
    os.mkfifo(pipe)
    seen, enough = [], threading.Event()

    def write():
        with pipe.open("wb", buffering=0) as file:
            file.write(content[: len(content) // 2])
            assert enough.wait(30)
            file.write(content[len(content) // 2 :])

    writer = threading.Thread(target=write)
    writer.start()
    for window in read_windows(pipe, SlidingWindows(2.0, 1.0, 8), number_of):
        seen.append(window)
        if len(seen) == 3:
            enough.set()
    writer.join()
    assert [window.start for window in seen] == list(range(19))
    assert [number for _, number in seen[0].frames] == [3, 11, 18, 26, 33, 41, 48, 56]
