"""`froster data`: check the videos of a dataset and write manifests, which all other commands read."""

import shlex
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from froster.cli.convert import convert
from froster.cli.interrupt import stopped_by_signals
from froster.cli.options import WorkersOption
from froster.cli.pack import pack
from froster.cli.terminal import Screen, echo_json
from froster.errors import FrosterError

if TYPE_CHECKING:
    from froster.data.check import DataReport

app = typer.Typer(name="data", help="Check datasets, and write manifests of them.", no_args_is_help=True)
MAX_VIDEOS = 5  # shown of each list of videos
MAX_CLASSES = 10  # shown of a folder


@app.callback()
def data() -> None:
    """Check datasets, and write manifests of them."""


@app.command()
def check(
    root: Annotated[Path, typer.Argument(help="The folder that holds the videos, at any depth.")],
    dataset: Annotated[
        str,
        typer.Option(help="ucf-101, hmdb-51, kinetics-400, kinetics-600, ssv2, or folder: your own class folders."),
    ],
    lists: Annotated[
        list[Path] | None,
        typer.Option(help="A list or a folder of lists; by default those in ROOT or next to it.", show_default=False),
    ] = None,
    decode: Annotated[
        bool, typer.Option("--decode", help="Open every video and decode its first, middle and last frame.")
    ] = False,
    thorough: Annotated[
        bool, typer.Option("--thorough", help="Decode every frame of every video, to find damage anywhere in it.")
    ] = False,
    workers: WorkersOption = 2,
    test_share: Annotated[
        float | None,
        typer.Option(help="With folder: share of each class's videos for the split test, such as 0.2."),
    ] = None,
    val_share: Annotated[
        float | None,
        typer.Option(help="With folder: share of each class's videos for the split val, for validation in training."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of --test-share and --val-share.")] = 0,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The manifest. [default: manifests/DATASET.csv, or the folder's name]"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a report as JSON instead of tables.")] = False,
) -> None:
    """Compare a folder with a dataset's lists, and write a manifest of the videos that are there.

    Lists are found in the usual places (annotations, labels, ucfTrainTestlist, ...); without any, classes and splits
    are those of the folders. Missing and unreadable videos are listed in files next to the manifest; if there are any,
    the exit status is 1. With --decode or --thorough, a stopped run resumes where it was.

    Example: froster data check videos/UCF-101 --dataset ucf-101 --decode
    """
    for option, share in (("--test-share", test_share), ("--val-share", val_share)):
        if share is not None and not 0 < share < 1:
            raise FrosterError(f"{option} {share:g} must be between 0 and 1, such as 0.2.")
    from froster.data.datasets import find_dataset

    known = find_dataset(dataset)
    if out is None:
        out = Path("manifests") / f"{known.name if known.classes else root.resolve().name or 'folder'}.csv"
    if out.is_dir():
        raise FrosterError(f"--out {out} is a folder; give a file in it.")
    if (test_share or val_share) is not None and known.classes:
        option = "--test-share" if test_share is not None else "--val-share"
        raise FrosterError(f"{option} is for --dataset folder; {known.title} has splits of its own.")

    from froster.cli.progress import progress_bar
    from froster.data.check import check_data

    errors = Screen(stderr=True, soft_wrap=True)
    with (
        stopped_by_signals("Stopped; the same command resumes from here."),
        progress_bar(errors) as bar,
    ):
        task = bar.add_task(f"Scanning {root}", total=None)
        report = check_data(
            known,
            root,
            lists or [],
            out,
            decode_all=decode,
            thorough=thorough,
            workers=workers,
            test_share=test_share,
            val_share=val_share,
            seed=seed,
            on_progress=lambda done, total: bar.update(task, description="Decoding", completed=done, total=total),
        )
    if as_json:
        echo_json({**report.to_json(), "next": next_command(report)}, indent=2)
    else:
        show(report, Screen())
    if not report.complete:
        raise typer.Exit(1)


def show(report: "DataReport", screen: "Screen") -> None:
    """Print counts, problems with some of their videos, and the next command."""
    from froster.data.check import next_to
    from froster.data.manifests import hint, listed

    dataset = report.dataset
    screen.print(
        f"{dataset.title if dataset.classes else 'Class folders'} in {report.root}", style="bold", soft_wrap=True
    )
    lists = f"lists: {listed(map(str, report.lists))}"
    if not report.lists:
        lists = f"no list{f' such as {dataset.example}' if dataset.example else 's'}: classes are those of the folders"
    screen.print(lists, soft_wrap=True)
    screen.print()
    show_counts(report, screen)
    if not dataset.classes:
        show_classes(report, screen)

    if report.missing:
        file = next_to(report.manifest, "missing.txt")
        show_some(f"{videos(len(report.missing))} missing, listed in {file}:", report.missing, screen)
    if report.splits_without_list:
        splits = (
            f"{'split' if len(report.splits_without_list) == 1 else 'splits'} {', '.join(report.splits_without_list)}"
        )
        what = "put it next to the others, or choose lists with --lists" if report.needs_lists else "skipped"
        screen.print(f"\nThere is no list of the {splits}: {what}.", soft_wrap=True)
    if report.published_not_listed and dataset.videos:
        what = f"{dataset.videos - report.published_not_listed:,} of the {dataset.videos:,} videos published"
        screen.print(f"\n{what} are {'listed' if report.lists else 'here'}.", soft_wrap=True)
    if report.unreadable:
        file = next_to(report.manifest, "unreadable.csv")
        reasons = [f"{video}: {reason}" for video, reason in report.unreadable]
        show_some(f"{videos(len(reasons))} not readable and skipped, listed in {file}:", reasons, screen)
    if report.partial:
        reasons = [f"{video}: {reason}" for video, reason in report.partial]
        file = next_to(report.manifest, "partial.csv")
        show_some(f"{videos(len(reasons))} readable only in part, listed in {file}:", reasons, screen)
    if report.unknown_labels:
        kind = "Labels" if report.lists else "Folders"
        names = [
            f"{name!r}, {number:,} video{'s' * (number > 1)}{hint(name, dataset.classes)}"
            for name, number in report.unknown_labels.items()
        ]
        show_some(f"{kind} that are not classes of {dataset.title}; their videos are skipped:", names, screen)
    if report.unlabeled:
        screen.print(f"\n{videos(report.unlabeled)} without a class in the lists and skipped.", soft_wrap=True)
    if report.unlisted:
        what = "in no list" if report.lists else "in no class folder"
        copies = f" ({report.duplicates:,} of them duplicates)" if report.duplicates else ""
        show_some(f"{videos(len(report.unlisted))} {what}{copies}:", report.unlisted, screen)
    if report.empty_classes:
        number = len(report.empty_classes)
        empty = listed(report.empty_classes)
        screen.print(f"\n{number} of {len(dataset.classes)} classes without videos: {empty}", soft_wrap=True)

    for split, names in report.missing_classes.items():
        classes = "1 class has" if len(names) == 1 else f"{len(names)} classes have"
        screen.print(f"\n{classes} no video in the split {split}: {listed(names)}", soft_wrap=True)

    number = len({video.label for video in report.videos})
    screen.print(f"\n{len(report.videos):,} videos of {number} classes: {report.manifest}", soft_wrap=True)
    if not dataset.classes and "all" in report.splits and len(report.splits) == 1:
        advice = "All of them are for training; --test-share 0.2 holds out a fifth of each class for testing."
        screen.print(advice, soft_wrap=True)
    screen.print(f"Next: {next_command(report)}", soft_wrap=True)


def next_command(report: "DataReport") -> str:
    """The next command: evaluate CLIP on a known dataset, or train on your own."""
    dataset, manifest = report.dataset, shlex.quote(str(report.manifest))
    splits = {split for video in report.videos for split in video.splits}
    if dataset.classes:
        split = f" --split {dataset.test_split}" if dataset.test_split in splits else ""
        return f"froster evaluate vit-b-16 --data {manifest} --labels {dataset.name}{split}"
    split = f" data.split={dataset.train_split}" if dataset.train_split in splits else ""
    split += " validation.split=val" if "val" in splits and split else ""
    out = shlex.quote(f"runs/{report.manifest.stem}")
    return f"froster train few-clips out={out} data.manifest={manifest}{split}"


def show_counts(report: "DataReport", screen: "Screen") -> None:
    from froster.cli.evaluate import plain_table

    counts = report.splits.values()
    columns: dict[str, list[int | None]] = {
        "published": [count.published for count in counts],
        "listed": [count.listed for count in counts] if report.lists else [],
        "found": [count.found for count in counts],
        "missing": [count.listed - count.found for count in counts],
        "unreadable": [count.unreadable for count in counts],
    }
    columns = {name: numbers for name, numbers in columns.items() if any(numbers)}
    table = plain_table(["", *columns])
    for name, *numbers in zip(report.splits, *columns.values(), strict=True):
        table.add_row(name, *("" if number is None else f"{number:,}" for number in numbers))
    screen.print(table)


def show_classes(report: "DataReport", screen: "Screen") -> None:
    """The smallest classes of a folder, split by split."""
    from rich.text import Text

    from froster.cli.evaluate import plain_table

    splits = [name for name in report.splits if name != "all"]
    counts = Counter((video.label, word) for video in report.videos for word in (*video.splits, "all"))
    labels = sorted({video.label for video in report.videos}, key=lambda label: (counts[label, "all"], label))
    what = (
        f"The smallest {MAX_CLASSES} of {len(labels)} classes"
        if len(labels) > MAX_CLASSES
        else f"{len(labels)} classes"
    )
    screen.print(f"\n{what}", style="bold")
    table = plain_table(["", *splits, "videos"])
    for label in labels[:MAX_CLASSES]:
        table.add_row(Text(label), *(f"{counts[label, word]:,}" for word in (*splits, "all")))
    screen.print(table)


def show_some(heading: str, items: list[str], screen: "Screen") -> None:
    screen.print(f"\n{heading}", soft_wrap=True)
    for item in items[:MAX_VIDEOS]:
        screen.print(f"  {item}", soft_wrap=True)
    if len(items) > MAX_VIDEOS:
        screen.print(f"  … and {len(items) - MAX_VIDEOS:,} more", soft_wrap=True)


def videos(number: int) -> str:
    return "1 video is" if number == 1 else f"{number:,} videos are"


app.command()(convert)
app.command()(pack)
