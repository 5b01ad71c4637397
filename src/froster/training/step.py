"""One optimizer step of a run."""

import math
from collections.abc import Iterator
from itertools import islice

import numpy as np
import torch
from accelerate.utils import reduce
from torch import Tensor, nn

from froster.errors import FrosterError
from froster.losses.batch import ClipBatch
from froster.losses.open_vclip import interpolated_weights, weight_distance
from froster.text.prompts import TEMPLATES
from froster.training.clips import Batch
from froster.training.mixing import mix_clips
from froster.training.objective import accumulate_gradients
from froster.training.run import Run
from froster.training.schedule import learning_rate

# Random number streams of a step; data loading uses streams 0 and 1.
STEP_STREAM = 3  # template and ratio
DROPOUT_STREAM = 4
MIX_STREAM = 5  # mixup and CutMix


def take_step(run: Run, batches: Iterator[Batch]) -> dict[str, float]:
    """Run one optimizer step and return its metrics."""
    recipe, optimizer = run.recipe, run.optimizer
    loaded = list(islice(batches, recipe.optimizer.gradient_accumulation_steps))
    clip_count = count_clips(run, loaded)
    rate = learning_rate(run.step, run.steps_per_epoch, recipe.optimizer)
    template, ratio = draw_template_and_ratio(run)
    run.step += 1
    metrics = {"step": run.step, "epoch": run.step / run.steps_per_epoch, "clips": clip_count, "learning_rate": rate}
    if not clip_count:
        return metrics

    for group in optimizer.param_groups:
        group["lr"] = rate * group["factor"]
    optimizer.zero_grad()
    torch.manual_seed(dropout_seed(run))
    micro_batches = [ClipBatch(batch.frames, batch.targets).to(run.device) for batch in loaded]
    if recipe.mixup or recipe.cutmix:
        rng = np.random.default_rng((recipe.seed, MIX_STREAM, run.step, run.keys.rank))
        classes = run.objective.prompts.classes
        micro_batches = [mix_clips(batch, classes, recipe.mixup, recipe.cutmix, rng) for batch in micro_batches]
    clip_weights = list(run.clip_weights.values())
    terms: dict[str, Tensor] = {}
    if recipe.weight_distance:
        distance = recipe.weight_distance * weight_distance(run.clip_parameters, clip_weights)
        run.scaler.scale(distance).backward()
        terms["weight_distance"] = distance.detach()
    # Gradients are averaged over processes once, in the last backward pass of the step.
    interpolation = recipe.interpolation
    batch = run.replica, micro_batches, template, clip_count, run.scaler
    terms |= accumulate_gradients(*batch, synchronize=not interpolation)
    if interpolation:
        with interpolated_weights(run.clip_parameters, clip_weights, interpolation.max_ratio * ratio):
            at_interpolated = accumulate_gradients(*batch, interpolation.weight)
        terms["interpolated"] = at_interpolated["loss"]
        terms["loss"] = terms["loss"] + interpolation.weight * at_interpolated["loss"]
    if recipe.weight_distance:
        terms["loss"] = terms["loss"] + terms["weight_distance"]
    if run.step <= recipe.freeze_clip_epochs * run.steps_per_epoch:
        run.drop_clip_gradients()
    run.scaler.unscale_(optimizer)
    terms["gradient_norm"] = nn.utils.clip_grad_norm_(run.parameters, recipe.optimizer.max_grad_norm)
    values = reduce(torch.stack([term.detach() for term in terms.values()]), "mean").tolist()
    metrics |= dict(zip(terms, values, strict=True))
    check_finite(run, metrics)
    run.scaler.step(optimizer)
    run.scaler.update()
    return metrics


def dropout_seed(run: Run) -> int:
    """Seed of a step's dropout in this process, so that a resumed run drops what it would have dropped."""
    rng = np.random.default_rng((run.recipe.seed, DROPOUT_STREAM, run.step, run.keys.rank))
    return int(rng.integers(2**63))


def draw_template_and_ratio(run: Run) -> tuple[int, float]:
    """The prompt template of a step, at random, and a number from U(0, 1) for the interpolation ratio."""
    rng = np.random.default_rng((run.recipe.seed, STEP_STREAM, run.step))
    # Also for a student without templates: its teacher uses the default ones.
    templates = run.objective.prompts.templates or len(TEMPLATES)
    return int(rng.integers(templates)), float(rng.random())


def check_finite(run: Run, metrics: dict[str, float]) -> None:
    """Raise `FrosterError` if loss or gradient is not finite, except for overflows that the float16 scaler handles."""
    # With float16 a gradient may occasionally overflow: the scaler skips such a step and lowers its scale.
    overflow_is_usual = run.scaler.is_enabled() and run.scaler.get_scale() >= 1
    for name in ("loss",) if overflow_is_usual else ("loss", "gradient_norm"):
        if not math.isfinite(metrics[name]):
            raise FrosterError(
                f"The {name.replace('_', ' ')} is {metrics[name]} at step {run.step} (epoch {metrics['epoch']:.2f}, "
                f"learning rate {metrics['learning_rate']:.3g}); {run.folder.last_good()}. "
                "A lower optimizer.learning_rate may help."
            )


def count_clips(run: Run, micro_batches: list[Batch]) -> int:
    """Clips in the step's batch over all processes. Raises `FrosterError` when too many could not be decoded."""
    run.unusable.add(micro_batches)
    counts = [sum(len(batch.targets) for batch in micro_batches), len(run.unusable.new_unreadable)]
    clip_count, new_unreadable = reduce(torch.tensor(counts, device=run.device), "sum").tolist()
    run.unusable.check(new_unreadable, run.keys.clips, run.recipe.data.max_unreadable, run.folder)
    return clip_count
