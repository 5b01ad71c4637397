"""Recipes: one YAML file defines a whole experiment and is validated before anything is loaded."""

import dataclasses
import difflib
import re
import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    field_validator,
    model_validator,
)

from froster.errors import FrosterError
from froster.losses.froster import Distance, Projection
from froster.scoring import TemporalPooling
from froster.shipped import existing_recipe
from froster.text.prompts import PromptStyle
from froster.video.augment import MAX_MAGNITUDE

Share = Annotated[float, Field(ge=0, le=1)]
Trained = Literal["default", "all", "vision", "text"]
TRAINED = get_args(Trained)
Beta = Annotated[float, Field(ge=0, lt=1)]


# Keys whose value is taken literally, not as YAML.
PLAIN_TEXT = ("out", "manifest", "split", "labels", "descriptions", "templates", "model", "teacher", "student")


class Section(BaseModel):
    """Base of a recipe and its sections: unknown keys are errors, instances are immutable.

    The docstring of each key is also its text in `docs/recipes.md`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class Recipe(Section):
    """A section that is read from its own YAML file."""

    @classmethod
    def read(cls, path: str | Path, overrides: Sequence[str] = ()) -> Self:
        """Read a YAML recipe; `overrides` are `"key=value"`, with dots for nested keys (`model.patch_size=8`).

        `extends: OTHER.yaml` starts from another recipe: a path relative to this file, or the name of a recipe that
        ships with froster.
        Raises `FrosterError` that names the file and the key, and for an unknown key the closest known one.
        """
        content = read_yaml(Path(path))
        for override in overrides:
            set_key(content, override)
        return cls.of_content(content, f"The recipe {path}")

    @classmethod
    def of_content(cls, content: Mapping[str, Any], source: str) -> Self:
        """The recipe with these keys and values. Raises `FrosterError` that begins with `source` and names the key."""
        try:
            return cls(**content)
        except ValidationError as error:
            raise FrosterError(f"{source}: {'; '.join(explain(cls, e) for e in error.errors())}.") from error


class PuppetSettings(Section):
    """Synthetic puppet videos to generate if `data.manifest` does not exist yet."""

    actions: list[str] = Field(min_length=1)
    """Which of the 45 puppet actions to generate (`froster puppets` generates all of them)."""
    videos: PositiveInt
    """Videos per action."""
    seed: NonNegativeInt
    """Seed of the first video of each action; the following videos use seed + 1, seed + 2, …"""
    gap: str = "default"
    """Domain gap to the photos that the small CLIP was pretrained on: `easy`, `default` or `hard`."""
    frames: PositiveInt = 16
    """Frames per video."""
    size: PositiveInt = 72
    """Width and height in pixels, even."""


class DataSettings(Section):
    """Training clips and augmentation."""

    manifest: Path
    """CSV file with the columns `path` and `label`; relative paths are relative to its folder."""
    split: str | None = None
    """Train only on rows whose column `split` contains this word, such as `train`."""
    labels: Path | None = None
    """File with the class names and optional descriptions; default: the labels in the manifest."""
    descriptions: Path | list[Path] | None = None
    """JSON file with class descriptions, or several, as `read_descriptions` reads them."""
    templates: Path | None = None
    """File with prompt templates, one per line with `{}` for the class name; default: those of the student."""
    prompt_style: PromptStyle = "froster"
    """Prompts of a class: `froster`: a random template followed by `name: description`, and `name: description` alone;
    `templates` (Open-VCLIP): a random template, or the mean over all of them if the text encoder is frozen."""
    puppets: PuppetSettings | None = None
    """Synthetic puppet videos to generate if the manifest does not exist yet."""
    frames: PositiveInt = 8
    """Frames per clip (T)."""
    sampling: Literal["uniform", "release"] = "uniform"
    """`uniform`: one random frame from each of T equal segments of the video; `release`: a random window with one frame
    every 16 at 30 frames per second, as in the authors' code."""
    preprocess: Literal["clip", "release"] = "clip"
    """Resizing of training frames: `clip`: antialiased, with the backbone's interpolation (OpenAI's CLIP: bicubic);
    `release`: bilinear without antialiasing, as the authors' code."""
    resize_short_side: tuple[PositiveInt, PositiveInt] = (224, 256)
    """Range, in pixels, of the random resize of the short side before the random crop."""
    flip: bool = True
    """Random horizontal flip (p=0.5). Disable for direction-dependent labels, such as "throwing left"."""
    color_jitter: Share = 0
    """Strength s of color jitter: brightness, contrast and saturation are scaled by factors from U(1 - s, 1 + s)."""
    rand_augment: tuple[PositiveInt, Annotated[int, Field(ge=0, le=MAX_MAGNITUDE)]] | None = None
    """RandAugment: number of random operations and their magnitude, 0 to 30, such as `[2, 9]`; `null`: none."""
    random_erasing: Share = 0
    """Probability that a random box, the same in all frames, is replaced by noise."""
    class_balance: Literal["none", "sampling", "loss"] = "none"
    """For classes of different sizes: `sampling`: each pass takes equally many clips of each class, repeating those of
    small ones with other random frames and crops; `loss`: cross entropy weighted by 1 / clips of the class, with mean
    1 over the clips."""
    workers: NonNegativeInt = 2
    """Data loader workers per training process."""
    in_memory: bool = False
    """Cache all decoded videos in each worker: only for small datasets."""
    max_unreadable: Share = 0.05
    """Maximum fraction of clips that may be missing or undecodable; they are skipped, above it training stops."""

    @property
    def description_files(self) -> list[Path]:
        """`descriptions` as a list."""
        if self.descriptions is None:
            return []
        return self.descriptions if isinstance(self.descriptions, list) else [self.descriptions]

    @model_validator(mode="after")
    def check_resize_short_side(self) -> Self:
        if self.resize_short_side[0] > self.resize_short_side[1]:
            raise ValueError(f"resize_short_side must be [smallest, largest], not {list(self.resize_short_side)}")
        return self

    @model_validator(mode="after")
    def check_augmentation(self) -> Self:
        if self.preprocess == "release" and (self.rand_augment or self.random_erasing):
            raise ValueError("rand_augment and random_erasing take whole gray levels: set preprocess: clip")
        return self


class DistillationSettings(Section):
    """Feature distillation from the frozen CLIP: FROSTER Eq. 6 to 8, with the variants of Fig. 3 and Tables 4 to 7."""

    projector: Projection = "residual"
    """Projector on the student's embeddings (Fig. 3): `residual` (Eq. 6), `plain` (two-layer MLP) or `none`."""
    video: bool = True
    """Distill frame embeddings."""
    text: bool = True
    """Distill class embeddings; has no effect where neither the text encoder nor learned prompts are trained."""
    distance: Distance = "cosine"
    """`cosine`: 1 - cosine, mean over frames and classes (released code); `l2_sum`: L2 distance, sum over clips (T x D)
    and classes (Eq. 7); `l2_mean`: its mean (Eq. 3)."""
    alpha: PositiveFloat = 0.1
    """Scale of the residual branch of the projector (Eq. 6)."""
    beta: NonNegativeFloat = 2.0
    """Weight of the distillation loss (Eq. 8)."""
    zero_init: bool = True
    """Initialize W2 of the residual projector to zero, so that training starts with the identity."""

    @model_validator(mode="after")
    def check_choice(self) -> Self:
        if not self.video and not self.text:
            raise ValueError("video and text are both false; to train without distillation set distillation: null")
        return self


class InterpolationSettings(Section):
    """Open-VCLIP's interpolated weight regularization (Eq. 7 to 9)."""

    max_ratio: Share = 0.6
    """Upper bound of the interpolation weight of CLIP, which each step draws from U(0, max_ratio)."""
    weight: PositiveFloat = 0.5
    """Weight of the loss at the interpolated weights (C)."""


class OptimizerSettings(Section):
    """AdamW with linear warm-up and cosine decay, updated every step."""

    epochs: PositiveInt
    """Number of epochs: passes over the clips, or more per epoch where `min_steps` needs them."""
    min_steps: NonNegativeInt = 0
    """Minimum optimizer steps of the run; on small datasets each epoch then repeats the clips."""
    warmup_epochs: NonNegativeFloat = 0
    """Length of the linear warm-up in epochs."""
    learning_rate: PositiveFloat
    """Peak learning rate, at the end of the warm-up."""
    factors: dict[str, PositiveFloat] = {}
    """Learning rate multipliers by regular expression, searched in the parameter names; the first match counts. `null`
    takes away all of an extended recipe, or the one of a pattern."""
    warmup_start: NonNegativeFloat = 0
    """Learning rate of the first step of the warm-up."""
    final_learning_rate: NonNegativeFloat = 0
    """Learning rate at the end of the cosine decay."""
    batch_size: PositiveInt
    """Clips per optimizer step, over all processes. The last incomplete batch of an epoch is dropped."""
    gradient_accumulation_steps: PositiveInt = 1
    """Micro-batches per optimizer step: less memory, the same gradient."""
    weight_decay: NonNegativeFloat = 0.01
    """Weight decay; 1-D parameters (biases, norms, temperature) have none."""
    betas: tuple[Beta, Beta] = (0.9, 0.999)
    """AdamW's betas."""
    max_grad_norm: PositiveFloat = 1.0
    """Gradients are clipped to this norm."""

    @field_validator("factors", mode="before")
    @classmethod
    def drop_null_factors(cls, value: Any) -> Any:
        """Leave out what a recipe takes away from the one that it extends."""
        if isinstance(value, dict):
            return {pattern: factor for pattern, factor in value.items() if factor is not None}
        return {} if value is None else value

    @model_validator(mode="after")
    def check_batch(self) -> Self:
        if self.batch_size % self.gradient_accumulation_steps:
            raise ValueError(
                f"batch_size ({self.batch_size}) is not a multiple of "
                f"gradient_accumulation_steps ({self.gradient_accumulation_steps})"
            )
        return self


class ValidationSettings(Section):
    """Accuracy on held-out videos while training: a `share` of the training files, or other rows (`split`, `manifest`).

    Videos of classes that are not trained on are novel: they are compared with the novel classes alone.
    """

    split: str | None = None
    """Validate on the rows whose column `split` contains this word, such as `val`."""
    share: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Share of each class's training files to hold out, at random, but at least one; they are not trained on."""
    manifest: Path | None = None
    """Another manifest than `data.manifest`."""
    every_epochs: PositiveInt = 1
    """Validate after every this many epochs, before the first step and after the last."""
    every_steps: PositiveInt | None = None
    """Validate after every this many steps instead."""
    views: PositiveInt = 1
    """Clips per video (V); their scores are averaged."""
    patience: PositiveInt | None = None
    """Early stopping: stop after this many validations without a new best; `null`: train to the end."""
    select: Literal["best", "last"] = "best"
    """The final model: `best`: that of the best validation (harmonic mean of base and novel classes, or top-1; of equal
    ones that of the lowest cross entropy); `last`: that of the last step. Both are averaged and patched as the recipe
    says."""

    @model_validator(mode="after")
    def check_source(self) -> Self:
        if (self.share is None) == (self.split is None and self.manifest is None):
            raise ValueError("give either share, or split or manifest (or both)")
        return self


class TrainRecipe(Recipe):
    """All settings of a training run."""

    out: Path
    """Output folder: checkpoints, log and the trained model."""
    seed: NonNegativeInt = 0
    """Random seed; two runs with the same seed give the same model."""
    model: str
    """Initial weights: a release such as `vit-b-16`, `puppets`, a checkpoint, or the folder of another run."""
    backbone: dict[str, Any] = {}
    """What a bare weights file in `model` does not say of its backbone: `activation: gelu`; `froster inspect` asks."""
    student: str = "vclip"
    """Video network with optional settings: `vclip`, `aim`, `vclip:window=2`."""
    teacher: str | None = None
    """The frozen teacher, of any backbone and size; default: `model`. Where weights are mixed with CLIP's, these
    are its weights, if it has the student's sizes and embeddings of the same space; otherwise those of `model`."""
    trained: Trained | list[str] = "default"
    """Trainable parameters: `default`: as in the student's paper; `all`; `vision`: the image encoder; `text`: the text
    encoder; or a list of regular expressions that are searched in the parameter names."""

    @field_validator("trained", mode="before")
    @classmethod
    def check_trained(cls, value: Any) -> Any:
        if isinstance(value, list) or value in TRAINED:
            return value
        raise ValueError(f"must be {', '.join(TRAINED)}, or a list of regular expressions, not {value!r}")

    freeze_clip_epochs: NonNegativeInt = 0
    """Number of initial epochs in which pretrained CLIP weights stay frozen."""
    data: DataSettings
    """Training clips and augmentation."""
    distillation: DistillationSettings | None = None
    """Feature distillation from the frozen CLIP; `null`: none."""
    interpolation: InterpolationSettings | None = None
    """Open-VCLIP's interpolated weight regularization; `null`: none."""
    mixup: NonNegativeFloat = 0
    """Blend pairs of clips and their labels, the share drawn from Beta(mixup, mixup), such as 0.8; 0: none."""
    cutmix: NonNegativeFloat = 0
    """Paste a box of one clip into another and blend their labels by area, the share drawn from Beta(cutmix, cutmix),
    such as 1.0; with `mixup` each is taken in half of the batches. 0: none."""
    weight_distance: NonNegativeFloat = 0
    """Weight of the squared L2 distance between the student's weights and CLIP's in the loss (Open-VCLIP Table 5)."""
    optimizer: OptimizerSettings
    """AdamW, learning rate schedule and batch size."""
    validation: ValidationSettings | None = None
    """Accuracy on held-out videos while training, best model and early stopping; `null`: none."""
    average_from: NonNegativeInt | None = None
    """Average the weights at the end of every epoch after this one (SWA); `null`: the last weights."""
    average_every: PositiveInt | None = None
    """Average every this many steps after epoch `average_from`, instead of once per epoch."""
    patch_ratio: Share = 0
    """Interpolation weight of CLIP in the final model (Open-VCLIP's patching); 0: none."""
    merge: bool = True
    """Merge the low-rank updates of `student: lora` into the weights of the final model; `false`: save the last updates
    alone, with the name of the CLIP that they belong to."""
    temporal_pooling: TemporalPooling | None = None
    """What is averaged over the frames: their `logits` or their `features` (FROSTER Eq. 1); default: the student's own.
    """
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Mixed precision (autocast); `auto`: bfloat16 where the hardware supports it, else float16 on a GPU."""
    activation_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, about 20 % more time."""
    keep_checkpoints: PositiveInt = 3
    """Number of epoch checkpoints to keep."""
    save_every_minutes: PositiveFloat = 15
    """Save the training state after this many minutes too, not only after an epoch and with a new best model."""
    tensorboard: bool = False
    """Also log to TensorBoard (needs the extra `track`)."""

    @property
    def stays_near_clip(self) -> bool:
        """Whether the student's weights are compared or mixed with CLIP's."""
        return bool(self.interpolation or self.weight_distance or self.patch_ratio)

    @model_validator(mode="after")
    def check_epochs(self) -> Self:
        epochs = self.optimizer.epochs
        earliest_ends = {
            "optimizer.warmup_epochs": self.optimizer.warmup_epochs,
            "freeze_clip_epochs": self.freeze_clip_epochs,
            "average_from": self.average_from or 0,
        }
        too_long = [key for key, value in earliest_ends.items() if value >= epochs]
        if too_long:
            values = " and ".join(f"{key}={earliest_ends[key]:g}" for key in too_long)
            raise ValueError(
                f"{values} must be below optimizer.epochs={epochs}; "
                f"type for example {' '.join(f'{key}={epochs // 2}' for key in too_long)}"
            )
        return self

    @model_validator(mode="after")
    def check_together(self) -> Self:
        if self.data.puppets and self.data.manifest.name != "manifest.csv":
            raise ValueError(
                f"data.manifest of generated puppets must be FOLDER/manifest.csv, not {self.data.manifest}; "
                "for clips of your own add data.puppets=null"
            )
        if self.distillation and self.trained == "vision" and not self.distillation.video:
            raise ValueError("with trained: vision the text encoder is frozen; set distillation.video: true")
        if self.distillation and self.trained == "text" and not self.distillation.text:
            raise ValueError("with trained: text the image encoder is frozen; set distillation.text: true")
        if self.teacher and not self.distillation and not self.stays_near_clip:
            raise ValueError(
                "teacher is not used without distillation; set distillation: {} for FROSTER's, or teacher: null"
            )
        if self.average_every and self.average_from is None:
            raise ValueError("average_every needs average_from, the epoch after which averaging starts")
        if self.data.prompt_style == "templates" and self.data.descriptions:
            raise ValueError("data.prompt_style: templates uses no descriptions: set data.descriptions: null")
        patterns = [*(self.trained if isinstance(self.trained, list) else ()), *self.optimizer.factors]
        for pattern in patterns:
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"{pattern!r} is not a regular expression: {error}") from error
        return self


def read_yaml(path: Path, extended_by: tuple[Path, ...] = ()) -> dict[str, Any]:
    """Keys and values of a recipe, merged with the recipes that it extends."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise FrosterError(f"The recipe {path} cannot be read: {error.strerror}.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise FrosterError(f"The recipe {path} is not valid YAML: {' '.join(str(error).split())}.") from error
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise FrosterError(f"The recipe {path} must be keys and values.")
    return with_base(content, path.parent, (*extended_by, path.resolve()))


def with_base(content: Mapping[str, Any], folder: Path, extended_by: tuple[Path, ...] = ()) -> dict[str, Any]:
    """Keys and values with those of the recipe that they extend, if they name one, by a path relative to `folder`."""
    own = dict(content)
    if "extends" not in own:
        return own
    base = existing_recipe(Path(str(own.pop("extends"))), folder)
    if base.resolve() in extended_by:
        raise FrosterError(f"The recipe {extended_by[-1]} extends {base}, which in turn extends it.")
    return merged(read_yaml(base, extended_by), own)


def merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """`base` updated with `changes`, section by section; null removes a section."""
    updated = {
        key: merged(base[key], value) if isinstance(value, dict) and isinstance(base.get(key), dict) else value
        for key, value in changes.items()
    }
    return base | updated


def set_key(content: dict[str, Any], override: str) -> None:
    key, equals, value = override.partition("=")
    if not equals:
        raise FrosterError(f"{override!r} is not of the form key=value.")
    *parents, last = key.split(".")
    for parent in parents:
        if content.get(parent) is None:  # a section that was null is created
            content[parent] = {}
        content = content[parent]
        if not isinstance(content, dict):
            raise FrosterError(f"{override!r}: {parent!r} is a value, not a section.")
    try:
        read = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise FrosterError(f"{override!r}: the value is not valid YAML.") from error
    # Names and paths are taken literally: out=2024, out=a #1, data.manifest=my: clips.csv.
    is_list = last == "descriptions" and isinstance(read, list)
    content[last] = value if last in PLAIN_TEXT and read is not None and not is_list else read


def explain(recipe: type[BaseModel], error: Any) -> str:
    """One validation error of pydantic as a clause."""
    if not error["loc"]:
        return str(error["msg"].removeprefix("Value error, "))
    *parents, last = error["loc"]
    key = ".".join(map(str, error["loc"]))
    if error["type"] not in ("extra_forbidden", "unexpected_keyword_argument"):
        message = error["msg"].removeprefix("Value error, ")
        return f"{key}: {message[0].lower()}{message[1:]}"
    holder: Any = recipe
    for parent in parents:
        holder = section_of(holder.model_fields[parent].annotation)
    fields = dataclasses.fields(holder) if dataclasses.is_dataclass(holder) else ()
    known = [field.name for field in fields] or list(getattr(holder, "model_fields", {}))
    near = difflib.get_close_matches(str(last), known, n=1)
    return f"unknown key {key!r}" + (f", did you mean {near[0]!r}?" if near else f"; keys are {', '.join(known)}")


def section_of(annotation: Any) -> Any:
    """The section class in `Section | None`."""
    if isinstance(annotation, types.UnionType):
        return next(part for part in get_args(annotation) if part is not type(None))
    return annotation
