"""Closed-set against zero-shot accuracy as CLIP's share in the weights grows (Open-VCLIP Fig. 2)."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from froster.data.trained import note_trained_videos
from froster.errors import FrosterError
from froster.extras import extra
from froster.files import printable_name, replace_when_written
from froster.markdown import markdown_table
from froster.protocols.cross_dataset import classes_of, zero_shot_part
from froster.protocols.data import ProtocolData, incompleteness
from froster.protocols.models import ShowProgress, no_progress
from froster.protocols.parts import Part, evaluate_part, select_videos
from froster.protocols.results import about_lines, videos_text
from froster.protocols.scores import score_dataset
from froster.settings import InferenceSettings
from froster.students import VideoStudent
from froster.text.classes import ClassTexts

with extra("cli", "Drawing the trade-off"):
    from matplotlib.figure import Figure

RATIOS = (0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.0)  # those of the figure


@dataclass(frozen=True)
class TradeOff:
    """Top-1 in percent of each dataset at each ratio, the interpolation weight of CLIP.

    `clips`, `classes`: how many of each dataset were tested.
    """

    closed: str
    ratios: list[float]
    top1: dict[str, list[float]]
    clips: dict[str, int] = field(default_factory=dict)
    classes: dict[str, int] = field(default_factory=dict)
    unreadable: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def measure_trade_off(
    models: Sequence[VideoStudent],
    ratios: Sequence[float],
    closed: ProtocolData,
    others: Sequence[ProtocolData],
    descriptions: dict[str, ClassTexts],
    out: Path,
    settings: InferenceSettings,
    show_progress: ShowProgress = no_progress,
) -> TradeOff:
    """Test all models on the test split of `closed` and on `zero_shot_part` of the others.

    Each video is decoded once for all models. Raises `FrosterError` where there is no other dataset than `closed`, or
    one has no video to test.
    """
    others = [data for data in others if data.name != closed.name]
    if not others:
        raise FrosterError(f"There is nothing to set against {closed.title}: name other datasets to test.")
    trade_off = TradeOff(closed.title, list(ratios), {})
    closed_part = Part("all", classes_of(closed), (closed.test_split,))
    tested = [(closed, closed.title, closed_part), *((data, *zero_shot_part(data)) for data in others)]
    for data, column, part in tested:
        labels = descriptions.get(data.name, ClassTexts()).for_names(part.classes)
        videos = select_videos(data.videos, [part])
        if not videos:
            raise FrosterError(f"{data.manifest} has no video of {column} to test, in {part.videos_from}.")
        trade_off.notes.extend(note_trained_videos(models[0].trained_on, videos, data.title))
        with show_progress(data.title) as progress:
            scores = score_dataset(models, labels, videos, out / data.name / "scores", settings, progress)
        found = [evaluate_part(of_model, part) for of_model in scores]
        trade_off.top1[column] = [100 * evaluation.top1 for evaluation in found]
        trade_off.clips[column], trade_off.classes[column] = found[0].clips, found[0].classes
        trade_off.notes.extend(filter(None, [incompleteness(data)]))
        trade_off.unreadable.extend(scores[0].unreadable)
    return trade_off


def draw_trade_off(trade_off: TradeOff) -> Figure:
    """A line for each dataset that was not trained on: its accuracy against that of the trained one."""
    figure = Figure(figsize=(7.0, 5.0), dpi=150, facecolor="white", layout="constrained")
    axis = figure.add_subplot()
    closed = trade_off.top1[trade_off.closed]
    for name, open_set in trade_off.top1.items():
        if name == trade_off.closed:
            continue
        ordered = sorted(zip(trade_off.ratios, closed, open_set, strict=True))
        _, x, y = zip(*ordered, strict=True)
        [line] = axis.plot(x, y, marker="o", markersize=5, linewidth=1.8, label=name)
        for ratio, at, up in ordered:
            axis.annotate(
                f"{ratio:g}", (at, up), textcoords="offset points", xytext=(5, 4), fontsize=8, color=line.get_color()
            )
    axis.set_xlabel(f"closed set: top-1 on {trade_off.closed}, %")
    axis.set_ylabel("zero-shot: top-1, %")
    axis.grid(alpha=0.25)
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False)
    axis.set_title("Share of CLIP in the weights, at each point", loc="left", fontsize=10, color="#555555")
    return figure


def write_trade_off(trade_off: TradeOff, about: dict[str, Any], out: Path) -> list[Path]:
    """Write `trade-off.md`, `.json` and `.png` into `out`, each whole or not at all; `about` says what was tested."""
    header = ["share of CLIP", *trade_off.top1]
    rows = [
        [f"{ratio:g}", *(f"{values[place]:.1f}" for values in trade_off.top1.values())]
        for place, ratio in enumerate(trade_off.ratios)
    ]
    lines = [f"# Closed set ({trade_off.closed}) against zero-shot", "", *about_lines(about), ""]
    lines += [markdown_table(header, rows), ""]
    lines += [f"- {name}: {clips} clips, {trade_off.classes[name]} classes" for name, clips in trade_off.clips.items()]
    lines += [f"- {note}" for note in trade_off.notes]
    if trade_off.unreadable:
        lines.append(f"- {videos_text(len(trade_off.unreadable))} could not be read; trade-off.json lists them.")
    texts = {
        out / "trade-off.md": "\n".join(lines) + "\n",
        out / "trade-off.json": json.dumps(about | asdict(trade_off), indent=2, ensure_ascii=False) + "\n",
    }
    for path, text in texts.items():
        with replace_when_written(path) as temporary:
            temporary.write_text(printable_name(text), encoding="utf-8")
    plot = out / "trade-off.png"
    with replace_when_written(plot) as temporary:
        draw_trade_off(trade_off).savefig(temporary)
    return [*texts, plot]
