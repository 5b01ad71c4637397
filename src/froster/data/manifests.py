"""Manifests: CSV files that list videos with their labels."""

import codecs
import csv
import difflib
import io
import math
import re
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

from froster.errors import FrosterError, FrosterWarning
from froster.files import csv_cell, read_cell, replace_when_written
from froster.text.names import name_key

COLUMNS = ("path", "label")
OPTIONAL = ("split", "start", "end")
NAMED = 5  # offenders that an error lists; the others are counted
SHOWN = 80  # characters of a file's first line that an error shows
LARGEST_TEXT = 256 << 20  # bytes; a list of a million videos has 100 MB
ENCODINGS = (  # by their byte order marks, longest first
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
DELIMITERS = (",", ";", "\t")
LINES, ENTRIES = ("line", "lines"), ("entry", "entries")

Problems = defaultdict[str, list[str]]  # what is wrong -> the lines where it is


@dataclass(frozen=True)
class LabeledVideo:
    """One row of a manifest: a video, or the part of it from `start` to `end` seconds, and its class.

    `splits`: the words of the column split, such as `("train1", "test2", "train3")`. Without `start` the part begins
    with the video, without `end` it ends with it.
    """

    path: Path
    label: str
    splits: tuple[str, ...] = ()
    start: float | None = None
    end: float | None = None


def read_manifest(path: str | Path, split: str | None = None) -> list[LabeledVideo]:
    """Read a CSV file whose header has the columns path and label, and may have split, start and end (seconds).

    UTF-8, or UTF-16 with a byte order mark; columns separated by commas, semicolons or tabs. Spaces around a value do
    not count, other columns are ignored. Relative paths start at the manifest's folder; the videos themselves are not
    looked for. With `split`, only the rows that have that word are returned. Raises `FrosterError`: the file cannot be
    read, lacks a column, lists nothing, lists nothing of `split`, or has rows with something missing or wrong, all of
    which are named by their line.
    """
    path = Path(path)
    source = f"The manifest {path}"
    text = read_text(path, source)
    columns = read_header(text)
    missing = [f"`{column}`" for column in COLUMNS if column not in columns]
    if missing:
        lacking = f"column{'s' * (len(missing) > 1)} {' and '.join(missing)}"
        raise FrosterError(f"{source} lacks the {lacking}; {describe_header(text)}.")
    problems = Problems(list)
    videos = []
    for line, row in read_rows(text, source):
        for column in COLUMNS:
            if not row[column]:
                problems[f"no {column}"].append(str(line))
        note_excess(row, line, problems)
        segment = read_segment(row.get("start", ""), row.get("end", ""), str(line), problems)
        videos.append(
            LabeledVideo(
                path.parent / read_cell(row["path"]),
                read_cell(row["label"]),
                tuple(read_cell(row.get("split", "")).split()),
                *segment,
            )
        )
    raise_problems(problems, source)
    if not videos:
        raise FrosterError(f"{source} lists no videos.")
    return videos if split is None else videos_of_split(videos, split, source)


def read_text(path: Path, source: str) -> str:
    """The text of a file in UTF-8, or in UTF-16 or UTF-32 with a byte order mark; without the mark.

    Raises `FrosterError` that begins with `source`: it cannot be read, is too large, or is no text.
    """
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST_TEXT + 1)
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path
        reason = getattr(error, "strerror", None) or "its name holds a null byte"
        raise FrosterError(f"{source} cannot be read: {reason}.") from error
    if len(data) > LARGEST_TEXT:
        raise FrosterError(f"{source} cannot be read: it is larger than {LARGEST_TEXT >> 20} MiB.")
    encoding = next((name for mark, name in ENCODINGS if data.startswith(mark)), "utf-8")
    try:
        text = data.decode(encoding).replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as error:
        raise FrosterError(f"{source} cannot be read: it is not UTF-8 text.") from error
    if "\0" in text:
        raise FrosterError(f"{source} cannot be read: it is not text, but binary.")
    return text


def table_of(text: str) -> tuple[str, str]:
    """A CSV text without the line `sep=;` that Excel puts before it, and its delimiter: comma, semicolon or tab."""
    first, _, rest = text.partition("\n")
    if re.fullmatch(r"sep=[,;\t|]", first):
        return "\n" + rest, first[-1]
    outside = re.sub(r'"[^"]*"', "", first)
    return text, max(DELIMITERS, key=outside.count)


def csv_reader(text: str, strict: bool = True) -> Any:
    text, delimiter = table_of(text)
    # Strict: a quote left open would swallow the rows below it.
    return csv.reader(io.StringIO(text), delimiter=delimiter, strict=strict, skipinitialspace=True)


def read_header(text: str) -> list[str]:
    """The columns of a CSV text; none where it does not begin like one."""
    try:
        return [column.strip() for column in next(filter(None, csv_reader(text, strict=False)), [])]
    except csv.Error:
        return []


def numbered_rows(text: str, source: str) -> list[tuple[int, list[str]]]:
    """The rows of a CSV text, each with its (last) line, without the spaces around values; blank ones are left out.

    Columns may be separated by semicolons or tabs too: the first line says. Raises `FrosterError` that begins with
    `source`.
    """
    reader = csv_reader(text)
    try:
        return [(reader.line_num, [value.strip() for value in row]) for row in reader if row]
    except csv.Error as error:
        raise FrosterError(f"{source} is not valid CSV after line {reader.line_num}: {error}.") from error


def read_rows(text: str, source: str) -> list[tuple[int, dict[str | None, str]]]:
    """The rows of a CSV text with a header, each with its line; values without the spaces around them.

    What a row lacks is empty; `None` has what it has too much. Raises `FrosterError` that begins with `source`.
    """
    (_, header), *rows = numbered_rows(text, source) or [(0, [])]
    table = []
    for line, values in rows:
        row: dict[str | None, str] = dict(zip_longest(header, values[: len(header)], fillvalue=""))
        if len(values) > len(header):
            row[None] = "".join(values[len(header) :])
        table.append((line, row))
    return table


def note_excess(row: Mapping[str | None, str], line: int, problems: Problems) -> None:
    if None in row:
        problems["more values than columns, so put quotes around a value with a comma"].append(str(line))


def read_segment(start: str, end: str, place: str, problems: Problems) -> tuple[float | None, float | None]:
    """Start and end in seconds, None where there is none; what is wrong with them is added to `problems`."""
    for key, value in (("start", start), ("end", end)):
        if value and as_seconds(value) is None:
            problems[f"{key} is no number of seconds"].append(f"{place}: {value!r}")
    first, last = as_seconds(start), as_seconds(end)
    if first is not None and first < 0:
        problems["start is below 0"].append(f"{place}: {start}")
    elif last is not None and last <= (first or 0):
        problems["end is not after start"].append(place)
    return first, last


def as_seconds(value: str) -> float | None:
    try:
        seconds = float(value)
    except ValueError:
        return None
    return seconds if math.isfinite(seconds) else None


def raise_problems(problems: Problems, source: str, units: tuple[str, str] = LINES) -> None:
    """Raises `FrosterError` with every kind of problem and the first of its lines, if there are any."""
    if problems:
        described = (f"{problem} ({units[len(places) > 1]} {listed(places)})" for problem, places in problems.items())
        raise FrosterError(f"{source} has invalid rows: {'; '.join(described)}.")


def videos_of_split(videos: Sequence[LabeledVideo], split: str, source: str) -> list[LabeledVideo]:
    chosen = [video for video in videos if split in video.splits]
    if not chosen:
        splits = dict.fromkeys(word for video in videos for word in video.splits)
        there = f"its splits are {', '.join(splits)}" if splits else "it has none in a column `split`"
        raise FrosterError(f"{source} has no videos of the split {split!r}; {there}.")
    return chosen


def describe_splits(videos: Sequence[LabeledVideo]) -> str | None:
    """How many rows have each split, such as "52 train, 13 test"; None where all rows have one in common, or none has.

    In such a manifest it matters which rows are used.
    """
    counts = Counter(split for video in videos for split in dict.fromkeys(video.splits))
    if not counts or max(counts.values()) == len(videos):
        return None
    return listed(f"{count} {split}" for split, count in counts.most_common())


def write_manifest(path: Path, videos: Iterable[LabeledVideo]) -> None:
    """Write a manifest, whole or not at all; a column that may be missing is written where some row has a value.

    Paths under the manifest's folder are written relative to it, others in full; `read_manifest` finds both.
    """
    folder = path.parent.absolute()
    rows = [cells(video, folder) for video in videos]
    columns = [*COLUMNS, *(column for column in OPTIONAL if any(row[column] for row in rows))]
    table = io.StringIO()
    writer = csv.DictWriter(table, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    with replace_when_written(path) as temporary:
        temporary.write_text(table.getvalue(), encoding="utf-8", newline="\n")


def cells(video: LabeledVideo, folder: Path) -> dict[str, str]:
    path = video.path.absolute()
    start, end = ("" if second is None else repr(second).removesuffix(".0") for second in (video.start, video.end))
    return {
        "path": csv_cell((path.relative_to(folder) if path.is_relative_to(folder) else path).as_posix()),
        "label": csv_cell(video.label),
        "split": csv_cell(" ".join(video.splits)),
        "start": start,
        "end": end,
    }


def class_indices(videos: Sequence[LabeledVideo], names: Sequence[str], manifest: Path) -> list[int]:
    """The place of each video's label among the class names.

    A label that is no class is read as the only one that differs from it in case, spaces or punctuation alone, with a
    warning. Raises `FrosterError` that names `manifest` and the other labels, each with the class that is near it.
    """
    places = {name: place for place, name in enumerate(names)}
    labels = dict.fromkeys(video.label for video in videos)
    respelled = respelled_labels([label for label in labels if label not in places], names)
    places |= {label: places[name] for label, name in respelled.items()}
    unknown = [video.label for video in videos if video.label not in places]
    if unknown:
        labels = dict.fromkeys(unknown)
        described = [f"{label!r}{hint(label, names)}" for label in list(labels)[:NAMED]]
        rows = "1 row has a label that is" if len(unknown) == 1 else f"{len(unknown)} rows have labels that are"
        raise FrosterError(
            f"The manifest {manifest}: {rows} not among the {len(names)} classes, "
            f"{listed(described + list(labels)[NAMED:])}; add them to the labels or leave these rows out."
        )
    if respelled:
        pairs = [f"{label!r} as {name!r}" for label, name in respelled.items()]
        warnings.warn(
            f"The manifest {manifest} spells labels in another way than the classes: read are {listed(pairs)}.",
            FrosterWarning,
            stacklevel=2,
        )
    return [places[video.label] for video in videos]


def respelled_labels(labels: Iterable[str], names: Iterable[str]) -> dict[str, str]:
    """The labels that are a name but for case, spaces or punctuation, with that name; not where several names are."""
    spellings = defaultdict[str, list[str]](list)
    for name in names:
        spellings[name_key(name)].append(name)
    meant = {label: spellings.get(name_key(label), []) for label in labels}
    return {label: candidates[0] for label, candidates in meant.items() if len(candidates) == 1}


def hint(label: str, names: Iterable[str]) -> str:
    """A question in brackets: the class that is spelled like the label but for case and separators, or nearly so."""
    spellings = {name_key(name): name for name in names}
    near = difflib.get_close_matches(name_key(label), spellings, n=1, cutoff=0.8)
    return f" (did you mean {spellings[near[0]]!r}?)" if near else ""


def describe_header(text: str) -> str:
    """For a message: the first line of a CSV file."""
    line = next(iter(text.splitlines()), "")
    shown = line if len(line) <= SHOWN else f"{line[:SHOWN]}…"
    return f"its first line is {shown!r}"


def listed(items: Iterable[str]) -> str:
    """The first few items, and the number of the others."""
    items = list(items)
    return ", ".join(items[:NAMED]) + (f" and {len(items) - NAMED} more" if len(items) > NAMED else "")
