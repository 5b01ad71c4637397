"""From frame features and class matrix to scores."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

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
            # The mean of the cosines is the cosine of the mean unit vector, unnormalised: one product instead of T.
            pooled = F.normalize(features, dim=-1).mean(dim=1)
        return torch.einsum("bd,bkd->bk", pooled, classes) if classes.ndim == 3 else pooled @ classes.T
