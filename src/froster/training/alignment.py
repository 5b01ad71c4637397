"""Where the projectors start if teacher and student have embeddings of different spaces: the best linear map."""

import math
from collections.abc import Iterable, Sequence
from itertools import islice
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
from froster.training.clips import TrainingClips, load_batches
from froster.training.texts import CachedClassEmbeddings

if TYPE_CHECKING:
    from froster.training.run import Run

Pairs = tuple[Tensor, Tensor]  # of the same N frames or classes, by the student `(N, D)` and the teacher `(N, D')`
SAME_SPACE = 0.5  # mean cosine of texts; it is near 0 between models that were trained apart, near 1 after fine-tuning
RIDGE = 0.1  # as a share of the mean square of the student's coordinates
CLIPS_PER_DIMENSION = 4  # clips that the map is fitted to, for each dimension of the student's embeddings
HELD_OUT = 8  # one batch in so many measures the fit


@torch.no_grad()
def have_one_space(student: VideoStudent, teacher: VideoStudent, names: Sequence[str]) -> bool:
    """Whether student and teacher have embeddings of one space: as many dimensions, in which class names are alike.

    A student starts with its own CLIP's embeddings, or after fine-tuning with similar ones.
    """
    if student.config.embed_dim != teacher.config.embed_dim:
        return False
    ours, theirs = (
        model.unconditional_class_embeddings(encode_texts(model, names).to(model.device)).float().cpu()
        for model in (student, teacher)
    )
    return F.cosine_similarity(ours, theirs).mean().item() > SAME_SPACE


@torch.no_grad()
def align_projectors(run: "Run", clips: TrainingClips) -> dict[str, float]:
    """Fit the `alignment` of the projectors that have one, before the first step; all processes get the same map.

    For frames: to clips of the first batches, at most an epoch. For classes: to the class embeddings of all templates.
    Returns, for "video" and "text", the mean cosine between the mapped embeddings of the student and those of the
    teacher; for "video" of batches that the map was not fitted to, if there are several.
    """
    distillation = run.objective.distillation
    cosines: dict[str, float] = {}
    if distillation is None or run.step:
        return cosines
    run.student.eval()
    if distillation.video and distillation.video.alignment is not None:
        cosines["video"] = fit(distillation.video, embed_frames(run, clips), run)
    if distillation.text and distillation.text.alignment is not None:
        cosines["text"] = fit(distillation.text, [embed_classes(run)], run)
    run.student.train()
    return cosines


def batches_to_fit(run: "Run") -> int:
    """Number of micro-batches with `CLIPS_PER_DIMENSION`, at most those of an epoch."""
    settings = run.recipe.optimizer
    clips = min(settings.batch_size, run.keys.clips) / settings.gradient_accumulation_steps
    needed = math.ceil(CLIPS_PER_DIMENSION * run.student.config.embed_dim / clips)
    return min(needed, run.steps_per_epoch * settings.gradient_accumulation_steps)


def embed_frames(run: "Run", clips: TrainingClips) -> list[Pairs]:
    """Normalized embeddings of the frames of the first micro-batches by student and teacher."""
    student, teacher, precision = run.student, run.objective.teacher, run.objective.precision
    assert teacher is not None
    pairs = []
    # They are decoded once more in the first step: kept until then they would fill the memory.
    for loaded in islice(load_batches(clips, run.keys, pin_memory=False), batches_to_fit(run)):
        if len(loaded.targets):
            batch = ClipBatch(loaded.frames, loaded.targets).to(run.device)
            with autocast(student, precision):
                embeddings = student.encode_video(student.preprocess.normalize(batch.frames))
            ours, theirs = unit(embeddings).flatten(0, 1), teacher_embeddings(teacher, batch).flatten(0, 1)
        else:
            ours, theirs = torch.empty(0, student.config.embed_dim), torch.empty(0, teacher.config.embed_dim)
        pairs.append((ours.double().cpu(), theirs.double().cpu()))
    return pairs


def embed_classes(run: "Run") -> Pairs:
    """Class embeddings of this process's share of the templates by student and teacher."""
    student, objective = run.student, run.objective
    assert objective.teacher is not None and objective.teacher_classes is not None
    classes = CachedClassEmbeddings(student, objective.prompts)
    templates = range(run.keys.rank, objective.prompts.templates or len(TEMPLATES), run.keys.world_size)
    ours, theirs = [torch.empty(0, student.config.embed_dim)], [torch.empty(0, objective.teacher.config.embed_dim)]
    for template in templates:  # none, where there are more processes than templates
        ours.append(unit(student.unconditional_class_embeddings(classes(template))).cpu())
        theirs.append(objective.teacher_classes(template).cpu())
    return torch.cat(ours).double(), torch.cat(theirs).double()


def fit(projector: Projector, pairs: Sequence[Pairs], run: "Run") -> float:
    """Set `projector.alignment` to the best linear map of all processes' pairs; returns the mean cosine.

    The cosine is of the last part of the pairs, with a map of the others alone, if there are several.
    """
    assert projector.alignment is not None
    held_out = math.ceil(len(pairs) / HELD_OUT) if len(pairs) > 1 else 0
    fitted = pairs[: len(pairs) - held_out]
    alignment = best_linear_map(*moments(fitted, run))
    tested = pairs[len(fitted) :] or pairs
    cosines = torch.cat([F.cosine_similarity(ours @ alignment.T, theirs) for ours, theirs in tested])
    total, count = add_up(torch.tensor([cosines.sum().item(), len(cosines)], dtype=torch.float64), run).tolist()
    projector.alignment.copy_(best_linear_map(*moments(pairs, run)) if held_out else alignment)
    return total / max(count, 1)


def moments(pairs: Iterable[Pairs], run: "Run") -> tuple[Tensor, Tensor]:
    """`Z^T Z` `(D, D)` and `Y^T Z` `(D', D)` of the pairs of all processes."""
    ours, theirs = (torch.cat(part) for part in zip(*pairs, strict=True))
    sums = add_up(torch.cat([ours.T @ ours, theirs.T @ ours]), run)
    return sums[: ours.shape[1]], sums[ours.shape[1] :]


def best_linear_map(gram: Tensor, cross: Tensor) -> Tensor:
    """W of ridge regression, `argmin |Z W^T - Y|^2 + r |W|^2`, from `Z^T Z` `(D, D)` and `Y^T Z` `(D', D)`."""
    ridge = (RIDGE * gram.diagonal().mean()).clamp(min=1e-12)
    return torch.linalg.solve(gram + ridge * torch.eye(len(gram), dtype=gram.dtype), cross, left=False)


def add_up(values: Tensor, run: "Run") -> Tensor:
    """The sum over all processes, on the CPU."""
    return values if run.keys.world_size == 1 else reduce(values.to(run.device), "sum").cpu()
