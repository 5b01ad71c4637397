"""From frame features and class matrix to similarities and scores, and the threshold under which nothing is named."""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from froster.backbones.base import ScoreFunction, VisionLanguageModel
from froster.device import without_autocast
from froster.errors import FrosterError, FrosterWarning, WeightsError

TemporalPooling = Literal["logits", "features"]
LIKELY = 0.5  # from which an independent score means that the video shows the label


def class_similarities(
    frame_embeddings: Tensor, classes: Tensor, temporal_pooling: TemporalPooling = "logits"
) -> Tensor:
    """Cosine of a clip with every class: `(B, T, D)`, `(K, D)` normalized -> `(B, K)` float32.

    `temporal_pooling="logits"`: each frame's cosine, averaged over the frames (the authors' code). `"features"`: the
    cosine of the averaged frame embedding (FROSTER Eq. 1). Classes may differ from clip to clip: `(B, K, D)`. Computed
    in float32, also under autocast.
    """
    with without_autocast(classes.device):
        features, classes = frame_embeddings.float(), classes.float()
        if temporal_pooling == "features":
            pooled = F.normalize(features.mean(dim=1), dim=-1)
        else:
            # The mean of the cosines is the cosine of the mean unit vector, unnormalized: one product instead of T.
            pooled = F.normalize(features, dim=-1).mean(dim=1)
        return torch.einsum("bd,bkd->bk", pooled, classes) if classes.ndim == 3 else pooled @ classes.T


@dataclass(frozen=True)
class ScoreHead:
    """From cosines to scores: times `temperature`, plus `bias`, then `function`."""

    temperature: float
    bias: float = 0.0
    function: ScoreFunction = "softmax"

    @classmethod
    def of(cls, model: VisionLanguageModel) -> "ScoreHead":
        """That of a model, in float32. Raises `WeightsError` where it is not finite."""
        temperature = model.logit_scale.detach().float().exp()
        bias = torch.zeros(()) if model.logit_bias is None else model.logit_bias.detach().float()
        check_finite(temperature)
        check_finite(bias)
        return cls(temperature.item(), bias.item(), model.config.score_function)

    @property
    def is_independent(self) -> bool:
        """Whether every label has a probability of its own, rather than a share of 1."""
        return self.function == "sigmoid"

    def scores(self, similarities: Tensor) -> Tensor:
        """Scores of the labels from cosines `(..., K)`: shares that add up to 1, or a probability of each label."""
        logits = self.temperature * similarities + self.bias
        return logits.sigmoid() if self.is_independent else logits.softmax(dim=-1)


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
