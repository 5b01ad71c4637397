"""Video entries from class folders, where a dataset has no lists."""

import re
from pathlib import Path

from froster.data.check.entries import Unknown, VideoEntry
from froster.data.check.splits import split_of_folder
from froster.data.datasets import Dataset, VideoIndex
from froster.data.manifests import listed
from froster.data.vocabularies import readable_name
from froster.errors import FrosterError
from froster.text.names import name_key


def entries_from_folders(dataset: Dataset, index: VideoIndex, root: Path) -> tuple[list[VideoEntry], Unknown]:
    """An entry for each video in a class folder; separately, those in folders that are not classes of the dataset.

    Raises `FrosterError` if no video is in a class folder.
    """
    parents = {path: path.split("/")[:-1] for path in index.paths}
    names = known_class_folders(dataset, parents) if dataset.classes else own_class_folders(parents)
    spellings = {name_key(name): name for name in dataset.classes}
    entries, unknown = list[VideoEntry](), Unknown(list)
    for path, name in names.items():
        label = spellings.get(name_key(name), "") if dataset.classes else words_of_folder(name)
        splits = [split for folder in parents[path] if folder != name and (split := split_of_folder(folder))]
        entry = VideoEntry(path, label, tuple(splits[:1]), path=index.root / path)
        (entries if label else unknown[name]).append(entry)
    if entries:
        return entries, unknown
    problem = f"{root} has no class folders"
    if unknown:
        problem = f"No folder with videos under {root} is a class of {dataset.title} ({listed(map(repr, unknown))})"
    no_list = f", and there is no list such as {dataset.example}" if dataset.example else ""
    own = "; for your own classes use `dataset='folder'`" if unknown else ""
    raise FrosterError(
        f"{problem}{no_list}: arrange the videos as {root}/CLASS/VIDEO.mp4 or {root}/train/CLASS/VIDEO.mp4, or give a "
        f"list of them with `lists=`{own}."
    )


def known_class_folders(dataset: Dataset, parents: dict[str, list[str]]) -> dict[str, str]:
    """For each video its innermost folder that is a class, else its own folder, unless that is a split."""
    classes = {name_key(name) for name in dataset.classes}
    names = {}
    for path, folders in parents.items():
        inner = [folder for folder in folders if name_key(folder) in classes]
        inner = inner or [folder for folder in folders[-1:] if not split_of_folder(folder)]
        if inner:
            names[path] = inner[-1]
    return names


def own_class_folders(parents: dict[str, list[str]]) -> dict[str, str]:
    """For each video its outermost folder that is neither a split nor shared by all videos."""
    folders = {tuple(of[: depth + 1]) for of in parents.values() for depth in range(len(of))}
    outer = {folder[:-1] for folder in folders}
    with_classes = {folder[:-1] for folder in folders if not split_of_folder(folder[-1])}
    # A folder `test` without subfolders, next to folders with other names, is a class.
    classes = {
        folder
        for folder in folders
        if not split_of_folder(folder[-1]) or (folder not in outer and folder[:-1] in with_classes)
    }
    inner = {
        path: [of[depth] for depth in range(len(of)) if tuple(of[: depth + 1]) in classes]
        for path, of in parents.items()
    }
    while len({of[0] for of in inner.values() if of}) == 1 and max(map(len, inner.values())) > 1:
        inner = {path: of[1:] for path, of in inner.items()}
    return {path: of[0] for path, of in inner.items() if of}


def words_of_folder(folder: str) -> str:
    """A class folder's name as words; dashes separate words if nothing else does."""
    return readable_name(folder if re.search(r"[\s_]", folder.strip()) else folder.replace("-", " "))
