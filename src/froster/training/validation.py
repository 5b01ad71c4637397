"""Accuracy on held-out videos while training: when it is measured, what is best, and when to stop."""

import json
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F

from froster.data.manifests import LabeledVideo
from froster.evaluation import evaluate_parts, find_classes, harmonic_mean, score_share
from froster.files import replace_when_written
from froster.inference import Runtime
from froster.processes import gather_parts
from froster.settings import InferenceSettings
from froster.students import VideoStudent
from froster.text.classes import ClassTexts
from froster.text.classifier import encode_classes
from froster.training.data import TrainingData
from froster.training.metrics import NOT_ACCURACIES, best_validation, compared_accuracy
from froster.training.recipe import TrainRecipe, ValidationSettings

# Step, epoch, number of videos, their mean cross entropy, and accuracies, shares of 1.
Record = dict[str, float | int | None]


def choose_vocabularies(
    videos: Sequence[LabeledVideo], trained: ClassTexts, novel: ClassTexts
) -> dict[str, ClassTexts]:
    """The classes that the videos are compared with: `all`, or `base` and `novel` where some are not trained."""
    if not novel:
        return {"all": trained}
    only_novel = all(video.label in novel for video in videos)
    return {"novel": novel} if only_novel else {"base": trained, "novel": novel}


class Validation:
    """When to validate, what was measured so far (`history`), and which step was the best."""

    def __init__(
        self,
        settings: ValidationSettings,
        videos: Sequence[LabeledVideo],
        vocabularies: dict[str, ClassTexts],
        source: Path,
        inference: InferenceSettings,
    ) -> None:
        self.settings, self.videos, self.vocabularies = settings, videos, vocabularies
        self.source, self.inference = source, inference
        self.truths = find_classes(videos, vocabularies, source)
        self.history: list[Record] = []

    @classmethod
    def of(
        cls, recipe: TrainRecipe, data: TrainingData, device: torch.device, precision: torch.dtype | None
    ) -> "Validation | None":
        """The recipe's validation; None without one. `precision`: autocast dtype of the training."""
        settings = recipe.validation
        if settings is None:
            return None
        inference = InferenceSettings(
            views=settings.views,
            device=device,
            precision="bfloat16" if precision == torch.bfloat16 else "float32",
            workers=max(1, recipe.data.workers),
        )
        vocabularies = choose_vocabularies(data.held_out, data.labels, data.novel)
        return cls(settings, data.held_out, vocabularies, settings.manifest or recipe.data.manifest, inference)

    def is_due(self, step: int, steps_per_epoch: int, steps: int) -> bool:
        """Whether to validate after this step; 0 is before the first one."""
        interval = self.settings.every_steps or self.settings.every_epochs * steps_per_epoch
        measured = bool(self.history) and self.history[-1]["step"] == step
        return not measured and (step % interval == 0 or step == steps)

    def measure(self, model: VideoStudent, step: int, epoch: float) -> Record:
        """Accuracies of a model, which becomes part of the history; under a launcher each process tests a share."""
        runtime = Runtime(model, self.inference)
        classes = [
            encode_classes(runtime.model, labels, runtime.templates).to(runtime.device)
            for labels in self.vocabularies.values()
        ]
        scored = score_share(runtime, self.videos, classes, None)
        scores, parts = evaluate_parts(scored, self.vocabularies, self.truths, self.source)
        temperature = runtime.score_head.temperature
        losses = [F.cross_entropy(temperature * of.scores, of.targets, reduction="sum") for of in scores.values()]
        videos = len(scored.indices)
        record: Record = {
            "step": step,
            "epoch": epoch,
            "videos": videos,
            "cross_entropy": torch.stack(losses).sum().item() / videos,
        }
        for name, part in parts.items():
            prefix = "" if name == "all" else f"{name}_"
            record |= {
                f"{prefix}top1": part.top1,
                f"{prefix}top5": part.top5,
                f"{prefix}mean_class_accuracy": part.mean_class_accuracy,
            }
        if {"base", "novel"} <= parts.keys():
            record["harmonic_mean"] = harmonic_mean(parts["base"].top1, parts["novel"].top1)
        record = gather_parts(record)[0]  # processors of other kinds may round differently
        self.history.append(record)
        return record

    def percent(self, record: Record) -> str:
        return f"{100 * compared_accuracy(record):.1f} %"

    @property
    def best(self) -> Record:
        """The best validation so far."""
        return best_validation(self.history)

    @property
    def is_best(self) -> bool:
        """Whether the last validation is the best."""
        return self.best is self.history[-1]

    @property
    def should_stop(self) -> bool:
        """Whether `patience` validations in a row gave no new best."""
        patience = self.settings.patience
        return patience is not None and len(self.history) - 1 - self.history.index(self.best) >= patience

    def write(self, path: Path) -> None:
        """Write the history, a line for each validation."""
        with replace_when_written(path) as temporary:
            temporary.write_text("".join(json.dumps(record) + "\n" for record in self.history), encoding="utf-8")

    def describe(self, record: Record) -> str:
        """A validation in one line."""
        shown = [f"cross entropy {record['cross_entropy']:.3f}"]
        for key, value in record.items():
            if key not in NOT_ACCURACIES and value is not None:
                words = key.replace("harmonic_mean", "HM").replace("top", "top-").replace("_", " ")
                shown.append(f"{words} {100 * value:.1f} %")
        line = f"validation at step {record['step']}: {', '.join(shown)}"
        best = self.best
        return line if best is record else f"{line} (best {self.percent(best)} at step {best['step']})"
