"""Files of tensors: safetensors, pickles of `torch.save` (old and new), TorchScript archives, sharded checkpoints.

Nothing in a file is ever executed (`froster.checkpoints.pickles`), of TorchScript archives the code is never looked at,
and no more memory is taken than the size of the file justifies.
"""

import io
import json
import mmap
import struct
import warnings
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import safetensors
import torch
from torch import Tensor

from froster.checkpoints.checkpoint import StateDict
from froster.checkpoints.pickles import (
    DamagedPickleError,
    RefusedPickleError,
    Storage,
    TensorReference,
    Unpickler,
    scripted_tensors,
)
from froster.errors import FrosterError, FrosterWarning, WeightsError

DOWNLOAD_AGAIN = "it is truncated or only half downloaded; fetch it again"
# Where training scripts keep the trained weights, and where an average of them over the steps (EMA).
TRAINED = ("model_state", "state_dict", "model_state_dict", "model", "module", "params", "net", "network")
AVERAGED = ("model_ema", "ema_state_dict", "state_dict_ema", "params_ema", "ema_model", "ema")
# Four copies of float16 tensors in float32 are eight times the file; small files get some room.
MOST_TIMES, ROOM = 8, 1 << 20
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turns whatever reading a damaged file raises into a `WeightsError` that names it."""
    try:
        yield
    except FrosterError:
        raise
    except RefusedPickleError as error:
        raise WeightsError(
            f"{path} was rejected: it contains Python objects ({error}), which could run code when read; "
            "save its state dict alone, or as safetensors."
        ) from error
    except Exception as error:  # a damaged file raises anything: zlib.error, struct.error, RecursionError, ...
        text = " ".join(str(error).split())[:200]
        reason = f"{type(error).__name__}: {text}" if text else type(error).__name__
        raise WeightsError(f"{path} is not a whole checkpoint ({reason}): {DOWNLOAD_AGAIN}.") from error


def read_tensors(path: Path) -> tuple[StateDict, dict[str, Any]]:
    """All tensors of a file and what else it says about itself, whatever its suffix: the first bytes decide.

    Raises `WeightsError` that names the file when it is damaged, too large for its size, or calls code.
    """
    try:
        with path.open("rb") as file:
            head = file.read(10)
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror}.") from error
    if not head:
        raise WeightsError(f"{path} is empty: {DOWNLOAD_AGAIN}.")
    with reading(path):
        if head.startswith(b"PK\x03\x04"):
            return read_zip(path)
        if head[8:9] == b"{":
            return read_safetensors(path)
        if head.startswith(b"\x80"):
            return read_legacy(path)
        if path.name.endswith(".index.json"):
            return read_shards(path)
    raise WeightsError(
        f"{path} is not a checkpoint: expected a PyTorch or safetensors file, it begins with {head[:8]!r}."
    )


def read_safetensors(path: Path) -> tuple[StateDict, dict[str, Any]]:
    with safetensors.safe_open(path, "pt") as file:
        return {key: file.get_tensor(key) for key in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118


def read_shards(index: Path) -> tuple[StateDict, dict[str, Any]]:
    """A checkpoint in several files, as `NAME.index.json` lists them: Hugging Face's sharded layout."""
    places = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
    tensors: StateDict = {}
    for name in sorted(set(places.values())):
        if Path(name).name != name:
            raise WeightsError(f"{index} names {name!r:.100}, which is not a file next to it.")
        shard = index.with_name(name)
        if not shard.is_file():
            raise WeightsError(f"{index} needs {name}, which is not next to it; download it too.")
        of_shard, _ = read_tensors(shard)
        tensors |= {key: value for key, value in of_shard.items() if places.get(key) == name}
    if missing := sorted(places.keys() - tensors.keys()):
        raise WeightsError(f"{index} lists {len(missing)} tensors that its files lack ({missing[0]}, …).")
    return tensors, {}


def read_zip(path: Path) -> tuple[StateDict, dict[str, Any]]:
    """A `torch.save` archive, or a TorchScript archive, of which only the state dict is read."""
    limit = MOST_TIMES * path.stat().st_size + ROOM
    unpacked = 0

    with zipfile.ZipFile(path) as archive:

        def read(name: str) -> bytes:
            nonlocal unpacked
            info = archive.getinfo(name)
            unpacked += info.file_size
            if unpacked > limit:
                raise DamagedPickleError(f"it unpacks to more than {MOST_TIMES} times its size")
            if info.CRC == 0:  # torch.serialization.set_crc32_options(False): zipfile then has nothing to check
                del info.CRC
            with archive.open(info) as entry:
                return entry.read(info.file_size)

        names = archive.namelist()
        root = next(
            (name.removesuffix("data.pkl") for name in names if name.endswith("/data.pkl") and name.count("/") == 1),
            None,
        )
        if root is None:
            raise WeightsError(f"{path} is not a checkpoint: it is a zip file of something else.")
        content = Unpickler(io.BytesIO(read(f"{root}data.pkl"))).load()
        swapped = f"{root}byteorder" in names and read(f"{root}byteorder") == b"big"

        def storage(wanted: Storage) -> Tensor:
            return numbers(read(f"{root}data/{wanted.key}"), wanted.dtype, swapped)

        if f"{root}constants.pkl" in names:
            return load_references(scripted_tensors(content), storage, limit), {"torchscript": True}
        references, metadata = choose_state(content, path)
        return load_references(references, storage, limit), metadata


def read_legacy(path: Path) -> tuple[StateDict, dict[str, Any]]:
    """A file of `torch.save` from before PyTorch 1.6: five pickles in a row, then the numbers."""
    with path.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as file:
        source: Any = file
        if (content := Unpickler(source).load()) != LEGACY_MAGIC:
            choose_state(content, path)
            raise WeightsError(f"{path} is not a checkpoint: it is a pickle that torch.save did not write.")
        for _ in ("protocol version", "sizes of numbers on the machine"):
            Unpickler(source).load()
        unpickler = Unpickler(source)
        references, metadata = choose_state(unpickler.load(), path)
        keys = Unpickler(source).load()
        places: dict[str, tuple[int, int]] = {}
        position = file.tell()
        for key in keys:
            (count,) = struct.unpack_from("<q", file, position)
            position += 8
            end = position + count * unpickler.storages[str(key)].dtype.itemsize
            if not position <= end <= len(file):
                raise EOFError("its numbers are not all there")
            places[str(key)] = (position, end)
            position = end

        def storage(wanted: Storage) -> Tensor:
            start, end = places[wanted.key]
            return numbers(file[start:end], wanted.dtype)

        return load_references(references, storage, MOST_TIMES * len(file) + ROOM), metadata


def numbers(raw: bytes, dtype: torch.dtype, swapped: bool = False) -> Tensor:
    """The elements `(N,)` of a storage; `swapped`: written on a big-endian machine."""
    if not raw:
        return torch.empty(0, dtype=dtype)
    data = torch.frombuffer(bytearray(raw), dtype=torch.uint8)
    if swapped:
        data = data.view(-1, dtype.itemsize).flip(1).flatten()
    return data.view(dtype)


def to_float32(tensor: Tensor) -> Tensor:
    """Raises `ValueError` for whole numbers (quantized weights), of which a CLIP has none, and complex ones."""
    if not tensor.is_floating_point():
        raise ValueError(f"its weights are {tensor.dtype}, not floating-point numbers")
    return tensor.float()


def load_references(
    references: dict[str, TensorReference], storage: Callable[[Storage], Tensor], limit: int
) -> StateDict:
    """Read the tensors, each storage once. Raises `DamagedPickleError` if they need over `limit` bytes as float32."""
    if sum(reference.count for reference in references.values()) * 4 > limit:
        raise DamagedPickleError(f"its tensors take more than {MOST_TIMES} times its size")
    read: dict[tuple[str, torch.dtype], Tensor] = {}
    tensors: StateDict = {}
    for name, reference in references.items():
        key = reference.storage.key, reference.storage.dtype
        if key not in read:
            read[key] = storage(reference.storage)
        tensors[name] = reference.read(read[key])
    return tensors


def choose_state(content: Any, path: Path) -> tuple[dict[str, TensorReference], dict[str, Any]]:
    """The state dict among all that a training script saved, and the name it had there.

    Warns where there are two, such as trained weights and their average (EMA).
    """
    state, metadata = content, dict[str, Any]()
    if isinstance(content, dict):
        found = [key for key in (*TRAINED, *AVERAGED) if holds_tensors(content.get(key))]
        if found:
            metadata, state = {found[0]: True}, content[found[0]]
            if not any(isinstance(value, TensorReference) for value in state.values()):
                state, _ = choose_state(state, path)
            # ActionCLIP keeps what it adds in a dictionary of its own.
            added = content.get("fusion_model_state_dict")
            for name, value in (added if isinstance(added, dict) else {}).items():
                state = state | {f"fusion_model.{str(name).removeprefix('module.')}": value}
        if len(found) > 1:
            warnings.warn(
                f"{path} holds several sets of weights ({', '.join(found)}); {found[0]} is used. "
                "To use another, save it alone.",
                FrosterWarning,
                stacklevel=2,
            )
    tensors = (
        {str(key): value for key, value in state.items() if isinstance(value, TensorReference)}
        if isinstance(state, dict)
        else {}
    )
    if not tensors:
        kind = getattr(getattr(content, "of", None), "name", None)
        what = f"a pickled {kind} and no named tensors; save its state dict" if kind else "no named tensors"
        raise WeightsError(f"{path} is not a checkpoint: it holds {what}.")
    if metadata == {"module": True} and all(value.count == 0 for value in tensors.values()):
        raise WeightsError(
            f"{path} holds no weights: DeepSpeed's ZeRO-3 keeps them in other files; "
            "join them with its zero_to_fp32.py."
        )
    return tensors, metadata


def holds_tensors(value: Any) -> bool:
    """Whether it is a state dict, or a dictionary with one in it under a usual name."""
    if not isinstance(value, dict):
        return False
    inner = [value.get(key) for key in (*TRAINED, *AVERAGED)]
    of_inner = [found for part in inner if isinstance(part, dict) for found in part.values()]
    return any(isinstance(found, TensorReference) for found in (*value.values(), *of_inner))
