"""`froster data`: what lies on the disk, as manifests that everything else reads."""

import shlex
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from froster.cli.convert import convert
from froster.cli.interrupt import stopped_by_signals
from froster.cli.options import WorkersOption
from froster.cli.terminal import Screen, echo_json
from froster.errors import FrosterError

if TYPE_CHECKING:
    from froster.data.check import DataReport

app = typer.Typer(name="data", help="Check data sets, and write manifests of them.", no_args_is_help=True)
NAMED = 5  # missing, unlisted and unreadable videos on the screen
CLASSES = 10  # classes of a folder on the screen


@app.callback()
def data() -> None:
    """Check data sets, and write manifests of them."""


@app.command()
def check(
    root: Annotated[Path, typer.Argument(help="The folder that holds the videos, at any depth.")],
    dataset: Annotated[
        str,
        typer.Option(help="ucf-101, hmdb-51, kinetics-400, kinetics-600, ssv2, or folder: class folders of your own."),
    ],
    lists: Annotated[
        list[Path] | None,
        typer.Option(help="A list or a folder of lists; by default those in ROOT or beside it.", show_default=False),
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
        typer.Option(help="With folder: the share of each class's videos that is kept for testing, such as 0.2."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of --test-share.")] = 0,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The manifest; by default manifests/DATASET.csv, of a folder its name."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a report as JSON instead of tables.")] = False,
) -> None:
    """Compare a folder with a data set's lists, and write a manifest of the videos that are there.

    The lists are found where people keep them (annotations, labels, ucfTrainTestlist, ...); without any, classes and
    splits are those of the folders. What is missing or cannot be read is listed in files beside the manifest; where
    there is any, the exit status is 1. With --decode or --thorough, a run that was stopped goes on where it was.

    Example: froster data check videos/UCF-101 --dataset ucf-101 --decode
    """
    if test_share is not None and not 0 < test_share < 1:
        raise FrosterError(f"--test-share {test_share:g} is no share between 0 and 1, such as 0.2.")
    from froster.data.datasets import find_dataset

    data_set = find_dataset(dataset)
    if out is None:
        out = Path("manifests") / f"{data_set.name if data_set.classes else root.resolve().name or 'folder'}.csv"
    if out.is_dir():
        raise FrosterError(f"--out {out} is a folder; name a file in it.")
    if test_share is not None and data_set.classes:
        raise FrosterError(f"--test-share is for --dataset folder; {data_set.title} has splits of its own.")

    from froster.cli.progress import progress_bar
    from froster.data.check import check_data

    errors = Screen(stderr=True, soft_wrap=True)
    with (
        stopped_by_signals("Stopped; the same command goes on from here."),
        progress_bar(errors) as bar,
    ):
        task = bar.add_task(f"Looking through {root}", total=None)
        report = check_data(
            data_set,
            root,
            lists or [],
            out,
            decode_all=decode,
            thorough=thorough,
            workers=workers,
            test_share=test_share,
            seed=seed,
            seen=lambda done, total: bar.update(task, description="Decoding", completed=done, total=total),
        )
    if as_json:
        echo_json({**report.to_json(), "next": next_command(report)}, indent=2)
    else:
        show(report, Screen())
    if not report.complete:
        raise typer.Exit(1)


def show(report: "DataReport", screen: "Screen") -> None:
    """Counts, what is wrong with some names, and what to do next."""
    from froster.data.check import beside
    from froster.data.manifests import hint, listed

    of = report.data_set
    screen.print(f"{of.title if of.classes else 'Class folders'} in {report.root}", style="bold", soft_wrap=True)
    lists = f"lists: {listed(map(str, report.lists))}"
    if not report.lists:
        lists = f"no list{f' such as {of.example}' if of.example else 's'}: classes are those of the folders"
    screen.print(lists, soft_wrap=True)
    screen.print()
    show_counts(report, screen)
    if not of.classes:
        show_classes(report, screen)

    if report.missing:
        file = beside(report.manifest, "missing.txt")
        show_some(f"{videos(len(report.missing))} missing, listed in {file}:", report.missing, screen)
    if report.listless:
        splits = f"{'split' if len(report.listless) == 1 else 'splits'} {', '.join(report.listless)}"
        what = "lay it beside the others, or name the lists you want with --lists" if report.lacks_lists else "left out"
        screen.print(f"\nThere is no list of the {splits}: {what}.", soft_wrap=True)
    if report.absent and of.videos:
        what = f"{of.videos - report.absent:,} of the {of.videos:,} videos published"
        screen.print(f"\n{what} are {'listed' if report.lists else 'here'}.", soft_wrap=True)
    if report.unreadable:
        file = beside(report.manifest, "unreadable.csv")
        reasons = [f"{video}: {reason}" for video, reason in report.unreadable]
        show_some(f"{videos(len(reasons))} not readable and left out, listed in {file}:", reasons, screen)
    if report.partial:
        reasons = [f"{video}: {reason}" for video, reason in report.partial]
        file = beside(report.manifest, "partial.csv")
        show_some(f"{videos(len(reasons))} readable only in part, listed in {file}:", reasons, screen)
    if report.foreign:
        kind = "Labels" if report.lists else "Folders"
        names = [
            f"{name!r}, {number:,} video{'s' * (number > 1)}{hint(name, of.classes)}"
            for name, number in report.foreign.items()
        ]
        show_some(f"{kind} that are no class of {of.title}; their videos are left out:", names, screen)
    if report.unlabelled:
        screen.print(f"\n{videos(report.unlabelled)} without a class in the lists and left out.", soft_wrap=True)
    if report.unlisted:
        what = "in no list" if report.lists else "in no class folder"
        copies = f" ({report.copies:,} of them second copies)" if report.copies else ""
        show_some(f"{videos(len(report.unlisted))} {what}{copies}:", report.unlisted, screen)
    if report.empty_classes:
        number = len(report.empty_classes)
        empty = listed(report.empty_classes)
        screen.print(f"\n{number} of {len(of.classes)} classes without videos: {empty}", soft_wrap=True)

    for split, names in report.lacking.items():
        classes = "1 class has" if len(names) == 1 else f"{len(names)} classes have"
        screen.print(f"\n{classes} no video in the split {split}: {listed(names)}", soft_wrap=True)

    number = len({video.label for video in report.videos})
    screen.print(f"\n{len(report.videos):,} videos of {number} classes: {report.manifest}", soft_wrap=True)
    if not of.classes and "all" in report.splits and len(report.splits) == 1:
        advice = "All of them are for training; --test-share 0.2 keeps a fifth of each class for testing."
        screen.print(advice, soft_wrap=True)
    screen.print(f"Next: {next_command(report)}", soft_wrap=True)


def next_command(report: "DataReport") -> str:
    """What one would do with the manifest: test CLIP on a known data set, train on one's own."""
    of, manifest = report.data_set, shlex.quote(str(report.manifest))
    splits = {split for video in report.videos for split in video.splits}
    if of.classes:
        split = f" --split {of.test_split}" if of.test_split in splits else ""
        return f"froster evaluate vit-b-16 --data {manifest} --labels {of.name}{split}"
    split = f" data.split={of.train_split}" if of.train_split in splits else ""
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
    what = f"The smallest {CLASSES} of {len(labels)} classes" if len(labels) > CLASSES else f"{len(labels)} classes"
    screen.print(f"\n{what}", style="bold")
    table = plain_table(["", *splits, "videos"])
    for label in labels[:CLASSES]:
        table.add_row(Text(label), *(f"{counts[label, word]:,}" for word in (*splits, "all")))
    screen.print(table)


def show_some(heading: str, items: list[str], screen: "Screen") -> None:
    screen.print(f"\n{heading}", soft_wrap=True)
    for item in items[:NAMED]:
        screen.print(f"  {item}", soft_wrap=True)
    if len(items) > NAMED:
        screen.print(f"  … and {len(items) - NAMED:,} more", soft_wrap=True)


def videos(number: int) -> str:
    return "1 video is" if number == 1 else f"{number:,} videos are"


app.command()(convert)
