"""`froster pretrain`: a small CLIP of one's own, on puppet photos."""

from pathlib import Path
from typing import Annotated

import typer

from froster.cli.interrupt import stopped_by_signals
from froster.cli.terminal import echo, echo_json


def pretrain(
    recipe: Annotated[Path, typer.Argument(help="A recipe, such as recipes/clip-puppets.yaml.")],
    changes: Annotated[list[str] | None, typer.Argument(help="Overrides: seed=1 out=runs/mine.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Resume an interrupted run.")] = False,
) -> None:
    """Pretrain a small CLIP on the synthetic benchmark (puppets) and test it; half an hour on two cores."""
    import json

    from froster.training.pretrain import PretrainRecipe
    from froster.training.pretrain import pretrain as run

    settings = PretrainRecipe.read(recipe, changes or ())
    with stopped_by_signals("Stopped; --resume continues from the last saved state, if there is one."):
        checkpoint = run(settings, resume)
    scores = json.loads((checkpoint.parent / "scores.json").read_text(encoding="utf-8"))
    echo(f"{checkpoint}: {scores['photos']} % of unseen photos right")
    echo_json(scores, indent=2)
