"""What every loss is computed of."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from froster.students import VideoStudent


@dataclass
class ClipBatch:
    """Labeled clips that go through the networks together.

    `frames`: `(B, T, 3, S, S)` uint8. `targets`: class indices `(B,)` int64. `teacher_embeddings`: the teacher's frame
    embeddings of them, `(B, T, D)` float32, L2-normalized, cached when a loss first needs them.
    """

    frames: Tensor
    targets: Tensor
    teacher_embeddings: Tensor | None = None

    def to(self, device: torch.device) -> "ClipBatch":
        """The same clips on `device`."""
        return ClipBatch(self.frames.to(device, non_blocking=True), self.targets.to(device, non_blocking=True))


def unit(embeddings: Tensor) -> Tensor:
    """L2-normalized along the last axis, float32."""
    return F.normalize(embeddings.float(), dim=-1)


def autocast(student: VideoStudent, dtype: torch.dtype | None) -> torch.autocast:
    """Mixed precision on the student's device; `None` computes in the precision of the weights."""
    return torch.autocast(student.logit_scale.device.type, dtype, enabled=dtype is not None)
