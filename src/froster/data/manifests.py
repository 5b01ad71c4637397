"""Manifests: CSV files that list videos with their labels."""

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from froster.errors import FrosterError
from froster.files import replace_when_written

COLUMNS = ("path", "label")
NAMED = 5  # offenders that an error lists; the others are counted


@dataclass(frozen=True)
class LabelledVideo:
    """One row of a manifest."""

    path: Path
    label: str


def read_manifest(path: str | Path) -> list[LabelledVideo]:
    """Read a CSV file whose header has the columns path and label; other columns are ignored.

    UTF-8, with or without a byte order mark. Relative paths start at the manifest's folder; the videos themselves are
    not looked for. Raises `FrosterError`: the file cannot be read, lacks a column, lists nothing, or has rows without a
    path or a label or with more values than columns, all of which are named by their line.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise FrosterError(f"The manifest {path} cannot be read: {reason}.") from error
    reader = csv.DictReader(io.StringIO(text), strict=True)  # a quote left open would swallow the rows below it
    try:
        missing = [f"`{column}`" for column in COLUMNS if column not in (reader.fieldnames or ())]
        if missing:
            columns = f"column{'s' * (len(missing) > 1)} {' and '.join(missing)}"
            raise FrosterError(f"The manifest {path} lacks the {columns}; its first line is {text[:60]!r}.")
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
    return [LabelledVideo(path.parent / row["path"], row["label"].strip()) for _, row in rows]


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

    Raises `FrosterError` that names `manifest` and the labels that are no class.
    """
    places = {name: place for place, name in enumerate(names)}
    unknown = [video.label for video in videos if video.label not in places]
    if unknown:
        rows = "1 row has a label that is" if len(unknown) == 1 else f"{len(unknown)} rows have labels that are"
        raise FrosterError(
            f"The manifest {manifest}: {rows} not among the {len(names)} classes, "
            f"{listed(map(repr, dict.fromkeys(unknown)))}; add them to the labels or leave these rows out."
        )
    return [places[video.label] for video in videos]


def listed(items: Iterable[str]) -> str:
    """The first few items, and the number of the others."""
    items = list(items)
    return ", ".join(items[:NAMED]) + (f" and {len(items) - NAMED} more" if len(items) > NAMED else "")
