"""FROSTER's Table 4 on puppets: one encoder tuned, or both, with the projectors of Fig. 3."""

from collections.abc import Sequence
from pathlib import Path

from froster.bench.puppets import EPOCHS, HARD_RATE, TEST_CLIPS, TRAIN_CLIPS, Clock, Job, do_jobs
from froster.bench.report import difference_text, score_texts
from froster.bench.results import TABLE_4, Result, select
from froster.extras import extra
from froster.files import replace_when_written
from froster.markdown import markdown_table

with extra("cli", "The benchmark"):
    from rich.console import Console

REGIME = "hard"
WITHOUT_DISTILLATION = {"image encoder": "table_4_a", "text encoder": "table_4_e"}


def bench_table_4(out: Path, work: Path, draws: int, processes: int, console: Console) -> list[Path]:
    """Train and test every row on `draws` draws of the training clips; returns the report, `out/table-4.md`.

    Runs that `out/table-4.jsonl` holds are skipped. Raises `FrosterError` when that file cannot be used.
    """
    clock = Clock(out / "table-4-bench.json")
    planned = [Job(REGIME, method, draw, HARD_RATE) for draw in range(draws) for method in TABLE_4]
    results = do_jobs(planned, [REGIME], out / "table-4.jsonl", work, processes, console, clock)
    path = out / "table-4.md"
    with replace_when_written(path) as temporary:
        temporary.write_text(report(results, clock.note() / 60, processes), encoding="utf-8")
    return [path]


def report(results: Sequence[Result], minutes: float, processes: int) -> str:
    return f"""\
# FROSTER's Table 4 on puppets

`froster bench puppets --methods table-4` took {minutes:.0f} minutes, {processes} training runs at a time. VCLIP on the
small CLIP, {TRAIN_CLIPS} clips of each of 10 base actions, {EPOCHS[REGIME]} epochs at {HARD_RATE:g}, the last epoch's
weights, {TEST_CLIPS} test clips per action. Top-1 in percent, mean ± standard deviation over draws of the training
clips; the gain over the row of the same encoder without distillation is paired, with its standard error. Recipes:
`recipes/puppets/table-4-a.yaml` to `table-4-i.yaml`.

{table(results)}
"""


def table(results: Sequence[Result]) -> str:
    """A row for the frozen CLIP and for each row of the paper's table that has results."""
    rows = []
    for method, title in {"frozen": "Frozen CLIP", **TABLE_4}.items():
        runs = select(results, REGIME, method)
        if not runs:
            continue
        encoder = title.partition(": ")[2].partition(",")[0]
        base = WITHOUT_DISTILLATION.get(encoder)
        without = select(results, REGIME, base) if base and base != method else []
        gain = difference_text(runs, without) if without else "–"
        rows.append([title, *score_texts(runs), gain, str(len(runs))])
    return markdown_table(["tuned, distillation", "base", "novel", "HM", "HM gained by distillation", "draws"], rows)
