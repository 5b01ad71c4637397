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
from typing import Any, Literal

from froster.errors import FrosterError, FrosterWarning
from froster.files import csv_cell, read_cell, replace_when_written
from froster.text.names import name_key

COLUMNS = ("path", "label")
OPTIONAL = ("split", "start", "end")
MAX_LISTED = 5  # items that a message lists; the others are counted
MAX_HEADER = 80  # characters of a file's first line that a message shows
MAX_TEXT_BYTES = 256 << 20  # a list of a million videos has 100 MB
ENCODINGS = (  # by their byte order marks, longest first
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
DELIMITERS = (",", ";", "\t")
LINES, ENTRIES = ("line", "lines"), ("entry", "entries")

Problems = defaultdict[str, list[str]]  # description of a problem -> its lines


@dataclass(frozen=True)
class LabeledVideo:
    """One row of a manifest: a video, or the part of it from `start` to `end` seconds, and its class.

    `splits`: the words in the column split, such as `("train1", "test2", "train3")`. `start` defaults to the start of
    the video, `end` to its end.
    """

    path: Path
    label: str
    splits: tuple[str, ...] = ()
    start: float | None = None
    end: float | None = None


def read_manifest(path: str | Path, split: str | None = None) -> list[LabeledVideo]:
    """Read a CSV file whose header has the columns path and label, and may have split, start and end (seconds).

    UTF-8, or UTF-16 with a byte order mark; columns separated by commas, semicolons or tabs. Spaces around values are
    stripped, other columns are ignored. Relative paths are relative to the manifest's folder; the videos need not
    exist. `split`: return only the rows with that word. Raises `FrosterError`: the file cannot be read, lacks a column,
    has no videos (of `split`), or has invalid rows, which are all listed by line.
    """
    path = Path(path)
    source = f"The manifest {path}"
    text = read_text(path, source, errors="surrogateescape")  # names of files are bytes, and need not be UTF-8
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
        if not row["label"].isprintable() and re.search("[\udc80-\udcff]", row["label"]):
            raise FrosterError(f"{source} cannot be read: the label of line {line} is not UTF-8 text.")
        note_surplus(row, line, problems)
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


def read_text(path: Path, source: str, errors: Literal["strict", "surrogateescape"] = "strict") -> str:
    """The text of a file in UTF-8, or in UTF-16 or UTF-32 with a byte order mark (which is removed).

    Raises `FrosterError` that begins with `source`: it cannot be read, is too large, or is not text.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_TEXT_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path
        reason = getattr(error, "strerror", None) or "its name contains a null byte"
        raise FrosterError(f"{source} cannot be read: {reason}.") from error
    if len(data) > MAX_TEXT_BYTES:
        raise FrosterError(f"{source} cannot be read: it is larger than {MAX_TEXT_BYTES >> 20} MiB.")
    encoding = next((name for mark, name in ENCODINGS if data.startswith(mark)), "utf-8")
    try:
        text = data.decode(encoding, errors if encoding == "utf-8" else "strict")
    except UnicodeDecodeError as error:
        raise FrosterError(f"{source} cannot be read: it is not UTF-8 text.") from error
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if "\0" in text:
        raise FrosterError(f"{source} cannot be read: it is not text, but binary.")
    return text


def table_of(text: str) -> tuple[str, str]:
    """A CSV text without Excel's first line `sep=;`, and its delimiter: comma, semicolon or tab."""
    first, _, rest = text.partition("\n")
    if re.fullmatch(r"sep=[,;\t|]", first):
        return "\n" + rest, first[-1]
    outside = re.sub(r'"[^"]*"', "", first)
    return text, max(DELIMITERS, key=outside.count)


def csv_reader(text: str, strict: bool = True) -> Any:
    text, delimiter = table_of(text)
    # Strict: an unclosed quote would swallow the rows below it.
    return csv.reader(io.StringIO(text), delimiter=delimiter, strict=strict, skipinitialspace=True)


def read_header(text: str) -> list[str]:
    """The columns of a CSV text; [] if it does not start like CSV."""
    try:
        return [column.strip() for column in next(filter(None, csv_reader(text, strict=False)), [])]
    except csv.Error:
        return []


def numbered_rows(text: str, source: str) -> list[tuple[int, list[str]]]:
    """The non-blank rows of a CSV text, each with its (last) line; spaces around values are stripped.

    The first line decides the delimiter. Raises `FrosterError` that begins with `source`.
    """
    reader = csv_reader(text)
    try:
        return [(reader.line_num, [value.strip() for value in row]) for row in reader if row]
    except csv.Error as error:
        raise FrosterError(f"{source} is not valid CSV after line {reader.line_num}: {error}.") from error


def read_rows(text: str, source: str) -> list[tuple[int, dict[str | None, str]]]:
    """The rows of a CSV text with a header, each with its line; spaces around values are stripped.

    Missing values are "", surplus values are under the key None. Raises `FrosterError` that begins with `source`.
    """
    (_, header), *rows = numbered_rows(text, source) or [(0, [])]
    table = []
    for line, values in rows:
        row: dict[str | None, str] = dict(zip_longest(header, values[: len(header)], fillvalue=""))
        if len(values) > len(header):
            row[None] = "".join(values[len(header) :])
        table.append((line, row))
    return table


def note_surplus(row: Mapping[str | None, str], line: int, problems: Problems) -> None:
    if None in row:
        problems["more values than columns; put quotes around a value with a comma"].append(str(line))


def read_segment(start: str, end: str, place: str, problems: Problems) -> tuple[float | None, float | None]:
    """Start and end in seconds, None if empty; invalid values are added to `problems`."""
    for key, value in (("start", start), ("end", end)):
        if value and as_seconds(value) is None:
            problems[f"{key} is not a number of seconds"].append(f"{place}: {value!r}")
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
    """Raises `FrosterError` with all problems and their first lines, if there are any."""
    if problems:
        described = (f"{problem} ({units[len(places) > 1]} {listed(places)})" for problem, places in problems.items())
        raise FrosterError(f"{source} has invalid rows: {'; '.join(described)}.")


def videos_of_split(videos: Sequence[LabeledVideo], split: str, source: str) -> list[LabeledVideo]:
    chosen = [video for video in videos if split in video.splits]
    if not chosen:
        splits = dict.fromkeys(word for video in videos for word in video.splits)
        available = f"its splits are {', '.join(splits)}" if splits else "its column `split` is missing or empty"
        raise FrosterError(f"{source} has no videos of the split {split!r}; {available}.")
    return chosen


def describe_splits(videos: Sequence[LabeledVideo]) -> str | None:
    """The number of rows per split, such as "52 train, 13 test"; None if all rows share a split, or none has one."""
    counts = Counter(split for video in videos for split in dict.fromkeys(video.splits))
    if not counts or max(counts.values()) == len(videos):
        return None
    return listed(f"{count} {split}" for split, count in counts.most_common())


def write_manifest(path: Path, videos: Iterable[LabeledVideo]) -> None:
    """Write a manifest atomically; optional columns are written if some row has a value.

    Paths under the manifest's folder are written relative to it, others as absolute paths.
    """
    folder = path.parent.absolute()
    rows = [cells(video, folder) for video in videos]
    columns = [*COLUMNS, *(column for column in OPTIONAL if any(row[column] for row in rows))]
    table = io.StringIO()
    writer = csv.DictWriter(table, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    with replace_when_written(path) as temporary:
        # Names of files are bytes, and need not be UTF-8.
        temporary.write_text(table.getvalue(), encoding="utf-8", errors="surrogateescape", newline="\n")


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


def class_indices(videos: Sequence[LabeledVideo], names: Sequence[str], manifest: str | Path) -> list[int]:
    """The index of each video's label among the class names.

    A label that differs from exactly one class only in case, spaces or punctuation is read as that class, with a
    warning. Raises `FrosterError` that names `manifest` and the unknown labels, each with the closest class.
    """
    indices = {name: index for index, name in enumerate(names)}
    labels = dict.fromkeys(video.label for video in videos)
    respelled = respelled_labels([label for label in labels if label not in indices], names)
    indices |= {label: indices[name] for label, name in respelled.items()}
    unknown = [video.label for video in videos if video.label not in indices]
    if unknown:
        labels = dict.fromkeys(unknown)
        described = [f"{label!r}{hint(label, names)}" for label in list(labels)[:MAX_LISTED]]
        rows = "1 row has a label that is" if len(unknown) == 1 else f"{len(unknown)} rows have labels that are"
        raise FrosterError(
            f"The manifest {manifest}: {rows} not among the {len(names)} classes, "
            f"{listed(described + list(labels)[MAX_LISTED:])}; add them to the labels or remove these rows."
        )
    if respelled:
        pairs = [f"{label!r} as {name!r}" for label, name in respelled.items()]
        warnings.warn(
            f"The manifest {manifest} spells labels differently than the classes; it is read with {listed(pairs)}.",
            FrosterWarning,
            stacklevel=2,
        )
    return [indices[video.label] for video in videos]


def respelled_labels(labels: Iterable[str], names: Iterable[str]) -> dict[str, str]:
    """Labels that differ from exactly one name only in case, spaces or punctuation -> that name."""
    spellings = defaultdict[str, list[str]](list)
    for name in names:
        spellings[name_key(name)].append(name)
    matches = {label: spellings.get(name_key(label), []) for label in labels}
    return {label: candidates[0] for label, candidates in matches.items() if len(candidates) == 1}


def hint(label: str, names: Iterable[str]) -> str:
    """`" (did you mean 'CLASS'?)"` with the class of the most similar spelling, or ""."""
    spellings = {name_key(name): name for name in names}
    near = difflib.get_close_matches(name_key(label), spellings, n=1, cutoff=0.8)
    return f" (did you mean {spellings[near[0]]!r}?)" if near else ""


def describe_header(text: str) -> str:
    """The first line of a CSV file, for a message."""
    line = next(iter(text.splitlines()), "")
    shown = line if len(line) <= MAX_HEADER else f"{line[:MAX_HEADER]}…"
    return f"its first line is {shown!r}"


def listed(items: Iterable[str]) -> str:
    """The first few items, and the number of the others, for a message."""
    items = list(items)
    return ", ".join(items[:MAX_LISTED]) + (f" and {len(items) - MAX_LISTED} more" if len(items) > MAX_LISTED else "")
