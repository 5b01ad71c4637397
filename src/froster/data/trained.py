"""Fingerprints of a model's training videos, independent of their paths."""

import base64
import binascii
import hashlib
import math
import warnings
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from froster.data.manifests import LabeledVideo, listed
from froster.errors import FrosterError, FrosterWarning

HASHED_BYTES = 1 << 16  # at the start of a file
DIGEST_BYTES = 6  # one false match in 60,000 tests of 20,000 videos against 240,000
READERS = 16  # files read in parallel, to hide the latency of network disks
MAX_FILES = 4_000_000  # a safetensors header has at most 100 MB
MAX_PATH = 4096

Segment = tuple[float, float]  # seconds; the end of a video is infinity


@dataclass(frozen=True)
class TrainedVideos:
    """Training videos by `file_digest`: whole `files`, and `segments` of others.

    `manifests`: the manifests that listed them.
    """

    manifests: tuple[str, ...] = ()
    files: frozenset[bytes] = frozenset()
    segments: dict[bytes, tuple[Segment, ...]] = field(default_factory=dict)

    @classmethod
    def of(cls, videos: Sequence[LabeledVideo], manifest: str | Path) -> "TrainedVideos":
        """Hash the first bytes of each video; unreadable ones are skipped, as in training."""
        files, segments = set[bytes](), defaultdict[bytes, set[Segment]](set)
        for video, digest in zip(videos, file_digests(videos), strict=True):
            if digest is None:
                continue
            if is_whole(video):
                files.add(digest)
            else:
                segments[digest].add(segment_of(video))
        return cls((str(manifest),), frozenset(files), {key: tuple(sorted(of)) for key, of in segments.items()})

    def __or__(self, other: "TrainedVideos") -> "TrainedVideos":
        """The union of both."""
        return TrainedVideos(
            tuple(dict.fromkeys((*self.manifests, *other.manifests))),
            self.files | other.files,
            {
                key: tuple(sorted({*self.segments.get(key, ()), *other.segments.get(key, ())}))
                for key in (*self.segments, *other.segments)
            },
        )

    def among(self, videos: Sequence[LabeledVideo]) -> list[bool]:
        """For each video, whether any of its frames was trained on."""
        return [
            digest is not None and self.holds(digest, segment_of(video))
            for video, digest in zip(videos, file_digests(videos), strict=True)
        ]

    def holds(self, digest: bytes, segment: Segment) -> bool:
        start, end = segment
        return digest in self.files or any(a < end and start < b for a, b in self.segments.get(digest, ()))

    def to_json(self) -> dict[str, Any]:
        """Compact form, 8 characters per file, with hashes only."""
        return {
            "manifests": list(self.manifests),
            "files": base64.b64encode(b"".join(sorted(self.files))).decode(),
            "segments": {
                base64.b64encode(digest).decode(): [
                    [start, None if math.isinf(end) else end] for start, end in self.segments[digest]
                ]
                for digest in sorted(self.segments)
            },
        }

    @classmethod
    def from_json(cls, content: Any) -> "TrainedVideos":
        """The inverse of `to_json`. Raises `ValueError` for other content."""
        if not isinstance(content, dict) or content.keys() != {"manifests", "files", "segments"}:
            raise ValueError("not manifests, files and segments")
        manifests, files, segments = content["manifests"], content["files"], content["segments"]
        if not isinstance(manifests, list) or not all(isinstance(of, str) and len(of) <= MAX_PATH for of in manifests):
            raise ValueError("the manifests are not paths")
        if not isinstance(files, str) or not isinstance(segments, dict):
            raise ValueError("the files are not listed")
        digests = decode(files)
        return cls(
            tuple(manifests),
            frozenset(digests[place : place + DIGEST_BYTES] for place in range(0, len(digests), DIGEST_BYTES)),
            {decode(key, 1): tuple(read_segment(of) for of in listed) for key, listed in segments.items()},
        )

    @cached_property
    def is_storable(self) -> bool:
        return len(self.files) + sum(map(len, self.segments.values())) <= MAX_FILES


def is_whole(video: LabeledVideo) -> bool:
    return not video.start and video.end is None


def segment_of(video: LabeledVideo) -> Segment:
    return video.start or 0.0, math.inf if video.end is None else video.end


def decode(text: str, count: int | None = None) -> bytes:
    try:
        digests = base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError(str(error)) from error
    if len(digests) % DIGEST_BYTES or count not in (None, len(digests) // DIGEST_BYTES):
        raise ValueError("a hash is cut off")
    return digests


def read_segment(pair: Any) -> Segment:
    start, end = pair
    end = math.inf if end is None else end
    if not (type(start) in (int, float) and type(end) in (int, float) and 0 <= start < end):
        raise ValueError(f"{pair!r:.40} is not a segment")
    return float(start), float(end)


def file_digests(videos: Sequence[LabeledVideo]) -> list[bytes | None]:
    """`file_digest` of each video, None if it cannot be read; files are read in parallel, each once."""
    paths = list(dict.fromkeys(video.path for video in videos))
    with ThreadPoolExecutor(READERS) as pool:
        digests = dict(zip(paths, pool.map(file_digest, paths), strict=True))
    return [digests[video.path] for video in videos]


def file_digest(path: Path) -> bytes | None:
    """Hash of a file's size and first 64 KiB; for a folder of images, of their number and the first one.

    Copies and renamed files have the same digest, re-encoded videos do not. None if it cannot be read.
    """
    number = 0
    try:
        if path.is_dir():
            names = sorted(file.name for file in path.iterdir() if not file.name.startswith("."))
            number, path = len(names), path / names[0]
        with path.open("rb") as file:
            found = hashlib.sha256(f"{path.stat().st_size} {number} ".encode())
            found.update(file.read(HASHED_BYTES))
    except (OSError, IndexError, ValueError):  # ValueError: a null byte in the path
        return None
    return found.digest()[:DIGEST_BYTES]


def warn_of_trained_videos(
    trained: TrainedVideos | None, videos: Sequence[LabeledVideo], manifest: str | Path
) -> dict[str, Any] | None:
    """Warn if some test videos were trained on; returns their number for a report.

    Returns None if the model's training videos are unknown.
    """
    if trained is None:
        return None
    found = trained.among(videos)
    if any(found):
        warnings.warn(describe(found, trained, videos, str(manifest)), FrosterWarning, stacklevel=2)
    return {"videos": sum(found), "share": sum(found) / len(found), "manifests": list(trained.manifests)}


def note_trained_videos(trained: TrainedVideos | None, videos: Sequence[LabeledVideo], title: str) -> list[str]:
    """`warn_of_trained_videos` as notes for a protocol's report.

    Raises `FrosterError` if all videos were trained on, since such a number is not comparable.
    """
    if trained is None or not any(found := refuse_trained_videos(trained, videos, title)):
        return []
    note = describe(found, trained, videos, title)
    warnings.warn(note, FrosterWarning, stacklevel=2)
    return [note]


def refuse_trained_videos(trained: TrainedVideos, videos: Sequence[LabeledVideo], title: str) -> list[bool]:
    """`TrainedVideos.among`; raises `FrosterError` if all videos were trained on."""
    found = trained.among(videos)
    if all(found):
        raise FrosterError(describe(found, trained, videos, title))
    return found


def describe(found: Sequence[bool], trained: TrainedVideos, videos: Sequence[LabeledVideo], where: str) -> str:
    """A message with the number of trained test videos and what to test instead."""
    count, every = sum(found), all(found)
    unseen = dict.fromkeys(split for video in videos for split in video.splits)
    for video, was_trained in zip(videos, found, strict=True):
        if was_trained:
            for split in video.splits:
                unseen.pop(split, None)
    has_splits = any(video.splits for video in videos)
    cure = f"the split {next(iter(unseen))!r}" if unseen else "videos of another split" if has_splits else "others"
    which = (
        f"every tested video ({count}) is"
        if every
        else f"{count} of {len(found)} tested videos ({100 * count / len(found):.0f} %) are"
    )
    return (
        f"{where}: {which} among the model's training videos ({listed(trained.manifests)}), so this accuracy "
        f"is not that on new videos; test {cure} instead."
    )
