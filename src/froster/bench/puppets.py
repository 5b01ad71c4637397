"""Base-to-novel on synthetic puppet videos: all methods on the same clips, with the same training budget.

In the regimes "few" and "hard" 10 of the 45 actions are base classes, in "many" half of them; the others are novel.
Each draw has its own training clips. In "few" and "many" each method has its own learning rate, tuned on a draw and on
test clips that are not reported; in "hard" all have the same high one, which stands for long training.
"""

import json
import multiprocessing
import os
import shutil
import signal
import statistics
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from froster.bench.report import write_report
from froster.bench.results import FROSTER, STUDENT_METHODS, TABLE_4, Result, append_result, read_results, select
from froster.bench.results import METHODS as NAMES
from froster.data.manifests import read_manifest
from froster.data.puppets import ACTIONS, write_videos
from froster.data.vocabularies import read_vocabulary
from froster.device import pick_device, pick_precision
from froster.errors import FrosterError
from froster.evaluation import evaluate_scores, harmonic_mean
from froster.extras import extra
from froster.files import replace_when_written
from froster.inference import video_scores
from froster.interpolation import patch_states
from froster.models import PUPPETS, load_backbone, load_model
from froster.shipped import find_recipe
from froster.students import VideoStudent
from froster.text.classifier import encode_classes
from froster.text.labels import check_labels
from froster.training.loop import train
from froster.training.recipe import TrainRecipe
from froster.video import Preprocessing, decode
from froster.video.sampling import uniform_indices

with extra("cli", "The benchmark"):
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

FEW = read_vocabulary("puppets-base")
BASE = {"hard": FEW, "few": FEW, "many": tuple(ACTIONS[::2])}
NOVEL = {regime: tuple(name for name in ACTIONS if name not in base) for regime, base in BASE.items()}
EPOCHS = {"hard": 12, "few": 12, "many": 5}  # about as many steps
WARMUP_EPOCHS = {"hard": 2, "few": 2, "many": 1}
HARD_RATE = 5e-4  # five times the best rate of most methods
FRAMES, SIZE = 8, 64
TRAIN_CLIPS, TUNING_CLIPS, TEST_CLIPS = 16, 20, 60  # per action
TRAIN_SEED, TEST_SEED, TUNING_SEED = 1_000_000, 2_000_000, 3_000_000  # of the generated videos
TUNING_DRAWS = (100,)
LEARNING_RATES = (2.5e-5, 5e-5, 1e-4, 2.5e-4, 5e-4)
RATIOS = (0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.0)  # Open-VCLIP Fig. 2, in the regime "hard" ...
CURVE_DRAWS = 3  # ... on the first draws
ALPHAS, BETAS = (1.0, 0.5, 0.05), (1.0, 3.0)  # in addition to 0.1 and 2 (FROSTER Tables 6 and 7)
PATCH = 0.5


@dataclass(frozen=True)
class Method:
    """A recipe, and the names under which its weights are reported."""

    recipe: str
    last: str | None  # the weights after the last epoch
    averaged: str | None = None  # the mean of the epochs after the warm-up
    patched: str | None = None  # that mean, interpolated with CLIP at `PATCH`
    ratios: tuple[float, ...] = (0.0,)  # interpolation weights of CLIP to test; the first one tunes the learning rate
    curve: bool = False  # also test all of `RATIOS`
    changes: tuple[str, ...] = ()  # overrides of the recipe


VARIANTS = {
    "fine_tuned": Method("fine-tuned", "fine_tuned", "fine_tuned_averaged", "fine_tuned_patched", curve=True),
    "weight_l2": Method("weight-l2", "weight_l2"),
    "open_vclip": Method("open-vclip", None, "open_vclip", ratios=(PATCH, 0.0), curve=True),
    "no_projector": Method("no-projector", "no_projector", "no_projector_averaged", "no_projector_patched"),
    "plain": Method("plain-projector", "plain", "plain_averaged", "plain_patched"),
    "residual": Method("residual", "residual", "froster_averaged", "froster_patched", curve=True),
    "distill_video": Method("distill-video", "distill_video"),
    "distill_text": Method("distill-text", "distill_text"),
}
# Every network without and with distillation, from one recipe; averaged epochs, as FROSTER is tested.
PAIRS = {
    name: Method(
        name.removesuffix(FROSTER).replace("_", "-"),
        None,
        name,
        changes=("distillation={}",) if name.endswith(FROSTER) else ("distillation=null",),
    )
    for name in STUDENT_METHODS
}
ROWS_OF_TABLE_4 = {name: Method(name.replace("_", "-"), name) for name in TABLE_4}
METHODS = VARIANTS | ROWS_OF_TABLE_4 | PAIRS


@dataclass(frozen=True)
class Job:
    """One training run."""

    regime: str
    method: str
    draw: int
    learning_rate: float
    alpha: float = 0.1
    beta: float = 2.0
    zero_init: bool = True

    @property
    def name(self) -> str:
        settings = f"alpha {self.alpha:g} beta {self.beta:g}" + ("" if self.zero_init else " random init")
        of_method = f" {settings}" if settings != "alpha 0.1 beta 2" else ""
        return f"{self.regime} {self.method}{of_method} lr {self.learning_rate:g} draw {self.draw}"

    def result(self, name: str, base: float, novel: float, ratio: float) -> Result:
        return Result(
            self.regime,
            name,
            self.draw,
            base,
            novel,
            ratio,
            alpha=self.alpha,
            beta=self.beta,
            zero_init=self.zero_init,
            learning_rate=self.learning_rate,
        )

    def recipe(self, work: Path) -> TrainRecipe:
        """The method's recipe with the clips of this draw and the common training budget."""
        rate = self.learning_rate
        changes = [
            f"out={work / 'runs' / self.name.replace(' ', '-')}",
            f"seed={self.draw}",
            f"data.manifest={train_folder(work, self.regime, self.draw) / 'manifest.csv'}",
            "data.puppets=null",
            f"optimizer.epochs={EPOCHS[self.regime]}",
            f"optimizer.warmup_epochs={WARMUP_EPOCHS[self.regime]}",
            *(f"optimizer.{key}={value}" for key, value in schedule(rate).items()),
            f"average_from={WARMUP_EPOCHS[self.regime]}",
            "patch_ratio=0",
            "keep_checkpoints=1",
        ]
        settings = {"alpha": self.alpha, "beta": self.beta, "zero_init": str(self.zero_init).lower()}
        if self.method == "residual":
            changes += [f"distillation.{key}={value}" for key, value in settings.items()]
        changes += METHODS[self.method].changes
        return TrainRecipe.read(find_recipe(f"puppets/{METHODS[self.method].recipe}"), changes)


def schedule(learning_rate: float) -> dict[str, float]:
    """Warm-up start and final rate at 1 % of the peak, as in the published recipe."""
    end = learning_rate / 100
    return {"learning_rate": learning_rate, "warmup_start": end, "final_learning_rate": end}


def train_folder(work: Path, regime: str, draw: int) -> Path:
    return work / "videos" / f"{len(BASE[regime])}-actions-{draw}"


def draw_training_clips(work: Path, regime: str, draw: int) -> None:
    folder = train_folder(work, regime, draw)
    if not (folder / "manifest.csv").exists():
        write_videos(folder, BASE[regime], TRAIN_CLIPS, frames=16, size=72, seed=TRAIN_SEED + 1000 * draw)


@dataclass(frozen=True)
class TestClips:
    """Decoded clips `(N, T, 3, S, S)` uint8, memory-mapped, and their action indices `(N,)` int64."""

    frames: NDArray[np.uint8]
    actions: NDArray[np.int64]


def open_test_clips(work: Path, seed: int, clips: int) -> TestClips:
    """Test clips of every action: generated, encoded as H.264, decoded, and cached on disk."""
    frames_path = work / f"test-{seed}-{clips}.npy"
    folder = work / "videos" / frames_path.stem
    if not frames_path.exists():
        manifest = write_videos(folder, ACTIONS, clips, frames=16, size=72, seed=seed)
        frames = np.stack([decode_test_clip(video.path) for video in read_manifest(manifest)])
        with replace_when_written(frames_path) as temporary:
            np.save(temporary, frames)
        shutil.rmtree(folder)
    return TestClips(np.load(frames_path, mmap_mode="r"), np.repeat(np.arange(len(ACTIONS)), clips))


def decode_test_clip(path: Path) -> NDArray[np.uint8]:
    reading = decode.read(
        path,
        lambda timeline: uniform_indices(timeline.times, timeline.duration, frames=FRAMES, views=1),
        lambda image: Preprocessing(SIZE).resize(torch.from_numpy(image)[None])[0].numpy(),
    )
    return np.stack([reading.kept[number] for number in reading.indices[0].tolist()])


def base_and_novel(model: VideoStudent, regime: str, test: TestClips) -> tuple[float, float]:
    """Top-1 in percent of base clips among base actions and of novel clips among novel actions."""
    device = pick_device("auto")
    model = model.to(device, pick_precision("auto", device)).eval()
    accuracy = []
    for names in (BASE[regime], NOVEL[regime]):
        rows = np.isin(test.actions, [ACTIONS.index(name) for name in names]).nonzero()[0]
        targets = torch.tensor([names.index(ACTIONS[action]) for action in test.actions[rows].tolist()])
        classes = encode_classes(model, check_labels(names))
        batches = (torch.from_numpy(test.frames[rows[i : i + 32]])[:, None] for i in range(0, len(rows), 32))
        scores = torch.cat([video_scores(model, batch, [classes])[0] for batch in batches])
        accuracy.append(100 * evaluate_scores(scores, targets, names).top1)
    return accuracy[0], accuracy[1]


@dataclass(frozen=True)
class Setup:
    """Folders of jobs, and their test clips: `test_clips` per action, with seeds from `test_seed` on."""

    work: Path
    test_seed: int
    test_clips: int
    only_last: bool = False  # no averaged or patched weights
    models: Path | None = None  # folder to keep trained checkpoints in, named as in the results


def run_job(job: Job, setup: Setup) -> list[Result]:
    """Train, test and clean up; an interrupted job resumes."""
    recipe = job.recipe(setup.work)
    draw_training_clips(setup.work, job.regime, job.draw)
    averaged = train(recipe, resume=True, show=False)
    last = recipe.out / "checkpoints" / f"epoch-{recipe.optimizer.epochs:03d}.safetensors"
    *_, final_step = (recipe.out / "log.jsonl").read_text(encoding="utf-8").splitlines()
    test = open_test_clips(setup.work, setup.test_seed, setup.test_clips)
    clip = load_backbone(PUPPETS).state_dict()
    results: list[Result] = []
    tested: dict[tuple[Path, float], tuple[float, float]] = {}
    for name, path, ratio in weights_to_test(job, last, averaged, setup.only_last):
        if (path, ratio) not in tested:
            student = load_model(path)
            student.load_state_dict(patch_states(clip, student.state_dict(), ratio))
            tested[path, ratio] = base_and_novel(student, job.regime, test)
        results.append(
            replace(job.result(name, *tested[path, ratio], ratio), seconds=json.loads(final_step)["seconds"])
        )
        if setup.models and ratio == 0:
            setup.models.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, setup.models / f"{name}.safetensors")
    shutil.rmtree(recipe.out)
    return results


def weights_to_test(job: Job, last: Path, averaged: Path, only_last: bool = False) -> Iterator[tuple[str, Path, float]]:
    """Name in the results, checkpoint, and interpolation weight of CLIP."""
    method = METHODS[job.method]
    if method.last:
        yield method.last, last, 0.0
    elif only_last and method.averaged:
        yield method.averaged, averaged, method.ratios[0]
    default = replace(job, alpha=0.1, beta=2.0, zero_init=True)
    if only_last or not method.averaged or job != default:
        return
    drawn_curve = method.curve and job.regime == "hard" and job.draw < CURVE_DRAWS
    for ratio in RATIOS if drawn_curve else method.ratios:
        yield method.averaged, averaged, ratio
    if method.patched:
        yield method.patched, averaged, PATCH


# ---------------------------------------------------------------------------------------------------------------------
# The whole benchmark: learning rates first, then the reported draws.


@dataclass(frozen=True)
class Tuned:
    """Outcome of one learning rate on one draw that is not reported; top-1 in percent."""

    method: str
    learning_rate: float
    draw: int
    base: float
    novel: float

    @property
    def hm(self) -> float:
        return harmonic_mean(self.base, self.novel)


def tuning_jobs(grids: Mapping[str, tuple[float, ...]]) -> list[Job]:
    """Every method at every learning rate of its grid."""
    return [Job("few", method, draw, rate) for method, grid in grids.items() for rate in grid for draw in TUNING_DRAWS]


def reported_jobs(chosen: dict[str, float], regimes: Sequence[str], draws: int, sweep_draws: int) -> list[Job]:
    """Every method on every draw; FROSTER's hyperparameters, one at a time, on `sweep_draws` in the regime "hard"."""
    jobs = []
    for regime in regimes:
        rates = dict.fromkeys(chosen, HARD_RATE) if regime == "hard" else chosen
        jobs += [Job(regime, method, draw, rate) for draw in range(draws) for method, rate in rates.items()]
        if regime == "hard" and "residual" in rates:
            default = Job(regime, "residual", 0, rates["residual"])
            swept = [replace(default, alpha=alpha) for alpha in ALPHAS] + [
                replace(default, beta=beta) for beta in BETAS
            ]
            swept.append(replace(default, zero_init=False))
            jobs += [replace(job, draw=draw) for draw in range(sweep_draws) for job in swept]
    return jobs


def best_rates(tuned: Sequence[Tuned]) -> dict[str, float]:
    """For each method the learning rate with the best mean HM."""
    outcomes: dict[str, dict[float, list[float]]] = defaultdict(lambda: defaultdict(list))
    for outcome in tuned:
        outcomes[outcome.method][outcome.learning_rate].append(outcome.hm)
    return {
        method: max(of_rates, key=lambda rate: (statistics.fmean(of_rates[rate]), -rate))
        for method, of_rates in outcomes.items()
    }


def bench(
    out: Path, work: Path, regimes: Sequence[str], draws: int, sweep_draws: int, processes: int, console: Console
) -> list[Path]:
    """Tune learning rates, train and test all methods, and write the report to `out`; returns its files.

    Runs whose results are in `out` are skipped. Raises `FrosterError` when a file in `out` cannot be used.
    """
    results_path, clock = out / "results.jsonl", Clock(out / "bench.json")
    grids = dict.fromkeys(VARIANTS, LEARNING_RATES)
    tuned = tune(out / "tuning.jsonl", work, grids, processes, console, clock)
    chosen = best_rates(tuned)
    planned = reported_jobs(chosen, regimes, draws, sweep_draws)
    results = do_jobs(planned, regimes, results_path, work, processes, console, clock)
    return write_report(results, out, notes(clock.note() / 60, processes, tuned, chosen))


def do_jobs(
    planned: Sequence[Job],
    regimes: Sequence[str],
    path: Path,
    work: Path,
    processes: int,
    console: Console,
    clock: "Clock",
) -> list[Result]:
    """Run the jobs without results in `path`; returns the results of all planned jobs and of the frozen CLIP."""
    for regime in regimes:
        test_frozen(path, work, regime)
    finished = {result.experiment for result in read_results(path)}
    jobs = [job for job in planned if not expected(job) <= finished]
    with progress(console, "Training and testing", len(jobs)) as finish:

        def done(job: Job, of_job: list[Result]) -> None:
            for result in of_job:
                append_result(path, result)
            clock.note()
            first = of_job[0]
            finish(f"{job.name}: base {first.base:.1f}, novel {first.novel:.1f}, HM {first.hm:.1f}")

        run_jobs(jobs, Setup(work, TEST_SEED, TEST_CLIPS), processes, done)
    wanted = {experiment for job in planned for experiment in expected(job)}
    return [r for r in read_results(path) if r.method == "frozen" or r.experiment in wanted]


class Clock:
    """Seconds that a benchmark has taken, over all its attempts, stored in a file."""

    def __init__(self, path: Path) -> None:
        self.path, self.began = path, time.monotonic()
        self.before = read_json_lines(path)[0]["seconds"] if path.exists() else 0

    def note(self) -> float:
        seconds = round(self.before + time.monotonic() - self.began)
        with replace_when_written(self.path) as temporary:
            temporary.write_text(json.dumps({"seconds": seconds}) + "\n", encoding="utf-8")
        return seconds


def tune(
    path: Path, work: Path, grids: Mapping[str, tuple[float, ...]], processes: int, console: Console, clock: Clock
) -> list[Tuned]:
    """Results of all learning rates on the draws that are not reported; runs with results in the file are skipped."""
    tuned = [Tuned(**outcome) for outcome in read_json_lines(path)] if path.exists() else []
    finished = {(outcome.method, outcome.learning_rate, outcome.draw) for outcome in tuned}
    jobs = [job for job in tuning_jobs(grids) if (job.method, job.learning_rate, job.draw) not in finished]
    with progress(console, "Tuning learning rates", len(jobs)) as finish:

        def done(job: Job, results: list[Result]) -> None:
            outcome = Tuned(job.method, job.learning_rate, job.draw, results[0].base, results[0].novel)
            tuned.append(outcome)
            with replace_when_written(path) as temporary:
                temporary.write_text("".join(json.dumps(asdict(each)) + "\n" for each in tuned), encoding="utf-8")
            clock.note()
            finish(f"{job.name}: HM {outcome.hm:.1f}")

        run_jobs(jobs, Setup(work, TUNING_SEED, TUNING_CLIPS, only_last=True), processes, done)
    wanted = {(job.method, job.learning_rate, job.draw) for job in tuning_jobs(grids)}
    return [outcome for outcome in tuned if (outcome.method, outcome.learning_rate, outcome.draw) in wanted]


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    try:
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError) as error:
        raise FrosterError(f"{path} cannot be read ({error}); delete it, or choose another `out=`.") from error


def test_frozen(results: Path, work: Path, regime: str) -> None:
    """Test the frozen CLIP, frame by frame, once: it has no training clips."""
    if not select(read_results(results), regime, "frozen"):
        test = open_test_clips(work, TEST_SEED, TEST_CLIPS)
        append_result(results, Result(regime, "frozen", 0, *base_and_novel(load_model(PUPPETS), regime, test)))


def expected(job: Job) -> set[Result]:
    """The experiments whose results a job reports."""
    tested = weights_to_test(job, Path(), Path())
    return {job.result(name, 0.0, 0.0, ratio).experiment for name, _, ratio in tested}


@contextmanager
def progress(console: Console, what: str, total: int) -> Iterator[Callable[[str], None]]:
    """A progress bar; yields a function to call with a line for each finished job.

    Without a terminal, a line announces the start: the first job takes minutes.
    """
    if total and not console.is_terminal:
        console.print(
            f"{what}: {total} training runs, after their clips are generated", highlight=False, soft_wrap=True
        )
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(True))
    with Progress(*columns, console=console, transient=True, disable=not total) as bar:
        task = bar.add_task(what, total=total)

        def finish(line: str) -> None:
            console.print(line, highlight=False, soft_wrap=True)
            bar.advance(task)

        yield finish


def notes(minutes: float, processes: int, tuned: Sequence[Tuned], chosen: dict[str, float]) -> str:
    """How the results were made, in Markdown."""
    rows = []
    for method, best in chosen.items():
        cells = []
        for rate in LEARNING_RATES:
            of_rate = [outcome for outcome in tuned if (outcome.method, outcome.learning_rate) == (method, rate)]
            base, novel, hm = (
                statistics.fmean(getattr(o, score) for o in of_rate) for score in ("base", "novel", "hm")
            )
            cells.append(f"{base:.1f} / {novel:.1f} / " + (f"**{hm:.1f}**" if rate == best else f"{hm:.1f}"))
        if best in (LEARNING_RATES[0], LEARNING_RATES[-1]):
            cells[LEARNING_RATES.index(best)] += " (edge)"
        rows.append(f"| {NAMES[METHODS[method].last or METHODS[method].averaged or '']} | {' | '.join(cells)} |")
    heads = " | ".join(f"{rate:g}" for rate in LEARNING_RATES)
    return f"""\
`froster bench puppets` took {minutes:.0f} minutes with {processes} processes on {os.cpu_count()} cores (PyTorch
{torch.__version__}). Training: VCLIP on the small CLIP of puppets, {TRAIN_CLIPS} clips per base class, batches
of 16, {FRAMES} frames; "hard" and "few": {len(FEW)} of {len(ACTIONS)} actions, {EPOCHS["few"]} epochs; "many":
{len(BASE["many"])} actions, {EPOCHS["many"]} epochs. The clips and seeds of a draw are the same for all methods. Tested
on {TEST_CLIPS} clips an action, base clips among the base actions, novel clips among the novel ones.

In "few" and "many" each method has the learning rate with the best HM (last epoch; Open-VCLIP patched) on a draw and on
test clips that are not reported; in "hard" it is {HARD_RATE:g} for all:

| base / novel / HM at learning rate | {heads} |
|---|{"---|" * len(LEARNING_RATES)}
{chr(10).join(rows)}
"""


def run_jobs(jobs: Sequence[Job], setup: Setup, processes: int, done: Callable[[Job, list[Result]], None]) -> None:
    """Run jobs in worker processes; `done` is called in this process with the results of each."""
    if not jobs:
        return
    # Clips that jobs share are generated before they start.
    open_test_clips(setup.work, setup.test_seed, setup.test_clips)
    for regime, draw in dict.fromkeys((job.regime, job.draw) for job in jobs):
        draw_training_clips(setup.work, regime, draw)
    if processes == 1:
        for job in jobs:
            done(job, run_job(job, setup))
        return
    context = multiprocessing.get_context("spawn")
    threads = max(1, (os.cpu_count() or 1) // processes)
    with ProcessPoolExecutor(processes, context, initializer=start_worker, initargs=(threads,)) as pool:
        futures = {pool.submit(run_job, job, setup): job for job in jobs}
        try:
            for future in as_completed(futures):
                done(futures[future], future.result())
        except BaseException:
            for process in list((pool._processes or {}).values()):  # terminate_workers() is new in Python 3.14
                process.terminate()
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def start_worker(threads: int) -> None:
    """In a worker: use so many threads, leave Ctrl-C to the parent, and exit when that is gone, even if killed."""
    torch.set_num_threads(threads)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def exit_after_parent() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=exit_after_parent, daemon=True).start()
