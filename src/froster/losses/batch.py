"""Input of the losses, and helpers that they share."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from froster.students import VideoStudent


@dataclass
class ClipBatch:
    """A batch of labeled clips.

    `frames`: `(B, T, 3, S, S)` uint8, or float32 in [0, 255]. `targets`: class indices `(B,)` int64, or the share of
    each class `(B, K)` float32 where clips are mixed.
    `teacher_embeddings`: the teacher's frame embeddings, `(B, T, D)` float32, L2-normalized; None until a loss computes
    and caches them.
    """

    frames: Tensor
    targets: Tensor
    teacher_embeddings: Tensor | None = None

    def to(self, device: torch.device) -> "ClipBatch":
        """The same clips on `device`."""
        taught = self.teacher_embeddings
        return ClipBatch(
            self.frames.to(device, non_blocking=True),
            self.targets.to(device, non_blocking=True),
            None if taught is None else taught.to(device, non_blocking=True),
        )


def cross_entropy(logits: Tensor, batch: ClipBatch, global_batch_size: int, class_weights: Tensor | None) -> Tensor:
    """Cross entropy of `(B, K)` logits: the micro-batch's share of the mean over `global_batch_size` clips.

    `class_weights`: `(K,)` float32, a factor for the clips of each class; unlike PyTorch's, which divides by their sum
    in the batch, it is the same factor in every batch.
    """
    if class_weights is None:
        return len(batch.targets) / global_batch_size * F.cross_entropy(logits, batch.targets)
    return F.cross_entropy(logits, batch.targets, class_weights, reduction="sum") / global_batch_size


def unit(embeddings: Tensor) -> Tensor:
    """L2-normalized along the last axis, float32."""
    return F.normalize(embeddings.float(), dim=-1)


def autocast(student: VideoStudent, dtype: torch.dtype | None) -> torch.autocast:
    """Autocast to `dtype` on the student's device; disabled for `None`."""
    return torch.autocast(student.logit_scale.device.type, dtype, enabled=dtype is not None)
