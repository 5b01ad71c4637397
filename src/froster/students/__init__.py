"""The table of student networks: every `VideoStudent` in a file of this folder."""

import importlib
import inspect
import pkgutil
import re
from types import ModuleType
from typing import Any

from froster.clip.model import Clip
from froster.errors import FrosterError, did_you_mean
from froster.students.base import VideoFeatures, VideoStudent

__all__ = ["STUDENTS", "VideoFeatures", "VideoStudent", "build_student", "parse_student"]


def find_students() -> dict[str, type[VideoStudent]]:
    """All student classes of this folder by their names.

    Raises `FrosterError` that names the file where a class has no `name` or `title` of its own, or another's name.
    """
    found: dict[str, type[VideoStudent]] = {}
    for module in [importlib.import_module(f"{__name__}.{info.name}") for info in pkgutil.iter_modules(__path__)]:
        for cls in students_of(module):
            for attribute in ("name", "title"):
                if attribute not in vars(cls):
                    raise FrosterError(f"{module.__file__}: the student {cls.__name__} needs a {attribute} of its own.")
            if cls.name in found:
                other = inspect.getfile(found[cls.name])
                raise FrosterError(f"{module.__file__}: {other} has a student {cls.name!r} too; choose another name.")
            found[cls.name] = cls
    return found


def students_of(module: ModuleType) -> list[type[VideoStudent]]:
    """The student classes that a module defines itself, each once."""
    classes = [value for value in vars(module).values() if inspect.isclass(value)]
    own = [cls for cls in dict.fromkeys(classes) if cls.__module__ == module.__name__]
    return [cls for cls in own if issubclass(cls, VideoStudent) and cls is not VideoStudent]


STUDENTS = find_students()


def parse_student(spec: str) -> tuple[str, dict[str, Any]]:
    """Name and options from `"vclip"` or `"vclip:window=2,boundary=masked"`.

    Raises `FrosterError` when the name is unknown (it names the nearest) or an option has no value.
    """
    name, _, tail = spec.partition(":")
    name = name.strip().replace("-", "_")
    if name not in STUDENTS:
        raise FrosterError(f"There is no student network {name!r}; {did_you_mean(name, STUDENTS)}")
    options: dict[str, Any] = {}
    for item in filter(None, (part.strip() for part in tail.split(","))):
        key, equals, value = (part.strip() for part in item.partition("="))
        if not equals or not value:
            raise FrosterError(f"Student option {item!r} in {spec!r} has no value: write {key}=VALUE.")
        options[key] = int(value) if re.fullmatch(r"[+-]?[0-9]+", value) else value
    return name, options


def build_student(spec: str, clip: Clip, **options: Any) -> VideoStudent:
    """Build the student that `spec` names (`"vclip"`, `"vclip:window=2"`) on `clip`, whose modules it takes over.

    Raises `FrosterError` for an unknown name or option, or a value out of range.
    """
    name, from_spec = parse_student(spec)
    options = {**from_spec, **options}
    known = STUDENTS[name].option_names()
    for key in options:
        if key not in known:
            there_are = f"it takes {', '.join(known)}" if known else "it takes none"
            raise FrosterError(f"The student {name!r} has no option {key!r}; {there_are}.")
    return STUDENTS[name](clip, **options)
