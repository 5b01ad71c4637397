"""Packed videos in H.264: MP4 files that seek cheaply and decode fast."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from froster.video.timeline import Timeline

H264_SUFFIX = ".mp4"
KEYFRAME_INTERVAL = 8  # frames
# fastdecode: no CABAC, no deblocking. mbtree off: its vector code is not deterministic (x264 in PyAV 18).
ENCODING = {"preset": "veryfast", "tune": "fastdecode", "bf": "0", "g": str(KEYFRAME_INTERVAL), "mbtree": "0"}


class H264Writer:
    """Writes the frames of a `timeline` that begins at 0, one after the other, to an MP4 file with the same times.

    `crf`: x264's constant rate factor. Frames have even sizes, all the same.
    """

    def __init__(self, path: Path, timeline: Timeline, crf: int) -> None:
        # MP4 counts time in whole parts of a second.
        edges = np.append(timeline.pts, timeline.end) * timeline.tick.numerator
        self._times, durations = edges[:-1].tolist(), np.diff(edges).tolist()
        self._durations = dict(zip(self._times, durations, strict=True))
        self._rate, self._tick, self._crf = timeline.rate, Fraction(1, timeline.tick.denominator), crf
        self._count = 0
        scale = {"video_track_timescale": str(timeline.tick.denominator)}
        self._container = av.open(str(path), "w", format="mp4", options=scale)
        self._stream: av.VideoStream | None = None

    def add(self, image: NDArray[np.uint8]) -> None:
        """Append a frame, `(H, W, 3)` uint8 RGB."""
        if self._stream is None:
            self._stream = self._container.add_stream(
                "libx264", rate=self._rate, options=ENCODING | {"crf": str(self._crf)}
            )
            self._stream.height, self._stream.width = image.shape[:2]
            self._stream.pix_fmt = "yuv420p"
            self._stream.codec_context.time_base = self._tick
            self._stream.codec_context.thread_count = 1
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
        frame.pts, frame.time_base = self._times[self._count], self._tick
        self._count += 1
        self._mux(self._stream.encode(frame))

    def close(self) -> None:
        """Finish the file."""
        if self._stream is not None:
            self._mux(self._stream.encode())
        self._container.close()

    def _mux(self, packets: "list[av.Packet[av.VideoStream]]") -> None:
        for packet in packets:
            packet.duration = self._durations[packet.pts]
            self._container.mux(packet)
