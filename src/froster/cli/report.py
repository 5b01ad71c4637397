"""`froster report`: a model on labeled videos as one HTML page."""

from pathlib import Path
from typing import Annotated

import typer

from froster.cli.options import (
    BackboneOption,
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
    read_backbone,
)
from froster.cli.terminal import Screen, echo
from froster.cli.vocabularies import announce_templates, read_classes


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
    backbone: BackboneOption = None,
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

    import froster
    from froster.cli.progress import progress_bar
    from froster.processes import process_index
    from froster.reporting.write import check_page_path

    check_page_path(out)
    classes = read_classes(labels, labels_file, base, novel, descriptions)
    announce_templates(model, templates)

    errors = Screen(stderr=True, soft_wrap=True)
    with progress_bar(errors, hide=process_index() > 0) as bar:
        task = bar.add_task(f"Loading {model} and reading its labels", total=None)
        froster.report(
            model,
            data,
            out,
            **classes,
            split=split,
            mistakes=mistakes,
            attention=attention,
            progress=lambda what, done, total: bar.update(task, description=what, completed=done, total=total),
            student=student,
            backbone=read_backbone(backbone),
            templates=templates,
            views=views,
            frames=frames,
            sampling=None if sampling is None else sampling.value,
            device=device,
            precision=precision.value,
            workers=workers,
        )
    if not process_index():
        echo(str(out))
