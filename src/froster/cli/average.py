"""`froster average`: average the weights of checkpoints."""

from pathlib import Path
from typing import Annotated

import typer

from froster.cli.terminal import echo


def average(
    checkpoints: Annotated[
        list[Path],
        typer.Argument(help="Checkpoints of one student, in any format; for a folder, all .safetensors files in it."),
    ],
    out: Annotated[Path, typer.Option(help="The checkpoint to write (.safetensors).")] = Path("average.safetensors"),
) -> None:
    """Average the weights of checkpoints, such as the epochs of a run; every tensor is kept.

    Example: froster average runs/first/checkpoints --out averaged.safetensors
    """
    from froster.checkpoints.own import save_checkpoint
    from froster.cli.checkpoints import check_not_among, check_output_name, weights_file
    from froster.merging import average_models, checkpoints_in

    check_output_name(out)
    averaged = [file for path in checkpoints for file in checkpoints_in(path)]
    check_not_among(out, [weights_file(path) for path in averaged])
    save_checkpoint(average_models(averaged), out, None, average_of=", ".join(map(str, averaged)))
    echo(str(out))
