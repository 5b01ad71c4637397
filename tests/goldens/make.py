"""Pack a folder of golden files for the tests: `python tests/goldens/make.py FOLDER`."""

import hashlib
import json
import lzma
import struct
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
from goldens import BYTES, FLOATS, INDEX, draw

LARGE_TABLE = 1 << 23  # bytes
STUDENTS = ("adaptformer", "aim", "frame_clip", "st_adapter", "vclip", "vclip_step2", "vclip_step3", "x_clip")
OPEN_CLIP_SEEDS = {"laion_l_14_like": 11, "h_14_like": 12, "big_g_14_like": 13, "dfn_h_14_378_like": 14}
OPEN_CLIP_FILES = ("open_clip_config.json", "open_clip_model.safetensors", "reference.safetensors")
FILES = (
    *("action_clip_head.pyth", "action_clip_head.safetensors", "averaging.safetensors", "clip.safetensors"),
    *("clip_release.pt", "froster_loss.safetensors", "lr_schedule.json", "sampling.json", "tokenizer.json"),
    *("taco_loss.safetensors", "taco_loss.json", "pe_core.json", "pe_core.pt", "pe_core.safetensors"),
    *(f"student_{name}.{suffix}" for name in STUDENTS for suffix in ("pyth", "safetensors")),
    *(f"open_clip/{name}/{file}" for name in OPEN_CLIP_SEEDS for file in OPEN_CLIP_FILES),
    *(f"more/{name}.json" for name in ("hausdorff", "label_facts", "preprocess_test", "weight_average")),
    *(
        f"more/{name}.safetensors"
        for name in (
            *("action_clip_loss", "froster_e2e", "hausdorff", "interpolated_weight_regularisation", "patching"),
            *("preprocess_test", "st_adapter_original", "text_classifier", "weight_average"),
        )
    ),
)
# What was drawn from which seed: tensors of a file whose names begin so, in the order of their names.
DRAWN = [
    *((11, f"student_{name}.pyth", ("model.visual.",)) for name in STUDENTS),
    (20, "student_frame_clip.pyth", ("model.",)),
    (12, "student_frame_clip.safetensors", ("frames",)),
    (13, "clip.safetensors", ("images",)),
    (16, "clip.safetensors", ("model.",)),
    (14, "froster_loss.safetensors", ("student_f", "student_c", "teacher_f", "teacher_c", "video_w", "text_w")),
]


def tensors(path: Path) -> dict[str, tuple[list[int], bytes]]:
    """The float32 tensors of a file: shape and bytes by name."""
    if path.suffix == ".safetensors":
        content = path.read_bytes()
        begin = 8 + struct.unpack("<Q", content[:8])[0]
        header = json.loads(content[8:begin])
        return {
            name: (about["shape"], content[begin + about["data_offsets"][0] : begin + about["data_offsets"][1]])
            for name, about in header.items()
            if name != "__metadata__" and about["dtype"] == "F32"
        }
    state = torch.load(path, weights_only=True)["model_state"]
    return {name: (list(x.shape), x.contiguous().numpy().tobytes()) for name, x in state.items()}


def recover(seed: int, content: list[tuple[list[int], bytes]]) -> list[tuple[list[int], str, float]]:
    """How every tensor of a stream was drawn, as far as the draws agree bit for bit."""
    generator, found = torch.Generator().manual_seed(seed), list[tuple[list[int], str, float]]()
    for shape, expected in content:
        state, fan_in = generator.get_state(), int(np.prod(shape[1:])) if len(shape) > 1 else 1
        scales = [1.0, 0.1, 0.05, 0.2, 0.01, 0.02]
        for dimension in {fan_in, *shape}:
            scales += [dimension**0.5, dimension**-0.5]
        for form, scale in ((form, scale) for form in ("times", "over", "one_plus") for scale in scales):
            generator.set_state(state)
            if draw(generator, shape, form, scale) == expected:
                found.append((shape, form, scale))
                break
        else:
            if np.prod(shape) > 1:
                break
            found.append((shape, "times", 1.0))  # one number was drawn here and overwritten
    return found


def open_clip_draws(config: dict[str, Any]) -> list[tuple[list[int], str, float]]:
    """All random numbers that OpenCLIP 3.3 draws for a new network, in its order; later ones overwrite earlier ones."""
    vision, text, dimension = config["vision_cfg"], config["text_cfg"], config["embed_dim"]

    def linear(inputs: int, outputs: int) -> list[tuple[list[int], str, float]]:
        return [([outputs, inputs], "uniform", inputs**-0.5), ([outputs], "uniform", inputs**-0.5)]

    def block(width: int, hidden: int) -> list[tuple[list[int], str, float]]:
        attention = ([3 * width, width], "uniform", (6 / (4 * width)) ** 0.5)
        return [*linear(width, width), attention, *linear(width, hidden), *linear(hidden, width)]

    width, patch = vision["width"], vision["patch_size"]
    tokens = (vision["image_size"] // patch) ** 2 + 1
    draws = [([width, 3, patch, patch], "uniform", (3 * patch**2) ** -0.5)]
    draws += [([width], "times", width**-0.5), ([tokens, width], "times", width**-0.5)]
    draws += vision["layers"] * block(width, int(width * vision.get("mlp_ratio", 4.0)))
    draws += [([width, dimension], "times", width**-0.5)]
    width, layers, table = text["width"], text["layers"], [text["vocab_size"], text["width"]]
    draws += [(table, "normal", 1.0), *layers * block(width, 4 * width), (table, "normal", 0.02)]
    draws += [([text["context_length"], width], "normal", 0.01)]
    out = width**-0.5 * (2 * layers) ** -0.5
    draws += layers * [
        ([3 * width, width], "normal", width**-0.5),
        ([width, width], "normal", out),
        ([4 * width, width], "normal", (2 * width) ** -0.5),
        ([width, 4 * width], "normal", out),
    ]
    return [*draws, ([width, dimension], "normal", width**-0.5)]


def spans(content: bytes, path: Path) -> Iterator[tuple[int, int]]:
    """Begin and end of every tensor in the file."""
    if path.suffix == ".safetensors":
        begin = 8 + struct.unpack("<Q", content[:8])[0]
        for name, about in json.loads(content[8:begin]).items():
            if name != "__metadata__":
                yield begin + about["data_offsets"][0], begin + about["data_offsets"][1]
    elif path.suffix in (".pyth", ".pt"):
        for member in zipfile.ZipFile(path).infolist():
            name, extra = struct.unpack("<HH", content[member.header_offset + 26 : member.header_offset + 30])
            start = member.header_offset + 30 + name + extra
            yield start, start + member.compress_size


def plus_zeros(content: bytes, path: Path) -> bytes:
    """The file with all zeros positive: tables of tokens have been multiplied by zero but for a few rows."""
    changed = bytearray(content)
    for start, end in spans(content, path):
        if (end - start) % 4 == 0:
            numbers = np.frombuffer(content[start:end], np.float32)
            changed[start:end] = np.where(numbers == 0, np.float32(0), numbers).tobytes()
    return bytes(changed)


def pack(folder: Path) -> None:
    streams, places = list[dict[str, Any]](), dict[bytes, list[Any]]()
    for seed, file, prefixes in DRAWN:
        found = tensors(folder / file)
        content = [found[name] for prefix in prefixes for name in sorted(found) if name.startswith(prefix)]
        how = recover(seed, content)
        print(f"{file} {prefixes[0]}: {len(how)} of {len(content)} tensors drawn from seed {seed}")
        for number, (_, data) in enumerate(content[: len(how)]):
            if len(data) > 4:
                places.setdefault(data, ["drawn", len(streams), number])
                places.setdefault(
                    np.frombuffer(data, np.float32).astype(np.float16).tobytes(), ["half", len(streams), number]
                )
        streams.append({"seed": seed, "tensors": how})
    for name, seed in OPEN_CLIP_SEEDS.items():
        how = open_clip_draws(json.loads((folder / "open_clip" / name / OPEN_CLIP_FILES[0]).read_text())["model_cfg"])
        generator = torch.Generator().manual_seed(seed)
        for number, (shape, form, scale) in enumerate(how):
            places.setdefault(draw(generator, shape, form, scale), ["drawn", len(streams), number])
        streams.append({"seed": seed, "tensors": how})
    floats, other, files = bytearray(), bytearray(), {}
    for name in FILES:
        content, parts, at = (folder / name).read_bytes(), list[list[Any]](), 0
        if name.startswith("open_clip/") and name.endswith(".safetensors"):
            content = plus_zeros(content, folder / name)
        for start, end in [*sorted(spans(content, folder / name)), (len(content), len(content))]:
            for data, number in ((content[at:start], False), (content[start:end], (end - start) % 4 == 0)):
                if name.startswith("open_clip/") and len(data) >= LARGE_TABLE:
                    width = json.loads((folder / name).with_name(OPEN_CLIP_FILES[0]).read_text())["model_cfg"]
                    table = np.frombuffer(data, np.float32).reshape(-1, width["text_cfg"]["width"])
                    rows = table.any(axis=1).nonzero()[0]
                    parts.append(["table", len(floats), len(floats) + table[rows].nbytes, rows.tolist(), len(table)])
                    floats += table[rows].tobytes()
                    continue
                if data and data not in places:
                    into = floats if number and len(data) >= 1024 else other
                    places[data] = ["floats" if into is floats else "bytes", len(into), len(into) + len(data)]
                    into += data
                if data:
                    parts.append(places[data])
            at = end
        files[name] = {"sha256": hashlib.sha256(content).hexdigest(), "parts": parts}
    for number, stream in enumerate(streams):
        parts = [part for about in files.values() for part in about["parts"] if part[0] in ("drawn", "half")]
        stream["used"] = sorted({part[2] for part in parts if part[1] == number})
    planes = np.frombuffer(bytes(floats), np.uint8).reshape(-1, 4).T.tobytes()
    FLOATS.write_bytes(lzma.compress(planes, preset=9 | lzma.PRESET_EXTREME))
    BYTES.write_bytes(lzma.compress(bytes(other), preset=9 | lzma.PRESET_EXTREME))
    INDEX.write_text(json.dumps({"streams": streams, "files": files}, separators=(",", ":")) + "\n", encoding="utf-8")


if __name__ == "__main__":
    pack(Path(sys.argv[1]))
