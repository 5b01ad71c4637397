"""`froster methods`: the student networks side by side."""

import json
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from froster.methods import Network, PuppetsScores
    from froster.published import Published

COST = (
    "Networks with their default options; parameters in millions, those of the text encoder included. GFLOPs: "
    "multiplications and additions (a multiply-add is two) of matrix products, convolutions and attention for a clip; "
    "MFLOPs: for each class that it is compared with. Texts are encoded once for all clips and not counted."
)
LEGEND = (
    "ViT-B/16 where no note says otherwise. UCF*, HMDB*: all videos; UCF, HMDB: three test splits; K-600: three draws "
    "of 160 classes. A dash: not found in a table of the authors. Frozen CLIP is frame_clip without training, "
    "Open-VCLIP and FROSTER are ways to train vclip."
)
RAISED = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")


def methods(
    model: Annotated[
        str, typer.Option(help="Sizes of vit-b-16 (also vit-b-32, vit-l-14, vit-l-14-336) or puppets; no download.")
    ] = "vit-b-16",
    frames: Annotated[int, typer.Option(min=1, max=256, help="Frames a clip.")] = 8,
    results: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Also show results that `froster bench puppets` wrote: results.jsonl or students.jsonl.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON instead of tables.")] = False,
) -> None:
    """Compare the student networks: size, what is trained, cost of a clip, and what the papers report.

    Example: froster methods --results docs/results/results.jsonl
    """
    from rich.console import Console

    from froster.methods import all_networks, methods_to_json, model_sizes, read_puppets_scores

    config = model_sizes(model)
    puppets = [] if results is None else read_puppets_scores(results)
    with Console(stderr=True).status("Counting"):
        networks = all_networks(config, frames)
    if as_json:
        of = {"model": model, "frames": frames, "size": config.image_size}
        print(json.dumps(of | methods_to_json(networks, puppets), indent=2, ensure_ascii=False, allow_nan=False))
        return
    screen = Console(highlight=False, markup=False)
    show_networks(networks, f"{model}, clips of {frames} x {config.image_size} x {config.image_size} pixels", screen)
    show_published(networks, screen)
    if results is not None:
        show_puppets(puppets, f"Drawn puppets, {results}", screen)


def show_networks(networks: Sequence["Network"], title: str, screen: "Console") -> None:
    from froster.cli.evaluate import plain_table

    table = plain_table(["", "", "parameters", "trained", "GFLOPs", "MFLOPs a class"], texts=2)
    for network in networks:
        of_clip, of_class = network.flops.clip / 1e9, network.flops.each_class / 1e6
        numbers = (network.parameters / 1e6, network.trained / 1e6, of_clip, of_class)
        table.add_row(network.name, network.title, *map(short, numbers))
    screen.print(title, style="bold", soft_wrap=True)
    screen.print(table)
    show_note(COST, screen)


def short(number: float) -> str:
    if number < 0.001:
        return "<0.001"
    return f"{number:.{1 if number >= 10 else 2 if number >= 1 else 3}f}"


def show_published(networks: Sequence["Network"], screen: "Console") -> None:
    from froster.published import base_to_novel, cross_dataset

    title = "Published, base to novel: top-1 on base and novel classes, harmonic mean"
    show_scores(title, base_to_novel(), lambda scores: triple(**scores), networks, screen)
    title = "Published, trained on K-400, tested on other data: top-1"
    show_scores(title, cross_dataset(), lambda scores: spread(**scores), networks, screen)
    show_note(LEGEND, screen)


def triple(base: float, novel: float, hm: float) -> str:
    return f"{base:4.1f} {novel:4.1f} {hm:4.1f}"


def spread(mean: float, deviation: float | None = None) -> str:
    return f"{mean:.1f}      " if deviation is None else f"{mean:.1f} ± {deviation:.1f}"


def show_scores(
    title: str,
    rows: Sequence["Published"],
    cell: Callable[[dict[str, float]], str],
    networks: Sequence["Network"],
    screen: "Console",
) -> None:
    """A table of the papers, its sources below; networks that are not in it have a row of dashes."""
    from froster.cli.evaluate import plain_table

    titles = {network.name: network.title for network in networks}
    rows = [row for row in rows if row.student in titles]
    data = list(dict.fromkeys(name for row in rows for name in row.scores))
    sources = list(dict.fromkeys(source_of(row) for row in rows))
    table = plain_table(["", *data])
    for row in rows:
        reference = str(1 + sources.index(source_of(row))).translate(RAISED)
        table.add_row(row.method + reference, *(cell(row.scores[d]) if d in row.scores else "–" for d in data))
    for name in [name for name in titles if name not in {row.student for row in rows}]:
        table.add_row(titles[name], *("–" for _ in data))
    screen.print(f"\n{title}", style="bold", soft_wrap=True)
    screen.print(table)
    for number, source in enumerate(sources, start=1):
        show_note(str(number).translate(RAISED) + " " + source, screen)


def source_of(row: "Published") -> str:
    return f"{row.source}; {row.note}" if row.note else row.source


def show_puppets(puppets: Sequence["PuppetsScores"], title: str, screen: "Console") -> None:
    from froster.cli.evaluate import plain_table

    screen.print(f"\n{title}: base, novel, harmonic mean", style="bold", soft_wrap=True)
    if not puppets:
        show_note("No results of these methods so far.", screen)
        return
    found = {(scores.method, scores.regime): scores for scores in puppets}
    regimes = list(dict.fromkeys(scores.regime for scores in puppets))
    table = plain_table(["", "", *regimes], texts=2)
    for method, student in dict.fromkeys((scores.method, scores.student) for scores in puppets):
        cells = []
        for regime in regimes:
            scores = found.get((method, regime))
            cells.append(triple(scores.base.mean, scores.novel.mean, scores.hm.mean) if scores else "–")
        table.add_row(student, method, *cells)
    screen.print(table)
    draws = [scores.hm.draws for scores in puppets]
    most, least = max(draws), min(draws)
    show_note(f"Means over draws of the training clips: {least if least == most else f'{least} to {most}'}.", screen)


def show_note(text: str, screen: "Console") -> None:
    for line in textwrap.wrap(text, min(screen.width, 120), break_on_hyphens=False):
        screen.print(line, style="dim", soft_wrap=True)
