"""`froster puppets`: write videos of the synthetic benchmark (puppets)."""

from pathlib import Path
from typing import Annotated

import typer

from froster.cli.terminal import Screen


def puppets(
    out: Annotated[Path, typer.Argument(help="Output folder, created if missing.")],
    actions: Annotated[str | None, typer.Option(help="Only these actions, separated by commas. [default: all]")] = None,
    videos: Annotated[int, typer.Option(min=1, help="Videos per action.")] = 4,
    frames: Annotated[int, typer.Option(min=1, max=100_000, help="Frames per video.")] = 32,
    fps: Annotated[int, typer.Option(min=1, max=1000, help="Frames per second.")] = 16,
    size: Annotated[int, typer.Option(min=16, max=4096, help="Width and height in pixels, even.")] = 128,
    gap: Annotated[str, typer.Option(help="Domain gap to the photos: easy, default or hard.")] = "default",
    seed: Annotated[int, typer.Option(min=0, help="Seed of the first video; the next ones follow.")] = 0,
) -> None:
    """Render puppets videos of the given actions, with a manifest and a contact sheet."""
    from rich.progress import Progress

    from froster.data.puppets import ACTIONS, action_index, contact_sheet, write_videos
    from froster.data.puppets.scenes import find_gap
    from froster.text.labels import parse_labels

    console = Screen()
    names = list(parse_labels(actions)) if actions else list(ACTIONS)
    for name in names:
        action_index(name)
    find_gap(gap)
    with Progress(console=Screen(stderr=True)) as progress:
        task = progress.add_task("Rendering videos", total=len(names) * videos)
        manifest = write_videos(
            out, names, videos, frames, fps, size, gap, seed, on_written=lambda _: progress.advance(task)
        )
    contact_sheet(out / "contact_sheet.png", names, gap, seed, columns=2 if len(names) > 12 else 1)
    console.print(f"{len(names) * videos} videos of {len(names)} actions: {manifest}", soft_wrap=True)
