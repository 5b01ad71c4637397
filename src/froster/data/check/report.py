"""What a check found, as a `DataReport` and as the files next to the manifest."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from froster.data.datasets import Dataset
from froster.data.manifests import LabeledVideo, listed, write_manifest
from froster.errors import FrosterError
from froster.files import csv_cell, replace_when_written


@dataclass(frozen=True)
class SplitCount:
    """Numbers of videos in a split: published (if fixed), in the lists, found on disk, unreadable."""

    published: int | None
    listed: int
    found: int
    unreadable: int


@dataclass(frozen=True, kw_only=True)
class DataReport:
    """What a dataset's folder holds.

    `videos`: the rows of the manifest. `splits`: counts by split; the last, `"all"`, counts every video once.
    `missing`: listed names without a file. `published_not_listed`: number of published videos that no list names.
    `unknown_labels`: labels or class folders that are not classes of the dataset, with their number of videos.
    `unlisted`: files that no list names, of which `duplicates` are second copies. `unlabeled`: number of videos without
    a class in the list. `unreadable` (not among `videos`) and `partial`: pairs (path under the root, reason).
    `unreadable_folders`: folders under the root without read permission. `splits_without_list`: the splits
    that no list covers; `needs_lists`: whether this looks unintended. `missing_classes`: for each split of class
    folders, the classes without a video in it.
    """

    dataset: Dataset
    root: Path
    lists: list[Path]
    manifest: Path
    videos: list[LabeledVideo]
    splits: dict[str, SplitCount]
    missing: list[str]
    published_not_listed: int
    unknown_labels: dict[str, int]
    unlisted: list[str]
    duplicates: int
    unlabeled: int
    unreadable: list[tuple[str, str]]
    partial: list[tuple[str, str]]
    unreadable_folders: list[str]
    splits_without_list: list[str]
    needs_lists: bool
    missing_classes: dict[str, list[str]]

    @property
    def complete(self) -> bool:
        """Whether every video is there, has a class, and can be read (as far as that was checked)."""
        problems = self.missing or self.unreadable or self.unknown_labels or self.unreadable_folders
        return not (problems or self.needs_lists or (self.published_not_listed and not self.lists))

    @property
    def empty_classes(self) -> list[str]:
        """Classes of the vocabulary without a video in the manifest."""
        present = {video.label for video in self.videos}
        return [name for name in self.dataset.classes if name not in present]

    def to_json(self) -> dict[str, Any]:
        """All fields as plain types; `videos` as a count."""
        return {
            "dataset": self.dataset.name,
            "root": str(self.root),
            "lists": [str(path) for path in self.lists],
            "manifest": str(self.manifest),
            "videos": len(self.videos),
            "classes": len({video.label for video in self.videos}),
            "empty_classes": self.empty_classes,
            "complete": self.complete,
            "splits": {name: vars(count) for name, count in self.splits.items()},
            "missing": self.missing,
            "published_not_listed": self.published_not_listed,
            "unknown_labels": self.unknown_labels,
            "unlisted": self.unlisted,
            "duplicates": self.duplicates,
            "unlabeled": self.unlabeled,
            "unreadable": [{"video": video, "reason": reason} for video, reason in self.unreadable],
            "partial": [{"video": video, "reason": reason} for video, reason in self.partial],
            "unreadable_folders": self.unreadable_folders,
            "splits_without_list": self.splits_without_list,
            "missing_classes": self.missing_classes,
        }


def next_to(manifest: Path, suffix: str) -> Path:
    """`manifests/m.csv`, `missing.txt` -> `manifests/m.missing.txt`."""
    return manifest.with_name(f"{manifest.stem}.{suffix}")


def write_report(report: DataReport, folder: Path) -> None:
    """Write the manifest and, next to it, the missing, unreadable and partial videos; remove files without entries.

    Raises `FrosterError` if there is no video for the manifest.
    """
    unreadable = next_to(report.manifest, "unreadable.csv")
    write_or_remove(next_to(report.manifest, "missing.txt"), "".join(f"{name}\n" for name in report.missing))
    write_or_remove(unreadable, reasons_csv(report.unreadable, folder))
    write_or_remove(next_to(report.manifest, "partial.csv"), reasons_csv(report.partial, folder))
    if not report.videos:
        if report.unreadable:
            raise FrosterError(
                f"None of the {len(report.unreadable)} videos can be read, so there is no manifest; see {unreadable}."
            )
        raise FrosterError(f"No video under {folder} has a class in the lists {listed(map(str, report.lists))}.")
    write_manifest(report.manifest, report.videos)


def reasons_csv(videos: Sequence[tuple[str, str]], folder: Path) -> str:
    """CSV with the columns path and reason; "" without videos."""
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
        temporary.write_text(text, encoding="utf-8", errors="surrogateescape", newline="\n")
