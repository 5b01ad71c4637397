"""Recipes: one YAML file is a whole experiment, checked before anything loads."""

import dataclasses
import difflib
import types
from collections.abc import Sequence
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
    model_validator,
)

from froster.distillation import Distance, Projection
from froster.errors import FrosterError

Share = Annotated[float, Field(ge=0, le=1)]
Beta = Annotated[float, Field(ge=0, lt=1)]


PLAIN_TEXT = ("out", "manifest", "labels", "model", "teacher", "student")


class Section(BaseModel):
    """Base of every recipe and of its parts: unknown keys are errors, values are final."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Recipe(Section):
    """A section that is a file of its own."""

    @classmethod
    def read(cls, path: str | Path, overrides: Sequence[str] = ()) -> Self:
        """Read a YAML recipe; `overrides` are `"key=value"`, with dots for nested keys (`model.patch_size=8`).

        With `extends: OTHER.yaml` a recipe is another one, in a path relative to its own, with changes.
        Raises `FrosterError` that names the file and the key, and the nearest key where it is unknown.
        """
        content = read_yaml(Path(path))
        for override in overrides:
            set_key(content, override)
        try:
            return cls(**content)
        except ValidationError as error:
            raise FrosterError(f"The recipe {path}: {'; '.join(explain(cls, e) for e in error.errors())}.") from error


class PuppetSettings(Section):
    """Videos to draw where the manifest does not exist yet: `videos` of each action, from `seed` on."""

    actions: list[str] = Field(min_length=1)
    videos: PositiveInt
    seed: NonNegativeInt
    gap: str = "default"
    frames: PositiveInt = 16
    size: PositiveInt = 72


class DataSettings(Section):
    """The training clips: `manifest` lists videos and labels; `labels` holds the classes with their descriptions.

    Without `labels` the classes are the manifest's. A clip has `frames` frames of the model's own size, cut at random
    from pictures whose short side is drawn from `short_side` pixels; `flip` mirrors half of the clips. `sampling`:
    "uniform" takes one random frame of each of T segments of the video, "release" a random window of one frame in 16 at
    30 a second, as the authors do. Training stops where more than `max_unreadable` of the clips cannot be decoded.
    `in_memory` keeps every video as it was decoded, in each worker: for few, small videos.
    """

    manifest: Path
    labels: Path | None = None
    puppets: PuppetSettings | None = None
    frames: PositiveInt = 8
    sampling: Literal["uniform", "release"] = "uniform"
    short_side: tuple[PositiveInt, PositiveInt] = (224, 256)
    flip: bool = True
    workers: NonNegativeInt = 2
    in_memory: bool = False
    max_unreadable: Share = 0.05

    @model_validator(mode="after")
    def check_short_side(self) -> Self:
        if self.short_side[0] > self.short_side[1]:
            raise ValueError(f"short_side is from the smallest to the largest, not {list(self.short_side)}")
        return self


class DistillationSettings(Section):
    """What the frozen CLIP teaches: FROSTER Eq. 6 and 7, and the variants of its Fig. 3 and Tables 4 to 7."""

    projector: Projection = "residual"
    video: bool = True
    text: bool = True
    distance: Distance = "cosine"
    alpha: PositiveFloat = 0.1
    beta: NonNegativeFloat = 2.0
    zero_init: bool = True

    @model_validator(mode="after")
    def check_choice(self) -> Self:
        if not self.video and not self.text:
            raise ValueError("distillation of neither video nor text is none: leave the section out")
        return self


class InterpolationSettings(Section):
    """Open-VCLIP's regularisation (Eq. 7-9): a loss at weights between the student and CLIP, with this weight.

    Each step draws the share of CLIP from 0 to `max_ratio`.
    """

    max_ratio: Share = 0.6
    weight: PositiveFloat = 0.5


class OptimizerSettings(Section):
    """AdamW with linear warm-up, then cosine, both per step; 1-D parameters are not decayed."""

    epochs: PositiveInt
    warmup_epochs: NonNegativeFloat = 0
    learning_rate: PositiveFloat
    warmup_start: NonNegativeFloat = 0
    final_learning_rate: NonNegativeFloat = 0
    batch_size: PositiveInt
    accumulate: PositiveInt = 1
    weight_decay: NonNegativeFloat = 0.01
    betas: tuple[Beta, Beta] = (0.9, 0.999)
    clip_norm: PositiveFloat = 1.0

    @model_validator(mode="after")
    def check_epochs(self) -> Self:
        if self.warmup_epochs >= self.epochs:
            raise ValueError(f"warmup_epochs ({self.warmup_epochs}) must be below epochs ({self.epochs})")
        if self.batch_size % self.accumulate:
            raise ValueError(f"batch_size ({self.batch_size}) is not a multiple of accumulate ({self.accumulate})")
        return self


class TrainRecipe(Recipe):
    """Everything that decides the result of a training run.

    `model`: where the student starts, what `load_model` takes; `teacher`: the frozen CLIP, by default `model` itself.
    `trained`: by default what the student's method trains; or all parameters, or those of the image encoder alone.
    `freeze_clip_epochs`: so many epochs train nothing but what the student adds to CLIP. `average_from`: the tested
    weights are the mean of the epochs' ends after that epoch; without it they are the last ones. `patch_ratio`: the
    share of CLIP that is mixed into them (Open-VCLIP). `keep`: how many epochs' checkpoints stay.
    """

    out: Path
    seed: NonNegativeInt = 0
    model: str
    student: str = "vclip"
    teacher: str | None = None
    trained: Literal["default", "all", "vision"] = "default"
    freeze_clip_epochs: NonNegativeInt = 0
    data: DataSettings
    distillation: DistillationSettings | None = None
    interpolation: InterpolationSettings | None = None
    weight_distance: NonNegativeFloat = 0
    optimizer: OptimizerSettings
    average_from: NonNegativeInt | None = None
    patch_ratio: Share = 0
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    activation_checkpointing: bool = False
    keep: PositiveInt = 3
    tensorboard: bool = False

    @model_validator(mode="after")
    def check_together(self) -> Self:
        if self.freeze_clip_epochs >= self.optimizer.epochs:
            raise ValueError(f"freeze_clip_epochs ({self.freeze_clip_epochs}) leaves no epoch that trains CLIP")
        if self.average_from is not None and self.average_from >= self.optimizer.epochs:
            raise ValueError(f"average_from ({self.average_from}) leaves no epoch of {self.optimizer.epochs}")
        if self.data.puppets and self.data.manifest.name != "manifest.csv":
            raise ValueError(f"data.manifest of drawn puppets must be FOLDER/manifest.csv, not {self.data.manifest}")
        if self.distillation and self.trained == "vision" and not self.distillation.video:
            raise ValueError("with trained: vision the text encoder stays as it is: there is nothing to distil into it")
        return self


def read_yaml(path: Path, extended_by: tuple[Path, ...] = ()) -> dict[str, Any]:
    """Keys and values of a recipe and of those that it extends."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise FrosterError(f"The recipe {path} cannot be read: {error.strerror}.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise FrosterError(f"The recipe {path} is not valid YAML: {' '.join(str(error).split())}.") from error
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise FrosterError(f"The recipe {path} must be keys and values.")
    if "extends" not in content:
        return content
    base = path.parent / str(content.pop("extends"))
    if base.resolve() in extended_by:
        raise FrosterError(f"The recipe {path} extends {base}, which extends it in turn.")
    return merged(read_yaml(base, (*extended_by, path.resolve())), content)


def merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """`base` with `changes`, section by section; null takes a section away."""
    both = {
        key: merged(base[key], value) if isinstance(value, dict) and isinstance(base.get(key), dict) else value
        for key, value in changes.items()
    }
    return base | both


def set_key(content: dict[str, Any], override: str) -> None:
    key, equals, value = override.partition("=")
    if not equals:
        raise FrosterError(f"{override!r} is not of the form key=value.")
    *parents, last = key.split(".")
    for parent in parents:
        if content.get(parent) is None:  # a section that was null begins anew
            content[parent] = {}
        content = content[parent]
        if not isinstance(content, dict):
            raise FrosterError(f"{override!r}: {parent!r} is a value and has no keys below it.")
    try:
        read = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise FrosterError(f"{override!r}: the value is not valid YAML.") from error
    # Names and paths are meant as they stand: out=2024, out=a #1, data.manifest=my: clips.csv.
    content[last] = value if last in PLAIN_TEXT and read is not None else read


def explain(recipe: type[BaseModel], error: Any) -> str:
    """One clause for one of pydantic's errors."""
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
    """The section behind `Section | None`."""
    if isinstance(annotation, types.UnionType):
        return next(part for part in get_args(annotation) if part is not type(None))
    return annotation
