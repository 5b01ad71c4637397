"""Manifests: CSV files that list videos with their labels."""

import csv
import difflib
import io
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from froster.errors import FrosterError
from froster.files import replace_when_written

COLUMNS = ("path", "label")
NAMED = 5  # offenders that an error lists; the others are counted
SHOWN = 80  # characters of a file's first line that an error shows


@dataclass(frozen=True)
class LabelledVideo:
    """One row of a manifest."""

    path: Path
    label: str


def read_manifest(path: str | Path) -> list[LabelledVideo]:
    """Read a CSV file whose header has the columns path and label; other columns are ignored.

    UTF-8, with or without a byte order mark; spaces around a value do not count. Relative paths start at the manifest's
    folder; the videos themselves are not looked for. Raises `FrosterError`: the file cannot be read, lacks a column,
    lists nothing, or has rows without a path or a label or with more values than columns, all of which are named by
    their line.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise FrosterError(f"The manifest {path} cannot be read: {reason}.") from error
    # Strict: a quote left open would swallow the rows below it.
    reader = csv.DictReader(io.StringIO(text), strict=True, skipinitialspace=True)
    try:
        reader.fieldnames = [column.strip() for column in reader.fieldnames or ()]
        missing = [f"`{column}`" for column in COLUMNS if column not in reader.fieldnames]
        if missing:
            columns = f"column{'s' * (len(missing) > 1)} {' and '.join(missing)}"
            raise FrosterError(f"The manifest {path} lacks the {columns}; {describe_header(text)}.")
        rows = [(reader.line_num, row) for row in reader]
    except csv.Error as error:
        raise FrosterError(f"The manifest {path} is not valid CSV after line {reader.line_num}: {error}.") from error
    bad = [line for line, row in rows if not all((row[c] or "").strip() for c in COLUMNS) or None in row]
    if bad:
        lines = f"line{'s' * (len(bad) > 1)} {listed(map(str, bad))}"
        raise FrosterError(
            f"The manifest {path} needs a path and a label in every row, and quotes around a value with a comma: "
            f"see {lines}."
        )
    if not rows:
        raise FrosterError(f"The manifest {path} lists no videos.")
    return [LabelledVideo(path.parent / row["path"].strip(), row["label"].strip()) for _, row in rows]


def write_manifest(path: Path, videos: Iterable[tuple[str | PurePath, str]]) -> None:
    """Write rows of a path (relative to the manifest's folder) and a label, whole or not at all."""
    table = io.StringIO()
    rows = csv.writer(table, lineterminator="\n")
    rows.writerow(COLUMNS)
    rows.writerows((PurePath(video).as_posix(), label) for video, label in videos)
    with replace_when_written(path) as temporary:
        temporary.write_text(table.getvalue(), encoding="utf-8", newline="\n")


def class_indices(videos: Sequence[LabelledVideo], names: Sequence[str], manifest: Path) -> list[int]:
    """The place of each video's label among the class names.

    Raises `FrosterError` that names `manifest` and the labels that are no class, each with the class that is near it.
    """
    places = {name: place for place, name in enumerate(names)}
    unknown = [video.label for video in videos if video.label not in places]
    if unknown:
        labels = list(dict.fromkeys(unknown))
        described = [f"{label!r}{hint(label, names)}" for label in labels[:NAMED]]
        rows = "1 row has a label that is" if len(unknown) == 1 else f"{len(unknown)} rows have labels that are"
        raise FrosterError(
            f"The manifest {manifest}: {rows} not among the {len(names)} classes, "
            f"{listed(described + labels[NAMED:])}; add them to the labels or leave these rows out."
        )
    return [places[video.label] for video in videos]


def hint(label: str, names: Iterable[str]) -> str:
    """A question in brackets: the class that is spelled like the label but for case and separators, or nearly so."""
    spellings = {plain_spelling(name): name for name in names}
    near = difflib.get_close_matches(plain_spelling(label), spellings, n=1, cutoff=0.8)
    return f" (did you mean {spellings[near[0]]!r}?)" if near else ""


def plain_spelling(name: str) -> str:
    return re.sub(r"[\s_-]", "", name.casefold())


def describe_header(text: str) -> str:
    """For a message: the first line of a CSV file, and that commas are expected where it has other separators."""
    line = next(iter(text.splitlines()), "")
    shown = line if len(line) <= SHOWN else f"{line[:SHOWN]}…"
    commas = ", but columns are separated by commas here" if "," not in line and re.search("[;\t]", line) else ""
    return f"its first line is {shown!r}{commas}"


def listed(items: Iterable[str]) -> str:
    """The first few items, and the number of the others."""
    items = list(items)
    return ", ".join(items[:NAMED]) + (f" and {len(items) - NAMED} more" if len(items) > NAMED else "")
