"""Tensors of a TorchScript archive, without running what else it holds.

OpenAI's release files are TorchScript: a zip with the module as a pickle, its tensors as raw data, and code. PyTorch's
own reader compiles that code and may run parts of it on loading; here the pickle is read by an unpickler that knows
tensors and plain containers, and the code is never looked at.
"""

import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

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
