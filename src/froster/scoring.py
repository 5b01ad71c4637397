"""From frame features and class matrix to scores."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Average = Literal["logits", "features"]


def class_similarities(frame_features: Tensor, classes: Tensor, average: Average = "logits") -> Tensor:
    """Cosine of a clip with every class: `(B, T, D)`, `(K, D)` normalised -> `(B, K)` float32.

    `average="logits"`: each frame's cosine, averaged over the frames (the authors' code). `"features"`: the cosine of
    the averaged frame feature (FROSTER Eq. 1). Classes may differ from clip to clip: `(B, K, D)`. Computed in float32,
    whatever the precision around.
    """
    with torch.autocast(classes.device.type, enabled=False):
        features, classes = frame_features.float(), classes.float()
        if average == "features":
            pooled = F.normalize(features.mean(dim=1), dim=-1)
        else:
            # The mean of the cosines is the cosine of the mean unit vector, unnormalised: one product instead of T.
            pooled = F.normalize(features, dim=-1).mean(dim=1)
        return torch.einsum("bd,bkd->bk", pooled, classes) if classes.ndim == 3 else pooled @ classes.T
