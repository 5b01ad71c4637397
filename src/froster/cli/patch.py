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
    from froster.errors import FrosterError
    from froster.interpolation import patch_states
    from froster.models import load_backbone, load_model

    check_output_name(out)
    file = weights_file(student)
    check_not_among(out, [weights_file(clip), file])
    model = load_model(student)
    if model.backbone_source:
        raise FrosterError(f"{student} has only adapters and a frozen CLIP, so there is nothing to patch.")
    model.load_state_dict(patch_states(load_backbone(clip).state_dict(), model.state_dict(), ratio))
    save_checkpoint(model, out, None, patched_with=f"{ratio:g} of {clip}")
    echo(str(out))
