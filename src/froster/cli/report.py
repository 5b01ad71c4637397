"""`froster report`: a model on labelled videos as one HTML page."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from froster.cli.evaluate import names_or_file
from froster.cli.predict import Precision, SamplingName, templates_of
from froster.errors import FrosterError

if TYPE_CHECKING:
    from froster.data.manifests import LabelledVideo
    from froster.text.labels import Labels


def report(
    model: Annotated[
        str, typer.Argument(metavar="RUN", help="A run's folder, a checkpoint, or a model: vit-b-16, puppets, …")
    ],
    data: Annotated[Path, typer.Option(metavar="MANIFEST", help="CSV with the columns path and label.")],
    split: Annotated[
        str | None, typer.Option(help="Only the rows with this word in the column split, such as test.")
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(
            help='Class names, "a, b, c", or a vocabulary (see `froster classes`); by default those of the manifest.'
        ),
    ] = None,
    labels_file: Annotated[
        str | None,
        typer.Option(help="Names one a line, or JSON, with descriptions if you like: {name: description}."),
    ] = None,
    base: Annotated[
        str | None,
        typer.Option(
            help="Classes seen in training: names, a vocabulary or a file; their clips are compared with them."
        ),
    ] = None,
    novel: Annotated[
        str | None, typer.Option(help="Classes not seen in training, in the same way; with --base only.")
    ] = None,
    descriptions: Annotated[
        Path | None, typer.Option(metavar="FILE", help="JSON {name: description}, such as `froster describe` writes.")
    ] = None,
    templates: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help='Prompts, one a line, "a video of {}."; by default those of the model.'),
    ] = None,
    student: Annotated[
        str | None, typer.Option(help="The video network: frame_clip, vclip, vclip:window=2,boundary=masked.")
    ] = None,
    views: Annotated[int, typer.Option(min=1, help="Clips taken from each video; their scores are averaged.")] = 3,
    frames: Annotated[int, typer.Option(min=1, help="Frames a clip.")] = 8,
    sampling: Annotated[
        SamplingName, typer.Option(help="release: take and prepare frames as the authors' code does.")
    ] = SamplingName.uniform,
    mistakes: Annotated[int, typer.Option(min=0, help="Mistakes shown as short films, the surest first.")] = 12,
    attention: Annotated[bool, typer.Option(help="Show where the model looked in them.")] = True,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")] = "auto",
    precision: Annotated[Precision, typer.Option(help="auto: bfloat16 where the machine has it.")] = Precision.auto,
    workers: Annotated[int, typer.Option(min=1, help="Videos decoded at a time.")] = 2,
    out: Annotated[Path, typer.Option(metavar="FILE", help="The page, one .html file.")] = Path("report.html"),
) -> None:
    """Evaluate a model and write a page: accuracies, confusions, its worst mistakes as films, training curves.

    Example: froster report runs/first --data clips.csv --split test
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from froster.data.manifests import read_manifest
    from froster.report import write_report
    from froster.report.write import check_page_path

    check_page_path(out)
    check_one_way(labels, labels_file, base, novel)
    videos = read_manifest(data, split)
    vocabularies = read_vocabularies(videos, labels, labels_file, base, novel, descriptions)
    prompts = templates_of(model, templates)

    errors = Console(stderr=True, highlight=False, soft_wrap=True, markup=False)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(
        *columns,
        console=errors,
        transient=True,
        disable=not errors.is_terminal,
        redirect_stdout=False,
        redirect_stderr=False,
    ) as bar:
        number = sum(map(len, vocabularies.values()))
        task = bar.add_task(f"Loading {model} and reading {number} labels", total=None)
        write_report(
            model,
            videos,
            vocabularies,
            data,
            out,
            split=split,
            student=student,
            templates=prompts,
            views=views,
            frames=frames,
            sampling=sampling.value,
            device=device,
            precision=precision.value,
            workers=workers,
            mistakes=mistakes,
            attention=attention,
            progress=lambda what, done, total: bar.update(task, description=what, completed=done, total=total),
        )
    print(out)


def check_one_way(labels: str | None, labels_file: str | None, base: str | None, novel: str | None) -> None:
    """Raises `FrosterError` where the classes are named in no clear way."""
    ways = (labels is not None) + (labels_file is not None) + (base is not None or novel is not None)
    if ways > 1 or (base is None) != (novel is None):
        raise FrosterError(
            "Say in one way which classes to look for: --labels, or --labels-file, or --base together with --novel, "
            "or nothing for the labels of the manifest."
        )


def read_vocabularies(
    videos: Sequence["LabelledVideo"],
    labels: str | None,
    labels_file: str | None,
    base: str | None,
    novel: str | None,
    descriptions: Path | None,
) -> dict[str, "Labels"]:
    """The labels of each vocabulary, `all`, or `base` and `novel`; by default those of the videos."""
    from froster.text.descriptions import describe_labels
    from froster.text.labels import parse_labels, read_labels

    vocabularies: dict[str, Labels]
    if base is not None and novel is not None:
        vocabularies = {"base": names_or_file(base, "--base"), "novel": names_or_file(novel, "--novel")}
    elif labels_file is not None:
        vocabularies = {"all": read_labels(labels_file)}
    elif labels is not None:
        vocabularies = {"all": parse_labels(labels)}
    else:
        vocabularies = {"all": dict.fromkeys(sorted({video.label for video in videos}), "")}
    if descriptions is not None:
        together = {name: text for names in vocabularies.values() for name, text in names.items()}
        described = describe_labels(together, descriptions)
        vocabularies = {part: {name: described[name] for name in names} for part, names in vocabularies.items()}
    return vocabularies
