"""The command line: `froster COMMAND`. One thin file per command; heavy imports are deferred until a command runs."""

import io
import os
import signal
import sys
import warnings
from collections.abc import Sequence
from typing import Annotated, Any, NoReturn

import typer

from froster import __version__
from froster.cli.average import average
from froster.cli.bench import app as bench
from froster.cli.classes import classes
from froster.cli.data import app as data
from froster.cli.demo import demo
from froster.cli.describe import describe
from froster.cli.distance import distance
from froster.cli.evaluate import evaluate
from froster.cli.explain import explain
from froster.cli.inspect import inspect
from froster.cli.methods import methods
from froster.cli.patch import patch
from froster.cli.predict import predict
from froster.cli.pretrain import pretrain
from froster.cli.protocol import app as protocol
from froster.cli.puppets import puppets
from froster.cli.report import report
from froster.cli.reproduce import reproduce
from froster.cli.serve import serve
from froster.cli.sweep import sweep
from froster.cli.terminal import OutputClosedError, echo, one_line, warn
from froster.cli.timeline import timeline
from froster.cli.train import train
from froster.errors import FrosterError, FrosterWarning

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (
    predict,
    timeline,
    explain,
    train,
    sweep,
    evaluate,
    report,
    reproduce,
    average,
    patch,
    inspect,
    classes,
    methods,
    describe,
    distance,
    demo,
    puppets,
    pretrain,
    serve,
):
    app.command()(command)
app.add_typer(bench)
app.add_typer(data)
app.add_typer(protocol)


def show_version(wanted: bool) -> None:
    if wanted:
        echo(f"froster {__version__}")
        raise typer.Exit


@app.callback()
def froster(
    version: Annotated[
        bool, typer.Option("--version", callback=show_version, is_eager=True, help="Print the version.")
    ] = False,
    max_pixels: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="PIXELS",
            help="Reject videos whose frames have more pixels (width times height). "
            "[default: $FROSTER_MAX_PIXELS, or 8192 * 4320]",
        ),
    ] = None,
) -> None:
    """Recognize any action in any video."""
    if max_pixels is not None:
        from froster.video.limits import set_max_pixels

        set_max_pixels(max_pixels)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line (by default `sys.argv`) and exit.

    User errors end in one line and exit status 2, never in a traceback. If the output pipe is closed (`| head`), the
    status is that of SIGPIPE, 141.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # names that the terminal cannot encode must not raise
            stream.reconfigure(errors="backslashreplace")
    warnings.showwarning = show_warning
    try:
        sys.exit(app(arguments, standalone_mode=False) or 0)
    except FrosterError as error:
        warn(f"froster: {error}")
    except OutputClosedError:
        sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115 (Python flushes it at the end)
        sys.exit(128 + signal.SIGPIPE)
    except OSError as error:
        what = f"{error.filename}: " if error.filename else ""
        warn(f"froster: {what}{error.strerror or error}")
    except Exception as error:
        if not hasattr(error, "format_message"):  # Typer's usage errors have no public class
            raise
        show_usage_error(error)
    sys.exit(2)


def show_usage_error(error: Any) -> None:
    """Print a usage error and how to get help (which is already shown for a command without arguments)."""
    if message := one_line(error.format_message()):
        command = error.ctx.command_path if getattr(error, "ctx", None) else "froster"
        warn(f"froster: {message.removesuffix('.')}; see {command} --help")


def show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: object = None,
    line: object = None,
) -> None:
    """Print our own warnings in one line; hide those of libraries, which are for developers."""
    if issubclass(category, FrosterWarning):
        warn(f"warning: {message}")
