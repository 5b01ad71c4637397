"""Find the list files of a dataset, near its videos, by their usual names."""

import re
from pathlib import Path

from froster.data.datasets import Dataset
from froster.text.names import name_key

# fmt: off
LIST_FOLDERS = frozenset({
    "annotation", "annotations", "labels", "lists", "splits",
    "ucftraintestlist", "ucf101traintestsplitsrecognitiontask",
    "testtrainsplits", "testtrainmulti7030splits",
    "20bnsomethingsomethingdownloadpackagelabels",
})
# fmt: on


def find_lists(dataset: Dataset, root: Path) -> list[Path]:
    """A dataset's list files, or their folder: in the root, its parent, or folders such as `annotations` in these."""
    for home in (root, root.parent):
        inner = list_folders(home)
        for folder in (home, *inner, *(deeper for one in inner for deeper in list_folders(one))):
            if found := lists_in(dataset, folder):
                return found
    return []


def list_folders(home: Path) -> list[Path]:
    return [folder for folder in folder_contents(home) if name_key(folder.name) in LIST_FOLDERS and folder.is_dir()]


def lists_in(dataset: Dataset, folder: Path) -> list[Path]:
    """The list files of a dataset directly in a folder, or the folder itself if they are read together."""
    found = [file for file in folder_contents(folder) if is_list_of(dataset, file)]
    return [folder] if found and dataset.lists_are_a_folder else found


def folder_contents(folder: Path) -> list[Path]:
    """Sorted paths; empty if the folder is not readable (the parent of the data may be someone else's)."""
    try:
        return sorted(folder.iterdir())
    except PermissionError:
        return []


def is_list_of(dataset: Dataset, file: Path) -> bool:
    """Whether a file is a list, by its name; for Kinetics also by its columns, since train.csv is a common name."""
    if not dataset.list_files or not re.fullmatch(dataset.list_files, file.name) or not file.is_file():
        return False
    if not dataset.name.startswith("kinetics"):
        return True
    others = {"400", "600", "700"} - {dataset.name.removeprefix("kinetics-")}
    with file.open(encoding="utf-8", errors="replace") as lines:
        return "youtube_id" in lines.readline() and not any(other in file.name for other in others)
