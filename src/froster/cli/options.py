"""The options that several commands share: one name, one type, one help text each.

Defaults, and options of a single command, are in the commands' files.
"""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument, Option

if TYPE_CHECKING:
    from froster.settings import InferenceSettings


class Precision(StrEnum):
    auto = "auto"
    float32 = "float32"
    bfloat16 = "bfloat16"


class SamplingName(StrEnum):
    uniform = "uniform"
    release = "release"


# Help texts of options whose type or limits differ between commands.
MODELS = "A released model by name (`froster methods`), hf:owner/name, puppets, a checkpoint file or a run's folder."
VIEWS = "Views (clips) per video; their scores are averaged."
FRAMES = "Frames per clip."
SAMPLING = "release: sample and preprocess frames as the authors' code."

# The model and how it runs.
ModelArgument = Annotated[str, Argument(help=MODELS)]
ModelOption = Annotated[str, Option(help=MODELS)]
StudentOption = Annotated[str | None, Option(help="The student: frame_clip, vclip, vclip:window=2,boundary=masked.")]
DeviceOption = Annotated[str, Option(help="auto, cpu, cuda, cuda:1, mps.")]
PrecisionOption = Annotated[Precision, Option(help="auto: bfloat16 if the hardware supports it.")]
WorkersOption = Annotated[int, Option(min=1, help="Videos decoded in parallel.")]

BackboneOption = Annotated[
    list[str] | None,
    Option(metavar="KEY=VALUE", help="What a bare weights file does not say: activation=gelu; repeat for more."),
]

# The classes and their prompts.
LabelsOption = Annotated[
    str | None,
    Option(
        help='Action names, "a, b, c", or a vocabulary (see `froster classes`); by default those of the manifest, '
        "or the model's."
    ),
]
LabelsFileOption = Annotated[
    str | None,
    Option(metavar="FILE", help="Text with one name per line, or JSON, also with descriptions: {name: description}."),
]
DescriptionsOption = Annotated[
    Path | None, Option(metavar="FILE", help="JSON {name: description}, as from `froster describe`.")
]
TemplatesOption = Annotated[
    Path | None,
    Option(metavar="FILE", help='Prompt templates, one per line, "a video of {}."; by default those of the model.'),
]

# Frame sampling.
ViewsOption = Annotated[int | None, Option(min=1, help=f"{VIEWS} [default: the model's, or 3]")]
FramesOption = Annotated[int | None, Option(min=1, help=f"{FRAMES} [default: the model's, or 8]")]
SamplingOption = Annotated[SamplingName | None, Option(help=f"{SAMPLING} [default: the model's, or uniform]")]

EnsembleOption = Annotated[
    str | None,
    Option(metavar="MODEL[=SHARE]", help="Add the logits of this model, such as the frozen CLIP, by this share (0.5)."),
]

# Labeled videos.
ManifestOption = Annotated[Path, Option(metavar="MANIFEST", help="CSV with the columns path and label.")]
SplitOption = Annotated[str | None, Option(help="Use only rows with this word in the column split, such as test.")]
BaseOption = Annotated[
    str | None,
    Option(help="Base classes (seen in training): names, a vocabulary or a file; their videos are scored among them."),
]
NovelOption = Annotated[str | None, Option(help="Novel classes (not seen in training), likewise; requires --base.")]

# Tables.
RawCsvOption = Annotated[
    bool,
    Option("--raw-csv", help="Do not prefix cells that start with = + - @ with a '."),
]


def read_backbone(assignments: list[str] | None) -> dict[str, Any]:
    """What `BackboneOption` says. Raises `FrosterError` for an unknown key or a wrong value."""
    from froster.checkpoints.descriptions import read_assignments
    from froster.errors import FrosterError

    given: dict[str, str] = {}
    for assignment in assignments or ():
        key, equals, value = (part.strip() for part in assignment.partition("="))
        if not equals or not value:
            raise FrosterError(f"--backbone {assignment!r} has no value: write KEY=VALUE.")
        given[key] = value
    return read_assignments(given) if given else {}


def pick_settings(
    views: int,
    frames: int,
    sampling: SamplingName,
    device: str,
    precision: Precision,
    workers: int,
    templates: Path | None = None,
    backbone: list[str] | None = None,
) -> "InferenceSettings":
    """What these options say, for commands whose defaults are the papers'."""
    from froster.settings import InferenceSettings
    from froster.text.prompts import read_templates

    return InferenceSettings(
        backbone=read_backbone(backbone) or None,
        templates=None if templates is None else read_templates(templates),
        views=views,
        frames=frames,
        sampling=sampling.value,
        device=device,
        precision=precision.value,
        workers=workers,
    )
