"""Action names, with descriptions where there are any, from the command line or a file."""

import csv
import difflib
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from froster.data.manifests import describe_header, read_text
from froster.data.vocabularies import VOCABULARY_SPELLINGS, read_vocabulary
from froster.errors import FrosterError
from froster.text.names import name_key

Labels = dict[str, str]  # action name -> description, "" where there is none

FILES = (".txt", ".json", ".csv")  # how the names of labels files end


def parse_labels(text: str) -> Labels:
    """Labels from `"juggling, brushing teeth"` or the name of a vocabulary, such as `"ucf-101"`.

    Raises `FrosterError` when there are none, one comes twice, or the only one is nearly the name of a vocabulary or
    that of a file.
    """
    if name_key(text) in VOCABULARY_SPELLINGS:
        return check_labels(read_vocabulary(text))
    if "," not in text and Path(text).is_file():
        raise FrosterError(f"--labels {text!r} is a file: give it with --labels-file.")
    if "," not in text and Path(text.strip()).suffix.lower() in FILES:
        raise FrosterError(
            f"--labels {text!r}: this file does not exist; give an existing one with --labels-file, "
            f"or {f'{text},'!r} for an action of that name."
        )
    if "," not in text and (near := difflib.get_close_matches(name_key(text), VOCABULARY_SPELLINGS, n=1, cutoff=0.65)):
        raise FrosterError(
            f"There is no vocabulary {text!r}; did you mean the vocabulary {VOCABULARY_SPELLINGS[near[0]]!r}, "
            f"or {f'{text},'!r} for an action of that name?"
        )
    return check_labels([name for name in text.split(",") if name.strip()], "--labels")


def read_labels(path: str | Path) -> Labels:
    """Labels from a file: text with one name a line (`#` begins a comment line), a JSON list of names, JSON
    `{"name": "description"}`, the released JSON `{"0": "name: description"}`, or CSV with a column `name`.

    Raises `FrosterError` when the file is missing, not of these forms, empty, or names an action twice.
    """
    text = read_text(Path(path), f"The labels file {path}")
    if Path(path).suffix.lower() == ".csv":
        rows = csv.DictReader(io.StringIO(text))
        if "name" not in (rows.fieldnames or ()):
            raise FrosterError(f"The labels file {path} needs a column `name`; {describe_header(text)}.")
        return check_labels([row["name"] for row in rows], path)
    if not looks_like_json(text):
        lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
        return check_labels(lines, path)
    content = load_json(text, f"The labels file {path}")
    return check_labels(content, path) if text.lstrip().startswith("[") else check_pairs(named_pairs(content), path)


def load_json(text: str, source: str) -> list[Any]:
    """JSON, its objects as lists of pairs, so that a name that comes twice is not lost.

    Raises `FrosterError` that begins with `source`.
    """
    try:
        return json.loads(text, object_pairs_hook=list)
    except (json.JSONDecodeError, RecursionError) as error:
        where = f"line {error.lineno}, {error.msg}" if isinstance(error, json.JSONDecodeError) else "nested too deeply"
        raise FrosterError(f"{source} is not valid JSON: {where}.") from error


def named_pairs(content: list[tuple[str, Any]]) -> list[tuple[str, Any]]:
    """Pairs (name, description), in the order of the numbers where they are `("0", "name: description")`."""
    if all(key.isdecimal() and isinstance(line, str) for key, line in content):
        return [line.partition(":")[::2] for _, line in sorted(content, key=lambda pair: int(pair[0]))]
    return content


def looks_like_json(text: str) -> bool:
    """A text file may hold an action called `[red] card`; JSON that is broken still ends as it began."""
    text = text.strip()
    return text.startswith("{") or (text.startswith("[") and (text.endswith("]") or '"' in text))


def check_labels(labels: str | Sequence[str] | Mapping[str, str], source: str | Path = "labels") -> Labels:
    """Labels from names, from a mapping name -> description, or from what `parse_labels` takes.

    Raises `FrosterError` that names `source` when there are none, one comes twice, or one is not text.
    """
    if isinstance(labels, str):
        return parse_labels(labels)
    if isinstance(labels, Mapping):
        return check_pairs(list(labels.items()), source)
    return check_pairs([(name, "") for name in labels], source)


def check_pairs(pairs: Sequence[tuple[object, object]], source: str | Path) -> Labels:
    labels: Labels = {}
    spelled: dict[str, str] = {}
    for name, description in pairs:
        if not isinstance(name, str) or not isinstance(description, str):
            wrong = name if not isinstance(name, str) else description
            raise FrosterError(f"{source}: names and descriptions must be text, not {wrong!r}.")
        name = name.strip()
        if not name:
            raise FrosterError(f"{source}: an action name is empty.")
        if name in labels:
            raise FrosterError(f"{source}: the label {name!r} is given twice.")
        if other := spelled.get(name.lower()):
            raise FrosterError(
                f"{source}: the labels {other!r} and {name!r} are one to CLIP, which reads small letters."
            )
        labels[name], spelled[name.lower()] = description.strip(), name
    if not labels:
        raise FrosterError(f"No action names in {source}: give at least one.")
    return labels
