"""Prompts of a class: filled templates (by default the 28 of the authors' code) and the bare class text."""

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

from froster.data.manifests import read_text
from froster.errors import FrosterError
from froster.text.classes import ClassText

KINDS = ("photo", "video", "example", "demonstration")
# "a example" is the authors' spelling; their checkpoints were trained with it.
FORMS = (
    "a {kind} of {{}}.",
    "a {kind} of a person {{}}.",
    "a {kind} of a person using {{}}.",
    "a {kind} of a person doing {{}}.",
    "a {kind} of a person during {{}}.",
    "a {kind} of a person performing {{}}.",
    "a {kind} of a person practicing {{}}.",
)
# How a class is put into words: see `class_prompts`.
PromptStyle = Literal["froster", "templates"]
TEMPLATES: tuple[str, ...] = tuple(form.format(kind=kind) for kind in KINDS for form in FORMS)


def class_prompts(text: ClassText, templates: tuple[str, ...] = TEMPLATES, style: PromptStyle = "froster") -> list[str]:
    """The prompts of a class.

    `"froster"`: every template filled with the name and followed by `name: description`, then that alone, as in
    FROSTER's released code: a class without description appears twice, `"a photo of archery. archery"`.
    `"templates"`: the filled templates alone, as in Open-VCLIP's released code; without templates `name: description`.
    """
    if style == "templates" and templates:
        return [template.format(text.name) for template in templates]
    return [f"{template.format(text.name)} {text}" for template in templates] + [str(text)]


def check_templates(templates: str | Path | Sequence[str]) -> tuple[str, ...]:
    """Templates from a list, or from a file (`read_templates`).

    Raises `FrosterError` if there are none, or one does not have exactly one `{}` for the name.
    """
    if isinstance(templates, str | Path):
        return read_templates(templates)
    return check_numbered("The templates", "number", enumerate(templates, start=1))


def read_templates(path: str | Path) -> tuple[str, ...]:
    """Templates from a file: text with one per line (`#` starts a comment line), or a JSON list.

    Raises `FrosterError` if the file cannot be read or is empty, and for a template without exactly one `{}` for the
    name, with its line.
    """
    source = f"The templates file {path}"
    text = read_text(Path(path), source)
    is_list = text.lstrip().startswith("[") and (text.rstrip().endswith("]") or '"' in text)
    if Path(path).suffix.lower() != ".json" and not is_list:
        lines = ((number, line.strip()) for number, line in enumerate(text.splitlines(), start=1))
        return check_numbered(source, "line", ((number, line) for number, line in lines if line and line[0] != "#"))
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise FrosterError(f"{source} is not valid JSON: {error}.") from error
    if not isinstance(content, list):
        raise FrosterError(f'{source} must be a JSON list: ["a video of {{}}."].')
    return check_numbered(source, "number", enumerate(content, start=1))


def check_numbered(source: str, unit: str, numbered: Iterable[tuple[int, object]]) -> tuple[str, ...]:
    templates = []
    for number, template in numbered:
        if not isinstance(template, str) or not re.fullmatch(r"[^{}]*\{\}[^{}]*", template):
            raise FrosterError(
                f"{source}, {unit} {number}: a template needs exactly one {{}} for the name "
                f"and no other braces, not {template!r}."
            )
        templates.append(template.strip())
    if not templates:
        raise FrosterError(f"{source}: give at least one, such as 'a video of {{}}.'.")
    return tuple(templates)
