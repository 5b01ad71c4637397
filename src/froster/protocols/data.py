"""The data sets of a protocol, as `froster data check` lists them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath

from froster.data.datasets import DATASETS, find_dataset
from froster.data.lists import read_list
from froster.data.manifests import LabelledVideo, class_indices, listed, read_manifest
from froster.data.vocabularies import PARTS, VOCABULARIES, canonical_names, read_vocabulary, squeeze
from froster.errors import FrosterError

FAULTS = 0.1  # of a list's labels


@dataclass(frozen=True)
class ProtocolData:
    """A data set: its name here and in tables, its videos, and the splits to train and test on."""

    name: str
    title: str
    videos: list[LabelledVideo]
    train_split: str
    test_split: str
    manifest: Path

    def split(self, name: str) -> list[LabelledVideo]:
        """The videos of a split. Raises `FrosterError` that names the splits there are."""
        chosen = [video for video in self.videos if name in video.splits]
        if not chosen:
            there = sorted({split for video in self.videos for split in video.splits})
            which = f"it has {', '.join(there)}" if there else "it has no column `split`"
            raise FrosterError(f"The manifest {self.manifest} has no video in the split {name!r}: {which}.")
        return chosen


def load_data(name: str, manifests: Path, manifest: Path | None = None) -> ProtocolData:
    """The data set `name` from `manifests/NAME.csv`, or another file; labels in the spelling of its vocabulary.

    Raises `FrosterError` when there is no manifest, or a video has a class that the vocabulary lacks.
    """
    known = {squeeze(key): key for key in DATASETS}
    of = find_dataset(name) if squeeze(name) in known else None
    key = of.name if of else name
    manifest = manifest or manifests / f"{key}.csv"
    if not manifest.exists():
        there = sorted(path.stem for path in manifests.glob("*.csv"))
        raise FrosterError(
            f"There is no manifest {manifest}; write it with `froster data check FOLDER --dataset "
            f"{key if of else 'folder'} --out {manifest}`" + (f", or take one of {listed(there)}." if there else ".")
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
    """The videos of a list that are there, with the data set's labels; `missing` names, and those `relabelled`."""

    videos: list[LabelledVideo]
    missing: list[str]
    relabelled: list[str]


def read_training_list(path: Path, classes: Path | None, data: ProtocolData) -> PublishedList:
    """The data set's videos that a published list names, matched by file name whatever the suffix.

    ViFi-CLIP's and FROSTER's lists of HMDB-51 exchange two pairs of classes (sword and sword exercise, kick and kick
    ball): the data set's own label counts. Raises `FrosterError` where more labels disagree than a fault of the list
    explains, or no video is there.
    """
    by_stem = {PurePath(video.path).stem: video for video in data.videos}
    rows = read_list(path, classes)
    labels: Sequence[str] = canonical_names([row.label for row in rows], sorted({v.label for v in data.videos}))
    published = PublishedList([], [], [])
    for row, label in zip(rows, labels, strict=True):
        video = by_stem.get(PurePath(row.name).stem)
        if video is None:
            published.missing.append(row.name)
            continue
        published.videos.append(video)
        if video.label != label:
            published.relabelled.append(f"{row.name} ({label!r}, not {video.label!r})")
    if not published.videos:
        raise FrosterError(
            f"None of the {len(rows)} videos of {path} is in {data.manifest}: {listed(published.missing)}."
        )
    if len(published.relabelled) > FAULTS * len(published.videos):
        raise FrosterError(
            f"The list {path} gives {len(published.relabelled)} videos other classes than {data.manifest}: "
            f"{listed(published.relabelled)}; are the class names those of this list?"
        )
    return published
