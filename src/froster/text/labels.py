"""Action names, with descriptions where there are any, from the command line or a file."""

import json
from pathlib import Path

from froster.data.vocabularies import VOCABULARIES, read_vocabulary
from froster.errors import FrosterError

Labels = dict[str, str]  # action name -> description, "" where there is none


def parse_labels(text: str) -> Labels:
    """Labels from `"juggling, brushing teeth"` or the name of a vocabulary, such as `"ucf-101"`.

    Raises `FrosterError` when there are none, or one comes twice.
    """
    if text.strip().lower() in VOCABULARIES:
        return as_labels(list(read_vocabulary(text.strip().lower())))
    return as_labels(text.split(","), "--labels")


def read_labels(path: str | Path) -> Labels:
    """Labels from a file: text with one name a line, a JSON list of names, JSON `{"name": "description"}`, or the
    released JSON `{"0": "name: description"}`.

    Raises `FrosterError` when the file is missing, not of these forms, or empty.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise FrosterError(
            f"The labels file {path} cannot be read: {getattr(error, 'strerror', None) or error}."
        ) from error
    if not text.lstrip().startswith(("{", "[")):
        return as_labels(text.splitlines(), path)
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        raise FrosterError(f"The labels file {path} is not valid JSON: line {error.lineno}, {error.msg}.") from error
    if isinstance(content, list):
        return as_labels([str(name) for name in content], path)
    if not all(isinstance(value, str) for value in content.values()):
        raise FrosterError(f"The labels file {path} must map names to descriptions, both text.")
    if content and all(key.isdecimal() for key in content):
        lines = (content[key] for key in sorted(content, key=int))
        pairs = [tuple(part.strip() for part in line.partition(":")[::2]) for line in lines]
    else:
        pairs = [(name.strip(), description.strip()) for name, description in content.items()]
    as_labels([name for name, _ in pairs], path)
    return dict(pairs)


def as_labels(names: list[str], source: str | Path = "labels") -> Labels:
    """Names without descriptions, checked; empty ones and comment lines (`#`) are left out."""
    names = [name.strip() for name in names]
    names = [name for name in names if name and not name.startswith("#")]
    if not names:
        raise FrosterError(f"No action names in {source}: give at least one.")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise FrosterError(f"{source}: the label {twice[0]!r} is given twice.")
    return dict.fromkeys(names, "")
