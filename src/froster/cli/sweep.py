"""`froster sweep`: one recipe with several values of some keys."""

from pathlib import Path
from typing import Annotated, Any

import typer

from froster.cli.interrupt import stopped_by_signals
from froster.cli.options import SplitOption
from froster.cli.terminal import echo, echo_json, warn


def sweep(
    recipe: Annotated[Path, typer.Argument(help="A recipe: a file, or one that comes with froster.")],
    changes: Annotated[
        list[str] | None,
        typer.Argument(help="Overrides; a list of values makes a grid: optimizer.learning_rate=[1e-5,1e-4] seed=[0,1]"),
    ] = None,
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Folder of the runs and of the table.")] = Path(
        "runs/sweep"
    ),
    test: Annotated[
        Path | None,
        typer.Option(metavar="MANIFEST", help="Test the final models on it; default: the recipe's validation counts."),
    ] = None,
    split: SplitOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON instead of a table.")] = False,
) -> None:
    """Train a recipe with all combinations of some values and compare the models; run again, it trains what is missing.

    With several seeds the table has means, standard deviations and differences seed by seed. sweep.md, sweep.tex and
    sweep.json are written next to the runs; if a run failed, the exit status is 1.

    Example: froster sweep few-clips optimizer.learning_rate=[1e-5,1e-4] seed=[0,1] data.manifest=clips.csv
    validation.share=0.2
    """
    from froster.shipped import existing_recipe
    from froster.training.recipe import read_yaml, set_key
    from froster.training.sweep import grid_and_overrides, sweep_content

    content: dict[str, Any] = read_yaml(existing_recipe(recipe))
    grid, overrides = grid_and_overrides(content, changes or ())
    for override in overrides:
        set_key(content, override)
    with stopped_by_signals("Stopped; the same command resumes from here."):
        result = sweep_content(
            content, grid, out, test, split, True, lambda done, total, what: warn(f"run {done + 1} of {total}: {what}")
        )
    if as_json:
        echo_json(result.to_json(), indent=2)
    else:
        echo(result.to_markdown().rstrip())
    if result.failed:
        raise typer.Exit(1)
