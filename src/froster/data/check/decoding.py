"""Decode the videos of a dataset to find unreadable ones, with a cache on disk."""

import json
import os
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from froster.data.manifests import LabeledVideo
from froster.errors import VideoError
from froster.files import writing
from froster.video import decode
from froster.video.timeline import Timeline

CacheKey = tuple[str, int, int, float | None, float | None]  # path, bytes, modification time in ns, start, end
OnProgress = Callable[[int, int], None]  # called with the number of videos decoded so far, and of all


class Verdict(NamedTuple):
    """Why a video cannot be read, and which part of it cannot; each "" if nothing is wrong."""

    error: str
    warning: str


def decode_videos(
    videos: Sequence[LabeledVideo],
    cache: Path,
    workers: int,
    thorough: bool = False,
    on_progress: OnProgress | None = None,
) -> dict[LabeledVideo, Verdict]:
    """The verdict on each video; videos that changed since they were cached are decoded, in `workers` threads.

    `thorough`: decode every frame. Verdicts are written to the cache as they are known, so that a stopped run resumes.
    Raises `WriteError` where they cannot be.
    """
    verdicts = cached_verdicts(videos, cache, thorough)
    new = [video for video in dict.fromkeys(videos) if video not in verdicts]
    if not new:
        return verdicts
    with writing(cache), open_cache(cache) as file, ThreadPoolExecutor(workers) as pool:
        pending = deque[tuple[LabeledVideo, CacheKey | None, Future[Verdict]]]()

        def save_next() -> None:
            video, key, verdict = pending.popleft()
            verdicts[video] = verdict.result()
            if key is not None:
                file.write(json.dumps([*key, *verdicts[video], thorough]).encode() + b"\n")
            if on_progress is not None:
                on_progress(len(verdicts), len(set(videos)))

        try:
            for video in new:
                pending.append((video, cache_key(video), pool.submit(probe_video, video, thorough)))
                if len(pending) > 4 * workers:
                    save_next()
            while pending:
                save_next()
        finally:
            pool.shutdown(cancel_futures=True)
    return verdicts


def open_cache(cache: Path) -> BinaryIO:
    """The cache, opened to append lines."""
    cache.parent.mkdir(parents=True, exist_ok=True)
    file = cache.open("a+b", buffering=0)  # what cannot be written is said at once, not when the file is closed
    if file.tell() and file.seek(-1, os.SEEK_END) and file.read() != b"\n":
        file.write(b"\n")  # after a line that was cut short when the process was killed
    return file


def cached_verdicts(videos: Sequence[LabeledVideo], cache: Path, thorough: bool = False) -> dict[LabeledVideo, Verdict]:
    """Cached verdicts on videos whose files have not changed; with `thorough` only those from all frames."""
    if not cache.exists():
        return {}
    known = dict[CacheKey, Verdict]()
    for line in cache.read_bytes().splitlines():
        try:
            path, size, modified, start, end, error, warning, all_frames = json.loads(line)
            if (all_frames or not thorough) and isinstance(error, str) and isinstance(warning, str):
                known[path, size, modified, start, end] = Verdict(error, warning)
        except (ValueError, TypeError, RecursionError):  # cut short, or damaged
            continue
    keys = {video: cache_key(video) for video in videos}
    return {video: known[key] for video, key in keys.items() if key in known}


def cache_key(video: LabeledVideo) -> CacheKey | None:
    """Identifies a version of a file; None without read permission, whose change would not change the key."""
    if not os.access(video.path, os.R_OK):
        return None
    status = video.path.stat()
    return str(video.path), status.st_size, status.st_mtime_ns, video.start, video.end


def probe_video(video: LabeledVideo, thorough: bool = False) -> Verdict:
    """Open a video and decode the first, middle and last frame of its segment, or with `thorough` all frames."""

    def choose(timeline: Timeline) -> NDArray[np.int64]:
        if thorough:
            return np.arange(len(timeline))
        return np.array([0, len(timeline) // 2, len(timeline) - 1])

    try:
        reading = decode.read(video.path, choose, lambda image: None, video.start, video.end)
    except VideoError as error:
        return Verdict(f"{error.reason}." if error.path == str(video.path) else str(error), "")
    except OSError as error:
        return Verdict(str(error), "")
    return Verdict("", (reading.warning or "").removeprefix(f"{video.path.name}: "))
