"""Files of tensors: safetensors, pickles of `torch.save`, TorchScript archives.

Nothing in a file is ever executed: pickles are read with `weights_only=True`. OpenAI's release files are TorchScript: a
zip with the module as a pickle, its tensors as raw data, and code. PyTorch's own reader compiles that code and may run
parts of it on loading; here the pickle is read by an unpickler that knows tensors and plain containers, and the code is
never looked at.
"""

import argparse
import pickle
import re
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import torch
from torch import Tensor

from froster.checkpoints.checkpoint import StateDict
from froster.errors import WeightsError

DOWNLOAD_AGAIN = "it is truncated or only half downloaded; fetch it again"
# What a damaged file makes PyTorch and zipfile raise.
DAMAGE = (RuntimeError, EOFError, OSError, ValueError, KeyError, AttributeError, TypeError, IndexError, StopIteration)
# Numbers and options that training scripts save beside the tensors; building them runs no code of the file.
HARMLESS: list[Any] = [
    argparse.Namespace,
    (OrderedDict, "yacs.config.CfgNode"),  # a dictionary with settings as attributes
    np.dtype,
    np.float64(0).__reduce__()[0],
    *map(type, map(np.dtype, "fdilqb")),
]


def read_tensors(path: Path) -> tuple[StateDict, dict[str, Any]]:
    """All tensors of a file and what else it says about itself, whatever its suffix: the first bytes decide."""
    try:
        with path.open("rb") as file:
            head = file.read(10)
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror}.") from error
    if not head:
        raise WeightsError(f"{path} is empty: {DOWNLOAD_AGAIN}.")
    if head.startswith(b"PK\x03\x04"):
        return read_zip(path)
    if head[8:9] == b"{":
        try:
            with safetensors.safe_open(path, "pt") as file:
                return {key: file.get_tensor(key) for key in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118
        except safetensors.SafetensorError as error:
            raise WeightsError(f"{path} is not a whole safetensors file: {DOWNLOAD_AGAIN}.") from error
    if head.startswith(b"\x80"):
        return read_pickle(path)
    raise WeightsError(
        f"{path} is not a checkpoint: expected a PyTorch or safetensors file, it begins with {head[:8]!r}."
    )


def read_zip(path: Path) -> tuple[StateDict, dict[str, Any]]:
    """A `torch.save` archive, or a TorchScript archive, of which only the state dict is read."""
    try:
        with zipfile.ZipFile(path) as archive:
            scripted = is_torchscript(archive)
        return (read_torchscript(path), {}) if scripted else read_pickle(path)
    except pickle.UnpicklingError as error:
        raise refusal(path, error) from error
    except (zipfile.BadZipFile, *DAMAGE) as error:
        raise WeightsError(f"{path} is not a whole checkpoint: {DOWNLOAD_AGAIN}.") from error


def read_pickle(path: Path) -> tuple[StateDict, dict[str, Any]]:
    """A pickled checkpoint, never executed: anything but tensors and plain values is refused."""
    try:
        with torch.serialization.safe_globals(HARMLESS):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise refusal(path, error) from error
    except DAMAGE as error:
        raise WeightsError(f"{path} is not a checkpoint that PyTorch can read: {DOWNLOAD_AGAIN}.") from error
    metadata: dict[str, Any] = {}
    for key in ("model_state", "state_dict", "model_state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            metadata = {key: True}
            # ActionCLIP keeps what it adds in a dictionary of its own.
            added = content.get("fusion_model_state_dict") or {}
            content = content[key] | {f"fusion_model.{name.removeprefix('module.')}": added[name] for name in added}
            break
    if not isinstance(content, dict) or not any(isinstance(value, Tensor) for value in content.values()):
        raise WeightsError(f"{path} is not a checkpoint: it holds no named tensors.")
    return {str(key): value for key, value in content.items() if isinstance(value, Tensor)}, metadata


def refusal(path: Path, error: pickle.UnpicklingError) -> WeightsError:
    code = re.search(r"(?:GLOBAL|Unsupported global:?|class) (?:GLOBAL )?`?([\w.]+)", str(error))
    if not code:
        return WeightsError(f"{path} is not a checkpoint that can be read: {DOWNLOAD_AGAIN}.")
    return WeightsError(
        f"{path} was refused: it holds Python objects besides tensors ({code[1]}), which could run code when read; "
        "save its state dict alone, or as safetensors."
    )


# ---------------------------------------------------------------------------------------------------------------------
# TorchScript

DTYPES = {
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "BoolStorage": torch.bool,
}


class ScriptedModule:
    """Stands for any module of the archive; holds its attributes."""


def is_torchscript(archive: zipfile.ZipFile) -> bool:
    return any(name.endswith("/constants.pkl") for name in archive.namelist())


def read_torchscript(path: Path) -> dict[str, Tensor]:
    """State dict of the module in a TorchScript archive: dotted name -> tensor.

    Raises `pickle.UnpicklingError` when the archive holds objects of other kinds, `KeyError`, `zipfile.BadZipFile`,
    `RuntimeError` or `ValueError` when it is damaged.
    """
    with zipfile.ZipFile(path) as archive:
        pickled = next(name for name in archive.namelist() if name.endswith("/data.pkl") and name.count("/") == 1)
        with archive.open(pickled) as file:
            module = TensorUnpickler(file, archive, pickled.removesuffix("data.pkl")).load()
    return dict(named_tensors(module))


class TensorUnpickler(pickle.Unpickler):
    """Builds tensors, plain containers and `ScriptedModule`s, and refuses anything else."""

    def __init__(self, file: Any, archive: zipfile.ZipFile, root: str) -> None:
        super().__init__(file)
        self.archive, self.root = archive, root
        self.storages: dict[str, Tensor] = {}

    def find_class(self, module: str, name: str) -> Any:
        if module.split(".")[0] == "__torch__":
            return ScriptedModule
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return rebuild_tensor
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if module == "torch" and name in DTYPES:
            return name
        if module == "torch.jit._pickle":  # typed lists
            return first_argument
        raise pickle.UnpicklingError(f"Unsupported global: {module}.{name}")

    def persistent_load(self, pid: Any) -> Tensor:
        _, storage_type, key, _, _ = pid
        if key not in self.storages:
            raw = bytearray(self.archive.read(f"{self.root}data/{key}"))
            self.storages[key] = torch.frombuffer(raw, dtype=DTYPES[storage_type])
        return self.storages[key]


def rebuild_tensor(storage: Tensor, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> Tensor:
    return storage.as_strided(size, stride, offset)


def first_argument(value: Any, *_: Any) -> Any:
    return value


def named_tensors(module: Any, prefix: str = "") -> list[tuple[str, Tensor]]:
    """The tensors of a module and of the modules in it, under dotted names."""
    found: list[tuple[str, Tensor]] = []
    for name, value in vars(module).items():
        if isinstance(value, Tensor):
            found.append((prefix + name, value))
        elif isinstance(value, ScriptedModule):
            found += named_tensors(value, f"{prefix}{name}.")
    return found
