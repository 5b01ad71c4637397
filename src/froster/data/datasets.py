"""The field's data sets, what was published of them, and the videos of one on a disk."""

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
from froster.video.files import VIDEO_SUFFIXES

TIMED = re.compile(r"(?P<id>.{11})_\d{6}_\d{6}")  # a Kinetics clip: YouTube's id, first and last second


@dataclass(frozen=True)
class DataSet:
    """What is known of a data set before looking at a disk.

    `title` is its name in the papers' tables; `train_split` and `test_split` are words of a manifest's column split.
    `videos` and `split_videos` are the numbers published, where there are fixed ones. `list_files` matches the names of
    its list files; `lists_are_a_folder`: they are read together. `example`: where such a list lies.
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
        """Its vocabulary; () where class names are whatever the folders say."""
        return read_vocabulary(self.name) if self.name in VOCABULARIES else ()


KINETICS_LISTS = r"(?:.*[-_])?(?:train|val|validate|validation|test)\.csv"
DATASETS: dict[str, DataSet] = {
    of.name: of
    for of in (
        DataSet(
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
        DataSet(
            "hmdb-51",
            "HMDB-51",
            "train1",
            "test1",
            6766,  # the paper names 6,849; the release that has the three splits holds fewer
            {f"{part}{number}": videos for number in (1, 2, 3) for part, videos in (("train", 3570), ("test", 1530))},
            r".+_test_split[123]\.txt",
            True,
            "testTrainMulti_7030_splits/brush_hair_test_split1.txt",
        ),
        DataSet(
            "kinetics-400",
            "Kinetics-400",
            "train",
            "val",
            list_files=KINETICS_LISTS,
            example="annotations/train.csv",
        ),
        DataSet(
            "kinetics-600",
            "Kinetics-600",
            "train",
            "val",
            list_files=KINETICS_LISTS,
            example="annotations/train.csv",
        ),
        DataSet(
            "ssv2",
            "Something-Something V2",
            "train",
            "val",
            220_847,
            {"train": 168_913, "val": 24_777, "test": 27_157},
            r"(?:.*[-_])?(?:(?:train|val|validation|test)\.json|test-answers\.csv)",
            example="labels/train.json",
        ),
        DataSet("folder", "Folder", "train", "test"),
    )
}


def find_dataset(name: str) -> DataSet:
    """A data set by its name, spelled as people do: UCF101, k400, something-something-v2.

    Raises `FrosterError` for an unknown name; it names the nearest.
    """
    spellings = {name_key(known): known for known in DATASETS} | VOCABULARY_SPELLINGS
    spellings |= {"somethingsomethingv2": "ssv2", "sthv2": "ssv2"}
    known = spellings.get(name_key(name), name)
    if known not in DATASETS:
        raise FrosterError(f"There is no data set {name!r}; {did_you_mean(name, DATASETS)}")
    return DATASETS[known]


class VideoIndex:
    """The video files under a folder, found by what a list calls them.

    The folder is walked once; links are followed, hidden files and folders are not seen. `paths`: the files' paths
    relative to the root, with slashes, in alphabetical order. `closed`: likewise, what one has no permission to look
    into, with a warning for each; `dead_links`: links, named as videos, to files that are not there, likewise.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        self.closed = list[str]()
        self.dead_links = list[str]()
        self.paths = sorted(video_files(self.root, self.closed.append, self.dead_links.append))
        for link in self.dead_links:
            warnings.warn(
                f"{self.root / link} is a link to a file that is not there; it is left out.",
                FrosterWarning,
                stacklevel=2,
            )
        for folder in self.closed:
            warnings.warn(
                f"There is no permission to look into {self.root / folder}; what it holds is left out.",
                FrosterWarning,
                stacklevel=2,
            )
        self.places = defaultdict[str, list[str]](list)  # by the file's name without suffix
        for path in self.paths:
            self.places[without_suffix(path.rpartition("/")[2])].append(path)
        self.folders = {part for path in self.paths for part in squeezed_folders(path.rpartition("/")[0])}

    def __len__(self) -> int:
        return len(self.paths)

    def find(self, name: str, label: str = "") -> Path | None:
        """The file that a list calls `name`, its class `label`; None where there is none, or nothing says which.

        By relative path, else by as many of its last parts as agree, else by the bare name, whatever the suffix. Case
        and separators of folders do not count. A Kinetics clip `ID_000055_000065` may be `ID`, the whole film.
        """
        folder, _, file = name.replace("\\", "/").rpartition("/")
        stem = without_suffix(file)
        timed = TIMED.fullmatch(stem)
        places = self.places.get(stem) or (self.places.get(timed["id"]) if timed else None)
        if not places:
            return None
        wanted, home = squeezed_folders(folder), name_key(label)

        def nearness(place: str) -> tuple[bool, bool, int, int, bool]:
            above, _, here = place.rpartition("/")
            folders = squeezed_folders(above)
            last_parts = sum(1 for _ in takewhile(eq_pair, zip(reversed(wanted), reversed(folders), strict=False)))
            # CVDF hands out mended copies of broken Kinetics clips in a folder `replacement`.
            mended = any(part.startswith("replacement") for part in folders)
            return place == name, mended, last_parts, len({home, *wanted} & set(folders)), here == file

        best = max(places, key=nearness)
        _, mended, _, related, _ = nearness(best)
        if not (related or mended or timed):
            # Short names (`7.mp4`) are in every class folder: a stranger's must not stand in for a missing one.
            has_home = not self.folders.isdisjoint({home, *wanted[-1:]})
            if has_home or len({(self.root / place).stat().st_size for place in places}) > 1:
                return None
        return self.root / best


def video_files(root: Path, closed: Callable[[str], None], dead_link: Callable[[str], None]) -> Iterator[str]:
    """Paths of the video files under a folder, relative to it; a folder reached twice, by links, is walked once.

    `closed` is told, likewise, what there is no permission for, `dead_link` which links lead nowhere.
    """
    folders, walked = [""], {folder_identity(root.stat())}
    while folders:
        folder = folders.pop()
        try:
            with os.scandir(root / folder) as entries:
                inner = sorted(entries, key=lambda entry: entry.name, reverse=True)
        except PermissionError:
            closed(folder.rstrip("/"))
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
                    dead_link(f"{folder}{entry.name}")
            except PermissionError:  # a folder that can be listed only, or a link into one that is closed
                closed(f"{folder}{entry.name}")


def folder_identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def eq_pair(pair: tuple[str, str]) -> bool:
    return pair[0] == pair[1]


def has_video_suffix(name: str) -> bool:
    return f".{name.rpartition('.')[2].lower()}" in VIDEO_SUFFIXES


def without_suffix(name: str) -> str:
    return name.rpartition(".")[0] if has_video_suffix(name) else name


@cache
def squeezed_folders(folder: str) -> Sequence[str]:
    """The parts of a path of folders, without case and separators."""
    return tuple(name_key(part) for part in folder.split("/") if part not in ("", ".", ".."))
