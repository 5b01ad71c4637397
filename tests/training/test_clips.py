"""Training clips against a search through every crop there can be, and batches in an order that nothing disturbs."""

import ast
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import time
import warnings
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.lib.stride_tricks import sliding_window_view
from PIL import Image
from torch.utils.data._utils.pin_memory import pin_memory

from froster.data.manifests import LabeledVideo
from froster.data.puppets.files import write_mp4
from froster.errors import FrosterError
from froster.training import workers as training_workers
from froster.training.clips import Batch, BatchKeys, Key, TrainingClips, check_videos, collate, load_batches
from froster.training.recipe import DataSettings
from froster.video import decode, decode_frames
from worker_clips import Reporting, Stalling, Stuck


def settings(**values: object) -> DataSettings:
    return DataSettings.model_validate({"manifest": "train.csv", "frames": 4, "resize_short_side": (36, 40), **values})


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> list[LabeledVideo]:
    """Six wide videos of 13 frames of noise: no frame and no crop looks like another."""
    folder, listed = tmp_path_factory.mktemp("videos"), []
    for number in range(6):
        path = folder / f"{number}.mp4"
        write_mp4(path, np.random.default_rng(number).integers(0, 256, (13, 44, 52, 3), dtype=np.uint8), fps=25)
        listed.append(LabeledVideo(path, f"action {number % 3}"))
    return listed


TARGETS = [0, 1, 2, 0, 1, 2]


def explain(clip: torch.Tensor, path: Path, size: int, sides: range) -> tuple[int, int, int, bool, list[int]]:
    """The one short side, top, left and mirroring that make all the clip's frames from frames of the file."""
    frames = decode_frames(path).frames
    found = []
    for short in sides:
        long_side = int(short * 52 / 44)
        scaled = [Image.fromarray(frame).resize((long_side, short), Image.Resampling.BICUBIC) for frame in frames]
        crops = sliding_window_view(np.stack(scaled), (size, size), axis=(1, 2))  # (N, tops, lefts, 3, S, S)
        for flip in (False, True):
            # Few pixels tell most crops from the clip; Pillow's bicubic is at most two gray levels off ours.
            seen = crops[..., ::-1] if flip else crops
            near = np.stack(
                [(np.abs(seen[..., ::7, ::7].astype(int) - c[:, ::7, ::7]) <= 2).all((3, 4, 5)) for c in clip.numpy()]
            )  # (T, N, tops, lefts)
            for top, left in np.argwhere(near.any(1).all(0)):
                numbers = near[:, :, top, left].argmax(1)
                difference = np.abs(seen[numbers, top, left].astype(int) - clip.numpy())
                assert difference.max() <= 2
                found.append((short, int(top), int(left), flip, numbers.tolist()))
    assert len(found) == 1
    return found[0]


def test_all_frames_of_a_clip_share_side_corner_and_mirroring(videos: list[LabeledVideo]) -> None:
    clips = TrainingClips(videos, TARGETS, settings(), size=32, seed=5)
    drawn = []
    for epoch in range(12):
        sample = clips[epoch, epoch % 6]
        assert sample.frames is not None and sample.error is None and sample.target == TARGETS[epoch % 6]
        assert sample.frames.shape == (4, 3, 32, 32) and sample.frames.dtype == torch.uint8
        short, top, left, flip, numbers = explain(sample.frames, videos[epoch % 6].path, 32, range(36, 41))
        assert all(k * 13 // 4 <= n <= (k + 1) * 13 // 4 for k, n in enumerate(numbers))
        drawn.append((short, top / (short - 32), left / (int(short * 52 / 44) - 32), flip, *numbers))
    sides, tops, lefts, flips, *numbers = zip(*drawn, strict=True)
    assert set(sides) >= {36, 40} and set(flips) == {False, True}
    assert min(tops) < 0.25 and max(tops) > 0.75 and min(lefts) < 0.25 and max(lefts) > 0.75
    assert all(len(set(of_segment)) > 1 for of_segment in numbers)
    assert abs(np.corrcoef(tops, lefts)[0, 1]) < 0.9


def test_no_mirroring_and_no_choice_of_size(videos: list[LabeledVideo]) -> None:
    clips = TrainingClips(videos, TARGETS, settings(flip=False, resize_short_side=(44, 44)), size=44, seed=0)
    everything = decode_frames(videos[0].path).frames.transpose(0, 3, 1, 2)
    for epoch in range(8):
        frames = clips[epoch, 0].frames
        assert frames is not None
        windows = sliding_window_view(everything, 44, axis=3).transpose(3, 0, 1, 2, 4)[:, None]
        same = (windows == frames[None, :, None].numpy()).all((3, 4, 5))  # (lefts, T, N)
        assert same.any(2).all(1).sum() == 1  # one offset gives every frame, unmirrored and unscaled


def test_release_sampling_takes_the_windows_frames(tmp_path: Path) -> None:
    gray = np.broadcast_to(np.arange(0, 250, 2, dtype=np.uint8)[:, None, None, None], (125, 32, 32, 3))
    write_mp4(tmp_path / "ramp.mp4", np.ascontiguousarray(gray), fps=30)
    clips = TrainingClips(
        [LabeledVideo(tmp_path / "ramp.mp4", "a")],
        [0],
        settings(sampling="release", resize_short_side=(32, 32)),
        32,
        seed=0,
    )
    starts = set()
    for epoch in range(20):
        frames = clips[epoch, 0].frames
        assert frames is not None
        shown = frames.float().mean((1, 2, 3)) / 2
        assert (shown.diff() - 21).abs().max() < 1.5  # four frames spread over the 64 of a window: 63 / 3 apart
        starts.add(round(shown[0].item()))
    assert len(starts) > 10 and max(starts) <= 62 and min(starts) >= 0


def test_a_clip_depends_on_seed_epoch_and_index_alone(
    videos: list[LabeledVideo], monkeypatch: pytest.MonkeyPatch
) -> None:
    def frames(seed: int, key: Key) -> torch.Tensor:
        taken = TrainingClips(videos, TARGETS, settings(), size=32, seed=seed)[key].frames
        assert taken is not None
        return taken

    first = frames(0, (3, 2))
    torch.manual_seed(99)
    assert torch.equal(frames(0, (3, 2)), first)
    assert not torch.equal(frames(1, (3, 2)), first) and not torch.equal(frames(0, (2, 2)), first)
    read = decode.read
    monkeypatch.setattr(
        decode, "read", lambda path, choose, *rest: read(path, lambda t: (choose(t), choose(t))[1], *rest)
    )
    assert torch.equal(frames(0, (3, 2)), first)


@pytest.mark.parametrize("sampling", ["uniform", "release"])
def test_videos_in_memory_give_the_same_clips_and_are_decoded_once(
    videos: list[LabeledVideo], sampling: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from_files = TrainingClips(videos, TARGETS, settings(sampling=sampling), 36, seed=0)
    in_memory = TrainingClips(videos, TARGETS, settings(sampling=sampling, in_memory=True), 36, seed=0)
    for key in ((0, 1), (1, 1), (7, 1)):
        assert torch.equal(from_files[key].frames, in_memory[key].frames)
    monkeypatch.delattr(decode, "read")
    assert in_memory[3, 1].frames is not None


def test_pictures_smaller_than_the_model_are_refused(videos: list[LabeledVideo]) -> None:
    with pytest.raises(FrosterError, match=r"starts at 36, below the model's input resolution 64: give .* \[64, 64\]"):
        TrainingClips(videos, TARGETS, settings(), size=64, seed=0)


def test_what_cannot_be_read_is_reported_and_left_out(videos: list[LabeledVideo], tmp_path: Path) -> None:
    garbage, absent = tmp_path / "garbage.mp4", tmp_path / "absent.mp4"
    garbage.write_bytes(np.random.default_rng(0).bytes(5000))
    listed = [videos[0], LabeledVideo(garbage, "a"), videos[1], LabeledVideo(absent, "b")]
    clips = TrainingClips(listed, [0, 7, 1, 8], settings(), size=32, seed=0)
    samples = [clips[0, index] for index in range(4)]
    assert [sample.frames is None for sample in samples] == [False, True, False, True]
    batch = collate(samples)
    assert batch.targets.tolist() == [0, 1] and batch.targets.dtype == torch.int64
    for place, index in enumerate((0, 2)):
        expected = samples[index].frames
        assert expected is not None and torch.equal(batch.frames[place], expected)
    assert list(batch.unreadable) == [str(garbage), str(absent)]
    assert "not a video" in batch.unreadable[str(garbage)] and "no such file" in batch.unreadable[str(absent)]
    for nothing in (collate([samples[1], samples[3]]), collate([])):
        assert len(nothing.frames) == len(nothing.targets) == 0


def test_a_clip_that_breaks_off_is_taken_and_named(videos: list[LabeledVideo], tmp_path: Path) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for number in range(4):
        Image.new("RGB", (52, 44)).save(pictures / f"{number}.png")
    (pictures / "4.png").write_bytes(b"no picture")
    for in_memory in (False, True):
        clips = TrainingClips([videos[0], LabeledVideo(pictures, "a")], [0, 1], settings(in_memory=in_memory), 32, 0)
        batch = collate([clips[0, 0], clips[0, 1]])
        assert batch.targets.tolist() == [0, 1] and not batch.unreadable
        assert list(batch.partial) == [str(pictures)]
        assert "1 of 5 images cannot be read" in batch.partial[str(pictures)]


def test_missing_videos_are_counted_at_once(videos: list[LabeledVideo], tmp_path: Path) -> None:
    gone = [LabeledVideo(tmp_path / f"{number}.mp4", "a") for number in range(4)]
    named = f"{gone[0].path}, {gone[1].path}, {gone[2].path}, …; relative"
    with pytest.raises(FrosterError, match=re.escape("4 of the 10 training clips of train.csv do not exist")) as error:
        check_videos(videos + gone, settings())
    assert named in str(error.value) and str(gone[3].path) not in str(error.value)
    with pytest.raises(FrosterError, match=re.escape(f"allows: {gone[0].path}; relative")):
        check_videos(videos + gone[:1], settings())
    allowed = check_videos(videos + gone, settings(max_unreadable=0.4))
    assert list(allowed) == [str(video.path) for video in gone]
    assert check_videos(videos, settings(max_unreadable=0)) == {}


def test_labels_that_teach_nothing_or_contradict_each_other_are_refused(videos: list[LabeledVideo]) -> None:
    with pytest.raises(FrosterError, match=r"All clips of train\.csv have the label 'action 0'"):
        check_videos([videos[0], videos[3]], settings())
    twice = [*videos, LabeledVideo(videos[2].path, "other")]
    with pytest.raises(FrosterError, match=r"lists \S*2\.mp4 as 'action 2' and as 'other'; a clip has one label"):
        check_videos(twice, settings())
    assert check_videos([*videos, videos[0]], settings()) == {}


@pytest.mark.parametrize("sampling", ["uniform", "release"])
def test_clips_come_from_their_segments(videos: list[LabeledVideo], sampling: str) -> None:
    everything = decode_frames(videos[0].path).frames.transpose(0, 3, 1, 2)
    listed = [replace(videos[0], start=start, end=end) for start, end in ((None, 0.2), (0.2, 0.4), (0.4, None))]
    inside = [range(5), range(5, 10), range(10, 13)]  # at 25 frames a second
    how = {"flip": False, "resize_short_side": (44, 44), "sampling": sampling}
    from_files = TrainingClips(listed, [0, 1, 2], settings(**how), size=44, seed=0)
    in_memory = TrainingClips(listed, [0, 1, 2], settings(**how, in_memory=True), size=44, seed=0)
    for index, numbers in enumerate(inside):
        taken = set()
        for epoch in range(8):
            frames = from_files[epoch, index].frames
            assert frames is not None and torch.equal(frames, in_memory[epoch, index].frames)
            windows = sliding_window_view(everything, 44, axis=3).transpose(3, 0, 1, 2, 4)[:, None]
            same = (windows == frames[None, :, None].numpy()).all((3, 4, 5)).any(0)  # (T, N)
            taken |= set(same.argmax(1).tolist())
            assert (same.sum(1) == 1).all()
        # The window of release sampling is longer than the segment: its first frame, then its last one again and again.
        assert taken == (set(numbers) if sampling == "uniform" else {numbers[0], numbers[-1]})
        assert list(in_memory.decoded[listed[index]].kept) == list(numbers)


def test_a_file_may_be_listed_with_several_segments(videos: list[LabeledVideo], tmp_path: Path) -> None:
    path = videos[0].path
    listed = [LabeledVideo(path, "a", start=0, end=0.2), LabeledVideo(path, "b", start=0.2), LabeledVideo(path, "c")]
    assert check_videos(listed, settings()) == {}
    for other in (replace(listed[1], label="c"), replace(listed[0], label="b", start=None), LabeledVideo(path, "d")):
        with pytest.raises(FrosterError, match=r"0\.mp4.* as '.' and as '.'; a clip has one label"):
            check_videos([*listed, other], settings())
    gone = [LabeledVideo(tmp_path / "x.mp4", "a", start=float(n)) for n in range(3)]
    assert list(check_videos(listed + gone, settings(max_unreadable=0.5))) == [
        f"{tmp_path / 'x.mp4'}{segment}" for segment in ("", " from 1 s on", " from 2 s on")
    ]
    with pytest.raises(FrosterError, match="3 of the 6 training clips"):
        check_videos(listed + gone, settings(max_unreadable=0.4))


def test_segments_outside_of_a_video_are_told_apart(videos: list[LabeledVideo]) -> None:
    path = videos[0].path
    listed = [replace(videos[0], start=7.0, end=9.5), replace(videos[0], start=8.0), replace(videos[0], end=1.2)]
    for in_memory in (False, True):
        clips = TrainingClips(listed, [0, 0, 0], settings(in_memory=in_memory), size=32, seed=0)
        batch = collate([clips[0, index] for index in range(3)])
        assert len(batch.targets) == 1
        assert list(batch.unreadable) == [f"{path} from 7 s to 9.5 s", f"{path} from 8 s on"]
        assert all("the video is 0.52 s long" in reason for reason in batch.unreadable.values())
        assert list(batch.partial) == [f"{path} from 0 s to 1.2 s"]


def test_workers_change_nothing(videos: list[LabeledVideo]) -> None:
    runs: list[list[Batch]] = []
    before = torch.random.get_rng_state()
    for workers in (0, 2):
        clips = TrainingClips(videos, TARGETS, settings(workers=workers), size=32, seed=1)
        keys = BatchKeys(len(videos), batch_size=4, gradient_accumulation_steps=2, epochs=3, seed=1)
        runs.append(list(load_batches(clips, keys, pin_memory=False)))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert len(runs[0]) == len(runs[1]) == 6
    for alone, together in zip(*runs, strict=True):
        assert torch.equal(alone.frames, together.frames) and torch.equal(alone.targets, together.targets)
        assert len(alone.frames) == 2 and not alone.unreadable


def test_a_worker_has_one_thread_and_the_limits_of_the_main_process_but_not_its_script(
    videos: list[LabeledVideo], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for pixels in (5000, 7000):
        monkeypatch.setenv("FROSTER_MAX_PIXELS", str(pixels))
        clips = Reporting(videos, TARGETS, settings(workers=1), size=32, seed=1)
        (batch,) = load_batches(clips, BatchKeys(6, 6, 1, 1, seed=0), pin_memory=False)
        [report] = set(batch.unreadable.values())
        found.append(ast.literal_eval(report))
    assert [report[:3] for report in found] == [(1, 5000, None), (1, 7000, None)]
    assert found[0][3] != found[1][3] != os.getpid()


HELD = """
import sys, threading
from froster.data.manifests import LabeledVideo
from froster.training import clips
from froster.training.recipe import DataSettings
from froster.video import decode

# As where a thread of the main process imports, logs or decodes just when a worker starts.
lock = decode.lock = threading.Lock()
read = decode.read
def locked(*arguments):
    with lock:
        return read(*arguments)
decode.read = locked
videos = [LabeledVideo(sys.argv[1], "a")] * 4
data = DataSettings(manifest="train.csv", frames=2, resize_short_side=(32, 32), workers=2)
loaded = clips.TrainingClips(videos, [0] * 4, data, size=32, seed=0)
with lock:
    batches = clips.load_batches(loaded, clips.BatchKeys(4, 2, 1, 1, 0), False)
    print([len(batch.targets) for batch in batches])
"""


@pytest.mark.slow(8)
def test_locks_that_the_main_process_holds_do_not_stop_workers_and_scripts_need_no_guard(
    videos: list[LabeledVideo], tmp_path: Path
) -> None:
    """The script calls the loader at its top level; started from a copy of this process, its workers would hang."""
    script = tmp_path / "script.py"
    script.write_text(HELD)
    run = subprocess.run([sys.executable, script, videos[0].path], capture_output=True, text=True, timeout=300)
    assert (run.returncode, run.stdout) == (0, "[2, 2]\n"), run.stderr


def test_a_killed_worker_is_said_with_what_to_do(videos: list[LabeledVideo]) -> None:
    clips = Stalling(videos, TARGETS, settings(workers=1), size=32, seed=1)
    batches = load_batches(clips, BatchKeys(6, 6, 1, 1, seed=0), pin_memory=False)
    [worker] = multiprocessing.active_children()
    worker.kill()
    with pytest.raises(FrosterError, match=rf"worker process \(pid {worker.pid}\) was killed .* fewer data\.workers"):
        next(batches)


@pytest.mark.slow
def test_a_worker_that_ignores_sigterm_is_killed(videos: list[LabeledVideo]) -> None:
    clips = Stuck(videos, TARGETS, settings(workers=1), size=32, seed=1)
    batches = load_batches(clips, BatchKeys(6, 6, 1, 1, seed=0), pin_memory=False)
    [worker] = multiprocessing.active_children()
    stuck = videos[0].path.with_name("stuck")
    while not stuck.exists():
        time.sleep(0.1)
    del batches
    assert worker.exitcode == -signal.SIGKILL


@pytest.mark.parametrize("workers", [0, 2])
def test_a_batch_that_does_not_come_is_said_with_the_file(
    videos: list[LabeledVideo], workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training_workers, "PATIENCE", 0.5)
    go = videos[0].path.with_name("go")
    clips = Stalling(videos, TARGETS, settings(workers=workers), size=32, seed=1)
    seen = []

    def warned(message: Warning, *_: object, **__: object) -> None:
        seen.append(str(message))
        if len(seen) == 2:
            go.touch()

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.showwarning = warned
            batches = list(load_batches(clips, BatchKeys(6, 6, 1, 1, seed=0), pin_memory=False))
    finally:
        go.unlink(missing_ok=True)
    assert [len(batch.targets) for batch in batches] == [6]
    said = re.fullmatch(r"No batch has arrived for \d+ seconds: (.*)\. The run waits; .*", seen[1])
    assert said and re.search(rf"worker \d has been reading {re.escape(str(videos[1].path))} for \d+ s", said[1])
    assert len(re.findall(r"worker \d waits", said[1])) == (1 if workers else 0)


def test_the_loader_pins_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor, *device: tensor + 1)
    pinned = pin_memory(Batch(torch.zeros(2), torch.tensor([4, 5]), {"a.mp4": "broken"}, {"b.mp4": "breaks off"}))
    assert pinned.frames.tolist() == [1, 1] and pinned.targets.tolist() == [5, 6]
    assert (pinned.unreadable, pinned.partial) == ({"a.mp4": "broken"}, {"b.mp4": "breaks off"})


def test_an_epoch_is_a_random_order_without_its_incomplete_batch() -> None:
    lists = list(BatchKeys(clips=23, batch_size=5, gradient_accumulation_steps=1, epochs=3, seed=7))
    assert len(lists) == 12 and all(len(batch) == 5 for batch in lists)
    orders = []
    for epoch in range(3):
        keys = [key for batch in lists[4 * epoch : 4 * epoch + 4] for key in batch]
        assert {key[0] for key in keys} == {epoch}
        orders.append([index for _, index in keys])
        assert len(set(orders[-1])) == 20 and set(orders[-1]) <= set(range(23)) and orders[-1] != sorted(orders[-1])
    assert orders[0] != orders[1] != orders[2]
    assert lists == list(BatchKeys(clips=23, batch_size=5, gradient_accumulation_steps=1, epochs=3, seed=7))
    assert lists != list(BatchKeys(clips=23, batch_size=5, gradient_accumulation_steps=1, epochs=3, seed=8))


@pytest.mark.parametrize("accumulate", [1, 2, 4])
@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_micro_batches_of_all_processes_are_the_global_batch(accumulate: int, world_size: int) -> None:
    whole = list(BatchKeys(50, batch_size=8, gradient_accumulation_steps=1, epochs=2, seed=0))
    ranks = [
        list(BatchKeys(50, 8, accumulate, 2, seed=0, rank=rank, world_size=world_size)) for rank in range(world_size)
    ]
    assert all(len(lists) == len(whole) * accumulate for lists in ranks)
    for step, batch in enumerate(whole):
        rows = [lists[step * accumulate + micro] for micro in range(accumulate) for lists in ranks]
        assert sorted(key for row in rows for key in row) == sorted(batch)
        of_micro = [sum(map(len, rows[m * world_size : (m + 1) * world_size])) for m in range(accumulate)]
        assert of_micro == [8 // accumulate] * accumulate
        assert max(map(len, rows)) - min(map(len, rows)) <= 1


def test_a_resumed_run_is_the_tail_of_the_whole_one() -> None:
    whole = list(BatchKeys(23, batch_size=6, gradient_accumulation_steps=3, epochs=4, seed=2, rank=1, world_size=2))
    assert len(whole) == 4 * 3 * 3
    for step in range(13):
        keys = BatchKeys(23, 6, 3, 4, seed=2, start_step=step, rank=1, world_size=2)
        assert list(keys) == whole[3 * step :] and len(keys) == len(whole) - 3 * step


def test_few_clips_make_one_step() -> None:
    keys = BatchKeys(clips=3, batch_size=8, gradient_accumulation_steps=4, epochs=2, seed=0)
    lists = list(keys)
    assert keys.steps_per_epoch == 1 and len(keys) == len(lists) == 8
    for epoch in range(2):
        step = lists[4 * epoch : 4 * epoch + 4]
        assert sorted(key for micro_batch in step for key in micro_batch) == [(epoch, index) for index in range(3)]
        assert sorted(map(len, step)) == [0, 1, 1, 1]


def test_few_clips_are_gone_through_until_the_steps_are_enough() -> None:
    keys = BatchKeys(clips=65, batch_size=16, gradient_accumulation_steps=1, epochs=12, seed=3, min_steps=400)
    assert (keys.passes_per_epoch, keys.steps_per_epoch, keys.steps, keys.left_out) == (9, 36, 432, 1)
    lists = list(keys)
    assert len(lists) == len(keys) == 432
    assert len({key for batch in lists for key in batch}) == 432 * 16  # no clip is cut the same way twice
    assert lists == list(BatchKeys(65, 16, 1, epochs=108, seed=3))  # the same passes, grouped otherwise
    resumed = BatchKeys(65, 16, 1, 12, seed=3, start_step=36 * 5 + 7, min_steps=400)
    assert list(resumed) == lists[36 * 5 + 7 :]
    for enough in (0, 1, 48):
        assert BatchKeys(65, 16, 1, 12, seed=3, min_steps=enough).steps == 48
    assert BatchKeys(clips=3, batch_size=8, gradient_accumulation_steps=1, epochs=2, seed=0).left_out == 0


def test_released_preprocessing_and_color_jitter_change_the_pixels_alone(videos: list[LabeledVideo]) -> None:
    """Frames, crops and flips are drawn first: they are the same with and without."""
    how = {"resize_short_side": (36, 40)}
    plain, released, jittered = (
        TrainingClips(videos, TARGETS, settings(**how, **more), size=32, seed=0)
        for more in ({}, {"preprocess": "release"}, {"color_jitter": 0.4})
    )
    for index in range(len(videos)):
        frames, bilinear, colored = (clips[0, index].frames for clips in (plain, released, jittered))
        assert frames is not None and bilinear is not None and colored is not None
        assert (frames.dtype, bilinear.dtype, colored.dtype) == (torch.uint8, torch.float32, torch.uint8)
        same = torch.corrcoef(torch.stack([bilinear.flatten(), frames.flatten().float()]))[0, 1]
        assert 0.8 < same < 1
        assert not torch.equal(colored, frames)
        # One set of factors for all frames of the clip: where frames are alike, they stay alike.
        assert torch.equal(jittered[0, index].frames, colored)
    factors = [
        (jittered[0, index].frames.float().mean() / plain[0, index].frames.float().mean()).item()
        for index in range(len(videos))
    ]
    assert len({round(factor, 2) for factor in factors}) > 2


def test_random_augmentations_are_one_draw_a_clip(videos: list[LabeledVideo]) -> None:
    how = {"resize_short_side": (36, 40), "in_memory": True}
    plain, erased, augmented = (
        TrainingClips(videos, TARGETS, settings(**how, **more), size=32, seed=0)
        for more in ({}, {"random_erasing": 1.0}, {"rand_augment": (2, 30)})
    )
    changed = 0
    for number in range(10):
        frames = erased[number, 0].frames
        assert frames is not None
        assert torch.equal(erased[number, 0].frames, frames)  # the cached frames stay as they are
        in_all = (frames == frames[:1]).all(dim=1).all(dim=0)  # pixels that no frame changes, such as the box
        assert in_all.sum() >= 0.02 * 32 * 32 * 0.8
        ours, theirs = augmented[number, 0].frames, plain[number, 0].frames
        assert ours is not None and theirs is not None and ours.shape == theirs.shape
        assert torch.equal(augmented[number, 0].frames, ours)
        changed += not torch.equal(ours, theirs)
    assert changed >= 5  # some operations are the identity


def test_balanced_passes_have_as_many_clips_of_each_class() -> None:
    targets = [0] * 20 + [1] * 3 + [2]
    passes = list(BatchKeys(24, batch_size=24, gradient_accumulation_steps=1, epochs=3, seed=5, targets=targets))
    for number, drawn in enumerate(passes):
        assert {key[0] for key in drawn} == {number}
        assert sorted(targets[key[1]] for key in drawn) == [0] * 8 + [1] * 8 + [2] * 8
        assert len(set(drawn)) == 24  # a repeated clip is cut in another way
        repeated = Counter(key[1] for key in drawn if targets[key[1]] == 1)
        assert max(repeated.values()) - min(repeated.values()) <= 1
    assert passes[0] != passes[1]
    assert passes == list(BatchKeys(24, 24, 1, 3, seed=5, targets=targets))
    resumed = BatchKeys(24, 24, 1, 3, seed=5, targets=targets, start_step=2)
    assert list(resumed) == passes[2:]


def test_what_does_not_divide_goes_to_random_classes() -> None:
    targets = [0] * 8 + [1, 2]
    counts = Counter(
        tuple(sorted(Counter(targets[key[1]] for key in drawn).items()))
        for drawn in BatchKeys(10, 10, 1, epochs=60, seed=1, targets=targets)
    )
    assert counts.keys() == {((0, 4), (1, 3), (2, 3)), ((0, 3), (1, 4), (2, 3)), ((0, 3), (1, 3), (2, 4))}
