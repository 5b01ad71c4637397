"""`train`: fine-tunes a student from a recipe; a run can be interrupted at any time and resumed."""

import copy
import math
import re
import shlex
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import gather_object, reduce
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from froster.backbones.base import Backbone
from froster.backbones.build import backbone_names
from froster.checkpoints.checkpoint import BackboneSource
from froster.checkpoints.own import backbone_digest, save_checkpoint
from froster.data.manifests import LabeledVideo, class_indices, describe_splits, read_manifest
from froster.data.puppets import write_videos
from froster.data.trained import TrainedVideos
from froster.device import has_bfloat16
from froster.errors import FrosterError, FrosterWarning, WeightsError
from froster.interpolation import WeightAverage, patch_states
from froster.losses.batch import ClipBatch
from froster.losses.froster import Distillation
from froster.losses.open_vclip import interpolated_weights, weight_distance
from froster.models import load_backbone, load_model
from froster.processes import find_processes
from froster.provenance import ClipSampling
from froster.students import VideoStudent
from froster.students.frame_clip import FrameClip
from froster.text.classifier import templates_for
from froster.text.descriptions import describe_labels, read_descriptions, some
from froster.text.labels import Labels, check_labels, read_labels
from froster.text.prompts import TEMPLATES, read_templates
from froster.training.checkpoint import Fingerprint, RunFolder, digest, read_json, write_json
from froster.training.clips import Batch, BatchKeys, TrainingClips, check_videos, load_batches
from froster.training.metrics import MetricLogger, check_tensorboard
from froster.training.recipe import OptimizerSettings, TrainRecipe
from froster.training.schedule import learning_rate
from froster.training.step import Objective, accumulate_gradients
from froster.training.texts import CachedClassEmbeddings, ClassPrompts
from froster.training.workers import prepare_workers

# The shortest run in FROSTER's tables (16 clips of 51 classes of UCF-101, batch 64, 12 epochs) takes 144 steps.
FEW_STEPS = 50
STEP_STREAM = 3  # random number stream of a step's template and ratio; data loading uses streams 0 and 1


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
    clip: dict[str, Tensor]  # CLIP's weights, float32, of the trained parameters that it has
    average: WeightAverage = field(default_factory=WeightAverage)
    step: int = 0
    unreadable: dict[str, str] = field(default_factory=dict)  # found by all processes up to the last epoch
    partial: dict[str, str] = field(default_factory=dict)  # likewise, partly decoded
    new_unreadable: dict[str, str] = field(default_factory=dict)  # found by this process since then
    new_partial: dict[str, str] = field(default_factory=dict)

    @cached_property
    def replica(self) -> Objective | DistributedDataParallel:
        """The objective, wrapped in `DistributedDataParallel` if there are several processes."""
        if self.keys.processes == 1:
            return self.objective
        device = self.student.logit_scale.device
        ids = [device.index] if device.type == "cuda" else None
        # Gradients are views of the communication buckets: no second copy of them.
        return DistributedDataParallel(self.objective, device_ids=ids, gradient_as_bucket_view=True)

    @property
    def student(self) -> VideoStudent:
        return self.objective.student

    @property
    def steps_per_epoch(self) -> int:
        return self.keys.steps_per_epoch

    @property
    def common(self) -> list[nn.Parameter]:
        """The student's parameters that `clip` has the original weights of."""
        return [self.student.get_parameter(name) for name in self.clip]

    def freeze_clip(self) -> None:
        """Exclude CLIP's parameters from this step: the optimizer skips parameters without gradient."""
        of_clip = backbone_names(self.student.config)
        for name, parameter in self.student.named_parameters():
            if name in of_clip:
                parameter.grad = None

    def state(self) -> dict[str, Any]:
        distillation = self.objective.distillation
        return {
            "student": self.student.state_dict(),
            "distillation": distillation.state_dict() if distillation else {},
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "average": (self.average.count, self.average.mean),
            "step": self.step,
            "unreadable": self.unreadable,
            "partial": self.partial,
            "fingerprint": self.fingerprint,
        }

    def restore(self, state: dict[str, Any]) -> None:
        self.student.load_state_dict(state["student"])
        if self.objective.distillation:
            self.objective.distillation.load_state_dict(state["distillation"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        count, mean = state["average"]
        device = self.student.logit_scale.device
        self.average.count, self.average.mean = count, {key: value.to(device) for key, value in mean.items()}
        self.step, self.unreadable, self.partial = state["step"], state["unreadable"], state["partial"]
        self.keys.start_step = self.step


def train(recipe: TrainRecipe, resume: bool = False, show: bool = True) -> Path:
    """Fine-tune a student; returns the checkpoint of the final model, `out/model.safetensors`.

    With `resume` an interrupted run continues from its last complete epoch and ends, on the CPU, with bit-identical
    weights; if nothing was saved, it starts from the beginning; a finished run is left unchanged. Under `torchrun` or
    `accelerate launch` each process takes a part of every batch and of the class texts. `show`: progress bar on
    standard error.

    Raises `FrosterError`: something that the recipe names cannot be used, `out` holds another run or another process
    trains in it, the loss is not a number, or too many clips cannot be decoded.
    """
    processes = find_processes()
    folder = RunFolder(recipe.out)
    if folder.is_finished(recipe, resume):
        files = recipe.data.manifest, recipe.data.labels, *recipe.data.description_files, recipe.data.templates
        if all(file.exists() for file in files if file):  # what is gone cannot have become another
            folder.check_finished(read_data(recipe, warn=False).fingerprint)
        return folder.model
    with processes.main_process_first():
        draw_missing_puppets(recipe)
    data = read_data(recipe, warn=processes.is_main_process)
    missing = check_videos(data.videos, recipe.data)
    targets = class_indices(data.videos, list(data.labels), recipe.data.manifest)

    prepare_workers(recipe.data.workers)
    run = prepare(recipe, folder, data, processes)
    config = run.student.config
    clips = TrainingClips(data.videos, targets, recipe.data, config.image_size, recipe.seed, config.interpolation)
    with folder.lock() if processes.is_main_process else nullcontext():
        processes.wait_for_everyone()  # no process reads the folder before it is locked
        if folder.is_finished(recipe, resume):  # another process finished it while this one waited for the lock
            folder.check_finished(data.fingerprint)
        else:
            if saved := folder.load_state(recipe, run.fingerprint):
                run.restore(saved)
            run.unreadable |= missing
            if processes.is_main_process:
                known = run.student.trained_on or TrainedVideos()
                run.student.trained_on = known | TrainedVideos.of(data.videos, recipe.data.manifest)
            take_steps(run, clips, processes, show)
            if processes.is_main_process:
                save(run, final_model(run), folder.model)
                folder.finish()
            processes.wait_for_everyone()
    return folder.model


@dataclass(frozen=True)
class TrainingData:
    """What the recipe's files hold: the clips' rows, the classes, and templates where it names some of its own."""

    videos: list[LabeledVideo]
    labels: Labels
    templates: tuple[str, ...] | None

    @property
    def fingerprint(self) -> Fingerprint:
        # Start and end only where there are any: so it was before they counted.
        rows = [
            (str(video.path), video.label, *((video.start, video.end) if video.start or video.end else ()))
            for video in self.videos
        ]
        of_data = {
            "clips": (f"{len(rows)} rows", digest(rows)),
            "labels": (f"{len(self.labels)} classes", digest(self.labels)),
        }
        if self.templates:
            of_data["templates"] = (f"{len(self.templates)} of them", digest(self.templates))
        return of_data


def read_data(recipe: TrainRecipe, warn: bool) -> TrainingData:
    """Read the recipe's files; `warn` about labels without a description. Raises `FrosterError` for invalid files."""
    files = recipe.data
    videos = read_manifest(files.manifest, files.split)
    if warn and files.split is None and (splits := describe_splits(videos)):
        warnings.warn(
            f"{files.manifest} has several splits ({splits}) and data.split names none: all rows are trained on, also "
            "those to test with.",
            FrosterWarning,
            stacklevel=2,
        )
    named = check_labels(sorted({video.label for video in videos}), files.manifest)
    labels = read_labels(files.labels) if files.labels else named
    if files.description_files:
        labels = describe_from_files(labels, files.description_files, warn)
    return TrainingData(videos, labels, read_templates(files.templates) if files.templates else None)


def describe_from_files(labels: Labels, files: Sequence[Path], warn: bool) -> Labels:
    """The labels with the descriptions of all `files`. Raises `FrosterError` where two files disagree about a class."""
    if len(files) == 1:
        return describe_labels(labels, files[0], warn=warn)
    merged: dict[str, str] = {}
    for file in files:
        for name, description in read_descriptions(file).items():
            if merged.setdefault(name, description) != description:
                names = ", ".join(map(str, files))
                raise FrosterError(f"data.descriptions: {names} have different descriptions of {name!r}; keep one.")
    return describe_labels(labels, merged, ", ".join(map(str, files)), warn=warn)


def take_steps(run: Run, clips: TrainingClips, processes: PartialState, show: bool) -> None:
    """Train the remaining steps, log them and save checkpoints."""
    recipe, folder = run.recipe, run.folder
    batches = load_batches(clips, run.keys, pin_memory=processes.device.type == "cuda")
    processes.wait_for_everyone()  # all have read the folder before the main process writes to it
    if processes.is_main_process:
        folder.write_settings(recipe, run.fingerprint)
        folder.tidy(run.step, recipe.keep_checkpoints)
        folder.list_unusable(run.unreadable, run.partial)
    settings, steps = recipe.optimizer, run.keys.steps
    metric_logger = (
        MetricLogger(folder.path, steps, settings.epochs, run.step, recipe.tensorboard, show)
        if processes.is_main_process
        else None
    )
    with metric_logger or nullcontext():
        if metric_logger:
            metric_logger.bar.print(describe_steps(run.keys))
            warn_of_few_steps(run.keys)
        while run.step < steps:
            try:
                metrics = take_step(run, batches)
            except torch.OutOfMemoryError as error:
                raise FrosterError(
                    f"Out of GPU memory with optimizer.batch_size={settings.batch_size} in "
                    f"{settings.gradient_accumulation_steps} micro-batches: raise "
                    "optimizer.gradient_accumulation_steps, or set activation_checkpointing=true "
                    f"({folder.last_good()})."
                ) from error
            average_weights(run)
            if metric_logger:
                metric_logger.log(metrics)
            if run.step % run.steps_per_epoch == 0:
                end_epoch(run, processes)


def describe_steps(keys: BatchKeys) -> str:
    """One line with the number of steps and of clips dropped by incomplete batches."""
    repeated = f" ({keys.passes_per_epoch} passes over the clips)" if keys.passes_per_epoch > 1 else ""
    each = "pass" if repeated else "epoch"
    left_out = f"; each {each} drops {keys.left_out} random clips that do not fill a batch" if keys.left_out else ""
    return (
        f"{keys.clips} clips in batches of {min(keys.batch_size, keys.clips)}: {keys.steps_per_epoch} steps an epoch"
        f"{repeated}, {keys.steps} in all{left_out}"
    )


def warn_of_few_steps(keys: BatchKeys) -> None:
    if keys.steps < FEW_STEPS:
        warnings.warn(
            f"The whole run is {keys.steps} steps ({keys.clips} clips, optimizer.batch_size={keys.batch_size}, "
            f"optimizer.epochs={keys.epochs}), in which a model learns next to nothing: set optimizer.min_steps, to "
            "200 for example, or a smaller optimizer.batch_size; the recipe few-clips has both.",
            FrosterWarning,
            stacklevel=2,
        )


def draw_missing_puppets(recipe: TrainRecipe) -> None:
    """Draw the recipe's videos: first their settings, last their manifest, without which they count as unfinished.

    Raises `FrosterError` when the folder holds videos of other settings.
    """
    puppets, manifest = recipe.data.puppets, recipe.data.manifest
    if puppets is None:
        return
    settings, drawn = manifest.with_name("puppets.json"), puppets.model_dump(mode="json")
    if not manifest.exists():
        write_json(settings, drawn)
        write_videos(manifest.parent, **puppets.model_dump())
    elif read_json(settings) != drawn:
        free, number = recipe.out / "videos", 1
        while free.exists():
            number += 1
            free = recipe.out / f"videos-{number}"
        raise FrosterError(
            f"{manifest.parent} holds other videos than data.puppets asks for; "
            f"type {shlex.quote(f'data.manifest={free / manifest.name}')} to draw them there, "
            "or data.puppets=null to train on these."
        )


def prepare(recipe: TrainRecipe, folder: RunFolder, data: TrainingData, processes: PartialState) -> Run:
    """Build student, frozen teacher and optimizer on their device, as before the first step."""
    device, settings = processes.device, recipe.optimizer
    autocast = pick_autocast(recipe.precision, device)
    torch.manual_seed(recipe.seed)
    if recipe.tensorboard:
        check_tensorboard()
    student = load_model(recipe.model, recipe.student)
    clip = load_teacher(recipe, student) if recipe.distillation or stays_near_clip(recipe) else None
    trained = select_trainable(student, recipe)
    student.to(device).train()
    student.visual.checkpointing = student.text.checkpointing = recipe.activation_checkpointing
    originals = original_clip_weights(student, clip, device) if clip and stays_near_clip(recipe) else {}
    text_is_trained = any(name.startswith("text.") for name in trained)
    video_is_trained = any(not name.startswith(("text.", "logit_")) for name in trained)

    distillation = None
    if recipe.distillation:
        options = recipe.distillation.model_dump()
        options["text"] &= text_is_trained
        options["video"] &= video_is_trained
        if not options["video"] and not options["text"]:
            raise FrosterError(
                f"distillation: what it compares is frozen in {student.name}; train the encoder that it distills into "
                "(trained:), set distillation.video and distillation.text to true, or set distillation: null."
            )
        distillation = Distillation(student.config.embed_dim, **options).to(device)
    labels, templates = data.labels, templates_for(student, data.templates, warn=processes.is_main_process)
    student.labels, student.templates = dict(labels), templates
    student.prompt_style = recipe.data.prompt_style
    student.temporal_pooling = recipe.temporal_pooling or student.temporal_pooling
    student.clip_sampling = ClipSampling(frames=recipe.data.frames, sampling=recipe.data.sampling)
    prompts = ClassPrompts(labels, templates, student.prompt_style)
    # Open-VCLIP's frozen class embeddings: the mean over all templates.
    all_prompts = student.prompt_style == "templates" and not text_is_trained
    teacher, teacher_classes = None, None
    if clip and distillation:
        teacher = FrameClip(clip.requires_grad_(False).to(device, autocast or torch.float32))
        teacher_prompts = ClassPrompts(labels, templates or teacher.templates, student.prompt_style)
        teacher_classes = CachedClassEmbeddings(teacher, teacher_prompts, all_prompts)
    objective = Objective(
        student=student,
        prompts=prompts,
        precision=autocast,
        distillation=distillation,
        teacher=teacher,
        teacher_classes=teacher_classes,
        frozen_classes=None if text_is_trained else CachedClassEmbeddings(student, prompts, all_prompts),
    )
    parameters = trained | named_projectors(distillation)
    groups = parameter_groups(parameters, settings)
    fused = device.type in ("cpu", "cuda")  # one kernel for all parameters
    optimizer = torch.optim.AdamW(groups, lr=settings.learning_rate, betas=settings.betas, fused=fused)
    scaler = torch.amp.GradScaler(device.type, enabled=autocast == torch.float16)
    keys = BatchKeys(
        clips=len(data.videos),
        batch_size=settings.batch_size,
        gradient_accumulation_steps=settings.gradient_accumulation_steps,
        epochs=settings.epochs,
        seed=recipe.seed,
        rank=processes.process_index,
        processes=processes.num_processes,
        min_steps=settings.min_steps,
    )
    averaged_steps = keys.steps - (recipe.average_from or 0) * keys.steps_per_epoch
    if recipe.average_every and recipe.average_every > averaged_steps:
        raise FrosterError(
            f"average_every={recipe.average_every}: only {averaged_steps} steps of the run may be averaged; "
            f"give at most {averaged_steps}."
        )
    fingerprint = {"precision": (str(autocast or torch.float32).removeprefix("torch."), "")} | data.fingerprint
    return Run(recipe, folder, keys, objective, optimizer, scaler, list(parameters.values()), fingerprint, originals)


def named_projectors(distillation: Distillation | None) -> dict[str, nn.Parameter]:
    """The projectors' parameters, as `optimizer.factors` names them: `distillation.video.w1.weight`, …"""
    return {f"distillation.{name}": p for name, p in distillation.named_parameters()} if distillation else {}


def parameter_groups(parameters: Mapping[str, nn.Parameter], settings: OptimizerSettings) -> list[dict[str, Any]]:
    """AdamW's parameter groups, each with its learning rate `factor`; 1-D parameters have no weight decay.

    Raises `FrosterError` where a pattern of `optimizer.factors` matches no trained parameter.
    """
    groups: dict[tuple[float, float], list[nn.Parameter]] = {(1.0, settings.weight_decay): [], (1.0, 0.0): []}
    used = set()
    for name, parameter in parameters.items():
        pattern = next((pattern for pattern in settings.factors if re.search(pattern, name)), None)
        used.add(pattern)
        factor = 1.0 if pattern is None else settings.factors[pattern]
        decay = settings.weight_decay if parameter.ndim > 1 else 0.0
        groups.setdefault((factor, decay), []).append(parameter)
    if unused := [pattern for pattern in settings.factors if pattern not in used]:
        raise FrosterError(
            f"optimizer.factors: {unused[0]!r} matches no trained parameter that an earlier pattern leaves; "
            f"trained are {some(parameters)}."
        )
    return [{"params": chosen, "weight_decay": decay, "factor": factor} for (factor, decay), chosen in groups.items()]


def load_teacher(recipe: TrainRecipe, student: VideoStudent) -> Backbone:
    """The frozen CLIP. Raises `FrosterError` when the model is none and no teacher is named, or it does not fit."""
    try:
        clip = load_backbone(recipe.teacher or recipe.model)
    except WeightsError as error:
        raise error if recipe.teacher else WeightsError(f"{error} Name the CLIP with teacher=.") from error
    if clip.config.embed_dim != student.config.embed_dim:
        raise FrosterError(
            f"The teacher's features have {clip.config.embed_dim} dimensions, the student's "
            f"{student.config.embed_dim}: they cannot be compared; take another teacher."
        )
    return clip


def select_trainable(student: VideoStudent, recipe: TrainRecipe) -> dict[str, nn.Parameter]:
    """Set `requires_grad` for the parameters that the recipe trains, freeze the rest; returns the trained ones by name.

    If none of CLIP's own parameters is trained, checkpoints refer to CLIP by name instead of storing it. Raises
    `FrosterError` when nothing would be trained, or another key of the recipe has no effect with these parameters.
    """
    of_clip = backbone_names(student.config)
    named = dict(student.named_parameters())
    if recipe.trained == "default":
        chosen = student.trainable_parameters()
    elif recipe.trained == "all":
        chosen = named
    elif recipe.trained == "vision":
        chosen = {name: p for name, p in named.items() if not name.startswith(("text.", "logit_"))}
    elif recipe.trained == "text":
        chosen = {name: p for name, p in named.items() if name.startswith("text.")}
    else:
        for pattern in recipe.trained:
            if not any(re.search(pattern, name) for name in named):
                raise FrosterError(f"trained: {pattern!r} matches no parameter of {student.name} ({some(named)}).")
        chosen = {name: p for name, p in named.items() if any(re.search(pattern, name) for pattern in recipe.trained)}
    if not chosen:
        raise FrosterError(why_nothing_is_trained(student))
    untrained = sorted(named.keys() - of_clip - chosen.keys())
    # `random_start` is None where another run has trained the new modules.
    if recipe.trained != "default" and student.random_start and untrained:
        raise FrosterError(
            f"trained: {recipe.trained} would leave modules of {student.name} at their random initialization "
            f"({some(untrained)}); train them too."
        )
    if recipe.freeze_clip_epochs and chosen.keys() <= of_clip:
        raise FrosterError(f"freeze_clip_epochs: {student.name} has no new modules to train while CLIP is frozen.")
    if stays_near_clip(recipe) and not chosen.keys() & of_clip:
        raise FrosterError(
            f"{student.name} does not train CLIP's parameters: "
            "interpolation, weight_distance and patch_ratio have no effect; remove them."
        )
    student.requires_grad_(False)
    for parameter in chosen.values():
        parameter.requires_grad_(True)
    if chosen.keys() & of_clip:
        student.backbone_source = None
    elif student.backbone_name:
        student.backbone_source = BackboneSource(
            student.backbone_name, backbone_digest(student.state_dict(), student.config)
        )
    return chosen


def why_nothing_is_trained(student: VideoStudent) -> str:
    added = [name for name, _ in student.named_parameters() if name not in backbone_names(student.config)]
    if not added:
        return f"{student.name} has nothing to train: with these options it is the frozen CLIP; take trained: all."
    return (
        f"{student.name} has nothing to train: its pattern trainable_params = "
        f"{student.trainable_params!r} matches none of its parameters (it adds {some(added)}); correct the pattern."
    )


def stays_near_clip(recipe: TrainRecipe) -> bool:
    return bool(recipe.interpolation or recipe.weight_distance or recipe.patch_ratio)


def original_clip_weights(student: VideoStudent, clip: Backbone, device: torch.device) -> dict[str, Tensor]:
    """CLIP's weights for the student's trained parameters that CLIP has. Raises `FrosterError` for other shapes."""
    originals = clip.state_dict()
    trained = {name: p for name, p in student.named_parameters() if p.requires_grad and name in originals}
    for name, parameter in trained.items():
        if parameter.shape != originals[name].shape:
            raise FrosterError(f"Student and CLIP cannot be interpolated: their {name} have different shapes.")
    return {name: originals[name].to(device, copy=True) for name in trained}


def pick_autocast(precision: str, device: torch.device) -> torch.dtype | None:
    """The autocast dtype, or None for float32. Raises `FrosterError` for float16 without a GPU."""
    if precision == "float16" and device.type != "cuda":
        raise FrosterError(f"precision: float16 needs a CUDA GPU, not {device.type}; take bfloat16 or float32.")
    if precision == "auto":
        if has_bfloat16(device):
            return torch.bfloat16
        return torch.float16 if device.type == "cuda" else None
    return {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}[precision]


def take_step(run: Run, batches: Iterator[Batch]) -> dict[str, float]:
    """Run one optimizer step and return its metrics."""
    recipe, optimizer = run.recipe, run.optimizer
    loaded = list(islice(batches, recipe.optimizer.gradient_accumulation_steps))
    clips = count_clips(run, loaded)
    rate = learning_rate(run.step, run.steps_per_epoch, recipe.optimizer)
    template, ratio = draw_template_and_ratio(run)
    run.step += 1
    metrics = {"step": run.step, "epoch": run.step / run.steps_per_epoch, "clips": clips, "learning_rate": rate}
    if not clips:
        return metrics

    for group in optimizer.param_groups:
        group["lr"] = rate * group["factor"]
    optimizer.zero_grad()
    device = run.student.logit_scale.device
    micro_batches = [ClipBatch(batch.frames, batch.targets).to(device) for batch in loaded]
    terms: dict[str, Tensor] = {}
    if recipe.weight_distance:
        distance = recipe.weight_distance * weight_distance(run.common, list(run.clip.values()))
        run.scaler.scale(distance).backward()
        terms["weight_distance"] = distance.detach()
    # Gradients are averaged over processes once, in the last backward pass of the step.
    interpolation = recipe.interpolation
    terms |= accumulate_gradients(
        run.replica, micro_batches, template, clips, run.scaler, synchronize=not interpolation
    )
    if interpolation:
        with interpolated_weights(run.common, list(run.clip.values()), interpolation.max_ratio * ratio):
            at_interpolated = accumulate_gradients(
                run.replica, micro_batches, template, clips, run.scaler, interpolation.weight
            )
        terms["interpolated"] = at_interpolated["loss"]
        terms["loss"] = terms["loss"] + interpolation.weight * at_interpolated["loss"]
    if recipe.weight_distance:
        terms["loss"] = terms["loss"] + terms["weight_distance"]
    if run.step <= recipe.freeze_clip_epochs * run.steps_per_epoch:
        run.freeze_clip()
    run.scaler.unscale_(optimizer)
    terms["gradient_norm"] = nn.utils.clip_grad_norm_(run.parameters, recipe.optimizer.max_grad_norm)
    values = reduce(torch.stack([term.detach() for term in terms.values()]), "mean").tolist()
    metrics |= dict(zip(terms, values, strict=True))
    check_finite(run, metrics)
    run.scaler.step(optimizer)
    run.scaler.update()
    return metrics


def draw_template_and_ratio(run: Run) -> tuple[int, float]:
    """The prompt template of a step, at random, and a number from U(0, 1) for the interpolation ratio."""
    rng = np.random.default_rng((run.recipe.seed, STEP_STREAM, run.step))
    # Also for a student without templates: its teacher uses the default ones.
    templates = run.objective.prompts.templates or len(TEMPLATES)
    return int(rng.integers(templates)), float(rng.random())


def check_finite(run: Run, metrics: dict[str, float]) -> None:
    """Raise `FrosterError` if loss or gradient is not finite, except for overflows that the float16 scaler handles."""
    # With float16 a gradient may occasionally overflow: the scaler skips such a step and lowers its scale.
    overflow_is_usual = run.scaler.is_enabled() and run.scaler.get_scale() >= 1
    for name in ("loss",) if overflow_is_usual else ("loss", "gradient_norm"):
        if not math.isfinite(metrics[name]):
            raise FrosterError(
                f"The {name.replace('_', ' ')} is {metrics[name]} at step {run.step} (epoch {metrics['epoch']:.2f}, "
                f"learning rate {metrics['learning_rate']:.3g}); {run.folder.last_good()}. "
                "A lower optimizer.learning_rate may help."
            )


def count_clips(run: Run, batch: list[Batch]) -> int:
    """Clips in the step's batch over all processes. Raises `FrosterError` when too many could not be decoded."""
    for micro in batch:
        run.new_unreadable |= {path: why for path, why in micro.unreadable.items() if path not in run.unreadable}
        run.new_partial |= micro.partial
    counts = [sum(len(micro.targets) for micro in batch), len(run.new_unreadable)]
    clips, new = reduce(torch.tensor(counts, device=run.student.logit_scale.device), "sum").tolist()
    unreadable, allowed = len(run.unreadable) + new, run.recipe.data.max_unreadable
    if unreadable > allowed * run.keys.clips:
        gather_unusable(run)
        raise FrosterError(
            f"At least {unreadable} of {run.keys.clips} training clips cannot be decoded, more than "
            f"data.max_unreadable ({100 * allowed:g} %) allows; see {run.folder.unreadable}. "
            f"The first: {next(iter(run.unreadable.values()))}"
        )
    return clips


def gather_unusable(run: Run) -> None:
    """Gather the unreadable and partly decoded clips of all processes and list them in the run's folder."""
    for unreadable, partial in gather_object([(run.new_unreadable, run.new_partial)]):
        run.unreadable |= unreadable
        run.partial |= partial
    run.new_unreadable, run.new_partial = {}, {}
    if find_processes().is_main_process:
        run.folder.list_unusable(run.unreadable, run.partial)


def end_epoch(run: Run, processes: PartialState) -> None:
    """Save the epoch's checkpoint, then the training state that relies on it."""
    epoch, recipe, folder = run.step // run.steps_per_epoch, run.recipe, run.folder
    gather_unusable(run)
    if processes.is_main_process:
        save(run, run.student, folder.epoch(epoch))
        folder.save_state(recipe, run.state())
        folder.keep_last(recipe.keep_checkpoints)


def average_weights(run: Run) -> None:
    """Stochastic weight averaging (Open-VCLIP Algorithm 1), every `average_every` steps or once per epoch."""
    recipe = run.recipe
    if recipe.average_from is None:
        return
    since = run.step - recipe.average_from * run.steps_per_epoch
    if since > 0 and since % (recipe.average_every or run.steps_per_epoch) == 0:
        run.average.update(run.student.state_dict())


def save(run: Run, student: VideoStudent, path: Path) -> None:
    """Save a student with its recipe in the metadata."""
    save_checkpoint(student, path, recipe=run.recipe.model_dump_json())


def final_model(run: Run) -> VideoStudent:
    """The model to export: averaged and patched as the recipe says, or the last weights."""
    student = copy.deepcopy(run.student)
    weights = run.average.mean or run.student.state_dict()
    student.load_state_dict(patch_states(run.clip, weights, run.recipe.patch_ratio))
    return student
