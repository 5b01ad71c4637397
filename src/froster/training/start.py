"""`froster.train`: a training run from Python."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from froster.shipped import existing_recipe
from froster.training.loop import train as train_recipe
from froster.training.recipe import TrainRecipe, merged, read_yaml, with_base


def train(recipe: str | Path | Mapping[str, Any], *, resume: bool = False, show: bool = True, **overrides: Any) -> Path:
    """Fine-tune a video student of CLIP as a recipe says; returns the folder of the run, which is a model's name too.

    `recipe`: a YAML file, the name of a recipe that ships with froster (`"froster-vit-b-16"`), or its keys and values,
    of which `extends` names a recipe to start from. `overrides` replace some of them, section by section:
    `train("recipe.yaml", out="runs/mine", data={"manifest": "clips.csv"}, optimizer={"epochs": 6})`; None takes an
    optional section away. `resume` continues an interrupted run from its last saved state. `show` draws a progress bar
    on standard error. The recipe's keys are in docs/recipes.md. Under `torchrun` every process takes a share of each
    batch.

    Raises `FrosterError` for an unknown key (the nearest known one is named) or an unusable value, an `out` that holds
    another run or that another process trains in, a loss that is not a number, and too many unreadable clips.
    """
    if isinstance(recipe, Mapping):
        content, source = with_base(recipe, Path()), "The recipe"
    else:
        path = existing_recipe(Path(recipe))
        content, source = read_yaml(path), f"The recipe {path}"
    settings = TrainRecipe.of_content(merged(content, overrides), source)
    train_recipe(settings, resume, show)
    return settings.out
