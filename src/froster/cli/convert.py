"""`froster data convert`: a published list of videos as a manifest."""

import warnings
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from froster.cli.terminal import Screen
from froster.errors import FrosterError, FrosterWarning

if TYPE_CHECKING:
    from froster.data.datasets import VideoIndex
    from froster.data.lists import ListedVideo
    from froster.data.manifests import LabeledVideo


def convert(
    list_file: Annotated[
        Path,
        typer.Argument(
            metavar="LIST",
            help="A list of a dataset or of a paper's code; for UCF-101 and HMDB-51, the folder of lists.",
        ),
    ],
    videos: Annotated[Path, typer.Option(metavar="ROOT", help="The folder that holds the videos, at any depth.")],
    out: Annotated[Path, typer.Option(metavar="FILE", help="The manifest to write (.csv).")],
    classes: Annotated[
        Path | None, typer.Option(metavar="FILE", help="What the list's class numbers mean: CSV, JSON or text.")
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(help="Only this split of the list; if the list has no splits, all its videos get this one."),
    ] = None,
) -> None:
    """Turn a published list of videos into a manifest, with the files that are on the disk.

    Files are matched by path or else by file name, ignoring the suffix. Missing ones are listed, and the exit status
    is then 1.

    Example: froster data convert fs_base_s1_train.txt --classes ucf_101_base_labels.csv --videos UCF-101 --out s1.csv
    """
    if out.is_dir():
        raise FrosterError(f"--out {out} is a folder; give a file in it.")
    if out.resolve() in {path.resolve() for path in (list_file, classes) if path is not None}:
        raise FrosterError(f"--out {out} is one of the input files; choose another.")

    from froster.cli.data import show_some
    from froster.data.datasets import VideoIndex
    from froster.data.lists import read_list
    from froster.data.manifests import write_manifest

    if not videos.is_dir():
        raise FrosterError(f"There is no folder --videos {videos}.")
    listed = of_split(read_list(list_file, classes), split, list_file)
    labeled = [video for video in listed if video.label]
    if not labeled:
        raise FrosterError(f"The list {list_file} has no classes, which a manifest needs.")
    index = VideoIndex(videos)
    rows, missing = find_files(labeled, index)
    if not rows:
        raise FrosterError(
            f"None of the {len(labeled):,} videos of {list_file} is among the {len(index):,} under {videos}, for "
            f"example {labeled[0].name}; give their folder with --videos."
        )
    check_folders(rows, list_file)
    write_manifest(out, rows)
    screen = Screen()
    number = len({row.label for row in rows})
    screen.print(
        f"{len(rows):,} of {len(labeled):,} videos found, of {number} class{'es' * (number > 1)}: {out}",
        soft_wrap=True,
    )
    if len(labeled) < len(listed):
        screen.print(f"Skipped: {len(listed) - len(labeled):,} without a class in the list.")
    if missing:
        show_some(f"{len(missing):,} missing:", missing, screen)
        raise typer.Exit(1)


def of_split(videos: "list[ListedVideo]", split: str | None, source: Path) -> "list[ListedVideo]":
    """The videos of one split; if the list has no splits, all videos, assigned to this split."""
    if split is None:
        return videos
    words = dict.fromkeys(word for video in videos for word in video.splits)
    if not words:
        return [replace(video, splits=(split,)) for video in videos]
    if split not in words:
        raise FrosterError(
            f"The list {source} has no videos of the split {split!r}; its splits are {', '.join(words)}."
        )
    return [video for video in videos if split in video.splits]


def find_files(videos: "list[ListedVideo]", index: "VideoIndex") -> "tuple[list[LabeledVideo], list[str]]":
    """The manifest's rows, and the names without a file, or whose only file also matches another name."""
    from froster.data.check.entries import VideoEntry, labeled_videos
    from froster.data.check.from_lists import drop_redundant_segments
    from froster.data.datasets import TIMED

    entries = []
    for video in videos:
        # If the list is wrong about the class, the video is not in a folder of that name.
        path = index.find(video.name, video.label) or index.find(video.name)
        entries.append(VideoEntry(video.name, video.label, video.splits, video.start, video.end, path))
    if all(entry.end is None or TIMED.fullmatch(entry.name) for entry in entries):  # Kinetics clips
        entries = drop_redundant_segments(entries)
    matches = Counter((entry.path, entry.start, entry.end) for entry in entries)

    def is_certain(entry: VideoEntry) -> bool:
        return matches[entry.path, entry.start, entry.end] == 1 or entry.path == index.root / entry.name

    found = labeled_videos(entry for entry in entries if is_certain(entry))
    return found, [entry.name for entry in entries if not entry.path or not is_certain(entry)]


def check_folders(rows: "list[LabeledVideo]", source: Path) -> None:
    """Detect class names that belong to another list, by the videos' folders.

    Warns of videos in the folder of another class of the list; raises `FrosterError` if this is most of them.
    """
    from froster.data.manifests import listed
    from froster.text.names import name_key

    known = {name_key(row.label) for row in rows}
    other = [row for row in rows if name_key(row.path.parent.name) in known - {name_key(row.label)}]
    pairs = Counter((row.path.parent.name, row.label) for row in other)
    which = listed(f"of {folder} as {label!r} ({number})" for (folder, label), number in pairs.items())
    found = f"{len(other):,} of {len(rows):,} videos of {source} are in the folder of another class, {which}"
    if len(other) > len(rows) / 2:
        raise FrosterError(f"{found}; give the class names of this list with --classes.")
    if other:
        warnings.warn(f"{found}; the list or its class names are wrong.", FrosterWarning, stacklevel=2)
