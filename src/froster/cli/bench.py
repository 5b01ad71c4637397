"""`froster bench`: the comparisons behind the published tables of this project."""

import os
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(name="bench", help="Compare methods, and write tables, plots and a page.", no_args_is_help=True)


@app.callback()
def bench() -> None:
    """Compare methods, and write tables, plots and a page."""


@app.command()
def puppets(
    out: Annotated[Path, typer.Option(help="Folder for results, tables, plots and the page.")] = Path("bench"),
    work: Annotated[Path, typer.Option(help="Folder for drawn videos and unfinished runs.")] = Path("runs/bench"),
    regime: Annotated[
        list[str] | None, typer.Option(help="hard, few (10 base actions) or many (half of them); all by default.")
    ] = None,
    draws: Annotated[int, typer.Option(min=1, help="Draws of the training clips.")] = 5,
    sweep_draws: Annotated[int, typer.Option(min=0, help="Draws for alpha, beta and zero initialisation.")] = 3,
    jobs: Annotated[int, typer.Option(min=1, help="Training runs side by side.")] = os.cpu_count() or 1,
) -> None:
    """Base-to-novel on drawn puppets: frozen CLIP, fine-tuning, Open-VCLIP, FROSTER and its variants.

    Two hours on two cores; goes on where it was stopped.
    """
    from rich.console import Console

    from froster.bench.puppets import BASE
    from froster.bench.puppets import bench as run
    from froster.bench.report import summary_table
    from froster.bench.results import read_results
    from froster.errors import FrosterError, did_you_mean

    for name in regime or ():
        if name not in BASE:
            raise FrosterError(f"There is no regime {name!r}; {did_you_mean(name, BASE)}")
    console = Console(highlight=False, soft_wrap=True)
    try:
        files = run(out, work, regime or list(BASE), draws, sweep_draws, jobs, Console(stderr=True))
    except KeyboardInterrupt:
        console.print("Stopped; the same command goes on from here.")
        raise typer.Exit(130) from None
    for name in regime or BASE:
        console.print(summary_table(read_results(out / "results.jsonl"), name))
    for path in files:
        console.print(str(path))
