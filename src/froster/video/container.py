"""Shared by files and streams: opening, choosing the video stream, skipping damaged frames, exceptions."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from os import PathLike
from typing import Any, ParamSpec, TypeVar

import av
import numpy as np
from av.container import InputContainer
from av.sidedata.sidedata import SideData
from av.sidedata.sidedata import Type as SideDataType
from av.video.stream import VideoStream
from numpy.typing import NDArray

from froster.errors import FrosterError, FrosterWarning, VideoError, is_out_of_memory

# Tags in legacy encodings are common (Shift-JIS, Latin-1); PyAV before 19 raises on them by default.
TAG_OPTIONS: dict[str, Any] = {"metadata_errors": "replace"} if int(av.__version__.split(".")[0]) < 19 else {}

P = ParamSpec("P")
R = TypeVar("R")


def open_container(
    name: str,
    *,
    format: str | None = None,  # noqa: A002 (as FFmpeg and PyAV call it)
    options: dict[str, str] | None = None,
    timeout: tuple[float, float] | None = None,
) -> InputContainer:
    """`av.open` for reading. Raises `av.FFmpegError`."""
    return av.open(name, "r", format=format, options=options, timeout=timeout, **TAG_OPTIONS)


def choose_video_stream(container: InputContainer) -> VideoStream | None:
    """The stream that ffmpeg would play (default disposition first), but not a cover image; None without one."""
    streams = [s for s in container.streams.video if not s.disposition & av.stream.Disposition.attached_pic]
    best = container.streams.best("video")
    return best if isinstance(best, VideoStream) and best in streams else next(iter(streams), None)


def _unnamed_type(types: type[SideDataType], value: int) -> SideDataType:
    member = object.__new__(types)
    vars(member).update(_name_=f"TYPE_{value}", _value_=value)
    return member


# PyAV's list of types is older than FFmpeg's (no EXIF, no view of a spatial video): reading any would raise.
SideDataType._missing_ = classmethod(_unnamed_type)  # type: ignore[assignment,method-assign]


def display_matrix(frame: av.VideoFrame) -> NDArray[np.int32] | None:
    """The nine numbers by which a frame is rotated or mirrored for display, None if it is displayed as stored."""
    # Reading the side data makes a reference cycle, in which a large frame would wait for the garbage collector; a copy
    # of a few pixels has the same side data. `frame.rotation` does not distinguish mirrored from rotated images.
    small = frame.reformat(width=2, height=2, format="gray", interpolation="POINT", threads=1)
    matrix = small.side_data.get("DISPLAYMATRIX")
    return np.frombuffer(memoryview(matrix), np.int32) if isinstance(matrix, SideData) else None


def is_encrypted(packet: "av.Packet[Any]") -> bool:
    """Whether the container says that the packet is encrypted (Common Encryption)."""
    return packet.has_sidedata("encryption_info") or packet.has_sidedata("encryption_init_info")


def is_reference(packet: "av.Packet[VideoStream]") -> bool:
    """Whether other images may refer to the one in a packet, by H.264's `nal_ref_idc`; True for other codecs."""
    context = packet.stream.codec_context
    if context.name != "h264":
        return True
    header, data, at = context.extradata, bytes(packet), 0
    length_size = header[4] % 4 + 1 if header is not None and len(header) > 4 and header[0] == 1 else 0
    while at + length_size < len(data):  # each unit has its length before it (ISO/IEC 14496-15), or a start code
        if length_size:
            start = at + length_size
            at = start + int.from_bytes(data[at:start], "big")
        elif (code := data.find(b"\0\0\1", at)) >= 0:
            start = at = code + 3
        else:
            break
        if data[start : start + 1] and data[start] & 0x1F in (1, 2, 5):  # a slice of the image
            return bool(data[start] & 0x60)
    return True


class SoundFrames:
    """Leaves out damaged frames: those that the decoder marks as corrupt, and those that may refer to them.

    A decoder conceals damage by copying from other images, and marks only the image hit, not those that refer to
    it, which may be all up to the next keyframe. `damaged` counts all that were left out, `corrupt` those marked,
    `sound` the others.
    """

    def __init__(self) -> None:
        self.sound = self.corrupt = self.damaged = 0
        self._refers_to_damage = False

    def is_sound(self, frame: av.VideoFrame, is_reference: Callable[[av.VideoFrame], bool]) -> bool:
        """Whether a frame can be used, asked as it comes out; `is_reference`: whether others may refer to a frame."""
        if frame.key_frame:
            self._refers_to_damage = False
        is_damaged = frame.is_corrupt or self._refers_to_damage
        if frame.is_corrupt and not self._refers_to_damage:
            self._refers_to_damage = is_reference(frame)
        self.corrupt += frame.is_corrupt
        self.damaged += is_damaged
        self.sound += not is_damaged
        return not is_damaged

    def check(self, name: str | PathLike[str]) -> None:
        """Raises `VideoError` if fewer than one frame in ten is undamaged."""
        if self.corrupt > 9 * self.sound:
            total = self.sound + self.damaged
            raise VideoError(name, f"{self.damaged} of {total} frames are damaged, too many to use the others")


class CallerError(Exception):
    """Wraps an exception of a caller's function, to pass `decoder_errors` unchanged."""

    def __init__(self, error: Exception) -> None:
        super().__init__(error)
        self.error = error


def of_caller(function: Callable[P, R]) -> Callable[P, R]:
    """`function`, with exceptions that `decoder_errors` does not convert."""

    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except Exception as error:
            raise CallerError(error) from error

    return call


@contextmanager
def decoder_errors(name: str | PathLike[str]) -> Iterator[None]:
    """Convert every exception to a `VideoError` with `name` and the reason, so that no file can end a batch.

    FFmpeg, PyAV and Pillow raise exceptions of any class on damaged files. A `FrosterError` passes, and so does an
    exception of a function in `of_caller`, unless memory ran out.
    """
    try:
        yield
    except (FrosterError, FrosterWarning):
        raise
    except Exception as error:
        reason = error.error if isinstance(error, CallerError) else error
        if is_out_of_memory(reason):
            raise VideoError(name, "there is not enough memory to decode it") from reason
        if isinstance(error, CallerError):
            raise reason from reason.__cause__
        raise VideoError(name, f"cannot be decoded ({describe(error)})") from error


def describe(error: Exception) -> str:
    """The class and message of an exception in one line, without the file name of system errors."""
    message = " ".join(str(getattr(error, "strerror", None) or error).split())
    return f"{type(error).__name__}: {message}" if message else type(error).__name__
