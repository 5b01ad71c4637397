"""`froster protocol`: the papers' tables, a row with one command."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from froster.cli.interrupt import stopped_by_signals
from froster.cli.options import (
    FRAMES,
    SAMPLING,
    VIEWS,
    BackboneOption,
    DeviceOption,
    EnsembleOption,
    Precision,
    PrecisionOption,
    SamplingName,
    StudentOption,
    TemplatesOption,
    WorkersOption,
    pick_settings,
    read_backbone,
)
from froster.cli.terminal import Screen, echo, warn
from froster.errors import FrosterError

if TYPE_CHECKING:
    from froster.protocols.data import ProtocolData
    from froster.protocols.models import Pretrained, TrainFromRecipe
    from froster.protocols.results import Report
    from froster.settings import InferenceSettings
    from froster.text.classes import ClassTexts

app = typer.Typer(
    name="protocol", help="Train and test as the papers do, and write their tables.", no_args_is_help=True
)

Changes = Annotated[list[str] | None, typer.Argument(help="Changes to the recipe: student=aim optimizer.epochs=6.")]
RecipeOption = Annotated[
    Path | None,
    typer.Option(
        help="The recipe that trains the student; by default FROSTER's, as published for the protocol.",
        show_default=False,
    ),
]
ModelToTest = Annotated[str | None, typer.Option(help="Test this model as it is, without training.")]
Manifests = Annotated[Path, typer.Option(help="Folder of the manifests NAME.csv that `froster data check` writes.")]
Compare = Annotated[
    str | None,
    typer.Option(help="The published method to compare with; by default that of the network.", show_default=False),
]
Descriptions = Annotated[
    list[str] | None,
    typer.Option(metavar="[NAME=]FILE", help="Descriptions of the classes, of all datasets or of NAME alone."),
]
Views = Annotated[int, typer.Option(min=1, help=VIEWS)]
Frames = Annotated[int, typer.Option(min=1, help=FRAMES)]
Sampling = Annotated[SamplingName, typer.Option(help=SAMPLING)]

STOPPED = "Stopped; run the same command again to resume."


@app.callback()
def protocol() -> None:
    """Train and test as the papers do, and write their tables."""


@app.command()
def base_to_novel(
    dataset: Annotated[
        str, typer.Option(help="ucf-101, hmdb-51, kinetics-400, ssv2, or a manifest's name; with commas.")
    ],
    changes: Changes = None,
    recipe: RecipeOption = None,
    model: ModelToTest = None,
    student: StudentOption = None,
    backbone: BackboneOption = None,
    manifests: Manifests = Path("manifests"),
    shots: Annotated[
        int | None, typer.Option(min=1, help="Training clips of each base class (16).", show_default=False)
    ] = None,
    draws: Annotated[
        int | None, typer.Option(min=1, help="Draws of these clips, each trains a student (3).", show_default=False)
    ] = None,
    train_list: Annotated[
        list[Path] | None,
        typer.Option(
            help="Train on published lists instead: one for each draw (repeat the option), or the folder of "
            "ViFi-CLIP's or FROSTER's lists."
        ),
    ] = None,
    classes: Annotated[Path | None, typer.Option(help="The class names of --train-list, where it has numbers.")] = None,
    base: Annotated[str | None, typer.Option(help="Base classes of a dataset of your own: names or a file.")] = None,
    novel: Annotated[str | None, typer.Option(help="Its novel classes.")] = None,
    descriptions: Descriptions = None,
    templates: TemplatesOption = None,
    views: Views = 3,
    frames: Frames = 8,
    sampling: Sampling = SamplingName.release,
    device: DeviceOption = "auto",
    precision: PrecisionOption = Precision.float32,
    workers: WorkersOption = 2,
    ensemble: EnsembleOption = None,
    compare: Compare = None,
    out: Annotated[Path, typer.Option(help="Folder for runs, scores and the report.")] = Path("runs/base-to-novel"),
) -> None:
    """FROSTER's Table 1: train on a few clips of each base class, test on base and on novel classes.

    The classes of the known datasets are halved as published; of your own, the frequent half is base. If
    interrupted, the same command resumes.

    Example: froster protocol base-to-novel --dataset ucf-101 --shots 16 --draws 3
    """
    from dataclasses import replace

    from froster.cli.vocabularies import names_or_file
    from froster.inference import Ensemble
    from froster.protocols.base_to_novel import (
        TrainingLists,
        base_to_novel,
        custom_halves,
        default_recipe,
        draw_training_lists,
        halves_of,
        published_lists,
    )
    from froster.protocols.data import find_training_lists, load_data
    from froster.protocols.models import Pretrained
    from froster.protocols.reference import find_reference, named_reference
    from froster.protocols.results import Report, Results
    from froster.published import base_to_novel as published

    names = names_of(dataset)
    if (base is None) != (novel is None):
        raise FrosterError("--base and --novel go together.")
    folder = train_list[0] if train_list and len(train_list) == 1 and train_list[0].is_dir() else None
    if len(names) > 1 and (base is not None or (train_list and not folder)):
        raise FrosterError("--base, --novel and the files of --train-list are of one dataset: name one with --dataset.")
    if (model or train_list) and (shots or draws):
        raise FrosterError(f"--shots and --draws have no meaning with --{'model' if model else 'train-list'}.")
    if model and train_list:
        raise FrosterError("--train-list is to train on; leave it out where a --model is tested as it is.")
    source = pick_source(recipe or default_recipe(names[0]), changes, model, student, backbone, recipe is not None)
    rows = published()
    reference = named_reference(compare, "base-to-novel") if compare else None
    settings = pick_settings(views, frames, sampling, device, precision, workers, templates)
    data = [load_data(name, manifests) for name in names]
    texts = FilesByName(descriptions, [of.name for of in data], "--descriptions")
    second = Ensemble.parse(ensemble) if ensemble else None
    measured = Results()
    with stopped_by_signals(STOPPED):
        for of in data:
            if base is not None and novel is not None:
                halves = custom_halves(names_or_file(base, "--base"), names_or_file(novel, "--novel"), of)
            else:
                halves = halves_of(of)
            halves = replace(
                halves,
                base=described(halves.base, texts, of.name),
                novel=described(halves.novel, texts, of.name),
            )
            if isinstance(source, Pretrained):
                lists = TrainingLists([])
                measured.add(base_to_novel(of, halves, source, lists, out, settings, show_progress, second))
                continue
            if train_list:
                found, base_classes = find_training_lists(folder, of.name) if folder else (train_list, None)
                lists = published_lists(found, classes or base_classes, of, list(halves.base))
            else:
                lists = draw_training_lists(of, list(halves.base), shots or 16, draws or 3)
            trained = with_descriptions(source, texts, of.name)
            if recipe is None:
                trained = replace(trained, recipe=default_recipe(of.name))
            measured.add(base_to_novel(of, halves, trained, lists, out, settings, show_progress, second))
        files = {"descriptions": texts.to_json(), "templates": templates and str(templates), "ensemble": ensemble}
        what = about(source.describe(), data, settings, **files)
        if ensemble is None:
            reference = reference or find_reference("base-to-novel", source, bool(texts))
        if reference is not None and reference.descriptions and not texts:
            measured.notes.append(
                f"{reference.method} was published with class descriptions; give them with --descriptions."
            )
        show(Report("Base to novel", what, measured, rows, ("base", "novel", "hm"), reference), out)


@app.command()
def cross_dataset(
    test: Annotated[str, typer.Option(help="ucf-101, hmdb-51, kinetics-600, or manifests' names; with commas.")],
    changes: Changes = None,
    train: Annotated[
        str | None, typer.Option(help="The dataset to train on (kinetics-400).", show_default=False)
    ] = None,
    recipe: RecipeOption = None,
    model: ModelToTest = None,
    student: StudentOption = None,
    backbone: BackboneOption = None,
    manifests: Manifests = Path("manifests"),
    half: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=FILE", help="A published half of NAME's classes for EP1 (repeat the option)."),
    ] = None,
    all_videos: Annotated[
        bool,
        typer.Option("--all-videos", help="HMDB* and HMDB EP1 on all videos; by default on those of split 1."),
    ] = False,
    descriptions: Descriptions = None,
    templates: TemplatesOption = None,
    views: Views = 3,
    frames: Frames = 8,
    sampling: Sampling = SamplingName.release,
    device: DeviceOption = "auto",
    precision: PrecisionOption = Precision.float32,
    workers: WorkersOption = 2,
    ensemble: EnsembleOption = None,
    compare: Compare = None,
    out: Annotated[Path, typer.Option(help="Folder for the run, scores and the report.")] = Path("runs/cross-dataset"),
) -> None:
    """FROSTER's Table 2: train on one dataset, test on the classes of others (EP1, EP2, EP3; draws of Kinetics-600).

    If interrupted, the same command resumes.

    Example: froster protocol cross-dataset --train kinetics-400 --test ucf-101,hmdb-51,kinetics-600
    """
    from froster.data.trained import TrainedVideos, refuse_trained_videos
    from froster.inference import Ensemble
    from froster.protocols.cross_dataset import (
        classes_of,
        load_test_data,
        parts_of,
        read_half_classes,
        run_cross_dataset,
    )
    from froster.protocols.data import load_data
    from froster.protocols.models import Pretrained
    from froster.protocols.reference import find_reference, named_reference
    from froster.protocols.results import Report, Results
    from froster.published import cross_dataset as published
    from froster.text.classes import ClassTexts

    if model and train:
        raise FrosterError("--train is to train; leave it out where a --model is tested as it is.")
    source = pick_source(recipe or Path("vit-b-16/froster"), changes, model, student, backbone, recipe is not None)
    rows = published()
    reference = named_reference(compare, "cross-dataset") if compare else None
    settings = pick_settings(views, frames, sampling, device, precision, workers, templates)
    tested = [load_test_data(name, manifests) for name in names_of(test)]
    trained_on = [] if isinstance(source, Pretrained) else [load_data(train or "kinetics-400", manifests)]
    names = [of.name for of in (*trained_on, *tested)]
    texts = FilesByName(descriptions, names, "--descriptions")
    half_files = FilesByName(half, names, "--half", for_all=False)
    halves = {of.name: [read_half_classes(Path(path), of) for path in half_files.of(of.name)] for of in tested}
    closed = {of.name for of in trained_on}
    second = Ensemble.parse(ensemble) if ensemble else None
    measured = Results()
    with stopped_by_signals(STOPPED):
        if isinstance(source, Pretrained):
            network = source.network
        else:
            [data] = trained_on
            videos = data.split(data.train_split)
            trained = TrainedVideos.of(videos, data.manifest)
            for of in tested:
                refuse_trained_videos(trained, of.videos, of.title)  # before a training that takes hours
            measured.notes.append(f"Trained on {len(videos)} clips of {data.manifest}.")
            network = with_descriptions(source, texts, data.name).load(out, videos)
        for of in tested:
            labels = described(ClassTexts.of_names(classes_of(of)), texts, of.name)
            columns = parts_of(of, halves[of.name], of.name in closed, all_videos)
            measured.add(run_cross_dataset(of, network, labels, out, settings, show_progress, columns, second))
        files = {"descriptions": texts.to_json(), "halves": half_files.to_json(), "ensemble": ensemble}
        what = about(source.describe(), tested, settings, **files, templates=templates and str(templates))
        if ensemble is None:
            reference = reference or find_reference("cross-dataset", source, bool(texts))
        if reference is not None and reference.descriptions and not texts:
            measured.notes.append(
                f"{reference.method} was published with class descriptions; give them with --descriptions."
            )
        show(Report("Cross-dataset", what, measured, rows, ("mean", "top-5"), reference), out)


@app.command()
def trade_off(
    model: Annotated[str, typer.Argument(help="A fine-tuned student: a checkpoint or a run's folder.")],
    clip: Annotated[str, typer.Argument(help="The CLIP that it started from.")],
    test: Annotated[str, typer.Option(help="Datasets that it was not trained on; with commas.")],
    closed: Annotated[str, typer.Option(help="The dataset that it was trained on.")] = "kinetics-400",
    ratio: Annotated[list[float] | None, typer.Option(min=0, max=1, help="Shares of CLIP (repeat the option).")] = None,
    manifests: Manifests = Path("manifests"),
    descriptions: Descriptions = None,
    templates: TemplatesOption = None,
    views: Views = 3,
    frames: Frames = 8,
    sampling: Sampling = SamplingName.release,
    device: DeviceOption = "auto",
    precision: PrecisionOption = Precision.float32,
    workers: WorkersOption = 2,
    out: Annotated[Path, typer.Option(help="Folder for scores, table and plot.")] = Path("runs/trade-off"),
) -> None:
    """Open-VCLIP's Fig. 2: accuracy on the trained classes against others, as CLIP's share in the weights grows.

    Every video is decoded once for all ratios. If interrupted, the same command resumes.

    Example: froster protocol trade-off runs/k400 vit-b-16 --closed kinetics-400 --test ucf-101,hmdb-51
    """
    from froster.merging import patch_model
    from froster.models import load_backbone, load_model
    from froster.processes import find_processes
    from froster.protocols.cross_dataset import classes_of, load_test_data
    from froster.protocols.data import load_data
    from froster.protocols.results import videos_text
    from froster.protocols.trade_off import RATIOS, measure_trade_off, write_trade_off
    from froster.text.classes import ClassTexts

    settings = pick_settings(views, frames, sampling, device, precision, workers, templates)
    data = [load_data(closed, manifests), *(load_test_data(name, manifests) for name in names_of(test))]
    ratios = sorted(set(ratio or RATIOS))
    student, original = load_model(model), load_backbone(clip)
    models = [patch_model(student, original, ratio) for ratio in ratios]
    texts = FilesByName(descriptions, [of.name for of in data], "--descriptions")
    with stopped_by_signals(STOPPED):
        labels = {of.name: described(ClassTexts.of_names(classes_of(of)), texts, of.name) for of in data}
        measured = measure_trade_off(models, ratios, data[0], data[1:], labels, out, settings, show_progress)
        if not find_processes().is_main_process:
            return
        files = {"descriptions": texts.to_json(), "templates": templates and str(templates)}
        what = about({"model": model, "clip": clip, "student": models[0].name}, data, settings, **files)
        for note in measured.notes:
            warn(note)
        if measured.unreadable:
            warn(f"{videos_text(len(measured.unreadable))} could not be read.")
        for path in write_trade_off(measured, what, out):
            echo(str(path))


def names_of(text: str) -> list[str]:
    """Names with commas, each once."""
    names = list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    if not names:
        raise FrosterError("Name at least one dataset.")
    return names


def pick_source(
    recipe: Path,
    changes: list[str] | None,
    model: str | None,
    student: str | None,
    backbone: list[str] | None,
    recipe_given: bool,
) -> "TrainFromRecipe | Pretrained":
    """What is tested. Raises `FrosterError` for both a recipe and a model."""
    from froster.protocols.models import Pretrained, TrainFromRecipe
    from froster.shipped import existing_recipe

    if model is None:
        if student is not None:
            raise FrosterError("--student is for --model; a recipe has its own: type student=NAME.")
        if backbone:
            raise FrosterError("--backbone is for --model; a recipe has its own: type backbone.KEY=VALUE.")
        return TrainFromRecipe(existing_recipe(recipe), tuple(changes or ()))
    if recipe_given or changes:
        raise FrosterError("Give either --recipe, to train a student, or --model, to test one as it is.")
    return Pretrained(model, student, read_backbone(backbone) or None)


class FilesByName:
    """Files that options name: `NAME=FILE` for one dataset, `FILE` for all.

    Raises `FrosterError` for a name that is none of `names`, a file that does not exist, and, where `for_all` is False,
    for one without a name.
    """

    def __init__(self, given: list[str] | None, names: Sequence[str], option: str, for_all: bool = True) -> None:
        from froster.data.vocabularies import VOCABULARY_SPELLINGS
        from froster.text.names import name_key

        self.of_all: list[str] = []
        self.of_one: dict[str, list[str]] = {}
        spellings = {name_key(name): name for name in names}
        for entry in given or ():
            name, equals, file = entry.partition("=")
            if for_all and (Path(entry).exists() or not equals):
                name, file = "", entry
            elif not equals:
                raise FrosterError(f"{option} {entry!r} is not of the form NAME=FILE.")
            if not Path(file).exists():
                raise FrosterError(f"{option}: there is no file {file}.")
            of = spellings.get(name_key(VOCABULARY_SPELLINGS.get(name_key(name), name)))
            if not name:
                self.of_all.append(file)
            elif of is None:
                raise FrosterError(f"{option} {entry!r}: {name!r} is none of the datasets here, {', '.join(names)}.")
            else:
                self.of_one.setdefault(of, []).append(file)

    def __bool__(self) -> bool:
        return bool(self.of_all or self.of_one)

    def of(self, name: str) -> list[str]:
        return self.of_one.get(name, self.of_all)

    def to_json(self) -> dict[str, object]:
        return {**({"all": self.of_all} if self.of_all else {}), **self.of_one}


def described(labels: "ClassTexts", files: FilesByName, name: str) -> "ClassTexts":
    from froster.text.descriptions import describe_labels, merge_descriptions

    given = files.of(name)
    return describe_labels(labels, merge_descriptions(given), ", ".join(given)) if given else labels


def with_descriptions(source: "TrainFromRecipe", files: FilesByName, name: str) -> "TrainFromRecipe":
    """The recipe trains with the descriptions that the dataset is tested with."""
    from dataclasses import replace

    given = files.of(name)
    if not given:
        return source
    value = given[0] if len(given) == 1 else json.dumps(given)
    return replace(source, changes=(*source.changes, f"data.descriptions={value}"))


def about(
    source: dict[str, object], data: "Sequence[ProtocolData]", settings: "InferenceSettings", **files: object
) -> dict[str, object]:
    """What was tested, on what and how, for the reports."""
    from dataclasses import asdict

    given = {key: value for key, value in asdict(settings).items() if value is not None}
    shown = {key: value for key, value in given.items() if key not in ("workers", "templates")}
    return {
        "tested": source,
        "data": {of.name: f"{of.manifest} ({len(of.videos)} videos)" for of in data},
        "settings": shown,
        **{key: value for key, value in files.items() if value},
    }


@contextmanager
def show_progress(what: str) -> Iterator[Callable[[int, int], None] | None]:
    """A bar on standard error while videos are tested, in the main process."""

    from froster.cli.progress import progress_bar
    from froster.processes import find_processes

    console = Screen(stderr=True, soft_wrap=True)
    with progress_bar(console, hide=not find_processes().is_main_process, redirect=True) as bar:
        task = bar.add_task(f"Testing {what}", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def show(report: "Report", out: Path) -> None:
    """Write the report and print its table, in the main process."""

    from froster.cli.evaluate import plain_table
    from froster.processes import find_processes
    from froster.protocols.results import videos_text

    if not find_processes().is_main_process:
        return
    files = report.write(out)
    header, rows = report.table()
    table = plain_table(header)
    for row in rows:
        table.add_row(*row, style="bold" if row[0] == "this run" else "")
    screen = Screen()
    screen.print(table)
    for note in report.measured.notes:
        screen.print(note, soft_wrap=True)
    if report.measured.unreadable:
        unread = videos_text(len(report.measured.unreadable))
        screen.print(f"{unread} could not be read; {files[1]} lists them.", soft_wrap=True)
    for path in files:
        echo(str(path))
