"""`froster bench`: the synthetic benchmark behind the tables of docs/results."""

import os
from pathlib import Path
from typing import Annotated

import typer

from froster.cli.interrupt import stopped_by_signals
from froster.cli.terminal import Screen

app = typer.Typer(name="bench", help="Compare methods, and write tables, plots and a page.", no_args_is_help=True)


@app.callback()
def bench() -> None:
    """Compare methods, and write tables, plots and a page."""


@app.command()
def puppets(
    out: Annotated[Path, typer.Option(help="Folder for results, tables, plots and the page.")] = Path("bench"),
    work: Annotated[Path, typer.Option(help="Folder for generated videos and unfinished runs.")] = Path("runs/bench"),
    regime: Annotated[
        list[str] | None, typer.Option(help="hard, few (10 base actions) or many (half of them); all by default.")
    ] = None,
    methods: Annotated[
        str,
        typer.Option(
            help="variants: FROSTER and what its tables compare it with; table-4: its Table 4, one encoder or both "
            "tuned; all: every network, without and with FROSTER; or names of networks, with commas."
        ),
    ] = "variants",
    draws: Annotated[
        int | None, typer.Option(min=1, help="Draws of the training clips (5; of the networks 3).", show_default=False)
    ] = None,
    sweep_draws: Annotated[int, typer.Option(min=0, help="Draws for alpha, beta and zero initialization.")] = 3,
    jobs: Annotated[int, typer.Option(min=1, help="Training runs in parallel.")] = os.cpu_count() or 1,
) -> None:
    """Base-to-novel on synthetic puppets: frozen CLIP, fine-tuning, Open-VCLIP, FROSTER and variants, or all networks.

    One to two hours on two cores, ten minutes for one network; a line for each finished run, the first after one to
    three minutes. Resumes where it was stopped.
    """

    from froster.bench.puppets import BASE
    from froster.bench.puppets import bench as run
    from froster.bench.report import summary_table
    from froster.bench.results import read_results
    from froster.bench.students import bench_students, named_students
    from froster.bench.table_4 import bench_table_4
    from froster.errors import FrosterError, did_you_mean

    for name in regime or ():
        if name not in BASE:
            raise FrosterError(f"There is no regime {name!r}; {did_you_mean(name, BASE)}")
    is_variants, is_table_4 = methods == "variants", methods == "table-4"
    if regime and not is_variants:
        raise FrosterError("--regime is for --methods variants; table-4 is run in hard, networks in few.")
    students = [] if is_variants or is_table_4 else named_students(methods)
    console, progress = Screen(soft_wrap=True, markup=True), Screen(stderr=True)
    with stopped_by_signals("Stopped; the same command resumes from here."):
        if is_table_4:
            files = bench_table_4(out, work, draws or 3, jobs, progress)
        elif students:
            files = bench_students(students, out, work, draws or 3, jobs, progress)
        else:
            files = run(out, work, regime or list(BASE), draws or 5, sweep_draws, jobs, progress)
    for name in (regime or BASE) if is_variants else ():
        console.print(summary_table(read_results(out / "results.jsonl"), name))
    for path in files:
        console.print(str(path))
