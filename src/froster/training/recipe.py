"""Recipes: one YAML file is a whole experiment, checked before anything loads."""

import dataclasses
import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from froster.errors import FrosterError


class Recipe(BaseModel):
    """Base of every recipe: unknown keys are errors, values are final."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @classmethod
    def read(cls, path: str | Path, overrides: Sequence[str] = ()) -> Self:
        """Read a YAML recipe; `overrides` are `"key=value"`, with dots for nested keys (`model.patch_size=8`).

        Raises `FrosterError` that names the file and the key, and the nearest key where it is unknown.
        """
        try:
            content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
        except OSError as error:
            raise FrosterError(f"The recipe {path} cannot be read: {error.strerror}.") from error
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise FrosterError(f"The recipe {path} is not valid YAML: {' '.join(str(error).split())}.") from error
        if not isinstance(content, dict):
            raise FrosterError(f"The recipe {path} must be keys and values.")
        for override in overrides:
            set_key(content, override)
        try:
            return cls(**content)
        except ValidationError as error:
            raise FrosterError(f"The recipe {path}: {'; '.join(explain(cls, e) for e in error.errors())}.") from error


def set_key(content: dict[str, Any], override: str) -> None:
    key, equals, value = override.partition("=")
    if not equals:
        raise FrosterError(f"{override!r} is not of the form key=value.")
    *parents, last = key.split(".")
    for parent in parents:
        content = content.setdefault(parent, {})
        if not isinstance(content, dict):
            raise FrosterError(f"{override!r}: {parent!r} is a value and has no keys below it.")
    try:
        content[last] = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise FrosterError(f"{override!r}: the value is not valid YAML.") from error


def explain(recipe: type[BaseModel], error: Any) -> str:
    """One clause for one of pydantic's errors."""
    if not error["loc"]:
        return str(error["msg"].removeprefix("Value error, "))
    *parents, last = error["loc"]
    key = ".".join(map(str, error["loc"]))
    if error["type"] not in ("extra_forbidden", "unexpected_keyword_argument"):
        return f"{key}: {error['msg'][0].lower()}{error['msg'][1:]}"
    holder: Any = recipe
    for parent in parents:
        holder = holder.model_fields[parent].annotation
    fields = dataclasses.fields(holder) if dataclasses.is_dataclass(holder) else ()
    known = [field.name for field in fields] or list(getattr(holder, "model_fields", {}))
    near = difflib.get_close_matches(str(last), known, n=1)
    return f"unknown key {key!r}" + (f", did you mean {near[0]!r}?" if near else f"; keys are {', '.join(known)}")
