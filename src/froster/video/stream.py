"""Windows that slide over a file or a stream: one decoding pass, memory for two windows, whatever the length.

A window's frames are those that `load_video(path, start=, end=)` takes, less those that are damaged. Which these are
depends on when all of its frames are shown, so a file's packets are read ahead of the decoder, until every window that
may want a frame has said so; only frames that are wanted are converted. Streams, and files that say no times, are
decoded as they come, and the frames of the window at hand are all converted.
"""

import bisect
import heapq
import math
import os
import warnings
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain, islice, pairwise
from pathlib import Path
from queue import Full, Queue
from threading import Event, Thread
from typing import Generic, cast

import av
import numpy as np
import torch
from av.container import InputContainer
from av.video.stream import VideoStream

from froster.errors import FrosterError, FrosterWarning, VideoError
from froster.video import decode, images, sampling
from froster.video.container import SoundFrames, choose_video_stream, decoder_errors, of_caller, open_container
from froster.video.jpegs import JPEGS_SUFFIX, JpegFrames
from froster.video.limits import LOCAL_OPTIONS, PIPE_OPTIONS, REMOTE_OPTIONS, check_size, max_pixels
from froster.video.timeline import HALF_MILLISECOND, Keep, Kept, Timeline, is_time_damaged

MAX_REORDER_DEPTH = 16  # frames decoded before a frame and displayed after it; the maximum of any codec
STEP_BACK, JUMP = 0.5, 3600  # seconds; a larger step in the timestamps means that the clock was reset
# Plausible seconds without a new frame, in total and per frame; damaged timestamps may say years.
GAPS, GAP_PER_FRAME = 3600, 60
INDEX_HEADERS = 300  # bytes; an MP4's index is larger
PACKETS_AHEAD = 256  # of a stream, queued for the decoder
OPEN_TIMEOUT, READ_TIMEOUT = 10.0, 20.0  # seconds to wait for a stream to open, and for its next packet


@dataclass(frozen=True)
class SlidingWindows:
    """Windows of `length` and `stride` seconds, with `frames` frames each. Raises `FrosterError`."""

    length: float
    stride: float
    frames: int

    def __post_init__(self) -> None:
        for name, seconds in (("window", self.length), ("stride", self.stride)):
            if math.isnan(seconds):
                raise FrosterError(f"{name} ({seconds:g}) is not a number; it must be more than 0 s.")
            if not 0 < seconds < math.inf:
                raise FrosterError(f"{name} ({seconds:g} s) must be {'finite' if seconds > 0 else 'more than 0 s'}.")
        if self.frames < 1:
            raise FrosterError(f"frames ({self.frames}) must be 1 or more.")


@dataclass(frozen=True)
class Window(Generic[Kept]):
    """The frames displayed in [start, end) seconds after the first frame.

    `frames`: number (ascending with time, not consecutive) of each frame taken, and what was kept of it; empty where
    less than half of what was wanted can be decoded.
    """

    start: float
    end: float
    frames: list[tuple[int, Kept]]


def is_stream(source: str | os.PathLike[str]) -> bool:
    """Whether a source is a stream: a camera, a URL, standard input (`-`), a named pipe."""
    name = os.fspath(source)
    return name == "-" or "://" in name or _camera(name) is not None or Path(name).is_fifo()


def read_windows(source: str | os.PathLike[str], sliding: SlidingWindows, keep: Keep[Kept]) -> Iterator[Window[Kept]]:
    """Windows of a video file, a folder of images or a stream, in order, with what `keep` made of their frames.

    `keep` is called once with each frame that a window takes, `(H, W, 3)` uint8 RGB. Windows start every
    `sliding.stride` seconds; one that the video's end cuts short comes where it adds something and half of it is there.
    Raises `VideoError` for what cannot be opened or gives no frame; warns of damage.
    """
    with decoder_errors(source):
        yield from _read_windows(source, sliding, of_caller(keep))


def _read_windows(source: str | os.PathLike[str], sliding: SlidingWindows, keep: Keep[Kept]) -> Iterator[Window[Kept]]:
    if is_stream(source):
        name = os.fspath(source)
        with _live(name) as (demuxer, packets):
            yield from _read_stream(name, demuxer, packets, sliding, keep)
        return
    path = Path(os.path.expanduser(source))  # noqa: PTH111 (Path.expanduser fails on an unknown user)
    decode._check_readable(path)
    if _holds_images(path):
        yield from _read_images(path, sliding, keep)
        return
    done = 0
    for threads in (min(torch.get_num_threads(), 8), 1):
        try:
            for window in islice(_read_file(path, sliding, keep, threads), done, None):
                yield window
                done += 1
        except _DamageMetError:
            continue
        return


def _read_file(path: Path, sliding: SlidingWindows, keep: Keep[Kept], threads: int) -> Iterator[Window[Kept]]:
    with decode._open(path) as (container, stream):
        demuxer = _Demuxer(container, stream)
        if demuxer.counted:
            yield from _read_stream(str(path), demuxer, demuxer, sliding, keep)
        else:
            yield from _read_ahead(str(path), demuxer, sliding, keep, threads)
        if demuxer.damaged_times:
            warnings.warn(
                f"{path.name}: {demuxer.damaged_times} of its frames have damaged timestamps and are skipped.",
                FrosterWarning,
                stacklevel=2,
            )
        if container.format.name == "gif" and (fault := decode.gif_fault(path)):
            warnings.warn(f"{path.name}: {fault}; what decodes is used.", FrosterWarning, stacklevel=2)
        elif demuxer.broken_off:
            warnings.warn(f"{path.name}: breaks off after {demuxer.broken_off}.", FrosterWarning, stacklevel=2)


def seconds_of(source: str | os.PathLike[str]) -> float | None:
    """Duration of a video file by its header; None if unknown, or for other sources."""
    path = Path(os.path.expanduser(source))  # noqa: PTH111 (Path.expanduser fails on an unknown user)
    if is_stream(source) or _holds_images(path):
        return None
    decode._check_readable(path)
    with decoder_errors(path), decode._open(path) as (container, _):
        return container.duration / av.time_base if container.duration else None


# --- sources --------------------------------------------------------------------------------------------------------


def _camera(name: str) -> str | None:
    if name.isdecimal() and not Path(name).exists():
        return f"/dev/video{name}"
    return name if name.startswith("/dev/video") else None


@contextmanager
def _open_stream(name: str) -> Iterator[tuple[InputContainer, VideoStream]]:
    camera = _camera(name)
    try:
        if name == "-":
            container = open_container("pipe:0", options=PIPE_OPTIONS)
        elif camera:
            container = open_container(camera, format="v4l2")
        else:
            local = "://" not in name or name.lower().startswith("file:")
            options = LOCAL_OPTIONS if local else REMOTE_OPTIONS
            container = open_container(name, options=options, timeout=(OPEN_TIMEOUT, READ_TIMEOUT))
    except (av.FFmpegError, ValueError) as error:
        what = "the camera" if camera else "the stream"
        reason = error.strerror if isinstance(error, av.FFmpegError) else error
        raise VideoError(camera or name, f"{what} cannot be opened ({reason})") from error
    with container:
        stream = choose_video_stream(container)
        if stream is None:
            raise VideoError(name, "the stream carries no video")
        check_size(name, stream.width, stream.height)
        stream.codec_context.options = {"max_pixels": str(max_pixels())}  # should the size change on the way
        yield container, stream


@contextmanager
def _live(name: str) -> Iterator[tuple["_Demuxer", Iterator["av.Packet[VideoStream]"]]]:
    """A stream and its packets, read in a separate thread, since a blocking read cannot be interrupted."""
    ahead: Queue[_Demuxer | av.Packet[VideoStream] | Exception | None] = Queue(PACKETS_AHEAD)
    stopped = Event()

    def put(item: "_Demuxer | av.Packet[VideoStream] | Exception | None") -> bool:
        while not stopped.is_set():
            try:
                ahead.put(item, timeout=0.1)
                return True
            except Full:
                pass
        return False

    def pump() -> None:
        try:
            with _open_stream(name) as (container, stream):
                demuxer = _Demuxer(container, stream)
                if put(demuxer) and all(put(packet) for packet in demuxer):
                    put(None)
        except Exception as error:  # reported to the other thread
            put(error)

    def packets() -> Iterator["av.Packet[VideoStream]"]:
        while isinstance(item := ahead.get(), av.Packet):
            yield item
        if isinstance(item, Exception):
            raise item

    Thread(target=pump, daemon=True, name=f"froster reads {name}").start()
    try:
        first = ahead.get()
        if isinstance(first, Exception):
            raise first
        yield cast(_Demuxer, first), packets()
    finally:
        stopped.set()


class _Demuxer:
    """The packets of a video stream, with timestamps made continuous."""

    def __init__(self, container: InputContainer, stream: VideoStream) -> None:
        self.container, self.stream = container, stream
        self.tick = stream.time_base or Fraction(1, 90_000)
        self.rate: Fraction = stream.average_rate or stream.guessed_rate or Fraction(25)
        self.fault = ""
        self.packets, self.last_second, self.ended = 0, 0.0, False
        self.damaged_times = 0  # frames skipped for their damaged timestamps
        packets = self._packets()
        self.first = next(packets, None)
        # AVI stores decoding times, not presentation times: with B-frames, only the order is known.
        reordered_avi = container.format.name == "avi" and bool(stream.codec_context.has_b_frames)
        self.counted = reordered_avi or self.first is None or self.first.pts is None
        self._all = chain([] if self.first is None else [self.first], packets)

    def __iter__(self) -> "Iterator[av.Packet[VideoStream]]":
        return self._all

    @property
    def promised(self) -> float:
        """Duration by the header in seconds, 0 if unknown."""
        return (self.container.duration or 0) / av.time_base

    @property
    def broken_off(self) -> str:
        """Where the packets end, compared with the container's header; "" if they are complete."""
        if not self.ended:
            return ""
        indexed = decode.indexed_packets(self.container, self.stream)
        start = min(self.container.start_time or 0, 0) / av.time_base
        ends_early = self.promised - (self.last_second - start) > max(0.5, 2 / float(self.rate))
        # An MP4's edit list may state a longer duration than there is; an AVI's index may be cut off too.
        if ends_early and not (indexed and "mp4" in self.container.format.name):
            return f"{self.last_second:.1f} of {self.promised:.1f} s"
        return f"{self.packets} of {indexed} frames" if self.packets < indexed else ""

    @property
    def _needs_seeking(self) -> bool:
        """Whether an MP4's frames come before its index in a source that cannot seek."""
        entries = self.stream.index_entries
        # An index takes more than a byte a frame, so one that comes first leaves no room for frames at the beginning.
        frames_first = len(entries) > 0 and min(entry.pos for entry in entries) < len(entries) + INDEX_HEADERS
        return "mp4" in self.container.format.name and not self.container.name.startswith("file:") and frames_first

    def _packets(self) -> "Iterator[av.Packet[VideoStream]]":
        latest, shift = None, 0
        step = max(1, round(1 / (self.rate * self.tick)))
        try:
            for packet in self.container.demux():
                if packet.size == 0:
                    continue
                if packet.pts is not None and packet.time_base:
                    over = float((packet.pts + (packet.duration or 0)) * packet.time_base)
                    self.last_second = max(self.last_second, over)
                if packet.stream_index != self.stream.index:
                    continue
                self.packets += not packet.is_corrupt
                if packet.dts is not None:
                    if latest is not None and not -STEP_BACK <= (packet.dts + shift - latest) * self.tick <= JUMP:
                        shift = latest + step - packet.dts
                    packet.dts += shift
                    latest = packet.dts
                if packet.pts is not None:
                    packet.pts += shift
                if is_time_damaged(packet.pts, packet.dts, self.tick):
                    packet.pts, self.damaged_times = None, self.damaged_times + 1
                yield cast("av.Packet[VideoStream]", packet)
        except av.FFmpegError as error:
            if isinstance(error, av.ExitError):  # PyAV's timeout
                self.fault = f"no data for {READ_TIMEOUT:g} s"
            elif latest is None and self._needs_seeking:
                self.fault = (
                    f"the {'server' if '://' in self.container.name else 'pipe'} cannot seek, and the file's index is "
                    "at its end: download it, or remux it with -movflags faststart"
                )
            else:
                self.fault = error.strerror or str(error)
        self.ended = True


# --- which frames ---------------------------------------------------------------------------------------------------


class _Plan:
    """Plans which frames the windows use, from the presentation times of frames, in ticks; drops old frames."""

    def __init__(self, sliding: SlidingWindows, tick: Fraction, rate: Fraction, stills: bool = False) -> None:
        self.sliding, self.tick, self.rate = sliding, tick, rate
        self.stills = stills  # whether a frame is displayed until the next one
        self.number = 0  # index of the next window
        self.shown: list[int] = []  # ascending presentation times, from the last frame before the next window
        self.end_times: dict[int, int] = {}  # presentation time -> end time, if the file has durations
        self.zero: int | None = None  # presentation time of the first frame
        self.end: int | None = None
        self.frames = 0  # number of frames added
        self.gaps = 0.0  # total stride of windows without a new frame

    def add(self, pts: int, duration: int | None) -> None:
        if pts not in self.end_times:
            self.frames += 1
            bisect.insort(self.shown, pts)
            self.end_times[pts] = pts + (duration or 0)
            self.end = self.end_times[pts] if self.end is None else max(self.end, self.end_times[pts])

    def close(self) -> None:
        """Mark the end of the frames."""
        if self.zero is None and self.shown:
            self.zero = self.shown[0]
        if self.shown and self.end is not None and self.end <= self.shown[-1]:  # the last frame has no duration
            self.end = self.shown[-1] + max(1, round(1 / (self.rate * self.tick)))

    @property
    def is_stopped(self) -> bool:
        """Whether gaps between frames are implausibly long, which ends the windows."""
        return self.gaps > GAPS + GAP_PER_FRAME * self.frames

    @property
    def start(self) -> float:
        return self.number * self.sliding.stride

    @property
    def duration(self) -> float:
        return float(((self.end or 0) - (self.zero or 0)) * self.tick)

    @property
    def begin(self) -> int:
        """Start of the next window, in ticks."""
        return (self.zero or 0) + math.ceil((self.start - HALF_MILLISECOND) / self.tick)

    @property
    def needed_from(self) -> int:
        """Earlier frames are in no later window."""
        return min(self.begin, self.shown[0]) if self.shown else self.begin

    def is_ready(self, reached: int) -> bool:
        """Whether all frames of the next window are known, where those shown before the tick `reached` are."""
        if self.is_stopped or not self.shown:
            return False
        if self.zero is None:
            self.zero = self.shown[0]
        return (reached - self.zero) * self.tick >= self.start + self.sliding.length

    def has_more(self) -> bool:
        """Whether a closed plan has another window: the first, or one with new frames and at least half its length."""
        before = self.start - self.sliding.stride + self.sliding.length
        adds = self.duration - max(before, self.start) > 2 * HALF_MILLISECOND
        half = self.duration - self.start >= self.sliding.length / 2 - 2 * HALF_MILLISECOND
        return self.zero is not None and not self.is_stopped and (self.number == 0 or (adds and half))

    def next(self) -> tuple[float, float, list[int]]:
        """Start and end of the next window in seconds, and its frames, including repetitions."""
        start, end = self.start, self.start + self.sliding.length
        pts = np.array(self.shown, dtype=np.int64)
        timeline = Timeline(pts, self.end or 0, self.tick, self.rate, begin=self.zero)
        segment, first = timeline.cut(start, end)
        wanted = list[int]()
        if len(segment):
            chosen = sampling.uniform_indices(segment.times, segment.duration, frames=self.sliding.frames, views=1)
            wanted = pts[first + chosen[0]].tolist()
        else:
            self.gaps += self.sliding.stride
            if first and (self.stills or self.end_times[self.shown[first - 1]] > self.begin):
                wanted = [self.shown[first - 1]] * self.sliding.frames
        self.number += 1
        over = max(0, bisect.bisect_left(self.shown, self.begin) - 1)
        for old in self.shown[:over]:
            del self.end_times[old]
        del self.shown[:over]
        return start, end, wanted


class _DamageMetError(Exception):
    """Several threads met damage, which they report late, and differently each time: one must read the file again."""


class _Frames(Generic[Kept]):
    """The frames of a video stream as they are decoded; those that windows want are kept, or all of them.

    The rule for damage, of files and streams alike: a window has the frames that it would have if the video were sound,
    less those that are damaged, and none where fewer than half are left.
    """

    def __init__(
        self, demuxer: _Demuxer, sliding: SlidingWindows, keep: Keep[Kept], threads: int, *, all_wanted: bool
    ) -> None:
        self.decoder, self.sound, self.threads = decode.PacketDecoder(demuxer.stream, threads), SoundFrames(), threads
        self.keep, self.counted, self.all_wanted = keep, demuxer.counted, all_wanted
        self.slack = int(sliding.length / sliding.frames / demuxer.tick)
        self.wanted = set[int]()
        self.awaited: list[int] = []  # a heap of those wanted that have not come
        self.kept: dict[int, Kept] = {}  # by when they are shown, ascending
        self.reached: int | None = None  # when the latest frame is shown, also where it is damaged
        self.packets = 0

    def want(self, frames: Iterable[int]) -> None:
        for pts in frames:
            if pts not in self.wanted:
                self.wanted.add(pts)
                heapq.heappush(self.awaited, pts)

    def decode(self, packet: "av.Packet[VideoStream] | None") -> None:
        """Decode a packet, None at the end. Raises `_DamageMetError` where several threads meet damage."""
        self.packets += packet is not None
        skip = not self.all_wanted and packet is not None and packet.pts not in self.wanted
        for frame in self.decoder(packet, skip=skip):
            self._see(frame, (-1 if self.reached is None else self.reached) + 1 if self.counted else frame.pts)
        if self.threads > 1 and (self.decoder.fault or self.sound.damaged):
            raise _DamageMetError
        if self.counted and not self.decoder.sound:
            self.reached = self.packets - 1  # what was in the decoder is lost

    def _see(self, frame: av.VideoFrame, pts: int | None) -> None:
        sound = self.sound.is_sound(frame, self.decoder.is_reference)
        if pts is None or (self.reached is not None and pts <= self.reached):
            return
        self.reached, wanted = pts, self.all_wanted
        while self.awaited and self.awaited[0] <= pts:
            wanted |= pts - heapq.heappop(self.awaited) <= self.slack
        if sound and wanted:
            self.kept[pts] = self.keep(decode._rgb(frame))

    def take(self, wanted: list[int]) -> list[tuple[int, Kept]]:
        """The frames that a window wants, some repeated where others are damaged; none where more than half are."""
        found = [pts for pts in map(self._found, wanted) if pts is not None]
        return _spread([(pts, self.kept[pts]) for pts in found], len(wanted))

    def _found(self, pts: int) -> int | None:
        """The frame itself; for the times of packets that give no image of their own, the next one."""
        if pts in self.kept:
            return pts
        if self.decoder.fault or self.sound.damaged:
            return None
        return next((later for later in self.kept if 0 < later - pts <= self.slack), None)

    def forget(self, before: int) -> None:
        """Drop frames shown before a tick."""
        self.kept = {pts: image for pts, image in self.kept.items() if pts >= before}
        self.wanted = {pts for pts in self.wanted if pts >= before}


def _spread(found: list[tuple[int, Kept]], count: int) -> list[tuple[int, Kept]]:
    if 2 * len(found) < count:
        return []
    return [found[(2 * place + 1) * len(found) // (2 * count)] for place in range(count)]


# --- ways to read ---------------------------------------------------------------------------------------------------


def _plan_of(demuxer: _Demuxer, sliding: SlidingWindows) -> _Plan:
    # An MP4's index names every frame: between two frames there was none. In other files it may be lost.
    stills = "mp4" in demuxer.container.format.name
    return _Plan(sliding, 1 / demuxer.rate if demuxer.counted else demuxer.tick, demuxer.rate, stills)


def _read_ahead(
    name: str, demuxer: _Demuxer, sliding: SlidingWindows, keep: Keep[Kept], threads: int
) -> Iterator[Window[Kept]]:
    """Windows of a file whose packets say when their frames are shown."""
    plan, frames = _plan_of(demuxer, sliding), _Frames(demuxer, sliding, keep, threads, all_wanted=False)
    planned: deque[tuple[float, float, list[int]]] = deque()
    ahead: deque[av.Packet[VideoStream]] = deque()
    gaps = 0

    def plan_next() -> None:
        planned.append(plan.next())
        frames.want(planned[-1][2])

    def is_complete() -> bool:
        """Whether the frames of the first window that is planned have come, so far as they come."""
        last = max(planned[0][2], default=None) if planned else None
        return bool(planned) and (last is None or (frames.reached is not None and last <= frames.reached))

    def pop() -> Window[Kept]:
        nonlocal gaps
        start, end, wanted = planned.popleft()
        window = Window(start, end, frames.take(wanted))
        gaps += not window.frames
        frames.forget(min((pts for _, _, later in planned for pts in later), default=plan.needed_from))
        return window

    for packet in demuxer:
        _add_packet(plan, frames, packet)
        ahead.append(packet)
        while len(plan.shown) > MAX_REORDER_DEPTH and plan.is_ready(plan.shown[-1 - MAX_REORDER_DEPTH]):
            plan_next()
        if plan.is_stopped:
            break
        while plan.number and ahead and (ahead[0].pts is None or ahead[0].pts < plan.needed_from):
            frames.decode(ahead.popleft())
            while is_complete():
                yield pop()
    plan.close()
    while plan.has_more():
        plan_next()
    while ahead:
        frames.decode(ahead.popleft())
        while is_complete() and planned[0][1] <= plan.duration:
            yield pop()
    frames.decode(None)
    _check_decoded(name, frames, demuxer.fault or ("frames are missing" if gaps and not plan.is_stopped else ""))
    _warn_of_gaps(name, plan)
    while planned:
        window = pop()
        yield Window(window.start, min(window.end, plan.duration), window.frames)


def _read_stream(
    name: str,
    demuxer: _Demuxer,
    packets: Iterable["av.Packet[VideoStream]"],
    sliding: SlidingWindows,
    keep: Keep[Kept],
) -> Iterator[Window[Kept]]:
    """Windows of a stream, or of a file whose frames are known only once they are decoded."""
    # More threads would delay frames.
    plan, frames = _plan_of(demuxer, sliding), _Frames(demuxer, sliding, keep, threads=1, all_wanted=True)

    def next_window() -> Window[Kept]:
        start, end, wanted = plan.next()
        window = Window(start, end, frames.take(wanted))
        frames.forget(plan.needed_from)
        return window

    for packet in chain(packets, [None]):
        if packet is not None and not demuxer.counted:
            _add_packet(plan, frames, packet)
        frames.decode(packet)
        if demuxer.counted and frames.reached is not None:
            for number in range(plan.frames, frames.reached + 1):
                plan.add(number, None)
        while frames.reached is not None and plan.is_ready(frames.reached):
            yield next_window()
        if plan.is_stopped:
            break
    plan.close()
    _check_decoded(name, frames, demuxer.fault)
    _warn_of_gaps(name, plan)
    while plan.has_more():
        window = next_window()
        yield Window(window.start, min(window.end, plan.duration), window.frames)


def _add_packet(plan: _Plan, frames: _Frames[Kept], packet: "av.Packet[VideoStream]") -> None:
    """Tell the plan of the frame in a packet, unless it is not shown or cut off."""
    if packet.pts is not None and not packet.is_discard and (frames.decoder.may_be_joined or not packet.is_corrupt):
        plan.add(packet.pts, packet.duration)


def _check_decoded(name: str, frames: _Frames[Kept], broken: str) -> None:
    """Raises `VideoError` where nothing was decoded; warns where not all was. `broken`: what the container lacks."""
    sound, fault = frames.sound, frames.decoder.fault
    sound.check(name)
    if not sound.sound:
        raise VideoError(name, f"none of its frames can be decoded ({fault or broken or 'there are none'})")
    if sound.damaged and not fault:
        warnings.warn(
            f"{name}: {sound.damaged} of {sound.sound + sound.damaged} decoded frames are damaged; they are not used.",
            FrosterWarning,
            stacklevel=3,
        )
    elif fault or broken:
        warnings.warn(
            f"{name}: is damaged or breaks off ({fault or broken}); decoded parts are used, the rest are gaps.",
            FrosterWarning,
            stacklevel=3,
        )


def _warn_of_gaps(name: str, plan: _Plan) -> None:
    if plan.is_stopped:
        warnings.warn(
            f"{name}: its timestamps, of which some must be damaged, leave {plan.gaps:.0f} s without a new frame; "
            f"the windows end at {plan.start:.0f} s.",
            FrosterWarning,
            stacklevel=3,
        )


def _holds_images(path: Path) -> bool:
    """Whether a file or folder is read image by image: a folder of images, an image, or packed JPEGs."""
    return path.is_dir() or path.suffix.lower() in images.IMAGE_SUFFIXES | {JPEGS_SUFFIX}


def _read_images(path: Path, sliding: SlidingWindows, keep: Keep[Kept]) -> Iterator[Window[Kept]]:
    opened = JpegFrames(path) if path.suffix.lower() == JPEGS_SUFFIX else images.ImageFrames(path)
    with opened as sequence:
        ticks = sequence.edges.tolist()
        plan = _Plan(sliding, Fraction(1, images.TICKS), images.FOLDER_RATE)
        for pts, gone in pairwise(ticks):
            plan.add(pts, gone - pts)
        plan.close()
        numbers = {pts: number for number, pts in enumerate(ticks[:-1])}
        kept: dict[int, Kept | None] = {}
        seen, unreadable, failure = 0, 0, None
        while plan.has_more():
            start, end, wanted = plan.next()
            for pts in wanted:
                if pts in kept:
                    continue
                try:
                    image = sequence.rgb(numbers[pts])
                except VideoError as error:
                    kept[pts], unreadable, failure = None, unreadable + 1, error
                else:
                    kept[pts], seen = keep(image), seen + 1
            found = [(pts, result) for pts in wanted if (result := kept[pts]) is not None]
            yield Window(start, min(end, plan.duration), _spread(found, sliding.frames))
            for pts in [pts for pts in kept if pts < plan.needed_from]:
                del kept[pts]
    _warn_of_gaps(str(path), plan)
    if failure and not seen:
        raise failure
    if sequence.promised > len(sequence.frames):
        reached = f"{len(sequence.frames)} of {sequence.promised} frames"
        warnings.warn(f"{path.name}: breaks off after {reached}.", FrosterWarning, stacklevel=2)
    if failure:
        reason = f"{failure.path}: {failure.reason}"
        warnings.warn(f"{reason}; {unreadable} such images are skipped.", FrosterWarning, stacklevel=2)
