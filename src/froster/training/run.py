"""A training run before its first step: student, teacher, objective, optimizer and batch order, built from a recipe."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from time import monotonic
from typing import Any

import torch
from accelerate import PartialState
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from froster.backbones.base import Backbone
from froster.backbones.build import backbone_names
from froster.device import pick_autocast
from froster.errors import FrosterError, WeightsError
from froster.interpolation import WeightAverage
from froster.losses.froster import Distillation
from froster.models import load_backbone, load_model
from froster.provenance import ClipSampling
from froster.students import VideoStudent
from froster.students.frame_clip import FrameClip
from froster.text.classes import ClassTexts
from froster.text.classifier import templates_for
from froster.training.alignment import have_one_space
from froster.training.checkpoint import Fingerprint, RunFolder
from froster.training.clips import BatchKeys
from froster.training.data import TrainingData
from froster.training.metrics import check_tensorboard
from froster.training.objective import Objective
from froster.training.parameters import parameter_groups, projector_parameters, select_trainable
from froster.training.recipe import TrainRecipe
from froster.training.texts import CachedClassEmbeddings, ClassPrompts
from froster.training.unusable import UnusableClips
from froster.training.validation import Validation


@dataclass
class Run:
    """Everything that a training step reads and updates."""

    recipe: TrainRecipe
    folder: RunFolder
    keys: BatchKeys  # batch sampler of this process
    objective: Objective  # student, projectors and teacher
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    parameters: list[nn.Parameter]
    fingerprint: Fingerprint
    clip_weights: dict[str, Tensor]  # CLIP's, float32, of the student's trained parameters that CLIP has
    average: WeightAverage = field(default_factory=WeightAverage)
    unusable: UnusableClips = field(default_factory=UnusableClips)
    validation: Validation | None = None
    step: int = 0
    saved_at: float = field(default_factory=monotonic)  # when the state was last saved

    @cached_property
    def replica(self) -> Objective | DistributedDataParallel:
        """The objective, wrapped in `DistributedDataParallel` if there are several processes."""
        if self.keys.world_size == 1:
            return self.objective
        ids = [self.device.index] if self.device.type == "cuda" else None
        # Gradients are views of the communication buckets: no second copy of them.
        return DistributedDataParallel(self.objective, device_ids=ids, gradient_as_bucket_view=True)

    @property
    def student(self) -> VideoStudent:
        return self.objective.student

    @property
    def device(self) -> torch.device:
        return self.student.logit_scale.device

    @property
    def steps_per_epoch(self) -> int:
        return self.keys.steps_per_epoch

    @property
    def clip_parameters(self) -> list[nn.Parameter]:
        """The student's parameters that `clip_weights` has CLIP's values of."""
        return [self.student.get_parameter(name) for name in self.clip_weights]

    def drop_clip_gradients(self) -> None:
        """Exclude CLIP's parameters from this step: the optimizer skips parameters without gradient."""
        of_clip = backbone_names(self.student.config)
        for name, parameter in self.student.named_parameters():
            if name in of_clip:
                parameter.grad = None

    def state(self) -> dict[str, Any]:
        """All that changes from step to step, to resume from."""
        distillation = self.objective.distillation
        return {
            "student": self.student.state_dict(),
            "distillation": distillation.state_dict() if distillation else {},
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "average": (self.average.count, self.average.mean),
            "step": self.step,
            "unreadable": self.unusable.unreadable,
            "partial": self.unusable.partial,
            "fingerprint": self.fingerprint,
            "validation": self.validation.history if self.validation else [],
        }

    def restore(self, state: dict[str, Any]) -> None:
        self.student.load_state_dict(state["student"])
        if self.objective.distillation:
            self.objective.distillation.load_state_dict(state["distillation"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        count, mean = state["average"]
        self.average.count, self.average.mean = count, {key: value.to(self.device) for key, value in mean.items()}
        self.unusable = UnusableClips(state["unreadable"], state["partial"])
        if self.validation:
            self.validation.history = state["validation"]
        self.step = self.keys.start_step = state["step"]


def prepare(
    recipe: TrainRecipe, folder: RunFolder, data: TrainingData, targets: Sequence[int], processes: PartialState
) -> Run:
    """The run on its device, as before the first step; `targets`: class index of each clip.

    Raises `FrosterError` where keys of the recipe do not fit."""
    device, settings = processes.device, recipe.optimizer
    precision = pick_autocast(recipe.precision, device)
    torch.manual_seed(recipe.seed)
    if recipe.tensorboard:
        check_tensorboard()
    student = load_model(recipe.model, recipe.student, backbone=recipe.backbone)
    teacher = load_clip(recipe) if recipe.distillation else None
    trained = select_trainable(student, recipe)
    configure_student(student, recipe, data, warn=processes.is_main_process)
    student.to(device).train()
    clip_weights = {}
    if recipe.stays_near_clip:
        clip_weights = trained_clip_weights(student, load_original(recipe, student, teacher), device)
    objective = build_objective(student, teacher, trained, recipe, precision)
    if recipe.data.class_balance == "loss":
        objective.class_weights = class_weights(targets, len(data.labels)).to(device)
    parameters = trained | projector_parameters(objective.distillation)
    optimizer = torch.optim.AdamW(
        parameter_groups(parameters, settings),
        lr=settings.learning_rate,
        betas=settings.betas,
        fused=device.type in ("cpu", "cuda"),  # one kernel for all parameters
    )
    return Run(
        recipe=recipe,
        folder=folder,
        keys=batch_keys(recipe, targets, processes),
        objective=objective,
        optimizer=optimizer,
        scaler=torch.amp.GradScaler(device.type, enabled=precision == torch.float16),
        parameters=list(parameters.values()),
        fingerprint={"precision": (str(precision or torch.float32).removeprefix("torch."), "")} | data.fingerprint,
        clip_weights=clip_weights,
        validation=Validation.of(recipe, data, device, precision),
    )


def class_weights(targets: Sequence[int], classes: int) -> Tensor:
    """Factors `(K,)` float32 in proportion to 1 / clips of the class, with mean 1 over the clips."""
    counts = torch.bincount(torch.tensor(targets), minlength=classes)
    return len(targets) / (counts.count_nonzero() * counts.clamp(min=1)).float()


def load_clip(recipe: TrainRecipe) -> Backbone:
    """The frozen teacher. Raises `WeightsError` when none is named and the model is a fine-tuned student."""
    try:
        return load_backbone(recipe.teacher or recipe.model, None if recipe.teacher else recipe.backbone)
    except WeightsError as error:
        raise error if recipe.teacher else WeightsError(f"{error} Name the CLIP with teacher=.") from error


def load_original(recipe: TrainRecipe, student: VideoStudent, teacher: Backbone | None = None) -> Backbone:
    """The CLIP that the student's weights are mixed with: the teacher, or the model if the teacher is another network.

    `teacher`: the recipe's, if it is loaded already. Raises `WeightsError` where neither is a plain CLIP like the
    student's.
    """
    clip = teacher or load_clip(recipe)
    if recipe.teacher is None or has_space_of(student, clip):
        return clip
    try:
        return load_backbone(recipe.model, recipe.backbone)
    except WeightsError as error:
        raise WeightsError(
            f"interpolation, weight_distance and patch_ratio need the CLIP that the student started from; teacher is "
            f"another network, and of the model: {error}"
        ) from error


def has_space_of(student: VideoStudent, clip: Backbone) -> bool:
    """Whether the student may have started from this CLIP: others of the same sizes were trained apart."""
    return clip.config == student.config and have_one_space(student, FrameClip(clip), list(student.labels or ()))


def trained_clip_weights(student: VideoStudent, clip: Backbone, device: torch.device) -> dict[str, Tensor]:
    """CLIP's weights for the student's parameters that training changes. Raises `FrosterError` for other shapes."""
    originals = clip.state_dict()
    trained = {
        name: p for name, p in student.named_parameters() if (p.requires_grad or student.merges) and name in originals
    }
    for name, parameter in trained.items():
        if parameter.shape != originals[name].shape:
            raise FrosterError(f"Student and CLIP cannot be interpolated: their {name} have different shapes.")
    return {name: originals[name].to(device, copy=True) for name in trained}


def configure_student(student: VideoStudent, recipe: TrainRecipe, data: TrainingData, warn: bool) -> None:
    """Give the student what its checkpoints say of the run: classes, templates, prompts, pooling and clip sampling."""
    student.labels = data.labels
    student.templates = templates_for(student, data.templates, warn=warn)
    student.prompt_style = recipe.data.prompt_style
    student.temporal_pooling = recipe.temporal_pooling or student.temporal_pooling
    student.clip_sampling = ClipSampling(frames=recipe.data.frames, sampling=recipe.data.sampling)
    student.visual.checkpointing = student.text.checkpointing = recipe.activation_checkpointing


def build_objective(
    student: VideoStudent,
    backbone: Backbone | None,
    trained: Iterable[str],
    recipe: TrainRecipe,
    precision: torch.dtype | None,
) -> Objective:
    """The recipe's loss.

    `backbone`: the teacher's; `trained`: names of the student's trained parameters; `precision`: autocast dtype.
    """
    device, labels, style = student.device, student.labels or ClassTexts(), student.prompt_style
    text_is_trained = any(name.startswith("text.") for name in trained)
    prompts = ClassPrompts(labels, student.templates, style)
    # Open-VCLIP's frozen class embeddings: the mean over all templates.
    all_prompts = style == "templates" and not text_is_trained
    teacher, teacher_classes, distillation = None, None, None
    if backbone:
        is_own_clip = has_weights_of(student, backbone)
        teacher = FrameClip(backbone.requires_grad_(False).to(device, precision or torch.float32))
        one_space = is_own_clip or have_one_space(student, teacher, list(labels))
        distillation = build_distillation(student, trained, recipe, None if one_space else teacher.config.embed_dim)
        teacher_prompts = ClassPrompts(labels, student.templates or teacher.templates, style)
        teacher_classes = CachedClassEmbeddings(teacher, teacher_prompts, all_prompts)
    return Objective(
        student=student,
        prompts=prompts,
        precision=precision,
        distillation=distillation,
        teacher=teacher,
        teacher_classes=teacher_classes,
        frozen_classes=None if text_is_trained else CachedClassEmbeddings(student, prompts, all_prompts),
    )


def has_weights_of(student: VideoStudent, backbone: Backbone) -> bool:
    """Whether the student is built on this very backbone."""
    state = student.state_dict()
    return student.config == backbone.config and all(
        torch.equal(state[name], value.to(state[name].device)) for name, value in backbone.state_dict().items()
    )


def build_distillation(
    student: VideoStudent, trained: Iterable[str], recipe: TrainRecipe, teacher_dim: int | None
) -> Distillation:
    """Distillation into the encoders that are trained; `teacher_dim`: see `Projector`.

    Raises `FrosterError` where it would have no effect, or no projector where the teacher's dimensions are others.
    """
    assert recipe.distillation is not None
    options = recipe.distillation.model_dump()
    options["text"] &= any(name.startswith("text.") for name in trained)
    options["video"] &= any(not name.startswith(("text.", "logit_")) for name in trained)
    if not options["video"] and not options["text"]:
        raise FrosterError(
            f"distillation: what it compares is frozen in {student.name}; train the encoder that it distills into "
            "(trained:), set distillation.video and distillation.text to true, or set distillation: null."
        )
    if teacher_dim and recipe.distillation.projector == "none":
        raise FrosterError(
            "distillation.projector: none compares embeddings as they are, but the teacher's are of another space "
            f"({teacher_dim} dimensions, the student's {student.config.embed_dim}); take the residual projector."
        )
    return Distillation(student.config.embed_dim, **options, teacher_dim=teacher_dim).to(student.device)


def batch_keys(recipe: TrainRecipe, targets: Sequence[int], processes: PartialState) -> BatchKeys:
    """This process's batches of a run on clips of these classes.

    Raises `FrosterError` where `average_every` exceeds the run, and where mixup or CutMix has no two clips to blend.
    """
    settings = recipe.optimizer
    together = min(settings.batch_size, len(targets)) // (
        settings.gradient_accumulation_steps * processes.num_processes
    )
    if (recipe.mixup or recipe.cutmix) and together < 2:
        raise FrosterError(
            "mixup and cutmix blend the clips of a micro-batch of a process, which has fewer than two: raise "
            "optimizer.batch_size, or lower optimizer.gradient_accumulation_steps."
        )
    keys = BatchKeys(
        clips=len(targets),
        batch_size=settings.batch_size,
        gradient_accumulation_steps=settings.gradient_accumulation_steps,
        epochs=settings.epochs,
        seed=recipe.seed,
        rank=processes.process_index,
        world_size=processes.num_processes,
        min_steps=settings.min_steps,
        targets=targets if recipe.data.class_balance == "sampling" else None,
    )
    averaged_steps = keys.steps - (recipe.average_from or 0) * keys.steps_per_epoch
    if recipe.average_every and recipe.average_every > averaged_steps:
        raise FrosterError(
            f"average_every={recipe.average_every}: only {averaged_steps} steps of the run may be averaged; "
            f"give at most {averaged_steps}."
        )
    return keys
