"""Cross-dataset (FROSTER Table 2): trained on one dataset, tested on the classes of others.

EP1: half of the classes, ten draws; EP2: all classes, all videos; EP3: all classes, each official test split. Of
Kinetics-600: three draws of 160 classes that Kinetics-400 lacks.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from froster.data.manifests import LabeledVideo, listed
from froster.data.trained import note_trained_videos
from froster.data.vocabularies import DRAWS, VOCABULARIES, canonical_names, read_vocabulary
from froster.errors import FrosterError
from froster.protocols.data import ProtocolData, incompleteness, load_data
from froster.protocols.models import ShowProgress, no_progress
from froster.protocols.parts import HALVES, Part, evaluate_part, mean_std, random_half, select_videos
from froster.protocols.results import PartResult, Results
from froster.protocols.scores import TestSettings, score_data_set
from froster.students import VideoStudent
from froster.text.labels import Labels, read_labels

PARTS_OF = {  # the papers' columns: how they call EP1, EP2 and EP3
    "ucf-101": ("UCF EP1", "UCF*", "UCF"),
    "hmdb-51": ("HMDB EP1", "HMDB*", "HMDB"),
}


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


def parts_of(data: ProtocolData, halves: Sequence[tuple[str, ...]] = ()) -> dict[str, list[Part]]:
    """By column of the table, the parts whose mean it is; `halves`: the draws of EP1, by default ten of our own."""
    names = classes_of(data)
    if data.name == "kinetics-600":
        listed = any(split.startswith("draw-") for video in data.videos for split in video.splits)
        draws = [
            Part(f"draw {d}", read_vocabulary(f"kinetics-600-draw-{d}"), f"draw-{d}" if listed else data.test_split)
            for d in range(1, DRAWS + 1)
        ]
        return {data.title: draws}
    half, whole, splits = PARTS_OF.get(data.name, (f"{data.title} EP1", f"{data.title}*", data.title))
    halves = halves or [random_half(names, draw) for draw in range(1, HALVES + 1)]
    parts = {half: [Part(f"half {draw}", chosen) for draw, chosen in enumerate(halves, start=1)]}
    parts[whole] = [Part("all", names)]
    there = sorted({split for video in data.videos for split in video.splits if split.startswith("test")})
    if there:
        parts[splits] = [Part(split, names, split) for split in there]
    return parts


def read_half_classes(path: Path, data: ProtocolData) -> tuple[str, ...]:
    """A published draw of EP1 from a labels file. Raises `FrosterError` for a class that the dataset lacks."""
    names = classes_of(data)
    half = canonical_names(read_labels(path), names)
    if unknown := [name for name in half if name not in names]:
        raise FrosterError(f"{path}: {listed(unknown)} are no classes of {data.title}.")
    return tuple(half)


def classes_of(data: ProtocolData) -> tuple[str, ...]:
    """The vocabulary of the dataset, or the labels of its videos."""
    if data.name in VOCABULARIES:
        return read_vocabulary(data.name)
    return tuple(sorted({video.label for video in data.videos}))


def measure(
    data: ProtocolData,
    model: VideoStudent,
    descriptions: Labels,
    out: Path,
    settings: TestSettings,
    show_progress: ShowProgress = no_progress,
    halves: Sequence[tuple[str, ...]] = (),
) -> Results:
    """All numbers of one dataset; every video is scored once. Raises `FrosterError` where it has no video to test."""
    columns = parts_of(data, halves)
    parts = [part for of_column in columns.values() for part in of_column]
    names = {name: None for part in parts for name in part.classes}
    labels = {name: descriptions.get(name, "") for name in names}
    videos = select_videos(data.videos, parts)
    if not videos:
        raise FrosterError(f"{data.manifest} has no video of the classes and splits to test on.")
    trained = note_trained_videos(model.trained_on, videos, data.title)
    with show_progress(data.title) as progress:
        [scores] = score_data_set([model], labels, videos, out / data.name / "scores", settings, progress)
    measured = Results(unreadable=scores.unreadable, notes=[*filter(None, [incompleteness(data)]), *trained])
    for column, of_column in columns.items():
        tested = [part for part in of_column if any(part.contains(video) for video in scores.videos)]
        if len(tested) < len(of_column):
            measured.notes.append(f"{column}: {len(of_column) - len(tested)} of {len(of_column)} parts have no video.")
        if not tested:
            continue
        found = [evaluate_part(scores, part) for part in tested]
        for part, evaluation in zip(tested, found, strict=True):
            measured.part_results.append(PartResult(column, part.split or "all videos", part.name, evaluation))
        measured.scores[column] = {"mean": mean_std([100 * evaluation.top1 for evaluation in found])}
        if data.name == "kinetics-600":
            measured.scores[column]["top-5"] = mean_std([100 * (evaluation.top5 or 0.0) for evaluation in found])
    return measured
