"""Scores of windows against direct scoring, memory against length, and the whole way on drawn puppets."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch

import froster
from froster import FrosterError, Recognizer, VideoError, load_video
from froster.backbones.clip import Clip, ClipConfig
from froster.data.puppets import ACTIONS, action_index, draw_video
from froster.data.puppets.files import write_mp4
from froster.data.puppets.scenes import find_gap
from froster.errors import FrosterWarning
from froster.provenance import ClipSampling
from froster.students import build_student
from froster.text.classifier import encode_classes
from froster.timeline import calibrate_threshold, find_segments, score_timeline
from froster.video.transforms import Preprocessing

LABELS = ["juggling balls", "riding a bicycle", "playing guitar"]


def drawn(action: str, seed: int, seconds: float) -> np.ndarray:
    return draw_video(seed, action_index(action), round(16 * seconds), 64, find_gap("default"))


@pytest.fixture(scope="module")
def stitched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sweeping 0-6 s, juggling 6-12, sweeping 12-18, riding 18-25, sweeping 25-31."""
    path = tmp_path_factory.mktemp("stitched") / "stitched.mp4"
    boring = drawn("sweeping with a broom", 6003, 6)
    juggling, riding = drawn("juggling balls", 5001, 6), drawn("riding a bicycle", 5003, 7)
    write_mp4(path, np.concatenate([boring, juggling, boring, riding, boring]), 16)
    return path


@pytest.fixture(scope="module")
def negatives(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("negatives")
    paths = []
    for seed, action in enumerate(["walking", "digging with a shovel", "fishing", "bowing"], start=7000):
        paths.append(folder / f"{seed}.mp4")
        write_mp4(paths[-1], drawn(action, seed, 10), 16)
    return paths


def random_recognizer(student: str, labels: list[str] = LABELS) -> Recognizer:
    torch.manual_seed(0)
    model = build_student(student, Clip(ClipConfig(32, 8, 64, 2, 1, 64, 2, 1, 32))).eval()
    return Recognizer(model, labels, frames=4, device="cpu", precision="float32")


@pytest.mark.parametrize("student", ["frame_clip", "vifi_clip", "vclip"])
@pytest.mark.parametrize("window, stride, count", [(2.0, 1.0, 30), (1.7, 0.6, 50), (1.0, 3.0, 11)])
def test_windows_score_as_their_segments_do(
    stitched: Path, student: str, window: float, stride: float, count: int
) -> None:
    recognizer = random_recognizer(student)
    windows = list(score_timeline(recognizer, stitched, window=window, stride=stride))
    assert len(windows) == count
    others = encode_classes(recognizer.model, {name: "" for name in ACTIONS if name not in LABELS})
    for one in windows:
        assert one.scores.dtype == one.similarities.dtype == one.contrasts.dtype == np.float32
        clip = load_video(stitched, frames=4, preprocess=Preprocessing(32), start=one.start, end=one.end).frames
        with torch.no_grad():
            seen = recognizer.model.forward_features(clip)
            (similarities,) = recognizer.model.similarities(seen, recognizer.classes).numpy()
            (background,) = recognizer.model.similarities(seen, others).numpy()
        logits = np.exp(recognizer.model.logit_scale.item()) * similarities
        np.testing.assert_allclose(one.similarities, similarities, atol=1e-5)
        np.testing.assert_allclose(one.scores, np.exp(logits) / np.exp(logits).sum(), atol=1e-5)
        expected = (similarities - background.mean()) / background.std(ddof=1)
        np.testing.assert_allclose(one.contrasts, expected, atol=1e-3)


def test_a_frame_in_several_windows_is_encoded_once(stitched: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recognizer, encoded = random_recognizer("frame_clip"), []
    original = recognizer.model.forward_features
    monkeypatch.setattr(
        recognizer.model, "forward_features", lambda frames: encoded.append(frames.shape[1]) or original(frames)
    )
    list(score_timeline(recognizer, stitched, window=2.0, stride=1.0))
    assert sum(encoded) == 31 * 2  # not 30 * 4: at this stride half of a window's frames are the next one's


def test_two_actions_are_found_when_they_happen(stitched: Path, negatives: list[Path]) -> None:
    recognizer = Recognizer("puppets", LABELS, precision="float32")
    windows = list(froster.score_timeline(recognizer, stitched))
    calibrated = froster.calibrate_threshold(recognizer, negatives)
    for found in (find_segments(windows, LABELS), froster.find_segments(windows, LABELS, calibrated)):
        assert [segment.label for segment in found] == ["juggling balls", "riding a bicycle"]
        times = [(segment.start, segment.end) for segment in found]
        np.testing.assert_allclose(times, [(6, 12), (18, 25)], atol=1.0)


@pytest.mark.parametrize("share", [0.0, 0.05, 0.2])
def test_the_threshold_names_its_share_of_the_negatives(negatives: list[Path], share: float) -> None:
    recognizer = random_recognizer("frame_clip")
    threshold = calibrate_threshold(recognizer, negatives, false_positive_rate=share, stride=0.5)
    windows = [m for video in negatives for m in score_timeline(recognizer, video, stride=0.5)]
    named = sum(threshold.predict_label(one) is not None for one in windows)
    assert len(windows) == 4 * 17
    assert named == int(share * len(windows))


def test_too_few_negatives_are_told(negatives: list[Path]) -> None:
    recognizer = random_recognizer("frame_clip")
    with pytest.warns(FrosterWarning, match="give 9 windows; for a rate of 0.05 at least 20 are needed"):
        calibrate_threshold(recognizer, negatives[:1])
    with pytest.raises(FrosterError, match="No window"):
        calibrate_threshold(recognizer, [])
    with pytest.raises(FrosterError, match="from 0 to below 1, not 1"):
        calibrate_threshold(recognizer, negatives, false_positive_rate=1.0)


def test_negatives_that_cannot_be_read_are_left_out(negatives: list[Path], tmp_path: Path) -> None:
    recognizer, done = random_recognizer("frame_clip"), list[str | Path]()
    broken = [tmp_path / "empty.mp4", tmp_path / "text.mp4"]
    broken[0].touch()
    broken[1].write_text("no video")
    with pytest.warns(FrosterWarning) as warned:
        threshold = calibrate_threshold(recognizer, [broken[0], *negatives, broken[1]], done=done.append)
    assert threshold == calibrate_threshold(recognizer, negatives)
    assert done == negatives
    said = [str(warning.message) for warning in warned]
    assert said[0] == f"{broken[0]}: the file is empty; it is skipped."
    assert said[1].startswith(str(broken[1]))
    assert len(said) == 2
    with pytest.warns(FrosterWarning), pytest.raises(FrosterError, match="None of the negatives can be read"):
        calibrate_threshold(recognizer, broken)
    with pytest.raises(FrosterError, match="stride"):  # which is no fault of the videos
        calibrate_threshold(recognizer, negatives, stride=0)


def test_what_cannot_be_scored_is_said(tmp_path: Path) -> None:
    recognizer = random_recognizer("frame_clip")
    with pytest.raises(VideoError, match="no such file"):
        list(score_timeline(recognizer, tmp_path / "missing.mp4"))
    with pytest.raises(FrosterError, match="must be more than 0 s"):
        score_timeline(recognizer, tmp_path / "missing.mp4", stride=0)
    recognizer.runtime.clip_sampling = ClipSampling(sampling="release")
    with pytest.warns(FrosterWarning, match="release sampling is not used"):
        score_timeline(recognizer, tmp_path / "missing.mp4")


def test_gaps_have_no_scores(tmp_path: Path) -> None:
    path = tmp_path / "damaged.mp4"
    write_mp4(path, np.concatenate([drawn("walking", seed, 10) for seed in range(4)]), 16)
    content = bytearray(path.read_bytes())
    first, last = len(content) // 3, len(content) // 2
    content[first:last] = bytes(last - first)
    path.write_bytes(content)
    with pytest.warns(FrosterWarning, match="damaged"):
        windows = list(score_timeline(random_recognizer("vclip"), path))
    gaps = [one.start for one in windows if one.is_gap]
    assert 3 < len(gaps) < len(windows) - 10
    assert [one.start for one in windows] == list(range(len(windows)))
    assert all(np.isnan(one.similarities).all() for one in windows if one.start in gaps)


def unending(pipe: Path, stop: threading.Event) -> None:
    """Writes a film of noise into a named pipe until it is told to stop, or nobody reads."""
    rng = np.random.default_rng(0)
    try:
        with pipe.open("wb", buffering=0) as file, av.open(file, "w", format="mpegts") as container:
            stream = container.add_stream("mpeg4", rate=Fraction(10))
            stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
            while not stop.is_set():
                noise = rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(noise, format="rgb24")))
    except (BrokenPipeError, av.FFmpegError):
        pass


def test_an_unending_source_is_scored_as_it_comes(tmp_path: Path) -> None:
    pipe, stop = tmp_path / "camera", threading.Event()
    os.mkfifo(pipe)
    writer = threading.Thread(target=unending, args=(pipe, stop), daemon=True)
    writer.start()
    windows: Iterator = score_timeline(random_recognizer("frame_clip"), str(pipe))
    try:
        starts = [next(windows).start for _ in range(50)]
    finally:
        stop.set()
        windows.close()
    writer.join(10)
    assert not writer.is_alive()
    assert starts == list(range(50))


def long_video(path: Path, minutes: int) -> None:
    """Two frames a second: one minute is encoded, its packets are repeated."""
    rng = np.random.default_rng(0)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=2, options={"preset": "ultrafast", "g": "120", "bf": "2"})
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        stream.thread_count = 1
        still = rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)
        packets = []
        for number in range(120):
            frame = av.VideoFrame.from_ndarray(np.roll(still, number, axis=0), format="rgb24")
            packets += stream.encode(frame)
        packets += stream.encode()
        minute = [(bytes(packet), packet.pts, packet.dts, packet.is_keyframe, packet.time_base) for packet in packets]
        for repeat in range(minutes):
            for content, pts, dts, keyframe, tick in minute:
                packet = av.Packet(content)
                packet.stream, packet.time_base, packet.is_keyframe = stream, tick, keyframe
                packet.pts, packet.dts = (time + repeat * round(60 / tick) for time in (pts, dts))
                container.mux(packet)


PEAK = """
import resource, sys
import torch
torch.set_num_threads(1)
from froster import Recognizer, score_timeline
from froster.backbones.clip import Clip, ClipConfig
from froster.students import build_student
torch.manual_seed(0)
model = build_student("frame_clip", Clip(ClipConfig(32, 16, 32, 1, 1, 32, 1, 1, 16)))
count = sum(1 for _ in score_timeline(Recognizer(model, ["a", "b"], device="cpu", precision="float32"), sys.argv[1]))
print(count, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
def test_an_hour_takes_no_more_memory_than_a_minute(tmp_path: Path) -> None:
    peaks = {}
    for minutes in (1, 60):
        path = tmp_path / f"{minutes}.mp4"
        long_video(path, minutes)
        result = subprocess.run([sys.executable, "-c", PEAK, str(path)], capture_output=True, text=True, timeout=300)
        assert result.returncode == 0, result.stderr
        windows, peaks[minutes] = map(int, result.stdout.split())
        assert windows == 60 * minutes - 1
    assert peaks[60] - peaks[1] < 30 * 1024  # KiB


def test_an_ensemble_is_refused(stitched: Path) -> None:
    both = Recognizer("puppets", LABELS, ensemble=froster.Ensemble("puppets", 0.3), device="cpu", precision="float32")
    with pytest.raises(FrosterError, match="a recognizer without an ensemble"):
        score_timeline(both, stitched)
