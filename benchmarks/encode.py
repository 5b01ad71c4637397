"""How fast a clip and a label set are encoded, against Hugging Face's CLIPModel in the same run.

    python benchmarks/encode.py            # everything; ten minutes on two cores
    python benchmarks/encode.py video      # or text, backbones: one part

ViT-B/16 with random weights: one clip of 8 frames at 224 pixels, and 400 labels x 29 prompts; and the image encoders of
the other backbones at the same size, 196 patches a frame. What is compared runs
in turns, A B C A B C ..., so that a machine that slows down slows all of them; medians and ratios are printed.
"""

import copy
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor

from froster.backbones.base import Backbone
from froster.backbones.clip import Clip, ClipConfig
from froster.backbones.perception_encoder import PerceptionEncoder, PerceptionEncoderConfig
from froster.backbones.siglip import Siglip, SiglipConfig
from froster.backbones.tokenizer import tokenize
from froster.data.vocabularies import read_vocabulary
from froster.students import build_student
from froster.text import classifier
from froster.text.classes import ClassTexts
from froster.text.prompts import class_prompts

VIT_B_16 = ClipConfig(224, 16, 768, 12, 12, 512, 12, 8, 512)
FRAMES = 8
ROUNDS = 7
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
VIDEO_MODELS = ("frame_clip", "vclip", "Hugging Face")
SAMPLE = 290  # prompts timed where all of them would take too long; their rate is scaled up


def main() -> None:
    parts = sys.argv[1:] or ["video", "backbones", "text"]
    if parts[0] == "peak":
        print(peak_memory(*parts[1:]))
        return
    torch.manual_seed(0)
    print(f"PyTorch {torch.__version__}, transformers {transformers.__version__}, {torch.get_num_threads()} threads\n")
    if "video" in parts:
        with torch.inference_mode():
            video()
    if "backbones" in parts:
        with torch.inference_mode():
            backbones()
    if "text" in parts:
        text()


def video() -> None:
    runs: dict[tuple[str, str], Callable[[], object]] = {}
    for dtype in DTYPES:
        matrix = torch.randn(2048, 2048, dtype=DTYPES[dtype])
        runs["matrix product", dtype] = partial(torch.matmul, matrix, matrix)
        for name in VIDEO_MODELS:
            runs[name, dtype] = video_run(name, dtype)
    seconds = medians(runs)
    print(
        "| one clip of 8 frames | | seconds | / frame_clip | / Hugging Face | of matrix-product speed | peak memory |"
    )
    print("|---|---|---|---|---|---|---|")
    for dtype in DTYPES:
        speed = 2 * 2048**3 / seconds["matrix product", dtype]
        for name in VIDEO_MODELS:
            time_, per_frame, hugging_face = (seconds[n, dtype] for n in (name, "frame_clip", "Hugging Face"))
            share = flops("vclip" if name == "vclip" else "frame_clip") / time_ / speed
            command = [sys.executable, __file__, "peak", name, dtype]
            peak = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
            print(
                f"| {name} | {dtype} | {time_:.3f} | {time_ / per_frame:.2f} | {time_ / hugging_face:.2f} "
                f"| {100 * share:.0f} % of {speed / 1e9:.0f} GFLOP/s | {peak} MB |"
            )
    for name in VIDEO_MODELS:
        print(f"\n{name}: bfloat16 is {seconds[name, 'float32'] / seconds[name, 'bfloat16']:.2f} times as fast", end="")
    print("\n")


def backbones() -> None:
    """One clip through each backbone's image encoder; text encoders of one layer, which are not run."""
    families: dict[str, Backbone] = {
        "CLIP B/16": Clip(replace(VIT_B_16, text_layers=1)),
        "PE-Core B/16": PerceptionEncoder(PerceptionEncoderConfig(224, 16, 768, 12, 12, 1024, 1, 16, 1024)),
        "SigLIP B/16": Siglip(SiglipConfig(224, 16, 768, 12, 12, 768, 1, 12, 768)),
    }
    runs: dict[tuple[str, str], Callable[[], object]] = {}
    for dtype in DTYPES:
        frames = torch.randn(1, FRAMES, 3, 224, 224, dtype=DTYPES[dtype])
        for title, backbone in families.items():
            visual = copy.deepcopy(backbone.visual).to(DTYPES[dtype]).eval()
            runs[title, dtype] = partial(visual, frames)
    seconds = medians(runs)
    print("| one clip of 8 frames | | seconds | / CLIP |\n|---|---|---|---|")
    for (title, dtype), time_ in seconds.items():
        print(f"| {title} | {dtype} | {time_:.3f} | {time_ / seconds['CLIP B/16', dtype]:.2f} |")
    print()


def video_run(name: str, dtype: str) -> Callable[[], object]:
    frames = torch.randn(1, FRAMES, 3, 224, 224, dtype=DTYPES[dtype])
    if name == "Hugging Face":
        model: Any = hugging_face().to(DTYPES[dtype])
        return lambda: model.get_image_features(pixel_values=frames[0])
    student = build_student(name, Clip(VIT_B_16)).to(DTYPES[dtype]).eval()
    return lambda: student.encode_video(frames)


def hugging_face() -> Any:
    vision = {"patch_size": 16}
    return transformers.CLIPModel(transformers.CLIPConfig(vision_config=vision, projection_dim=512)).eval()


def flops(name: str) -> float:
    """Multiplications and additions of one clip, those of matrix products and attention."""
    width, tokens = VIT_B_16.vision_width, (VIT_B_16.image_size // VIT_B_16.patch_size) ** 2 + 1
    keys = 3 * tokens if name == "vclip" else tokens
    block = 2 * tokens * 12 * width**2 + 4 * tokens * keys * width
    return FRAMES * (VIT_B_16.vision_layers * block + 2 * tokens * 3 * VIT_B_16.patch_size**2 * width)


def peak_memory(name: str, dtype: str) -> int:
    """Megabytes that one clip adds to a process that holds the model (Linux); run in a process of its own."""
    with torch.inference_mode():
        run = video_run(name, dtype)
        Path("/proc/self/clear_refs").write_text("5")  # the peak so far is that of building the model
        before = memory("VmRSS")
        run()
    return (memory("VmHWM") - before) // 1024


def memory(key: str) -> int:
    """A figure of this process in kB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(key)).split()[1])


def text() -> None:
    labels = ClassTexts.of_names(read_vocabulary("kinetics-400"))
    prompts = [prompt for text in labels.values() for prompt in class_prompts(text)]
    students = {name: build_student("frame_clip", Clip(VIT_B_16)).to(dtype).eval() for name, dtype in DTYPES.items()}
    theirs = hugging_face()
    sample = tokenize(prompts[:: len(prompts) // SAMPLE][:SAMPLE])

    def in_batches(encode: Callable[[Tensor], object]) -> float:
        """Seconds for all prompts, 77 positions each, from the rate on the sample."""
        with torch.inference_mode():
            return timed(lambda: [encode(batch) for batch in sample.split(58)]) * len(prompts) / len(sample)

    rows = {
        "all 77 positions, float32": in_batches(students["float32"].encode_text),
        "Hugging Face, 77 positions, float32": in_batches(lambda batch: theirs.get_text_features(input_ids=batch)),
        "froster, cold, float32": timed(lambda: classifier.encode_classes(students["float32"], labels)),
        "froster, cold, bfloat16": timed(lambda: classifier.encode_classes(students["bfloat16"], labels)),
    }
    with tempfile.TemporaryDirectory() as folder:
        os.environ["FROSTER_CACHE"] = folder
        classifier.load_or_encode_classes(students["bfloat16"], labels)
        cached = [timed(lambda: classifier.load_or_encode_classes(students["bfloat16"], labels)) for _ in range(ROUNDS)]
    rows["froster, cached"] = statistics.median(cached)
    print(f"| {len(labels)} labels x 29 prompts | seconds | times faster than all 77 positions in float32 |")
    print("|---|---|---|")
    for name, seconds in rows.items():
        print(f"| {name} | {seconds:.3g} | {rows['all 77 positions, float32'] / seconds:.1f} |")
    cold = rows["froster, cold, bfloat16"]
    print(f"\nA cached run is {cold / rows['froster, cached']:.0f} times as fast as a cold one.")


def medians(runs: dict[tuple[str, str], Callable[[], object]]) -> dict[tuple[str, str], float]:
    """Median seconds of each, run in turns after one warm-up."""
    times: dict[tuple[str, str], list[float]] = {key: [] for key in runs}
    for round_ in range(ROUNDS + 1):
        for key, run in runs.items():
            seconds = timed(run)
            if round_:
                times[key].append(seconds)
    return {key: statistics.median(values) for key, values in times.items()}


def timed(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
