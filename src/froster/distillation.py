"""FROSTER (ICLR 2024): the frozen CLIP teaches the student through residual feature distillation (Eq. 6 and 7)."""

from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

Projection = Literal["none", "plain", "residual"]
Distance = Literal["cosine", "l2_sum", "l2_mean"]


class Projector(nn.Module):
    """From the student's features to what is compared with the teacher's: `(..., D)` -> `(..., D)` (FROSTER Fig. 3).

    "residual" (c): `z + alpha * W2(GELU(W1 z))`, Eq. 6; "plain" (b): `W2(GELU(W1 z))`; "none" (a): `z`.
    With `zero_init` the residual projector starts as the identity. A plain projector that starts at zero would never
    move: there `zero_init` has no meaning and W2 starts like W1.
    """

    def __init__(self, dim: int, projection: Projection, alpha: float = 0.1, zero_init: bool = True) -> None:
        super().__init__()
        self.projection, self.alpha = projection, alpha
        if projection == "none":
            return
        self.w1 = nn.Linear(dim, dim, bias=False)
        self.w2 = nn.Linear(dim, dim, bias=False)
        nn.init.kaiming_normal_(self.w1.weight)
        if projection == "residual" and zero_init:
            nn.init.zeros_(self.w2.weight)
        else:
            nn.init.kaiming_normal_(self.w2.weight)

    def forward(self, z: Tensor) -> Tensor:
        if self.projection == "none":
            return z
        projected = self.w2(F.gelu(self.w1(z)))
        return projected if self.projection == "plain" else z + self.alpha * projected


def feature_distance(student: Tensor, teacher: Tensor, distance: Distance) -> Tensor:
    """How far the student's features are from the teacher's: `(N, D)`, `(N, D)` -> scalar.

    "cosine": 1 - cosine, averaged over the rows (released code). "l2_sum": L2 norms of the differences, added up over
    the rows (FROSTER Eq. 7); "l2_mean": their mean.
    """
    if distance == "cosine":
        return 1 - F.cosine_similarity(student, teacher, dim=-1).mean()
    norms = (student - teacher).norm(dim=-1)
    return norms.sum() if distance == "l2_sum" else norms.mean()


class Distillation(nn.Module):
    """What student and frozen teacher disagree in, with one projector for video and one for text (FROSTER Eq. 7).

    The whole loss is `cross entropy + beta * (video + text)` (Eq. 8). Nothing of this is needed after training.
    Features are L2-normalised float32.
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
    ) -> None:
        super().__init__()
        self.distance, self.beta = distance, beta
        self.video = Projector(dim, projector, alpha, zero_init) if video else None
        self.text = Projector(dim, projector, alpha, zero_init) if text else None

    def video_loss(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Distance of frame features, frame by frame: `(B, T, D)`, `(B, T, D)` -> scalar."""
        assert self.video is not None, "built without video distillation"
        return feature_distance(self.video(student).flatten(0, 1), teacher.flatten(0, 1), self.distance)

    def text_loss(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Distance of class matrices, class by class: `(K, D)`, `(K, D)` -> scalar."""
        assert self.text is not None, "built without text distillation"
        return feature_distance(self.text(student), teacher, self.distance)
