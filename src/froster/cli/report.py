"""`froster report`: a model on labeled videos as one HTML page."""

from pathlib import Path
from typing import Annotated

import typer

from froster.cli.options import (
    BaseOption,
    DescriptionsOption,
    DeviceOption,
    FramesOption,
    LabelsFileOption,
    LabelsOption,
    ManifestOption,
    ModelArgument,
    NovelOption,
    Precision,
    PrecisionOption,
    SamplingOption,
    SplitOption,
    StudentOption,
    TemplatesOption,
    ViewsOption,
    WorkersOption,
)
from froster.cli.terminal import Screen, echo
from froster.cli.vocabularies import announce_splits, announce_templates, check_one_way, read_vocabularies


def report(
    model: ModelArgument,
    data: ManifestOption,
    split: SplitOption = None,
    labels: LabelsOption = None,
    labels_file: LabelsFileOption = None,
    base: BaseOption = None,
    novel: NovelOption = None,
    descriptions: DescriptionsOption = None,
    templates: TemplatesOption = None,
    student: StudentOption = None,
    views: ViewsOption = None,
    frames: FramesOption = None,
    sampling: SamplingOption = None,
    mistakes: Annotated[int, typer.Option(min=0, help="Number of most confident errors shown as short videos.")] = 12,
    attention: Annotated[bool, typer.Option(help="Show where the model looked in them.")] = True,
    device: DeviceOption = "auto",
    precision: PrecisionOption = Precision.auto,
    workers: WorkersOption = 2,
    out: Annotated[Path, typer.Option(metavar="FILE", help="The page, one .html file.")] = Path("report.html"),
) -> None:
    """Evaluate a model and write a page: accuracies, confusions, its worst mistakes as films, training curves.

    Example: froster report runs/first --data clips.csv --split test
    """

    from froster.cli.progress import progress_bar
    from froster.data.manifests import read_manifest
    from froster.reporting import write_report
    from froster.reporting.write import check_page_path
    from froster.text.prompts import read_templates

    check_page_path(out)
    check_one_way(labels, labels_file, base, novel)
    videos = read_manifest(data, split)
    announce_splits(videos, split, data)
    vocabularies = read_vocabularies(videos, labels, labels_file, base, novel, descriptions)
    prompts = read_templates(templates) if templates is not None else None
    announce_templates(model, prompts)

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
