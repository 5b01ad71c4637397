"""Files computed with the official implementations, as small as they go without losing a bit; `make.py` packs them.

Random weights and inputs are not stored but drawn again from their seed; all else is stored.
`rebuild` gives a file back byte for byte.
"""

import hashlib
import json
import lzma
from collections.abc import Callable
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

GoldenFile = Callable[[str], Path]
FOLDER = Path(__file__).parent
INDEX, FLOATS, BYTES = FOLDER / "index.json", FOLDER / "floats.xz", FOLDER / "bytes.xz"


class NotPackedError(Exception):
    """The file is too large to be kept here."""


class OtherRandomNumbersError(Exception):
    """This processor or PyTorch rounds normal draws differently from the machine that the files come from."""


def draw(generator: torch.Generator, shape: list[int], form: str, scale: float) -> bytes:
    """One tensor of random numbers, as the files were made.

    Of standard normal x: `x * scale`, `x / scale` or `1 + x * scale`; or PyTorch's `normal_(0, scale)` or
    `uniform_(-scale, scale)`.
    """
    if form == "uniform":
        x = torch.empty(shape).uniform_(-scale, scale, generator=generator)
    elif form == "normal":
        x = torch.empty(shape).normal_(0, scale, generator=generator)
    else:
        x = torch.randn(shape, generator=generator)
        x = {"times": x * scale, "over": x / scale, "one_plus": 1 + x * scale}[form]
    return x.numpy().tobytes()


@cache
def index() -> dict[str, Any]:
    return json.loads(INDEX.read_text(encoding="utf-8"))


@lru_cache(maxsize=4)
def drawn(stream: int) -> dict[int, bytes]:
    """Those tensors that are in files, by number, of all that were drawn one after the other from one seed."""
    about = index()["streams"][stream]
    generator, used = torch.Generator().manual_seed(about["seed"]), set(about["used"])
    content = {}
    for number, (shape, form, scale) in enumerate(about["tensors"]):
        data = draw(generator, shape, form, scale)
        if number in used:
            content[number] = data
    return content


@cache
def stored(path: Path) -> bytes:
    content = lzma.decompress(path.read_bytes())
    if path == FLOATS:  # by byte planes: sign and exponent compress, the mantissa does not
        content = np.frombuffer(content, np.uint8).reshape(4, -1).T.tobytes()
    return content


def piece(part: list[Any]) -> bytes:
    """`part`: where the bytes are, one of `["bytes", start, end]`, `["floats", ...]`, `["drawn", stream, number]`.

    `["table", start, end, rows, number]` is a table of that many rows, all zero but those, whose floats are stored.
    """
    kind, first, second, *of_table = part
    if kind == "table":
        rows, number = of_table
        stored_rows = np.frombuffer(stored(FLOATS)[first:second], np.float32).reshape(len(rows), -1)
        table = np.zeros((number, stored_rows.shape[1]), np.float32)
        table[rows] = stored_rows
        return table.tobytes()
    if kind == "drawn":
        return drawn(first)[second]
    if kind == "half":  # float16 of drawn weights, as CLIP's release has them
        return np.frombuffer(drawn(first)[second], np.float32).astype(np.float16).tobytes()
    return stored(FLOATS if kind == "floats" else BYTES)[first:second]


def rebuild(name: str) -> bytes:
    """The file `name` ("student_vclip.pyth", "more/hausdorff.json"); raises NotPackedError, OtherRandomNumbersError."""
    about = index()["files"].get(name)
    if about is None:
        raise NotPackedError(f"{name} is not among the packed golden files: it needs ../shared")
    content = b"".join(map(piece, about["parts"]))
    if hashlib.sha256(content).hexdigest() != about["sha256"]:
        raise OtherRandomNumbersError(f"{name}: the weights drawn from its seed differ on this machine")
    return content
