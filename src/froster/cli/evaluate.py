"""`froster evaluate`: how often a model is right on labeled videos."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from froster.cli.options import (
    BackboneOption,
    BaseOption,
    DescriptionsOption,
    DeviceOption,
    EnsembleOption,
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
from froster.cli.terminal import Screen, echo_json
from froster.cli.vocabularies import announce_templates, read_classes
from froster.errors import FrosterError

if TYPE_CHECKING:
    from rich.table import Table

    from froster.evaluation import Evaluation, ModelReport

SHOWN = 10  # classes and confusions in a table
LISTED = 20  # videos that could not be used


def evaluate(
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
    ensemble: EnsembleOption = None,
    views: ViewsOption = None,
    frames: FramesOption = None,
    sampling: SamplingOption = None,
    device: DeviceOption = "auto",
    precision: PrecisionOption = Precision.auto,
    workers: WorkersOption = 2,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Also write everything into this JSON file.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print that JSON instead of tables.")] = False,
) -> None:
    """Evaluate a model: top-1, top-5, accuracy of every class, and what it confuses.

    With --base and --novel, as in the papers: clips of either kind among their own classes, and the harmonic mean.

    Videos that cannot be read are listed below the result; where there are any, the exit status is 1.

    Example: froster evaluate runs/first --data clips.csv --base base.txt --novel novel.txt
    """
    if out is not None and out.is_dir():
        raise FrosterError(f"--out {out} is a folder; name a file in it.")

    import froster
    from froster.cli.progress import progress_bar
    from froster.files import printable_name, replace_when_written
    from froster.inference import Ensemble
    from froster.processes import process_index

    classes = read_classes(labels, labels_file, base, novel, descriptions)
    announce_templates(model, templates)

    errors = Screen(stderr=True, soft_wrap=True)
    with progress_bar(errors, hide=process_index() > 0) as bar:
        task = bar.add_task(f"Loading {model} and reading its labels", total=None)
        report = froster.evaluate(
            model,
            data,
            **classes,
            split=split,
            progress=lambda done, total: bar.update(task, description="Evaluating", completed=done, total=total),
            student=student,
            backbone=read_backbone(backbone),
            templates=templates,
            views=views,
            frames=frames,
            sampling=None if sampling is None else sampling.value,
            device=device,
            precision=precision.value,
            workers=workers,
            ensemble=Ensemble.parse(ensemble) if ensemble else None,
        )
    if process_index():  # under torchrun every process has the same report; the first one shows it
        return
    content = report.to_json()
    text = json.dumps(content, indent=2, ensure_ascii=False)
    try:
        if out is not None:
            with replace_when_written(out) as temporary:
                temporary.write_text(printable_name(text) + "\n", encoding="utf-8")
    finally:  # a full disk must not cost the result
        if as_json:
            echo_json(content, indent=2)
        else:
            show(report, Screen())
    if report.unreadable:
        raise typer.Exit(1)


def show(report: "ModelReport", screen: "Screen") -> None:
    """Totals, the worst classes, the most frequent confusions, and the videos that could not be used."""
    of = report.settings
    network = of.student + "".join(f" {key}={value}" for key, value in of.student_options.items())
    screen.print(f"{of.model} ({network}) on {of.manifest}", style="bold", soft_wrap=True)
    how = f"{of.views} x {of.frames} frames, {of.sampling} sampling, {of.precision} on {of.device}"
    screen.print(how, soft_wrap=True)
    screen.print()
    screen.print(totals_table(report))
    for name, part in report.parts.items():
        kind = "" if name == "all" else f"{name} "
        show_classes(part, kind, screen)
        if part.confusions:
            show_confusions(part, kind, screen)
    show_unusable(report, screen)


def totals_table(report: "ModelReport") -> "Table":
    from rich.text import Text

    table = plain_table(["", "clips", "classes", "top-1", "top-5", "mean per class"])
    for name, part in report.parts.items():
        top1 = Text(percent(part.top1), style="bold green")
        top5 = "" if part.top5 is None else percent(part.top5)
        table.add_row(name, str(part.clips), str(part.classes), top1, top5, percent(part.mean_class_accuracy))
    if report.harmonic_mean is not None:
        table.add_row("harmonic mean", "", "", Text(percent(report.harmonic_mean), style="bold green"))
    return table


def show_classes(part: "Evaluation", kind: str, screen: "Screen") -> None:
    from rich.bar import Bar
    from rich.text import Text

    number = f"{len(part.per_class)} {kind}classes"
    what = f"The worst {SHOWN} of {number}" if len(part.per_class) > SHOWN else f"{number}, worst first"
    some = " (the others have no clips)" if len(part.per_class) < part.classes else ""
    screen.print(f"\n{what}{some}", style="bold", soft_wrap=True)
    table = plain_table(["", "clips", "right"])
    for name, share in list(part.per_class.items())[:SHOWN]:
        bar = [Bar(1.0, 0.0, share, width=20, color="blue")] if screen.is_terminal else []
        table.add_row(Text(name), str(part.clips_per_class[name]), percent(share), *bar)
    screen.print(table)


def show_confusions(part: "Evaluation", kind: str, screen: "Screen") -> None:
    from rich.text import Text

    screen.print(f"\nMost frequent {kind}confusions", style="bold", soft_wrap=True)
    table = plain_table(["truth", "predicted", "clips"], texts=2)
    for truth, predicted, count in part.confusions[:SHOWN]:
        table.add_row(Text(truth), Text(predicted), f"{count} of {part.clips_per_class[truth]}")
    screen.print(table)


def plain_table(columns: list[str], texts: int = 1) -> "Table":
    """A table without lines: `texts` columns of words, then numbers."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for place, column in enumerate(columns):
        table.add_column(column, justify="left" if place < texts else "right", overflow="fold", header_style="dim")
    return table


def percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def show_unusable(report: "ModelReport", screen: "Screen") -> None:
    """How many videos could not be read, or only in part, and the first of them with the reason."""
    for failures, what in (
        (report.unreadable, "could not be read; not counted among the clips"),
        (report.partial, "could be read only in part; counted all the same"),
    ):
        if failures:
            screen.print(f"\n{len(failures)} of {report.videos} videos {what}:", soft_wrap=True)
            for _, reason in failures[:LISTED]:
                screen.print(f"  {reason}", soft_wrap=True)
            if len(failures) > LISTED:
                screen.print(f"  … and {len(failures) - LISTED} more, all of them in --out and --json", soft_wrap=True)
