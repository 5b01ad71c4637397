"""Pickled checkpoints, read without building any Python object that a file asks for.

A pickle is a program: it names functions and classes and calls them. Here its opcodes are interpreted by hand, and
nothing comes out but plain containers, plain numbers and text, references to tensors, and inert placeholders for every
other object (numpy scalars, argparse and OmegaConf settings, optimizers). Tensors are read only when they are used.
"""

import pickletools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import IO, Any

import torch
from torch import Tensor

MOST_OPCODES = 5_000_000  # a ViT-L/14 with its optimizer's state has about 100,000
MOST_TENSORS = 100_000
DEEPEST_MODULE = 100
DTYPES = {
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
DICTIONARIES = {("collections", name) for name in ("OrderedDict", "defaultdict", "Counter")} | {("builtins", "dict")}
# A checkpoint that calls these is an attack or a mistake, so it is rejected.
CODE_MODULES = {"os", "posix", "nt", "pty", "subprocess", "sys", "runpy", "importlib", "ctypes", "shutil", "socket"}
CODE_BUILTINS = {"eval", "exec", "compile", "__import__", "open", "breakpoint", "getattr"}
FIRST_ARGUMENT = {
    ("torch._utils", "_rebuild_parameter"),
    ("torch._utils", "_rebuild_parameter_with_state"),
    ("torch", "Size"),
    ("builtins", "list"),
    ("builtins", "tuple"),
    ("builtins", "set"),
    ("builtins", "frozenset"),
}


class RefusedPickleError(Exception):
    """A pickle that calls code; the message is the name of what it calls."""


class DamagedPickleError(Exception):
    """A pickle that no program writes."""


@dataclass(frozen=True, eq=False)
class Name:
    """A function or class that a pickle names; it is never looked up."""

    module: str
    name: str

    @property
    def is_scripted(self) -> bool:
        return self.module.split(".")[0] == "__torch__"


@dataclass(eq=False)
class StandIn:
    """Stands for any object that is not built."""

    of: Name
    state: Any = None


@dataclass(frozen=True, eq=False)
class Storage:
    """The numbers behind tensors: a record of the file, not read yet."""

    key: str
    dtype: torch.dtype


@dataclass(frozen=True, eq=False)
class TensorReference:
    """A tensor's position in a storage, in elements."""

    storage: Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]

    def __post_init__(self) -> None:
        counts = (self.offset, *self.size, *self.stride)
        if len(self.size) != len(self.stride) or not all(type(count) is int and count >= 0 for count in counts):
            raise DamagedPickleError("a tensor has an impossible shape")

    @property
    def count(self) -> int:
        count = 1
        for length in self.size:
            count *= length
        return count

    def read(self, storage: Tensor) -> Tensor:
        """The tensor, a view of its storage `(N,)`. Raises `DamagedPickleError` if it exceeds the storage."""
        last = self.offset + sum((length - 1) * step for length, step in zip(self.size, self.stride, strict=True))
        if self.count == 0:
            return torch.empty(self.size, dtype=storage.dtype)
        if self.count > len(storage) or last >= len(storage):
            raise DamagedPickleError(f"a tensor of shape {self.size} is larger than its data")
        return storage.as_strided(self.size, self.stride, self.offset)


MARK = object()


@dataclass
class Unpickler:
    """Interprets one pickle at the position of `file` and stops behind it."""

    file: IO[bytes]
    stack: list[Any] = field(default_factory=list)
    memo: dict[int, Any] = field(default_factory=dict)
    storages: dict[str, Storage] = field(default_factory=dict)

    def load(self) -> Any:
        """What the pickle holds. Raises `RefusedPickleError` if it calls code, `ValueError` and others if damaged."""
        for number, (opcode, argument, _) in enumerate(pickletools.genops(self.file)):
            if number > MOST_OPCODES:
                raise DamagedPickleError("it holds too many objects")
            if action := ACTIONS.get(opcode.name):
                action(self, argument)
            elif opcode.name in CONSTANTS:
                self.stack.append(argument)
            elif opcode.name not in ("PROTO", "FRAME", "STOP"):
                raise DamagedPickleError(f"the pickle opcode {opcode.name} has no place in a checkpoint")
        return self.stack.pop()

    def pop_to_mark(self) -> list[Any]:
        for start in range(len(self.stack) - 1, -1, -1):
            if self.stack[start] is MARK:
                items = self.stack[start + 1 :]
                del self.stack[start:]
                return items
        raise DamagedPickleError("a mark is missing")

    def replace(self, count: int, build: Callable[..., Any]) -> None:
        """Put what `build` makes of the last `count` values in their place."""
        if len(self.stack) < count:
            raise DamagedPickleError("values are missing")
        values = self.stack[len(self.stack) - count :]
        del self.stack[len(self.stack) - count :]
        self.stack.append(build(*values))

    def extend(self, items: list[Any]) -> None:
        """APPENDS and ADDITEMS: sets are kept as lists."""
        if isinstance(self.stack[-1], list):
            self.stack[-1] += items

    def update(self, items: list[Any]) -> None:
        """SETITEMS: keys and values in turn."""
        if isinstance(self.stack[-1], dict):
            self.stack[-1].update(dictionary(items))

    def refer_to_storage(self, identifier: Any) -> Storage:
        """A persistent id of PyTorch: `("storage", type, key, location, count, ...)`."""
        _, kind, key, *_ = identifier
        if not isinstance(kind, Name) or kind.name not in DTYPES or not isinstance(key, str | int):
            raise DamagedPickleError(f"tensors of the type {getattr(kind, 'name', '')!s:.40} are not supported")
        return self.storages.setdefault(str(key), Storage(str(key), DTYPES[kind.name]))

    def set_state(self) -> None:
        state = self.stack.pop()
        if isinstance(self.stack[-1], StandIn):
            self.stack[-1].state = state


def dictionary(items: list[Any]) -> dict[Any, Any]:
    """Of keys and values in turn."""
    if len(items) % 2:
        raise DamagedPickleError("a key has no value")
    return {checked_key(key): value for key, value in zip(items[::2], items[1::2], strict=True)}


def checked_key(key: Any) -> Any:
    """A key of a dictionary: hashing tuples nested a million times would overflow the C stack."""
    parts = key if isinstance(key, tuple) else (key,)
    if any(isinstance(part, (tuple, list, dict, bytearray)) for part in parts):
        raise DamagedPickleError("a dictionary has keys that are not names")
    return key


def named(path: str) -> Name:
    """`GLOBAL`'s argument, "module name"."""
    module, _, name = path.partition(" ")
    return name_of(module, name)


def name_of(module: Any, name: Any) -> Name:
    if not isinstance(module, str) or not isinstance(name, str):
        raise DamagedPickleError("a name is not text")
    return Name({"__builtin__": "builtins", "copy_reg": "copyreg"}.get(module, module), name)


def call(function: Any, arguments: Any, *_: Any) -> Any:
    """The result of a call: tensors and containers for a few known functions, else an inert placeholder."""
    if not isinstance(function, Name):
        raise DamagedPickleError("it calls what is no function")
    arguments = arguments if isinstance(arguments, tuple) else ()
    key = (function.module, function.name)
    top = function.module.split(".")[0]
    if top in CODE_MODULES or (top == "builtins" and function.name.split(".")[0] in CODE_BUILTINS):
        raise RefusedPickleError(f"{function.module}.{function.name}")
    if key in (("torch._utils", "_rebuild_tensor_v2"), ("torch._utils", "_rebuild_tensor")):
        storage, offset, size, stride = arguments[:4]
        if not isinstance(storage, Storage):
            raise DamagedPickleError("a tensor has no data")
        return TensorReference(storage, offset, tuple(size), tuple(stride))
    if key == ("torch._tensor", "_rebuild_from_type_v2"):  # a tensor with attributes
        return call(arguments[0], arguments[2])
    if key in DICTIONARIES:
        pairs = arguments[0] if arguments and isinstance(arguments[0], (list, tuple)) else ()
        return {checked_key(name): value for name, value in pairs}
    if arguments and (key in FIRST_ARGUMENT or function.module == "torch.jit._pickle"):  # typed lists
        return arguments[0]
    return StandIn(function)


def call_first(items: list[Any]) -> Any:
    return call(items[0], tuple(items[1:]))


CONSTANTS = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT", "STRING", "BINSTRING"),
    *("SHORT_BINSTRING", "UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES"),
    *("BINBYTES8", "BYTEARRAY8"),
}
Action = Callable[[Unpickler, Any], object]
ACTIONS: dict[str, Action] = {
    "NONE": lambda u, _: u.stack.append(None),
    "NEWTRUE": lambda u, _: u.stack.append(True),
    "NEWFALSE": lambda u, _: u.stack.append(False),
    "MARK": lambda u, _: u.stack.append(MARK),
    "POP": lambda u, _: u.stack.pop(),
    "POP_MARK": lambda u, _: u.pop_to_mark(),
    "DUP": lambda u, _: u.stack.append(u.stack[-1]),
    "EMPTY_LIST": lambda u, _: u.stack.append([]),
    "EMPTY_SET": lambda u, _: u.stack.append([]),
    "EMPTY_DICT": lambda u, _: u.stack.append({}),
    "EMPTY_TUPLE": lambda u, _: u.stack.append(()),
    "LIST": lambda u, _: u.stack.append(u.pop_to_mark()),
    "FROZENSET": lambda u, _: u.stack.append(u.pop_to_mark()),
    "TUPLE": lambda u, _: u.stack.append(tuple(u.pop_to_mark())),
    "TUPLE1": lambda u, _: u.replace(1, lambda *values: values),
    "TUPLE2": lambda u, _: u.replace(2, lambda *values: values),
    "TUPLE3": lambda u, _: u.replace(3, lambda *values: values),
    "DICT": lambda u, _: u.stack.append(dictionary(u.pop_to_mark())),
    "APPEND": lambda u, _: u.extend([u.stack.pop()]),
    "APPENDS": lambda u, _: u.extend(u.pop_to_mark()),
    "ADDITEMS": lambda u, _: u.extend(u.pop_to_mark()),
    "SETITEM": lambda u, _: u.update([u.stack.pop(), u.stack.pop()][::-1]),
    "SETITEMS": lambda u, _: u.update(u.pop_to_mark()),
    "MEMOIZE": lambda u, _: u.memo.__setitem__(len(u.memo), u.stack[-1]),
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT"), lambda u, index: u.memo.__setitem__(index, u.stack[-1])),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), lambda u, index: u.stack.append(u.memo[index])),
    "GLOBAL": lambda u, path: u.stack.append(named(path)),
    "STACK_GLOBAL": lambda u, _: u.replace(2, name_of),
    "REDUCE": lambda u, _: u.replace(2, call),
    "NEWOBJ": lambda u, _: u.replace(2, call),
    "NEWOBJ_EX": lambda u, _: u.replace(3, call),
    "INST": lambda u, path: u.stack.append(call(named(path), tuple(u.pop_to_mark()))),
    "OBJ": lambda u, _: u.stack.append(call_first(u.pop_to_mark())),
    "BUILD": lambda u, _: u.set_state(),
    "BINPERSID": lambda u, _: u.replace(1, u.refer_to_storage),
}


def scripted_tensors(module: Any) -> dict[str, TensorReference]:
    """The tensors of a TorchScript module and of the modules in it, under dotted names."""
    found: dict[str, TensorReference] = {}
    waiting = [(module, "", 0)]
    visited = 0
    while waiting:
        module, prefix, depth = waiting.pop()
        visited += 1
        if visited > MOST_TENSORS or depth > DEEPEST_MODULE:  # few bytes may refer to one another without end
            raise DamagedPickleError("its modules are nested without end")
        attributes = module.state if isinstance(module, StandIn) and isinstance(module.state, dict) else {}
        for name, value in attributes.items():
            if isinstance(value, TensorReference):
                found[f"{prefix}{name}"] = value
            elif isinstance(value, StandIn) and value.of.is_scripted:
                waiting.append((value, f"{prefix}{name}.", depth + 1))
    return found
