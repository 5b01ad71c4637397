"""FROSTER (ICLR 2024): a frozen CLIP, or another frozen teacher, teaches by residual feature distillation."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from froster.losses.batch import ClipBatch, autocast, cross_entropy, unit
from froster.students import VideoStudent

Projection = Literal["none", "plain", "residual"]
Distance = Literal["cosine", "l2_sum", "l2_mean"]
# Smooths the L2 norm at zero: where student and teacher agree except for rounding (1e-7), its gradient
# would be a unit vector in a random direction.
L2_EPSILON = 1e-3


class Projector(nn.Module):
    """Maps the student's embeddings to those compared with the teacher's: `(..., D)` -> `(..., D')` (FROSTER Fig. 3).

    "residual" (c): `z + alpha * W2(GELU(W1 z))`, Eq. 6; "plain" (b): `W2(GELU(W1 z))`; "none" (a): `z`.
    With `zero_init` the residual projector starts as the identity. A plain projector that starts at zero would never
    move: there `zero_init` has no meaning and W2 starts like W1.

    `teacher_dim`: D' of a teacher whose embeddings are of another space than the student's; None where they are of one
    space, as in the paper. The residual projector is then `W z + alpha * W2(GELU(W1 z))` (not in the paper), where W,
    `alignment`, is trained too; it starts as the identity, until `froster.training.alignment` fits it.
    """

    def __init__(
        self,
        dim: int,
        projection: Projection,
        alpha: float = 0.1,
        zero_init: bool = True,
        teacher_dim: int | None = None,
    ) -> None:
        super().__init__()
        self.projection, self.alpha = projection, alpha
        self.alignment: nn.Parameter | None = None
        if projection == "none":
            return
        self.w1 = nn.Linear(dim, dim, bias=False)
        self.w2 = nn.Linear(dim, teacher_dim or dim, bias=False)
        nn.init.kaiming_normal_(self.w1.weight)
        if projection == "residual" and zero_init:
            nn.init.zeros_(self.w2.weight)
        else:
            nn.init.kaiming_normal_(self.w2.weight)
        if projection == "residual" and teacher_dim:
            self.alignment = nn.Parameter(torch.eye(teacher_dim, dim))

    def forward(self, z: Tensor) -> Tensor:
        if self.projection == "none":
            return z
        projected = self.w2(F.gelu(self.w1(z)))
        if self.projection == "plain":
            return projected
        return (z if self.alignment is None else F.linear(z, self.alignment)) + self.alpha * projected


def feature_distance(student: Tensor, teacher: Tensor, distance: Distance) -> Tensor:
    """Distance of the student's embeddings from the teacher's: `(N, ..., D)`, `(N, ..., D)` -> scalar.

    "cosine": 1 - cosine of each D-vector, averaged (released code). "l2_sum": sum over the N samples of the L2 norm of
    the whole sample's difference (Eq. 7), so of a clip's `(T, D)` frame embeddings; "l2_mean": its mean (Eq. 3). The
    norm is `sqrt(norm ** 2 + L2_EPSILON ** 2)`.
    """
    if distance == "cosine":
        return 1 - F.cosine_similarity(student, teacher, dim=-1).mean()
    squared = (student - teacher).flatten(1).square().sum(dim=1)
    norms = (squared + L2_EPSILON**2).sqrt()
    return norms.sum() if distance == "l2_sum" else norms.mean()


class Distillation(nn.Module):
    """FROSTER's settings and its projectors, one for video and one for text; only used in training.

    `distance`: see `feature_distance`; `beta`: weight of the distillation (Eq. 8); `projector`, `alpha`, `zero_init`:
    `teacher_dim`: see `Projector`. `video=False` or `text=False` disables that term.
    """

    def __init__(
        self,
        dim: int,
        projector: Projection = "residual",
        video: bool = True,
        text: bool = True,
        distance: Distance = "cosine",
        alpha: float = 0.1,
        beta: float = 2.0,
        zero_init: bool = True,
        teacher_dim: int | None = None,
    ) -> None:
        super().__init__()
        self.distance, self.beta = distance, beta
        self.video = Projector(dim, projector, alpha, zero_init, teacher_dim) if video else None
        self.text = Projector(dim, projector, alpha, zero_init, teacher_dim) if text else None


def froster_loss(
    student: VideoStudent,
    teacher: VideoStudent,
    distillation: Distillation,
    batch: ClipBatch,
    class_embeddings: Tensor,
    teacher_class_embeddings: Tensor,
    global_batch_size: int | None = None,
    precision: torch.dtype | None = None,
    class_weights: Tensor | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """FROSTER's loss (Eq. 8): cross entropy + beta * (video distillation + text distillation).

    `class_embeddings`: `(K, ...)` float32, with gradient where the text encoder is trained;
    `teacher_class_embeddings`: `(K, D')` float32 of the same prompts. `global_batch_size`: clips in the whole batch,
    where `batch` is a micro-batch of it: the losses of the micro-batches add up to that of the batch. `precision`:
    autocast dtype of the networks; the loss itself is float32. `class_weights`: as of
    `cross_entropy`. Returns the loss, a scalar, and its terms.
    """
    frames = student.preprocess.normalize(batch.frames)
    with autocast(student, precision):
        output = student(frames, class_embeddings)

    clips = global_batch_size or len(batch.targets)
    share = len(batch.targets) / clips
    loss = cross_entropy(output.logits, batch, clips, class_weights)
    terms = {"cross_entropy": loss}
    if distillation.video:
        projected = distillation.video(unit(output.frame_embeddings))
        taught = teacher_embeddings(teacher, batch, frames if teacher.preprocess == student.preprocess else None)
        distance = feature_distance(projected, taught, distillation.distance)
        # A sum over clips needs no weight to add up over micro-batches.
        terms["video_distillation"] = distance if distillation.distance == "l2_sum" else share * distance
        loss = loss + distillation.beta * terms["video_distillation"]
    if distillation.text:
        projected = distillation.text(unit(student.unconditional_class_embeddings(class_embeddings)))
        distance = feature_distance(projected, teacher_class_embeddings, distillation.distance)
        terms["text_distillation"] = share * distance
        loss = loss + distillation.beta * terms["text_distillation"]
    return loss, terms


@torch.no_grad()
def teacher_embeddings(teacher: VideoStudent, batch: ClipBatch, frames: Tensor | None = None) -> Tensor:
    """The teacher's frame embeddings of `batch`, L2-normalized `(B, T, D')`; computed once, then cached in it.

    The teacher sees the student's crops, scaled to its own size. `frames`: those of the batch as the teacher's
    preprocessing normalizes them, where they are known already.
    """
    if batch.teacher_embeddings is None:
        preprocess = teacher.preprocess
        frames = preprocess.normalize(preprocess.scale_crops(batch.frames)) if frames is None else frames
        batch.teacher_embeddings = unit(teacher.encode_video(frames))
    return batch.teacher_embeddings
