"""Check that the videos of a dataset are there and can be read, and write a manifest of those that can."""

from collections.abc import Sequence
from pathlib import Path

from froster.data.check.decoding import OnProgress, cached_verdicts, decode_videos
from froster.data.check.entries import labeled_videos
from froster.data.check.from_folders import entries_from_folders
from froster.data.check.from_lists import entries_from_lists
from froster.data.check.list_files import find_lists, lists_in
from froster.data.check.report import DataReport, SplitCount, next_to, write_report
from froster.data.check.splits import (
    classes_missing_by_split,
    could_belong_to,
    count_splits,
    splits_without_list,
    with_random_splits,
)
from froster.data.datasets import Dataset, VideoIndex, stem_of
from froster.data.manifests import listed
from froster.errors import FrosterError
from froster.files import is_utf8, printable_name

__all__ = ["DataReport", "SplitCount", "check_data", "next_to"]


def check_data(
    dataset: Dataset,
    root: Path,
    lists: Sequence[Path],
    manifest: Path,
    *,
    decode_all: bool = False,
    thorough: bool = False,
    workers: int = 2,
    test_share: float | None = None,
    val_share: float | None = None,
    seed: int = 0,
    on_progress: OnProgress | None = None,
) -> DataReport:
    """Compare a folder with its dataset's lists, or with its own class folders, and write the manifest.

    `lists`: list files or folders of them; by default those in the usual places. `decode_all`: open every video and
    decode three of its frames; `thorough`: decode all frames. Results are cached in `NAME.decoded.jsonl` next to the
    manifest, so that an unchanged file is decoded once. `NAME.missing.txt`, `NAME.unreadable.csv` and
    `NAME.partial.csv` are written next to it if they have entries. `test_share` and
    `val_share`: shares of each class's readable videos that become the splits "test" and "val", chosen by `seed`; the
    rest is "train".

    Raises `FrosterError`: no videos, no classes, lists of another dataset, nothing to put into a manifest.
    """
    folder = root.resolve() if ".." in root.parts else root.absolute()
    if not folder.is_dir():
        raise FrosterError(f"There is no folder {root}.")
    index = VideoIndex(folder)
    if not index.paths:
        readable = " that can be read" if index.unreadable_folders else ""
        raise FrosterError(f"There is no video file under {root}{readable}.")
    lists_are_files = any(not path.is_dir() for path in lists)
    # A folder without the dataset's own lists may have another format with several files.
    lists = [file for path in lists for file in ((path.is_dir() and lists_in(dataset, path)) or [path])]
    shares = {split: share for split, share in (("test", test_share), ("val", val_share)) if share is not None}
    if not all(share > 0 for share in shares.values()) or sum(shares.values()) >= 1:
        raise FrosterError(
            f"The shares of test and val are above 0 and below 1 together, not {listed(map(str, shares.values()))}."
        )
    lists = lists or find_lists(dataset, root if root.name not in ("", "..") else folder)
    if lists:
        if shares:
            raise FrosterError(f"Shares are for folders without lists; {listed(map(str, lists))} has splits.")
        entries, unknown = entries_from_lists(dataset, lists, index)
    else:
        entries, unknown = entries_from_folders(dataset, index, root)
        if shares and any(entry.splits for entry in entries):
            raise FrosterError(f"{root} has folders for its splits; leave out `test_share` and `val_share`.")
    for entry in entries:
        if not is_utf8(entry.label):
            raise FrosterError(
                f"The folder {printable_name(entry.label)} under {root} is not named in UTF-8; rename it."
            )
    videos, cache = labeled_videos(entries), next_to(manifest, "decoded.jsonl")
    if decode_all or thorough:
        verdicts = decode_videos(videos, cache, workers, thorough, on_progress)
    else:
        verdicts = cached_verdicts(videos, cache)
    unreadable = {video: verdict.error for video, verdict in verdicts.items() if verdict.error}
    partial = {video: verdict.warning for video, verdict in verdicts.items() if verdict.warning and not verdict.error}
    if shares:
        entries = with_random_splits(entries, {video.path for video in unreadable}, shares, seed)
        videos = labeled_videos(entries)
    readable_videos = [video for video in videos if video not in unreadable]
    used = {str(entry.path) for of in (entries, *unknown.values()) for entry in of}
    unlisted = [path for path in index.paths if str(folder / path) not in used]
    stems = {stem_of(path) for path in used}
    not_copies = [path for path in unlisted if stem_of(path) not in stems]
    without_list = splits_without_list(dataset, entries) if lists else []
    report = DataReport(
        dataset=dataset,
        root=root,
        lists=list(lists),
        manifest=manifest,
        videos=readable_videos,
        splits=count_splits(dataset, entries, unreadable, bool(lists)),
        missing=[entry.name for entry in entries if not entry.path] + ([] if lists else index.dead_links),
        published_not_listed=max(0, (dataset.videos or 0) - len(entries)),
        unknown_labels={name: len(of) for name, of in unknown.items()},
        unlisted=unlisted,
        duplicates=len(unlisted) - len(not_copies),
        unlabeled=sum(entry.path is not None and not entry.label for entry in entries),
        unreadable=[(str(video.path.relative_to(folder)), reason) for video, reason in unreadable.items()],
        partial=[(str(video.path.relative_to(folder)), reason) for video, reason in partial.items()],
        unreadable_folders=index.unreadable_folders,
        splits_without_list=without_list,
        needs_lists=bool(without_list)
        and not lists_are_files
        and (bool(dataset.split_videos) or could_belong_to(not_copies, without_list)),
        missing_classes={} if dataset.classes else classes_missing_by_split(entries, readable_videos),
    )
    write_report(report, folder)
    return report
