"""The table of student networks. A new student is one file here and one line in `STUDENTS`."""

from typing import Any

from froster.clip.model import Clip
from froster.errors import FrosterError, did_you_mean
from froster.students.base import VideoStudent
from froster.students.frame_clip import FrameClip
from froster.students.vclip import VClip

STUDENTS: dict[str, type[VideoStudent]] = {
    "frame_clip": FrameClip,
    "vclip": VClip,
}

__all__ = ["STUDENTS", "VideoStudent", "build_student", "parse_student"]


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
