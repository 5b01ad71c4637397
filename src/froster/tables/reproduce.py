"""Train and test the rows of a table, and collect its cells."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from froster.data.manifests import LabeledVideo
from froster.data.trained import TrainedVideos, refuse_trained_videos
from froster.data.vocabularies import read_vocabulary
from froster.errors import FrosterError, did_you_mean
from froster.inference import Ensemble
from froster.merging import patch_model
from froster.models import load_backbone
from froster.processes import count_processes
from froster.protocols.base_to_novel import (
    Halves,
    TrainingLists,
    base_to_novel,
    draw_training_lists,
    halves_of,
    published_lists,
)
from froster.protocols.cross_dataset import classes_of, load_test_data, parts_of, run_cross_dataset
from froster.protocols.data import ProtocolData, find_training_lists, load_data
from froster.protocols.models import Pretrained, ShowProgress, no_progress
from froster.protocols.results import Results, column_of
from froster.protocols.scores import PAPER_SETTINGS
from froster.protocols.trade_off import TradeOff, measure_trade_off
from froster.published import Row, Table, read_table
from froster.settings import InferenceSettings
from froster.shipped import find_recipe
from froster.students import VideoStudent
from froster.tables.runs import SharedRun
from froster.tables.texts import describe, describe_halves, find_descriptions
from froster.text.classes import ClassTexts
from froster.text.distance import encode_vocabulary, hausdorff_similarity

SHOTS, DRAWS = 16, 3  # of base-to-novel
FIGURE_CLIP = "vit-b-16"  # reads the class names of FROSTER Fig. 1 and 5


@dataclass(frozen=True)
class TableSettings:
    """What the user has, and where things go.

    `manifests`: folder of `DATASET.csv`. `out`: folder of runs, scores and tables, shared by all tables. `changes`: to
    every recipe, `"key=value"`; `model=` replaces the tested CLIP too. `descriptions`: folder of the authors'
    description files. `training_lists`: folder of published few-shot lists; by default the clips are drawn.
    """

    manifests: Path = Path("manifests")
    out: Path = Path("runs/reproduce")
    changes: tuple[str, ...] = ()
    test: InferenceSettings = PAPER_SETTINGS
    descriptions: Path | None = None
    training_lists: Path | None = None
    shots: int = SHOTS
    draws: int = DRAWS

    def model(self, name: str) -> str:
        """The CLIP used for a published backbone: itself, or that of `changes`."""
        given = [change.partition("=")[2] for change in self.changes if change.startswith("model=")]
        return given[-1] if given else name


@dataclass
class RowResult:
    """What was measured of a row; `error`: why it could not be."""

    row: Row
    results: Results = field(default_factory=Results)
    trade_off: TradeOff | None = None
    error: str = ""

    @property
    def is_measured(self) -> bool:
        return bool(self.results.scores) or self.trade_off is not None


@dataclass
class TableResult:
    """A table's rows, measured or not yet.

    `notes` are of the table as a whole; `similarities`: of a figure's columns, the Hausdorff similarity (a cosine) of
    the tested classes to the trained ones.
    """

    table: Table
    rows: list[RowResult]
    notes: list[str] = field(default_factory=list)
    similarities: dict[str, float] = field(default_factory=dict)


class Data:
    """The datasets of a table that have a manifest, each read once; `missing` are the others."""

    def __init__(self, table: Table, settings: TableSettings) -> None:
        self.table, self.settings = table, settings
        self.tested = dict[str, ProtocolData]()
        self.missing = list[str]()
        for name in table.datasets:
            if has_manifest(name, settings.manifests):
                self.tested[name] = load_test_data(name, settings.manifests)
            else:
                self.missing.append(name)
        if not self.tested:
            load_test_data(table.datasets[0], settings.manifests)  # raises the error that says what to do
        self.trained = None if table.protocol == "base-to-novel" else load_data(table.train, settings.manifests)

    def files(self, row: Row, name: str) -> list[Path]:
        """The descriptions of a dataset for a row that uses them."""
        folder = self.settings.descriptions
        return find_descriptions(folder, name) if row.descriptions and folder else []

    def source(self, row: Row, dataset: str) -> SharedRun | Pretrained:
        """What a row tests; its recipe trains on `dataset`."""
        settings = self.settings
        if row.model is not None:
            return Pretrained(settings.model(row.model), row.student or None)
        files = [str(path) for path in self.files(row, dataset)]
        texts = [f"data.descriptions={files[0] if len(files) == 1 else json.dumps(files)}"] if files else []
        recipe = find_recipe((row.recipe or "").format(dataset=dataset))
        return SharedRun(recipe, (*row.changes, *texts, *settings.changes), settings.out / "runs")

    def halves(self, data: ProtocolData, row: Row) -> Halves:
        return describe_halves(halves_of(data), self.files(row, data.name))

    def training_lists(self, data: ProtocolData) -> TrainingLists:
        """The clips of each draw of base-to-novel: published, or drawn."""
        base, settings = list(halves_of(data).base), self.settings
        if settings.training_lists is None:
            return draw_training_lists(data, base, settings.shots, settings.draws)
        lists, classes = find_training_lists(settings.training_lists, data.name)
        return published_lists(lists, classes, data, base)

    def training_videos(self) -> list[LabeledVideo]:
        """The training split of the dataset that cross-dataset and trade-off train on."""
        assert self.trained is not None
        return self.trained.split(self.trained.train_split)


def has_manifest(name: str, manifests: Path) -> bool:
    lists = [manifests / f"{name}-draw-1.csv"] if name == "kinetics-600" else []
    return any(path.exists() for path in (manifests / f"{name}.csv", *lists))


def choose_rows(table: Table, names: Sequence[str]) -> list[Row]:
    """The rows of these methods, all by default. Raises `FrosterError` that names the nearest for an unknown one."""
    by_name = {row.method.lower(): row for row in table.rows}
    for name in names:
        if name.lower() not in by_name:
            methods = [row.method for row in table.rows]
            raise FrosterError(f"{table.name} has no row {name!r}; {did_you_mean(name, methods)}")
    return [by_name[name.lower()] for name in names] or list(table.rows)


def reproduce(
    name: str,
    settings: TableSettings,
    rows: Sequence[str] = (),
    show_progress: ShowProgress = no_progress,
    after_row: Callable[[TableResult], None] | None = None,
) -> TableResult:
    """Train and test the rows of a table, by default all that can be; what is done in `settings.out` is not done again.

    Runs and scored videos are shared by rows and tables. A row that fails has its `error`; the others continue,
    except under a launcher of several processes, where an error of one of them ends all.
    `after_row` is called with what is measured so far. Raises `FrosterError` for an unknown table or row, and where
    manifests are missing.
    """
    table = read_table(name)
    chosen = choose_rows(table, rows)
    data = Data(table, settings)
    result = TableResult(table, [RowResult(row) for row in table.rows], table_notes(table, data, settings))
    if table.figure in ("ensembles", "gains"):
        result.similarities = measure_similarities(data)
    for of_row in result.rows:
        row = of_row.row
        if row not in chosen or (row.recipe is None and row.model is None):
            continue
        try:
            measure_row(of_row, data, show_progress)
        except FrosterError as error:
            if count_processes() > 1:
                raise  # others may be waiting for this one: the launcher ends them
            of_row.error = str(error)
        if after_row is not None:
            after_row(result)
    return result


def table_notes(table: Table, data: Data, settings: TableSettings) -> list[str]:
    notes = [table.note] if table.note else []
    if data.missing:
        notes.append(f"Without {', '.join(data.missing)}: no manifest in {settings.manifests}.")
    if settings.changes:
        notes.append(f"All recipes changed: {' '.join(settings.changes)}.")
    if settings.descriptions is None and any(row.descriptions for row in table.rows):
        notes.append("No class descriptions were given: FROSTER's numbers are with them.")
    return notes


def measure_similarities(data: Data) -> dict[str, float]:
    """By column, how near the tested classes are to the trained ones, as frozen CLIP reads their names (Fig. 1, 5)."""
    assert data.trained is not None
    model = Pretrained(data.settings.model(FIGURE_CLIP), "frame_clip").network
    trained = encode_vocabulary(model, data.trained.title, ClassTexts.of_names(classes_of(data.trained)))
    found: dict[str, float] = {}
    for name, of in data.tested.items():
        names = read_vocabulary("kinetics-600-new") if name == "kinetics-600" else classes_of(of)
        tested = encode_vocabulary(model, of.title, ClassTexts.of_names(names))
        similarity = hausdorff_similarity(trained.embeddings, tested.embeddings)
        found |= {column_of(column): similarity for column in parts_of(of)}
    return found


def measure_row(of_row: RowResult, data: Data, show_progress: ShowProgress) -> None:
    """Raises `FrosterError` as training and testing do."""
    measure = {
        "base-to-novel": measure_base_to_novel,
        "cross-dataset": measure_cross_dataset,
        "trade-off": measure_row_trade_off,
    }[data.table.protocol]
    measure(of_row, data, show_progress)


def measure_base_to_novel(of_row: RowResult, data: Data, show_progress: ShowProgress) -> None:
    settings, row = data.settings, of_row.row
    for name, of in data.tested.items():
        source = data.source(row, name)
        lists = data.training_lists(of) if source.is_trained else TrainingLists([])
        halves = data.halves(of, row)
        ensemble = ensemble_of(row, source, settings)
        of_row.results.add(
            base_to_novel(of, halves, source, lists, settings.out, settings.test, show_progress, ensemble)
        )


def measure_cross_dataset(of_row: RowResult, data: Data, show_progress: ShowProgress) -> None:
    settings, row = data.settings, of_row.row
    model = trained_model(row, data)
    ensemble = ensemble_of(row, data.source(row, data.table.train), settings)
    for name, of in data.tested.items():
        labels = describe(ClassTexts.of_names(classes_of(of)), data.files(row, name))
        columns = parts_of(of, closed=name == data.table.train)
        found = run_cross_dataset(of, model, labels, settings.out, settings.test, show_progress, columns, ensemble)
        of_row.results.add(found)


def measure_row_trade_off(of_row: RowResult, data: Data, show_progress: ShowProgress) -> None:
    settings, row = data.settings, of_row.row
    assert data.trained is not None
    source = data.source(row, data.table.train)
    assert isinstance(source, SharedRun)
    # The curve patches by itself: it starts from the weights as they were trained.
    student = replace(source, changes=(*source.changes, "patch_ratio=0")).load(Path(), data.training_videos())
    clip = load_backbone(source.read().model)
    models = [patch_model(student, clip, ratio) for ratio in data.table.ratios]
    datasets = {of.name: of for of in (data.trained, *data.tested.values())}
    labels = {
        name: describe(ClassTexts.of_names(classes_of(of)), data.files(row, name)) for name, of in datasets.items()
    }
    of_row.trade_off = measure_trade_off(
        models,
        data.table.ratios,
        data.trained,
        list(data.tested.values()),
        labels,
        settings.out,
        settings.test,
        show_progress,
    )


def trained_model(row: Row, data: Data) -> VideoStudent:
    """The row's model, trained where it has a recipe.

    Raises `FrosterError` where all tested videos are trained on.
    """
    source = data.source(row, data.table.train)
    if not source.is_trained:
        return source.load(Path())
    videos = data.training_videos()
    trained = TrainedVideos.of(videos, data.settings.manifests / f"{data.table.train}.csv")
    for of in data.tested.values():
        refuse_trained_videos(trained, of.videos, of.title)  # before a training that takes days
    return source.load(Path(), videos)


def ensemble_of(row: Row, source: SharedRun | Pretrained, settings: TableSettings) -> Ensemble | None:
    """Frozen CLIP of the backbone that the row trains, where its outputs are added."""
    if row.ensemble is None:
        return None
    model = source.read().model if isinstance(source, SharedRun) else source.name
    return Ensemble(Pretrained(model, "frame_clip").network, row.ensemble)
