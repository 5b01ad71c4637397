"""`froster report`: a model on labelled videos as one HTML page."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from froster.cli.predict import Precision, SamplingName, tell_of_templates
from froster.cli.terminal import Screen, echo
from froster.cli.vocabularies import check_one_way, read_vocabularies

if TYPE_CHECKING:
    pass


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
    views: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Clips taken from each video; their scores are averaged. [default: the model's, or 3]",
        ),
    ] = None,
    frames: Annotated[int | None, typer.Option(min=1, help="Frames a clip. [default: the model's, or 8]")] = None,
    sampling: Annotated[
        SamplingName | None,
        typer.Option(
            help="release: take and prepare frames as the authors' code does. [default: the model's, or uniform]"
        ),
    ] = None,
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

    from froster.cli.progress import progress_bar
    from froster.data.manifests import read_manifest
    from froster.report import write_report
    from froster.report.write import check_page_path
    from froster.text.prompts import read_templates

    check_page_path(out)
    check_one_way(labels, labels_file, base, novel)
    videos = read_manifest(data, split)
    vocabularies = read_vocabularies(videos, labels, labels_file, base, novel, descriptions)
    prompts = read_templates(templates) if templates is not None else None
    tell_of_templates(model, prompts)

    errors = Screen(stderr=True, soft_wrap=True)
    with progress_bar(errors) as bar:
        task = bar.add_task(f"Loading {model} and reading its labels", total=None)
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
            sampling=None if sampling is None else sampling.value,
            device=device,
            precision=precision.value,
            workers=workers,
            mistakes=mistakes,
            attention=attention,
            progress=lambda what, done, total: bar.update(task, description=what, completed=done, total=total),
        )
    echo(str(out))
