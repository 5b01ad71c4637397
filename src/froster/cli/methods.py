"""`froster methods`: compare the students."""

import math
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from froster.cli.terminal import Screen, echo_json

if TYPE_CHECKING:
    from froster.methods import BackboneNumbers, Network, PuppetsScores
    from froster.published import Published

COST = (
    "Students with default options; parameters in millions, including the text encoder. GFLOPs: multiplications and "
    "additions (a multiply-add is two) of matrix products, convolutions and attention per clip; MFLOPs: per class. "
    "Texts are encoded once for all clips and not counted. An ensemble costs the GFLOPs of both models, with "
    "frozen CLIP those of frame_clip more."
)
ZERO_SHOT = {"kinetics_400": "K-400", "kinetics_600": "K-600", "ucf_101": "UCF-101", "hmdb_51": "HMDB-51"}
BACKBONE_COST = (
    "GFLOPs of a clip that is encoded frame by frame. Top-1 among all classes, 8 frames a video; dash: not published."
)
LEGEND = (
    "ViT-B/16 unless noted. UCF*, HMDB*: all videos; UCF, HMDB: three test splits; K-600: three draws of 160 classes. "
    "Dash: not published. Frozen CLIP is frame_clip without training; Open-VCLIP and FROSTER are methods to train "
    "vclip."
)
PUPPETS_LEGEND = (
    "Top-1 in percent, mean ± std over the draws of training clips; HM is the harmonic mean of base and novel. Frozen "
    "CLIP is not trained and evaluated once. Best learning rate: from a grid search on another draw and other test "
    "clips; hard: five to ten times that. Weights are averaged over the epochs after the warm-up for weight averaging, "
    "Open-VCLIP (patched half way to CLIP) and the students of students.jsonl, else those of the last epoch."
)
RAISED = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")


def methods(
    model: Annotated[
        str,
        typer.Option(help="Sizes of a released model (listed below), of puppets or of a weights file; no download."),
    ] = "vit-b-16",
    frames: Annotated[int, typer.Option(min=1, max=256, help="Frames per clip.")] = 8,
    results: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Also show results of `froster bench puppets`: results.jsonl or students.jsonl.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON instead of tables.")] = False,
) -> None:
    """Compare the students: parameters, cost per clip, and the papers' published numbers.

    Example: froster methods --results docs/results/results.jsonl
    """

    from froster.methods import all_networks, backbone_numbers, methods_to_json, model_sizes, read_puppets_scores

    config = model_sizes(model)
    puppets = [] if results is None else read_puppets_scores(results)
    with Screen(stderr=True).status("Counting"):
        networks, backbones = all_networks(config, frames), backbone_numbers(frames)
    if as_json:
        of = {"model": model, "frames": frames, "size": config.image_size}
        echo_json(of | methods_to_json(networks, backbones, puppets), indent=2)
        return
    screen = Screen()
    show_networks(networks, f"{model}, clips of {frames} x {config.image_size} x {config.image_size} pixels", screen)
    show_backbones(backbones, screen)
    show_published(networks, screen)
    show_models(screen)
    if results is not None:
        show_puppets(puppets, f"Puppets, {results}", screen)


def show_networks(networks: Sequence["Network"], title: str, screen: "Screen") -> None:
    rows = []
    for network in networks:
        of_clip, of_class = network.flops.clip / 1e9, network.flops.each_class / 1e6
        numbers = (network.parameters / 1e6, network.trained / 1e6, of_clip, of_class)
        rows.append([network.name, network.title, *map(short, numbers)])
    screen.print(title, style="bold", soft_wrap=True)
    show_table(["", "", "parameters", "trained", "GFLOPs", "MFLOPs per class"], rows, screen, texts=2)
    show_note(COST, screen)


def show_backbones(backbones: Sequence["BackboneNumbers"], screen: "Screen") -> None:
    from froster.checkpoints.releases import ZERO_SHOT_SOURCES

    rows = []
    for backbone in backbones:
        cost = [str(backbone.image_size), short(backbone.parameters / 1e6), short(backbone.flops / 1e9)]
        top1 = (backbone.zero_shot.get(name) for name in ZERO_SHOT)
        rows.append([backbone.name, *cost, *("–" if value is None else f"{value:.1f}" for value in top1)])
    screen.print("\nBackbones, frozen: cost, and published zero-shot top-1", style="bold", soft_wrap=True)
    show_table(["", "pixels", "parameters", "GFLOPs", *ZERO_SHOT.values()], rows, screen)
    show_note(f"{BACKBONE_COST} {ZERO_SHOT_SOURCES}", screen)


def show_table(columns: Sequence[str], rows: Sequence[Sequence[str]], screen: "Screen", texts: int = 1) -> None:
    """A table that wraps columns that do not fit the screen into further tables below.

    The first `texts` columns are words, and are repeated in all parts.
    """
    from froster.cli.evaluate import plain_table

    widths = [max(map(len, cells)) + 2 for cells in zip(columns, *rows, strict=True)]
    parts: list[list[int]] = [[]]
    for place in range(texts, len(columns)):
        if parts[-1] and sum(widths[p] for p in (*range(texts), *parts[-1], place)) - 2 > screen.width:
            parts.append([])
        parts[-1].append(place)
    for part in parts:
        places = [*range(texts), *part]
        table = plain_table([columns[place] for place in places], texts)
        for row in rows:
            table.add_row(*(row[place] for place in places))
        screen.print(table)


def short(number: float) -> str:
    """Three significant digits, or one decimal from 10 on."""
    if number >= 10:
        return f"{number:.1f}"
    return f"{number:.{2 - math.floor(math.log10(number))}f}" if number else "0"


def show_published(networks: Sequence["Network"], screen: "Screen") -> None:
    from froster.published import base_to_novel, cross_dataset

    title = "Published, base to novel: top-1 on base and novel classes, harmonic mean"
    show_scores(title, base_to_novel(), lambda scores: triple(**scores), networks, screen)
    title = "Published, trained on K-400, tested on other data: top-1"
    show_scores(title, cross_dataset(), lambda scores: mean_and_std(**scores), networks, screen)
    show_note(LEGEND, screen)


def show_models(screen: "Screen") -> None:
    """The released models that can be loaded by name: license, size, cost and published accuracy on ImageNet."""
    from froster.checkpoints.releases import released_models

    def numbers(*values: float | None) -> list[str]:
        return ["–" if value is None else f"{value:,.1f}" for value in values]

    models = released_models().values()
    screen.print("\nReleased models that load by name", style="bold", soft_wrap=True)
    rows = [[m.name, m.license, f"{m.megabytes:,}", *numbers(m.gflops, m.imagenet)] for m in models]
    show_table(["", "license", "MB", "GFLOPs", "IN-1k"], rows, screen, texts=2)
    show_note("GFLOPs of one frame; IN-1k: ImageNet zero-shot top-1 in percent.", screen)


def triple(base: float, novel: float, hm: float) -> str:
    return f"{base:4.1f} {novel:4.1f} {hm:4.1f}"


def mean_and_std(mean: float, std: float | None = None) -> str:
    return f"{mean:.1f}      " if std is None else f"{mean:.1f} ± {std:.1f}"


def show_scores(
    title: str,
    rows: Sequence["Published"],
    cell: Callable[[dict[str, float]], str],
    networks: Sequence["Network"],
    screen: "Screen",
) -> None:
    """A table of published numbers with its sources; students without any have a row of dashes."""
    titles = {network.name: network.title for network in networks}
    rows = [row for row in rows if row.student in titles]
    data = list(dict.fromkeys(name for row in rows for name in row.scores))
    sources = list(dict.fromkeys(source_of(row) for row in rows))
    lines = []
    for row in rows:
        reference = str(1 + sources.index(source_of(row))).translate(RAISED)
        lines.append([row.method + reference, *(cell(row.scores[d]) if d in row.scores else "–" for d in data)])
    missing = [name for name in titles if name not in {row.student for row in rows}]
    lines += [[titles[name], *("–" for _ in data)] for name in missing]
    screen.print(f"\n{title}", style="bold", soft_wrap=True)
    show_table(["", *data], lines, screen)
    for number, source in enumerate(sources, start=1):
        show_note(str(number).translate(RAISED) + " " + source, screen)


def source_of(row: "Published") -> str:
    return f"{row.source}; {row.note}" if row.note else row.source


def show_puppets(puppets: Sequence["PuppetsScores"], title: str, screen: "Screen") -> None:
    """A table per regime, with the number of draws."""
    from froster.bench.report import cell_text
    from froster.bench.results import REGIMES

    screen.print(f"\n{title}", style="bold", soft_wrap=True)
    if not puppets:
        show_note("No results of these methods so far.", screen)
        return
    for regime in dict.fromkeys(scores.regime for scores in puppets):
        rows = [
            [scores.method, *map(cell_text, (scores.base, scores.novel, scores.hm)), str(scores.hm.n)]
            for scores in puppets
            if scores.regime == regime
        ]
        screen.print(f"\n{regime}: {REGIMES[regime]}", soft_wrap=True)
        show_table(["", "base", "novel", "HM", "draws"], rows, screen)
    show_note(PUPPETS_LEGEND, screen)


def show_note(text: str, screen: "Screen") -> None:
    for line in textwrap.wrap(text, min(screen.width, 120), break_on_hyphens=False):
        screen.print(line, style="dim", soft_wrap=True)
