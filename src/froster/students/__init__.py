"""The table of student networks: every `VideoStudent` in a file of this folder."""

import importlib
import inspect
import pkgutil
from typing import Any

from froster.clip.model import Clip
from froster.errors import FrosterError, did_you_mean
from froster.students.base import Observation, VideoStudent

__all__ = ["STUDENTS", "Observation", "VideoStudent", "build_student", "parse_student"]


def find_students() -> dict[str, type[VideoStudent]]:
    """All student classes of this folder by their names."""
    modules = [importlib.import_module(f"{__name__}.{found.name}") for found in pkgutil.iter_modules(__path__)]
    classes = [value for module in modules for value in vars(module).values() if inspect.isclass(value)]
    return {cls.name: cls for cls in classes if issubclass(cls, VideoStudent) and cls is not VideoStudent}


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
        options[key] = int(value) if value.isdecimal() else value
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
