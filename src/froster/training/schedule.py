"""Learning rate schedule."""

import math

from froster.training.recipe import OptimizerSettings


def learning_rate(step: int, steps_per_epoch: int, settings: OptimizerSettings) -> float:
    """Linear warm-up from `warmup_start`, then cosine to `final_learning_rate`, both per step (the authors' code)."""
    epoch = step / steps_per_epoch
    top, warmup = settings.learning_rate, settings.warmup_epochs
    if epoch < warmup:
        return settings.warmup_start + (top - settings.warmup_start) * epoch / warmup
    final = settings.final_learning_rate
    progress = (epoch - warmup) / (settings.epochs - warmup)
    return final + (top - final) * 0.5 * (1 + math.cos(math.pi * progress))
