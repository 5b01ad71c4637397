"""Read chosen frames of a video file with PyAV, decoding as little as possible.

1. The file is *surveyed*: every packet is read, none decoded. That gives each frame's time, with variable
   frame rates, B-frames, edit lists and missing headers, so a frame number means the same in every container.
2. The wanted frames are decoded. The decoder seeks to a keyframe wherever that saves decoding packets; on the
   way, images that no other image needs are skipped. AVI stores no presentation times: with B-frames its frames
   are counted from the start as they come out.
3. If a frame fails to appear, the file is decoded from its start by one thread, to learn which frames can be
   had, and the choice is made again among those.

Frames are turned as the file's display matrix says. Pixels are taken as stored: a non-square pixel shape is
ignored, as in the code that the released models were trained and tested with. Colors are swscale's
conversion to RGB.
"""

import math
import os
import struct
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO, Literal

import av
import numpy as np
import torch
from av.container import InputContainer
from av.video.frame import PictureType
from av.video.stream import VideoStream
from numpy.typing import NDArray
from PIL import Image

from froster.errors import VideoError
from froster.files import is_dead_link
from froster.video.container import (
    SoundFrames,
    choose_video_stream,
    decoder_errors,
    display_matrix,
    is_encrypted,
    is_reference,
    of_caller,
    open_container,
)
from froster.video.images import IMAGE_SUFFIXES, read_images
from froster.video.jpegs import JPEGS_SUFFIX, read_jpegs
from froster.video.limits import LOCAL_OPTIONS, check_size, max_pixels
from froster.video.timeline import LONGEST_DELAY, Choose, Keep, Kept, Reading, Timeline

UNINDEXED = ("mpegts", "mpeg")  # formats whose files have no index of their keyframes
UNINDEXED_SEEK = 24  # packets; finding a keyframe without an index costs about as much as decoding that many
IN_DECODER = 32  # packets: as many may be in a decoder of several threads before the first one's frame comes out
DOUBTFUL_PACKETS = 2  # packets of a transport stream: one that is called cut off, and the one after it
WHOLE = (PictureType.I, PictureType.NONE)  # none: of codecs without types, such as QuickTime's Animation
Resize = Callable[[int, int], tuple[int, int]]  # width and height -> width and height
KeepFrame = Callable[[av.VideoFrame], Kept]
MIN_THREADED_PIXELS = 300_000  # pixels of a frame; of smaller ones, handing them over costs more than threads gain


def read(
    path: str | os.PathLike[str],
    choose: Choose,
    keep: Keep[Kept],
    start: float | None = None,
    end: float | None = None,
    size: Resize | None = None,
) -> Reading[Kept]:
    """Decode the frames that `choose` picks from a file's timeline and apply `keep` to each.

    Only one full-size frame is held at a time. `choose` is called again for each new attempt at a damaged file, with
    the shorter timeline of what can really be decoded; `keep` is then given the frames from the first again, always
    in order. Image files, folders of images and packed JPEGs count as videos. With `start` or `end`, seconds after
    the file's first frame, `choose` is given that segment alone. `size`: the (width, height) that a frame of a stored
    (width, height) is scaled to, bicubic. Raises `VideoError`.
    """
    path = Path(os.path.expanduser(path))  # noqa: PTH111 (Path.expanduser fails on an unknown user)
    with decoder_errors(path):
        _check_readable(path)
        choose, keep = within(path, of_caller(choose), start, end), of_caller(keep)
        if path.is_dir() or path.suffix.lower() in IMAGE_SUFFIXES:
            reading = read_images(path, choose, lambda image: keep(_resized(image, size)))
        elif path.suffix.lower() == JPEGS_SUFFIX:
            reading = read_jpegs(path, choose, lambda image: keep(_resized(image, size)))
        else:
            reading = _read_video(path, choose, lambda frame: keep(_rgb(frame, size)))
    return replace(reading, warning=reading.warning or _cut_short(path, reading.timeline, start, end))


def within(path: Path, choose: Choose, start: float | None, end: float | None) -> Choose:
    """`choose` for the frames of a file that appear in [start, end) seconds, None for the start and end of the file.

    `choose` is given their own timeline, as if there were no others; the numbers returned are the file's. Raises
    `VideoError` where the segment makes no sense or holds no frame.
    """
    if not start and end is None:
        return choose
    begin, stop = start or 0.0, math.inf if end is None else end
    if not 0 <= begin < stop:
        raise VideoError(
            path, f"a segment must start at 0 s or later and end after its start, not be {begin:g} s to {stop:g} s"
        )

    def choose_within(timeline: Timeline) -> NDArray[np.int64]:
        segment, first = timeline.cut(begin, stop)
        if not len(segment):
            until = "on" if end is None else f"to {end:g} s"
            length = f"the video is {timeline.duration:.2f} s long"
            raise VideoError(path, f"has no frame in the segment from {begin:g} s {until}, {length}")
        return first + choose(segment)

    return choose_within


def _cut_short(path: Path, timeline: Timeline, start: float | None, end: float | None) -> str | None:
    """A warning if less than half of a segment exists; many in Kinetics end slightly after their video."""
    begin = start or 0.0
    if end is None or timeline.duration - begin >= (end - begin) / 2:
        return None
    return (
        f"{path.name}: the video is {timeline.duration:.2f} s long, less than half of the segment from {begin:g} s "
        f"to {end:g} s exists; that part is used"
    )


def _read_video(path: Path, choose: Choose, keep: KeepFrame[Kept]) -> Reading[Kept]:
    with _open(path) as (container, stream):
        survey = _survey(path, container, stream)
        if survey.timeline is None:
            return _read_what_decodes(path, survey, choose, keep)
        indices = choose(survey.timeline)
        wanted = survey.timeline.pts[np.unique(indices)]
        found = dict[int, Kept]()
        if not survey.counted:
            found = _fetch(container, stream, survey, _stretches(survey, wanted), keep, drain=survey.stored_whole)
    if len(found) < len(wanted):
        choose(survey.timeline)
        with _open(path) as (container, stream):
            found = _fetch(container, stream, survey, [_Stretch(wanted.tolist())], keep)
    if len(found) < len(wanted):
        return _read_what_decodes(path, survey, choose, keep)
    numbers = np.searchsorted(survey.timeline.pts, list(found))
    kept = dict(zip(numbers.tolist(), found.values(), strict=True))
    warning = _warning(path, len(survey.timeline), survey.total, survey.fault) if survey.fault else None
    return Reading(kept, indices, survey.timeline, warning)


def _check_readable(path: Path) -> None:
    if is_dead_link(path):
        raise VideoError(path, f"a link to {path.readlink()}, which does not exist")
    if not path.exists():
        raise VideoError(path, "there is no such file")
    if not os.access(path, os.R_OK):
        raise VideoError(path, "cannot be opened, permission denied")
    if not path.is_file() and not path.is_dir():
        raise VideoError(path, "neither a file nor a folder")
    if path.is_file() and path.stat().st_size == 0:
        raise VideoError(path, "the file is empty")


@contextmanager
def _open(path: Path) -> Iterator[tuple[InputContainer, VideoStream]]:
    """The container and its video stream, as chosen by `choose_video_stream`."""
    try:
        # `file:` allows colons in names.
        container = open_container(f"file:{path}", options=LOCAL_OPTIONS)
    except av.FFmpegError as error:
        raise VideoError(path, _why_not_opened(path, error)) from error
    with container:
        if not container.streams:
            raise VideoError(path, _why_not_opened(path, None))
        stream = choose_video_stream(container)
        if stream is None:
            content = "only audio" if container.streams.audio else "nothing that can be shown"
            raise VideoError(path, f"has no video stream, {content}")
        if stream.codec_context is None:
            raise VideoError(path, "the codec is unknown to PyAV, or the file's header is incomplete")
        check_size(path, stream.width, stream.height)
        stream.codec_context.options = {"max_pixels": str(max_pixels())}  # the size may change mid-stream
        yield container, stream


def _why_not_opened(path: Path, error: av.FFmpegError | None) -> str:
    """`error`: FFmpeg's error, None if it opened the file and found no streams."""
    with path.open("rb") as file:
        head = file.read(32)
        if head[4:8] == b"ftyp":
            return _missing_or_damaged_index(file)
    if head.removeprefix(b"\xef\xbb\xbf").lstrip().startswith((b"#EXTM3U", b"ffconcat")):
        return "a playlist, not a video; name the files that it lists"
    if isinstance(error, av.ArgumentError):  # FFmpeg's error for a format that is not allowed
        return "not a video that can be read (plain text, a playlist, or another format that is not taken)"
    return f"not a video that can be read ({error.strerror if error else 'it is empty'})"


def _missing_or_damaged_index(file: BinaryIO) -> str:
    """Why an MP4 cannot be opened, from its boxes (ISO/IEC 14496-12, 4.2)."""
    length, at = os.fstat(file.fileno()).st_size, 0
    cut = "the file is incomplete, its index (moov) is missing, as after a download that was cut short"
    while at + 8 <= length:
        file.seek(at)
        size, kind = struct.unpack(">I4s", file.read(8))
        if kind == b"moov":
            whole = at + size <= length
            return "its index (moov) is damaged" if whole else "the file is incomplete, it ends within its index (moov)"
        if size == 1:
            size = int.from_bytes(file.read(8), "big")
        if size == 0:  # to the end of the file
            return cut
        if size < 8 or not kind.isascii():
            return f"the file is damaged at byte {at}: a box of {size} bytes, so its index (moov) cannot be found"
        at += size
    return cut


def gif_fault(path: Path) -> str:
    """Whether a GIF "breaks off" or "is damaged", by its blocks (GIF89a, 17 to 27); "" if neither.

    FFmpeg passes over damaged blocks, and ends where the file does.
    """
    data = path.read_bytes()

    def table(at: int) -> int:
        """Bytes of the colors that follow the flags at `at`."""
        return 3 << (data[at] & 7) + 1 if data[at] & 0x80 else 0

    def after_blocks(at: int) -> int:
        while data[at]:
            at += 1 + data[at]
        return at + 1

    try:
        at = 13 + table(10)
        while data[at] != 0x3B:  # the end
            if data[at] == 0x21:  # an extension
                at = after_blocks(at + 2)
            elif data[at] == 0x2C:  # an image
                at = after_blocks(at + 11 + table(at + 9))
            else:
                return "is damaged"
    except IndexError:
        return "breaks off"
    return ""


@dataclass
class _Stretch:
    """Wanted frames, by presentation time, that are decoded without seeking between them."""

    wanted: list[int]
    keyframe: int | None = None  # presentation time of the keyframe to begin with; None: start of the file
    seek: int = 0  # where its container is told to seek, in ticks


@dataclass(frozen=True)
class _Survey:
    """A file's packets in decoding order, and the timeline from their timestamps."""

    pts: NDArray[np.int64]  # (P,)
    dts: NDArray[np.int64]  # (P,) where a container has none, as `pts`
    keyframe: NDArray[np.bool_]  # (P,)
    timeline: Timeline | None  # None if packets are damaged or have no timestamps
    counted: bool  # frames are identified by output order, not by timestamps
    tick: Fraction
    rate: Fraction
    begin: int | None  # presentation time of the first frame, if known
    total: int  # expected number of frames
    times_damaged: bool  # some timestamps are impossible
    indexed: bool  # whether seeking costs less than decoding a few packets
    stored_whole: bool  # whether a packet holds a whole picture
    fault: str  # "breaks off", "is damaged": the container lacks packets that it should have; "" if it has all
    pictures: int  # frames that must come out of the decoder, 0 if unknown


def _survey(path: Path, container: InputContainer, stream: VideoStream) -> _Survey:
    pts, dts = list[int | None](), list[int | None]()
    keyframe, shown, damaged, end = list[bool](), list[bool](), False, 0
    times_damaged = False
    ends = defaultdict[int, int](int)  # end of each stream's packets, in its ticks; a stream may start late
    tick = stream.time_base or Fraction(1, 90_000)
    rate = stream.average_rate or stream.guessed_rate or Fraction(25)
    counted = container.format.name == "avi" and bool(stream.codec_context.has_b_frames)
    longest_delay, index = math.floor(Fraction(LONGEST_DELAY) / tick), stream.index
    try:
        for packet in container.demux():
            if packet.size == 0:
                continue
            time, duration = packet.pts, packet.duration or 0
            if time is not None and time + duration > ends[packet.stream_index]:
                ends[packet.stream_index] = time + duration
            if packet.stream_index == index:
                decoded = packet.dts
                if not counted and time is not None and decoded is not None:
                    times_damaged |= abs(time - decoded) > longest_delay
                if counted:
                    time = decoded
                pts.append(time)
                dts.append(decoded)
                is_key = packet.is_keyframe
                keyframe.append(is_key)
                shown.append(not packet.is_discard)
                damaged |= packet.is_corrupt or (is_key and is_encrypted(packet))
                end = max(end, (time or 0) + duration)
    except av.FFmpegError:
        damaged = True
    promised = (container.duration or 0) / av.time_base
    overs = (float(over * (container.streams[index].time_base or 0)) for index, over in ends.items())
    last_second = max(overs, default=0.0)
    seconds = last_second - min(container.start_time or 0, 0) / av.time_base
    header_frames, header_duration = stream.frames, stream.duration
    if not pts:
        raise VideoError(path, "has a video stream without a single frame")

    indexed = indexed_packets(container, stream)
    tolerance = 2 / float(rate) if header_frames > len(pts) else 0.5
    ends_early = promised - seconds > tolerance
    if container.format.name == "gif":
        fault = gif_fault(path)
    elif "mp4" in container.format.name and indexed:
        fault = "breaks off" if len(pts) < indexed else ""
    else:
        fault = "breaks off" if ends_early else "is damaged" if len(pts) < indexed else ""
    total = len(pts)
    if fault or damaged:
        if "avi" in container.format.name:  # its index may be cut off too
            indexed = max(indexed, header_frames)
        total = max(total, indexed or header_frames or round(promised * rate))

    timed = np.array([p if p is not None else -1 for p in pts], dtype=np.int64)
    timeline, order = None, np.unique(timed[np.array(shown)])
    if not damaged and not times_damaged and None not in pts and len(order) == sum(shown) > 0:
        if end <= order[-1]:  # the last frame has no duration
            end = int(order[-1]) + max(1, round(1 / (rate * tick)))
        timeline = Timeline(order, end, tick, rate, header_frames or None, header_duration)
    # A transport stream has a packet for each field, and other codecs have packets without a picture of their own.
    stored_whole = any(name in container.format.name for name in ("mp4", "matroska"))
    pictures = sum(shown) if stored_whole and stream.codec_context.name == "h264" else 0
    begin = None if counted else next((p for p, visible in zip(pts, shown, strict=True) if visible), None)
    return _Survey(
        pts=timed,
        dts=np.array([p if d is None else d for p, d in zip(timed.tolist(), dts, strict=True)], dtype=np.int64),
        keyframe=np.array(keyframe),
        timeline=timeline,
        counted=counted,
        tick=tick,
        rate=rate,
        begin=begin,
        total=total,
        times_damaged=times_damaged,
        indexed=container.format.name not in UNINDEXED,
        stored_whole=stored_whole,
        fault=fault,
        pictures=pictures,
    )


def indexed_packets(container: InputContainer, stream: VideoStream) -> int:
    """How many packets the index of an MP4 or AVI lists, after its edit list; 0 for other files and without an index.

    The duration in the header may be longer than what there is: an edit list states what it likes.
    """
    if not stream.frames or not any(name in container.format.name for name in ("mp4", "avi")):
        return 0
    return sum(entry.size > 0 for entry in stream.index_entries)


def _fetch(
    container: InputContainer,
    stream: VideoStream,
    survey: _Survey,
    stretches: list[_Stretch],
    keep: KeepFrame[Kept],
    drain: bool = False,
) -> dict[int, Kept]:
    """Decode the frames of the stretches, by timestamp; missing ones are left out.

    `drain`: take the last frames of a stretch out of the decoder without feeding it the packets after them, which is
    only right where a packet holds a whole picture.
    """
    found: dict[int, Kept] = {}
    context = stream.codec_context
    context.thread_type = "AUTO"
    small = context.width * context.height < MIN_THREADED_PIXELS
    context.thread_count = 1 if small else min(torch.get_num_threads(), 8)  # one in a data loader's worker
    may_skip = not survey.counted and context.codec.name != "libdav1d"  # which ignores later changes of skip_frame
    shown = iter(survey.timeline.pts.tolist() if survey.timeline else ())
    try:
        for stretch in stretches:
            missing, unread = set(stretch.wanted), set(stretch.wanted)
            if stretch.keyframe is not None:
                container.seek(stretch.seek, stream=stream)
            landed, last, entry = stretch.keyframe is None, -math.inf, None
            for packet in container.demux(stream):
                if not landed:
                    if not packet.is_keyframe or packet.pts != stretch.keyframe:
                        if packet.size == 0:  # the end
                            return found
                        continue
                    landed, entry = True, packet.pts if packet.pts != survey.pts[0] else None
                if may_skip:
                    context.skip_frame = skip_frame(packet, is_wanted=packet.pts in missing)
                unread.discard(packet.pts)
                frames = _decode(packet)
                drained = drain and not unread and packet.size > 0
                if drained:
                    frames += context.decode(None)
                for frame in frames:
                    pts = next(shown, None) if survey.counted else frame.pts
                    if pts is None or pts <= last:  # container and decoder disagree on timestamps
                        return {}
                    last = pts
                    if entry is not None and pts >= entry:
                        if frame.pict_type not in WHOLE:  # gradual refresh: complete only some frames later
                            return found
                        entry = None
                    if frame.is_corrupt and entry is None:
                        return found
                    if pts in missing:
                        missing.remove(pts)
                        found[pts] = keep(frame)
                if drained or not missing:
                    break
            if missing:
                return found
    except av.FFmpegError:
        pass
    return found


def _stretches(survey: _Survey, wanted: NDArray[np.int64]) -> list[_Stretch]:
    """Group the wanted times into stretches that are decoded without seeking, each from its keyframe.

    A frame's keyframe is the last one shown no later than it: images shown before a keyframe but stored
    after it may need what precedes it.
    """
    keys = np.flatnonzero(survey.keyframe)
    by_time = keys[np.argsort(survey.pts[keys], kind="stable")]
    order = np.argsort(survey.pts, kind="stable")
    positions = order[np.searchsorted(survey.pts[order], wanted)]
    before = np.searchsorted(survey.pts[by_time], wanted, side="right") - 1
    # The index may have decoding or presentation times. Without one, seeks are imprecise: aim a second early.
    early = 0 if survey.indexed else int(1 / survey.tick)
    saving = 1 if survey.indexed else UNINDEXED_SEEK
    first = keys[0] if len(keys) else 0
    stretches = [_Stretch([], int(survey.pts[first]), int(min(survey.pts[0], survey.dts[0])) - early)]
    read = int(first) - 1  # the last packet decoded
    for pts, position, key in zip(wanted.tolist(), positions.tolist(), before.tolist(), strict=True):
        place = int(by_time[key]) if key >= 0 else 0
        if key >= 0 and place - read > saving:
            seek = int(min(survey.pts[place], survey.dts[place])) - early
            stretches.append(_Stretch([], int(survey.pts[place]), seek))
        stretches[-1].wanted.append(pts)
        read = max(read, position)
    return [stretch for stretch in stretches if stretch.wanted]


def _read_what_decodes(path: Path, survey: _Survey, choose: Choose, keep: KeepFrame[Kept]) -> Reading[Kept]:
    """Two passes over the whole file by one thread: find decodable frames, then read the chosen ones."""
    damage: list[str] = []
    pts: list[int | None] = []
    end, tick, begin = 0, 1 / survey.rate, survey.begin
    resumed = False
    frames = SoundFrames()
    for frame in _decodable(path, damage, frames):
        pts.append(frame.pts)
        resumed |= bool(damage)
        if frame.pts is not None and frame.time_base:
            tick, end = frame.time_base, frame.pts + (frame.duration or 0)
    frames.check(path)
    if not pts:
        reason = damage[0] if damage else "the decoder returned none"
        raise VideoError(path, f"none of its {survey.total} frames can be decoded ({reason})")
    times = np.array([p if p is not None else 0 for p in pts], dtype=np.int64)
    if (
        survey.times_damaged or None in pts or (np.diff(times) <= 0).any()
    ):  # no usable timestamps: use the header's frame rate
        tick, times, end, begin = 1 / survey.rate, np.arange(len(pts), dtype=np.int64), len(pts), 0
    if begin is not None:  # seconds count from the file's first frame, even if it cannot be decoded
        begin = min(begin, int(times[0]))
    timeline = Timeline(times, max(end, int(times[-1]) + 1), tick, survey.rate, begin=begin)
    indices = choose(timeline)
    wanted, kept = set(np.unique(indices).tolist()), dict[int, Kept]()
    for number, frame in enumerate(_decodable(path, [], SoundFrames())):
        if number in wanted:
            kept[number] = keep(frame)
            if len(kept) == len(wanted):
                break
    warning = None
    is_known = bool(damage or survey.fault)
    lost = not is_known and survey.pictures > len(pts) + frames.damaged
    if frames.damaged and not is_known and not lost:
        total = len(pts) + frames.damaged
        warning = f"{path.name}: {frames.damaged} of {total} frames are damaged; the {len(pts)} others are used"
    elif is_known or lost:
        fault = "is damaged" if resumed or frames.damaged or lost else survey.fault or "breaks off"
        warning = _warning(path, len(pts), max(survey.total, len(pts)), fault)
    elif survey.times_damaged:
        rate = float(survey.rate)
        warning = f"{path.name}: has damaged timestamps; {rate:g} frames per second are assumed"
    return Reading(kept, indices, timeline, warning)


def _decodable(path: Path, damage: list[str], sound: SoundFrames) -> Iterator[av.VideoFrame]:
    """Every frame that decodes soundly, see `PacketDecoder`; `damage` collects the decoder's reasons."""
    with _open(path) as (container, stream):
        decoder = PacketDecoder(stream, threads=1)  # with several, damage is reported late and not deterministically
        try:
            for packet in container.demux(stream):
                frames = decoder(packet if packet.size else None)
                yield from (frame for frame in frames if sound.is_sound(frame, decoder.is_reference))
                if decoder.fault and not damage:
                    damage.append(decoder.fault)
        except av.FFmpegError as error:
            damage.append(str(error.strerror))


class PacketDecoder:
    """Decodes packets to undamaged frames; after a damaged packet, decoding resumes at the next keyframe.

    Frames still inside the decoder when it meets damage are dropped: they lean on it. A packet that is cut off is never
    decoded, so the frames before it come out whole. In a transport stream FFmpeg calls a packet cut off wherever the
    counter of its pieces makes a step, also where two recordings were joined: there a keyframe comes next, or after one
    more packet, as the parser hands the mark on to the packet before; then all of them are decoded.
    """

    def __init__(self, stream: VideoStream, threads: int) -> None:
        self.context = stream.codec_context
        self.context.thread_type = "AUTO"
        self.context.thread_count = threads
        self.may_skip = self.context.codec.name != "libdav1d"  # which ignores later changes of skip_frame
        self.may_be_joined = stream.container.format.name == "mpegts"
        self.sound, self.fault = True, ""
        self._doubtful: list[av.Packet[VideoStream]] = []  # packets before, which are whole only at a join
        self._recent: deque[av.Packet[VideoStream]] = deque(maxlen=IN_DECODER)

    def __call__(self, packet: "av.Packet[VideoStream] | None", skip: bool = False) -> list[av.VideoFrame]:
        """Frames that come out as `packet` goes in, None at the end; `skip`: its own image is needed by others at
        most.
        """
        frames = list[av.VideoFrame]()
        if self._doubtful:
            if packet is not None and not packet.is_keyframe and len(self._doubtful) < DOUBTFUL_PACKETS:
                self._doubtful.append(packet)
                return frames
            frames = self._decide(joined=packet is not None and packet.is_keyframe)
        if packet is not None and not self.sound and not packet.is_keyframe:
            return frames
        if packet is not None and packet.is_corrupt and self.may_be_joined:
            self._doubtful = [packet]
            return frames
        return frames + self._decode(packet, fault_of(packet) if packet is not None else "", skip)

    def is_reference(self, frame: av.VideoFrame) -> bool:
        """Whether other images may refer to a frame that has just come out."""
        return all(is_reference(packet) for packet in self._recent if packet.pts == frame.pts is not None)

    def _decide(self, joined: bool) -> list[av.VideoFrame]:
        """The frames of the doubtful packets, if a join explains their damage."""
        doubtful, self._doubtful = self._doubtful, []
        if not joined:
            return self._decode(doubtful[0], fault_of(doubtful[0]))
        frames = [frame for packet in (*doubtful, None) for frame in self._decode(packet, "")]
        self.context.flush_buffers()
        return frames

    def _decode(self, packet: "av.Packet[VideoStream] | None", reason: str, skip: bool = False) -> list[av.VideoFrame]:
        """`reason`: why the packet is not decoded, or ""."""
        try:
            if packet is None or reason:
                frames = self.context.decode(None)
            else:
                self._recent.append(packet)
                if self.may_skip:
                    self.context.skip_frame = skip_frame(packet, is_wanted=not skip)
                frames = _decode(packet)
        except av.FFmpegError as error:
            frames, reason = [], error.strerror or str(error)
            if packet is not None and self.context.thread_count == 1 and not is_reference(packet):
                self.fault = reason  # only this image is lost
                return frames
        if reason:
            self.fault = reason
            self.context.flush_buffers()
        self.sound = not reason
        return frames


def skip_frame(packet: "av.Packet[VideoStream]", is_wanted: bool) -> Literal["NONREF", "DEFAULT"]:
    """What to set FFmpeg's `skip_frame` to, to leave out an image that is not wanted nor needed by others.

    Left alone, it would keep FFmpeg's H.264 decoder from saying that an image needed by others cannot be decoded.
    """
    return "DEFAULT" if is_wanted or (packet.stream.codec_context.name == "h264" and is_reference(packet)) else "NONREF"


def fault_of(packet: "av.Packet[VideoStream]") -> str:
    """Why a packet cannot be decoded, or ""."""
    if packet.is_corrupt:
        return "a packet is truncated"
    return "it is encrypted" if is_encrypted(packet) else ""


def _decode(packet: "av.Packet[VideoStream]") -> list[av.VideoFrame]:
    return packet.decode()


def _warning(path: Path, usable: int, total: int, fault: str = "breaks off") -> str:
    count = f"{usable} of {total} frames" if usable < total else f"{usable} frames"
    how_much = f"after {count}" if fault == "breaks off" else f"and gives {count}"
    return f"{path.name}: {fault} {how_much}; the {usable} decoded frames are used"


def _rgb(frame: av.VideoFrame, size: Resize | None = None) -> NDArray[np.uint8]:
    """A decoded frame as `(H, W, 3)` uint8 RGB, upright, scaled to `size` of its stored width and height."""
    width, height = size(frame.width, frame.height) if size else (None, None)
    # One thread: otherwise PyAV starts new ones for every frame, which costs more than it saves.
    scaled = frame.reformat(width, height, "rgb24", interpolation="BICUBIC" if size else None, threads=1)
    image = scaled.to_ndarray().astype(np.uint8, copy=False)
    matrix = display_matrix(frame)
    return image if matrix is None else _upright(image, matrix)


def _resized(image: NDArray[np.uint8], size: Resize | None) -> NDArray[np.uint8]:
    width, height = size(*image.shape[1::-1]) if size else image.shape[1::-1]
    if (height, width) == image.shape[:2]:
        return image
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC))


def _upright(image: NDArray[np.uint8], matrix: NDArray[np.int32]) -> NDArray[np.uint8]:
    """Apply a display matrix (a b u, c d v, x y w): x' = ax + cy, y' = bx + dy; quarter turns, mirrors."""
    a, b, c, d = (int(matrix[i]) for i in (0, 1, 3, 4))
    if abs(a) + abs(d) < abs(b) + abs(c):
        image, a, d = image.transpose(1, 0, 2), c, b
    return np.ascontiguousarray(image[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1])
