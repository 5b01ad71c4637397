"""The datasets of a protocol, as `froster data check` lists them."""

import itertools
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath

from froster.data.datasets import DATASETS, find_dataset
from froster.data.lists import read_list
from froster.data.manifests import LabeledVideo, class_indices, listed, read_manifest
from froster.data.vocabularies import PARTS, VOCABULARIES, canonical_names, read_vocabulary
from froster.errors import FrosterError
from froster.text.names import name_key

FAULTS = 0.1  # of a list's labels


@dataclass(frozen=True)
class ProtocolData:
    """A dataset: its name here and in tables, its videos, and the splits to train and test on."""

    name: str
    title: str
    videos: list[LabeledVideo]
    train_split: str
    test_split: str
    manifest: Path

    def split(self, name: str) -> list[LabeledVideo]:
        """The videos of a split. Raises `FrosterError` that names the splits there are."""
        chosen = [video for video in self.videos if name in video.splits]
        if not chosen:
            there = sorted({split for video in self.videos for split in video.splits})
            which = (
                f"it has {', '.join(there)}" if there else "no row has one (`test_share=` of `check_data` makes them)"
            )
            raise FrosterError(f"The manifest {self.manifest} has no video in the split {name!r}: {which}.")
        return chosen


def load_data(name: str, manifests: Path, manifest: Path | None = None) -> ProtocolData:
    """The dataset `name` from `manifests/NAME.csv`, or another file; labels in the spelling of its vocabulary.

    Raises `FrosterError` when there is no manifest, or a video has a class that the vocabulary lacks.
    """
    known = {name_key(key): key for key in DATASETS}
    name = name.removesuffix(".csv")
    of = find_dataset(name) if name_key(name) in known else None
    key = of.name if of else name
    manifest = manifest or manifests / f"{key}.csv"
    if not manifest.exists():
        there = sorted(path.stem for path in manifests.glob("*.csv") if "." not in path.stem)
        check = f"`froster data check FOLDER --dataset {key if of else 'folder'} --out {manifest}`"
        convert = f"`froster data convert LIST --videos FOLDER --out {manifest}`"
        raise FrosterError(
            f"There is no manifest {manifest}; write it with {check if manifest.stem == key else convert}"
            + (f", or take one of {listed(there)}." if there else ".")
        )
    videos = read_manifest(manifest)
    if key in VOCABULARIES:
        names = read_vocabulary(key)
        labels = canonical_names([video.label for video in videos], names)
        videos = [replace(video, label=label) for video, label in zip(videos, labels, strict=True)]
        class_indices(videos, names, manifest)
    if of is None:
        return ProtocolData(key, key, videos, "train", "test", manifest)
    return ProtocolData(key, of.title, videos, of.train_split, of.test_split, manifest)


def has_halves(name: str) -> bool:
    return f"{name}-base" in PARTS


@dataclass(frozen=True)
class PublishedList:
    """The videos of a list that are there, with the dataset's labels; `missing` names, and those `relabeled`."""

    videos: list[LabeledVideo]
    missing: list[str]
    relabeled: list[str]


def read_training_list(path: Path, classes: Path | None, data: ProtocolData) -> PublishedList:
    """The dataset's videos that a published list names, matched by file name whatever the suffix.

    ViFi-CLIP's and FROSTER's lists of HMDB-51 exchange two pairs of classes (sword and sword exercise, kick and kick
    ball): the dataset's own label counts. Raises `FrosterError` where more labels disagree than a fault of the list
    explains, or no video is there.
    """
    named = defaultdict[str, list[LabeledVideo]](list)
    for video in data.videos:
        named[video.path.stem].append(video)
    rows = read_list(path, classes)
    labels: Sequence[str] = canonical_names([row.label for row in rows], sorted({v.label for v in data.videos}))
    published, ambiguous = PublishedList([], [], []), []
    for row, label in zip(rows, labels, strict=True):
        candidates = named[PurePath(row.name).stem]
        if not candidates:
            published.missing.append(row.name)
            continue
        agreement = [agreeing_parts(row.name, candidate.path) for candidate in candidates]
        video = candidates[agreement.index(max(agreement))]
        if agreement.count(max(agreement)) > 1:
            ambiguous.append(row.name)
            continue
        published.videos.append(video)
        if video.label != label:
            published.relabeled.append(f"{row.name} ({label!r}, not {video.label!r})")
    if ambiguous:
        raise FrosterError(
            f"{data.manifest} has several videos that the list {path} may mean by {listed(ambiguous)}; "
            "a list must name their folders."
        )
    if not published.videos:
        raise FrosterError(
            f"None of the {len(rows)} videos of {path} is in {data.manifest}: {listed(published.missing)}."
        )
    if len(published.relabeled) > FAULTS * len(published.videos):
        raise FrosterError(
            f"The list {path} gives {len(published.relabeled)} videos other classes than {data.manifest}: "
            f"{listed(published.relabeled)}; are the class names those of this list?"
        )
    return published


LIST_ALIASES = {  # how ViFi-CLIP and FROSTER abbreviate the datasets in the names of folders and files
    "ucf-101": ("ucf", "ucf_101", "ucf101"),
    "hmdb-51": ("hmdb", "hmdb_51", "hmdb51"),
    "kinetics-400": ("k400", "kinetics_400"),
    "ssv2": ("ssv2", "ssv2_174"),
}
LIST_FILES = ("fs_base_s{}_train.txt", "train_{}.csv")  # of ViFi-CLIP and of FROSTER, one for each of three draws
LIST_DRAWS = (1, 2, 3)


def find_training_lists(folder: Path, name: str) -> tuple[list[Path], Path | None]:
    """The three published few-shot lists of a dataset, and the file of its base classes, anywhere under a folder.

    The folder may be ViFi-CLIP's repository, its `datasets_splits` or the folder of one dataset, or FROSTER's
    `zs_label_db`. Raises `FrosterError` where it has not all three lists.
    """
    aliases = LIST_ALIASES.get(name, (name,))
    for pattern in LIST_FILES:
        found = sorted(folder.rglob(pattern.format(1)))
        own = [path for path in found if names_dataset(path.parent.name, aliases)]
        for first in own or (found if len(found) == 1 else []):
            lists = [first.with_name(pattern.format(draw)) for draw in LIST_DRAWS]
            if all(path.is_file() for path in lists):
                return lists, find_base_classes(first.parent, aliases)
    raise FrosterError(
        f"{folder} has no training lists of {name}: looked for {' or '.join(p.format('1') for p in LIST_FILES)} "
        f"and those of draws 2 and 3 in a folder called {' or '.join(aliases)}."
    )


def names_dataset(folder: str, aliases: Sequence[str]) -> bool:
    """Whether a folder is called as a dataset: `ucf`, or `B2N_ucf101`."""
    return name_key(folder.removeprefix("B2N_")) in {name_key(alias) for alias in aliases}


def find_base_classes(folder: Path, aliases: Sequence[str]) -> Path | None:
    """The class names of the lists in `folder`: FROSTER's next to them, ViFi-CLIP's in `labels` or next to them."""
    own = folder / "raw_train_idx2cls.json", folder / "train_rephrased.json"
    vifi = [
        place / f"{alias}_base_labels.csv"
        for parent in (folder, folder.parent, folder.parent.parent)
        for place in (parent, parent / "labels")
        for alias in aliases
    ]
    return next((path for path in (*own, *vifi) if path.is_file()), None)


def agreeing_parts(name: str, path: Path) -> int:
    """How many of a listed name's parts, from the last one, are those of a path; suffixes do not count."""
    wanted, there = (PurePath(of).with_suffix("").parts[::-1] for of in (name, path))
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(wanted, there, strict=False)))


def incompleteness(data: ProtocolData) -> str | None:
    """A sentence where a known dataset is not all there: published numbers are of all of it."""
    of = DATASETS.get(data.name)
    if of is None or not of.classes:
        return None
    classes = len({video.label for video in data.videos})
    few = of.videos is not None and len(data.videos) < of.videos
    if not few and classes == len(of.classes):
        return None
    videos = f"{len(data.videos):,} of {of.videos:,} videos, " if of.videos else ""
    return f"{data.title} is not complete: {videos}{classes} of {len(of.classes)} classes."
