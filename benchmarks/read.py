"""How fast videos become clips, against plain PyAV that reads the same frames in the same run.

    python benchmarks/read.py          # five minutes on two cores
    python benchmarks/read.py 1        # one round instead of five

8 frames at 224 pixels of puppets (72x72, 16 frames) and of 10 seconds at 340x256 and 30 frames a second, both H.264:
three views and one as `froster evaluate` reads them, in threads, and random frames and crops as `froster train` reads
them, in processes. The plain reader opens the file, decodes from its start to the last frame wanted, and turns the
wanted ones into RGB: with PyAV's own settings, with `thread_type = "AUTO"`, and with one thread a file for decoding and
conversion. Scaling, threads and data loader are the same for all. First it is checked that all give the same clips.
They run in turns; medians are printed.
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path

import av
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from froster.data.manifests import LabeledVideo
from froster.data.puppets import ACTIONS, GAPS, draw_video
from froster.data.puppets.files import write_mp4
from froster.inference import load_clips
from froster.training.clips import CLIPS, BatchKeys, Key, TrainingClips, load_batches
from froster.training.recipe import DataSettings
from froster.video import VideoClips
from froster.video.container import TAG_OPTIONS
from froster.video.transforms import Preprocessing, random_crop

FRAMES, SIZE = 8, 224
ROUNDS = 5
SHORT_SIDE = (224, 256)
BATCH = 4
WORKERS = (1, 2)
FILES = 4  # of each kind
PUPPETS, WIDE = "72x72, 16 frames", "340x256, 300 frames"
REPEATS = {PUPPETS: 24, WIDE: 3}  # how often a run reads each file: about a second
OURS, PLAIN = "froster", ("plain PyAV", "PyAV, AUTO", "PyAV, one thread")

Run = Callable[[], Iterator[Tensor]]  # clips, (V, 8, 3, 224, 224) float32 or (B, 8, 3, 224, 224) uint8


def main() -> None:
    rounds = int(sys.argv[1]) if sys.argv[1:] else ROUNDS
    print(f"PyTorch {torch.__version__}, PyAV {av.__version__}, {torch.get_num_threads()} threads\n")
    with tempfile.TemporaryDirectory() as folder:
        kinds = {kind: write_files(Path(folder), kind) for kind in REPEATS}
        print(f"| file | read for | workers | {OURS}, clips a second | {' | '.join(PLAIN)} | {OURS} / plain, / best |")
        print("|---|---|---|---|---|---|---|---|")
        for (kind, videos), what, workers in product(
            kinds.items(), ("testing, 3 views", "testing, 1 view", "training"), WORKERS
        ):
            runs = training_runs(videos, workers) if what == "training" else testing_runs(videos, what, workers)
            check(runs)
            speed = {name: len(videos) / seconds for name, seconds in medians(runs, rounds).items()}
            ratios = [speed[OURS] / speed[PLAIN[0]], speed[OURS] / max(speed[name] for name in PLAIN)]
            speeds = " | ".join(f"{speed[name]:.1f}" for name in (OURS, *PLAIN))
            print(f"| {kind} | {what} | {workers} | {speeds} | {ratios[0]:.2f}, {ratios[1]:.2f} |", flush=True)


def write_files(folder: Path, kind: str) -> list[LabeledVideo]:
    """Videos without noise, which would make the files many times larger; each is listed several times."""
    gap = replace(GAPS["default"], noise=(0.0, 0.0))
    videos = []
    for number in range(FILES):
        path = folder / kind / f"{number}.mp4"
        if kind == PUPPETS:
            frames, fps = draw_video(number, number, 16, 72, gap), 16
        else:
            frames, fps = draw_video(number, number, 300, 340, gap)[:, 42:298], 30
        write_mp4(path, np.ascontiguousarray(frames), fps)
        videos.append(LabeledVideo(path, ACTIONS[number]))
    return videos * REPEATS[kind]


def testing_runs(videos: Sequence[LabeledVideo], what: str, workers: int) -> dict[str, Run]:
    views = 3 if what == "testing, 3 views" else 1

    def ours() -> Iterator[Tensor]:
        for _, clips in load_clips(videos, frames=FRAMES, views=views, preprocess=Preprocessing(SIZE), workers=workers):
            assert isinstance(clips, VideoClips)
            yield clips.frames

    def plain(how: str) -> Iterator[Tensor]:
        def load(video: LabeledVideo) -> Tensor:
            def choose(count: int) -> NDArray[np.int64]:
                segments = views * FRAMES
                return ((2 * np.arange(segments) + 1) * count // (2 * segments)).reshape(FRAMES, views).T

            clips = read_plainly(video.path, choose, lambda image: Preprocessing(SIZE).resize(image[None])[0], how)
            return Preprocessing().normalize(clips.flatten(0, 1)).unflatten(0, clips.shape[:2])

        with ThreadPoolExecutor(workers) as pool:
            yield from pool.map(load, videos)

    return {OURS: ours} | {how: partial(plain, how) for how in PLAIN}


def training_runs(videos: Sequence[LabeledVideo], workers: int) -> dict[str, Run]:
    data = DataSettings(manifest=Path("train.csv"), frames=FRAMES, resize_short_side=SHORT_SIDE, workers=workers)
    clips = TrainingClips(videos, [0] * len(videos), data, SIZE, seed=0)
    keys = BatchKeys(len(videos), BATCH, gradient_accumulation_steps=1, epochs=1, seed=0)

    def ours() -> Iterator[Tensor]:
        return (batch.frames for batch in load_batches(clips, keys, pin_memory=False))

    def plain(how: str) -> Iterator[Tensor]:
        dataset = PlainClips(videos, how)
        return iter(DataLoader(dataset, batch_sampler=keys, num_workers=workers, prefetch_factor=4))

    return {OURS: ours} | {how: partial(plain, how) for how in PLAIN}


class PlainClips(Dataset[Tensor]):
    def __init__(self, videos: Sequence[LabeledVideo], how: str) -> None:
        self.videos, self.how = videos, how

    def __len__(self) -> int:
        return len(self.videos)

    def __getitem__(self, key: Key) -> Tensor:
        rng = np.random.default_rng((0, CLIPS, *key))
        side = int(rng.integers(*SHORT_SIDE, endpoint=True))
        corner, flip = (rng.random(), rng.random()), bool(rng.random() < 0.5)

        def choose(count: int) -> NDArray[np.int64]:
            return ((np.arange(FRAMES) + rng.random(FRAMES)) * count / FRAMES).astype(np.int64)

        return read_plainly(
            self.videos[key[1]].path,
            choose,
            lambda image: random_crop(image, SIZE, side, corner, flip),
            self.how,
        )


def read_plainly(
    path: Path, choose: Callable[[int], NDArray[np.int64]], keep: Callable[[Tensor], Tensor], how: str
) -> Tensor:
    """The chosen frames, `(..., 3, S, S)`, as most code reads them."""
    kept = dict[int, Tensor]()
    with av.open(str(path), **TAG_OPTIONS) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO" if how == "PyAV, AUTO" else "SLICE"
        one_thread = how == "PyAV, one thread"
        stream.codec_context.thread_count = int(one_thread)  # 0: as many as there are cores
        indices = choose(stream.frames)
        wanted = set(indices.ravel().tolist())
        for number, frame in enumerate(container.decode(stream)):
            if number in wanted:
                image = frame.reformat(format="rgb24", threads=int(one_thread)).to_ndarray()
                kept[number] = keep(torch.from_numpy(image))
                if len(kept) == len(wanted):
                    break
    return torch.stack([kept[number] for number in indices.ravel().tolist()]).unflatten(0, indices.shape)


def check(runs: dict[str, Run]) -> None:
    """All runs must give the same clips, bit for bit."""
    for clips in zip(*(run() for run in runs.values()), strict=True):
        for other in clips[1:]:
            assert torch.equal(clips[0], other)


def medians(runs: dict[str, Run], rounds: int) -> dict[str, float]:
    """Median seconds of each, run in turns; starting threads and processes counts."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            times[name].append(timed(run))
    return {name: statistics.median(values) for name, values in times.items()}


def timed(run: Run) -> float:
    start = time.perf_counter()
    for _ in run():
        pass
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
