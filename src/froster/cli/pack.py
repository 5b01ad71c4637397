"""`froster data pack`: videos in files that training reads many times faster."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from froster.cli.interrupt import stopped_by_signals
from froster.cli.terminal import Screen, echo_json

if TYPE_CHECKING:
    from froster.data.pack import PackEstimate, PackReport


class FormatName(StrEnum):
    h264 = "h264"
    jpeg = "jpeg"


def pack(
    manifest: Annotated[Path, typer.Argument(help="CSV with the columns path and label.")],
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="The folder for the packed videos and their manifest.")],
    format: Annotated[  # noqa: A002 (the word for it)
        FormatName,
        typer.Option(help="h264: MP4 files that decode fast; jpeg: larger, faster Arrow files (needs the extra pack)."),
    ] = FormatName.h264,
    short_side: Annotated[int, typer.Option(min=2, help="Pixels of the short side; never enlarged.")] = 256,
    fps: Annotated[
        float | None, typer.Option(help="Frames a second. [default: every frame]", show_default=False)
    ] = None,
    workers: Annotated[int, typer.Option(min=0, help="Videos decoded in parallel.")] = 2,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Re-encode the videos of a manifest once, so that training reads them many times faster.

    Writes FOLDER/NAME.csv, a manifest like MANIFEST, last. Originals are only read. After the first videos it says how
    much disk and time the others take. A stopped run resumes with the same command. Unreadable videos are left out and
    listed in FOLDER/NAME.unreadable.csv; if there are any, the exit status is 1.

    Example: froster data pack manifests/k400.csv --out packed --workers 16
    """
    from froster.cli.progress import progress_bar
    from froster.data.pack import pack_data

    errors = Screen(stderr=True, soft_wrap=True)
    with (
        stopped_by_signals("Stopped; the same command resumes from here."),
        progress_bar(errors) as bar,
    ):
        task = bar.add_task("Packing", total=None)
        report = pack_data(
            manifest,
            out,
            format=format.value,
            short_side=short_side,
            fps=fps,
            workers=workers,
            on_progress=lambda done, total: bar.update(task, completed=done, total=total),
            on_estimate=lambda estimate: bar.console.print(estimate_line(estimate)),
        )
    if as_json:
        echo_json(report.to_json(), indent=2)
    else:
        show_report(report, Screen())
    if report.unreadable:
        raise typer.Exit(1)


def estimate_line(estimate: "PackEstimate") -> str:
    size, free = readable_bytes(estimate.bytes), readable_bytes(estimate.free_bytes)
    return (
        f"By the first {estimate.sampled}, {estimate.videos:,} videos take about {size} ({free} are free) and "
        f"{readable_time(estimate.seconds)} more."
    )


def show_report(report: "PackReport", screen: Screen) -> None:
    """Print what was packed and what was not."""
    from froster.cli.data import show_some

    before = f", {report.reused:,} of them before" if report.reused else ""
    sizes = f"{readable_bytes(report.source_bytes)} to {readable_bytes(report.packed_bytes)}"
    took = f"{readable_time(report.seconds)}, PSNR {report.psnr:.1f} dB"
    screen.print(f"{report.videos:,} videos packed{before}: {sizes}, {took}", soft_wrap=True)
    for found, what in ((report.unreadable, "not readable and left out"), (report.partial, "readable only in part")):
        if found:
            share = f"{len(found):,} of {report.all_rows:,} ({len(found) / report.all_rows:.1%})"
            kind = "unreadable" if found is report.unreadable else "partial"
            heading = f"{share} {what}, listed in {report.manifest.with_suffix(f'.{kind}.csv')}:"
            show_some(heading, [f"{name}: {reason}" for name, reason in found], screen)
    screen.print(f"\nManifest: {report.manifest}, {report.rows:,} rows", soft_wrap=True)


def readable_bytes(number: float) -> str:
    """Such as "1.2 GB"."""
    for unit in ("B", "kB", "MB", "GB"):
        if number < 1000:
            return f"{number:.3g} {unit}"
        number /= 1000
    return f"{number:.3g} TB"


def readable_time(seconds: float) -> str:
    """Such as "2.5 h", "3 min" or "12 s"."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
