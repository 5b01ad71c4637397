"""Loads mutated weights files of every format; each must be refused with a sentence, or load the very same model.

Run: python tests/fuzz/weights.py [COUNT] [SEED]. Every file is loaded in a process of its own with limits on time and
memory. Reported: tracebacks, hangs, deaths by a signal, and files that load as another model without a word.
"""

import hashlib
import io
import json
import random
import re
import struct
import sys
import tempfile
import time
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[1]))

from froster.backbones.clip import Clip, ClipConfig
from froster.checkpoints.own import hash_exactly, save_checkpoint
from froster.errors import FrosterError
from froster.models import load_model
from froster.students import build_student
from fuzz.apart import run_apart

MEMORY = 2 << 30  # beyond what the parent has
SAID = {"activation": "quick_gelu", "vision_heads": 1, "text_heads": 1}  # of `small_clip`: no foreign file does
WRONG_VALUES = (0, -1, 10**9, 10**30, 1.5, True, None, "x", [], {}, [1], "", float("nan"), "9" * 5000)


def small_clip() -> Clip:
    torch.manual_seed(0)
    return Clip(ClipConfig(32, 8, 64, 2, 1, 64, 2, 1, 32, vocab_size=512)).eval()


def openai_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    names = {}
    for key, value in state.items():
        key = re.sub(r"^text\.blocks\.", "transformer.resblocks.", key)
        key = re.sub(r"^visual\.blocks\.", "visual.transformer.resblocks.", key)
        key = re.sub(r"^text\.", "", key).replace("in_proj.", "in_proj_")
        names[key.replace("mlp.0.", "mlp.c_fc.").replace("mlp.2.", "mlp.c_proj.")] = value.detach().clone()
    return names


def scripted(state: dict[str, Tensor]) -> torch.jit.ScriptModule:
    """A TorchScript module with the tensors of `state` under their dotted names."""
    root = torch.nn.Module()
    for name, value in state.items():
        *parts, last = name.split(".")
        module = root
        for part in parts:
            if part not in dict(module.named_children()):
                module.add_module(part, torch.nn.Module())
            module = module.get_submodule(part)
        module.register_parameter(last, torch.nn.Parameter(value))
    return torch.jit.script(root)


def write_originals(folder: Path) -> list[Path]:
    """The same CLIP in every container, and a student in our own format."""
    folder.mkdir(parents=True, exist_ok=True)
    clip = small_clip()
    names = openai_names(clip.state_dict())
    files = {name: folder / name for name in ("own.safetensors", "student.safetensors", "foreign.safetensors")}
    save_checkpoint(clip, files["own.safetensors"])
    save_checkpoint(build_student("vclip:window=2", small_clip()), files["student.safetensors"])
    save_file(names, files["foreign.safetensors"])
    for name, legacy in (("zip.pt", False), ("legacy.pt", True)):
        files[name] = folder / name
        torch.save({"state_dict": names, "epoch": 3}, files[name], _use_new_zipfile_serialization=not legacy)
    files["script.pt"] = folder / "script.pt"
    with warnings.catch_warnings(action="ignore"):
        scripted(names).save(files["script.pt"])
    return list(files.values())


def edit_metadata(data: bytes, draw: random.Random, path: Path) -> bytes:
    """A safetensors file whose description, or header, says something wrong."""
    with safe_open(path, "pt") as file:
        metadata = dict(file.metadata() or {})
    length = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + length])
    if "config" in metadata and draw.random() < 0.7:
        config = json.loads(metadata["config"])
        key = draw.choice([*config, "unknown"])
        config[key] = draw.choice(WRONG_VALUES)
        metadata["config"] = json.dumps(config)
    elif "config" in metadata and draw.random() < 0.7:
        key = draw.choice(["options", "student", "format", "config"])
        wrong = ["null", "[", "{}{", "[[[[", "9" * 5000, '{"window": 1000000000}', '{"window": []}', "[" * 100_000]
        metadata[key] = draw.choice(wrong)
    else:
        name = draw.choice([key for key in header if key != "__metadata__"])
        header[name][draw.choice(["dtype", "shape", "data_offsets"])] = draw.choice(WRONG_VALUES)
    if metadata:
        header["__metadata__"] = metadata
    new = json.dumps(header).encode()
    return struct.pack("<Q", len(new)) + new + data[8 + length :]


def flip_bits(data: bytes, draw: random.Random, path: Path) -> bytes:
    """Bits of a header, or of an archive with checksums; the numbers of a safetensors file have none."""
    end = len(data)
    if path.suffix == ".safetensors":
        end = 8 + struct.unpack("<Q", data[:8])[0]
    changed = bytearray(data)
    for _ in range(draw.choice([1, 1, 4, 32])):
        changed[draw.randrange(end)] ^= 1 << draw.randrange(8)
    return bytes(changed)


def truncate(data: bytes, draw: random.Random, path: Path) -> bytes:
    return data[: draw.choice([draw.randrange(100), draw.randrange(len(data)), len(data) - draw.randrange(1, 64)])]


def insert_opcodes(data: bytes, draw: random.Random, path: Path) -> bytes:
    """Pickle opcodes where they do not belong; the archive's checksums are made to fit."""
    junk = draw.choice(
        [
            b"cos\nsystem\n(S'true'\ntR",
            b"r\xff\xff\xff\xff",
            b"\x85" * 200_000 + b"N}",
            b"(" * 100_000,
            b"\x8b\xff\xff\xff\x7f",
            b"cnumpy\ndtype\n(S'V8'\nI0\nI1\ntR(I3\nS'|'\nNNNI-1\nI-1\nI0\ntb",
            b"]q\xff" + b"h\xffa" * 1000,
            bytes(draw.randrange(256) for _ in range(8)),
        ]
    )
    place = draw.randrange(2, 200)
    if path.name.startswith("legacy"):
        return data[:place] + junk + data[place:]
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as before, zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as after:
        for name in before.namelist():
            content = before.read(name)
            after.writestr(name, content[:place] + junk + content[place:] if name.endswith("data.pkl") else content)
    return out.getvalue()


Mutation = Callable[[bytes, random.Random, Path], bytes]


def mutations_of(path: Path) -> list[Mutation]:
    own = edit_metadata if path.suffix == ".safetensors" else insert_opcodes
    if path.name.startswith("legacy"):  # nothing in it is checked: a flipped bit is another number
        return [own, truncate]
    return [own, own, flip_bits, truncate]


def outcome(path: Path) -> str:
    """What loading comes to, in this process."""
    with warnings.catch_warnings(action="ignore"):
        try:
            own = path.name in ("own.safetensors", "student.safetensors")
            model = load_model(path, seed=0, backbone=None if own else SAID)
        except FrosterError as error:
            sentence = str(error)
            return "refused" if "\n" not in sentence and len(sentence) < 1000 else f"bad sentence: {sentence[:200]!r}"
        except BaseException as error:
            return f"traceback: {type(error).__name__}: {str(error)[:200]}"
    digest = hashlib.sha256(f"{model.config} {model.name} {model.options}".encode())
    hash_exactly(digest, dict(sorted(model.state_dict().items())))
    return digest.hexdigest()


def fuzz(count: int, seed: int, folder: Path) -> Iterator[tuple[str, str, float]]:
    """Kind of mutation, outcome (`refused` and `same` are good) and seconds of `count` files."""
    originals = [
        (path, path.read_bytes(), run_apart(outcome, path, memory=MEMORY))
        for path in write_originals(folder / "originals")
    ]
    for path, _, loaded in originals:
        if not re.fullmatch("[0-9a-f]{64}", loaded):
            yield f"{path.name} as it is", loaded, 0.0
    for number in range(count):
        draw = random.Random(f"{seed} {number}")
        path, data, loaded = originals[number % len(originals)]
        mutate = draw.choice(mutations_of(path))
        mutated = folder / path.name
        mutated.write_bytes(mutate(data, draw, path))
        start = time.monotonic()
        found = run_apart(outcome, mutated, memory=MEMORY)
        if re.fullmatch("[0-9a-f]{64}", found):
            found = "same" if found == loaded else "another model without a word"
        if found not in ("refused", "same"):
            mutated.rename(folder / f"{number}_{path.name}")
        yield f"{number} {path.name} {mutate.__name__}", found, time.monotonic() - start


if __name__ == "__main__":
    count, seed = (int(value) for value in (sys.argv[1:] + ["300", "0"][len(sys.argv) - 1 :])[:2])
    torch.set_num_threads(1)
    work = Path(tempfile.mkdtemp())
    results = list(fuzz(count, seed, work))
    for what, found, seconds in results:
        if found not in ("refused", "same"):
            print(f"{what}: {found} ({seconds:.1f} s)")
    print(
        Counter(found.partition(":")[0] for _, found, _ in results), f"slowest {max(r[2] for r in results):.1f} s", work
    )
    sys.exit(any(found not in ("refused", "same") for _, found, _ in results))
