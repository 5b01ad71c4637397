"""Plain fine-tuning: cross entropy over the class names."""

import torch
from torch import Tensor

from froster.losses.batch import ClipBatch, autocast, cross_entropy
from froster.students import VideoStudent


def fine_tuning_loss(
    student: VideoStudent,
    batch: ClipBatch,
    class_embeddings: Tensor,
    global_batch_size: int | None = None,
    precision: torch.dtype | None = None,
    class_weights: Tensor | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Cross entropy of the student's logits: a scalar and its terms.

    `class_embeddings`: `(K, ...)` float32 of `encode_prompts`, averaged over the prompts of each class.
    `global_batch_size`: clips in the whole batch, where `batch` is a micro-batch of it: their losses add up to that of
    the batch. `class_weights`: as of `cross_entropy`.
    """
    with autocast(student, precision):
        output = student(student.preprocess.normalize(batch.frames), class_embeddings)
    loss = cross_entropy(output.logits, batch, global_batch_size or len(batch.targets), class_weights)
    return loss, {"cross_entropy": loss}
