"""Which frames are taken: the golden of the released code, and the uniform rule against plain arithmetic."""

import json
from fractions import Fraction
from itertools import groupby

import av
import numpy as np
import pytest

from froster.video import load_video
from froster.video.sampling import random_indices, random_release_indices, release_indices, uniform_indices
from froster.video.transforms import CLIP_MEAN, CLIP_STD, Preprocessing


def shown_numbers(clips, number_of):
    pictures = clips.frames.permute(0, 1, 3, 4, 2).numpy() * CLIP_STD + CLIP_MEAN
    return [[number_of(picture * 255) for picture in view] for view in pictures]


def test_release_reads_the_golden_frames_from_real_files(golden_file, video, number_of):
    rows = json.loads(golden_file("sampling.json").read_text())["rows"]
    for (count, fps), views in groupby(rows, key=lambda row: (row["frames"], row["fps"])):
        # Without B-frames there is no edit list, whose duration in milliseconds would round the header's.
        path = video(f"{count}.mp4", count, rate=fps, options={"preset": "ultrafast", "bf": "0"})
        clips = load_video(path, views=3, preprocess=Preprocessing(64), sampling="release")
        expected = [row["indices"] for row in views]
        assert clips.indices.tolist() == expected
        assert shown_numbers(clips, number_of) == expected
        np.testing.assert_allclose(clips.times, np.array(expected) / fps, atol=1e-9)


@pytest.mark.parametrize("name", ["gap.mp4", "gap.mkv", "gap.avi"])
def test_uniform_reads_the_middles_of_equal_segments(video, number_of, name):
    clips = load_video(video(name, 100), frames=8, preprocess=Preprocessing(64))
    expected = [int((k + Fraction(1, 2)) * Fraction(100, 8)) for k in range(8)]
    assert clips.indices.tolist() == [expected] == shown_numbers(clips, number_of)


def test_uniform_views_interleave_and_each_covers_the_video():
    indices = uniform_indices(np.arange(240) / 30, 8.0, frames=8, views=3)
    assert indices.shape == (3, 8)
    assert indices.T.ravel().tolist() == list(range(5, 240, 10))


@pytest.mark.parametrize("count", [1, 2, 3, 5, 7])
def test_a_short_video_repeats_its_frames_evenly(count):
    (indices,) = uniform_indices(np.arange(count) / 10, count / 10, frames=8, views=1)
    repeats = np.bincount(indices, minlength=count)
    assert (np.diff(indices) >= 0).all()
    assert repeats.max() - repeats.min() <= 1


def test_uniform_follows_time_where_the_frame_rate_varies(video, number_of):
    # 60 quick frames in 2 seconds, then 4 slow ones of 2 seconds: segments of 10 / 5 seconds.
    ticks = [*range(0, 1980, 33), 2000, 4000, 6000, 8000]
    path = video("vfr.mkv", 64, ticks=ticks, tick=Fraction(1, 1000), options={"g": "10", "bf": "2"})
    clips = load_video(path, frames=5, preprocess=Preprocessing(64))
    shown = np.searchsorted(ticks, np.array([1, 3, 5, 7, 9]) * clips_scale(path), side="right") - 1
    assert shown_numbers(clips, number_of) == clips.indices.tolist() == [shown.tolist()]
    np.testing.assert_allclose(clips.times[0], np.array(ticks)[shown] / 1000, atol=2e-3)


def clips_scale(path):
    """Milliseconds in a tenth of the span, the last frame lasting as long as the file says."""
    with av.open(str(path)) as container:
        return max(p.pts + p.duration for p in container.demux(video=0) if p.size) / 10


def test_release_without_a_header_moves_the_wider_window():
    indices = release_indices(np.arange(310) * 33, fps=30, header_frames=None, header_duration=None, frames=8, views=3)
    # 128 frames wide, so (310 - 128) * view / 3 is the start, and steps are 127 / 7.
    starts = [0, 182 / 3, 364 / 3]
    assert indices.tolist() == [[int(s + k * 127 / 7) for k in range(8)] for s in starts]


def test_random_indices_show_a_moment_of_each_segment():
    for seed in range(300):
        rng = np.random.default_rng(seed)
        count, frames = int(rng.integers(1, 60)), int(rng.integers(1, 12))
        times = np.cumsum(rng.exponential(size=count))
        end = times[-1] + rng.exponential()
        indices = random_indices(times, end, frames=frames, rng=rng)
        assert indices.shape == (frames,) and indices.dtype == np.int64
        # What is on screen from times[i] to the next time must meet the segment of the video that it stands for.
        edges = np.linspace(times[0], end, frames + 1)
        gone = np.append(times[1:], end)
        assert (times[indices] <= edges[1:]).all() and (gone[indices] >= edges[:-1]).all()


def test_random_indices_take_every_frame_of_a_segment_equally_often():
    rng = np.random.default_rng(0)
    drawn = np.stack([random_indices(np.arange(32) / 8, 4.0, frames=8, rng=rng) for _ in range(4000)])
    assert (drawn // 4 == np.arange(8)).all()
    # 1000 expected of each of the 32 frames, standard deviation 27.
    assert np.abs(np.bincount(drawn.ravel(), minlength=32) - 1000).max() < 130
    assert np.abs(np.corrcoef(drawn.T)[~np.eye(8, dtype=bool)]).max() < 0.08


def test_random_indices_at_the_very_beginning_of_each_segment():
    class Lowest:
        random = staticmethod(np.zeros)

    assert random_indices(np.arange(32) / 8, 4.0, frames=8, rng=Lowest()).tolist() == list(range(0, 32, 4))


def test_random_indices_of_few_frames_repeat_them():
    rng = np.random.default_rng(0)
    assert random_indices(np.zeros(1), 0.04, frames=8, rng=rng).tolist() == [0] * 8
    two = random_indices(np.array([0.0, 1.0]), 2.0, frames=8, rng=rng)
    assert two.tolist() == [0] * 4 + [1] * 4


def test_random_release_windows_start_anywhere_that_they_fit():
    rng = np.random.default_rng(0)
    drawn = np.stack([random_release_indices(np.arange(300) * 512, fps=30, frames=8, rng=rng) for _ in range(4000)])
    # 128 of 300 frames: starts are uniform in [0, 172), the other frames 127 / 7 apart.
    starts = drawn[:, 0]
    assert starts.min() == 0 and starts.max() == 171
    assert abs(starts.mean() - 85.5) < 4 and abs(starts.std() - 172 / 12**0.5) < 2
    assert set(np.diff(drawn).ravel()) == {18, 19}
    assert set(drawn[:, -1] - starts) <= {127, 126, 128} and drawn.max() <= 299
    twice = random_release_indices(np.arange(300), fps=60, frames=8, rng=np.random.default_rng(1))
    assert np.abs(np.diff(twice) - 255 / 7).max() < 1


def test_random_release_windows_of_short_videos_are_clamped():
    for count in (1, 50, 128):
        drawn = random_release_indices(np.arange(count), fps=30, frames=8, rng=np.random.default_rng(count))
        assert drawn.tolist() == [min(k * 127 // 7, count - 1) for k in range(8)]
