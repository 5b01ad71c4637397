"""Base-to-novel (FROSTER Table 1): trained on a few clips of each base class, tested on base and on novel classes."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from froster.data.manifests import LabeledVideo, hint, listed
from froster.data.trained import note_trained_videos
from froster.data.vocabularies import canonical_names, read_vocabulary
from froster.errors import FrosterError
from froster.evaluation import harmonic_mean
from froster.inference import Ensemble
from froster.mean_std import mean_std
from froster.protocols.data import ProtocolData, has_halves, incompleteness, read_training_list
from froster.protocols.models import Pretrained, ShowProgress, TrainFromRecipe, no_progress
from froster.protocols.parts import Part, draw_shots, evaluate_part, frequent_half, select_videos
from froster.protocols.results import PartResult, Results
from froster.protocols.scores import score_with_ensemble
from froster.settings import InferenceSettings
from froster.shipped import find_recipe, shipped_recipes
from froster.text.classes import ClassTexts


@dataclass(frozen=True)
class Halves:
    """The classes of a dataset that are trained, and those that are not; with their descriptions."""

    base: ClassTexts
    novel: ClassTexts

    def __post_init__(self) -> None:
        if both := sorted(self.base.keys() & self.novel.keys()):
            raise FrosterError(f"{both[0]!r} is both a base and a novel class; leave it out of one.")


@dataclass(frozen=True)
class TrainingLists:
    """What each draw is trained on, and what there is to say about it."""

    draws: list[list[LabeledVideo]]
    notes: list[str] = field(default_factory=list)


def default_recipe(dataset: str) -> Path:
    """FROSTER's recipe for the dataset: batch size, flip and averaging differ between the papers' four."""
    name = f"vit-b-16/base-to-novel/froster-{dataset}"
    return find_recipe(name if name in shipped_recipes() else "froster-vit-b-16")


def halves_of(data: ProtocolData) -> Halves:
    """The published halves; of a dataset of one's own the classes with more training clips are base."""
    if has_halves(data.name):
        base, novel = read_vocabulary(f"{data.name}-base"), read_vocabulary(f"{data.name}-novel")
    else:
        base, novel = frequent_half(data.split(data.train_split), data.split(data.test_split))
    return Halves(ClassTexts.of_names(base), ClassTexts.of_names(novel))


def draw_training_lists(data: ProtocolData, base: Sequence[str], shots: int, draws: int) -> TrainingLists:
    """`shots` clips of each base class at random for each draw, from the training split.

    Raises `FrosterError` where a base class has none.
    """
    videos = data.split(data.train_split)
    lists = TrainingLists([])
    for draw in range(1, draws + 1):
        chosen, short = draw_shots(videos, base, shots, draw)
        if empty := [name for name, count in short.items() if not count]:
            raise FrosterError(
                f"The manifest {data.manifest} has no clip of the base class {empty[0]!r} in the split "
                f"{data.train_split!r}" + (f", nor of {len(empty) - 1} others" if len(empty) > 1 else "") + "."
            )
        lists.draws.append(chosen)
    lists.notes.append(f"{data.title}: {shots} clips of each base class, drawn from its split {data.train_split}.")
    if short:
        lists.notes.append(f"{len(short)} base classes of {data.title} have fewer than {shots} training clips.")
    return lists


def published_lists(
    paths: Sequence[Path], classes: Path | None, data: ProtocolData, base: Sequence[str]
) -> TrainingLists:
    """Lists of others, one a draw, such as ViFi-CLIP's or FROSTER's.

    Raises `FrosterError` as `read_training_list`, and for a list with clips of the test split or of other classes than
    the base ones.
    """
    lists = TrainingLists([])
    for path in paths:
        published = read_training_list(path, classes, data)
        for what, videos in (
            (f"of the split {data.test_split!r}", [v for v in published.videos if data.test_split in v.splits]),
            ("of classes that are not base", [v for v in published.videos if v.label not in base]),
        ):
            if videos:
                names = listed(video.path.name for video in videos)
                raise FrosterError(f"The list {path} has {len(videos)} clips {what}: {names}.")
        lists.draws.append(published.videos)
        lists.notes.append(f"Trained on {len(published.videos)} clips of {path}.")
        if missing := published.missing:
            lists.notes.append(f"{len(missing)} clips of {path} are missing: {listed(missing)}.")
        if relabeled := published.relabeled:
            lists.notes.append(f"{len(relabeled)} clips of {path} have their own class, not the list's.")
    return lists


def base_to_novel(
    data: ProtocolData,
    halves: Halves,
    source: TrainFromRecipe | Pretrained,
    lists: TrainingLists,
    out: Path,
    settings: InferenceSettings,
    show_progress: ShowProgress = no_progress,
    ensemble: Ensemble | None = None,
) -> Results:
    """Train and test every draw; of a model as it is, only test it. What is done in `out` is not done again.

    HM is the harmonic mean of the mean base and the mean novel accuracy; its std is that of the draws'. Raises
    `FrosterError` as training and testing do, and where base or novel classes have no test video.
    """
    parts = [
        Part("base", tuple(halves.base), (data.test_split,)),
        Part("novel", tuple(halves.novel), (data.test_split,)),
    ]
    test = select_videos(data.videos, parts)
    for part in parts:
        if not any(part.contains(video) for video in test):
            raise FrosterError(f"{data.manifest} has no video of {part.name} classes in the split {data.test_split!r}.")
    measured = Results(notes=[*filter(None, [incompleteness(data)]), *lists.notes])
    if not has_halves(data.name):
        measured.notes.append(f"{data.title}, base: {', '.join(halves.base)}; novel: {', '.join(halves.novel)}.")
    labels = halves.base | halves.novel
    numbers: dict[str, list[float]] = {"base": [], "novel": [], "hm": []}
    for draw, training in enumerate(lists.draws if source.is_trained else [[]], start=1):
        model = source.load(out / data.name / f"draw-{draw}", training, draw - 1)
        measured.notes += note_trained_videos(model.trained_on, test, data.title)
        with show_progress(f"{data.title}, draw {draw}" if source.is_trained else data.title) as progress:
            scores = score_with_ensemble(model, labels, test, out / data.name / "scores", settings, progress, ensemble)
        measured.unreadable += [video for video in scores.unreadable if video not in measured.unreadable]
        found = {part.name: evaluate_part(scores, part) for part in parts}
        for name, evaluation in found.items():
            measured.part_results.append(PartResult(data.title, f"draw {draw}", name, evaluation, len(training)))
            numbers[name].append(100 * evaluation.top1)
        numbers["hm"].append(100 * harmonic_mean(found["base"].top1, found["novel"].top1))
    of_data = {key: mean_std(values) for key, values in numbers.items()}
    mean = harmonic_mean(of_data["base"].mean, of_data["novel"].mean)
    measured.scores[data.title] = of_data | {"hm": of_data["hm"].with_mean(mean)}
    return measured


def custom_halves(base: ClassTexts, novel: ClassTexts, data: ProtocolData) -> Halves:
    """Halves of one's own, in the spelling of the dataset."""
    there = sorted({video.label for video in data.videos})
    base, novel = (
        ClassTexts(replace(text, name=name) for name, text in zip(canonical_names(of, there), of.values(), strict=True))
        for of in (base, novel)
    )
    for name in (*base, *novel):
        if name not in there:
            raise FrosterError(f"{data.manifest} has no video of the class {name!r}{hint(name, there)}.")
    return Halves(base, novel)
