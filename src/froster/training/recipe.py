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

from froster.errors import FrosterError
from froster.losses.froster import Distance, Projection
from froster.shipped import existing_recipe

Share = Annotated[float, Field(ge=0, le=1)]
Beta = Annotated[float, Field(ge=0, lt=1)]


PLAIN_TEXT = ("out", "manifest", "split", "labels", "descriptions", "templates", "model", "teacher", "student")


class Section(BaseModel):
    """Base of every recipe and of its parts: unknown keys are errors, values are final.

    The text below a key is its explanation, in `docs/recipes.md` too.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class Recipe(Section):
    """A section that is a file of its own."""

    @classmethod
    def read(cls, path: str | Path, overrides: Sequence[str] = ()) -> Self:
        """Read a YAML recipe; `overrides` are `"key=value"`, with dots for nested keys (`model.patch_size=8`).

        With `extends: OTHER.yaml` a recipe is another one with changes: a path relative to its own, or a name of
        froster's own recipes.
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
    """Videos to draw where `data.manifest` does not exist yet."""

    actions: list[str] = Field(min_length=1)
    """Which of the puppets' 45 actions to draw (`froster puppets` draws them all)."""
    videos: PositiveInt
    """Videos of each action."""
    seed: NonNegativeInt
    """Seed of each action's first video; the others count up. Other seeds give other videos."""
    gap: str = "default"
    """How far the videos are from the photos that the small CLIP knows: `easy`, `default` or `hard`."""
    frames: PositiveInt = 16
    """Frames of a video."""
    size: PositiveInt = 72
    """Width and height in pixels, even."""


class DataSettings(Section):
    """The training clips."""

    manifest: Path
    """CSV file with the columns `path` and `label`; relative paths start at its folder."""
    split: str | None = None
    """Train only on rows that have this word in the column `split`, such as `train`."""
    labels: Path | None = None
    """File with the classes and, if you like, their descriptions; without it the classes are the manifest's."""
    descriptions: Path | None = None
    """File with descriptions of the classes, JSON, as `describe_labels` takes it."""
    templates: Path | None = None
    """File with templates of the prompts, one a line with `{}` for the name, in place of the student's own."""
    puppets: PuppetSettings | None = None
    """Videos to draw where the manifest does not exist yet."""
    frames: PositiveInt = 8
    """Frames of a clip, all cut alike to the model's picture size."""
    sampling: Literal["uniform", "release"] = "uniform"
    """`uniform`: a random frame of each of as many equal segments of the video; `release`: a random window of one frame
    in 16 at 30 a second, as the authors do."""
    short_side: tuple[PositiveInt, PositiveInt] = (224, 256)
    """Smallest and largest short side, in pixels, of the pictures that a clip is cut from."""
    flip: bool = True
    """Mirror half of the clips. Not for actions that differ in left and right."""
    workers: NonNegativeInt = 2
    """Processes that decode ahead, for each process that trains."""
    in_memory: bool = False
    """Keep every video as it was decoded, in each worker: for few, small videos."""
    max_unreadable: Share = 0.05
    """Training stops where more than this share of the clips is missing or cannot be decoded; fewer are skipped."""

    @model_validator(mode="after")
    def check_short_side(self) -> Self:
        if self.short_side[0] > self.short_side[1]:
            raise ValueError(f"short_side is from the smallest to the largest, not {list(self.short_side)}")
        return self


class DistillationSettings(Section):
    """What the frozen CLIP teaches: FROSTER Eq. 6 to 8, and the variants of its Fig. 3 and Tables 4 to 7."""

    projector: Projection = "residual"
    """What the student's features pass before they are compared: `residual` (Eq. 6), `plain`, or `none`."""
    video: bool = True
    """Compare the features of the frames."""
    text: bool = True
    """Compare the features of the classes, where anything on the student's text side is trained, learnt prompts too."""
    distance: Distance = "cosine"
    """`cosine`, as in the released code; `l2_sum`, Eq. 7 of the paper; or its mean, `l2_mean`."""
    alpha: PositiveFloat = 0.1
    """Weight of the residual projector's new part."""
    beta: NonNegativeFloat = 2.0
    """Weight of distillation beside the cross entropy (Eq. 8)."""
    zero_init: bool = True
    """Let the residual projector begin as the identity."""

    @model_validator(mode="after")
    def check_choice(self) -> Self:
        if not self.video and not self.text:
            raise ValueError("distillation of neither video nor text is none: leave the section out")
        return self


class InterpolationSettings(Section):
    """Open-VCLIP's regularisation (Eq. 7-9): a second loss, at weights between the student's and CLIP's."""

    max_ratio: Share = 0.6
    """Each step draws the share of CLIP from 0 to this."""
    weight: PositiveFloat = 0.5
    """Weight of the second loss."""


class OptimizerSettings(Section):
    """AdamW with linear warm-up, then cosine, both per step."""

    epochs: PositiveInt
    """How often every clip is seen, unless `min_steps` asks for more."""
    min_steps: NonNegativeInt = 0
    """Least steps of the whole run: where few clips make fewer, each epoch goes through the clips several times."""
    warmup_epochs: NonNegativeFloat = 0
    """Epochs in which the learning rate rises."""
    learning_rate: PositiveFloat
    """The highest learning rate, at the end of the warm-up."""
    warmup_start: NonNegativeFloat = 0
    """The learning rate of the first step, where there is a warm-up."""
    final_learning_rate: NonNegativeFloat = 0
    """The learning rate that the cosine ends at."""
    batch_size: PositiveInt
    """Clips of a step, over all processes. An epoch leaves out clips that do not fill a batch."""
    accumulate: PositiveInt = 1
    """Parts that a step's batch is computed in: the result is the same, the memory less."""
    weight_decay: NonNegativeFloat = 0.01
    """Decay of all parameters but the 1-D ones."""
    betas: tuple[Beta, Beta] = (0.9, 0.999)
    """AdamW's decay of the gradients' mean and variance."""
    clip_norm: PositiveFloat = 1.0
    """Largest norm of the gradient; a longer one is cut to it."""

    @model_validator(mode="after")
    def check_batch(self) -> Self:
        if self.batch_size % self.accumulate:
            raise ValueError(f"batch_size ({self.batch_size}) is not a multiple of accumulate ({self.accumulate})")
        return self


class TrainRecipe(Recipe):
    """Everything that decides the result of a training run."""

    out: Path
    """Folder of the run: checkpoints, log, and the trained model."""
    seed: NonNegativeInt = 0
    """Seed of everything random; the same seed gives the same model."""
    model: str
    """Where the student starts: `vit-b-16` and the like, `puppets`, a checkpoint, or the folder of another run."""
    student: str = "vclip"
    """The video network, with options if you like: `vclip`, `aim`, `vclip:window=2`."""
    teacher: str | None = None
    """The frozen CLIP, by default `model` itself."""
    trained: Literal["default", "all", "vision"] = "default"
    """`default`: what the student's method trains; `all`: every parameter; `vision`: those of the image encoder."""
    freeze_clip_epochs: NonNegativeInt = 0
    """So many epochs train nothing but what the student adds to CLIP."""
    data: DataSettings
    """The training clips."""
    distillation: DistillationSettings | None = None
    """What the frozen CLIP teaches; without it nothing."""
    interpolation: InterpolationSettings | None = None
    """Open-VCLIP's regularisation."""
    weight_distance: NonNegativeFloat = 0
    """Weight of the squared distance between the student's weights and CLIP's, as a part of the loss."""
    optimizer: OptimizerSettings
    """Epochs, batches and learning rate."""
    average_from: NonNegativeInt | None = None
    """The model is the mean of the weights at the epochs' ends after this epoch; without it, the last weights."""
    patch_ratio: Share = 0
    """Share of CLIP that is mixed into the model at the end (Open-VCLIP)."""
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """What the networks compute in; `auto` takes bfloat16 where the hardware has it, else float16 on a GPU."""
    activation_checkpointing: bool = False
    """Compute activations twice instead of keeping them: less memory, about a fifth more time."""
    keep: PositiveInt = 3
    """How many epochs' checkpoints stay."""
    tensorboard: bool = False
    """Also log for TensorBoard (the extra `track`)."""

    @model_validator(mode="after")
    def check_epochs(self) -> Self:
        epochs = self.optimizer.epochs
        beginnings = {
            "optimizer.warmup_epochs": self.optimizer.warmup_epochs,
            "freeze_clip_epochs": self.freeze_clip_epochs,
            "average_from": self.average_from or 0,
        }
        too_long = [key for key, value in beginnings.items() if value >= epochs]
        if too_long:
            values = " and ".join(f"{key}={beginnings[key]:g}" for key in too_long)
            raise ValueError(
                f"{values} must be below optimizer.epochs={epochs}; "
                f"type for example {' '.join(f'{key}={epochs // 2}' for key in too_long)}"
            )
        return self

    @model_validator(mode="after")
    def check_together(self) -> Self:
        if self.data.puppets and self.data.manifest.name != "manifest.csv":
            raise ValueError(
                f"data.manifest of drawn puppets must be FOLDER/manifest.csv, not {self.data.manifest}; "
                "for clips of your own add data.puppets=null"
            )
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
    base = existing_recipe(Path(str(content.pop("extends"))), path.parent)
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
