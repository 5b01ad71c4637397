"""`train`: fine-tunes a student from a recipe; a run can be interrupted at any time and resumed."""

import copy
import shutil
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from time import monotonic

import torch
from accelerate import PartialState
from accelerate.utils import reduce

from froster.checkpoints.own import save_checkpoint
from froster.data.manifests import class_indices
from froster.data.trained import TrainedVideos
from froster.errors import FrosterError, FrosterWarning
from froster.files import replace_when_written
from froster.interpolation import patch_states
from froster.processes import failing_together, find_processes
from froster.students import VideoStudent
from froster.training.alignment import align_projectors
from froster.training.checkpoint import RunFolder
from froster.training.clips import BatchKeys, TrainingClips, check_videos, load_batches
from froster.training.data import draw_missing_puppets, read_data
from froster.training.metrics import MetricLogger
from froster.training.recipe import TrainRecipe
from froster.training.run import Run, prepare
from froster.training.step import take_step
from froster.training.workers import prepare_workers

# The shortest run in FROSTER's tables (16 clips of 51 classes of UCF-101, batch 64, 12 epochs) takes 144 steps.
FEW_STEPS = 50


def train(recipe: TrainRecipe, resume: bool = False, show: bool = True) -> Path:
    """Fine-tune a student; returns the checkpoint of the final model, `out/model.safetensors`.

    With `resume` an interrupted run continues from its last saved state and ends, on the CPU, with bit-identical
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
    with failing_together():
        if processes.is_main_process:
            draw_missing_puppets(recipe)
    data = read_data(recipe, warn=processes.is_main_process)
    missing = check_videos(data.videos, recipe.data)
    targets = class_indices(data.videos, list(data.labels), recipe.data.manifest)

    prepare_workers(recipe.data.workers)
    run = prepare(recipe, folder, data, targets, processes)
    config = run.student.config
    clips = TrainingClips(data.videos, targets, recipe.data, config.image_size, recipe.seed, config.interpolation)
    with folder.lock() if processes.is_main_process else nullcontext():
        processes.wait_for_everyone()  # no process reads the folder before it is locked
        if folder.is_finished(recipe, resume):  # another process finished it while this one waited for the lock
            folder.check_finished(data.fingerprint)
        else:
            if saved := folder.load_state(recipe, run.fingerprint):
                run.restore(saved)
            run.unusable.unreadable |= missing
            if processes.is_main_process:
                known = run.student.trained_on or TrainedVideos()
                run.student.trained_on = known | TrainedVideos.of(data.videos, recipe.data.manifest)
            take_steps(run, clips, processes, show)
            if processes.is_main_process:
                save_final_model(run)
                folder.finish()
            processes.wait_for_everyone()
    return folder.model


def take_steps(run: Run, clips: TrainingClips, processes: PartialState, show: bool) -> None:
    """Train the remaining steps, log them and save checkpoints."""
    recipe, folder = run.recipe, run.folder
    processes.wait_for_everyone()  # all have read the folder before the main process writes to it
    if processes.is_main_process:
        folder.write_settings(recipe, run.fingerprint)
        folder.tidy(run.step, recipe.keep_checkpoints)
        folder.list_unusable(run.unusable.unreadable, run.unusable.partial)
    steps = run.keys.steps
    metric_logger = (
        MetricLogger(folder.path, steps, recipe.optimizer.epochs, run.step, recipe.tensorboard, show)
        if processes.is_main_process
        else None
    )
    with metric_logger or nullcontext():
        if metric_logger:
            metric_logger.bar.print(describe_steps(run.keys))
            warn_of_few_steps(run.keys)
        with out_of_memory_explained(run):
            cosines = align_projectors(run, clips)
        if metric_logger and cosines:
            metric_logger.bar.print(describe_alignment(cosines))
        batches = load_batches(clips, run.keys, pin_memory=processes.device.type == "cuda")
        validate(run, metric_logger)
        while run.step < steps and not (run.validation and run.validation.should_stop):
            with out_of_memory_explained(run):
                metrics = take_step(run, batches)
            average_weights(run)
            if metric_logger:
                metric_logger.log(metrics)
            is_best = validate(run, metric_logger)
            if run.step % run.steps_per_epoch == 0:
                end_epoch(run, processes)
            elif is_best or save_is_due(run):  # the state and the best model belong together
                save_state(run, processes)


def validate(run: Run, metric_logger: MetricLogger | None) -> bool:
    """Measure the model on the held-out videos if this step is due; the best one so far is saved.

    Returns whether it was, in all processes.
    """
    validation = run.validation
    if not validation or not validation.is_due(run.step, run.steps_per_epoch, run.keys.steps):
        return False
    model = final_model(run)
    record = validation.measure(model, run.step, run.step / run.steps_per_epoch)
    if metric_logger:  # on the main process
        if validation.is_best:
            save(run, model, run.folder.best)
        validation.write(run.folder.validation)
        metric_logger.log_validation(record, validation.describe(record))
    return validation.is_best


@contextmanager
def out_of_memory_explained(run: Run) -> Iterator[None]:
    """Raises `FrosterError` that says what to do where the GPU has too little memory."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        settings = run.recipe.optimizer
        raise FrosterError(
            f"Out of GPU memory with optimizer.batch_size={settings.batch_size} in "
            f"{settings.gradient_accumulation_steps} micro-batches: raise "
            "optimizer.gradient_accumulation_steps, or set activation_checkpointing=true "
            f"({run.folder.last_good()})."
        ) from error


def end_epoch(run: Run, processes: PartialState) -> None:
    """Save the epoch's checkpoint, then the training state that relies on it."""
    if processes.is_main_process:
        save(run, run.student, run.folder.epoch(run.step // run.steps_per_epoch))
    save_state(run, processes)
    if processes.is_main_process:
        run.folder.keep_last(run.recipe.keep_checkpoints)


def save_is_due(run: Run) -> bool:
    """Whether `save_every_minutes` have passed on the main process since the state was saved."""
    due = torch.tensor(run.keys.rank == 0 and monotonic() - run.saved_at >= 60 * run.recipe.save_every_minutes)
    return bool(due) if run.keys.world_size == 1 else bool(reduce(due.to(run.device, torch.int64), "sum"))


def save_state(run: Run, processes: PartialState) -> None:
    """Save what the run resumes from."""
    run.unusable.write(run.folder)
    if processes.is_main_process:
        run.folder.save_state(run.recipe, run.state())
    run.saved_at = monotonic()


def average_weights(run: Run) -> None:
    """Stochastic weight averaging (Open-VCLIP Algorithm 1), every `average_every` steps or once per epoch."""
    recipe = run.recipe
    if recipe.average_from is None:
        return
    since = run.step - recipe.average_from * run.steps_per_epoch
    if since > 0 and since % (recipe.average_every or run.steps_per_epoch) == 0:
        run.average.update(run.student.merged().state_dict())


def save(run: Run, student: VideoStudent, path: Path) -> None:
    """Save a student with its recipe in the metadata."""
    save_checkpoint(student, path, recipe=run.recipe.model_dump_json())


def save_final_model(run: Run) -> None:
    """Save `out/model.safetensors`: the model of the best validation where there is one, else the last."""
    validation = run.validation
    if not validation or validation.settings.select == "last":
        save(run, final_model(run), run.folder.model)
        return
    if validation.best["step"] == 0:
        warnings.warn(
            f"No validation was better than that before the first step ({validation.percent(validation.best)}): the "
            "final model is the untrained one. More clips, a lower optimizer.learning_rate or fewer epochs may help.",
            FrosterWarning,
            stacklevel=2,
        )
    with replace_when_written(run.folder.model) as temporary:
        shutil.copyfile(run.folder.best, temporary)


def final_model(run: Run) -> VideoStudent:
    """The model to export: averaged and patched as the recipe says, or the last weights."""
    student = copy.deepcopy(run.student)
    student.random_start = None  # it is being trained: no warning that it is not
    student = student.merged() if run.recipe.merge else student
    weights = run.average.mean or student.state_dict()
    student.load_state_dict(patch_states(run.clip_weights, weights, run.recipe.patch_ratio))
    return student


def describe_steps(keys: BatchKeys) -> str:
    """One line with the number of steps and of clips dropped by incomplete batches."""
    repeated = f" ({keys.passes_per_epoch} passes over the clips)" if keys.passes_per_epoch > 1 else ""
    each = "pass" if repeated else "epoch"
    left_out = f"; each {each} drops {keys.left_out} random clips that do not fill a batch" if keys.left_out else ""
    steps = f"{keys.steps_per_epoch} step{'s' * (keys.steps_per_epoch > 1)} an epoch{repeated}"
    return (
        f"{keys.clips} clips in batches of {min(keys.batch_size, keys.clips)}: {steps}, {keys.steps} in all{left_out}"
    )


def describe_alignment(cosines: Mapping[str, float]) -> str:
    """One line on how well linear maps predict the teacher's embeddings, where they are of another space."""
    what = {"video": "frames", "text": "class texts"}
    fits = ", ".join(f"of {what[side]} {cosine:.2f}" for side, cosine in cosines.items())
    return f"The teacher has other embeddings than the student; cosine with the best linear map {fits}"


def warn_of_few_steps(keys: BatchKeys) -> None:
    if keys.steps < FEW_STEPS:
        recipe = "" if keys.min_steps else "; the recipe few-clips sets both"
        warnings.warn(
            f"The whole run is {keys.steps} step{'s' * (keys.steps > 1)} ({keys.clips} clips, "
            f"optimizer.batch_size={keys.batch_size}, optimizer.epochs={keys.epochs}), in which a model learns next to "
            f"nothing: set optimizer.min_steps, to 200 for example, or a smaller optimizer.batch_size{recipe}.",
            FrosterWarning,
            stacklevel=2,
        )
