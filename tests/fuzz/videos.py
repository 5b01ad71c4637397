"""Reads mutated videos of every container; each must give frames, or be refused with a sentence, within limits.

Run: python tests/fuzz/videos.py [COUNT] [SEED]. Every file is predicted, and its timeline made, in a process of its own
with limits on time and memory. Reported: tracebacks, hangs, deaths by a signal, more than one line of explanation, and
files that give more frames than were ever in them without a word. Counted only: files that give fewer or other frames
without a word, as where a bit is flipped that no checksum covers.
"""

import os
import random
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import av
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1]))

from froster.backbones.clip import Clip, ClipConfig
from froster.errors import FrosterWarning, VideoError
from froster.recognizer import Recognizer
from froster.students import build_student
from froster.timeline import score_timeline
from froster.video import decode_frames
from fuzz.apart import run_apart

MEMORY = 1 << 30  # beyond what the parent has
FRAMES, SIZE, RATE = 24, 64, 12
MOST_WINDOWS = 10_000
SEEDS = {  # file name: codec, pixel format, options of the encoder, options of the container
    "b_frames.mp4": ("libx264", "yuv420p", {"preset": "ultrafast", "bf": "2", "g": "12"}, {}),
    "fragments.mp4": ("mpeg4", "yuv420p", {"g": "6"}, {"movflags": "frag_keyframe+empty_moov"}),
    "b_frames.mkv": ("libx264", "yuv420p", {"preset": "ultrafast", "bf": "2", "g": "12"}, {}),
    "b_frames.ts": ("libx264", "yuv420p", {"preset": "ultrafast", "bf": "2", "g": "12"}, {}),
    "b_frames.flv": ("libx264", "yuv420p", {"preset": "ultrafast", "bf": "2", "g": "12"}, {}),
    "mpeg4.avi": ("mpeg4", "yuv420p", {"g": "12"}, {}),
    "vp8.webm": ("libvpx", "yuv420p", {"deadline": "realtime", "g": "12"}, {}),
    "moving.gif": ("gif", "rgb8", {}, {}),
}
GOOD = ("refused", "warned", "same", "fewer frames", "other frames")


def pictures() -> list[NDArray[np.uint8]]:
    """`FRAMES` pictures (SIZE, SIZE, 3), a bright square on its way over a gray slope."""
    slope = np.add.outer(np.arange(SIZE), np.arange(SIZE)).astype(np.uint8) + 40
    drawn = []
    for number in range(FRAMES):
        picture = np.repeat(slope[:, :, None], 3, axis=2)
        left = number * (SIZE - 16) // FRAMES
        picture[left : left + 16, left : left + 16] = 230
        drawn.append(picture)
    return drawn


def write_originals(folder: Path) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    for name, (codec, pix_fmt, options, container_options) in SEEDS.items():
        with av.open(str(folder / name), "w", options=container_options) as container:
            stream = container.add_stream(codec, rate=RATE, options=options)
            assert isinstance(stream, av.VideoStream)
            stream.width, stream.height, stream.pix_fmt = SIZE, SIZE, pix_fmt
            stream.codec_context.thread_count = 1
            for picture in pictures():
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            container.mux(stream.encode())
    images = [Image.fromarray(picture) for picture in pictures()]
    images[0].save(folder / "moving.png", save_all=True, append_images=images[1:], duration=80)
    images[0].save(folder / "moving.webp", save_all=True, append_images=images[1:], duration=80, lossless=True)
    return sorted(folder.iterdir())


def flip_bits(data: bytes, draw: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(draw.choice([1, 1, 4, 32])):
        changed[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    return bytes(changed)


def edit_header(data: bytes, draw: random.Random) -> bytes:
    """Numbers of 1, 2, 4 or 8 bytes near the beginning or the end, where containers keep their headers."""
    changed = bytearray(data)
    for _ in range(draw.choice([1, 1, 3])):
        size = draw.choice([1, 2, 4, 8])
        near = draw.randrange(min(600, len(data) - 8))
        at = draw.choice([near, len(data) - 8 - near])
        value = draw.choice([0, 1, (1 << 8 * size) - 1, 1 << (8 * size - 1), draw.getrandbits(8 * size)])
        changed[at : at + size] = value.to_bytes(size, draw.choice(["big", "little"]))
    return bytes(changed)


def truncate(data: bytes, draw: random.Random) -> bytes:
    return data[: draw.choice([draw.randrange(200), draw.randrange(len(data)), len(data) - draw.randrange(1, 64)])]


def swap_chunks(data: bytes, draw: random.Random) -> bytes:
    size = draw.choice([4, 188, len(data) // 8])
    first, second = (size * draw.randrange(len(data) // size) for _ in range(2))
    changed = bytearray(data)
    changed[first : first + size], changed[second : second + size] = (
        data[second : second + size].ljust(size, b"\0"),
        data[first : first + size].ljust(size, b"\0"),
    )
    return bytes(changed)


def drop_chunk(data: bytes, draw: random.Random) -> bytes:
    size = draw.choice([1, 188, len(data) // 8])
    at = draw.randrange(len(data) - size)
    return data[:at] + data[at + size :]


def double_chunk(data: bytes, draw: random.Random) -> bytes:
    size = draw.choice([4, 188, len(data) // 4])
    at = draw.randrange(len(data) - size)
    return data[: at + size] + data[at:]


def zero_chunk(data: bytes, draw: random.Random) -> bytes:
    size = draw.choice([4, 64, len(data) // 8])
    at = draw.randrange(len(data) - size)
    return data[:at] + bytes(size) + data[at + size :]


def join(data: bytes, draw: random.Random) -> bytes:
    return data + data


MUTATIONS: list[Callable[[bytes, random.Random], bytes]] = [
    *(flip_bits, flip_bits, edit_header, edit_header, truncate),
    *(swap_chunks, drop_chunk, double_chunk, zero_chunk, join),
]


def small_recognizer() -> Recognizer:
    torch.manual_seed(0)
    clip = Clip(ClipConfig(32, 8, 64, 2, 1, 64, 2, 1, 32)).eval()
    return Recognizer(build_student("frame_clip", clip), ["running", "jumping"], views=1, frames=4, precision="float32")


def outcome(recognize: Recognizer, path: Path, original: NDArray[np.uint8], most: int) -> str:
    """What reading the file comes to, in this process; it may hold up to `most` frames."""
    said: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", FrosterWarning)
        try:
            taken = decode_frames(path)
            prediction = recognize.predict(path)
            windows = sum(1 for _ in islice(score_timeline(recognize, path), MOST_WINDOWS))
        except VideoError as error:
            said.append(str(error))
            taken = None
        except BaseException as error:
            return f"traceback: {type(error).__name__}: {str(error)[:200]}"
    said += [str(warning.message) for warning in caught if issubclass(warning.category, FrosterWarning)]
    if taken is not None:
        said += [warning for warning in (taken.warning, prediction.warning) if warning]
    if wrong := [sentence for sentence in said if "\n" in sentence or len(sentence) > 1000]:
        return f"bad sentence: {wrong[0][:200]!r}"
    if taken is None:
        return "refused"
    if windows == MOST_WINDOWS:
        return "windows without end"
    if not np.isfinite([score for _, score in prediction.ranked]).all():
        return "scores that are no numbers"
    if said:
        return "warned"
    frames = np.asarray(taken.frames)
    if len(frames) > most:
        return f"{len(frames)} frames without a word"
    if len(frames) < len(original):
        return "fewer frames"
    return "same" if np.array_equal(frames[: len(original)], original) else "other frames"


def fuzz(count: int, seed: int, folder: Path) -> Iterator[tuple[str, str, float]]:
    """Kind of mutation, outcome (see `GOOD`) and seconds of `count` files."""
    av.logging.set_level(av.logging.PANIC)
    recognize = small_recognizer()
    originals = [
        (path, path.read_bytes(), np.asarray(decode_frames(path).frames))
        for path in write_originals(folder / "originals")
    ]
    for path, _, frames in originals:
        found = run_apart(outcome, recognize, path, frames, FRAMES, memory=MEMORY)
        if (found, len(frames)) != ("same", FRAMES):
            yield f"{path.name} as it is", f"{found}, {len(frames)} frames", 0.0
    for number in range(count):
        draw = random.Random(f"{seed} {number}")
        path, data, frames = originals[number % len(originals)]
        mutate = draw.choice(MUTATIONS)
        mutated = folder / path.name
        mutated.write_bytes(mutate(data, draw))
        start = time.monotonic()
        most = FRAMES * (2 if mutate in (join, double_chunk) else 1)
        found = run_apart(outcome, recognize, mutated, frames, most, memory=MEMORY)
        if found not in GOOD:
            mutated.rename(folder / f"{seed}_{number}_{path.name}")
        yield f"{number} {path.name} {mutate.__name__}", found, time.monotonic() - start


if __name__ == "__main__":
    count, seed = (int(value) for value in (sys.argv[1:] + ["1000", "0"][len(sys.argv) - 1 :])[:2])
    torch.set_num_threads(1)
    work = Path(tempfile.mkdtemp())
    os.environ["FROSTER_CACHE"] = str(work / "cache")
    results = list(fuzz(count, seed, work))
    for what, found, seconds in results:
        if found not in GOOD:
            print(f"{what}: {found} ({seconds:.1f} s)")
    slowest = max(results, key=lambda result: result[2])
    print(
        Counter(found.partition(":")[0] for _, found, _ in results), f"slowest {slowest[2]:.1f} s ({slowest[0]})", work
    )
    sys.exit(any(found not in GOOD for _, found, _ in results))
