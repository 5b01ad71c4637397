"""`froster train`: from a recipe to a fine-tuned student."""

from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from froster.cli.interrupt import stopped_by_signals
from froster.cli.terminal import echo, warn
from froster.errors import FrosterError

if TYPE_CHECKING:
    from froster.training.checkpoint import RunFolder


def train(
    recipe: Annotated[
        Path,
        typer.Argument(help="A recipe: a file or one of froster's own, such as froster-puppets; with --fast a folder."),
    ],
    changes: Annotated[
        list[str] | None, typer.Argument(help="Overrides: seed=1 out=runs/mine data.manifest=clips.csv")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Resume an interrupted run.")] = False,
    fast: Annotated[
        bool,
        typer.Option("--fast", help="Train on a folder that has a folder of clips for each action, and test."),
    ] = False,
) -> None:
    """Fine-tune a video student of CLIP. On several GPUs: accelerate launch -m froster train RECIPE.

    docs/recipes.md explains recipes and all their keys.

    Example: froster train recipes/froster-puppets.yaml out=runs/first
    """
    if fast:
        train_on_folder(recipe, changes or [], resume)
        return
    from froster.processes import find_processes
    from froster.shipped import existing_recipe
    from froster.training.checkpoint import RunFolder
    from froster.training.loop import train as run
    from froster.training.recipe import TrainRecipe

    if recipe.is_dir():
        raise FrosterError(f"{recipe} is a folder, not a recipe; --fast trains on the clips in a folder.")
    settings = TrainRecipe.read(existing_recipe(recipe), changes or ())
    folder = RunFolder(settings.out)
    finished = folder.has_model
    with stopped_by_signals("Stopped; resume with --resume."):
        run(settings, resume)
        if find_processes().is_main_process:
            if finished:
                warn(f"The run in {folder.path} is finished already.")
            report(folder)


def train_on_folder(folder: Path, changes: list[str], resume: bool) -> None:
    """`train --fast`: what was trained, on how many videos, and whether it helped."""
    from froster.training.folder import run_folder
    from froster.training.recipe import set_key

    def override(content: dict[str, Any]) -> dict[str, Any]:
        changed = deepcopy(content)
        for change in changes:
            set_key(changed, change)
        return changed

    if folder.is_file():
        raise FrosterError(f"{folder} is a file; --fast takes a folder with a folder of clips for each action.")
    with stopped_by_signals("Stopped; resume with --resume."):
        done = run_folder(folder, override, resume, show=True)
    warn(done.sentence)
    if not done.helped:
        warn("Training did not help on these: more clips of each action may, or another out= with other settings.")
    echo(f"{done.run / 'model.safetensors'}")
    echo(f"{done.page}")
    warn(f'Try it: froster predict VIDEO --model {done.run} --labels "..."')


def report(folder: "RunFolder") -> None:
    import json

    for listed, what in (
        (folder.unreadable, "could not be read and were skipped"),
        (folder.partial, "could be read only in part"),
    ):
        if listed.exists():
            number = len(json.loads(listed.read_text(encoding="utf-8")))
            warn(f"{number} clip{'s' * (number > 1)} {what}: see {listed}")
    echo(f"{folder.model}")
    warn(f'Try it: froster predict VIDEO --model {folder.path} --labels "..."')
