"""`froster average`: the mean of checkpoints, as one checkpoint."""

from collections.abc import Iterator
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
    from froster.errors import FrosterError
    from froster.interpolation import StateDict, average_states
    from froster.models import load_model
    from froster.students import VideoStudent

    def describe(student: VideoStudent) -> str:
        options = ",".join(f"{key}={value}" for key, value in student.options.items())
        return f"{student.name}:{options}" if options else student.name

    model = load_model(checkpoints[0])

    def states() -> Iterator[StateDict]:
        yield {key: value.clone() for key, value in model.state_dict().items()}
        for path in checkpoints[1:]:
            other = load_model(path)
            if (other.name, other.options) != (model.name, model.options):
                raise FrosterError(
                    f"{path} is a {describe(other)}, {checkpoints[0]} a {describe(model)}: "
                    "only checkpoints of one network can be averaged."
                )
            yield other.state_dict()

    model.load_state_dict(average_states(states()))
    save_checkpoint(model, out, average_of=", ".join(map(str, checkpoints)))
    print(out)
