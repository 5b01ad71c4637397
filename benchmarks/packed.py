"""What `froster data pack` gains and costs: processor time of a training clip, disk, time to pack, PSNR.

    python benchmarks/packed.py          # five rounds
    python benchmarks/packed.py 1        # one

Clips of 8 random frames, resized and cropped to 224 pixels as `froster train` reads them, by one thread. The
originals are 10 seconds at 30 frames a second with a moving texture and slight noise, H.264 with x264's defaults (a
keyframe every 250 frames), 340x256 and 1280x720. Layouts are read in turns; medians of the rounds are printed.
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import torch
from numpy.typing import NDArray

from froster.data.manifests import LabeledVideo, read_manifest, write_manifest
from froster.data.pack import pack_data
from froster.training.clips import TrainingClips
from froster.training.recipe import DataSettings

ROUNDS, CLIPS, FRAMES, FPS = 5, 4, 300, 30
SIZES = ((340, 256), (1280, 720))
LAYOUTS = {
    "H.264, every frame": {"format": "h264"},
    "JPEG, every frame": {"format": "jpeg"},
    "JPEG, 8 frames a second": {"format": "jpeg", "fps": 8},
}


def main() -> None:
    rounds = int(sys.argv[1]) if sys.argv[1:] else ROUNDS
    torch.set_num_threads(1)
    print(f"PyTorch {torch.__version__}, PyAV {av.__version__}, 1 thread\n")
    print("| original | layout | ms a clip | clips/s/core | times the original | MB a video | s to pack | PSNR |")
    print("|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        for width, height in SIZES:
            folder = Path(name) / f"{height}"
            folder.mkdir()
            write_textured(folder / "video.mp4", width, height)
            write_manifest(folder / "all.csv", [LabeledVideo(folder / "video.mp4", "texture")])
            compare(folder, f"{width}x{height}", rounds)


def compare(folder: Path, what: str, rounds: int) -> None:
    files = {"as it is": folder / "video.mp4"}
    took, quality = {"as it is": ""}, {"as it is": ""}
    for layout, options in LAYOUTS.items():
        start = time.process_time()
        report = pack_data(folder / "all.csv", folder / layout, workers=0, **options)  # type: ignore[arg-type]
        files[layout] = read_manifest(report.manifest)[0].path
        took[layout], quality[layout] = f"{time.process_time() - start:.1f}", f"{report.psnr:.1f} dB"
    times: dict[str, list[float]] = {layout: [] for layout in files}
    clips = {layout: training_clips(path) for layout, path in files.items()}
    for number in range(rounds + 1):
        for layout, of in clips.items():
            start = time.process_time()
            for place in range(CLIPS):
                assert of.load((number * CLIPS + place, 0)).error is None
            if number:  # the first round warms up
                times[layout].append((time.process_time() - start) / CLIPS)
    medians = {layout: statistics.median(of) for layout, of in times.items()}
    for layout, seconds in medians.items():
        size = f"{files[layout].stat().st_size / 1e6:.2f}"
        speed = f"{1000 * seconds:.1f} | {1 / seconds:.1f} | {medians['as it is'] / seconds:.1f}"
        print(f"| {what} | {layout} | {speed} | {size} | {took[layout]} | {quality[layout]} |", flush=True)


def training_clips(path: Path) -> TrainingClips:
    data = DataSettings(manifest=Path("unused.csv"), resize_short_side=(224, 256))
    return TrainingClips([LabeledVideo(path, "texture")], [0], data, 224, seed=0)


def write_textured(path: Path, width: int, height: int) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for frame in textured_frames(width, height):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())


def textured_frames(width: int, height: int) -> Iterator[NDArray[np.uint8]]:
    """`(H, W, 3)` uint8: a square of texture that moves over another one; their spectra fall like those of photos."""
    draw, margin = np.random.default_rng(0), height // 2
    shape = (height + margin, width + margin)
    frequency = np.hypot(np.fft.fftfreq(shape[0])[:, None], np.fft.fftfreq(shape[1])[None]) + 1e-3
    noise = draw.standard_normal((3, *shape))
    texture = np.fft.ifft2(np.fft.fft2(noise) / frequency).real.transpose(1, 2, 0)
    back = np.clip(texture / texture.std() * 45 + 120, 0, 255).astype(np.uint8)
    side = height // 3
    for number in range(FRAMES):
        top, left = int(margin * (0.5 + 0.4 * np.cos(number / 35))), int(margin * (0.5 + 0.4 * np.sin(number / 50)))
        frame = back[top : top + height, left : left + width].copy()
        x, y = int(width * (0.35 + 0.25 * np.sin(number / 9))), int(height * (0.3 + 0.2 * np.cos(number / 13)))
        frame[y : y + side, x : x + side] = back[side : 2 * side, :side, ::-1]
        grain = draw.integers(-2, 3, (height, width, 1))
        yield np.clip(frame.astype(np.int16) + grain, 0, 255).astype(np.uint8)


if __name__ == "__main__":
    main()
