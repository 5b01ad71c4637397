"""`froster average`: average the weights of checkpoints."""

from collections.abc import Iterator
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
    from froster.errors import FrosterError
    from froster.interpolation import StateDict, average_states
    from froster.models import load_model
    from froster.provenance import common_provenance, provenance_of
    from froster.students import VideoStudent

    def describe(student: VideoStudent) -> str:
        options = ",".join(f"{key}={value}" for key, value in student.options.items())
        return f"{student.name}:{options}" if options else student.name

    check_output_name(out)
    checkpoints = [file for path in checkpoints for file in checkpoints_in(path)]
    files = [weights_file(path) for path in checkpoints]
    if len(files) == 1:
        raise FrosterError(
            f"There is only one checkpoint, {files[0]}; give several, or a folder of them, such as a run's checkpoints."
        )
    check_not_among(out, files)
    model = load_model(checkpoints[0])
    provenance = [provenance_of(model)]

    def states() -> Iterator[StateDict]:
        yield {key: value.clone() for key, value in model.state_dict().items()}
        for path in checkpoints[1:]:
            other = load_model(path)
            if (other.name, other.options) != (model.name, model.options):
                raise FrosterError(
                    f"{path} holds {describe(other)}, {checkpoints[0]} holds {describe(model)}: "
                    "only checkpoints of the same student can be averaged."
                )
            provenance.append(provenance_of(other))
            yield other.state_dict()

    model.load_state_dict(average_states(states()))
    common_provenance(provenance).apply_to(model)
    save_checkpoint(model, out, None, average_of=", ".join(map(str, checkpoints)))
    echo(str(out))


def checkpoints_in(path: Path) -> list[Path]:
    """The sorted .safetensors files of a folder; any other path unchanged."""
    found = sorted(file for file in path.glob("*.safetensors") if not file.name.startswith("."))
    return found or [path]
