"""`froster classes`: the vocabularies that `--labels` knows by name."""

from typing import Annotated

import typer

from froster.cli.terminal import echo


def classes(
    name: Annotated[str | None, typer.Argument(help="A vocabulary; without it, all of them are listed.")] = None,
) -> None:
    """List the known vocabularies, or the class names of one."""
    from froster.data.vocabularies import PARTS, VOCABULARIES, read_vocabulary

    if name is None:
        for known, what in (VOCABULARIES | PARTS).items():
            echo(f"{known:<22}{len(read_vocabulary(known)):>4} classes   {what}")
    else:
        echo("\n".join(read_vocabulary(name)))
