"""`froster train`: from a recipe to a fine-tuned student."""

import sys
from pathlib import Path
from typing import Annotated

import typer


def train(
    recipe: Annotated[Path, typer.Argument(help="A recipe: a file, or one that comes with froster (froster-puppets).")],
    changes: Annotated[
        list[str] | None, typer.Argument(help="Changes to it: seed=1 out=runs/mine data.manifest=clips.csv")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an interrupted run.")] = False,
) -> None:
    """Fine-tune a video student of CLIP. On several GPUs: accelerate launch -m froster train RECIPE.

    Example: froster train recipes/froster-puppets.yaml out=runs/first
    """
    from froster.shipped import existing_recipe
    from froster.training.loop import train as run
    from froster.training.processes import find_processes
    from froster.training.recipe import TrainRecipe

    settings = TrainRecipe.read(existing_recipe(recipe), changes or ())
    processes = find_processes()
    try:
        checkpoint = run(settings, resume)
        if processes.is_main_process:
            report(checkpoint)
    except KeyboardInterrupt:
        if processes.is_main_process:
            print("Stopped; go on with --resume.", file=sys.stderr)
        raise typer.Exit(130) from None
    finally:
        processes.destroy_process_group()


def report(checkpoint: Path) -> None:
    import json

    skipped = checkpoint.with_name("unreadable.json")
    if skipped.exists():
        number = len(json.loads(skipped.read_text(encoding="utf-8")))
        print(f"{number} clips could not be decoded and were skipped: see {skipped}", file=sys.stderr)
    print(f"{checkpoint}")
    print(f'Try it: froster predict VIDEO --model {checkpoint.parent} --labels "..."', file=sys.stderr)
