"""`froster patch`: interpolate between CLIP and a student."""

from pathlib import Path
from typing import Annotated

import typer

from froster.cli.terminal import echo


def patch(
    clip: Annotated[str, typer.Argument(help="The CLIP that the student started from: a name or a file.")],
    student: Annotated[Path, typer.Argument(help="The fine-tuned student: a checkpoint or a run's folder.")],
    ratio: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Interpolation weight of CLIP: 0 is the student, 1 is CLIP.")
    ] = 0.5,
    out: Annotated[Path, typer.Option(help="The checkpoint to write (.safetensors).")] = Path("patched.safetensors"),
) -> None:
    """Interpolate a student's weights with CLIP's (Open-VCLIP's patching): better on novel classes, worse on base ones.

    Example: froster patch vit-b-16 runs/first --ratio 0.5 --out patched.safetensors
    """
    from froster.checkpoints.own import save_checkpoint
    from froster.cli.checkpoints import check_not_among, check_output_name, weights_file
    from froster.merging import patch_model

    check_output_name(out)
    check_not_among(out, [weights_file(clip), weights_file(student)])
    save_checkpoint(patch_model(student, clip, ratio), out, None, patched_with=f"{ratio:g} of {clip}")
    echo(str(out))
