"""What a table takes before it is started: training runs, clips, steps, tested videos, hours and memory."""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from froster.backbones.build import build_backbone
from froster.data.manifests import LabeledVideo
from froster.device import pick_autocast
from froster.errors import VideoError
from froster.inference import pick_inference_device
from froster.methods import describe, model_sizes
from froster.protocols.cross_dataset import parts_of
from froster.protocols.models import Pretrained
from froster.protocols.parts import Part, select_videos
from froster.published import Row, read_table
from froster.settings import InferenceSettings
from froster.students import build_student
from froster.tables.reproduce import Data, TableSettings, choose_rows
from froster.tables.runs import SharedRun
from froster.training.recipe import TrainRecipe
from froster.video import load_video

PROBED_CLIPS = {"cpu": 1, "cuda": 8}
PROBED_VIDEOS = 4
PROBED_PROMPTS = 16
PROMPT_LENGTH = 13  # tokens: the prompts of Kinetics' names have 12.8 on average
TRAINING_PROMPTS = 2  # of each class in a step: one template and the bare name
OPTIMIZER_BYTES = 16  # of a trained parameter: weight, gradient and AdamW's two averages in float32
GIB = 1 << 30


@dataclass(frozen=True)
class PlannedRun:
    """A training run that some rows of the table share; `steps` of the optimizer."""

    rows: tuple[str, ...]
    recipe: TrainRecipe
    folder: Path
    clips: int
    classes: int
    done: bool

    @property
    def steps(self) -> int:
        settings = self.recipe.optimizer
        per_epoch = max(1, self.clips // min(settings.batch_size, self.clips))
        return max(settings.epochs * per_epoch, settings.min_steps)

    @property
    def seen_clips(self) -> int:
        """Clips of all steps."""
        return self.steps * min(self.recipe.optimizer.batch_size, self.clips)


@dataclass(frozen=True)
class PlannedTest:
    """Videos that a model scores; `models`: of a trade-off, one for each interpolation weight."""

    row: str
    dataset: str
    student: str
    model: str
    videos: int
    classes: int
    models: int = 1


@dataclass
class Plan:
    """`skipped`: published rows that cannot be run here."""

    table: str
    runs: list[PlannedRun]
    tests: list[PlannedTest]
    skipped: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def plan_table(name: str, settings: TableSettings, rows: Sequence[str] = ()) -> Plan:
    """The runs and tests of a table; nothing is trained or decoded. Raises `FrosterError` as `reproduce`."""
    table = read_table(name)
    chosen = choose_rows(table, rows)
    data = Data(table, settings)
    runs = dict[Path, PlannedRun]()
    tests = list[PlannedTest]()
    skipped = [row.method for row in chosen if row.recipe is None and row.model is None]
    for row in chosen:
        if row.method in skipped:
            continue
        if table.protocol == "base-to-novel":
            plan_base_to_novel(row, data, runs, tests)
        else:
            plan_trained_once(row, data, runs, tests)
    notes = [f"No manifest of {', '.join(data.missing)}: left out."] if data.missing else []
    return Plan(name, list(runs.values()), tests, skipped, notes)


def plan_base_to_novel(row: Row, data: Data, runs: dict[Path, PlannedRun], tests: list[PlannedTest]) -> None:
    for name, of in data.tested.items():
        source, halves = data.source(row, name), data.halves(of, row)
        part = Part("all", (*halves.base, *halves.novel), (of.test_split,))
        videos = len(select_videos(of.videos, [part]))
        draws: list[list[LabeledVideo]] = data.training_lists(of).draws if isinstance(source, SharedRun) else [[]]
        for number, clips in enumerate(draws):
            if isinstance(source, SharedRun):
                add_run(runs, source, row, clips, len(halves.base), number)
            tests.append(PlannedTest(row.method, of.title, *network_of(source), videos, len(part.classes)))


def plan_trained_once(row: Row, data: Data, runs: dict[Path, PlannedRun], tests: list[PlannedTest]) -> None:
    """A row of cross-dataset or of a trade-off."""
    table = data.table
    source = data.source(row, table.train)
    if isinstance(source, SharedRun):
        clips = data.training_videos()
        add_run(runs, source, row, clips, len({video.label for video in clips}))
    for name, of in data.tested.items():
        parts = [part for column in parts_of(of, closed=name == table.train).values() for part in column]
        classes = len({label for part in parts for label in part.classes})
        videos = len(select_videos(of.videos, parts))
        tests.append(PlannedTest(row.method, of.title, *network_of(source), videos, classes, max(1, len(table.ratios))))
        if row.ensemble is not None:
            tests.append(
                PlannedTest(f"{row.method}, frozen CLIP", of.title, "frame_clip", tests[-1].model, videos, classes)
            )


def add_run(
    runs: dict[Path, PlannedRun],
    source: SharedRun,
    row: Row,
    clips: Sequence[LabeledVideo],
    classes: int,
    number: int = 0,
) -> None:
    """A run that another row has already is not trained twice."""
    folder = source.folder(clips, number)
    rows = (*runs[folder].rows, row.method) if folder in runs else (row.method,)
    runs[folder] = PlannedRun(rows, source.read(), folder, len(clips), classes, source.is_done(clips, number))


def network_of(source: SharedRun | Pretrained) -> tuple[str, str]:
    """Student and backbone."""
    if isinstance(source, SharedRun):
        recipe = source.read()
        return recipe.student, recipe.model
    return source.student or "frame_clip", source.name


@dataclass(frozen=True)
class Rates:
    """Measured with one backbone, per clip: seconds of its plain network, and bytes kept for the backward pass.

    `test` in the precision of the tests, `forward` and `backward` in that of training; `text`: of one prompt; `read`:
    seconds of a core for decoding one clip, None where no video could be read.
    """

    device: str
    test: float
    forward: float
    backward: float
    activations: int
    text: float
    read: float | None


@dataclass(frozen=True)
class Estimate:
    """Hours of what is not done yet, and the most memory of a run; `notes` say how they were found."""

    train_hours: float
    test_hours: float
    memory_gib: float
    notes: tuple[str, ...]


def estimate(plan: Plan, settings: TableSettings, videos: Sequence[LabeledVideo] = ()) -> Estimate:
    """Measure a few clips of each backbone on this machine, and scale by what each network multiplies and adds.

    `videos`: of which a few are decoded. Raises `FrosterError` for a backbone whose sizes are not known.
    """
    rates = dict[str, Rates]()
    for model in dict.fromkeys([run.recipe.model for run in plan.runs] + [test.model for test in plan.tests]):
        rates[model] = probe(model, settings.test, videos)
    train = sum(train_seconds(run, rates[run.recipe.model]) for run in plan.runs if not run.done)
    test = sum(test_seconds(test, rates[test.model], settings.test) for test in plan.tests)
    memory = max((run_memory(run, rates[run.recipe.model]) for run in plan.runs), default=0)
    device = next(iter(rates.values())).device
    notes = [
        f"Hours: measured on this machine ({device}) with a few clips of each backbone and random weights, scaled by "
        "the multiplications and additions of each network; on a shared machine they vary.",
        "Memory: weights, gradients, optimizer and activations of a batch, without what the framework takes.",
    ]
    if all(rate.read is None for rate in rates.values()):
        notes.append("Decoding is not counted: no video could be read.")
    return Estimate(train / 3600, test / 3600, memory / GIB, tuple(notes))


def relative_cost(student: str, model: str, frames: int) -> float:
    """Multiplications and additions of a student's clip, as a multiple of the plain network's."""
    config, name = model_sizes(model), student.partition(":")[0].replace("-", "_")
    return describe(name, config, frames).flops.clip / describe("frame_clip", config, frames).flops.clip


def train_seconds(run: PlannedRun, rates: Rates) -> float:
    recipe = run.recipe
    cost = relative_cost(recipe.student, recipe.model, recipe.data.frames)
    per_clip = cost * (rates.forward + rates.backward) * (2 if recipe.interpolation else 1)
    if recipe.distillation:
        per_clip += rates.forward  # the teacher
    if recipe.activation_checkpointing:
        per_clip += cost * rates.forward
    if rates.read is not None:
        per_clip = max(per_clip, rates.read / max(1, recipe.data.workers))
    trains_text = recipe.trained in ("default", "all", "text")
    per_step = run.classes * TRAINING_PROMPTS * rates.text * 3 if trains_text else 0  # backward costs twice forward
    return run.seen_clips * per_clip + run.steps * per_step


def test_seconds(test: PlannedTest, rates: Rates, settings: InferenceSettings) -> float:
    sampling = settings.clip_sampling()
    cost = relative_cost(test.student, test.model, sampling.frames)
    per_view = cost * rates.test * test.models
    if rates.read is not None:
        per_view = max(per_view, rates.read / settings.workers)
    return test.videos * sampling.views * per_view


def run_memory(run: PlannedRun, rates: Rates) -> float:
    """Bytes; of activations with checkpointing, about a tenth is kept."""
    recipe = run.recipe
    config = model_sizes(recipe.model)
    network = describe(recipe.student.partition(":")[0].replace("-", "_"), config, recipe.data.frames)
    micro_batch = recipe.optimizer.batch_size // recipe.optimizer.gradient_accumulation_steps
    activations = rates.activations * relative_cost(recipe.student, recipe.model, recipe.data.frames)
    if recipe.activation_checkpointing:
        activations /= 10
    weights = network.trained * OPTIMIZER_BYTES + network.parameters * 4 * (1 + (recipe.distillation is not None))
    return weights + activations * min(micro_batch, run.clips)


def probe(model: str, settings: InferenceSettings, videos: Sequence[LabeledVideo] = ()) -> Rates:
    """Time a few clips of the plain network at the size of `model`, with random weights, and read a few videos."""
    where = pick_inference_device(settings.device)
    config = model_sizes(model)
    student = build_student("frame_clip", build_backbone(config)).to(where)
    size = config.image_size
    clips = torch.rand(PROBED_CLIPS.get(where.type, 1), settings.clip_sampling().frames, 3, size, size, device=where)
    count = len(clips)
    with torch.inference_mode(), torch.autocast(where.type, enabled=False):
        test = seconds(lambda: student.forward_features(clips), where)
    dtype = pick_autocast("auto", where)
    autocast = torch.autocast(where.type, dtype or torch.bfloat16, enabled=dtype is not None)
    own = {parameter.untyped_storage().data_ptr() for parameter in student.parameters()}
    kept = dict[int, int]()

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    def forward() -> Tensor:
        with autocast:
            return student.forward_features(clips).frame_embeddings.float().square().mean()

    def forward_and_backward() -> None:
        forward().backward()

    with torch.no_grad():
        ahead = seconds(forward, where)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        forward_and_backward()
    both = seconds(forward_and_backward, where)
    prompts = torch.zeros(PROBED_PROMPTS, config.context_length, dtype=torch.int64, device=where)
    prompts[:, PROMPT_LENGTH] = config.vocab_size - 1  # the end token
    with torch.no_grad(), autocast:
        text = seconds(lambda: student.encode_prompts(prompts), where) / len(prompts)
    activations = sum(size for address, size in kept.items() if address not in own) // count
    read = read_seconds(videos, settings)
    return Rates(str(where), test / count, ahead / count, max(both - ahead, 0) / count, activations, text, read)


def seconds(work: Callable[[], object], where: torch.device) -> float:
    """The faster of two runs after a first one."""
    times = []
    for _ in range(3):
        begin = time.perf_counter()
        work()
        if where.type == "cuda":
            torch.cuda.synchronize(where)
        times.append(time.perf_counter() - begin)
    return min(times[1:])


def read_seconds(videos: Sequence[LabeledVideo], settings: InferenceSettings) -> float | None:
    """Seconds of a core for one clip of the first videos that can be read."""
    times = []
    for video in videos[:PROBED_VIDEOS]:
        begin = time.perf_counter()
        try:
            load_video(video.path, frames=settings.clip_sampling().frames, views=1, start=video.start, end=video.end)
        except VideoError:
            continue
        times.append(time.perf_counter() - begin)
    return statistics.median(times) if times else None


def plan_lines(plan: Plan, estimated: Estimate | None) -> list[str]:
    """The plan in lines, for people."""
    lines = []
    for run in plan.runs:
        optimizer = run.recipe.optimizer
        state = "done" if run.done else f"{optimizer.epochs} epochs, batch {optimizer.batch_size}, {run.steps:,} steps"
        rows = ", ".join(dict.fromkeys(run.rows))
        lines.append(f"train {run.folder.name} ({rows}): {run.clips:,} clips of {run.classes} classes, {state}")
    for test in plan.tests:
        many = f", {test.models} models at once" if test.models > 1 else ""
        lines.append(f"test {test.row} on {test.dataset}: {test.videos:,} videos, {test.classes} classes{many}")
    todo = [run for run in plan.runs if not run.done]
    lines.append(
        f"{len(plan.runs)} training runs, {len(plan.runs) - len(todo)} of them done; {len(todo)} to train: "
        f"{sum(run.steps for run in todo):,} steps, {sum(run.seen_clips for run in todo):,} clips; "
        f"{sum(test.videos for test in plan.tests):,} videos to score, less what is kept from before"
    )
    if estimated is not None:
        lines.append(
            f"about {estimated.train_hours:.1f} hours of training and {estimated.test_hours:.1f} of testing, "
            f"{estimated.memory_gib:.1f} GiB for the largest run"
        )
        lines += estimated.notes
    lines += [f"{method} cannot be reproduced here: it has no recipe" for method in plan.skipped]
    return lines + plan.notes
