"""Packed videos of JPEGs: an Arrow IPC file with a JPEG and a presentation time for each frame.

The file is memory-mapped, so that a few frames of many cost a few JPEGs, whatever the length.
"""

import json
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from froster.errors import VideoError
from froster.extras import extra
from froster.video.limits import check_size
from froster.video.timeline import Choose, Keep, Kept, Reading, Timeline

JPEGS_SUFFIX = ".arrow"
METADATA = b"froster"  # key of the schema's metadata: the rest of the timeline, as JSON
MICROSECONDS = 1_000_000
BATCH = 64  # frames in memory while writing


@contextmanager
def pack_extra() -> Iterator[None]:
    """Context for imports of the packages that packed JPEGs need."""
    with extra("pack", f"Packed JPEGs ({JPEGS_SUFFIX})"):
        yield


class JpegFrames:
    """The frames of a packed file, with the attributes of `ImageFrames`; a context manager.

    `timeline`: that of the video that was packed.
    Raises `VideoError` for a file that froster did not pack.
    """

    def __init__(self, path: Path) -> None:
        with pack_extra():
            import pyarrow
            import simplejpeg
        self.path, self._simplejpeg = path, simplejpeg
        self._map = pyarrow.memory_map(str(path))
        try:
            file = pyarrow.ipc.open_file(self._map)
            metadata = (file.schema.metadata or {}).get(METADATA)
            if metadata is None:
                raise VideoError(path, "an Arrow file, but not one of froster's packed videos")
            times, self._jpegs = file.read_all().select(["pts", "jpeg"]).columns
            self._starts = np.cumsum([0, *(len(chunk) for chunk in self._jpegs.chunks)]).tolist()
            self.timeline = read_timeline(times.to_numpy(), json.loads(metadata))
        except pyarrow.ArrowInvalid as error:
            self.close()
            raise VideoError(path, f"damaged or incomplete, pack it again ({first_line(error)})") from error
        except BaseException:
            self.close()
            raise
        if not len(self.timeline):
            self.close()
            raise VideoError(path, "a packed video without a single frame")
        self.frames = range(len(self.timeline))
        self.promised = len(self.frames)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._map.close()

    @property
    def edges(self) -> NDArray[np.int64]:
        """(N + 1,) microseconds: when each frame appears and the last one disappears."""
        ticks = np.append(self.timeline.pts, self.timeline.end)
        return np.round(ticks * float(self.timeline.tick * MICROSECONDS)).astype(np.int64)

    def rgb(self, number: int) -> NDArray[np.uint8]:
        """`(H, W, 3)` uint8. Raises `VideoError` for a damaged frame."""
        chunk = bisect_right(self._starts, number) - 1
        jpeg = memoryview(self._jpegs.chunk(chunk)[number - self._starts[chunk]].as_buffer()).cast("B")
        try:
            height, width, *_ = self._simplejpeg.decode_jpeg_header(jpeg)
            check_size(self.path, width, height)
            return self._simplejpeg.decode_jpeg(jpeg)
        except ValueError as error:
            if isinstance(error, VideoError):
                raise
            raise VideoError(self.path, f"frame {number} is damaged, pack it again ({first_line(error)})") from error


def read_jpegs(path: Path, choose: Choose, keep: Keep[Kept]) -> Reading[Kept]:
    """Read the chosen frames of a packed file. Raises `VideoError`."""
    with JpegFrames(path) as frames:
        indices = choose(frames.timeline)
        kept = {number: keep(frames.rgb(number)) for number in np.unique(indices).tolist()}
        return Reading(kept, indices, frames.timeline, None)


class JpegWriter:
    """Writes the frames of a `timeline` that begins at 0, one after the other, to a file that `JpegFrames` reads."""

    def __init__(self, path: Path, timeline: Timeline, quality: int) -> None:
        with pack_extra():
            import pyarrow
            import simplejpeg
        self._pyarrow, self._simplejpeg, self.quality = pyarrow, simplejpeg, quality
        self._pts, self._jpegs = timeline.pts.tolist(), list[bytes]()
        self._written = 0
        schema = pyarrow.schema(
            [("pts", pyarrow.int64()), ("jpeg", pyarrow.binary())], metadata={METADATA: timeline_json(timeline)}
        )
        self._file = pyarrow.OSFile(str(path), "wb")
        self._writer, self._schema = pyarrow.ipc.new_file(self._file, schema), schema

    def add(self, image: NDArray[np.uint8]) -> None:
        """Append a frame, `(H, W, 3)` uint8 RGB."""
        image = np.ascontiguousarray(image)
        self._jpegs.append(self._simplejpeg.encode_jpeg(image, quality=self.quality, colorsubsampling="420"))
        if len(self._jpegs) == BATCH:
            self._write_batch()

    def close(self) -> None:
        """Finish the file."""
        if self._jpegs:
            self._write_batch()
        self._writer.close()
        self._file.close()

    def _write_batch(self) -> None:
        pts = self._pts[self._written : self._written + len(self._jpegs)]
        self._writer.write_batch(self._pyarrow.record_batch([pts, self._jpegs], schema=self._schema))
        self._written += len(self._jpegs)
        self._jpegs = []


def timeline_json(timeline: Timeline) -> str:
    """A timeline without its times, as JSON."""
    return json.dumps(
        {
            "tick": str(timeline.tick),
            "rate": str(timeline.rate),
            "end": timeline.end,
            "header_frames": timeline.header_frames,
            "header_duration": timeline.header_duration,
        }
    )


def read_timeline(pts: NDArray[np.int64], content: dict[str, Any]) -> Timeline:
    """The timeline with these times and what `timeline_json` wrote."""
    rest = content | {"tick": Fraction(content["tick"]), "rate": Fraction(content["rate"])}
    return Timeline(pts.copy(), **rest)


def first_line(error: Exception) -> str:
    return str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__
