"""Every student network without and with FROSTER on puppets, in the form of FROSTER's Table 3 and Fig. 5."""

import math
import statistics
from collections.abc import Sequence
from pathlib import Path

from froster.backbones.build import backbone_names
from froster.bench.puppets import (
    BASE,
    EPOCHS,
    TEST_CLIPS,
    TEST_SEED,
    TRAIN_CLIPS,
    Clock,
    Job,
    Tuned,
    best_rates,
    do_jobs,
    tune,
)
from froster.bench.report import SCORES, difference_text, results_page, score_texts
from froster.bench.results import FROSTER, Result, aggregate, paired_difference, select
from froster.data.puppets import ACTIONS
from froster.errors import FrosterError
from froster.extras import extra
from froster.files import replace_when_written
from froster.markdown import markdown_table
from froster.models import PUPPETS, load_model
from froster.students import STUDENTS, parse_student

with extra("cli", "The benchmark"):
    from matplotlib.figure import Figure
    from rich.console import Console

REGIME = "few"
RATES_OF_CLIP = (5e-5, 1e-4, 2.5e-4)  # for networks that train CLIP's parameters
RATES_OF_ADAPTERS = (2.5e-4, 1e-3, 4e-3)
TITLE = "Puppets: every network, without and with FROSTER"


def bench_students(
    students: Sequence[str], out: Path, work: Path, draws: int, processes: int, console: Console
) -> list[Path]:
    """Tune learning rates, train and test every network twice, and write the report to `out`; returns its files.

    Runs whose results are in `out` are skipped. Raises `FrosterError` when a file in `out` cannot be used.
    """
    clock = Clock(out / "students-bench.json")
    grids = {f"{name}{suffix}": learning_rates(name) for name in students for suffix in ("", FROSTER)}
    tuned = tune(out / "students-tuning.jsonl", work, grids, processes, console, clock)
    chosen = best_rates(tuned)
    planned = [Job(REGIME, method, draw, rate) for draw in range(draws) for method, rate in chosen.items()]
    results = do_jobs(planned, [REGIME], out / "students.jsonl", work, processes, console, clock)
    return write_report(results, tuned, out, clock.note() / 60, processes)


def named_students(names: str) -> list[str]:
    """Students from `"all"` or `"aim, x-clip"`. Raises `FrosterError` for an unknown one."""
    if names == "all":
        return list(STUDENTS)
    return list(dict.fromkeys(parse_student(name)[0] for name in names.split(",") if name.strip()))


def learning_rates(student: str) -> tuple[float, ...]:
    """The grid for a network: higher rates if only new modules are trained."""
    return RATES_OF_CLIP if trains_clip(student) else RATES_OF_ADAPTERS


def trains_clip(student: str) -> bool:
    model = load_model(PUPPETS, student)
    return bool(model.trainable_parameters().keys() & backbone_names(model.config))


def write_report(
    results: Sequence[Result], tuned: Sequence[Tuned], out: Path, minutes: float, processes: int
) -> list[Path]:
    """Write `students.md`, `students.html` and `students.png` into `out`; returns the files."""
    plot = out / "students.png"
    with replace_when_written(plot) as temporary:
        draw_gains(results).savefig(temporary)
    markdown = f"""\
# {TITLE}

`froster bench puppets --methods all` took {minutes:.0f} minutes with {processes} processes. {len(BASE[REGIME])} of the
{len(ACTIONS)} actions are trained, {TRAIN_CLIPS} clips each, {EPOCHS[REGIME]} epochs; the mean of the epochs after the
warm-up is tested on {TEST_CLIPS} clips an action, base clips among the base actions, novel clips among the novel ones.
Mean ± std over the draws of the training clips, which are the same for all; the gain with its standard error.

{pairs_table(results)}

To reproduce a row, from tuning its rates to a page of its own, takes about ten minutes on two cores:

    froster bench puppets --methods adaptformer --out runs/adaptformer-bench

`recipes/puppets/` has two recipes for every network, `NAME.yaml` and `NAME-froster.yaml`, with the rates below and
averaged epochs; they train what is reported of the first draw (the recipes of variants there, `fine-tuned`, `residual`
and so on, have the high rate of the regime "hard"):

    froster train recipes/puppets/adaptformer.yaml
    froster puppets runs/puppets/test --videos {TEST_CLIPS} --size 72 --frames 16 --seed {TEST_SEED}
    froster evaluate runs/puppets/adaptformer --data runs/puppets/test/manifest.csv --views 1 \\
      --base puppets-base --novel puppets-novel

![What FROSTER adds to the harmonic mean of every network, in percent of it]({plot.name})

## Learning rates

Each network has, without FROSTER and with it, the rate with the best HM on a draw and on test clips that are not
reported. Base / novel / HM; (edge): the best is the lowest or the highest rate that was tried, and one beyond it might
be better still.

{tuning_table(tuned)}
"""
    pages = {out / "students.md": markdown, out / "students.html": results_page(markdown, [plot], TITLE)}
    for path, text in pages.items():
        with replace_when_written(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
    return [*pages, plot]


def pairs_of(results: Sequence[Result]) -> dict[str, tuple[list[Result], list[Result]]]:
    """Results without and with FROSTER by the student's name, where there are both."""
    found = {name: tuple(select(results, REGIME, f"{name}{suffix}") for suffix in ("", FROSTER)) for name in STUDENTS}
    return {name: (without, with_it) for name, (without, with_it) in found.items() if without and with_it}


def pairs_table(results: Sequence[Result]) -> str:
    frozen = select(results, REGIME, "frozen")
    rows = [["Frozen CLIP", *score_texts(frozen), *["–"] * 5]] if frozen else []
    for name, (without, with_it) in pairs_of(results).items():
        gain = difference_text(with_it, without)
        rows.append([STUDENTS[name].title, *score_texts(without), *score_texts(with_it), gain, str(len(without))])
    heads = [f"{score}{suffix}" for suffix in ("", ", FROSTER") for score in ("base", "novel", "HM")]
    return markdown_table(["network", *heads, "HM gained", "draws"], rows)


def tuning_table(tuned: Sequence[Tuned]) -> str:
    rates = sorted({outcome.learning_rate for outcome in tuned})
    chosen = best_rates(tuned)
    rows = []
    for method, best in chosen.items():
        cells = []
        for rate in rates:
            outcomes = [o for o in tuned if (o.method, o.learning_rate) == (method, rate)]
            base, novel, hm = (statistics.fmean(getattr(o, s) for o in outcomes) if outcomes else 0.0 for s in SCORES)
            shown = f"**{hm:.1f}**" if rate == best else f"{hm:.1f}"
            cells.append(f"{base:.1f} / {novel:.1f} / {shown}" if outcomes else "")
        tried = [outcome.learning_rate for outcome in tuned if outcome.method == method]
        if len(set(tried)) > 1 and best in (min(tried), max(tried)):
            cells[rates.index(best)] += " (edge)"
        title = STUDENTS[method.removesuffix(FROSTER)].title
        rows.append([f"{title} + FROSTER" if method.endswith(FROSTER) else title, *cells])
    return markdown_table(["network", *(f"{rate:g}" for rate in rates)], rows)


def draw_gains(results: Sequence[Result]) -> Figure:
    """Bars: what FROSTER adds to each network's harmonic mean, in percent of it (FROSTER Fig. 5)."""
    gains = []
    for name, (without, with_it) in pairs_of(results).items():
        mean = aggregate(without, "hm").mean
        gain, error, _ = paired_difference(with_it, without)
        gains.append((100 * gain / mean, 100 * error / mean, STUDENTS[name].title))
    if not gains:
        raise FrosterError("There is no network with results both without and with FROSTER to report.")
    gains.sort()
    values, errors, titles = zip(*gains, strict=True)
    figure = Figure(figsize=(7.5, 1.1 + 0.36 * len(gains)), dpi=150, facecolor="white", layout="constrained")
    axis = figure.add_subplot()
    colors = ["#0b7a5b" if value > 0 else "#a3472e" for value in values]
    axis.barh(titles, values, xerr=[0 if math.isnan(error) else error for error in errors], color=colors, height=0.6)
    axis.axvline(0, color="#555555", linewidth=0.8)
    axis.set_xlabel("harmonic mean gained with FROSTER, % (lines: standard error over the draws)")
    axis.tick_params(axis="y", length=0)
    axis.spines[["top", "right", "left"]].set_visible(False)
    return figure
