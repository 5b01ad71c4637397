"""The table of student networks: those in the files of this folder, and those that other packages register."""

import importlib
import inspect
import pkgutil
import re
import warnings
from importlib.metadata import entry_points
from types import ModuleType
from typing import Any

from froster.backbones.base import Backbone
from froster.errors import FrosterError, FrosterWarning, did_you_mean
from froster.students.base import VideoFeatures, VideoOutput, VideoStudent

__all__ = [
    "STUDENTS",
    "VideoFeatures",
    "VideoOutput",
    "VideoStudent",
    "build_student",
    "parse_student",
    "register_student",
]

ENTRY_POINTS = "froster.students"  # group in which an installed package names its students
STUDENTS: dict[str, type[VideoStudent]] = {}


def register_student(cls: type[VideoStudent]) -> type[VideoStudent]:
    """Class decorator: make a student known by its `name` to `load_model`, recipes and the command line.

    An installed package that lists the class as an entry point of the group `froster.students` needs no import.
    Raises `FrosterError` where the class has no `name` or `title` of its own, or another student has that name.
    """
    file = inspect.getfile(cls)
    for attribute in ("name", "title"):
        if attribute not in vars(cls):
            raise FrosterError(f"{file}: the student {cls.__name__} needs a {attribute} of its own.")
    other = STUDENTS.get(cls.name)
    if other and (other.__module__, other.__qualname__) != (cls.__module__, cls.__qualname__):
        raise FrosterError(f"{file}: {inspect.getfile(other)} has a student {cls.name!r} too; choose another name.")
    STUDENTS[cls.name] = cls
    return cls


def register_folder() -> None:
    """Register the students of this folder."""
    for info in pkgutil.iter_modules(__path__):
        for cls in students_of(importlib.import_module(f"{__name__}.{info.name}")):
            register_student(cls)


def register_entry_points() -> None:
    """Register the students of installed packages; one that cannot be imported is left out, with a warning."""
    for entry in entry_points(group=ENTRY_POINTS):
        try:
            register_student(entry.load())
        except Exception as error:  # whatever another package raises
            warnings.warn(
                f"The student {entry.name!r} of {entry.value} cannot be used: {error}", FrosterWarning, stacklevel=2
            )


def students_of(module: ModuleType) -> list[type[VideoStudent]]:
    """The student classes that a module defines itself, each once."""
    classes = [value for value in vars(module).values() if inspect.isclass(value)]
    own = [cls for cls in dict.fromkeys(classes) if cls.__module__ == module.__name__]
    return [cls for cls in own if issubclass(cls, VideoStudent) and cls is not VideoStudent]


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
        options[key] = number_or_text(value)
    return name, options


def number_or_text(value: str) -> int | float | str:
    if re.fullmatch(r"[+-]?[0-9]+", value):
        return int(value)
    return float(value) if re.fullmatch(r"[+-]?[0-9]*\.[0-9]+", value) else value


def build_student(spec: str, backbone: Backbone, **options: Any) -> VideoStudent:
    """Build the student that `spec` names (`"vclip"`, `"vclip:window=2"`) on `backbone`, whose modules it takes over.

    Raises `FrosterError` for an unknown name or option, a value out of range, or a backbone that lacks what the student
    needs.
    """
    name, from_spec = parse_student(spec)
    options = {**from_spec, **options}
    known = STUDENTS[name].option_names()
    for key in options:
        if key not in known:
            there_are = f"it takes {', '.join(known)}" if known else "it takes none"
            raise FrosterError(f"The student {name!r} has no option {key!r}; {there_are}.")
    return STUDENTS[name](backbone, **options)


register_folder()
register_entry_points()
