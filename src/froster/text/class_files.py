"""Read files of class names in all common formats, for labels and for the class indices of lists."""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from froster.data.manifests import describe_header, numbered_rows, read_header, read_rows, read_text
from froster.errors import FrosterError

NUMBER = re.compile(r"-?\d+")
NAME_COLUMNS = ("name", "class_name", "label_name", "class", "label", "action")
NUMBER_COLUMNS = ("id", "label_id", "class_id", "index", "number")
DESCRIPTION_COLUMNS = ("description", "caption")
VIDEO_COLUMNS = ("path", "video", "file_name", "youtube_id", "video_id")
WRAPPERS = ("names", "id2label", "label2id", "classes", "labels")  # YOLO's data.yaml, config.json of Transformers
FORMATS = '{"0": "name"}, {"name": 0}, {"name": "description"} or ["name", …]'


@dataclass(frozen=True)
class ListedClass:
    """One class of a file: `place` is its line or entry, from 1; `number` (class index) and `description` may be ""."""

    place: int
    name: str
    number: str = ""
    description: str = ""


class ClassFile(NamedTuple):
    """The classes in the file's order; whether they have indices; whether their places are lines."""

    classes: list[ListedClass]
    numbered: bool
    by_line: bool = False


class Pairs(list[tuple[Any, Any]]):
    """A mapping as a list of pairs, which keeps duplicate keys."""


def read_class_file(path: str | Path, source: str, any_numbers: bool = False) -> ClassFile:
    """The classes of a file.

    Text with one name per line (`#` starts a comment line), with indices before (UCF-101's classInd.txt) or after the
    names; CSV, also with semicolons or tabs, with a column such as `name` and optionally `id` (ViFi-CLIP) and
    `description`; JSON or YAML: a list of names, `{"name": "description"}`, `{"0": "name"}`, `{"0": "name:
    description"}` (FROSTER), `{"name": 0}` (SlowFast, Something-Something). Indices in text must count up from 0 or 1,
    unless `any_numbers`, since names may start with a number (100 meter run). Raises `FrosterError` that begins with
    `source` for a file that cannot be read or has another format.
    """
    path, text = Path(path), read_text(Path(path), source)
    suffix = path.suffix.lower()
    if looks_like_json(text):
        return classes_of(load_json(text, source), source)
    if suffix in (".yaml", ".yml"):
        return classes_of(load_yaml(text, source), source)
    columns = {column.lower(): column for column in read_header(text)}
    if {"id", "name"} <= columns.keys() or (suffix in (".csv", ".tsv") and columns.keys() & {*NAME_COLUMNS}):
        return classes_of_table(text, columns, source)
    if suffix in (".csv", ".tsv") and columns.keys() & {*VIDEO_COLUMNS, *NUMBER_COLUMNS}:
        raise FrosterError(f"{source} needs a column `name`; {describe_header(text)}.")
    if suffix in (".csv", ".tsv") and any(len(row) > 1 for _, row in numbered_rows(text, source)):
        lines = [(line, " ".join(filter(None, row))) for line, row in numbered_rows(text, source)]
    else:
        lines = [(line, content.strip()) for line, content in enumerate(text.splitlines(), 1)]
    lines = [(line, content) for line, content in lines if content and not content.startswith("#")]
    return classes_of_lines(lines, any_numbers)


def looks_like_json(text: str) -> bool:
    """Also true for broken JSON, but not for a text file with an action such as `[red] card`."""
    text = text.strip()
    return text.startswith("{") or (text.startswith("[") and (text.endswith("]") or '"' in text))


def load_json(text: str, source: str) -> Any:
    """JSON, with objects as `Pairs`. Raises `FrosterError` that begins with `source`."""
    try:
        return json.loads(text, object_pairs_hook=Pairs)
    except json.JSONDecodeError as error:
        raise FrosterError(f"{source} is not valid JSON: line {error.lineno}, {error.msg}.") from error
    except (RecursionError, ValueError) as error:  # ValueError: a number with thousands of digits
        what = "nested too deeply" if isinstance(error, RecursionError) else "a number is too long"
        raise FrosterError(f"{source} is not valid JSON: {what}.") from error


def load_yaml(text: str, source: str) -> Any:
    """YAML, with mappings as `Pairs` and all values as text, since an action may be called `on` or `1`."""
    try:
        node = yaml.compose(text, Loader=yaml.BaseLoader)
        return from_yaml(node, 3) if node is not None else []
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}, {getattr(error, 'problem', '')}" if mark else "nested too deeply"
        raise FrosterError(f"{source} is not valid YAML: {where}.") from error


def from_yaml(node: yaml.Node, depth: int) -> Any:
    if not depth:
        raise ValueError
    if isinstance(node, yaml.MappingNode):
        return Pairs((from_yaml(key, 1), from_yaml(value, depth - 1)) for key, value in node.value)
    if isinstance(node, yaml.SequenceNode):
        return [from_yaml(value, depth - 1) for value in node.value]
    return node.value


def classes_of(content: Any, source: str) -> ClassFile:
    """The classes of JSON or YAML. Raises `FrosterError`."""
    if isinstance(content, Pairs):
        wrapped = dict(content)
        inner = next((wrapped[key] for key in WRAPPERS if isinstance(wrapped.get(key), list)), None)
        if inner is not None:
            return classes_of(inner, source)
        return classes_of_pairs(content, source)
    if not isinstance(content, list):
        raise FrosterError(f"{source} must be like {FORMATS}.")
    if content and all(isinstance(entry, Pairs) for entry in content):  # [{"id": 0, "name": "running"}]
        records = [{str(key).lower(): value for key, value in entry} for entry in content]
        return classes_of_records(list(enumerate(records, 1)), source)
    check_texts(content, source)
    return ClassFile([ListedClass(place, name) for place, name in enumerate(content, 1)], False)


def classes_of_pairs(pairs: Pairs, source: str) -> ClassFile:
    check_texts([value for _, value in pairs if value is not None and type(value) is not int], source)
    places = range(1, len(pairs) + 1)
    texts = [(str(key), "" if value is None else str(value)) for key, value in pairs]
    keys_count, values_count = (
        bool(texts) and all(NUMBER.fullmatch(text[side].strip()) for text in texts) for side in (0, 1)
    )
    if keys_count and values_count:
        raise FrosterError(f"{source} has numbers but no names; it must be like {FORMATS}.")
    if keys_count:
        halves = [(number, *value.partition(":")[::2]) for number, value in texts]
        numbered = [
            ListedClass(place, unquoted(name), number.strip(), description.strip())
            for place, (number, name, description) in zip(places, halves, strict=True)
        ]
        return ClassFile(numbered, True)
    if values_count:
        numbered = [
            ListedClass(place, unquoted(name), number.strip())
            for place, (name, number) in zip(places, texts, strict=True)
        ]
        return ClassFile(numbered, True)
    check_texts([value for _, value in pairs if value is not None], source)
    return ClassFile(
        [ListedClass(place, name, description=text) for place, (name, text) in zip(places, texts, strict=True)], False
    )


def unquoted(name: str) -> str:
    return name.strip().strip('"')  # SlowFast's JSON has quoted names


def check_texts(values: Iterable[object], source: str) -> None:
    for value in values:
        if not isinstance(value, str):
            shown = json.dumps(value, ensure_ascii=False, default=str)[:40]
            raise FrosterError(f"{source}: names and descriptions must be text, not {shown}.")


def classes_of_table(text: str, columns: dict[str, str], source: str) -> ClassFile:
    if {*VIDEO_COLUMNS} & columns.keys() and "name" not in columns:
        raise FrosterError(f"{source} needs a column `name`; {describe_header(text)}: it looks like a list of videos.")
    rows = read_rows(text, source)
    if places := [line for line, row in rows if None in row]:
        raise FrosterError(
            f"{source} has more values than columns; put quotes around a value with a comma (line {places[0]})."
        )
    return classes_of_records(
        [(line, {str(key).lower(): value for key, value in row.items()}) for line, row in rows], source, by_line=True
    )


def classes_of_records(records: Sequence[tuple[int, dict[str, Any]]], source: str, by_line: bool = False) -> ClassFile:
    """Classes from rows with a column such as `name`, and optionally an index and a description."""
    columns = {column for _, record in records for column in record}

    def column_of(names: Sequence[str]) -> str:
        return next((name for name in names if name in columns), "")

    name, number, description = map(column_of, (NAME_COLUMNS, NUMBER_COLUMNS, DESCRIPTION_COLUMNS))
    if records and not name:
        raise FrosterError(f"{source} needs a name in each entry, such as {{'id': 0, 'name': 'running'}}.")
    check_texts([record.get(key) for _, record in records for key in filter(None, (name, description))], source)
    classes = [
        ListedClass(place, record[name], str(record.get(number, "")), record.get(description, ""))
        for place, record in records
    ]
    return ClassFile(classes, bool(number), by_line)


def classes_of_lines(lines: Sequence[tuple[int, str]], any_numbers: bool) -> ClassFile:
    """`1 ApplyEyeMakeup` or `apply eye makeup 0` if all lines have such indices, else names only."""
    before = [re.fullmatch(r"(?P<number>\d+)(?:[\s,;]\s*|[.:)]\s+)(?P<name>.+)", content) for _, content in lines]
    after = [re.fullmatch(r"(?P<name>.+?)[\s,;]\s*(?P<number>\d+)", content) for _, content in lines]
    for matches in (before, after):
        found = [match for match in matches if match]
        if not lines or len(found) < len(lines):
            continue
        numbers = {int(match["number"][:9]) for match in found}
        counts_up = numbers in ({*range(len(lines))}, {*range(1, len(lines) + 1)})
        distinct = len({match["name"] for match in found}) == len(lines)  # walk 1, walk 2 are names
        if (any_numbers and matches is before) or (counts_up and distinct):
            pairs = zip(lines, found, strict=True)
            return ClassFile(
                [ListedClass(line, found["name"], found["number"]) for (line, _), found in pairs], True, True
            )
    return ClassFile([ListedClass(line, content) for line, content in lines], False, True)
