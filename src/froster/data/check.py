"""Whether a data set's videos are all there and can be read, and a manifest of those that can."""

import csv
import io
import json
import os
import re
import zlib
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Sequence, Set
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from froster.data.datasets import TIMED, DataSet, VideoIndex, without_suffix
from froster.data.lists import SPLITS, ListedVideo, read_list
from froster.data.manifests import LabelledVideo, listed, write_manifest
from froster.data.vocabularies import canonical_names, readable_name
from froster.errors import FrosterError, VideoError
from froster.files import csv_cell, replace_when_written
from froster.text.names import name_key
from froster.video import decode
from froster.video.timeline import Timeline

# fmt: off
LIST_FOLDERS = frozenset({
    "annotation", "annotations", "labels", "lists", "splits",
    "ucftraintestlist", "ucf101traintestsplitsrecognitiontask",
    "testtrainsplits", "testtrainmulti7030splits",
    "20bnsomethingsomethingdownloadpackagelabels",
})
# fmt: on
SPLIT_WORD = "|".join(SPLITS)
SPLIT_FOLDER = re.compile(
    rf"(?:videos?|clips?|k(?:inetics)?[-_]?[46]00)?[-_ ]*({SPLIT_WORD})[-_ ]*(?:videos?|clips?|set|\d+)?"
)
PROBED = 5  # films of a Kinetics that are opened to see whether they are cut already
Key = tuple[str, int, int, float | None, float | None]  # path, bytes, nanosecond of change, start, end
Verdict = tuple[str, str]  # why a video cannot be read, what part of it cannot; "" where nothing is wrong
Seen = Callable[[int, int], None]  # called with the videos decoded so far, and how many there are


@dataclass(frozen=True)
class Row:
    """A video that a list or a class folder names, and its file where there is one."""

    name: str
    label: str
    splits: tuple[str, ...] = ()
    start: float | None = None
    end: float | None = None
    path: Path | None = None


Foreign = defaultdict[str, list[Row]]  # by what a list or a folder calls their class


@dataclass(frozen=True)
class SplitCount:
    """Videos of a split: as published, where that number is fixed, as the lists name them, as they are on the disk."""

    published: int | None
    listed: int
    found: int
    unreadable: int


@dataclass(frozen=True)
class DataReport:
    """What a data set's folder holds.

    `videos`: the manifest's rows. `splits`: counts by split, the last one, `"all"`, of every video once. `missing`:
    names that no file has; `absent`: videos published that no list names. `foreign`: labels, or class folders, that
    are no class of the data set, with their videos. `unlisted`: files that nothing names, `copies` of which are second
    copies. `unlabelled`: videos found whose list gives no class. `unreadable` (not among `videos`) and `partial`: pairs
    (path under the root, reason). `closed`: folders under the root that there is no permission to look into.
    `listless`: splits of the data set that the lists leave out; `lacks_lists`: not on purpose, as far as one can see.
    `lacking`: of each split of class folders, the classes without a video in it.
    """

    data_set: DataSet
    root: Path
    lists: list[Path]
    manifest: Path
    videos: list[LabelledVideo]
    splits: dict[str, SplitCount]
    missing: list[str]
    absent: int
    foreign: dict[str, int]
    unlisted: list[str]
    copies: int
    unlabelled: int
    unreadable: list[tuple[str, str]]
    partial: list[tuple[str, str]]
    closed: list[str]
    listless: list[str]
    lacks_lists: bool
    lacking: dict[str, list[str]]

    @property
    def complete(self) -> bool:
        """Whether every video is there, has a class, and could be read as far as that was tried."""
        lacks = self.missing or self.unreadable or self.foreign or self.closed
        return not (lacks or self.lacks_lists or (self.absent and not self.lists))

    @property
    def empty_classes(self) -> list[str]:
        """Classes of the vocabulary without a video in the manifest."""
        there = {video.label for video in self.videos}
        return [name for name in self.data_set.classes if name not in there]

    def to_json(self) -> dict[str, Any]:
        """Everything, in plain types; of the manifest's videos their number."""
        return {
            "data_set": self.data_set.name,
            "root": str(self.root),
            "lists": [str(path) for path in self.lists],
            "manifest": str(self.manifest),
            "videos": len(self.videos),
            "classes": len({video.label for video in self.videos}),
            "empty_classes": self.empty_classes,
            "complete": self.complete,
            "splits": {name: vars(count) for name, count in self.splits.items()},
            "missing": self.missing,
            "absent": self.absent,
            "foreign": self.foreign,
            "unlisted": self.unlisted,
            "copies": self.copies,
            "unlabelled": self.unlabelled,
            "unreadable": [{"video": video, "reason": reason} for video, reason in self.unreadable],
            "partial": [{"video": video, "reason": reason} for video, reason in self.partial],
            "closed": self.closed,
            "listless": self.listless,
            "lacking": self.lacking,
        }


def check_data(
    data_set: DataSet,
    root: Path,
    lists: Sequence[Path],
    manifest: Path,
    *,
    decode_all: bool = False,
    thorough: bool = False,
    workers: int = 2,
    test_share: float | None = None,
    seed: int = 0,
    seen: Seen | None = None,
) -> DataReport:
    """Compare a folder with its data set's lists, or with its own class folders, and write the manifest.

    `lists`: list files or folders of them; without any, those are taken that lie where people keep them. With
    `decode_all` every video is opened and three of its frames decoded, with `thorough` all of them; results are kept in
    `NAME.decoded.jsonl` beside the manifest, so that no file is decoded twice while it stays the same.
    `NAME.missing.txt`, `NAME.unreadable.csv` and `NAME.partial.csv` appear beside it where they have something to say.
    `test_share` of each class's readable clips, as far as that is known, become the split test.

    Raises `FrosterError`: no videos, no classes, lists that are of something else, nothing to put into a manifest.
    """
    folder = root.resolve() if ".." in root.parts else root.absolute()
    if not folder.is_dir():
        raise FrosterError(f"There is no folder {root}.")
    index = VideoIndex(folder)
    if not index.paths:
        nowhere = " that there is permission to look into" if index.closed else ""
        raise FrosterError(f"There is no video file under {root}{nowhere}.")
    # A folder without the data set's own lists may be of another format that has several files.
    chosen = any(not path.is_dir() for path in lists)
    lists = [file for path in lists for file in ((path.is_dir() and lists_in(data_set, path)) or [path])]
    lists = lists or find_lists(data_set, root if root.name not in ("", "..") else folder)
    if lists:
        if test_share is not None:
            raise FrosterError(f"`test_share=` is for folders without lists; {listed(map(str, lists))} has splits.")
        rows, foreign = rows_of_lists(data_set, lists, index)
        rows = without_needless_segments(without_borrowed_files(rows))
    else:
        rows, foreign = rows_of_folders(data_set, index, root)
        if test_share is not None and any(row.splits for row in rows):
            raise FrosterError(f"{root} has folders for its splits; leave out `test_share=`.")
    videos, journal = labelled_videos(rows), beside(manifest, "decoded.jsonl")
    if decode_all or thorough:
        verdicts = decode_videos(videos, journal, workers, thorough, seen)
    else:
        verdicts = recall(videos, journal)
    bad = {video: verdict[0] for video, verdict in verdicts.items() if verdict[0]}
    if test_share is not None:
        rows = with_test_split(rows, {video.path for video in bad}, test_share, seed)
        videos = labelled_videos(rows)
    used = {str(row.path) for of in (rows, *foreign.values()) for row in of}
    unlisted = [path for path in index.paths if str(folder / path) not in used]
    stems = {bare_name(path) for path in used}
    strays = [path for path in unlisted if bare_name(path) not in stems]
    readable = [video for video in videos if video not in bad]
    listless = splits_without_list(data_set, rows) if lists else []
    report = DataReport(
        data_set,
        root,
        lists,
        manifest,
        readable,
        count_splits(data_set, rows, bad, bool(lists)),
        [row.name for row in rows if not row.path] + ([] if lists else index.dead_links),
        max(0, (data_set.videos or 0) - len(rows)),
        {name: len(of) for name, of in foreign.items()},
        unlisted,
        len(unlisted) - len(strays),
        sum(row.path is not None and not row.label for row in rows),
        [(str(video.path.relative_to(folder)), reason) for video, reason in bad.items()],
        [
            (str(video.path.relative_to(folder)), warning)
            for video, (error, warning) in verdicts.items()
            if warning and not error
        ],
        index.closed,
        listless,
        bool(listless) and not chosen and (bool(data_set.split_videos) or could_be_of(strays, listless)),
        {} if data_set.classes else classes_by_split_lacking(rows, readable),
    )
    write_report(report, folder)
    return report


def labelled_videos(rows: Iterable[Row]) -> list[LabelledVideo]:
    """The rows that have a file and a class."""
    return [
        LabelledVideo(row.path, row.label, row.splits, row.start, row.end) for row in rows if row.path and row.label
    ]


def splits_without_list(data_set: DataSet, rows: Sequence[Row]) -> list[str]:
    """The splits that the data set has and the lists do not; none where the lists know of no splits."""
    listed_splits = {word for row in rows for word in row.splits}
    if not listed_splits:
        return []
    known = data_set.split_videos or (data_set.train_split, data_set.test_split)
    return [split for split in known if split not in listed_splits]


def could_be_of(paths: Iterable[str], splits: Sequence[str]) -> bool:
    """Whether a video may belong to one of the splits: it lies in no folder of another one."""
    return any(
        {split for folder in path.split("/")[:-1] if (split := split_of_folder(folder))} <= {*splits} for path in paths
    )


def classes_by_split_lacking(rows: Iterable[Row], readable: Sequence[LabelledVideo]) -> dict[str, list[str]]:
    """For each split that some classes have no readable video in, those classes."""
    labels = sorted({row.label for row in rows})
    there = {(video.label, word) for video in readable for word in video.splits}
    splits = sorted({word for _, word in there}, key=split_order)
    lacking = {word: [label for label in labels if (label, word) not in there] for word in splits}
    return {word: names for word, names in lacking.items() if names}


def bare_name(path: str) -> str:
    return without_suffix(path.rpartition("/")[2])


def write_report(report: DataReport, folder: Path) -> None:
    """The manifest and, beside it, what is missing and what cannot be read; lists with nothing in them go away."""
    unreadable = beside(report.manifest, "unreadable.csv")
    write_or_remove(beside(report.manifest, "missing.txt"), "".join(f"{name}\n" for name in report.missing))
    write_or_remove(unreadable, table_of_reasons(report.unreadable, folder))
    write_or_remove(beside(report.manifest, "partial.csv"), table_of_reasons(report.partial, folder))
    if not report.videos:
        if report.unreadable:
            raise FrosterError(
                f"None of the {len(report.unreadable)} videos can be read, so there is no manifest; see {unreadable}."
            )
        raise FrosterError(f"The lists {listed(map(str, report.lists))} give no class to any video that is there.")
    write_manifest(report.manifest, report.videos)


def table_of_reasons(videos: Sequence[tuple[str, str]], folder: Path) -> str:
    """CSV of path and reason; empty without any."""
    table = io.StringIO()
    rows = [(csv_cell(str(folder / video)), csv_cell(reason)) for video, reason in videos]
    if rows:
        csv.writer(table, lineterminator="\n").writerows([("path", "reason"), *rows])
    return table.getvalue()


def write_or_remove(path: Path, text: str) -> None:
    if not text:
        path.unlink(missing_ok=True)
        return
    with replace_when_written(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def beside(manifest: Path, ending: str) -> Path:
    return manifest.with_name(f"{manifest.stem}.{ending}")


def find_lists(data_set: DataSet, root: Path) -> list[Path]:
    """A data set's list files, or the folder of them, in the root, beside it, or in a folder such as `annotations`."""
    for home in (root, root.parent):
        inner = list_folders(home)
        for folder in (home, *inner, *(deeper for one in inner for deeper in list_folders(one))):
            if found := lists_in(data_set, folder):
                return found
    return []


def list_folders(home: Path) -> list[Path]:
    return [folder for folder in entries(home) if name_key(folder.name) in LIST_FOLDERS and folder.is_dir()]


def lists_in(data_set: DataSet, folder: Path) -> list[Path]:
    """The lists of a data set that lie directly in a folder; the folder itself, where they are read together."""
    found = [file for file in entries(folder) if is_list_of(data_set, file)]
    return [folder] if found and data_set.lists_are_a_folder else found


def entries(folder: Path) -> list[Path]:
    """What is in a folder; nothing, where one may not look: what is beside the data may be nobody's business."""
    try:
        return sorted(folder.iterdir())
    except PermissionError:
        return []


def is_list_of(data_set: DataSet, file: Path) -> bool:
    """Whether a file is a list by its name; of Kinetics by its columns too: many tables are called train.csv."""
    if not data_set.list_files or not re.fullmatch(data_set.list_files, file.name) or not file.is_file():
        return False
    if not data_set.name.startswith("kinetics"):
        return True
    others = {"400", "600", "700"} - {data_set.name.removeprefix("kinetics-")}
    with file.open(encoding="utf-8", errors="replace") as lines:
        return "youtube_id" in lines.readline() and not any(other in file.name for other in others)


def rows_of_lists(data_set: DataSet, lists: Sequence[Path], index: VideoIndex) -> tuple[list[Row], Foreign]:
    """A row for each video of the lists, its labels in the vocabulary's spelling; apart, rows with labels of no class.

    Raises `FrosterError` where lists contradict each other, or no video of theirs is there.
    """
    merged = dict[tuple[str, float | None, float | None], ListedVideo]()
    for path in lists:
        for video in read_list(path):
            key = video.name, video.start, video.end
            before = merged.get(key, video)
            if before.label and video.label and before.label != video.label:
                raise FrosterError(
                    f"The lists {listed(map(str, lists))} contradict each other: {video.name} is {before.label!r} and "
                    f"{video.label!r}."
                )
            splits = tuple(dict.fromkeys(before.splits + video.splits))
            merged[key] = replace(video, label=before.label or video.label, splits=splits)
    videos = list(merged.values())
    labels = [video.label for video in videos]
    if data_set.classes:
        labels = canonical_names(labels, data_set.classes)
    known = {*(data_set.classes or labels), ""}
    rows, foreign = list[Row](), Foreign(list)
    for video, label in zip(videos, labels, strict=True):
        row = Row(video.name, label, video.splits, video.start, video.end, index.find(video.name, label))
        (rows if label in known else foreign[label]).append(row)
    names = listed(map(str, lists))
    if not rows:
        label = next(iter(foreign))
        raise FrosterError(
            f"No label of {names} is a class of {data_set.title}, for example {label!r}; give its lists with "
            "`lists=`, or another `dataset=`."
        )
    if not any(row.path for row in rows):
        raise FrosterError(
            f"None of the {len(rows)} videos that {names} names is among the {len(index)} under {index.root}, for "
            f"example {rows[0].name}; give the folder that holds the videos."
        )
    return rows, foreign


def without_borrowed_files(rows: Sequence[Row]) -> list[Row]:
    """Rows, of which those of several classes that found one file lose it, but for the class whose folder it is in."""
    labels = defaultdict[tuple[Path | None, float | None, float | None], set[str]](set)
    for row in rows:
        labels[row.path, row.start, row.end].add(row.label)
    return [
        replace(row, path=None)
        if row.path
        and len(labels[row.path, row.start, row.end]) > 1
        and name_key(row.label) not in map(name_key, row.path.parts)
        else row
        for row in rows
    ]


def without_needless_segments(rows: Sequence[Row]) -> list[Row]:
    """Rows, of which clips of Kinetics keep start and end only where the file is the whole film that they are cut from.

    A clip's own file has both in its name. Where the name is YouTube's id alone, some downloads hold the film and some
    the clip: a few are opened to see which.
    """
    timed = [row for row in rows if row.path and TIMED.fullmatch(bare_name(row.name))]
    films = [row for row in timed if row.path and not TIMED.fullmatch(row.path.stem)]
    probed = films[:: max(1, len(films) // PROBED)][:PROBED]
    lengths = [(seconds, row) for row in probed if row.path and (seconds := duration(row.path)) is not None]
    cut = bool(lengths) and all(seconds < (row.end or 0) - (row.start or 0) + 1 for seconds, row in lengths)
    needless = {id(row) for row in timed} - (set() if cut else {id(row) for row in films})
    return [replace(row, start=None, end=None) if id(row) in needless else row for row in rows]


def duration(path: Path) -> float | None:
    """Seconds; None for a file that cannot be read."""
    try:
        reading = decode.read(path, lambda timeline: np.zeros(1, np.int64), lambda image: None)
    except VideoError:
        return None
    return reading.timeline.duration


def rows_of_folders(data_set: DataSet, index: VideoIndex, root: Path) -> tuple[list[Row], Foreign]:
    """A row for each video in a class folder; apart, those in folders that are no class of the data set.

    Raises `FrosterError` where no video lies in a class folder.
    """
    above = {path: path.split("/")[:-1] for path in index.paths}
    names = known_class_folders(data_set, above) if data_set.classes else free_class_folders(above)
    spellings = {name_key(name): name for name in data_set.classes}
    rows, foreign = list[Row](), Foreign(list)
    for path, name in names.items():
        label = spellings.get(name_key(name), "") if data_set.classes else words(name)
        splits = [split for folder in above[path] if folder != name and (split := split_of_folder(folder))]
        row = Row(path, label, tuple(splits[:1]), path=index.root / path)
        (rows if label else foreign[name]).append(row)
    if rows:
        return rows, foreign
    no_class = f"{root} has no folders of classes"
    if foreign:
        no_class = f"No folder with videos under {root} is a class of {data_set.title} ({listed(map(repr, foreign))})"
    no_list = f", and there is no list such as {data_set.example}" if data_set.example else ""
    own = "; for classes of your own take `dataset='folder'`" if foreign else ""
    raise FrosterError(
        f"{no_class}{no_list}: lay the videos out as {root}/CLASS/VIDEO.mp4 or {root}/train/CLASS/VIDEO.mp4, or give a "
        f"list of them with `lists=`{own}."
    )


def known_class_folders(data_set: DataSet, above: dict[str, list[str]]) -> dict[str, str]:
    """For each video the deepest folder that is a class, else the one it lies in, unless that is a split."""
    classes = {name_key(name) for name in data_set.classes}
    names = {}
    for path, folders in above.items():
        inner = [folder for folder in folders if name_key(folder) in classes]
        inner = inner or [folder for folder in folders[-1:] if not split_of_folder(folder)]
        if inner:
            names[path] = inner[-1]
    return names


def free_class_folders(above: dict[str, list[str]]) -> dict[str, str]:
    """For each video the first folder that is neither a split nor shared by all of them."""
    folders = {tuple(of[: depth + 1]) for of in above.values() for depth in range(len(of))}
    parents = {folder[:-1] for folder in folders}
    among_classes = {folder[:-1] for folder in folders if not split_of_folder(folder[-1])}
    # A folder `test` without inner folders, beside folders of other names, is a class.
    classes = {
        folder
        for folder in folders
        if not split_of_folder(folder[-1]) or (folder not in parents and folder[:-1] in among_classes)
    }
    inner = {
        path: [of[depth] for depth in range(len(of)) if tuple(of[: depth + 1]) in classes] for path, of in above.items()
    }
    while len({of[0] for of in inner.values() if of}) == 1 and max(map(len, inner.values())) > 1:
        inner = {path: of[1:] for path, of in inner.items()}
    return {path: of[0] for path, of in inner.items() if of}


def split_of_folder(name: str) -> str:
    """train, val or test for `train`, `videos_val`, `test_256` and the like, else ""."""
    match = SPLIT_FOLDER.fullmatch(name.lower())
    return SPLITS[match[1]] if match else ""


def words(folder: str) -> str:
    """A class folder's name as words; dashes are separators where it has no others."""
    return readable_name(folder if re.search(r"[\s_]", folder.strip()) else folder.replace("-", " "))


def with_test_split(rows: Sequence[Row], unreadable: Set[Path], share: float, seed: int) -> list[Row]:
    """`share` of each class's videos, drawn by the seed, as the split test, the others as train; one at least in each.

    A video's draw depends on nothing but its path and the seed, so that few change sides when videos are added. The
    single video of a class is for training; those that cannot be read are in no split.
    """
    by_class = defaultdict[str, list[Row]](list)
    for row in rows:
        if row.path not in unreadable:
            by_class[row.label].append(row)
    tested = set[str]()
    for of_class in by_class.values():
        number = min(max(1, round(share * len(of_class))), len(of_class) - 1)
        draws = {row.name: np.random.default_rng((seed, zlib.crc32(row.name.encode()))).random() for row in of_class}
        tested.update(sorted(draws, key=lambda name: (draws[name], name))[:number])
    return [
        row if row.path in unreadable else replace(row, splits=("test" if row.name in tested else "train",))
        for row in rows
    ]


def count_splits(
    data_set: DataSet, rows: Sequence[Row], bad: Iterable[LabelledVideo], from_lists: bool
) -> dict[str, SplitCount]:
    """Counts by split, in the order of the data set's, and of all videos."""
    names = [*data_set.split_videos, *sorted({word for row in rows for word in row.splits}, key=split_order)]
    unreadable = Counter(word for video in bad for word in (*video.splits, ""))
    listed_videos = Counter(word for row in rows for word in (*row.splits, ""))
    found = Counter(word for row in rows if row.path for word in (*row.splits, ""))
    published = {**data_set.split_videos, "": data_set.videos}
    return {
        name or "all": SplitCount(
            published.get(name), listed_videos[name] if from_lists else found[name], found[name], unreadable[name]
        )
        for name in dict.fromkeys((*names, ""))
        if listed_videos[name] or from_lists
    }


def split_order(name: str) -> tuple[int, str]:
    order = list(dict.fromkeys(SPLITS.values()))
    return order.index(name) if name in order else len(order), name


def decode_videos(
    videos: Sequence[LabelledVideo], journal: Path, workers: int, thorough: bool = False, seen: Seen | None = None
) -> dict[LabelledVideo, Verdict]:
    """What is wrong with each video, decoding those that the journal does not know as they are now.

    `workers` threads open, survey and decode, with `thorough` every frame; every verdict is on the disk before the next
    but a few begins.
    """
    verdicts = recall(videos, journal, thorough)
    new = [video for video in dict.fromkeys(videos) if video not in verdicts]
    if not new:
        return verdicts
    journal.parent.mkdir(parents=True, exist_ok=True)
    with journal.open("a+b") as file, ThreadPoolExecutor(workers) as pool:
        if file.tell() and file.seek(-1, os.SEEK_END) and file.read() != b"\n":
            file.write(b"\n")  # after a line that a kill cut short
        waiting = deque[tuple[LabelledVideo, Key | None, Future[Verdict]]]()

        def note() -> None:
            video, key, verdict = waiting.popleft()
            verdicts[video] = verdict.result()
            if key is not None:
                file.write(json.dumps([*key, *verdicts[video], thorough]).encode() + b"\n")
                file.flush()
            if seen is not None:
                seen(len(verdicts), len(set(videos)))

        try:
            for video in new:
                waiting.append((video, identity(video), pool.submit(check_video, video, thorough)))
                if len(waiting) > 4 * workers:
                    note()
            while waiting:
                note()
        finally:
            pool.shutdown(cancel_futures=True)
    return verdicts


def recall(videos: Sequence[LabelledVideo], journal: Path, thorough: bool = False) -> dict[LabelledVideo, Verdict]:
    """The verdicts that a journal has on videos whose files have not changed since; only thorough ones, if asked."""
    if not journal.exists():
        return {}
    known = dict[Key, Verdict]()
    for line in journal.read_text(encoding="utf-8").splitlines():
        try:
            path, size, changed, start, end, error, warning, of_every_frame = json.loads(line)
        except (ValueError, TypeError):  # cut short by a kill, or damaged
            continue
        if of_every_frame or not thorough:
            known[path, size, changed, start, end] = error, warning
    keys = {video: identity(video) for video in videos}
    return {video: known[key] for video, key in keys.items() if key in known}


def identity(video: LabelledVideo) -> Key | None:
    """What a verdict is about; None for a file that may not be opened: a permission leaves no trace in these."""
    if not os.access(video.path, os.R_OK):
        return None
    status = video.path.stat()
    return str(video.path), status.st_size, status.st_mtime_ns, video.start, video.end


def check_video(video: LabelledVideo, thorough: bool = False) -> Verdict:
    """Open a video and decode the first, the middle and the last frame of its segment, or with `thorough` all frames.

    Returns why it cannot be read, and what part of it cannot (`"78 of 1000 frames are damaged; ..."`), each empty
    where nothing is wrong.
    """

    def choose(timeline: Timeline) -> NDArray[np.int64]:
        if thorough:
            return np.arange(len(timeline))
        return np.array([0, len(timeline) // 2, len(timeline) - 1])

    try:
        reading = decode.read(video.path, choose, lambda image: None, video.start, video.end)
    except (VideoError, OSError) as error:
        return str(error).removeprefix(f"{video.path}: "), ""
    return "", (reading.warning or "").removeprefix(f"{video.path.name}: ")
