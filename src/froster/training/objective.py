"""Gradient accumulation over micro-batches and processes."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import cast

import torch
from accelerate.utils import gather, reduce
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from froster.losses.batch import ClipBatch, autocast
from froster.losses.fine_tuning import fine_tuning_loss
from froster.losses.froster import Distillation, froster_loss
from froster.processes import find_processes
from froster.students import VideoStudent
from froster.training.texts import ClassPrompts


class Objective(nn.Module):
    """The loss with the modules that it trains, as one module for `DistributedDataParallel`.

    `prompts`: those of the student's classes. `frozen_classes`, for a frozen text encoder: template index -> class
    embeddings. `teacher` and `teacher_classes`: for `distillation`; without it the loss is cross entropy. `precision`:
    autocast dtype.

    `class_weights`: as of `cross_entropy`.
    """

    def __init__(
        self,
        student: VideoStudent,
        prompts: ClassPrompts,
        precision: torch.dtype | None = None,
        distillation: Distillation | None = None,
        teacher: VideoStudent | None = None,
        teacher_classes: Callable[[int], Tensor] | None = None,
        frozen_classes: Callable[[int], Tensor] | None = None,
    ) -> None:
        super().__init__()
        self.student, self.distillation, self.teacher = student, distillation, teacher
        self.prompts, self.precision = prompts, precision
        self.teacher_classes, self.frozen_classes = teacher_classes, frozen_classes
        self.class_weights: Tensor | None = None

    def forward(
        self, batch: ClipBatch, class_embeddings: Tensor, template: int, global_batch_size: int
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss and terms of a micro-batch, scaled by its share of the `global_batch_size` clips of the step."""
        if not len(batch.targets):
            return self.zero(), {}
        if self.distillation is None or self.teacher is None or self.teacher_classes is None:
            return fine_tuning_loss(
                self.student, batch, class_embeddings, global_batch_size, self.precision, self.class_weights
            )
        taught = self.teacher_classes(template)
        return froster_loss(
            self.student,
            self.teacher,
            self.distillation,
            batch,
            class_embeddings,
            taught,
            global_batch_size,
            self.precision,
            self.class_weights,
        )

    @property
    def term_names(self) -> list[str]:
        """Names of the terms, `loss` last."""
        sides = [side for side in ("video", "text") if self.distillation and getattr(self.distillation, side)]
        return ["cross_entropy", *(f"{side}_distillation" for side in sides), "loss"]

    def zero(self) -> Tensor:
        """Zero with a gradient for every parameter: a process without clips still takes part in the all-reduce."""
        return torch.stack([p.sum() for p in self.parameters() if p.requires_grad]).sum() * 0

    def encode_classes(self, template: int) -> "SharedClassEmbeddings":
        """Class embeddings of a template, for all micro-batches of a step."""
        processes = find_processes()
        if self.frozen_classes:
            return SharedClassEmbeddings(self.frozen_classes(template))
        rank, world_size = processes.process_index, processes.num_processes
        with autocast(self.student, self.precision):
            own = self.prompts.encode(self.student, template, rank, world_size)
        return SharedClassEmbeddings(own, self.prompts.classes, rank, world_size)


class SharedClassEmbeddings:
    """Class embeddings shared by all micro-batches of a step, so that the text encoder runs forward and backward once.

    Each process encodes its part `own` of the `classes` rows, with gradient. `embeddings` are all rows, detached: they
    accumulate the gradients of the micro-batches, and `backward` of the last one propagates the sum to the text
    encoder.
    """

    def __init__(self, own: Tensor, classes: int | None = None, rank: int = 0, world_size: int = 1) -> None:
        self.own, self.rank, self.world_size = own, rank, world_size
        rows = own.detach() if world_size == 1 else gather(own.detach().contiguous())[:classes]
        self.embeddings = rows.requires_grad_(own.requires_grad)

    def backward(self, loss: Tensor) -> None:
        """Backward pass of the last micro-batch's loss and of the accumulated gradient of the class embeddings.

        One pass, because `DistributedDataParallel` averages each gradient once; without collectives of ours in it,
        because a process without clips would run them in another order.
        """
        if not self.own.requires_grad:
            loss.backward()
            return
        (last,) = torch.autograd.grad(
            loss, [self.embeddings], retain_graph=True, allow_unused=True, materialize_grads=True
        )
        gradient = last if self.embeddings.grad is None else last + self.embeddings.grad
        torch.autograd.backward([loss, self.own], [torch.ones_like(loss), self.own_rows(gradient)])

    def own_rows(self, gradient: Tensor) -> Tensor:
        """The gradient of this process's rows, summed over processes; rows that pad the last part have none."""
        if self.world_size == 1:
            return gradient
        rows = len(self.own)
        padding = gradient.new_zeros(rows * self.world_size - len(gradient), *gradient.shape[1:])
        whole = reduce(torch.cat([gradient, padding]), "sum")
        return whole[self.rank * rows : (self.rank + 1) * rows]


def accumulate_gradients(
    objective: Objective | DistributedDataParallel,
    batches: Sequence[ClipBatch],
    template: int,
    global_batch_size: int,
    scaler: torch.amp.GradScaler,
    weight: float = 1.0,
    synchronize: bool = True,
) -> dict[str, Tensor]:
    """Add `weight` times the gradient of the loss to `parameter.grad`; returns the loss and its terms.

    `batches`: micro-batches of this process, on the objective's device. `global_batch_size`: clips in the micro-batches
    of all processes. Terms and gradients, averaged over processes, equal those of one process with the whole batch.
    `DistributedDataParallel` averages gradients in the last backward pass; `synchronize=False` skips that.
    """
    ddp = objective if isinstance(objective, DistributedDataParallel) else None
    module = cast(Objective, ddp.module) if ddp else cast(Objective, objective)
    world_size = find_processes().num_processes if ddp else 1
    classes = module.encode_classes(template)
    totals: dict[str, Tensor] = {}
    for number, batch in enumerate(batches, start=1):
        last = number == len(batches)
        if not len(batch.targets) and not last:
            continue
        with ddp.no_sync() if ddp and not (last and synchronize) else nullcontext():
            loss, terms = objective(batch, classes.embeddings, template, global_batch_size)
            scaled = scaler.scale(world_size * weight * loss)
            if last:
                classes.backward(scaled)
            else:
                scaled.backward()
        for name, term in {**terms, "loss": loss}.items():
            totals[name] = totals.get(name, 0) + world_size * term.detach()
    assert totals.keys() <= set(module.term_names), "a loss has a term that Objective.term_names lacks"
    return {name: totals.get(name, torch.zeros_like(totals["loss"])) for name in module.term_names}
