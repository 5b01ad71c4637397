"""The parts of a dataset that a number in the papers' tables is measured on: classes, and their videos in a split."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from froster.data.manifests import LabeledVideo
from froster.errors import FrosterError
from froster.evaluation import Evaluation, evaluate_scores
from froster.protocols.scores import Scores

HALVES = 10  # random halves of the classes in EP1


@dataclass(frozen=True)
class Part:
    """Videos of `classes`, in any of the `splits` or, without them, all; each is compared with these classes."""

    name: str
    classes: tuple[str, ...]
    splits: tuple[str, ...] = ()

    def contains(self, video: LabeledVideo) -> bool:
        return video.label in self.classes and (not self.splits or any(split in self.splits for split in video.splits))

    @property
    def videos_from(self) -> str:
        """For reports: the splits, or "all videos"."""
        return " and ".join(self.splits) or "all videos"


def evaluate_part(scores: Scores, part: Part) -> Evaluation:
    """Top-1, top-5 and confusions of one part. Raises `FrosterError` where it has no video that can be read."""
    rows = [row for row, video in enumerate(scores.videos) if part.contains(video)]
    if not rows:
        where = f" in {part.videos_from}" if part.splits else ""
        raise FrosterError(f"There is no readable video of the {len(part.classes)} classes of {part.name}{where}.")
    columns = [scores.labels.index(name) for name in part.classes]
    targets = torch.tensor([part.classes.index(scores.videos[row].label) for row in rows])
    return evaluate_scores(scores.values[rows][:, columns], targets, part.classes)


def select_videos(videos: Iterable[LabeledVideo], parts: Sequence[Part]) -> list[LabeledVideo]:
    """The videos that some part needs."""
    return [video for video in videos if any(part.contains(video) for part in parts)]


def random_half(classes: Sequence[str], draw: int) -> tuple[str, ...]:
    """EP1 of a dataset of one's own: half of the classes at random, the same in every run."""
    chosen = np.random.default_rng((0, draw)).permutation(len(classes))[: len(classes) // 2]
    return tuple(classes[place] for place in sorted(chosen.tolist()))


def draw_shots(
    videos: Sequence[LabeledVideo], classes: Sequence[str], shots: int, draw: int
) -> tuple[list[LabeledVideo], dict[str, int]]:
    """`shots` videos of each class at random, the same in every run whatever the order of `videos`.

    Also returns the classes that have fewer, with how many they have; all of those are taken.
    """
    chosen, short = list[LabeledVideo](), dict[str, int]()
    for place, name in enumerate(classes):
        own = sorted((video for video in videos if video.label == name), key=lambda v: (str(v.path), v.start or 0.0))
        if len(own) < shots:
            short[name] = len(own)
        order = np.random.default_rng((1, draw, place)).permutation(len(own))[:shots]
        chosen += [own[index] for index in sorted(order.tolist())]
    return chosen, short


def frequent_half(
    training: Iterable[LabeledVideo], test: Iterable[LabeledVideo]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Base and novel classes of a dataset of one's own: those with more training videos, and the rest.

    Classes of test videos alone are novel. Each half is in alphabetical order.
    """
    counts = Counter(video.label for video in training)
    counts.update(dict.fromkeys((video.label for video in test), 0))
    ordered = sorted(counts, key=lambda name: (-counts[name], name))
    half = -(-len(ordered) // 2)
    return tuple(sorted(ordered[:half])), tuple(sorted(ordered[half:]))
