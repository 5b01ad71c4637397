"""A check of relevance maps: their share on the known figure."""

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray


def share_on(mask: NDArray[np.float32], maps: NDArray[np.float32]) -> float:
    """The share of maps `(T, h, w)` on a mask `(T, H, W)` in [0, 1], such as a figure's.

    Every patch counts as much as the mask covers it; maps that are the same everywhere have the mask's share of the
    area, `mask.mean()`, maps without any value none.
    """
    covered = F.adaptive_avg_pool2d(torch.from_numpy(mask)[:, None], maps.shape[1:])[:, 0].numpy()
    total = float(maps.sum())
    return float((maps * covered).sum()) / total if total else 0.0
