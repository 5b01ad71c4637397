"""`froster reproduce`: the papers' tables and figures, one command each."""

from pathlib import Path
from typing import Annotated

import typer

from froster.cli.interrupt import stopped_by_signals
from froster.cli.options import DeviceOption, Precision, PrecisionOption, SamplingName, WorkersOption, pick_settings
from froster.cli.protocol import STOPPED, Frames, Manifests, Sampling, Views, show_progress
from froster.cli.terminal import Screen, echo, echo_json, warn


def reproduce(
    table: Annotated[str | None, typer.Argument(help="Table or figure; without it all are listed.")] = None,
    changes: Annotated[
        list[str] | None,
        typer.Argument(help="Changes to all recipes: optimizer.gradient_accumulation_steps=8 data.workers=16."),
    ] = None,
    rows: Annotated[list[str] | None, typer.Option(help="Only the row of this method (repeat the option).")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be trained and tested, and estimate hours and memory.")
    ] = False,
    manifests: Manifests = Path("manifests"),
    descriptions: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Class descriptions: DATASET.json, or FROSTER's label_rephrase."),
    ] = None,
    train_lists: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="ViFi-CLIP's or FROSTER's few-shot lists; by default clips are drawn."),
    ] = None,
    shots: Annotated[int, typer.Option(min=1, help="Training clips of each base class.")] = 16,
    draws: Annotated[int, typer.Option(min=1, help="Draws of these clips.")] = 3,
    views: Views = 3,
    frames: Frames = 8,
    sampling: Sampling = SamplingName.release,
    device: DeviceOption = "auto",
    precision: PrecisionOption = Precision.float32,
    workers: WorkersOption = 2,
    json: Annotated[bool, typer.Option("--json", help="Print the table as JSON.")] = False,
    out: Annotated[Path, typer.Option(help="Folder of runs, scores and tables, shared by all tables.")] = Path(
        "runs/reproduce"
    ),
) -> None:
    """Train and test every row of a table of the two papers, and write it next to the published numbers.

    Runs and scored videos are shared by rows and tables. If interrupted, the same command resumes.

    Example: froster reproduce froster-table-1 --rows FROSTER --dry-run
    """
    from froster.errors import FrosterError
    from froster.processes import find_processes
    from froster.published import read_table, table_names
    from froster.tables.plan import estimate, plan_lines, plan_table
    from froster.tables.reproduce import Data, TableResult, TableSettings
    from froster.tables.reproduce import reproduce as run
    from froster.tables.write import long_rows, notes_of, to_json, write_table

    if table is None:
        for name in table_names():
            echo(f"{name}: {read_table(name).title}")
        return
    settings = TableSettings(
        manifests,
        out,
        tuple(changes or ()),
        pick_settings(views, frames, sampling, device, precision, workers),
        descriptions,
        train_lists,
        shots,
        draws,
    )
    if dry_run:
        plan = plan_table(table, settings, rows or ())
        tested = Data(read_table(table), settings).tested
        videos = [of.videos[0] for of in tested.values()]
        for line in plan_lines(plan, estimate(plan, settings, videos)):
            echo(line)
        return

    def keep(result: TableResult) -> None:
        if find_processes().is_main_process:
            write_table(result, out)

    with stopped_by_signals(STOPPED):
        result = run(table, settings, rows or (), show_progress, keep)
        if not find_processes().is_main_process:
            return
        if json:
            echo_json(to_json(result))
        else:
            from froster.cli.evaluate import plain_table

            header, cells = long_rows(result)
            shown = plain_table(header)
            for row in cells:
                shown.add_row(*row)
            screen = Screen()
            screen.print(shown)
            for note in notes_of(result):
                screen.print(note, soft_wrap=True)
            for path in write_table(result, out):
                echo(str(path))
        errors = [of_row for of_row in result.rows if of_row.error]
        for of_row in errors if json else ():
            warn(f"{of_row.row.method} could not be measured: {of_row.error}")
        if errors:
            raise FrosterError(f"{len(errors)} of the rows could not be measured; the others are written to {out}.")
