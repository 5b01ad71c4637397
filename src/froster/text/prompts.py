"""Prompts of a class: templates, the 28 of the authors' code or a file's, and the bare text."""

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from froster.data.manifests import read_text
from froster.errors import FrosterError

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
TEMPLATES: tuple[str, ...] = tuple(form.format(kind=kind) for kind in KINDS for form in FORMS)


def class_text(name: str, description: str = "") -> str:
    """`name: description`, or the name alone."""
    return f"{name}: {description}" if description else name


def class_prompts(name: str, description: str = "", templates: tuple[str, ...] = TEMPLATES) -> list[str]:
    """Every template filled with the name and followed by the class text, then the class text alone.

    As in the authors' code, so a class without description is named twice: `"a photo of archery. archery"`.
    """
    text = class_text(name, description)
    return [f"{template.format(name)} {text}" for template in templates] + [text]


def check_templates(templates: str | Path | Sequence[str]) -> tuple[str, ...]:
    """Templates as they are given: a list of them, or a file, which `read_templates` reads.

    Raises `FrosterError` when there are none, or one has not exactly one `{}` for the name.
    """
    if isinstance(templates, str | Path):
        return read_templates(templates)
    return check_numbered("The templates", "number", enumerate(templates, start=1))


def read_templates(path: str | Path) -> tuple[str, ...]:
    """Templates from a file: text with one a line (`#` begins a comment line), or a JSON list.

    Raises `FrosterError` when the file cannot be read or holds none, and for a template without exactly one `{}` for
    the name, with its line.
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
                f"{source}, {unit} {number}: a template needs exactly one {{}}, where the name goes, "
                f"and no other braces, not {template!r}."
            )
        templates.append(template.strip())
    if not templates:
        raise FrosterError(f"{source} must be at least one, such as 'a video of {{}}.'.")
    return tuple(templates)
