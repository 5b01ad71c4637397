"""Action names, with descriptions where there are any, from the command line or a file."""

import csv
import difflib
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from froster.data.manifests import describe_header
from froster.data.vocabularies import VOCABULARY_SPELLINGS, read_vocabulary, squeeze
from froster.errors import FrosterError

Labels = dict[str, str]  # action name -> description, "" where there is none


def parse_labels(text: str) -> Labels:
    """Labels from `"juggling, brushing teeth"` or the name of a vocabulary, such as `"ucf-101"`.

    Raises `FrosterError` when there are none, one comes twice, or the only one is nearly the name of a vocabulary.
    """
    if squeeze(text) in VOCABULARY_SPELLINGS:
        return check_labels(read_vocabulary(text))
    if "," not in text and Path(text).is_file():
        raise FrosterError(f"--labels {text!r} is a file: give it with --labels-file.")
    if "," not in text and (near := difflib.get_close_matches(squeeze(text), VOCABULARY_SPELLINGS, n=1, cutoff=0.65)):
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
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise FrosterError(f"The labels file {path} cannot be read: {reason}.") from error
    if Path(path).suffix.lower() == ".csv":
        rows = csv.DictReader(io.StringIO(text))
        if "name" not in (rows.fieldnames or ()):
            raise FrosterError(f"The labels file {path} needs a column `name`; {describe_header(text)}.")
        return check_labels([row["name"] for row in rows], path)
    if not looks_like_json(text):
        lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
        return check_labels(lines, path)
    try:
        content = json.loads(text, object_pairs_hook=list)
    except (json.JSONDecodeError, RecursionError) as error:
        where = f"line {error.lineno}, {error.msg}" if isinstance(error, json.JSONDecodeError) else "nested too deeply"
        raise FrosterError(f"The labels file {path} is not valid JSON: {where}.") from error
    if text.lstrip().startswith("["):
        return check_labels(content, path)
    if content and all(key.isdecimal() for key, _ in content) and all(isinstance(line, str) for _, line in content):
        content = [line.partition(":")[::2] for _, line in sorted(content, key=lambda pair: int(pair[0]))]
    return check_pairs(content, path)


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
    for name, description in pairs:
        if not isinstance(name, str) or not isinstance(description, str):
            wrong = name if not isinstance(name, str) else description
            raise FrosterError(f"{source}: names and descriptions must be text, not {wrong!r}.")
        name = name.strip()
        if not name:
            raise FrosterError(f"{source}: an action name is empty.")
        if name in labels:
            raise FrosterError(f"{source}: the label {name!r} is given twice.")
        labels[name] = description.strip()
    if not labels:
        raise FrosterError(f"No action names in {source}: give at least one.")
    return labels
