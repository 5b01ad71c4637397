"""Makes real video files whose every frame shows its own number: a test reads which frames came out."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np


def numbered(number, size=(64, 64)):
    """`(H, W, 3)` uint8: the 16 bits of `number` as black and white blocks, 4 by 4, on a gray that moves."""
    width, height = size
    bits = (number >> np.arange(16).reshape(4, 4)) & 1
    rows, columns = np.arange(height) * 4 // height, np.arange(width) * 4 // width
    gray = 40 + 170 * bits[rows][:, columns]
    return np.repeat((gray + (number * 7) % 13).astype(np.uint8)[:, :, None], 3, axis=2)


def read_number(picture):
    """The number that `numbered` drew, from `(H, W, 3)` values in 0..255."""
    height, width = picture.shape[:2]
    centers = picture[height // 8 :: height // 4, width // 8 :: width // 4][:4, :4].mean(-1)
    return int(((centers > 128).ravel() << np.arange(16)).sum())


def write_video(
    path,
    count,
    *,
    rate=30,
    size=(64, 64),
    codec="libx264",
    pix_fmt="yuv420p",
    options=None,
    ticks=None,
    tick=None,
    rotation=None,  # degrees, or degrees, hflip, vflip
    audio=0.0,
    container_options=None,
    format=None,  # noqa: A002
    title=None,
):
    """`ticks`: presentation time of every frame in units of `tick` (default: one each 1 / rate)."""
    defaults = {"libx264": {"preset": "ultrafast", "bf": "3", "g": "30", "x264-params": "b-pyramid=normal"}}
    with av.open(str(path), "w", format=format, options=container_options or {}) as container:
        container.metadata.update({"title": title} if title else {})
        stream = container.add_stream(codec, rate=rate, options=options or defaults.get(codec, {}))
        stream.width, stream.height, stream.pix_fmt = *size, pix_fmt
        stream.codec_context.time_base = tick or Fraction(1, rate)
        stream.codec_context.thread_count = 1
        if rotation:
            stream.set_display_rotation(*rotation if isinstance(rotation, tuple) else (rotation,))
        sound = container.add_stream("aac", rate=16000, layout="mono") if audio else None
        for number in range(count):
            frame = av.VideoFrame.from_ndarray(numbered(number, size), format="rgb24")
            frame.pts = ticks[number] if ticks else number
            frame.time_base = tick or Fraction(1, rate)
            frame.duration = 0 if ticks else 1
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
        if sound:
            write_sound(container, sound, audio)
    return Path(path)


def write_sound(container, stream, seconds):
    for start in range(0, int(16000 * seconds), 1024):
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = 16000, start, Fraction(1, 16000)
        container.mux(stream.encode(frame))
    container.mux(stream.encode())
