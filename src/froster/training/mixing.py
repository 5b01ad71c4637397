"""Mixup and CutMix: clips and labels of a batch blended in pairs."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from froster.losses.batch import ClipBatch


def mix_clips(batch: ClipBatch, classes: int, mixup: float, cutmix: float, rng: np.random.Generator) -> ClipBatch:
    """Blend each clip with the next one of the batch, the last with the first.

    Mixup (Zhang et al., 2018) blends all pixels, CutMix (Yun et al., 2019) pastes a box, the same in all frames; with
    both, each is taken half of the time. One share of the own clip for the whole batch, from Beta(mixup, mixup) or
    Beta(cutmix, cutmix). Frames become float32 in [0, 255], targets the share of each of the K `classes`, `(B, K)`.
    """
    if not len(batch.targets):
        return batch
    pastes = cutmix > 0 and (not mixup or rng.random() < 0.5)
    share = rng.beta(cutmix, cutmix) if pastes else rng.beta(mixup, mixup)
    frames = batch.frames.float()
    other = frames.roll(-1, dims=0)
    if pastes:
        height, width = frames.shape[-2:]
        rows, columns, share = draw_box(height, width, share, rng)
        frames = frames.clone()
        frames[..., rows, columns] = other[..., rows, columns]
    else:
        frames = torch.lerp(other, frames, share)
    own: Tensor = F.one_hot(batch.targets, classes).float()
    return ClipBatch(frames, torch.lerp(own.roll(-1, dims=0), own, share))


def draw_box(height: int, width: int, share: float, rng: np.random.Generator) -> tuple[slice, slice, float]:
    """A box of `1 - share` of the area around a random center, clipped at the edges, and the share that it leaves."""
    side = (1 - share) ** 0.5
    middle, center = rng.integers(height).item(), rng.integers(width).item()
    high, wide = int(height * side) // 2, int(width * side) // 2
    rows = slice(max(0, middle - high), min(height, middle + high))
    columns = slice(max(0, center - wide), min(width, center + wide))
    cut = (rows.stop - rows.start) * (columns.stop - columns.start)
    return rows, columns, 1 - cut / (height * width)
