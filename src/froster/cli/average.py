"""`froster average`: the mean of checkpoints, as one checkpoint."""

from pathlib import Path
from typing import Annotated

import typer


def average(
    checkpoints: Annotated[list[Path], typer.Argument(help="Checkpoints of one network, of any format, or folders.")],
    out: Annotated[Path, typer.Option(help="The checkpoint to write (.safetensors).")] = Path("average.safetensors"),
) -> None:
    """Average the weights of checkpoints, such as the epochs of a run; every tensor is kept.

    Example: froster average runs/first/checkpoints/*.safetensors --out averaged.safetensors
    """
    from froster.clip.weights import save_checkpoint
    from froster.interpolation import average_states
    from froster.models import load_model

    model = load_model(checkpoints[0])
    model.load_state_dict(average_states(load_model(path).state_dict() for path in checkpoints))
    save_checkpoint(model, out, average_of=", ".join(map(str, checkpoints)))
    print(out)
