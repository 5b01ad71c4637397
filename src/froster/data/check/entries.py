"""A video as a dataset's lists or class folders name it, with its file."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from froster.data.manifests import LabeledVideo


@dataclass(frozen=True)
class VideoEntry:
    """A video that a list or a class folder names; `path` is None if no file matches."""

    name: str
    label: str
    splits: tuple[str, ...] = ()
    start: float | None = None
    end: float | None = None
    path: Path | None = None


Unknown = defaultdict[str, list[VideoEntry]]  # label or folder that is not a class -> its videos


def labeled_videos(entries: Iterable[VideoEntry]) -> list[LabeledVideo]:
    """The entries that have a file and a class."""
    return [
        LabeledVideo(one.path, one.label, one.splits, one.start, one.end) for one in entries if one.path and one.label
    ]
