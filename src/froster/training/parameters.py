"""Which parameters a recipe trains, and AdamW's groups of them."""

import re
from collections.abc import Mapping
from typing import Any

from torch import nn

from froster.backbones.build import backbone_names
from froster.checkpoints.checkpoint import BackboneSource
from froster.checkpoints.own import backbone_digest
from froster.errors import FrosterError
from froster.losses.froster import Distillation
from froster.students import VideoStudent
from froster.text.descriptions import some
from froster.training.recipe import OptimizerSettings, TrainRecipe


def select_trainable(student: VideoStudent, recipe: TrainRecipe) -> dict[str, nn.Parameter]:
    """Set `requires_grad` for the parameters that the recipe trains, freeze the rest; returns the trained ones by name.

    If none of CLIP's own parameters is trained, checkpoints refer to CLIP by name instead of storing it. Raises
    `FrosterError` when nothing would be trained, or another key of the recipe has no effect with these parameters.
    """
    of_clip = backbone_names(student.config)
    named = dict(student.named_parameters())
    if recipe.trained == "default":
        chosen = student.trainable_parameters()
    elif recipe.trained == "all":
        chosen = named
    elif recipe.trained == "vision":
        chosen = {name: p for name, p in named.items() if not name.startswith(("text.", "logit_"))}
    elif recipe.trained == "text":
        chosen = {name: p for name, p in named.items() if name.startswith("text.")}
    else:
        for pattern in recipe.trained:
            if not any(re.search(pattern, name) for name in named):
                raise FrosterError(f"trained: {pattern!r} matches no parameter of {student.name} ({some(named)}).")
        chosen = {name: p for name, p in named.items() if any(re.search(pattern, name) for pattern in recipe.trained)}
    if not chosen:
        raise FrosterError(why_nothing_is_trained(student))
    untrained = sorted(named.keys() - of_clip - chosen.keys())
    # `random_start` is None where another run has trained the new modules.
    if recipe.trained != "default" and student.random_start and untrained:
        raise FrosterError(
            f"trained: {recipe.trained} would leave modules of {student.name} at their random initialization "
            f"({some(untrained)}); train them too."
        )
    if recipe.freeze_clip_epochs and chosen.keys() <= of_clip:
        raise FrosterError(f"freeze_clip_epochs: {student.name} has no new modules to train while CLIP is frozen.")
    check_merging(student, recipe)
    if recipe.stays_near_clip and not chosen.keys() & of_clip and not student.merges:
        raise FrosterError(
            f"{student.name} does not train CLIP's parameters: "
            "interpolation, weight_distance and patch_ratio have no effect; remove them."
        )
    student.requires_grad_(False)
    for parameter in chosen.values():
        parameter.requires_grad_(True)
    if chosen.keys() & of_clip:
        student.backbone_source = None
    elif student.backbone_name:
        student.backbone_source = BackboneSource(
            student.backbone_name, backbone_digest(student.state_dict(), student.config)
        )
    return chosen


def check_merging(student: VideoStudent, recipe: TrainRecipe) -> None:
    """Raises `FrosterError` where the recipe asks for what low-rank updates beside CLIP's weights do not allow."""
    if student.merges and (recipe.interpolation or recipe.weight_distance):
        raise FrosterError(
            f"{student.name} trains updates of CLIP's weights, not the weights: interpolation and weight_distance need "
            "a student that trains them, such as vclip; patch_ratio works with both."
        )
    if student.merges and not recipe.merge and (recipe.average_from is not None or recipe.patch_ratio):
        raise FrosterError(
            "merge: false saves the last updates as they are: averages and patched weights are no low-rank updates; "
            "set average_from: null and patch_ratio: 0, or merge: true."
        )
    if not student.merges and not recipe.merge:
        raise FrosterError(f"merge: false has no effect: {student.name} has no updates to keep apart; remove it.")


def why_nothing_is_trained(student: VideoStudent) -> str:
    added = [name for name, _ in student.named_parameters() if name not in backbone_names(student.config)]
    if not added:
        return f"{student.name} has nothing to train: with these options it is the frozen CLIP; take trained: all."
    return (
        f"{student.name} has nothing to train: its pattern trainable_params = "
        f"{student.trainable_params!r} matches none of its parameters (it adds {some(added)}); correct the pattern."
    )


def projector_parameters(distillation: Distillation | None) -> dict[str, nn.Parameter]:
    """The projectors' parameters, as `optimizer.factors` names them: `distillation.video.w1.weight`, …"""
    return {f"distillation.{name}": p for name, p in distillation.named_parameters()} if distillation else {}


def parameter_groups(parameters: Mapping[str, nn.Parameter], settings: OptimizerSettings) -> list[dict[str, Any]]:
    """AdamW's parameter groups, each with its learning rate `factor`; 1-D parameters have no weight decay.

    Raises `FrosterError` where a pattern of `optimizer.factors` matches no trained parameter.
    """
    groups: dict[tuple[float, float], list[nn.Parameter]] = {(1.0, settings.weight_decay): [], (1.0, 0.0): []}
    used = set()
    for name, parameter in parameters.items():
        pattern = next((pattern for pattern in settings.factors if re.search(pattern, name)), None)
        used.add(pattern)
        factor = 1.0 if pattern is None else settings.factors[pattern]
        decay = settings.weight_decay if parameter.ndim > 1 else 0.0
        groups.setdefault((factor, decay), []).append(parameter)
    if unused := [pattern for pattern in settings.factors if pattern not in used]:
        raise FrosterError(
            f"optimizer.factors: {unused[0]!r} matches no trained parameter that an earlier pattern leaves; "
            f"trained are {some(parameters)}."
        )
    return [{"params": chosen, "weight_decay": decay, "factor": factor} for (factor, decay), chosen in groups.items()]
