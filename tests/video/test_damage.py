"""Damaged and encrypted videos, side data, memory, and which stream is read: the same as a file and as a stream."""

import gc
import io
import os
import re
import threading
import warnings
from fractions import Fraction

import av
import numpy as np
import pytest
import torch
from PIL import Image

from froster.errors import FrosterWarning, VideoError
from froster.video import decode, decode_frames, load_video
from froster.video.container import is_reference
from froster.video.stream import SlidingWindows, read_windows

ENCRYPTION = {
    "encryption_scheme": "cenc-aes-ctr",
    "encryption_key": "76a6c65c5ea762046bd749a2e632ccbb",
    "encryption_kid": "a7e61c373e219033c21091fa607bf3b8",
}
GROUPS_OF_30 = {"preset": "ultrafast", "bf": "0", "g": "30", "x264-params": "scenecut=0"}


def plain(path):
    """Every frame by PyAV's own simplest loop, one thread, and which are marked as corrupt."""
    with av.open(str(path)) as container:
        container.streams.video[0].codec_context.thread_count = 1
        frames = list(container.decode(video=0))
        return np.stack([f.to_ndarray(format="rgb24") for f in frames]), [f.is_corrupt for f in frames]


def flip_bits(path, numbers):
    """Flip bits of a few bytes in the middle of the packets with these numbers."""
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
        # A piece of a transport stream, 188 bytes, is stuffed at its front.
        inside = 148 if path.suffix == ".ts" else None
        places = [packets[n].pos + (inside or packets[n].size // 2) for n in numbers]
    data = bytearray(path.read_bytes())
    for place in places:
        for byte in range(place, place + 12):
            data[byte] ^= 0x5A
    path.write_bytes(data)


@pytest.mark.parametrize("name", ["bits.mkv"])
def test_concealed_damage_is_not_used(video, number_of, name):
    path = video(name, 300, size=(192, 128), options=GROUPS_OF_30)
    whole, _ = plain(path)
    flip_bits(path, [40, 155])
    damaged, marks = plain(path)
    assert any(marks) and len(damaged) == 300, "the decoder must conceal this damage"
    taken = decode_frames(path)
    np.testing.assert_array_equal(taken.frames, whole[kept(marks)])
    lost = 300 - len(taken.frames)
    assert 0 < lost < 60
    assert taken.warning == f"{name}: {lost} of 300 frames are damaged; the {300 - lost} others are used"
    clips = load_video(path, views=3)
    assert clips.warning == taken.warning
    with pytest.warns(FrosterWarning, match=r"of \d+ decoded frames are damaged"):
        windows = list(read_windows(path, SlidingWindows(1, 1, 30), number_of))
    shown = {number for window in windows for _, number in window.frames}
    assert shown and shown <= {number_of(whole[number]) for number in kept(marks)}


def kept(marks):
    """Frames that are sound in a file with a keyframe every 30 frames."""
    return [n for n in range(len(marks)) if not any(marks[n // 30 * 30 : n + 1])]


B_PYRAMID = {"preset": "ultrafast", "bf": "3", "g": "40", "x264-params": "b-pyramid=normal:scenecut=0"}


@pytest.mark.parametrize(
    "name, codec, options",
    [
        ("avc.mp4", "libx264", B_PYRAMID),
        ("annex_b.ts", "libx264", B_PYRAMID),
        ("all_used.mkv", "libx264", {"preset": "ultrafast", "bf": "0"}),
    ],
)
def test_which_pictures_others_refer_to(video, name, codec, options):
    """As FFmpeg's decoder has it, which leaves out the others where it is told so."""
    with av.open(str(video(name, 120, codec=codec, options=options))) as container:
        stream = container.streams.video[0]
        stream.codec_context.skip_frame = "NONREF"
        packets = [packet for packet in container.demux(stream) if packet.size]
        decoded = {frame.pts for packet in (*packets, None) for frame in stream.codec_context.decode(packet)}
        assert {packet.pts for packet in packets if is_reference(packet)} == decoded
    assert (len(decoded) < 90) is (name != "all_used.mkv")


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", ["damaged.mp4", "damaged.mkv", "damaged.ts"])
def test_a_damaged_pipe_gives_what_the_damaged_file_gives(tmp_path, video, number_of, name, seed):
    options = {"options": B_PYRAMID, "container_options": {"movflags": "faststart"} if name[-1] == "4" else {}}
    path, sliding, draw = (
        video(name, 240, size=(96, 64), **options),
        SlidingWindows(2, 1, 8),
        np.random.default_rng(seed),
    )
    whole = list(read_windows(path, sliding, number_of))
    flip_bits(path, [40, *draw.choice(np.arange(50, 240), 3, replace=False).tolist()])
    with pytest.warns(FrosterWarning, match="damaged"):
        of_file = list(read_windows(path, sliding, number_of))
    threads = torch.get_num_threads()
    torch.set_num_threads(4)
    try:
        with pytest.warns(FrosterWarning, match="damaged"):
            assert list(read_windows(path, sliding, number_of)) == of_file
    finally:
        torch.set_num_threads(threads)
    with pytest.warns(FrosterWarning, match="damaged"):
        assert through_pipe(path, tmp_path / "pipe", sliding, number_of) == of_file
    assert of_file != whole
    for window, sound in zip(of_file, whole, strict=True):
        # A transport stream may have other times than before: those of cut packets are guessed.
        assert name == "damaged.ts" or {pts for pts, _ in window.frames} <= {pts for pts, _ in sound.frames}


def test_the_handed_file_with_concealed_damage(shared):
    path = shared / "files_that_fail" / "concealed-damage.mp4"
    assert "of 1000 frames are damaged" in load_video(path, views=3).warning
    _, marks = plain(path)
    taken = decode_frames(path)
    damaged = [number for number, mark in enumerate(marks) if mark]
    assert damaged and len(taken.frames) <= 1000 - len(damaged)


@pytest.mark.parametrize("movflags", ["faststart", "frag_keyframe+empty_moov"])
def test_an_encrypted_file_is_called_encrypted(video, movflags):
    path = video("secret.mp4", 90, size=(192, 128), container_options={**ENCRYPTION, "movflags": movflags})
    for read in (load_video, decode_frames, lambda path: list(read_windows(path, SlidingWindows(1, 1, 4), np.mean))):
        with pytest.raises(VideoError, match=r"secret\.mp4: none of its .*frames can be decoded \(it is encrypted\)"):
            read(path)


def test_a_file_with_hardly_any_sound_frame_is_refused(video):
    path = video("noise.mp4", 100, size=(192, 128), options=GROUPS_OF_30)
    with av.open(str(path)) as container:
        packets = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    data, noise = bytearray(path.read_bytes()), np.random.default_rng(0)
    for pos, size in packets[1:]:
        data[pos + 5 + size // 3 : pos + size] = noise.bytes(size - 5 - size // 3)
    path.write_bytes(data)
    _, marks = plain(path)
    assert sum(marks) >= 90
    for read in (load_video, lambda path: list(read_windows(path, SlidingWindows(1, 1, 4), np.mean))):
        with pytest.raises(VideoError, match=r"noise\.mp4: \d+ of \d+ frames are damaged, too many"):
            read(path)


# Side data


def jpeg(number, orientation, picture):
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = io.BytesIO()
    Image.fromarray(picture(number, (96, 64))).save(file, "JPEG", quality=95, exif=exif)
    return file.getvalue()


UPRIGHT = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: np.rot90(a, 1),
}


@pytest.mark.parametrize("orientation", UPRIGHT)
def test_jpegs_with_exif_stand_upright_and_mirrored_as_it_says(tmp_path, picture, orientation):
    path = tmp_path / "camera.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=10)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuvj420p"
        for number in range(6):
            packet = av.Packet(jpeg(number, orientation, picture))
            packet.stream, packet.pts, packet.dts = stream, number, number
            packet.time_base, packet.is_keyframe = Fraction(1, 10), True
            container.mux(packet)
    stored, _ = plain(path)
    expected = np.stack([UPRIGHT[orientation](frame) for frame in stored])
    np.testing.assert_array_equal(decode_frames(path).frames, expected)


@pytest.mark.parametrize("hflip, vflip", [(True, False), (False, True), (True, True)])
@pytest.mark.parametrize("degrees", [0, 90, 180, -90])
def test_a_mirrored_file(video, degrees, hflip, vflip):
    path = video("mirrored.mp4", 6, size=(96, 64), rotation=(degrees, hflip, vflip))
    stored, _ = plain(path)
    expected = np.rot90(stored, degrees // 90, axes=(1, 2))
    expected = expected[:, :, ::-1] if hflip else expected
    expected = expected[:, ::-1] if vflip else expected
    np.testing.assert_array_equal(decode_frames(path).frames, expected)


@pytest.mark.slow
def test_frames_are_freed_at_once(video, number_of, tmp_path):
    """Nothing waits for the garbage collector: with it off, only the decoder's few frames exist at any time."""
    path = video("turned.mp4", 60, size=(640, 480), rotation=90, container_options={"movflags": "faststart"})
    counts = list[int]()

    def alive():
        return sum(type(f) is av.VideoFrame and (f.width, f.height) == (640, 480) for f in gc.get_objects())

    def keep(image):
        counts.append(alive())
        return number_of(image)

    sliding = SlidingWindows(1, 0.5, 8)
    gc.collect()
    gc.disable()
    gc.freeze()  # what other tests left behind need not be looked through for every frame
    try:
        for read in (
            lambda: decode.read(path, lambda timeline: np.arange(len(timeline)), keep),
            lambda: list(read_windows(path, sliding, keep)),
            lambda: through_pipe(path, tmp_path / "pipe", sliding, keep),
        ):
            counts.clear()
            read()
            assert 0 < max(counts) <= 12  # what the decoder's threads give out at the end
            assert alive() == 0
    finally:
        gc.unfreeze()
        gc.enable()


# Which stream


@pytest.fixture
def two_streams(tmp_path, picture):
    """`two_streams(first)`: frames of 30 numbers as the default stream, behind one that shows 1000 and more."""

    def write(first):
        path = tmp_path / "two.mkv"
        with av.open(str(path), "w") as container:
            streams = [container.add_stream("libx264", rate=30, options={"preset": "ultrafast"}) for _ in range(2)]
            for stream, size in zip(streams, ((128, 128), (64, 64)), strict=True):
                stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
            cover = av.stream.Disposition.attached_pic
            streams[0].disposition = cover if first == "cover" else av.stream.Disposition(0)
            streams[1].disposition = av.stream.Disposition.default
            for number in range(90):
                for stream, shown in zip(streams, (1000 + number, number), strict=True):
                    frame = av.VideoFrame.from_ndarray(picture(shown, (stream.width, stream.height)), format="rgb24")
                    container.mux(stream.encode(frame))
            for stream in streams:
                container.mux(stream.encode())
        return path

    return write


def through_pipe(path, pipe, sliding, keep):
    os.mkfifo(pipe)
    threading.Thread(target=lambda: pipe.write_bytes(path.read_bytes()), daemon=True).start()
    return list(read_windows(pipe, sliding, keep))


@pytest.mark.parametrize("first", ["not default", "cover"])
def test_a_pipe_reads_the_stream_that_a_file_gives(tmp_path, two_streams, number_of, first):
    path, sliding = two_streams(first), SlidingWindows(1, 1, 8)
    of_file = list(read_windows(path, sliding, number_of))
    assert [window.frames for window in through_pipe(path, tmp_path / "pipe", sliding, number_of)] == [
        window.frames for window in of_file
    ]
    numbers = [number for window in of_file for _, number in window.frames]
    assert len(numbers) == 24 and max(numbers) < 90
    assert max(number_of(frame) for frame in decode_frames(path).frames) == 89


def test_a_pipe_counts_the_frames_of_an_avi_with_b_frames(tmp_path, video, number_of):
    path, sliding = video("reordered.avi", 90, options={"bf": "2"}), SlidingWindows(1, 1, 8)
    of_file = list(read_windows(path, sliding, number_of))
    assert [window.end for window in of_file] == [1, 2, 3]
    assert through_pipe(path, tmp_path / "pipe", sliding, number_of) == of_file


def test_the_handed_file_with_two_streams(shared, tmp_path):
    path, sliding = shared / "files_that_fail" / "two-video-streams.mkv", SlidingWindows(1, 1, 4)
    of_file = list(read_windows(path, sliding, lambda image: image.shape))
    assert of_file[0].frames[0][1] == (128, 192, 3)
    assert through_pipe(path, tmp_path / "pipe", sliding, lambda image: image.shape) == of_file


def test_a_gif_is_complete_by_its_blocks(tmp_path, video, number_of):
    path = video("moving.gif", 20, codec="gif", pix_fmt="gray", rate=10)
    assert decode_frames(path).warning is None
    whole, middle = path.read_bytes(), path.stat().st_size // 2
    for content, fault in (
        (whole[:-1], "breaks off"),
        (whole[:middle], "breaks off"),
        (whole[:middle] + whole[middle + 40 :], "is damaged|breaks off"),
        (whole + b"more", None),
    ):
        path.write_bytes(content)
        warning = decode_frames(path).warning
        assert re.match(rf"moving\.gif: ({fault}) ", warning) if fault else warning is None
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", FrosterWarning)
            list(read_windows(path, SlidingWindows(1, 1, 4), number_of))
        assert bool(caught) is (fault is not None)


def test_a_frame_that_an_avi_lists_and_lacks_is_missed(video):
    path = video("lacks.avi", 40, codec="mpeg4", options={"g": "10"})
    data = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    place = packets[20].pos - 8 * (data[packets[20].pos : packets[20].pos + 4] != b"00dc")
    assert data[place : place + 4] == b"00dc"
    data[place : place + 4] = b"JUNK"  # the chunk is another's, its entry in the index stays
    path.write_bytes(data)
    taken = decode_frames(path)
    assert len(taken.frames) < 40 and "lacks.avi: is damaged and gives" in taken.warning


def test_a_picture_that_does_not_come_out_is_missed(video):
    """A packet of H.264 without a slice is no error to FFmpeg where there are parameter sets in it."""
    path = video("lacks.mp4", 40, options=GROUPS_OF_30)
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    data, place = bytearray(path.read_bytes()), packets[20].pos
    data[place + 4] = data[place + 4] & 0xE0 | 9  # a unit that only says that a picture begins
    path.write_bytes(data)
    taken = decode_frames(path)
    assert len(taken.frames) < 40 and "of 40 frames" in taken.warning
