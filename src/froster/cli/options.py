"""The options that several commands share: one name, one type, one help text each.

Commands give the default. What one command alone takes is written there.
"""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

from typer import Argument, Option


class Precision(StrEnum):
    auto = "auto"
    float32 = "float32"
    bfloat16 = "bfloat16"


class SamplingName(StrEnum):
    uniform = "uniform"
    release = "release"


# Texts of options whose type or limits differ between commands.
MODELS = "vit-b-16 (also vit-b-32, vit-l-14, vit-l-14-336), puppets, a checkpoint file or a run's folder."
VIEWS = "Clips taken from each video; their scores are averaged."
FRAMES = "Frames a clip."
SAMPLING = "release: take and prepare frames as the authors' code does."

# The model, and how it is run.
ModelArgument = Annotated[str, Argument(help=MODELS)]
ModelOption = Annotated[str, Option(help=MODELS)]
StudentOption = Annotated[
    str | None, Option(help="The video network: frame_clip, vclip, vclip:window=2,boundary=masked.")
]
DeviceOption = Annotated[str, Option(help="auto, cpu, cuda, cuda:1, mps.")]
PrecisionOption = Annotated[Precision, Option(help="auto: bfloat16 where the machine has it.")]
WorkersOption = Annotated[int, Option(min=1, help="Videos decoded at a time.")]

# The classes, and the prompts that are made of them.
LabelsOption = Annotated[
    str | None,
    Option(
        help='Action names, "a, b, c", or a vocabulary (see `froster classes`); by default those of the manifest, '
        "or those that the model was trained on."
    ),
]
LabelsFileOption = Annotated[
    str | None,
    Option(metavar="FILE", help="Names one a line, or JSON, with descriptions if you like: {name: description}."),
]
DescriptionsOption = Annotated[
    Path | None, Option(metavar="FILE", help="JSON {name: description}, such as `froster describe` writes.")
]
TemplatesOption = Annotated[
    Path | None,
    Option(metavar="FILE", help='Prompts, one a line, "a video of {}."; by default those of the model.'),
]

# The frames that the model sees.
ViewsOption = Annotated[int | None, Option(min=1, help=f"{VIEWS} [default: the model's, or 3]")]
FramesOption = Annotated[int | None, Option(min=1, help=f"{FRAMES} [default: the model's, or 8]")]
SamplingOption = Annotated[SamplingName | None, Option(help=f"{SAMPLING} [default: the model's, or uniform]")]

# Labeled videos.
ManifestOption = Annotated[Path, Option(metavar="MANIFEST", help="CSV with the columns path and label.")]
SplitOption = Annotated[str | None, Option(help="Only the rows with this word in the column split, such as test.")]
BaseOption = Annotated[
    str | None,
    Option(help="Classes seen in training: names, a vocabulary or a file; their clips are compared with them."),
]
NovelOption = Annotated[str | None, Option(help="Classes not seen in training, in the same way; with --base only.")]

# Tables.
RawCsvOption = Annotated[
    bool,
    Option("--raw-csv", help="Keep cells that begin with = + - @ as they are; without it a ' is put before them."),
]
