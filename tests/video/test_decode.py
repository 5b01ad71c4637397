"""Chosen frames must be the very frames that a plain decode from the start gives, by whichever route."""

import io
import os
import shutil
import struct
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image

from froster.errors import FrosterError, FrosterWarning, VideoError
from froster.video import decode, decode_frames, load_video
from froster.video.stream import SlidingWindows, read_windows
from froster.video.transforms import Preprocessing


def plain(path):
    """Every frame by PyAV's own simplest loop, one thread: (N, H, W, 3)."""
    with av.open(str(path)) as container:
        container.streams.video[0].codec_context.thread_count = 1
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


@pytest.fixture
def decoded(monkeypatch):
    """Counts the pictures that come out of a decoder."""
    counter = {"frames": 0, "packets": 0}
    original = decode._decode

    def counting(packet):
        frames = original(packet)
        counter["packets"] += 1
        counter["frames"] += len(frames)
        return frames

    monkeypatch.setattr(decode, "_decode", counting)
    return counter


OPEN_GOP = {
    "preset": "ultrafast",
    "bf": "3",
    "g": "40",
    "x264-params": "open-gop=1:b-pyramid=normal:scenecut=0",
}
REFRESH = {"preset": "ultrafast", "bf": "0", "g": "40", "x264-params": "intra-refresh=1"}
FILES = {
    "b_frames.mp4": {},
    "b_frames.mkv": {},
    "b_frames.ts": {},
    "b_frames.avi": {},
    "mpeg4.avi": {"codec": "mpeg4", "options": {"bf": "2", "g": "40"}},
    "plain.avi": {"codec": "mpeg4", "options": {"g": "40"}},
    "hevc.mp4": {
        "codec": "libx265",
        "options": {"preset": "ultrafast", "x265-params": "keyint=40:log-level=none"},
    },
    "vp9.webm": {"codec": "libvpx-vp9", "options": {"deadline": "realtime", "cpu-used": "8", "g": "40"}},
    "vp8.webm": {
        "codec": "libvpx",
        "options": {"deadline": "realtime", "auto-alt-ref": "1", "lag-in-frames": "8"},
    },
    "av1.mp4": {"codec": "libsvtav1", "options": {"preset": "12", "g": "40"}},
    "open_gop.mp4": {"options": OPEN_GOP},
    "open_gop.mkv": {"options": OPEN_GOP},
    "intra_refresh.mp4": {"options": REFRESH},
    "starts_late.mp4": {"ticks": list(range(45, 345)), "tick": Fraction(1, 30)},
    "starts_late.mkv": {"ticks": list(range(45, 345)), "tick": Fraction(1, 30)},
    "starts_early.mp4": {
        "ticks": list(range(-45, 255)),
        "tick": Fraction(1, 30),
        "container_options": {"avoid_negative_ts": "disabled", "use_editlist": "1"},
    },
    "raw.h264": {},
    "fragmented.mp4": {"container_options": {"movflags": "frag_keyframe+empty_moov"}},
}


@pytest.mark.parametrize("name", FILES)
def test_every_route_gives_the_same_frames(video, name):
    path = video(name, 300, **FILES[name])
    everything = plain(path)
    assert len(everything) == (300 if name != "starts_early.mp4" else 255)
    for wanted in ([70], [0, 150, 299 - 45], [39, 40, 41, 42, 43], [38, 77, 78, 79, 81, 119, 120, 240], [-1]):
        taken = decode_frames(path, wanted)
        assert taken.warning is None
        np.testing.assert_array_equal(taken.frames, everything[wanted])


def test_an_edit_list_longer_than_its_data_is_not_taken_for_a_file_that_breaks_off(video, number_of):
    path = video("edited.mp4", 60)
    data = bytearray(path.read_bytes())
    at = data.index(b"elst") + 12  # of its one entry: the duration in milliseconds, and where in the media it begins
    data[at : at + 8] = struct.pack(">II", 6000, 29_000)
    path.write_bytes(data)
    taken = decode_frames(path)
    assert ([number_of(frame) for frame in taken.frames], taken.warning) == ([55, 56, 57, 58, 59], None)
    windows = list(read_windows(path, SlidingWindows(1.0, 1.0, 5), number_of))
    assert [number for _, number in windows[0].frames] == [55, 56, 57, 58, 59]
    path = video("cut.mp4", 60, container_options={"movflags": "faststart"})
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    with pytest.warns(FrosterWarning, match=r"cut\.mp4: breaks off after (\d+) of 60 frames"):
        list(read_windows(path, SlidingWindows(1.0, 1.0, 5), number_of))


@pytest.mark.parametrize(
    "name, how",
    [
        *(
            (name, FILES[name])
            for name in ("b_frames.mp4", "open_gop.mkv", "b_frames.ts", "av1.mp4", "starts_early.mp4")
        ),
        ("moving.gif", {"codec": "gif", "pix_fmt": "rgb8", "rate": 10}),
        ("alpha.mov", {"codec": "qtrle", "pix_fmt": "argb"}),
    ],
)
def test_a_sound_file_is_opened_once(video, monkeypatch, name, how):
    path, opened, original = video(name, 200, **how), [], av.open
    monkeypatch.setattr(av, "open", lambda *args, **options: opened.append(1) or original(*args, **options))
    decode_frames(path, [1, 20])
    assert opened == [1]


@pytest.mark.parametrize("name", ["b_frames.mp4", "b_frames.mkv", "b_frames.ts", "starts_early.mp4", "vp9.webm"])
def test_numbers_and_times_of_the_frames(video, number_of, name):
    taken = decode_frames(video(name, 300, **FILES[name]), [0, 100, 250])
    hidden = 45 if name == "starts_early.mp4" else 0
    assert [number_of(frame) - hidden for frame in taken.frames] == [0, 100, 250]
    np.testing.assert_allclose(taken.times, [0, 100 / 30, 250 / 30], atol=2e-3)


@pytest.mark.parametrize(
    "name", ["arm_wrestling.mp4", "flipping_a_pancake.mkv", "short.avi", "rotated_90.mov", "corrupted.mp4"]
)
def test_real_files(shared, name):
    clips = load_video(shared / "videos" / name, views=3)
    assert clips.frames.shape == (3, 8, 3, 224, 224) and clips.frames.isfinite().all()
    assert clips.times.shape == clips.indices.shape == (3, 8)
    if name not in ("rotated_90.mov", "corrupted.mp4"):
        everything = plain(shared / "videos" / name)
        wanted = [*clips.indices[:, ::3].ravel(), 0, len(everything) - 1]
        np.testing.assert_array_equal(decode_frames(shared / "videos" / name, wanted).frames, everything[wanted])


@pytest.mark.parametrize("name", ["long.mp4", "long.mkv", "long.ts"])
def test_a_long_file_is_not_decoded_whole(video, number_of, decoded, name):
    path = video(name, 3000, options={"preset": "ultrafast", "bf": "2", "g": "60"})
    clips = load_video(path, preprocess=Preprocessing(64))
    assert clips.indices.tolist() == [[187, 562, 937, 1312, 1687, 2062, 2437, 2812]]
    assert decoded["packets"] < 600
    pictures = decode_frames(path, clips.indices[0].tolist()).frames
    assert [number_of(picture) for picture in pictures] == clips.indices[0].tolist()


@pytest.mark.parametrize("name", ["long.mp4", "long.mkv", "long.ts"])
def test_of_a_segment_only_the_way_from_its_keyframe_is_decoded(video, number_of, decoded, name):
    path = video(name, 3000, options={"preset": "ultrafast", "bf": "2", "g": "60"})
    taken = decode_frames(path, start=50.2, end=51.2)
    assert [number_of(picture) for picture in taken.frames] == list(range(1506, 1536))
    assert decoded["packets"] < 120


def test_pictures_that_nobody_needs_are_skipped(video, decoded):
    path = video("short.mp4", 60, options={"preset": "ultrafast", "bf": "3", "g": "60"})
    decode_frames(path, [59])
    assert 55 <= decoded["packets"] <= 60 and decoded["frames"] < 45


def test_rotation_is_applied(video, number_of):
    for rotation, turned in ((90, 1), (180, 2), (-90, -1)):
        path = video(f"turned{turned}.mp4", 20, size=(96, 64), rotation=rotation)
        frame = decode_frames(path, [19]).frames[0]
        assert number_of(np.rot90(frame, -turned)) == 19, rotation


def test_the_phone_video_stands_upright(shared):
    path = shared / "videos" / "rotated_90.mov"
    np.testing.assert_array_equal(decode_frames(path).frames, np.rot90(plain(path), -1, axes=(1, 2)))


def test_a_mirroring_display_matrix():
    image = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    mirror = np.array([-65536, 0, 0, 0, 65536, 0, 0, 0, 1 << 30], np.int32)
    np.testing.assert_array_equal(decode._upright(image, mirror), image[:, ::-1])


@pytest.mark.parametrize(
    "name, how",
    [
        ("gray.mkv", {"codec": "ffv1", "pix_fmt": "gray"}),
        ("gray.mp4", {"pix_fmt": "gray"}),
        ("ten_bit.mp4", {"pix_fmt": "yuv420p10le"}),
        ("alpha.mov", {"codec": "qtrle", "pix_fmt": "argb"}),
        ("full_range.avi", {"codec": "mjpeg", "pix_fmt": "yuvj420p"}),
        ("odd.mkv", {"codec": "ffv1", "pix_fmt": "yuv444p", "size": (67, 61)}),
        ("moving.gif", {"codec": "gif", "pix_fmt": "rgb8", "rate": 10}),
        ("raw.y4m", {"codec": "rawvideo"}),
        ("one:two.mp4", {}),
        ("-dash %03d.mp4", {}),
    ],
)
def test_pixel_formats_and_names(video, number_of, name, how):
    path = video(name, 12, **how)
    taken = decode_frames(path)
    assert taken.frames.shape == (12, *how.get("size", (64, 64))[::-1], 3)
    assert [number_of(frame) for frame in taken.frames] == list(range(12))
    assert load_video(path, preprocess=Preprocessing(32)).frames.shape == (1, 8, 3, 32, 32)


def test_colors_survive(tmp_path):
    """A tagged full-range and a limited-range file show the same red, green and blue, within coding loss."""
    bars = np.zeros((64, 96, 3), np.uint8)
    for channel in range(3):
        bars[:, channel * 32 : (channel + 1) * 32, channel] = 220
    for pix_fmt, codec in (("yuv420p", "libx264"), ("yuvj420p", "mjpeg"), ("yuv444p", "ffv1")):
        path = tmp_path / f"{pix_fmt}.mkv"
        with av.open(str(path), "w") as container:
            stream = container.add_stream(codec, rate=10)
            stream.width, stream.height, stream.pix_fmt = 96, 64, pix_fmt
            container.mux(stream.encode(av.VideoFrame.from_ndarray(bars, format="rgb24")))
            container.mux(stream.encode())
        frame = decode_frames(path, [0]).frames[0].astype(int)
        assert np.abs(frame[8:56, 16::32] - bars[8:56, 16::32]).max() <= 8, pix_fmt


def test_one_frame(video):
    clips = load_video(video("one.mp4", 1), preprocess=Preprocessing(32), views=2)
    assert clips.indices.tolist() == [[0] * 8] * 2 and (clips.times == 0).all() and clips.warning is None


def test_frame_numbers_are_checked(video):
    path = video("ten.mp4", 10)
    assert decode_frames(path, [3, 3, -1]).indices.tolist() == [3, 3, 9]
    with pytest.raises(VideoError, match=r"ten\.mp4: frame 10 was requested, but only 10 frames"):
        decode_frames(path, [10])
    with pytest.raises(VideoError, match="no frame was asked for"):
        decode_frames(path, [])
    for wrong, message in (
        ({"frames": 0}, "must be 1 or more"),
        ({"sampling": "x"}, "There is no sampling 'x'; choose from uniform, release"),
        ({"preprocess": "foo"}, "preprocess is a Preprocessing, such as model.preprocess; not 'foo'"),
    ):
        with pytest.raises(FrosterError, match=message):
            load_video(path, **wrong)
    with pytest.raises(ValueError, match="no interpolation 'nearest'"):
        Preprocessing(interpolation="nearest")


def test_a_variable_size_stream_is_scaled_to_its_first_frame(tmp_path):
    Image.new("RGB", (40, 30)).save(tmp_path / "1.png")
    Image.new("RGB", (80, 60)).save(tmp_path / "2.png")
    assert decode_frames(tmp_path).frames.shape == (2, 30, 40, 3)


# Broken files: what decodes is used and said; what does not is one line with the file and the reason.


def test_a_file_that_breaks_off(shared):
    clips = load_video(shared / "videos" / "corrupted.mp4")
    assert clips.warning == ("corrupted.mp4: breaks off after 28 of 50 frames; the 28 decoded frames are used")
    assert clips.indices.tolist() == [[1, 5, 8, 12, 15, 19, 22, 26]]


@pytest.mark.parametrize("name", ["cut.mp4", "cut.mkv", "cut.avi", "cut.ts", "cut.webm"])
def test_truncated_files(video, number_of, name):
    faststart = {"container_options": {"movflags": "faststart"}} if name == "cut.mp4" else {}
    codec = {"codec": "libvpx", "options": {"deadline": "realtime"}} if name == "cut.webm" else {}
    path = video(name, 200, **faststart, **codec)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    clips = load_video(path, preprocess=Preprocessing(64))
    taken = decode_frames(path)
    numbers = [number_of(frame) for frame in taken.frames]
    # Near the cut, a later picture may be whole where one shown before it is not.
    assert numbers == sorted(set(numbers)) and numbers[:-3] == list(range(len(numbers) - 3))
    assert 80 < len(numbers) < 190
    assert clips.indices.max() >= 0.9 * len(numbers)
    if name != "cut.ts":  # a transport stream has no header that promises more
        expected = f"{name}: breaks off after {len(numbers)} of 200 frames"
        assert taken.warning is not None and taken.warning.startswith(expected)


def test_damage_in_the_middle_is_skipped_to_the_next_keyframe(video, number_of):
    path = video("hole.mp4", 120, options={"preset": "ultrafast", "bf": "0", "g": "30"})
    with av.open(str(path)) as container:
        packet = [p for p in container.demux(video=0) if p.size][40]
        position, size = packet.pos, packet.size
    data = bytearray(path.read_bytes())
    data[position : position + size] = b"\xff" * size
    path.write_bytes(data)
    taken = decode_frames(path)
    numbers = [number_of(frame) for frame in taken.frames]
    assert numbers == [*range(40), *range(60, 120)]
    assert taken.warning == "hole.mp4: is damaged and gives 100 of 120 frames; the 100 decoded frames are used"


def test_an_index_that_never_came(video):
    path = video("download.mp4", 60)
    whole = path.read_bytes()
    path.write_bytes(whole[: whole.rindex(b"moov") - 4])
    with pytest.raises(VideoError, match=r"download\.mp4: the file is incomplete.*moov"):
        load_video(path)
    path.write_bytes(whole[:-1200])
    with pytest.raises(VideoError, match=r"download\.mp4: .*incomplete"):
        load_video(path)


def test_an_mp4_with_a_damaged_box_is_not_said_to_lack_its_index(video, tmp_path):
    whole = video("whole.mp4", 30, container_options={"movflags": "faststart"}).read_bytes()
    first, index = int.from_bytes(whole[:4], "big"), whole.index(b"moov")
    for name, data, reason in (
        ("box.mp4", whole[:first] + b"\0\0\0\3free" + whole[first:], f"damaged at byte {first}: a box of 3 bytes"),
        ("index.mp4", whole[: index + 4] + b"\xff" * 600 + whole[index + 604 :], r"its index \(moov\) is damaged"),
        ("short.mp4", whole[: index + 40], r"the file is incomplete, it ends within its index \(moov\)"),
    ):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(VideoError, match=reason) as caught:
            load_video(tmp_path / name)
        assert "missing" not in str(caught.value)


PLAYLISTS = {
    "clip.mp4": "ffconcat version 1.0\nfile other.mp4\n",
    "live.m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nother.mp4\n",
    "clip.mkv": "\ufeff#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nother.mp4\n",
    "clip.webm": '<?xml version="1.0"?>\n<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"><Period/></MPD>\n',
    "clip.mov": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n",
}


@pytest.mark.parametrize("name", PLAYLISTS)
def test_no_other_files_are_opened_for_a_playlist(video, tmp_path, name):
    video("other.mp4", 30)
    (tmp_path / name).write_text(PLAYLISTS[name], encoding="utf-8")
    with pytest.raises(VideoError, match=r"a playlist|not a video"):
        load_video(tmp_path / name)
    with pytest.raises(VideoError, match=r"a playlist|not a video"):
        list(read_windows(tmp_path / name, SlidingWindows(1.0, 1.0, 4), lambda image: 0))


def test_videos_larger_than_the_limit_are_refused(video, tmp_path, monkeypatch):
    path = video("small.gif", 3, codec="gif", pix_fmt="rgb8", rate=10)
    data = bytearray(path.read_bytes())
    for at in [6, *(at + 5 for at in range(13, len(data) - 9) if data[at : at + 5] == b"\x2c\0\0\0\0")]:
        data[at : at + 4] = (16000).to_bytes(2, "little") * 2
    path.write_bytes(data)
    with pytest.raises(VideoError, match="16000 x 16000 exceed the maximum of 35389440 pixels"):
        load_video(path)
    with pytest.raises(VideoError, match="16000 x 16000 exceed"):
        list(read_windows(path, SlidingWindows(1.0, 1.0, 4), lambda image: 0))
    monkeypatch.setenv("FROSTER_MAX_PIXELS", "4095")
    with pytest.raises(VideoError, match="64 x 64 exceed the maximum of 4095 pixels"):
        load_video(video("square.mp4", 3))


def test_unusable_files(tmp_path, video, sound):
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "words.mp4").write_text("These are words, not pictures.\n" * 50)
    (tmp_path / "words.txt").write_text("These are words, not pictures.\n" * 50)
    (tmp_path / "words.jpg").write_text("These are words, not pictures.\n" * 50)
    (tmp_path / "noise.mkv").write_bytes(os.urandom(4096))
    (tmp_path / "folder").mkdir()
    for name, codec in (("voice.wav", "pcm_s16le"), ("voice.m4a", "aac")):
        with av.open(str(tmp_path / name), "w") as container:
            stream = container.add_stream(codec, rate=16000, layout="mono")
            if codec == "aac":
                sound(container, stream, 0.5)
            else:
                frame = av.AudioFrame.from_ndarray(np.zeros((1, 1600), np.int16), format="s16", layout="mono")
                frame.sample_rate = 16000
                container.mux(stream.encode(frame))
    reasons = {
        "missing.mp4": "there is no such file",
        "empty.mp4": "the file is empty",
        "words.mp4": "not a video that can be read",
        "words.txt": "a text file|not a video",
        "words.jpg": "the image cannot be read",
        "noise.mkv": "not a video that can be read",
        "folder": "a folder without images",
        "voice.wav": "has no video stream, only audio",
        "voice.m4a": "has no video stream, only audio",
    }
    for name, reason in reasons.items():
        with pytest.raises(VideoError, match=reason) as caught:
            load_video(tmp_path / name)
        message = str(caught.value)
        assert name in message and "\n" not in message


def test_cover_art_is_not_a_video(tmp_path):
    """An MP3 whose ID3 tag holds a picture, as every music collection has them."""
    picture = io.BytesIO()
    Image.new("RGB", (32, 32), "red").save(picture, "JPEG")
    body = b"\0image/jpeg\0\x03\0" + picture.getvalue()
    frame = b"APIC" + len(body).to_bytes(4, "big") + b"\0\0" + body
    size = len(frame)
    tag = b"ID3\x03\0\0" + bytes((size >> shift) & 0x7F for shift in (21, 14, 7, 0)) + frame
    silence = (b"\xff\xfb\x90\xc4" + bytes(413)) * 40  # MPEG-1 layer III frames, 128 kbit/s, 44.1 kHz
    path = tmp_path / "song.mp3"
    path.write_bytes(tag + silence)
    with av.open(str(path)) as container:
        assert container.streams.video, "the test file must have a cover that looks like a video stream"
    with pytest.raises(VideoError, match="only audio"):
        load_video(path)


@pytest.fixture
def as_nobody():
    """Root, whom containers run tests as, may read everything: `with as_nobody():` gives that up for a while."""

    @contextmanager
    def given_up():
        if os.getuid() != 0:
            yield
            return
        os.setresuid(65534, 65534, 0)
        try:
            yield
        finally:
            os.setresuid(0, 0, 0)

    return given_up


def test_permission_denied(video, as_nobody):
    with tempfile.TemporaryDirectory() as folder:  # pytest's own folders are closed to other users
        Path(folder).chmod(0o755)
        path = Path(shutil.copy(video("secret.mp4", 5), folder))
        load_video(path)
        path.chmod(0)
        with as_nobody(), pytest.raises(VideoError, match="permission denied"):
            load_video(path)


def test_ffmpeg_stays_silent(shared):
    """Damaged files make ffmpeg talk; none of it may reach the user's terminal."""
    script = f"from froster.video import load_video; load_video({str(shared / 'videos' / 'corrupted.mp4')!r})"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout == run.stderr == ""


def test_threads_do_not_change_the_frames(video):
    path = video("threads.mp4", 60, size=(640, 480))
    before = torch.get_num_threads()
    taken = []
    for threads in (1, 4):
        torch.set_num_threads(threads)
        taken.append(decode_frames(path, [3, 20, 21, 59]).frames)
    torch.set_num_threads(before)
    np.testing.assert_array_equal(*taken)
