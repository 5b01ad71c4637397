"""Pack a manifest's videos into files that training reads many times faster: `pack_data`.

Each video is decoded once, scaled to a short side, and written as H.264 with short groups of pictures or as JPEGs in an
Arrow file, with the same times of its frames. See docs/data.md, "Pack a data set".
"""

import csv
import hashlib
import io
import json
import math
import os
import shutil
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, Literal, get_args

import filelock
import numpy as np
from numpy.typing import NDArray

from froster.data.check.decoding import open_cache
from froster.data.manifests import LabeledVideo, listed, read_header, read_manifest, read_rows, read_text
from froster.data.pack_workers import run_each
from froster.errors import FrosterError, VideoError
from froster.files import csv_cell, replace_when_written, write_error_number, writing
from froster.training.clips import clip_name
from froster.video import decode
from froster.video.container import describe as describe_error
from froster.video.h264 import H264_SUFFIX, H264Writer
from froster.video.jpegs import JPEGS_SUFFIX, JpegWriter, pack_extra
from froster.video.timeline import HALF_MILLISECOND, Timeline

Format = Literal["h264", "jpeg"]
Segment = tuple[float | None, float | None]  # start and end in seconds, None: of the video
OnProgress = Callable[[int, int], None]  # called with the number of videos packed so far, and of all

WHOLE: Segment = (None, None)
SUFFIXES = {"h264": H264_SUFFIX, "jpeg": JPEGS_SUFFIX}
CRF, JPEG_QUALITY = 20, 90
JOURNAL = "packed.jsonl"
VIDEOS = "videos"  # the folder of the packed files
CHECKED_FRAMES = 5  # compared with what was packed
MIN_PSNR = 20.0  # dB; below, a packed frame is not the video's
SAMPLED = 8  # videos packed before the estimate
LONGEST_NAME = 180  # bytes, of 255 that file systems take; a temporary name is longer


@dataclass(frozen=True)
class PackSettings:
    """How videos are packed; one folder holds videos of one kind."""

    format: Format = "h264"
    short_side: int = 256
    fps: float | None = None

    def __post_init__(self) -> None:
        if self.format not in get_args(Format):
            raise FrosterError(f"There is no format {self.format!r}; choose from {', '.join(get_args(Format))}.")
        if self.short_side < 2:
            raise FrosterError(f"The short side must be 2 pixels or more, not {self.short_side}.")
        if self.fps is not None and not (math.isfinite(self.fps) and self.fps > 0):
            raise FrosterError(f"fps must be above 0, or None for every frame, not {self.fps}.")

    def size(self, width: int, height: int) -> tuple[int, int]:
        """The size that frames are scaled to: never larger, and even for H.264."""
        ratio = min(1.0, self.short_side / min(width, height))
        if self.format == "jpeg":
            return max(1, round(width * ratio)), max(1, round(height * ratio))
        return max(2, 2 * round(width * ratio / 2)), max(2, 2 * round(height * ratio / 2))

    def frames(self, timeline: Timeline) -> NDArray[np.int64]:
        """The frames that are packed: all, or those shown at the moments of `fps`."""
        if self.fps is None:
            return np.arange(len(timeline))
        times = timeline.times
        moments = np.arange(times[0], timeline.duration, 1 / self.fps)
        shown = np.searchsorted(times, moments + HALF_MILLISECOND, side="right") - 1
        return np.unique(shown.clip(0)).astype(np.int64)


@dataclass(frozen=True)
class PackEstimate:
    """What packing takes, from the first videos: `bytes` of all packed videos, `seconds` for those not packed yet."""

    videos: int
    sampled: int
    bytes: int
    seconds: float
    free_bytes: int


@dataclass(frozen=True)
class PackReport:
    """What was packed.

    `rows` of the packed manifest, of `all_rows`; `videos` are files, of which `reused` had been packed before.
    `source_bytes` and `packed_bytes` are those of the files. `psnr`: the lowest of a few frames of each packed file, in
    dB, against the scaled frames that were packed, averaged over the files. `unreadable` (left out) and `partial`
    (packed as far as they decode): pairs of a path, with its segment, and a reason.
    """

    manifest: Path
    rows: int
    all_rows: int
    videos: int
    reused: int
    source_bytes: int
    packed_bytes: int
    psnr: float
    seconds: float
    unreadable: list[tuple[str, str]]
    partial: list[tuple[str, str]]

    def to_json(self) -> dict[str, Any]:
        """The report as a JSON object."""
        return {**asdict(self), "manifest": str(self.manifest)}


@dataclass(frozen=True)
class PackedFile:
    """A packed file: its path under the folder of packed data, and the part of its source that it holds.

    `offset`: seconds in the source at which its first frame is shown, for a source whose first frames are damaged.
    """

    file: str
    start: float | None
    end: float | None
    offset: float
    frames: int
    seconds: float
    bytes: int
    psnr: float


@dataclass(frozen=True)
class Source:
    """A video to pack: what of it the manifest needs, and the names under which its parts are written."""

    path: Path
    size: int
    modified: int  # nanoseconds
    segments: tuple[Segment, ...]
    names: dict[Segment, str]


@dataclass(frozen=True)
class FailedPart:
    """A part of a source that cannot be packed."""

    start: float | None
    end: float | None
    reason: str


@dataclass(frozen=True)
class Outcome:
    """What became of a source: packed files, and parts that cannot be packed. `worked`: seconds it took."""

    source: str
    size: int
    modified: int
    files: tuple[PackedFile, ...] = ()
    failed: tuple[FailedPart, ...] = ()
    warning: str = ""
    worked: float = 0.0

    def file_of(self, segment: Segment) -> PackedFile | None:
        """The packed file with a segment: that of the segment itself, or the whole video's."""
        parts = {(file.start, file.end): file for file in self.files}
        return parts.get(segment, parts.get(WHOLE))

    def error_of(self, segment: Segment) -> str | None:
        """Why a segment is not packed; None if it is."""
        file, start, end = self.file_of(segment), *segment
        if file is None:
            return next((part.reason for part in self.failed if (part.start, part.end) == segment), None)
        if file.offset and end is not None and end <= file.offset:
            return f"no frame of the segment from {start or 0:g} s to {end:g} s can be decoded"
        return None


def pack_data(
    manifest: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    format: Format = "h264",  # noqa: A002 (the word for it)
    short_side: int = 256,
    fps: float | None = None,
    workers: int = 2,
    on_progress: OnProgress | None = None,
    on_estimate: Callable[[PackEstimate], None] | None = None,
) -> PackReport:
    """Pack the videos of a manifest into the folder `out`; a manifest of the same name there lists them.

    `format`: `"h264"` (a keyframe every 8 frames, made for fast decoding) or `"jpeg"` (JPEGs in Arrow files; the extra
    `pack`). Frames are scaled so that their short side is at most `short_side` pixels, and turned upright; `fps`: only
    the frames shown at so many moments a second. Times are kept, audio is not. A segment of a long video becomes a file
    of its own. Originals are only read. `workers`: processes; 0: none but this one.

    Each file is verified after it is written: number and times of the frames, and PSNR of some. A stopped run resumes;
    the manifest is written last. Videos that cannot be read are left out and listed in `NAME.unreadable.csv`, partly
    damaged ones in `NAME.partial.csv`. `on_estimate` is called once a few videos are packed. Raises `FrosterError`: an
    invalid setting or manifest, other settings in the same folder, too little space, no readable video; `WriteError`.
    """
    begun = time.monotonic()
    settings, manifest, out = PackSettings(format, short_side, fps), Path(manifest), Path(out)
    if workers < 0:
        raise FrosterError(f"workers ({workers}) must be 0 or more.")
    if format == "jpeg":
        with pack_extra():
            import pyarrow  # noqa: F401
            import simplejpeg  # noqa: F401
    videos = read_manifest(manifest)
    target = out / f"{manifest.stem}.csv"
    if target.resolve() == manifest.resolve():
        raise FrosterError(f"The packed manifest would replace {manifest}; choose another folder than {out}.")
    if out.exists() and not out.is_dir():
        raise FrosterError(f"{out} is a file; give a folder for the packed videos.")
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(out / ".lock", timeout=0)
    try:
        with writing(out / ".lock"):
            lock.acquire()
    except filelock.Timeout:
        raise FrosterError(f"Another run is packing into {out}; wait for it, or choose another folder.") from None
    with lock:
        remove_partial(out)
        known = read_journal(out / JOURNAL, settings)
        wanted = defaultdict[Path, dict[Segment, None]](dict)
        for video in videos:
            wanted[video.path.absolute()][segment_of(video)] = None
        sources = [source_of(path, tuple(segments)) for path, segments in wanted.items()]
        sources = name_files(sources, known or {}, settings)
        done = {name: of for source in sources if (of := finished(source, known or {}, out)) for name in [of.source]}
        outcomes = dict(done)
        with writing(out / JOURNAL), open_cache(out / JOURNAL) as journal:
            if known is None:
                append(journal, asdict(settings))
            packing = Packing(out, settings, sources, outcomes, journal, on_progress, on_estimate, workers)
            try:
                packing.run([source for source in sources if str(source.path) not in done])
            finally:
                remove_partial(out)
        report = write_results(manifest, target, videos, outcomes, sum(bool(of.files) for of in done.values()))
    return replace(report, seconds=time.monotonic() - begun)


def remove_partial(out: Path) -> None:
    """Delete files that a killed run left unfinished."""
    for path in (out / VIDEOS).rglob(".*.partial.*"):
        path.unlink(missing_ok=True)


@dataclass
class Packing:
    """A run: packs the pending sources, and writes each outcome to the journal as it is known."""

    out: Path
    settings: PackSettings
    sources: Sequence[Source]
    outcomes: dict[str, Outcome]
    journal: BinaryIO
    on_progress: OnProgress | None
    on_estimate: Callable[[PackEstimate], None] | None
    workers: int

    def run(self, pending: Sequence[Source]) -> None:
        self.report_progress()
        count = max(SAMPLED, self.workers)
        sampled = pending
        if len(pending) > count:
            sampled = [pending[place] for place in np.linspace(0, len(pending) - 1, count).astype(int).tolist()]
        self.pack(sampled)
        rest = [source for source in pending if str(source.path) not in self.outcomes]
        if rest:
            self.estimate(sampled, rest)
        self.pack(rest)

    def pack(self, sources: Sequence[Source]) -> None:
        for source, result in run_each(
            pack_source, [(source, self.out, self.settings) for source in sources], self.workers
        ):
            outcome = result if isinstance(result, Outcome) else failed(source[0], result.reason)
            self.outcomes[outcome.source] = outcome
            if outcome.modified:  # a file that is missing, or may not be read, may be there next time
                append(self.journal, asdict(outcome))
            self.report_progress()

    def report_progress(self) -> None:
        if self.on_progress is not None:
            self.on_progress(len(self.outcomes), len(self.sources))

    def estimate(self, sampled: Sequence[Source], rest: Sequence[Source]) -> None:
        """Scale what the sampled videos took to the others. Raises `FrosterError` where the disk is too small."""
        weights = {str(source.path): weight for source, weight in zip(self.sources, weigh(self.sources), strict=True)}
        of = [self.outcomes[str(source.path)] for source in sampled]
        measured = sum(weights[outcome.source] for outcome in of if outcome.files)
        left = sum(weights[str(source.path)] for source in rest) / measured if measured else 0.0
        packed = sum(file.bytes for outcome in self.outcomes.values() for file in outcome.files)
        more = left * sum(file.bytes for outcome in of for file in outcome.files)
        parallel = max(1, min(self.workers, os.cpu_count() or 1))
        seconds = left * sum(outcome.worked for outcome in of if outcome.files) / parallel
        free = shutil.disk_usage(self.out).free
        estimate = PackEstimate(len(self.sources), len(sampled), round(packed + more), seconds, free)
        if self.on_estimate is not None:
            self.on_estimate(estimate)
        if more > free:
            raise FrosterError(
                f"Packing the other {len(rest)} videos would take about {more / 1e9:.1f} GB, but only "
                f"{free / 1e9:.1f} GB are free in {self.out}; a smaller short side or fewer frames a second take less."
            )


def weigh(sources: Sequence[Source]) -> list[float]:
    """What each source's packing is taken to be proportional to: seconds where all are known, otherwise bytes."""
    lengths = [[(start or 0.0, end) for start, end in source.segments] for source in sources]
    if all(end is not None for of in lengths for _, end in of):
        return [sum(end - start for start, end in of if end is not None) for of in lengths]
    return [float(source.size) for source in sources]


def segment_of(video: LabeledVideo) -> Segment:
    return video.start or None, video.end


def source_of(path: Path, segments: tuple[Segment, ...]) -> Source:
    try:
        status = path.stat()
    except OSError:
        return Source(path, 0, 0, segments, {})
    if not os.access(path, os.R_OK):
        return Source(path, 0, 0, segments, {})
    return Source(path, status.st_size, status.st_mtime_ns, segments, {})


def read_journal(path: Path, settings: PackSettings) -> dict[str, Outcome] | None:
    """What earlier runs have done, by source; None if there is no journal.

    Raises `FrosterError` where they had other settings.
    """
    known: dict[str, Outcome] | None = None
    for line in path.read_bytes().splitlines() if path.exists() else ():
        try:
            content = json.loads(line)
            if "format" in content:
                check_settings(path.parent, content, asdict(settings))
                known = known or {}
                continue
            outcome = read_outcome(content)
        except FrosterError:
            raise
        except (ValueError, TypeError, KeyError, RecursionError):  # cut short, or damaged
            continue
        known = known or {}
        earlier = known.get(outcome.source)
        if earlier and (earlier.size, earlier.modified) == (outcome.size, outcome.modified):
            outcome = replace(
                outcome, files=(*earlier.files, *outcome.files), failed=(*earlier.failed, *outcome.failed)
            )
        known[outcome.source] = outcome
    return known


def check_settings(out: Path, earlier: dict[str, Any], settings: dict[str, Any]) -> None:
    if earlier != settings:
        raise FrosterError(
            f"{out} holds videos packed with {describe(earlier)}, not with {describe(settings)}; choose another folder."
        )


def describe(settings: dict[str, Any]) -> str:
    frames = f"{settings['fps']:g} frames a second" if settings["fps"] else "every frame"
    return f"format {settings['format']}, short side {settings['short_side']}, {frames}"


def read_outcome(content: dict[str, Any]) -> Outcome:
    files = tuple(PackedFile(**file) for file in content["files"])
    return Outcome(**content | {"files": files, "failed": tuple(FailedPart(**part) for part in content["failed"])})


def append(journal: BinaryIO, content: dict[str, Any]) -> None:
    journal.write(json.dumps(content).encode() + b"\n")


def finished(source: Source, known: dict[str, Outcome], out: Path) -> Outcome | None:
    """The earlier outcome of a source, if its file is unchanged and every segment is packed or cannot be."""
    outcome = known.get(str(source.path))
    if outcome is None or not source.modified or (outcome.size, outcome.modified) != (source.size, source.modified):
        return None
    for segment in source.segments:
        file = outcome.file_of(segment)
        if not (is_there(out / file.file, file.bytes) if file else outcome.error_of(segment)):
            return None
    return outcome


def is_there(path: Path, size: int) -> bool:
    return path.is_file() and path.stat().st_size == size


def name_files(sources: Sequence[Source], known: dict[str, Outcome], settings: PackSettings) -> list[Source]:
    """The sources with the names of their packed files: as in their common folder, none of them taken."""
    taken = {file.file: (name, (file.start, file.end)) for name, of in known.items() for file in of.files}
    paths = [Path(os.path.normpath(source.path)) for source in sources]
    root = Path(os.path.commonpath([path.parent for path in paths]))
    named = []
    for source, path in zip(sources, paths, strict=True):
        names, base = dict[Segment, str](), path.relative_to(root)
        for segment in dict.fromkeys((WHOLE, *source.segments)):
            stem = base.stem + segment_name(segment)
            if len(os.fsencode(stem)) > LONGEST_NAME:
                stem = hashlib.sha256(os.fsencode(stem)).hexdigest()[:32]
            number, owner = 1, (str(source.path), segment)
            while taken.setdefault(name := packed_name(base, stem, number, settings), owner) != owner:
                number += 1
            names[segment] = name
        named.append(replace(source, names=names))
    return named


def segment_name(segment: Segment) -> str:
    if segment == WHOLE:
        return ""
    start, end = segment
    return f"_{start or 0:g}_{'end' if end is None else format(end, 'g')}"


def packed_name(base: Path, stem: str, number: int, settings: PackSettings) -> str:
    again = f"-{number}" if number > 1 else ""
    return (Path(VIDEOS) / base.parent / f"{stem}{again}{SUFFIXES[settings.format]}").as_posix()


def failed(source: Source, reason: str) -> Outcome:
    parts = tuple(FailedPart(start, end, reason) for start, end in source.segments)
    return Outcome(str(source.path), source.size, source.modified, failed=parts)


def pack_source(source: Source, out: Path, settings: PackSettings) -> Outcome:
    """Pack one video: the whole file, or each segment where they are less than it. Raises `WriteError`."""
    begun = time.monotonic()
    files, failures, warning = list[PackedFile](), list[FailedPart](), ""
    try:
        parts = parts_of(source)
    except VideoError as error:
        return failed(source, reason_of(error, source))
    for part in parts:
        try:
            file, part_warning = pack_part(source, part, out, settings)
        except VideoError as error:
            lost = source.segments if part == WHOLE else [part]
            failures += [FailedPart(*segment, reason_of(error, source)) for segment in lost]
        else:
            files.append(file)
            warning = warning or part_warning
    worked = time.monotonic() - begun
    return Outcome(str(source.path), source.size, source.modified, tuple(files), tuple(failures), warning, worked)


def reason_of(error: VideoError, source: Source) -> str:
    return error.reason if error.path == str(source.path) else str(error).rstrip(".")


def parts_of(source: Source) -> list[Segment]:
    """The segments to pack as files of their own; the whole video where one is needed, or they overlap a lot."""
    if WHOLE in source.segments:
        return [WHOLE]
    timeline = decode.read(source.path, lambda timeline: np.zeros(1, np.int64), lambda image: None).timeline
    ends = [min(timeline.duration if end is None else end, timeline.duration) for _, end in source.segments]
    seconds = sum(end - (start or 0.0) for (start, _), end in zip(source.segments, ends, strict=True))
    return [WHOLE] if seconds > timeline.duration else list(source.segments)


class Attempt:
    """Writes the chosen frames of one attempt at a video, and keeps a few to compare."""

    def __init__(self, path: Path, timeline: Timeline, settings: PackSettings) -> None:
        self.numbers = settings.frames(timeline)
        self.offset = float(timeline.times[0])
        first = int(timeline.pts[0])
        header = len(self.numbers) if timeline.header_frames else None
        self.timeline = replace(
            timeline, pts=timeline.pts[self.numbers] - first, end=timeline.end - first, header_frames=header, begin=None
        )
        self.checked = np.unique(np.linspace(0, len(self.numbers) - 1, CHECKED_FRAMES).astype(np.int64))
        self.samples = dict[int, NDArray[np.uint8]]()
        self.written = 0
        writer = H264Writer if settings.format == "h264" else JpegWriter
        self.writer = writer(path, self.timeline, CRF if settings.format == "h264" else JPEG_QUALITY)
        self.shape: tuple[int, ...] | None = None

    def add(self, image: NDArray[np.uint8]) -> None:
        self.shape = self.shape or image.shape
        if image.shape != self.shape:  # frames of a video may change their size
            height, width = self.shape[:2]
            image = decode._resized(image, lambda *_: (width, height))
        if self.written in self.checked:
            self.samples[self.written] = image.copy()
        self.written += 1
        self.writer.add(image)


def pack_part(source: Source, part: Segment, out: Path, settings: PackSettings) -> tuple[PackedFile, str]:
    """Write one file and verify it; with the warning of a video that could only be decoded in part.

    Raises `VideoError`, `WriteError`.
    """
    target = out / source.names[part]
    attempts = list[Attempt]()

    def choose(timeline: Timeline) -> NDArray[np.int64]:
        if attempts:  # a damaged file is read again
            attempts.pop().writer.close()
        attempts.append(Attempt(temporary, timeline, settings))
        return attempts[0].numbers

    with replace_when_written(target) as temporary:
        try:
            reading = decode.read(source.path, choose, lambda image: attempts[0].add(image), *part, size=settings.size)
            attempt = attempts[0]
            attempt.writer.close()
            lowest = verify(source.path, temporary, attempt)
        except Exception as error:
            for attempt in attempts:
                with suppress(Exception):
                    attempt.writer.close()
            if isinstance(error, FrosterError) or write_error_number(error) is not None:
                raise
            raise VideoError(source.path, f"cannot be packed ({describe_error(error)})") from error
        size = temporary.stat().st_size
    offset = attempt.offset if part == WHOLE else 0.0
    seconds = attempt.timeline.duration
    file = PackedFile(source.names[part], *part, offset, attempt.written, seconds, size, lowest)
    return file, (reading.warning or "").removeprefix(f"{source.path.name}: ")


def verify(source: Path, path: Path, attempt: Attempt) -> float:
    """The lowest PSNR of the compared frames, in dB.

    Raises `VideoError` where frames, their times or their pixels are not what was written.
    """

    def choose(timeline: Timeline) -> NDArray[np.int64]:
        if len(timeline) != len(attempt.numbers) or attempt.written != len(attempt.numbers):
            raise VideoError(source, f"the packed file has {len(timeline)} of {len(attempt.numbers)} frames")
        return attempt.checked

    packed = decode.read(path, choose, lambda image: image)
    moved = np.abs(packed.timeline.times - attempt.timeline.times).max()
    longer = abs(packed.timeline.duration - attempt.timeline.duration)
    if packed.warning or max(moved, longer) > 1e-6:
        raise VideoError(source, f"the packed file differs: {packed.warning or 'its frames have other times'}")
    lowest = min(psnr(packed.kept[number], image) for number, image in attempt.samples.items())
    if lowest < MIN_PSNR:
        raise VideoError(source, f"the packed file differs: a frame has a PSNR of {lowest:.1f} dB")
    return lowest


def psnr(image: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    """Peak signal-to-noise ratio in dB, 100 at most."""
    error = float(np.square(image.astype(np.float32) - other).mean())
    return min(100.0, 10 * math.log10(255**2 / error)) if error else 100.0


def write_results(
    manifest: Path, target: Path, videos: Sequence[LabeledVideo], outcomes: dict[str, Outcome], reused: int
) -> PackReport:
    """Write the lists of damaged videos and the packed manifest, last. Raises `FrosterError` if nothing is readable."""
    text = read_text(manifest, f"The manifest {manifest}", errors="surrogateescape")
    columns, table = read_header(text), read_rows(text, f"The manifest {manifest}")
    rows, unreadable = list[dict[str, str]](), dict[str, str]()
    for video, (_, row) in zip(videos, table, strict=True):
        outcome, segment = outcomes[str(video.path.absolute())], segment_of(video)
        file, error = outcome.file_of(segment), outcome.error_of(segment)
        if file is None or error:
            unreadable[clip_name(video)] = error or "it was not packed"
            continue
        moved = {"path": csv_cell(file.file)}
        for name in ("start", "end"):
            is_cut = (file.start, file.end) != WHOLE
            moved[name] = "" if is_cut else moved_time(row.get(name, ""), file.offset)
        rows.append({column: moved.get(column, row[column]) for column in columns})
    partial = {of.source: of.warning for of in outcomes.values() if of.warning}
    for kind, found in (("unreadable", unreadable), ("partial", partial)):
        list_videos(target.with_suffix(f".{kind}.csv"), found.items())
    if not rows:
        reasons = listed(f"{name}: {reason}" for name, reason in unreadable.items())
        raise FrosterError(f"None of the {len(outcomes)} videos of {manifest} can be packed: {reasons}.")
    write_table(target, columns, ([row[column] for column in columns] for row in rows))
    files = {file.file: file for of in outcomes.values() for file in of.files}.values()
    return PackReport(
        manifest=target,
        rows=len(rows),
        all_rows=len(videos),
        videos=sum(bool(of.files) for of in outcomes.values()),
        reused=reused,
        source_bytes=sum(of.size for of in outcomes.values() if of.files),
        packed_bytes=sum(file.bytes for file in files),
        psnr=float(np.mean([file.psnr for file in files])),
        seconds=0.0,
        unreadable=list(unreadable.items()),
        partial=list(partial.items()),
    )


def moved_time(cell: str, offset: float) -> str:
    """A start or end of the manifest, in seconds after the packed file's first frame."""
    if not cell or not offset:
        return cell
    return repr(max(0.0, float(cell) - offset)).removesuffix(".0")


def list_videos(path: Path, found: Collection[tuple[str, str]]) -> None:
    """Write pairs of a video and a reason as CSV; no file if there are none."""
    if found:
        write_table(path, ["path", "reason"], ([csv_cell(name), csv_cell(reason)] for name, reason in found))
    else:
        path.unlink(missing_ok=True)


def write_table(path: Path, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    lines = io.StringIO()
    writer = csv.writer(lines, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    with replace_when_written(path) as temporary:
        # Names of files are bytes, and need not be UTF-8.
        temporary.write_text(lines.getvalue(), encoding="utf-8", errors="surrogateescape", newline="\n")
