"""Cross-dataset (FROSTER Table 2): trained on one dataset, tested on the classes of others.

EP1: half of the classes, ten draws; EP2: all classes, all videos; EP3: all classes, each official test split. Of
Kinetics-600: three draws of 160 of the 220 classes that Kinetics-400 lacks. Of a dataset that was trained on: its test
split with all classes (closed-set accuracy).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from froster.data.manifests import LabeledVideo, listed
from froster.data.trained import note_trained_videos
from froster.data.vocabularies import DRAWS, VOCABULARIES, canonical_names, published_halves, read_vocabulary
from froster.errors import FrosterError
from froster.inference import Ensemble
from froster.mean_std import mean_std
from froster.protocols.data import ProtocolData, incompleteness, load_data
from froster.protocols.models import ShowProgress, no_progress
from froster.protocols.parts import HALVES, Part, evaluate_part, random_half, select_videos
from froster.protocols.results import PartResult, Results, column_of
from froster.protocols.scores import Scores, score_with_ensemble
from froster.settings import InferenceSettings
from froster.students import VideoStudent
from froster.text.classes import ClassTexts
from froster.text.labels import read_labels


@dataclass(frozen=True)
class Columns:
    """The papers' names of a dataset's columns EP1, EP2 and EP3, and the splits of the videos in EP1 and EP2."""

    half: str
    full: str
    official: str
    splits: tuple[str, ...] = ()


# Both papers' "full" list of HMDB-51 holds the 5,100 videos of split 1, not all 6,766.
COLUMNS = {
    "ucf-101": Columns("UCF EP1", "UCF*", "UCF"),
    "hmdb-51": Columns("HMDB EP1", "HMDB*", "HMDB", ("train1", "test1")),
}
CLOSED_SETS = ("kinetics-400", "ssv2")  # the papers train on these: only their test split is tested


def load_test_data(name: str, manifests: Path) -> ProtocolData:
    """`load_data`; of Kinetics-600 the published lists of the three draws, where these are among the manifests."""
    lists = [manifests / f"kinetics-600-draw-{draw}.csv" for draw in range(1, DRAWS + 1)]
    if name != "kinetics-600" or not any(path.exists() for path in lists):
        return load_data(name, manifests)
    videos: dict[tuple[Path, float | None], LabeledVideo] = {}
    for draw, path in enumerate(lists, start=1):
        for video in load_data("kinetics-600", manifests, path).videos:
            before = videos[key].splits if (key := (video.path, video.start)) in videos else ()
            videos[key] = replace(video, splits=(*before, f"draw-{draw}"))
    return replace(load_data(name, manifests, lists[0]), videos=list(videos.values()), manifest=manifests)


def parts_of(
    data: ProtocolData, halves: Sequence[tuple[str, ...]] = (), closed: bool = False, all_videos: bool = False
) -> dict[str, list[Part]]:
    """By column of the table, the parts whose mean it is.

    `halves`: the classes of each draw of EP1, by default the published ones of UCF-101 and HMDB-51, else ten random
    ones. `closed`: the model was trained on this dataset, so that only the test split is tested. `all_videos`: EP1 and
    EP2 of HMDB-51 on all videos, not on those of split 1 as in the papers.
    """
    names = classes_of(data)
    if data.name == "kinetics-600" and not closed:
        listed = any(split.startswith("draw-") for video in data.videos for split in video.splits)
        draws = [
            Part(f"draw {d}", read_vocabulary(f"kinetics-600-draw-{d}"), (f"draw-{d}" if listed else data.test_split,))
            for d in range(1, DRAWS + 1)
        ]
        return {data.title: draws}
    if closed or data.name in CLOSED_SETS:
        return {data.title: [Part("all", names, (data.test_split,))]}
    columns = COLUMNS.get(data.name, Columns(f"{data.title} EP1", f"{data.title}*", data.title))
    splits = () if all_videos or lacks_splits(data) else columns.splits
    halves = halves or published_halves(data.name) or [random_half(names, draw) for draw in range(1, HALVES + 1)]
    parts = {columns.half: [Part(f"half {draw}", chosen, splits) for draw, chosen in enumerate(halves, start=1)]}
    parts[columns.full] = [Part("all", names, splits)]
    there = sorted({split for video in data.videos for split in video.splits if split.startswith("test")})
    if there:
        parts[columns.official] = [Part(split, names, (split,)) for split in there]
    return parts


def lacks_splits(data: ProtocolData) -> bool:
    """Whether no video is in the splits that the papers test in EP1 and EP2, as in a manifest without the lists."""
    wanted = COLUMNS[data.name].splits if data.name in COLUMNS else ()
    return bool(wanted) and not any(split in wanted for video in data.videos for split in video.splits)


def zero_shot_part(data: ProtocolData) -> tuple[str, Part]:
    """Column and part that Open-VCLIP Fig. 2 tests: all of UCF-101 and HMDB-51, the first draw of Kinetics-600.

    Of other datasets the test split.
    """
    if data.name == "kinetics-600":
        [draws] = parts_of(data).values()
        return f"{column_of(data.title)} draw 1", draws[0]
    if data.name in COLUMNS:
        column = COLUMNS[data.name].full
        return column, parts_of(data)[column][0]
    return data.title, Part("all", classes_of(data), (data.test_split,))


def read_half_classes(path: Path, data: ProtocolData) -> tuple[str, ...]:
    """A published draw of EP1 from a labels file. Raises `FrosterError` for a class that the dataset lacks."""
    names = classes_of(data)
    half = canonical_names(read_labels(path), names)
    if unknown := [name for name in half if name not in names]:
        raise FrosterError(f"{path}: {listed(unknown)} are not classes of {data.title}.")
    return tuple(half)


def classes_of(data: ProtocolData) -> tuple[str, ...]:
    """The vocabulary of the dataset, or the labels of its videos."""
    if data.name in VOCABULARIES:
        return read_vocabulary(data.name)
    return tuple(sorted({video.label for video in data.videos}))


def run_cross_dataset(
    data: ProtocolData,
    model: VideoStudent,
    descriptions: ClassTexts,
    out: Path,
    settings: InferenceSettings,
    show_progress: ShowProgress = no_progress,
    columns: dict[str, list[Part]] | None = None,
    ensemble: Ensemble | None = None,
) -> Results:
    """Test a model on `columns` of one dataset, by default `parts_of`; every video is scored once.

    Scores are kept in `out`. Raises `FrosterError` if there is no video to test.
    """
    columns = columns or parts_of(data)
    parts = [part for of_column in columns.values() for part in of_column]
    labels = descriptions.for_names(name for part in parts for name in part.classes)
    videos = select_videos(data.videos, parts)
    if not videos:
        raise FrosterError(f"{data.manifest} has no video of the classes and splits to test on.")
    trained = note_trained_videos(model.trained_on, videos, data.title)
    with show_progress(data.title) as progress:
        scores = score_with_ensemble(model, labels, videos, out / data.name / "scores", settings, progress, ensemble)
    measured = summarize(scores, columns, data)
    measured.notes += trained
    return measured


def summarize(scores: Scores, columns: dict[str, list[Part]], data: ProtocolData) -> Results:
    """Mean and std of each column from the scores of a dataset's videos."""
    measured = Results(unreadable=scores.unreadable, notes=[*filter(None, [incompleteness(data)])])
    if lacks_splits(data):
        measured.notes.append(f"{data.title}: no video has a split, so EP1 and EP2 are of all videos.")
    for column, of_column in columns.items():
        tested = [part for part in of_column if any(part.contains(video) for video in scores.videos)]
        if len(tested) < len(of_column):
            measured.notes.append(f"{column}: {len(of_column) - len(tested)} of {len(of_column)} parts have no video.")
        if not tested:
            continue
        found = [evaluate_part(scores, part) for part in tested]
        for part, evaluation in zip(tested, found, strict=True):
            measured.part_results.append(PartResult(column, part.videos_from, part.name, evaluation))
        measured.scores[column] = {"mean": mean_std([100 * evaluation.top1 for evaluation in found])}
        if data.name == "kinetics-600":
            measured.scores[column]["top-5"] = mean_std([100 * (evaluation.top5 or 0.0) for evaluation in found])
    return measured
