"""How fast 8 frames of a long video are read, against decoding the whole file.

    python benchmarks/decode.py

A 30-second 340x256 H.264 file at 30 frames a second with a keyframe every 250 is drawn; `load_video` and a decoder that
turns every frame into RGB read it in turns. Printed is processor time, which a busy machine hardly changes: the median,
and the fastest and slowest run.
"""

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np

from froster.data.puppets import draw_video
from froster.video import load_video
from froster.video.container import TAG_OPTIONS

SECONDS, RATE, KEYFRAMES, ROUNDS = 30, 30, 250, 5
WIDTH, HEIGHT = 340, 256


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "long.mp4"
        write_long_video(path)
        runs: dict[str, Callable[[], object]] = {
            "load_video, 8 frames": lambda: load_video(path, frames=8, views=1),
            "every frame to RGB": lambda: decode_all(path),
        }
        times: dict[str, list[float]] = {name: [] for name in runs}
        for _ in range(ROUNDS):
            for name, run in runs.items():
                begin = time.process_time()
                run()
                times[name].append(1000 * (time.process_time() - begin))
    print(f"PyAV {av.__version__}\n\n| | ms of a core, median | fastest | slowest |\n|---|---|---|---|")
    for name, of in times.items():
        print(f"| {name} | {statistics.median(of):.0f} | {min(of):.0f} | {max(of):.0f} |")


def write_long_video(path: Path) -> None:
    """Puppets, enlarged, with noise that changes in every frame: pictures that are not free to decode."""
    puppets = draw_video(0, 0, 60, HEIGHT)
    generator = np.random.default_rng(0)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=RATE, options={"crf": "23"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.codec_context.gop_size = KEYFRAMES
        for number in range(SECONDS * RATE):
            picture = np.zeros((HEIGHT, WIDTH, 3), np.int16)
            picture[:, : puppets.shape[2]] = puppets[number % len(puppets)][:, :WIDTH]
            picture += generator.integers(-6, 7, picture.shape, np.int16)
            frame = av.VideoFrame.from_ndarray(picture.clip(0, 255).astype(np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def decode_all(path: Path) -> int:
    count = 0
    with av.open(str(path), **TAG_OPTIONS) as container:
        container.streams.video[0].thread_count = 1
        for frame in container.decode(video=0):
            count += frame.to_ndarray(format="rgb24", threads=1).shape[0] > 0
    return count


if __name__ == "__main__":
    main()
