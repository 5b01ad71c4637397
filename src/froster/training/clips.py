"""Training clips: random frames and crops of labeled videos, in an order that depends only on the seed."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from froster.data.manifests import LabeledVideo
from froster.errors import FrosterError, VideoError
from froster.training.recipe import DataSettings
from froster.training.workers import Activity, iterate, warn_when_stalled
from froster.video import decode
from froster.video.augment import apply_operations, draw_erased, draw_operations
from froster.video.sampling import random_indices, random_release_indices
from froster.video.timeline import Choose, Keep, Reading, Timeline
from froster.video.transforms import Interpolation, color_jitter, random_crop

Key = tuple[int, ...]  # number of the pass over all clips, index of the video, and its repetition in the pass if any

MISSING_NAMED = 3  # missing clips that an error names
ORDERS, CLIPS = 0, 1  # streams of random numbers: a generator is seeded with (seed, stream, ...)


@dataclass(frozen=True)
class Sample:
    """One training clip, or why there is none."""

    video: LabeledVideo
    target: int
    frames: Tensor | None  # (T, 3, S, S) uint8, or float32 in [0, 255] for `preprocess: release`
    error: str | None
    warning: str | None = None  # if only part of the file could be decoded


@dataclass
class Batch:
    """The clips of a micro-batch that could be decoded."""

    frames: Tensor  # (b, T, 3, S, S) uint8 or float32 in [0, 255]; (0,) where b is 0
    targets: Tensor  # (b,) int64
    unreadable: dict[str, str]  # name -> error of the clips that were skipped
    partial: dict[str, str] = field(default_factory=dict)  # name -> warning of the clips that were partly decoded

    def pin_memory(self) -> "Batch":
        return replace(self, frames=self.frames.pin_memory(), targets=self.targets.pin_memory())


def clip_name(video: LabeledVideo) -> str:
    """A clip's path, with its segment if it is not the whole file."""
    if not video.start and video.end is None:
        return str(video.path)
    until = "on" if video.end is None else f"to {video.end:.10g} s"
    return f"{video.path} from {video.start or 0:.10g} s {until}"


def check_videos(videos: Sequence[LabeledVideo], data: DataSettings) -> dict[str, str]:
    """The videos that do not exist: name -> error, as in `Batch.unreadable`.

    Raises `FrosterError` when they exceed `data.max_unreadable`, when all videos have the same label, and when one (the
    same segment of the same file) has two labels.
    """
    named = {clip_name(video): video for video in videos}
    if len({video.label for video in videos}) == 1:
        raise FrosterError(
            f"All clips of {data.manifest} have the label {videos[0].label!r}: training needs at least two classes."
        )
    for video in videos:
        other = named[name := clip_name(video)]
        if video.label != other.label:
            raise FrosterError(
                f"The manifest {data.manifest} lists {name} as {video.label!r} and as {other.label!r}; "
                "a clip has one label."
            )
    missing = [name for name, video in named.items() if not video.path.exists()]
    if len(missing) > data.max_unreadable * len(videos):
        raise FrosterError(
            f"{len(missing)} of the {len(videos)} training clips of {data.manifest} do not exist, more than "
            f"data.max_unreadable ({100 * data.max_unreadable:g} %) allows: {', '.join(missing[:MISSING_NAMED])}"
            f"{', …' if len(missing) > MISSING_NAMED else ''}; relative paths start at the manifest's folder."
        )
    return {name: f"{named[name].path}: no such file." for name in missing}


class TrainingClips(Dataset[Sample]):
    """Clips of T random frames that share crop, flip and color jitter; `clips[pass, index]` is deterministic.

    `targets`: class index of each video; `size`: the model's input resolution S. Raises `FrosterError` when the
    smallest short side is below `size`. A video that cannot be decoded gives a `Sample` without frames.
    """

    def __init__(
        self,
        videos: Sequence[LabeledVideo],
        targets: Sequence[int],
        data: DataSettings,
        size: int,
        seed: int,
        interpolation: Interpolation = "bicubic",
    ) -> None:
        if data.resize_short_side[0] < size:
            raise FrosterError(
                f"data.resize_short_side starts at {data.resize_short_side[0]}, below the model's input resolution "
                f"{size}: give at least [{size}, {max(size, data.resize_short_side[1])}]."
            )
        self.videos, self.targets, self.data, self.size, self.seed = videos, targets, data, size, seed
        self.interpolation = interpolation
        self.decoded: dict[LabeledVideo, Reading[NDArray[np.uint8]]] = {}
        self.activity = Activity(data.workers)

    def __len__(self) -> int:
        return len(self.videos)

    def __getitem__(self, key: Key) -> Sample:
        with self.activity.loading(key[1]):
            return self.load(key)

    def describe_workers(self) -> str:
        """What each worker is doing, for a message."""
        return self.activity.describe(lambda index: clip_name(self.videos[index]))

    def load(self, key: Key) -> Sample:
        video, target = self.videos[key[1]], self.targets[key[1]]
        rng = np.random.default_rng((self.seed, CLIPS, *key))
        short_side = int(rng.integers(*self.data.resize_short_side, endpoint=True))
        corner = (rng.random(), rng.random())
        flip = self.data.flip and rng.random() < 0.5
        jitter = self.data.color_jitter
        if jitter:
            first, second, third = rng.uniform(1 - jitter, 1 + jitter, size=3).tolist()
            order = rng.permutation(3).tolist()
        operations = draw_operations(rng, *self.data.rand_augment) if self.data.rand_augment else []
        probability = self.data.random_erasing
        erased = draw_erased(rng, self.size) if probability and rng.random() < probability else None
        state = rng.bit_generator.state

        def choose(timeline: Timeline) -> NDArray[np.int64]:
            rng.bit_generator.state = state  # called twice for a damaged file: the draws must be the same
            if self.data.sampling == "release":
                fps = float(timeline.rate)
                return random_release_indices(timeline.pts, fps=fps, frames=self.data.frames, rng=rng)
            return random_indices(timeline.times, timeline.duration, frames=self.data.frames, rng=rng)

        def keep(image: NDArray[np.uint8]) -> Tensor:
            release = self.data.preprocess == "release"
            crop = random_crop(
                torch.from_numpy(image), self.size, short_side, corner, flip, release, self.interpolation
            )
            if operations:
                crop = apply_operations(crop, operations)
            if jitter:
                crop = color_jitter(crop, (first, second, third), order)
            if erased:
                rows, columns, noise = erased
                crop = crop.clone()  # the cached frame of `in_memory` stays as it is
                crop[:, rows, columns] = noise
            return crop

        try:
            if self.data.in_memory:
                reading = self.from_memory(video, choose, keep)
            else:
                reading = decode.read(video.path, choose, keep, video.start, video.end)
        except VideoError as error:
            return Sample(video, target, None, str(error))
        frames = torch.stack([reading.kept[number] for number in reading.indices.tolist()])
        return Sample(video, target, frames, None, reading.warning)

    def from_memory(self, video: LabeledVideo, choose: Choose, keep: Keep[Tensor]) -> Reading[Tensor]:
        """Like `decode.read`, from cached frames: each video is decoded once."""
        path, start, end = video.path, video.start, video.end
        if video not in self.decoded:
            self.decoded[video] = decode.read(path, all_frames, lambda image: image, start, end)
        whole = self.decoded[video]
        indices = decode.within(path, choose, start, end)(whole.timeline)
        kept = {number: keep(whole.kept[number]) for number in np.unique(indices).tolist()}
        return Reading(kept, indices, whole.timeline, whole.warning)


def all_frames(timeline: Timeline) -> NDArray[np.int64]:
    return np.arange(len(timeline))


def collate(samples: Sequence[Sample]) -> Batch:
    """A batch of the samples that have frames; the others are listed in `unreadable`."""
    frames = [sample.frames for sample in samples if sample.frames is not None]
    return Batch(
        torch.stack(frames) if frames else torch.empty(0, dtype=torch.uint8),
        torch.tensor([sample.target for sample in samples if sample.frames is not None], dtype=torch.int64),
        {clip_name(sample.video): sample.error for sample in samples if sample.error is not None},
        {clip_name(sample.video): sample.warning for sample in samples if sample.warning is not None},
    )


class BatchKeys(Sampler[list[Key]]):
    """Batch sampler of a whole run: the (pass, index) keys of each micro-batch of this process.

    A pass is a random permutation of all `clips` in batches of `batch_size`; the incomplete last batch is dropped,
    unless it is the only one. An epoch is one pass, or more where `min_steps` needs them. A batch is
    `gradient_accumulation_steps` micro-batches, each split over the processes; a list may be empty. `start_step` is the
    optimizer step to resume from: the batches are the same as without the interruption. `targets`: the class of each
    clip, for passes with equally many clips of each class (`class_balance: sampling`).
    """

    def __init__(
        self,
        clips: int,
        batch_size: int,
        gradient_accumulation_steps: int,
        epochs: int,
        seed: int,
        start_step: int = 0,
        rank: int = 0,
        world_size: int = 1,
        min_steps: int = 0,
        targets: Sequence[int] | None = None,
    ) -> None:
        self.clips, self.batch_size, self.gradient_accumulation_steps = clips, batch_size, gradient_accumulation_steps
        self.steps_per_pass = max(1, clips // batch_size)
        self.passes_per_epoch = max(1, math.ceil(min_steps / (epochs * self.steps_per_pass)))
        self.epochs, self.seed, self.start_step, self.min_steps = epochs, seed, start_step, min_steps
        self.rank, self.world_size = rank, world_size
        self.by_class = None if targets is None else [np.flatnonzero(np.equal(targets, c)) for c in sorted({*targets})]

    @property
    def steps_per_epoch(self) -> int:
        return self.passes_per_epoch * self.steps_per_pass

    @property
    def steps(self) -> int:
        """Optimizer steps of the whole run."""
        return self.epochs * self.steps_per_epoch

    @property
    def left_out(self) -> int:
        """Clips dropped in each pass because they do not fill a batch; different ones each time."""
        return max(0, self.clips - self.steps_per_pass * self.batch_size)

    def __len__(self) -> int:
        return (self.steps - self.start_step) * self.gradient_accumulation_steps

    def __iter__(self) -> Iterator[list[Key]]:
        first, skipped = divmod(self.start_step, self.steps_per_pass)
        for number in range(first, self.epochs * self.passes_per_epoch):
            rng = np.random.default_rng((self.seed, ORDERS, number))
            order = rng.permutation(self.clips)[:, None] if self.by_class is None else balanced(self.by_class, rng)
            for step in range(skipped if number == first else 0, self.steps_per_pass):
                batch = order[step * self.batch_size : (step + 1) * self.batch_size]
                for micro_batch in np.array_split(batch, self.gradient_accumulation_steps):
                    yield [(number, *key) for key in micro_batch[self.rank :: self.world_size].tolist()]


def balanced(by_class: Sequence[NDArray[np.int64]], rng: np.random.Generator) -> NDArray[np.int64]:
    """As many clips as there are, in random order, equally many of each class up to one: rows (index, repetition).

    `by_class`: the indices of each class's clips. A small class repeats all its clips before any of them once more.
    """
    clips, classes = sum(map(len, by_class)), len(by_class)
    more = rng.permutation(classes) < clips % classes
    drawn = []
    for members, one_more in zip(by_class, more, strict=True):
        count = clips // classes + one_more
        rounds = -(-count // len(members))
        indices = np.concatenate([rng.permutation(members) for _ in range(rounds)] or [members[:0]])
        repetitions = np.repeat(np.arange(rounds), len(members))
        drawn.append(np.stack([indices, repetitions], axis=1)[:count])
    return rng.permutation(np.concatenate(drawn))


def load_batches(clips: TrainingClips, keys: BatchKeys, pin_memory: bool) -> Iterator[Batch]:
    """Batches in the order of `keys`; one pass is the whole run, so the workers start once, here.

    Warns where no batch comes for minutes, and of which file.
    """
    workers = clips.data.workers
    batches = iterate(
        clips,
        workers,
        batch_sampler=keys,
        collate_fn=collate,
        pin_memory=pin_memory,
        prefetch_factor=4 if workers else None,
    )
    return warn_when_stalled(batches, clips.describe_workers)
