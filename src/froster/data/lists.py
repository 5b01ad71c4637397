"""Read published lists of videos: `read_list` recognizes their format and resolves class indices."""

import csv
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from froster.data.manifests import (
    ENTRIES,
    LINES,
    Problems,
    describe_header,
    listed,
    note_surplus,
    raise_problems,
    read_header,
    read_rows,
    read_segment,
    read_text,
)
from froster.data.vocabularies import readable_name
from froster.errors import FrosterError
from froster.files import read_cell
from froster.text.class_files import read_class_file
from froster.text.names import name_key

UCF_LIST = re.compile(r"(?:.*_)?(train|test)list0*(\d+)\.txt")
HMDB_LIST = re.compile(r"(.+)_test_split(\d)\.txt")
HMDB_PARTS: dict[str, tuple[str, ...]] = {"0": (), "1": ("train",), "2": ("test",)}
METADATA = ("metadata.csv", "metadata.jsonl")  # Hugging Face's video folders
MANIFEST_COLUMNS = {"path", "label"}
NAME_COLUMNS = ("path", "file_name", "video")
ID_COLUMNS = ("youtube_id", "video_id", "id")
LABEL_COLUMNS = ("template", "label", "text")  # Something-Something's `label` has the objects filled in
START_COLUMNS = ("time_start", "start")
END_COLUMNS = ("time_end", "end")
SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validate", "validation"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
NUMBER = re.compile(r"-?\d+")
FILE_AND_NUMBERS = re.compile(r".*\.[A-Za-z]\w{1,3}([\s,]+-?\d+)+")  # clip.mp4 3 17

Classes = dict[int, str]


@dataclass(frozen=True)
class ListedVideo:
    """One video of a list.

    `name`: path, file name or id as in the list; for Kinetics `ID_000055_000065`. `label`: the class in readable words,
    "" if the list has none. `splits`: for example ("train1", "test2", "train3") for UCF-101 and HMDB-51, else
    ("train",), ("val",) or ("test",). `start`, `end`: seconds. `line`: its (first) line, or entry of a JSON, from 1.
    """

    name: str
    label: str
    splits: tuple[str, ...] = ()
    start: float | None = None
    end: float | None = None
    line: int = 0


def read_list(path: str | Path, classes: str | Path | None = None) -> list[ListedVideo]:
    """Read a list of videos in any of these formats.

    Text `path label` (ViFi-CLIP, MMAction2, SlowFast), `path frames label` (MMAction2's folders of frames) or
    `path,label` (FROSTER) with class indices from the file `classes`, see `read_classes`; CSV of Kinetics; JSON of
    Something-Something, and its answers `id;label`; metadata.csv and metadata.jsonl of Hugging Face; UCF-101's
    ucfTrainTestlist and HMDB-51's testTrainMulti_7030_splits, the folder or one file of it; our own manifest, whose
    labels are kept as they are. Labels that are names must be in `classes` if given.

    Raises `FrosterError`: another format, no videos, or invalid rows, by line: without name or class, with an unknown
    class index, or with a video that is listed twice or under two classes.
    """
    path = Path(path)
    names = None if classes is None else read_classes(classes)
    problems, videos = Problems(list), dict[tuple[object, ...], ListedVideo]()
    for file in files_of_folder(path) if path.is_dir() else [path]:
        found = Problems(list)
        for video in read_file(file, names, found):
            if path.is_dir() and file.parent != path:
                video = replace(video, name=f"{file.parent.name}/{video.name}")
            key = (video.name, video.label, video.start, video.end)
            if earlier := videos.get(key):
                splits = tuple(dict.fromkeys(earlier.splits + video.splits))
                if any(split.startswith("train") and split.replace("train", "test") in splits for split in splits):
                    found["in the training and in the test list of one split"].append(str(video.line))
                video = replace(earlier, splits=splits)
            videos[key] = video
        for problem, places in found.items():
            problems[problem] += [f"{file.relative_to(path)}:{place}" if path.is_dir() else place for place in places]
    raise_problems(problems, f"The list {path}", ENTRIES if path.suffix == ".json" else LINES)
    if not videos:
        raise FrosterError(f"The list {path} lists no videos.")
    return list(videos.values())


def cut_name(video_id: str, start: float, end: float) -> str:
    """The file name of a Kinetics clip (without suffix)."""
    return f"{video_id}_{int(start):06d}_{int(end):06d}"


def files_of_folder(folder: Path) -> list[Path]:
    """The list files of a folder, in the order of their splits or classes."""
    files = sorted(file for file in folder.iterdir() if not file.name.startswith("."))
    ucf = {file: match for file in files if (match := UCF_LIST.fullmatch(file.name))}
    if ucf:
        return sorted(ucf, key=lambda file: (int(ucf[file][2]), ucf[file][1] == "test"))
    hmdb = {file: match for file in files if (match := HMDB_LIST.fullmatch(file.name))}
    if hmdb:
        classes, splits = (sorted({match[group] for match in hmdb.values()}) for group in (1, 2))
        expected = {f"{name}_test_split{split}.txt" for name in classes for split in splits}
        if missing := sorted(expected - {file.name for file in hmdb}):
            raise FrosterError(f"The folder {folder} is incomplete: it lacks {listed(missing)}.")
        return list(hmdb)
    metadata = [file / name for file in (folder, *filter(Path.is_dir, files)) for name in METADATA]
    if not (found := [file for file in metadata if file.is_file()]):
        raise FrosterError(
            f"The folder {folder} contains no trainlist01.txt, CLASS_test_split1.txt or metadata.csv; give a file."
        )
    return found


def read_file(path: Path, classes: Classes | None, problems: Problems) -> list[ListedVideo]:
    """The videos of one file, with their class names; invalid rows are added to `problems`."""
    source = f"The list {path}"
    text = read_text(path, source)
    columns = set(read_header(text))
    own = columns >= MANIFEST_COLUMNS
    if match := UCF_LIST.fullmatch(path.name):
        class_file = path.with_name("classInd.txt")
        numbers = read_classes(class_file) if class_file.is_file() else None
        videos = read_ucf(text, f"{match[1]}{match[2]}", numbers or {}, problems)
        classes = classes or numbers
    elif match := HMDB_LIST.fullmatch(path.name):
        videos = read_hmdb(text, match[1], match[2], problems)
    elif path.suffix == ".jsonl" or looks_like_json(text):
        videos = read_records(json_records(path, text, problems), path, problems)
    elif columns & {*NAME_COLUMNS, *ID_COLUMNS}:
        videos = read_records(csv_records(text, source, problems), path, problems, own)
    else:
        videos = read_lines(path, text, problems)
    note_repeated(videos, problems)
    return with_classes(videos, classes, str if own else readable_name, problems)


def with_classes(
    videos: Iterable[ListedVideo], classes: Classes | None, spell: Callable[[str], str], problems: Problems
) -> list[ListedVideo]:
    """Replace labels, class indices or names in any spelling, by the names in `classes`."""
    known = {name_key(name): name for name in (classes or {}).values()}
    named = []
    for video in videos:
        label, name = video.label, ""
        if NUMBER.fullmatch(label):
            if classes is None:
                problems["the labels are numbers; give the class names with `classes=`"].append(str(video.line))
            elif not (name := classes.get(int(label), "")):
                problems[f"an index outside the {len(classes)} classes"].append(f"{video.line}: {label}")
        elif label and classes is not None:
            if not (name := known.get(name_key(readable_name(label)), "")):
                problems[f"a name that is not among the {len(classes)} classes"].append(f"{video.line}: {label!r}")
        else:
            name = spell(label)
        named.append(replace(video, label=name))
    return named


def folders_of(name: str) -> list[str]:
    return re.split(r"[/\\]", name)[:-1]


def note_repeated(videos: Iterable[ListedVideo], problems: Problems) -> None:
    first = dict[tuple[str, float | None, float | None], ListedVideo]()
    for video in videos:
        earlier = first.setdefault((video.name, video.start, video.end), video)
        if video.name and earlier is not video:
            problem = "listed twice" if earlier.label == video.label else "listed under two classes"
            problems[problem].append(f"{earlier.line} and {video.line}")


def numbered_lines(text: str) -> list[tuple[int, str]]:
    """The non-blank lines, stripped, each with its number."""
    return [(line, content.strip()) for line, content in enumerate(text.split("\n"), 1) if content.strip()]


def read_ucf(text: str, split: str, classes: Classes, problems: Problems) -> list[ListedVideo]:
    """UCF-101: `Class/video.avi`; training lists add the class index of classInd.txt, which must match the folder."""
    videos = []
    for line, content in numbered_lines(text):
        name, *number = content.rsplit(None, 1) if re.search(r"\s\d+$", content) else [content]
        folder = folders_of(name)[-1:]
        of_number = [classes[int(number[0])]] if number and int(number[0]) in classes else []
        if folder and of_number and name_key(readable_name(folder[0])) != name_key(of_number[0]):
            problems["the class index does not match the folder"].append(str(line))
        label = [*folder, *of_number, *number][:1]
        if not label:
            problems["no class: neither a folder nor an index"].append(str(line))
        videos.append(ListedVideo(name, "".join(label), (split,), line=line))
    return videos


def read_hmdb(text: str, label: str, split: str, problems: Problems) -> list[ListedVideo]:
    """HMDB-51: `video.avi 1` in the file of a class and a split; 1 is train, 2 test, 0 neither."""
    videos = []
    for line, content in numbered_lines(text):
        name, *part = content.rsplit(None, 1)
        if not part or part[0] not in HMDB_PARTS:
            problems["not a name and 0, 1 or 2"].append(str(line))
        else:
            videos.append(ListedVideo(name, label, tuple(f"{word}{split}" for word in HMDB_PARTS[part[0]]), line=line))
    return videos


def read_lines(path: Path, text: str, problems: Problems) -> list[ListedVideo]:
    """`path label`, `path frames label` or `path,label` with class indices, or `id;label`; the first line decides."""
    lines = numbered_lines(text)
    if not lines:
        return []
    first = lines[0][1]
    if re.fullmatch(r"\d+;.+", first):
        return read_answers(lines, split_of_path(path), problems)
    if not re.fullmatch(r".*[\s,]-?\d+", first):
        raise FrosterError(
            f"The list {path} has an unknown format. Known are lines of path and number, CSV with a header like "
            f"path,label, and the JSON of Something-Something; {describe_header(text)}."
        )
    commas = re.fullmatch(r".*,\s*-?\d+", first) is not None
    numbers = 1 if commas else min(trailing_numbers(content) for _, content in lines) or 1
    videos = []
    for line, content in lines:
        name, *label = comma_fields(content) if commas else content.rsplit(None, numbers)
        if not label or not NUMBER.fullmatch(label[-1]):
            problems["not a path and a number"].append(str(line))
        elif not name:
            problems["no name"].append(str(line))
        elif FILE_AND_NUMBERS.fullmatch(" ".join((name, *label[:-1]))):
            problems["several labels"].append(str(line))
        else:
            videos.append(ListedVideo(name, label[-1], line=line))
    return videos


def read_answers(lines: Sequence[tuple[int, str]], splits: tuple[str, ...], problems: Problems) -> list[ListedVideo]:
    videos = []
    for line, content in lines:
        name, _, label = content.partition(";")
        if not name or not label:
            problems["not id;label"].append(str(line))
        videos.append(ListedVideo(name.strip(), label.strip(), splits, line=line))
    return videos


def comma_fields(line: str) -> list[str]:
    """Path and label; commas in an unquoted path are kept."""
    fields = next(csv.reader([line])) if line.startswith('"') else line.rsplit(",", 1)
    return [field.strip() for field in fields]


def trailing_numbers(line: str) -> int:
    words = line.split()[1:]
    return next((count for count, word in enumerate(reversed(words)) if not NUMBER.fullmatch(word)), len(words))


def looks_like_json(text: str) -> bool:
    return re.match(r"\s*(\{|\[\s*[\[{\]\"])", text) is not None


def csv_records(text: str, source: str, problems: Problems) -> list[tuple[int, dict[str, str]]]:
    records = []
    for line, row in read_rows(text, source):
        note_surplus(row, line, problems)
        records.append((line, {column: value for column, value in row.items() if column is not None}))
    return records


def json_records(path: Path, text: str, problems: Problems) -> list[tuple[int, dict[str, str]]]:
    """The objects of a JSON list or of JSON lines, with their entry or line numbers."""
    records = []
    for number, entry in json_entries(path, text, problems):
        if isinstance(entry, dict):
            records.append((number, {key: "" if value is None else str(value).strip() for key, value in entry.items()}))
        else:
            problems["not an object, {…}"].append(str(number))
    return records


def json_entries(path: Path, text: str, problems: Problems) -> list[tuple[int, Any]]:
    if path.suffix != ".jsonl":
        entries = parse_json(text, f"The list {path}")
        if isinstance(entries, dict):
            raise FrosterError(
                f"The list {path} is not a list of videos; if these are class names, give them with `classes=`."
            )
        return list(enumerate(entries, 1))
    lines = []
    for line, content in numbered_lines(text):
        try:
            lines.append((line, json.loads(content)))
        except (json.JSONDecodeError, RecursionError):
            problems["invalid JSON"].append(str(line))
    return lines


def parse_json(text: str, source: str) -> dict[str, Any] | list[Any]:
    try:
        content: dict[str, Any] | list[Any] = json.loads(text)
        return content
    except (json.JSONDecodeError, RecursionError) as error:
        where = f"line {error.lineno}, {error.msg}" if isinstance(error, json.JSONDecodeError) else "nested too deeply"
        raise FrosterError(f"{source} is not valid JSON: {where}.") from error


def read_records(
    records: Sequence[tuple[int, Mapping[str, str]]], path: Path, problems: Problems, own: bool = False
) -> list[ListedVideo]:
    """Rows with named columns: Kinetics, Something-Something, Hugging Face's metadata and our `own` manifests."""
    columns = {column for _, record in records for column in record}

    def column_of(names: Iterable[str]) -> str:
        return next((name for name in names if name in columns), "")

    name_column, label_column = column_of((*NAME_COLUMNS, *ID_COLUMNS)), column_of(LABEL_COLUMNS)
    start_column, end_column = column_of(START_COLUMNS), column_of(END_COLUMNS)
    cut = name_column in ID_COLUMNS and bool(start_column and end_column)
    unlabeled = not any(record.get(label_column) for _, record in records)
    videos = []
    for line, record in records:
        name, label = record.get(name_column, ""), record.get(label_column, "")
        if own:
            name, label = read_cell(name), read_cell(label)
        start, end = read_segment(record.get(start_column, ""), record.get(end_column, ""), str(line), problems)
        split = read_cell(record.get("split", "")).split()
        if own:
            splits = tuple(split)
        elif split:
            splits = tuple(SPLITS.get(word.lower(), word) for word in split)
        else:
            splits = split_of_path(path, name)
        if not name:
            problems["no name"].append(str(line))
        if not label and (own or not (unlabeled or "test" in splits)):
            problems["no label"].append(str(line))
        if cut and (start is None or end is None):
            problems["no start and end"].append(str(line))
        elif cut and start is not None and end is not None:
            name = cut_name(name, start, end)
        videos.append(ListedVideo(name, label, splits, start, end, line))
    return videos


def split_of_path(path: Path, name: str = "") -> tuple[str, ...]:
    """The split in a list's file name, or in the folder of the video or the list."""
    words = {SPLITS[word] for word in re.split(r"[^a-z]+", path.stem.lower()) if word in SPLITS}
    if len(words) == 1:
        return tuple(words)
    folders = [*folders_of(name)[:1], path.absolute().parent.name]
    return tuple(SPLITS[folder.lower()] for folder in folders if folder.lower() in SPLITS)[:1]


def read_classes(path: str | Path) -> Classes:
    """Class index -> name in readable words, from a file in any format of `read_class_file`.

    Without indices, they count from 0. Raises `FrosterError` for another format, and for missing or duplicate indices
    or names.
    """
    source = f"The class file {path}"
    file = read_class_file(path, source, any_numbers=True)
    if not file.numbered and any(one.description for one in file.classes):
        raise FrosterError(f'{source} must be JSON like {{"0": "name"}}, {{"name": 0}} or ["name", …], or text.')
    problems = Problems(list)
    numbers = [one.number if file.numbered else str(place) for place, one in enumerate(file.classes)]
    entries = ((one.place, (number, one.name)) for number, one in zip(numbers, file.classes, strict=True))
    classes = check_classes(entries, problems)
    raise_problems(problems, source, LINES if file.by_line else ENTRIES)
    if not classes:
        raise FrosterError(f"{source} is empty.")
    return classes


def check_classes(entries: Iterable[tuple[int, tuple[str, str]]], problems: Problems) -> Classes:
    """Index -> name in readable words, from (line or entry, (index, name)); invalid ones are added to `problems`."""
    classes, spellings = Classes(), set[str]()
    for place, (number, quoted) in entries:
        name = readable_name(quoted.strip().strip('"'))  # SlowFast's JSON has quoted names
        if not NUMBER.fullmatch(number):
            problems["no index"].append(str(place))
        elif int(number) in classes:
            problems["a duplicate index"].append(f"{place}: {number}")
        elif not name:
            problems["no name"].append(str(place))
        elif name_key(name) in spellings:
            problems["a duplicate name"].append(f"{place}: {name!r}")
        else:
            classes[int(number)] = name
            spellings.add(name_key(name))
    return classes
