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
    from froster.data.manifests import LabelledVideo


def convert(
    list_file: Annotated[
        Path,
        typer.Argument(
            metavar="LIST",
            help="A list of a data set or of a paper's code; of UCF-101 and HMDB-51, the folder of lists.",
        ),
    ],
    videos: Annotated[Path, typer.Option(metavar="ROOT", help="The folder that holds the videos, at any depth.")],
    out: Annotated[Path, typer.Option(metavar="FILE", help="The manifest to write (.csv).")],
    classes: Annotated[
        Path | None, typer.Option(metavar="FILE", help="What the list's class numbers mean: CSV, JSON or text.")
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(help="Only this split of the list; where the list has no splits, all its videos get this one."),
    ] = None,
) -> None:
    """Turn a published list of videos into a manifest, with the files that are on the disk.

    Files are found by the list's paths or else by their bare names, whatever the suffix; missing ones are named.

    Where there are any, the exit status is 1.

    Example: froster data convert fs_base_s1_train.txt --classes ucf_101_base_labels.csv --videos UCF-101 --out s1.csv
    """
    if out.is_dir():
        raise FrosterError(f"--out {out} is a folder; name a file in it.")
    if out.resolve() in {path.resolve() for path in (list_file, classes) if path is not None}:
        raise FrosterError(f"--out {out} is one of the files to read; name another.")

    from froster.cli.data import show_some
    from froster.data.datasets import VideoIndex
    from froster.data.lists import read_list
    from froster.data.manifests import write_manifest

    if not videos.is_dir():
        raise FrosterError(f"There is no folder --videos {videos}.")
    listed = of_split(read_list(list_file, classes), split, list_file)
    labelled = [video for video in listed if video.label]
    if not labelled:
        raise FrosterError(f"The list {list_file} has no classes, which a manifest needs.")
    index = VideoIndex(videos)
    rows, missing = find_files(labelled, index)
    if not rows:
        raise FrosterError(
            f"None of the {len(labelled):,} videos of {list_file} is among the {len(index):,} under {videos}, for "
            f"example {labelled[0].name}; give the folder that holds them with --videos."
        )
    check_folders(rows, list_file)
    write_manifest(out, rows)
    screen = Screen()
    number = len({row.label for row in rows})
    screen.print(
        f"{len(rows):,} of {len(labelled):,} videos found, of {number} class{'es' * (number > 1)}: {out}",
        soft_wrap=True,
    )
    if len(labelled) < len(listed):
        screen.print(f"Left out: {len(listed) - len(labelled):,} to which the list gives no class.")
    if missing:
        show_some(f"{len(missing):,} missing:", missing, screen)
        raise typer.Exit(1)


def of_split(videos: "list[ListedVideo]", split: str | None, source: Path) -> "list[ListedVideo]":
    """The videos of one split; all of them, with that split, where there are none."""
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


def find_files(videos: "list[ListedVideo]", index: "VideoIndex") -> "tuple[list[LabelledVideo], list[str]]":
    """The manifest's rows, and the names that no file has, or only one that as well belongs to another name."""
    from froster.data.check import Row, without_needless_segments
    from froster.data.datasets import TIMED
    from froster.data.manifests import LabelledVideo

    rows = []
    for video in videos:
        # A list may be wrong about a class, then the video is in no folder of that name.
        path = index.find(video.name, video.label) or index.find(video.name)
        rows.append(Row(video.name, video.label, video.splits, video.start, video.end, path))
    if all(row.end is None or TIMED.fullmatch(row.name) for row in rows):  # clips of Kinetics
        rows = without_needless_segments(rows)
    claims = Counter((row.path, row.start, row.end) for row in rows)
    found, missing = list[LabelledVideo](), list[str]()
    for row in rows:
        sure = claims[row.path, row.start, row.end] == 1 or row.path == index.root / row.name
        if row.path and sure:
            found.append(LabelledVideo(row.path, row.label, row.splits, row.start, row.end))
        else:
            missing.append(row.name)
    return found, missing


def check_folders(rows: "list[LabelledVideo]", source: Path) -> None:
    """Class names of another list give themselves away by the folders of the videos.

    Warns of videos in the folder of another class of the list; raises `FrosterError` where most of them are.
    """
    from froster.data.manifests import listed
    from froster.text.names import name_key

    known = {name_key(row.label) for row in rows}
    other = [row for row in rows if name_key(row.path.parent.name) in known - {name_key(row.label)}]
    pairs = Counter((row.path.parent.name, row.label) for row in other)
    which = listed(f"of {folder} as {label!r} ({number})" for (folder, label), number in pairs.items())
    found = f"{len(other):,} of {len(rows):,} videos of {source} lie in the folder of another class, {which}"
    if len(other) > len(rows) / 2:
        raise FrosterError(f"{found}; give the class names of this list with --classes.")
    if other:
        warnings.warn(f"{found}; the list or its class names are wrong there.", FrosterWarning, stacklevel=2)
