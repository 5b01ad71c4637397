"""Where the projectors start if teacher and student have embeddings of different spaces: the best linear map."""

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from accelerate.utils import reduce
from torch import Tensor

from froster.losses.batch import ClipBatch, autocast, unit
from froster.losses.froster import Projector, teacher_embeddings
from froster.students import VideoStudent
from froster.text.classifier import encode_texts
from froster.text.prompts import TEMPLATES
from froster.training.clips import Batch
from froster.training.texts import CachedClassEmbeddings

if TYPE_CHECKING:
    from froster.training.run import Run

SAME_SPACE = 0.5  # mean cosine of texts; it is near 0 between models that were trained apart, near 1 after fine-tuning
RIDGE = 1e-3  # as a share of the mean variance of the student's coordinates
FRAMES_PER_DIMENSION = 4  # frames that the map is fitted to, for each dimension of the student's embeddings


@torch.no_grad()
def have_one_space(student: VideoStudent, teacher: VideoStudent, names: Sequence[str]) -> bool:
    """Whether student and teacher have embeddings of one space: as many dimensions, in which class names are alike.

    A student starts with its own CLIP's embeddings, or after fine-tuning with similar ones.
    """
    if student.config.embed_dim != teacher.config.embed_dim:
        return False
    ours, theirs = (
        model.unconditional_class_embeddings(encode_texts(model, names).to(model.device)).float()
        for model in (student, teacher)
    )
    return F.cosine_similarity(ours, theirs).mean().item() > SAME_SPACE


@torch.no_grad()
def align_projectors(run: "Run", batches: Iterator[Batch]) -> tuple[Iterator[Batch], dict[str, float]]:
    """Fit the `alignment` of the projectors that have one, before the first step.

    For frames: to the first batches, but not more than an epoch. For classes: to the class embeddings of all templates.
    Returns the batches, from the first one on, and for "video" and "text" the mean cosine between the mapped embeddings
    of the student and those of the teacher. All processes get the same map.
    """
    distillation = run.objective.distillation
    cosines: dict[str, float] = {}
    if distillation is None or run.step:
        return batches, cosines
    run.student.eval()
    if distillation.video and distillation.video.alignment is not None:
        first = list(islice(batches, batches_to_fit(run)))
        batches = chain(first, batches)
        cosines["video"] = fit(distillation.video, *embed_frames(run, first), run)
    if distillation.text and distillation.text.alignment is not None:
        cosines["text"] = fit(distillation.text, *embed_classes(run), run)
    run.student.train()
    return batches, cosines


def batches_to_fit(run: "Run") -> int:
    """Number of micro-batches with `FRAMES_PER_DIMENSION`, at most those of an epoch."""
    settings = run.recipe.optimizer
    clips = min(settings.batch_size, run.keys.clips) / settings.gradient_accumulation_steps
    needed = FRAMES_PER_DIMENSION * run.student.config.embed_dim / (clips * run.recipe.data.frames)
    return min(math.ceil(needed), run.steps_per_epoch * settings.gradient_accumulation_steps)


def embed_frames(run: "Run", batches: Iterable[Batch]) -> tuple[Tensor, Tensor]:
    """Embeddings of the same N frames by student and teacher, normalized: `(N, D)` and `(N, D')`."""
    student, teacher, precision = run.student, run.objective.teacher, run.objective.precision
    assert teacher is not None
    ours, theirs = [torch.empty(0, student.config.embed_dim)], [torch.empty(0, teacher.config.embed_dim)]
    for loaded in batches:
        if len(loaded.targets):
            batch = ClipBatch(loaded.frames, loaded.targets).to(run.device)
            with autocast(student, precision):
                embeddings = student.encode_video(student.preprocess.normalize(batch.frames))
            ours.append(unit(embeddings).flatten(0, 1).cpu())
            theirs.append(teacher_embeddings(teacher, batch).flatten(0, 1).cpu())
    return torch.cat(ours), torch.cat(theirs)


def embed_classes(run: "Run") -> tuple[Tensor, Tensor]:
    """Class embeddings of this process's share of the templates by student and teacher: `(N, D)` and `(N, D')`."""
    student, objective = run.student, run.objective
    assert objective.teacher_classes is not None
    classes = CachedClassEmbeddings(student, objective.prompts)
    templates = range(run.keys.rank, objective.prompts.templates or len(TEMPLATES), run.keys.world_size)
    ours = [unit(student.unconditional_class_embeddings(classes(template))) for template in templates]
    return torch.cat(ours).cpu(), torch.cat([objective.teacher_classes(template) for template in templates]).cpu()


def fit(projector: Projector, student: Tensor, teacher: Tensor, run: "Run") -> float:
    """Set `projector.alignment` to the best linear map of all processes' rows; returns their mean cosine with it.

    `student`: `(N, D)`, `teacher`: `(N, D')`, of this process.
    """
    assert projector.alignment is not None
    student, teacher = student.double(), teacher.double()
    dims = student.shape[1]
    sums = add_up(torch.cat([student.T @ student, teacher.T @ student]), run)
    projector.alignment.copy_(best_linear_map(sums[:dims], sums[dims:]))
    mapped = student @ projector.alignment.double().cpu().T
    cosines = F.cosine_similarity(mapped, teacher)
    total, count = add_up(torch.stack([cosines.sum(), torch.tensor(float(len(cosines))).double()]), run).tolist()
    return total / max(count, 1)


def best_linear_map(gram: Tensor, cross: Tensor) -> Tensor:
    """W of ridge regression, `argmin |Z W^T - Y|^2 + r |W|^2`, from `Z^T Z` `(D, D)` and `Y^T Z` `(D', D)`."""
    ridge = (RIDGE * gram.diagonal().mean()).clamp(min=1e-12)
    return torch.linalg.solve(gram + ridge * torch.eye(len(gram), dtype=gram.dtype), cross, left=False)


def add_up(values: Tensor, run: "Run") -> Tensor:
    """The sum over all processes, on the CPU."""
    return values if run.keys.world_size == 1 else reduce(values.to(run.device), "sum").cpu()
