"""Facts about the common datasets, and an index that finds the videos of one on disk."""

import os
import re
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import takewhile
from pathlib import Path

from froster.data.vocabularies import VOCABULARIES, VOCABULARY_SPELLINGS, read_vocabulary
from froster.errors import FrosterError, FrosterWarning, did_you_mean
from froster.files import is_dead_link
from froster.text.names import name_key
from froster.video.files import FILE_SUFFIXES

TIMED = re.compile(r"(?P<id>.{11})_\d{6}_\d{6}")  # a Kinetics clip: YouTube id, start and end second


@dataclass(frozen=True)
class Dataset:
    """What is published about a dataset.

    `title`: its name in the papers' tables; `train_split`, `test_split`: values of a manifest's column split;
    `videos`, `split_videos`: published numbers, if fixed; `list_files`: pattern of the names of its list files;
    `lists_are_a_folder`: they are read together; `example`: the usual path of a list.
    """

    name: str
    title: str
    train_split: str
    test_split: str
    videos: int | None = None
    split_videos: Mapping[str, int] = field(default_factory=dict)
    list_files: str = ""
    lists_are_a_folder: bool = False
    example: str = ""

    @property
    def classes(self) -> tuple[str, ...]:
        """Its vocabulary; () if class names are those of the folders."""
        return read_vocabulary(self.name) if self.name in VOCABULARIES else ()


KINETICS_LISTS = r"(?:.*[-_])?(?:train|val|validate|validation|test)\.csv"
DATASETS: dict[str, Dataset] = {
    one.name: one
    for one in (
        Dataset(
            "ucf-101",
            "UCF-101",
            "train1",
            "test1",
            13_320,
            {"train1": 9537, "test1": 3783, "train2": 9586, "test2": 3734, "train3": 9624, "test3": 3696},
            r"(?:train|test)list0[123]\.txt",
            True,
            "ucfTrainTestlist/trainlist01.txt",
        ),
        Dataset(
            "hmdb-51",
            "HMDB-51",
            "train1",
            "test1",
            6766,  # the paper says 6,849; the release with the three splits has fewer
            {f"{part}{number}": videos for number in (1, 2, 3) for part, videos in (("train", 3570), ("test", 1530))},
            r".+_test_split[123]\.txt",
            True,
            "testTrainMulti_7030_splits/brush_hair_test_split1.txt",
        ),
        Dataset(
            "kinetics-400",
            "Kinetics-400",
            "train",
            "val",
            list_files=KINETICS_LISTS,
            example="annotations/train.csv",
        ),
        Dataset(
            "kinetics-600",
            "Kinetics-600",
            "train",
            "val",
            list_files=KINETICS_LISTS,
            example="annotations/train.csv",
        ),
        Dataset(
            "ssv2",
            "Something-Something V2",
            "train",
            "val",
            220_847,
            {"train": 168_913, "val": 24_777, "test": 27_157},
            r"(?:.*[-_])?(?:(?:train|val|validation|test)\.json|test-answers\.csv)",
            example="labels/train.json",
        ),
        Dataset("folder", "Folder", "train", "test"),
    )
}


def find_dataset(name: str) -> Dataset:
    """A dataset by name, in any common spelling: UCF101, k400, something-something-v2.

    Raises `FrosterError` for an unknown name, with the closest known one.
    """
    spellings = {name_key(known): known for known in DATASETS} | VOCABULARY_SPELLINGS
    spellings |= {"somethingsomethingv2": "ssv2", "sthv2": "ssv2"}
    known = spellings.get(name_key(name), name)
    if known not in DATASETS:
        raise FrosterError(f"There is no dataset {name!r}; {did_you_mean(name, DATASETS)}")
    return DATASETS[known]


class VideoIndex:
    """The video files under a folder, found by their names in a list.

    The folder is walked once; links are followed, hidden files and folders are ignored. `paths`: the files' paths
    relative to the root, with slashes, sorted. `unreadable_folders` (no permission) and `dead_links` (links to missing
    videos) are relative paths too; there is a warning for each.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        self.unreadable_folders = list[str]()
        self.dead_links = list[str]()
        self.paths = sorted(video_files(self.root, self.unreadable_folders.append, self.dead_links.append))
        for link in self.dead_links:
            warnings.warn(
                f"{self.root / link} is a link to a missing file; it is skipped.",
                FrosterWarning,
                stacklevel=2,
            )
        for folder in self.unreadable_folders:
            warnings.warn(
                f"No permission to read {self.root / folder}; its videos are skipped.",
                FrosterWarning,
                stacklevel=2,
            )
        self.by_stem = defaultdict[str, list[str]](list)
        for path in self.paths:
            self.by_stem[stem_of(path)].append(path)
        self.folders = {part for path in self.paths for part in folder_keys(path.rpartition("/")[0])}

    def __len__(self) -> int:
        return len(self.paths)

    def find(self, name: str, label: str = "") -> Path | None:
        """The file with the name `name` and class `label` in a list; None if there is none or the match is ambiguous.

        Matched by relative path, else by the longest common end of the paths, else by file name, ignoring the suffix
        and the case and separators of folders. A Kinetics clip `ID_000055_000065` also matches `ID`, the full video.
        """
        folder, _, file = name.replace("\\", "/").rpartition("/")
        stem = stem_of(file)
        timed = TIMED.fullmatch(stem)
        candidates = self.by_stem.get(stem) or (self.by_stem.get(timed["id"]) if timed else None)
        if not candidates:
            return None
        wanted, class_key = folder_keys(folder), name_key(label)

        def closeness(path: str) -> tuple[bool, bool, int, int, bool]:
            parent, _, file_name = path.rpartition("/")
            folders = folder_keys(parent)
            pairs = zip(reversed(wanted), reversed(folders), strict=False)
            common_end = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
            # CVDF publishes replacements for corrupted Kinetics clips in a folder `replacement`.
            replaced = any(part.startswith("replacement") for part in folders)
            return path == name, replaced, common_end, len({class_key, *wanted} & set(folders)), file_name == file

        best = max(candidates, key=closeness)
        _, replaced, _, common_folders, _ = closeness(best)
        if not (common_folders or replaced or timed):
            # Short names (`7.mp4`) exist in every class folder: one of another class must not replace a missing file.
            class_folder_exists = not self.folders.isdisjoint({class_key, *wanted[-1:]})
            if class_folder_exists or len({(self.root / path).stat().st_size for path in candidates}) > 1:
                return None
        return self.root / best


def video_files(root: Path, on_unreadable: Callable[[str], None], on_dead_link: Callable[[str], None]) -> Iterator[str]:
    """Relative paths of the video files under a folder; a folder that links reach twice is walked once.

    `on_unreadable` is called with paths without read permission, `on_dead_link` with links to missing files.
    """
    folders, walked = [""], {folder_identity(root.stat())}
    while folders:
        folder = folders.pop()
        try:
            with os.scandir(root / folder) as entries:
                inner = sorted(entries, key=lambda entry: entry.name, reverse=True)
        except PermissionError:
            on_unreadable(folder.rstrip("/"))
            continue
        for entry in inner:
            if entry.name.startswith("."):
                continue
            try:
                if entry.is_dir():
                    identity = folder_identity(entry.stat())
                    if identity not in walked:
                        walked.add(identity)
                        folders.append(f"{folder}{entry.name}/")
                elif has_video_suffix(entry.name) and entry.is_file():
                    yield f"{folder}{entry.name}"
                elif has_video_suffix(entry.name) and is_dead_link(entry):
                    on_dead_link(f"{folder}{entry.name}")
            except PermissionError:  # a folder without search permission, or a link into one
                on_unreadable(f"{folder}{entry.name}")


def folder_identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def has_video_suffix(name: str) -> bool:
    return f".{name.rpartition('.')[2].lower()}" in FILE_SUFFIXES


def stem_of(path: str) -> str:
    """The file name without a video suffix; other dots are part of the name."""
    name = path.rpartition("/")[2]
    return name.rpartition(".")[0] if has_video_suffix(name) else name


@cache
def folder_keys(folder: str) -> Sequence[str]:
    """The `name_key` of each folder in a path."""
    return tuple(name_key(part) for part in folder.split("/") if part not in ("", ".", ".."))
