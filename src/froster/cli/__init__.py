"""The command line: `froster COMMAND`. One file per command, thin; heavy imports wait until a command runs."""

import os
import sys
from typing import Annotated

import typer

from froster import __version__
from froster.cli.classes import classes
from froster.cli.demo import demo
from froster.cli.predict import predict
from froster.cli.pretrain import pretrain
from froster.cli.puppets import puppets
from froster.errors import FrosterError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (predict, classes, demo, puppets, pretrain):
    app.command()(command)


def show_version(wanted: bool) -> None:
    if wanted:
        print(f"froster {__version__}")
        raise typer.Exit


@app.callback()
def froster(
    version: Annotated[
        bool, typer.Option("--version", callback=show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Recognise any action in any video."""


def main() -> None:
    """Run the command line; what the user can cause ends in one line and exit status 2, never in a traceback."""
    try:
        app()
    except FrosterError as error:
        print(f"froster: {error}", file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:
        # The reader of our pipe (head, less) has enough; nothing is left to flush to.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
