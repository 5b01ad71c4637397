"""From frame features and class matrix to scores, and the threshold under which nothing is named."""

import math
import warnings
from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from froster.errors import FrosterError, FrosterWarning, WeightsError

TemporalPooling = Literal["logits", "features"]


def class_similarities(
    frame_embeddings: Tensor, classes: Tensor, temporal_pooling: TemporalPooling = "logits"
) -> Tensor:
    """Cosine of a clip with every class: `(B, T, D)`, `(K, D)` normalized -> `(B, K)` float32.

    `temporal_pooling="logits"`: each frame's cosine, averaged over the frames (the authors' code). `"features"`: the
    cosine of the averaged frame embedding (FROSTER Eq. 1). Classes may differ from clip to clip: `(B, K, D)`. Computed
    in float32, also under autocast.
    """
    with torch.autocast(classes.device.type, enabled=False):
        features, classes = frame_embeddings.float(), classes.float()
        if temporal_pooling == "features":
            pooled = F.normalize(features.mean(dim=1), dim=-1)
        else:
            # The mean of the cosines is the cosine of the mean unit vector, unnormalized: one product instead of T.
            pooled = F.normalize(features, dim=-1).mean(dim=1)
        return torch.einsum("bd,bkd->bk", pooled, classes) if classes.ndim == 3 else pooled @ classes.T


def check_finite(scores: Tensor) -> None:
    """Raises `WeightsError` where a score is NaN or infinite."""
    if not scores.isfinite().all():
        raise WeightsError("The model's scores are not finite numbers: its weights are damaged, or overflow.")


def check_false_positive_rate(false_positive_rate: float) -> None:
    """Raises `FrosterError` for a rate outside [0, 1)."""
    if not 0 <= false_positive_rate < 1:
        raise FrosterError(f"The false positive rate must be from 0 to below 1, not {false_positive_rate:g}.")


def quantile_threshold(best: Sequence[float], false_positive_rate: float, of: str = "windows") -> float:
    """The lowest threshold that at most a share `false_positive_rate` of `best` exceeds.

    `best`: the highest similarity of each negative window or video, which `of` names in the warning that they are too
    few for the rate.
    """
    check_false_positive_rate(false_positive_rate)
    if 0 < false_positive_rate * len(best) < 1:
        warnings.warn(
            f"The negatives give {len(best)} {of}; for a rate of {false_positive_rate:g} at least "
            f"{math.ceil(1 / false_positive_rate)} are needed, so the threshold allows no false positives.",
            FrosterWarning,
            stacklevel=3,
        )
    return sorted(best, reverse=True)[int(false_positive_rate * len(best) + 1e-9)]
