"""Segments of files: the frames that show their own number must be those of the time asked for, and no others."""

import math
from fractions import Fraction
from itertools import pairwise

import av
import numpy as np
import pytest
from PIL import Image

from froster.errors import VideoError
from froster.video import decode_frames, load_video
from froster.video.timeline import Timeline
from froster.video.transforms import CLIP_MEAN, CLIP_STD, Preprocessing

EARLY = {
    "ticks": list(range(-45, 255)),
    "tick": Fraction(1, 30),
    "container_options": {"avoid_negative_ts": "disabled", "use_editlist": "1"},
}
FILES = {
    "frames.mp4": {},
    "frames.mkv": {},
    "frames.ts": {},
    "frames.avi": {},  # with B-frames: counted from the start
    "mpeg4.avi": {"codec": "mpeg4", "options": {"g": "40"}},
    "frames.webm": {"codec": "libvpx-vp9", "options": {"deadline": "realtime", "cpu-used": "8", "g": "40"}},
    "late.mp4": {"ticks": list(range(45, 345)), "tick": Fraction(1, 30)},
    "late.mkv": {"ticks": list(range(45, 345)), "tick": Fraction(1, 30)},
    "early.mp4": EARLY,
    "raw.h264": {},
}


def shown(clips, number_of):
    pictures = clips.frames.permute(0, 1, 3, 4, 2).numpy() * CLIP_STD + CLIP_MEAN
    return [[number_of(picture * 255) for picture in view] for view in pictures]


@pytest.mark.parametrize("name", FILES)
def test_a_segment_is_sampled_as_if_it_were_the_file(video, number_of, name):
    hidden = 45 if name == "early.mp4" else 0
    clips = load_video(
        video(name, 300, **FILES[name]), frames=5, views=2, preprocess=Preprocessing(64), start=2.0, end=5.5
    )
    rate = 25 if name == "raw.h264" else 30  # which states none
    count = math.ceil(3.5 * rate)
    middles = [2 * rate + int((2 * k + 1) * Fraction(count, 20)) for k in range(10)]
    expected = [middles[::2], middles[1::2]]
    assert clips.indices.tolist() == expected
    assert [[number - hidden for number in view] for view in shown(clips, number_of)] == expected
    np.testing.assert_allclose(clips.times, np.array(expected) / rate, atol=2e-3)
    assert clips.warning is None


@pytest.mark.parametrize("name", ["frames.mp4", "frames.mkv", "mpeg4.avi"])
@pytest.mark.parametrize(
    ("start", "end", "first", "last"),
    [
        (None, 1, 0, 29),
        (0, 1 / 30, 0, 0),
        (9, None, 270, 299),
        (1 / 3, 0.7, 10, 20),
        (0.333, 0.667, 10, 19),  # as lists in milliseconds have them: frame 20 appears at 0.6667
        (1.01, 1.99, 31, 59),
        (1.1, 1.2, 33, 35),
        (9.96, 20, 299, 299),
    ],
)
def test_the_frames_of_a_segment(video, number_of, name, start, end, first, last):
    taken = decode_frames(video(name, 300, **FILES[name]), start=start, end=end)
    assert [number_of(frame) for frame in taken.frames] == taken.indices.tolist() == list(range(first, last + 1))
    np.testing.assert_allclose(taken.times, taken.indices / 30, atol=2e-3)


def test_segments_side_by_side_share_no_frame_and_lose_none(video):
    path = video("whole.mkv", 120, options={"preset": "ultrafast", "bf": "0"})
    edges = np.linspace(0, 4, 18).tolist()
    numbers = [decode_frames(path, start=a, end=b).indices for a, b in pairwise(edges)]
    assert np.concatenate(numbers).tolist() == list(range(120))


def test_frame_numbers_are_asked_for_in_the_segment(video, number_of):
    path = video("ten.mp4", 90)
    taken = decode_frames(path, [-1, 0, 3, 3], start=1, end=2)
    assert [number_of(frame) for frame in taken.frames] == taken.indices.tolist() == [59, 30, 33, 33]

    def choose(timeline):
        np.testing.assert_allclose(timeline.times, np.arange(30) / 30, atol=1e-3)
        assert timeline.duration == pytest.approx(1, abs=1e-3)
        return np.array([29])

    assert decode_frames(path, choose, start=1, end=2).indices.tolist() == [59]
    with pytest.raises(VideoError, match="frame 30 was requested, but only 30 frames"):
        decode_frames(path, [30], start=1, end=2)


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "avi"])
@pytest.mark.parametrize(("start", "end", "first", "count"), [(1, 9, 30, 240), (2.5, 4.5, 75, 60), (1, 8.99, 30, 240)])
def test_release_sampling_takes_the_frames_of_a_file_cut_out(video, suffix, start, end, first, count):
    plain = {"options": {"preset": "ultrafast", "bf": "0"}}
    whole, cut = video(f"whole.{suffix}", 300, **plain), video(f"cut.{suffix}", count, **plain)
    expected = load_video(cut, views=3, preprocess=Preprocessing(32), sampling="release").indices + first
    clips = load_video(whole, views=3, preprocess=Preprocessing(32), sampling="release", start=start, end=end)
    assert clips.indices.tolist() == expected.tolist()


@pytest.mark.parametrize("name", ["late.mp4", "late.mkv", "mpeg4.avi"])
@pytest.mark.parametrize("sampling", ["uniform", "release"])
def test_a_segment_of_everything_is_the_file(video, name, sampling):
    path = video(name, 300, **FILES[name])
    whole = load_video(path, views=3, preprocess=Preprocessing(32), sampling=sampling)
    for start, end in ((0, None), (0, 10), (None, 11)):
        clips = load_video(path, views=3, preprocess=Preprocessing(32), sampling=sampling, start=start, end=end)
        assert clips.indices.tolist() == whole.indices.tolist()


def test_the_last_frame_of_a_segment_is_gone_when_the_segment_ends(video, number_of):
    # Ten frames in a second, then one every two seconds; of the segment's 4 seconds the last frame has only one.
    ticks = [*range(0, 1000, 100), 1000, 3000, 5000, 7000]
    path = video("vfr.mkv", 14, ticks=ticks, tick=Fraction(1, 1000), options={"g": "5", "bf": "2"})
    clips = load_video(path, frames=8, preprocess=Preprocessing(64), start=0, end=4)
    moments = (np.arange(8) + 0.5) / 2
    expected = np.searchsorted(np.array(ticks) / 1000, moments, side="right") - 1
    assert shown(clips, number_of) == clips.indices.tolist() == [expected.tolist()] == [[2, 7, 10, 10, 10, 10, 11, 11]]


def test_a_segment_without_frames_is_named_with_the_length_of_the_video(video):
    path = video("short.mp4", 60)
    with pytest.raises(VideoError, match=r"short\.mp4: has no frame in the segment from 2 s to 12 s, .* 2\.00 s long"):
        load_video(path, start=2, end=12)
    with pytest.raises(VideoError, match=r"no frame in the segment from 55 s on, the video is 2\.00 s long"):
        decode_frames(path, start=55)
    with pytest.raises(VideoError, match=r"no frame in the segment from 1\.005 s to 1\.03 s"):
        load_video(path, start=1.005, end=1.03)
    for start, end in ((1, 1), (2, 1), (-1, 1), (float("nan"), 1), (0, float("nan")), (None, 0)):
        with pytest.raises(VideoError, match=r"short\.mp4: a segment must start at 0 s or later and end after"):
            load_video(path, start=start, end=end)


def test_a_segment_that_reaches_past_the_end_is_cut_there(video):
    path = video("kinetics.mp4", 60)
    for start, end in ((1, 2.5), (1, 3), (None, 4)):
        assert load_video(path, preprocess=Preprocessing(32), start=start, end=end).warning is None
    clips = load_video(path, frames=2, preprocess=Preprocessing(32), start=1, end=3.1)
    assert clips.indices.tolist() == [[37, 52]]
    assert clips.warning == (
        "kinetics.mp4: the video is 2.00 s long, less than half of the segment from 1 s to 3.1 s exists; "
        "that part is used"
    )


# Damaged files: what can be decoded is chosen from again, and the segment stays where it is in the file's time.


def damage(path, packets):
    with av.open(str(path)) as container:
        listed = [p for p in container.demux(video=0) if p.size]
    data = bytearray(path.read_bytes())
    for number in packets:
        position, size = listed[number].pos, listed[number].size
        data[position : position + size] = b"\xff" * size
    path.write_bytes(data)


@pytest.mark.parametrize("lost", [40, 0])
def test_a_damaged_file_keeps_its_segments(video, number_of, lost):
    path = video("hole.mp4", 120, options={"preset": "ultrafast", "bf": "0", "g": "30"})
    damage(path, [lost])
    decodable = [*range(40), *range(60, 120)] if lost else list(range(30, 120))
    assert [number_of(frame) for frame in decode_frames(path).frames] == decodable
    for start, end in ((1.2, 2.5), (0.5, 2.1), (2.5, None)):
        taken = decode_frames(path, start=start, end=end)
        inside = [n for n in decodable if start <= n / 30 < (end or 4)]
        assert [number_of(frame) for frame in taken.frames] == inside
        np.testing.assert_allclose(taken.times, np.array(inside) / 30, atol=1e-3)
        clips = load_video(path, frames=4, preprocess=Preprocessing(64), start=start, end=end)
        assert {number for view in shown(clips, number_of) for number in view} <= set(inside)
    if lost == 0:
        with pytest.raises(VideoError, match=r"no frame in the segment from 0 s to 0\.9 s, the video is 4\.00 s long"):
            load_video(path, end=0.9)


@pytest.mark.parametrize("name", ["cut.mp4", "cut.mkv", "cut.avi"])
def test_a_file_that_breaks_off_keeps_its_segments(video, number_of, name):
    faststart = {"container_options": {"movflags": "faststart"}} if name == "cut.mp4" else {}
    path = video(name, 200, **faststart)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    taken = decode_frames(path, start=1, end=2)
    assert [number_of(frame) for frame in taken.frames] == list(range(30, 60))
    with pytest.raises(VideoError, match=rf"{name}: has no frame in the segment from 6\.5 s on"):
        load_video(path, start=6.5)


def test_a_segment_of_a_folder_stays_where_it_is_when_pictures_are_broken(tmp_path, picture, number_of):
    for number in range(40):
        Image.fromarray(picture(number)).save(tmp_path / f"{number}.png")
    for number in (0, 1, 2, 15, 39):
        (tmp_path / f"{number}.png").write_bytes(b"broken")
    lengths = []

    def everything(timeline):
        lengths.append(timeline.duration)
        return np.arange(len(timeline))

    for start, end, inside in ((0.4, 0.6, [12, 13, 14, 16, 17]), (None, 0.2, [3, 4, 5]), (1.2, None, [36, 37, 38])):
        taken = decode_frames(tmp_path, everything, start=start, end=end)
        assert [number_of(frame) for frame in taken.frames] == inside
        np.testing.assert_allclose(taken.times, np.array(inside) / 30, atol=1e-6)
    assert lengths[-1] == pytest.approx(3 / 30, abs=1e-6)


def test_a_segment_of_a_moving_picture(tmp_path, picture, number_of):
    images = [Image.fromarray(picture(number)) for number in (1, 2, 3, 4)]
    images[0].save(tmp_path / "moving.gif", save_all=True, append_images=images[1:], duration=[100, 200, 400, 800])
    taken = decode_frames(tmp_path / "moving.gif", start=0.1, end=0.5)
    assert [number_of(frame) for frame in taken.frames] == [2, 3]
    np.testing.assert_allclose(taken.times, [0.1, 0.3], atol=1e-6)


def test_cutting_a_timeline_against_a_loop():
    rng = np.random.default_rng(0)
    for _ in range(300):
        gaps = rng.integers(1, 9, rng.integers(1, 20))
        pts = np.cumsum(gaps) - int(rng.integers(0, 30))
        whole = Timeline(pts, int(pts[-1]) + int(rng.integers(1, 9)), Fraction(1, 10), Fraction(10))
        start, end = sorted(rng.choice(np.arange(0, 120), 2, replace=False) / 10 + 0.05)
        segment, first = whole.cut(start, end)
        inside = [n for n in range(len(pts)) if start <= (pts[n] - pts[0]) / 10 < end]
        assert list(range(first, first + len(segment))) == inside
        if inside:
            last = inside[-1]
            gone = pts[last + 1] if last + 1 < len(pts) else whole.end
            span = min((gone - pts[inside[0]]) / 10, np.ceil(end * 10) / 10 - (pts[inside[0]] - pts[0]) / 10)
            np.testing.assert_allclose(segment.times, (pts[inside] - pts[inside[0]]) / 10, atol=1e-9)
            assert segment.duration == pytest.approx(span)
