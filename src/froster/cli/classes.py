"""`froster classes`: the built-in vocabularies for `--labels`."""

from typing import Annotated

import typer

from froster.cli.terminal import echo


def classes(
    name: Annotated[str | None, typer.Argument(help="A vocabulary; by default all are listed.")] = None,
) -> None:
    """List the known vocabularies, or the class names of one."""
    from froster.data.vocabularies import PARTS, VOCABULARIES, read_vocabulary

    if name is None:
        for known, what in (VOCABULARIES | PARTS).items():
            echo(f"{known:<22}{len(read_vocabulary(known)):>4} classes   {what}")
    else:
        echo("\n".join(read_vocabulary(name)))
