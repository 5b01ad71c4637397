"""Plain fine-tuning: cross entropy over the class names."""

import torch
import torch.nn.functional as F
from torch import Tensor

from froster.losses.batch import ClipBatch, autocast
from froster.students import VideoStudent


def fine_tuning_loss(
    student: VideoStudent,
    batch: ClipBatch,
    class_embeddings: Tensor,
    global_batch_size: int | None = None,
    precision: torch.dtype | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Cross entropy of the student's logits: a scalar and its terms.

    `class_embeddings`: `(K, ...)` float32 of `encode_prompts`, averaged over the prompts of each class.
    `global_batch_size`: clips in the whole batch, where `batch` is a micro-batch of it: their losses add up to that of
    the batch.
    """
    with autocast(student, precision):
        output = student(student.preprocess.normalize(batch.frames), class_embeddings)
    share = len(batch.targets) / (global_batch_size or len(batch.targets))
    cross_entropy = share * F.cross_entropy(output.logits, batch.targets)
    return cross_entropy, {"cross_entropy": cross_entropy}
