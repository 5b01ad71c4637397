"""The splits of a dataset's videos: from folder names, random, and counts."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import replace
from pathlib import Path

from froster.data.check.entries import VideoEntry
from froster.data.check.report import SplitCount
from froster.data.datasets import Dataset
from froster.data.held_out import assign_splits
from froster.data.lists import SPLITS
from froster.data.manifests import LabeledVideo

SPLIT_WORD = "|".join(SPLITS)
SPLIT_FOLDER = re.compile(
    rf"(?:videos?|clips?|k(?:inetics)?[-_]?[46]00)?[-_ ]*({SPLIT_WORD})[-_ ]*(?:videos?|clips?|set|\d+)?"
)


def split_of_folder(name: str) -> str:
    """train, val or test for `train`, `videos_val`, `test_256` and the like, else ""."""
    match = SPLIT_FOLDER.fullmatch(name.lower())
    return SPLITS[match[1]] if match else ""


def with_random_splits(
    entries: Sequence[VideoEntry], unreadable: Set[Path], shares: Mapping[str, float], seed: int
) -> list[VideoEntry]:
    """Give the readable videos the splits of `assign_splits`, the others of each class train."""
    readable = [(entry.name, entry.label) for entry in entries if entry.path not in unreadable]
    splits = assign_splits(readable, shares, seed)
    return [
        entry if entry.path in unreadable else replace(entry, splits=(splits.get(entry.name, "train"),))
        for entry in entries
    ]


def count_splits(
    dataset: Dataset, entries: Sequence[VideoEntry], unreadable: Iterable[LabeledVideo], from_lists: bool
) -> dict[str, SplitCount]:
    """Counts by split, in the dataset's order, and of all videos."""
    names = [*dataset.split_videos, *sorted({split for one in entries for split in one.splits}, key=split_order)]
    unreadable_videos = Counter(split for video in unreadable for split in (*video.splits, ""))
    listed_videos = Counter(split for entry in entries for split in (*entry.splits, ""))
    found = Counter(split for entry in entries if entry.path for split in (*entry.splits, ""))
    published = {**dataset.split_videos, "": dataset.videos}
    return {
        name or "all": SplitCount(
            published=published.get(name),
            listed=listed_videos[name] if from_lists else found[name],
            found=found[name],
            unreadable=unreadable_videos[name],
        )
        for name in dict.fromkeys((*names, ""))
        if listed_videos[name] or from_lists
    }


def split_order(name: str) -> tuple[int, str]:
    order = list(dict.fromkeys(SPLITS.values()))
    return order.index(name) if name in order else len(order), name


def splits_without_list(dataset: Dataset, entries: Sequence[VideoEntry]) -> list[str]:
    """The dataset's splits that the lists do not cover; [] if the lists have no splits."""
    covered = {split for entry in entries for split in entry.splits}
    if not covered:
        return []
    known = dataset.split_videos or (dataset.train_split, dataset.test_split)
    return [split for split in known if split not in covered]


def could_belong_to(paths: Iterable[str], splits: Sequence[str]) -> bool:
    """Whether a video may belong to one of the splits: it is not in the folder of another split."""
    return any(
        {split for folder in path.split("/")[:-1] if (split := split_of_folder(folder))} <= {*splits} for path in paths
    )


def classes_missing_by_split(entries: Iterable[VideoEntry], readable: Sequence[LabeledVideo]) -> dict[str, list[str]]:
    """For each split, the classes without a readable video in it; splits with all classes are left out."""
    labels = sorted({entry.label for entry in entries})
    present = {(video.label, split) for video in readable for split in video.splits}
    splits = sorted({split for _, split in present}, key=split_order)
    missing = {split: [label for label in labels if (label, split) not in present] for split in splits}
    return {split: names for split, names in missing.items() if names}
