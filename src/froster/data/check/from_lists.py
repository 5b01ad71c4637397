"""Video entries from a dataset's lists, matched with the files under its folder."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from froster.data.check.entries import Unknown, VideoEntry
from froster.data.datasets import TIMED, Dataset, VideoIndex, stem_of
from froster.data.lists import ListedVideo, read_list
from froster.data.manifests import listed
from froster.data.vocabularies import canonical_names
from froster.errors import FrosterError, VideoError
from froster.text.names import name_key
from froster.video import decode

PROBED_VIDEOS = 5  # Kinetics files that are opened to see whether they are already trimmed


def entries_from_lists(dataset: Dataset, lists: Sequence[Path], index: VideoIndex) -> tuple[list[VideoEntry], Unknown]:
    """An entry for each listed video, with canonical class names; separately, those whose label is not a class.

    Raises `FrosterError` if lists contradict each other, no label is a class, or no listed video is found.
    """
    videos = merge_lists(lists)
    labels = [video.label for video in videos]
    if dataset.classes:
        labels = canonical_names(labels, dataset.classes)
    known = {*(dataset.classes or labels), ""}
    entries, unknown = list[VideoEntry](), Unknown(list)
    for video, label in zip(videos, labels, strict=True):
        path = index.find(video.name, label)
        entry = VideoEntry(video.name, label, video.splits, video.start, video.end, path)
        (entries if label in known else unknown[label]).append(entry)
    names = listed(map(str, lists))
    if not entries:
        label = next(iter(unknown))
        raise FrosterError(
            f"No label of {names} is a class of {dataset.title}, for example {label!r}; give its lists with "
            "`lists=`, or another `dataset=`."
        )
    if not any(entry.path for entry in entries):
        raise FrosterError(
            f"None of the {len(entries)} videos in {names} is among the {len(index)} files under {index.root}, for "
            f"example {entries[0].name}; give the folder with the videos."
        )
    return drop_redundant_segments(drop_ambiguous_matches(entries)), unknown


def merge_lists(lists: Sequence[Path]) -> list[ListedVideo]:
    """The videos of all lists, once each, with the splits of all of them."""
    merged = dict[tuple[str, float | None, float | None], ListedVideo]()
    for path in lists:
        for video in read_list(path):
            key = video.name, video.start, video.end
            earlier = merged.get(key, video)
            if earlier.label and video.label and earlier.label != video.label:
                raise FrosterError(
                    f"The lists {listed(map(str, lists))} contradict each other: {video.name} is {earlier.label!r} and "
                    f"{video.label!r}."
                )
            splits = tuple(dict.fromkeys(earlier.splits + video.splits))
            merged[key] = replace(video, label=earlier.label or video.label, splits=splits)
    return list(merged.values())


def drop_ambiguous_matches(entries: Sequence[VideoEntry]) -> list[VideoEntry]:
    """Entries without the path of a file that several classes match, except for the class of the file's folder."""
    labels = defaultdict[tuple[Path | None, float | None, float | None], set[str]](set)
    for entry in entries:
        labels[entry.path, entry.start, entry.end].add(entry.label)
    return [
        replace(entry, path=None)
        if entry.path
        and len(labels[entry.path, entry.start, entry.end]) > 1
        and name_key(entry.label) not in map(name_key, entry.path.parts)
        else entry
        for entry in entries
    ]


def drop_redundant_segments(entries: Sequence[VideoEntry]) -> list[VideoEntry]:
    """Entries of Kinetics keep start and end only if their file is the full video rather than the trimmed clip.

    A trimmed clip has both in its file name. If the name is the YouTube id alone, it depends on the download: a few
    files are opened to see their durations.
    """
    timed = [entry for entry in entries if entry.path and TIMED.fullmatch(stem_of(entry.name))]
    by_id = [entry for entry in timed if entry.path and not TIMED.fullmatch(entry.path.stem)]
    probed = by_id[:: max(1, len(by_id) // PROBED_VIDEOS)][:PROBED_VIDEOS]
    durations = [(seconds, entry) for entry in probed if entry.path and (seconds := duration(entry.path)) is not None]
    trimmed = bool(durations) and all(seconds < (one.end or 0) - (one.start or 0) + 1 for seconds, one in durations)
    redundant = {id(entry) for entry in timed} - (set() if trimmed else {id(entry) for entry in by_id})
    return [replace(entry, start=None, end=None) if id(entry) in redundant else entry for entry in entries]


def duration(path: Path) -> float | None:
    """Seconds; None for a file that cannot be read."""
    try:
        reading = decode.read(path, lambda timeline: np.zeros(1, np.int64), lambda image: None)
    except VideoError:
        return None
    return reading.timeline.duration
