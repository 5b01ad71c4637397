"""The loss of a training step: cross entropy over the classes, and what the frozen CLIP teaches (FROSTER Eq. 8)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from accelerate.utils import gather, reduce
from torch import Tensor

from froster.distillation import Distillation
from froster.students import VideoStudent
from froster.training.texts import ClassTexts
from froster.video.transforms import clip_normalize

ClassMatrix = Callable[[int], Tensor]  # of a template's number: (K, …) float32


@dataclass
class MicroBatch:
    """Clips that go through the networks together.

    `frames`: `(b, T, 3, S, S)` uint8, `targets`: `(b,)` int64. `taught`: what the teacher sees in them, once it has
    looked: `(b, T, D)` float32, L2-normalised.
    """

    frames: Tensor
    targets: Tensor
    taught: Tensor | None = None


@dataclass
class Objective:
    """Gradients of the loss over micro-batches and processes, as if they were one batch in one process.

    `frozen_classes` gives the student's class matrix where its text encoder is not trained. `teacher` and
    `teacher_classes` are there where `distillation` is.
    """

    student: VideoStudent
    texts: ClassTexts
    autocast: torch.dtype | None = None
    distillation: Distillation | None = None
    teacher: VideoStudent | None = None
    teacher_classes: ClassMatrix | None = None
    frozen_classes: ClassMatrix | None = None
    rank: int = 0
    processes: int = 1

    def backward(
        self,
        batch: Sequence[MicroBatch],
        template: int,
        clips: int,
        scaler: torch.amp.GradScaler,
        weight: float = 1.0,
    ) -> dict[str, Tensor]:
        """Add `weight` times the gradient of the loss to the parameters; returns the terms of the loss.

        `batch` is this process's part, `clips` the number of clips in all parts. The mean over the processes of the
        gradients, and of the terms, is that of one process with the whole batch.
        """
        # The classes are encoded once for all micro-batches, by each process a share. Their gradient gathers on a leaf.
        own = self.encode_classes(template)
        classes = self.all_classes(own).requires_grad_(own.requires_grad)
        # Every process has the same terms, clips or not: they are averaged.
        terms = dict.fromkeys(self.term_names, torch.zeros((), device=classes.device))
        for micro in batch:
            if len(micro.targets):
                self.collect(terms, self.video_terms(micro, classes, clips), scaler, weight)
        if self.distillation and self.distillation.text and self.teacher_classes:
            features = F.normalize(self.student.unconditional_class_embeddings(classes), dim=-1)
            text_loss = self.distillation.text_loss(features, self.teacher_classes(template))
            self.collect(terms, {"text": text_loss}, scaler, weight)
        if own.requires_grad:
            gradient = torch.zeros_like(classes) if classes.grad is None else classes.grad
            own.backward(self.own_gradient(gradient, len(own)))
        return terms

    @property
    def term_names(self) -> list[str]:
        taught = [name for name in ("video", "text") if self.distillation and getattr(self.distillation, name)]
        return ["cross_entropy", *taught, "loss"]

    def collect(
        self, terms: dict[str, Tensor], new: dict[str, Tensor], scaler: torch.amp.GradScaler, weight: float
    ) -> None:
        """Back-propagate new terms and add them to what there is, with their sum as `loss`."""
        beta = self.distillation.beta if self.distillation else 0.0
        loss = torch.stack([term if name == "cross_entropy" else beta * term for name, term in new.items()]).sum()
        scaler.scale(weight * loss).backward()
        for name, term in {**new, "loss": loss}.items():
            terms[name] = terms[name] + term.detach()

    def video_terms(self, micro: MicroBatch, classes: Tensor, clips: int) -> dict[str, Tensor]:
        """Terms of one micro-batch, weighted so that micro-batches add up and processes average to the whole batch."""
        frames, targets = (t.to(classes.device, non_blocking=True) for t in (micro.frames, micro.targets))
        frames = clip_normalize(frames.flatten(0, 1)).unflatten(0, frames.shape[:2])
        share = self.processes * len(targets) / clips
        with self.computing():
            video_features = self.student.forward_features(frames)
            similarities = self.student.similarities(video_features, classes)
        logits = self.student.logit_scale.exp() * similarities
        terms = {"cross_entropy": share * F.cross_entropy(logits, targets)}
        if self.distillation and self.distillation.video and self.teacher:
            if micro.taught is None:
                with torch.no_grad():
                    micro.taught = F.normalize(self.teacher.encode_video(frames).float(), dim=-1)
            features = F.normalize(video_features.frame_embeddings.float(), dim=-1)
            loss = self.distillation.video_loss(features, micro.taught)
            # Eq. 7 is a sum over the clips, not a mean.
            terms["video"] = (self.processes if self.distillation.distance == "l2_sum" else share) * loss
        return terms

    def encode_classes(self, template: int) -> Tensor:
        if self.frozen_classes:
            return self.frozen_classes(template)
        with self.computing():
            return self.texts.encode(self.student, template, self.rank, self.processes)

    def all_classes(self, own: Tensor) -> Tensor:
        if self.frozen_classes or self.processes == 1:
            return own.detach()
        return gather(own.detach().contiguous())[: self.texts.classes]

    def own_gradient(self, gradient: Tensor, rows: int) -> Tensor:
        """Gradient of this process's rows, added up over the processes; rows that only fill up have none."""
        if self.processes == 1:
            return gradient
        filling = gradient.new_zeros(rows * self.processes - len(gradient), *gradient.shape[1:])
        whole = reduce(torch.cat([gradient, filling]), "sum")
        return whole[self.rank * rows : (self.rank + 1) * rows]

    def computing(self) -> torch.autocast:
        return torch.autocast(self.student.logit_scale.device.type, self.autocast, enabled=self.autocast is not None)
