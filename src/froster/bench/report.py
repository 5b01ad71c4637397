"""Results as tables, plots and a page of its own."""

import base64
import itertools
import math
import re
from collections.abc import Callable, Sequence
from importlib.resources import files
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from froster.bench.placement import Label, freeze_layout, place_labels
from froster.bench.results import METHODS, REGIMES, Result, aggregate, paired_difference, select
from froster.errors import FrosterError
from froster.extras import extra
from froster.files import replace_when_written
from froster.markdown import markdown_table
from froster.mean_std import MeanStd
from froster.webpage import html_page

with extra("cli", "The benchmark"):
    from markdown_it import MarkdownIt
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator
    from rich.table import Table
    from rich.text import Text

SCORES = ("base", "novel", "hm")
Choice = tuple[str, list[Result]]  # what a row of a table is called, and its results

TITLE = "Puppets: what fine-tuning forgets and FROSTER keeps"
LEGEND = (
    "Top-1 in percent: mean ± standard deviation over the draws of training clips. HM is the harmonic mean of base "
    "and novel. Differences are paired, draw by draw: mean ± standard error."
)

# Okabe and Ito's colors and Tol's, told apart without seeing red and green; the markers tell them apart in gray too.
STYLES = {
    "frozen": ("#4d4d4d", "s"),
    "fine_tuned": ("#d55e00", "o"),
    "weight_l2": ("#e69f00", "D"),
    "open_vclip": ("#0072b2", "^"),
    "no_projector": ("#cc79a7", "v"),
    "plain": ("#882255", "<"),
    "residual": ("#009e73", "o"),
    "distill_video": ("#56b4e9", "P"),
    "distill_text": ("#999933", "X"),
    "froster_averaged": ("#117733", ">"),
}
HOLLOW = {"fine_tuned_patched": "fine_tuned", "no_projector_patched": "no_projector", "plain_patched": "plain"}
HOLLOW["froster_patched"] = "froster_averaged"
STYLES |= {patched: STYLES[method] for patched, method in HOLLOW.items()}
PLOTTED = tuple(STYLES)  # against each other; weight averaging of the compared methods is in the tables
STYLES |= {f"{method}_averaged": STYLES[method] for method in ("fine_tuned", "no_projector", "plain")}
PLOT_NAMES = METHODS | {"residual": "FROSTER"}
SCORE_STYLES = {"base": ("#555555", "^", 1.4), "hm": (STYLES["residual"][0], "o", 2.4), "novel": ("#888888", "v", 1.4)}
INK, GRAY, FAINT = "#222222", "#767676", "#e3e3e3"


def write_report(results: Sequence[Result], out: Path, notes: str = "") -> list[Path]:
    """Write `results.md`, `results.html` and the plots that there are data for into `out`; returns the files.

    `notes` is Markdown that goes above the tables: how the results came about. Raises `FrosterError` without results.
    """
    if not results:
        raise FrosterError("There are no results to report: let the benchmark train and test at least one network.")
    plots = []
    for name, draw in (("base-novel", draw_base_novel), ("alpha-beta", draw_alpha_beta), ("ratios", draw_ratios)):
        figure = draw(results)
        if figure is not None:
            plots.append(out / f"{name}.png")
            with replace_when_written(plots[-1]) as temporary:
                figure.savefig(temporary)
    markdown = markdown_report(results, [plot.name for plot in plots], notes)
    pages = {out / "results.md": markdown, out / "results.html": results_page(markdown, plots, TITLE)}
    for path, text in pages.items():
        with replace_when_written(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
    return [*pages, *plots]


def summary_table(results: Sequence[Result], regime: str) -> Table:
    """The methods of one regime for the terminal, the best harmonic mean emphasized."""
    table = Table(title=REGIMES[regime], title_justify="left", title_style="bold", box=None, pad_edge=False)
    table.add_column("top-1 (%)")
    for name in ("base", "novel", "HM", "draws"):
        table.add_column(name, justify="right", no_wrap=True)
    choices = method_choices(results, regime, METHODS)
    best = best_mean(choices)
    for name, chosen in choices:
        style = "bold green" if shown_mean(chosen) == best else "default"
        table.add_row(*(Text(text, style=style) for text in (name, *score_texts(chosen), str(len(chosen)))))
    return table


# --- tables ---------------------------------------------------------------------------------------------------------


def markdown_report(results: Sequence[Result], plots: Sequence[str], notes: str) -> str:
    """The whole report in GitHub's Markdown; `plots` are the names of its image files."""
    regimes = [regime for regime in REGIMES if any(result.regime == regime for result in results)]
    parts = [f"# {TITLE}", *(headline(results, regime) for regime in regimes), notes.strip(), LEGEND]
    for regime in regimes:
        parts += [f"## {REGIMES[regime]}", main_table(results, regime)]
    parts.append(
        link(plots, "base-novel", "Base against novel top-1: each method, and what averaging and patching make of it")
    )

    def of_methods(names: dict[str, str]) -> Callable[[str], list[Choice]]:
        return lambda regime: method_choices(results, regime, names)

    def of_setting(setting: str) -> Callable[[str], list[Choice]]:
        return lambda regime: setting_choices(results, regime, setting)

    projectors = {"no_projector": "(a) none", "plain": "(b) two layers", "residual": "(c) residual"}
    distilled = {"residual": "video and text", "distill_video": "video only", "distill_text": "text only"}
    ablations = [
        ("Alpha of the residual projector", "alpha", of_setting("alpha")),
        ("Beta, the weight of distillation", "beta", of_setting("beta")),
        ("Zero initialization of the residual projector", "zero initialization", of_setting("zero_init")),
        ("Projector", "projector", of_methods(projectors)),
        ("What is distilled", "distilled", of_methods(distilled)),
    ]
    for title, column, choices in ablations:
        table = ablation_table(results, regimes, column, choices)
        parts += [f"## {title}", table] if table else []
        if column == "beta":
            parts.append(link(plots, "alpha-beta", "Base, novel and harmonic mean against alpha and beta"))
    tables = [(regime, ratio_table(results, regime)) for regime in regimes]
    if any(table for _, table in tables):
        parts += ["## Interpolation weight of CLIP in the tested weights", "Base / novel / HM, means over the draws."]
        parts += [part for regime, table in tables if table for part in (f"### {REGIMES[regime]}", table)]
        parts.append(link(plots, "ratios", "Base against novel top-1 at interpolation weights of CLIP from 0 to 1"))
    return "\n\n".join(filter(None, parts)) + "\n"


def link(plots: Sequence[str], name: str, description: str) -> str:
    return f"![{description}]({name}.png)" if f"{name}.png" in plots else ""


def headline(results: Sequence[Result], regime: str) -> str:
    """One sentence: what fine-tuning does to the frozen CLIP's novel classes, and what FROSTER wins back."""
    frozen, tuned, froster = (select(results, regime, method) for method in ("frozen", "fine_tuned", "residual"))
    if not frozen or not tuned:
        return ""
    start, end = ({score: aggregate(r, score).mean for score in SCORES} for r in (frozen, tuned))
    change = paired_difference(tuned, frozen, "novel")
    lost = change[0] < 0
    sentence = (
        f"**{REGIMES[regime]}:** fine-tuning takes base classes from {start['base']:.1f} to {end['base']:.1f} % "
        f"and {'loses' if lost else 'gains'} {points_text(change)} on novel ones "
        f"({start['novel']:.1f} to {end['novel']:.1f} %)"
    )
    if froster:
        against = paired_difference(froster, tuned, "novel")
        gained = against[0] > 0
        verb = ("wins back" if lost else "gains another") if gained else ("loses another" if lost else "gives back")
        base, novel = (aggregate(froster, score).mean for score in ("base", "novel"))
        above = ", more than the frozen CLIP" if novel > start["novel"] else ""
        sentence += f"; **FROSTER {verb} {points_text(against)}** ({novel:.1f} %{above}), at {base:.1f} % on base ones"
    return sentence + "."


def points_text(difference: tuple[float, float, int]) -> str:
    mean, error, _ = difference
    return f"{abs(mean):.1f} points" if math.isnan(error) else f"{abs(mean):.1f} ± {error:.1f} points"


def main_table(results: Sequence[Result], regime: str) -> str:
    frozen, tuned = (select(results, regime, method) for method in ("frozen", "fine_tuned"))
    choices = method_choices(results, regime, METHODS)
    best = best_mean(choices)
    rows = [
        [
            name,
            *emphasized(score_texts(chosen), shown_mean(chosen) == best),
            difference_text(chosen, frozen),
            difference_text(chosen, tuned),
            str(len(chosen)),
        ]
        for name, chosen in choices
    ]
    header = ["method", "base", "novel", "HM", "HM less frozen CLIP", "HM less fine-tuned", "draws"]
    return markdown_table(header, rows)


def ablation_table(
    results: Sequence[Result], regimes: Sequence[str], column: str, choices: Callable[[str], list[Choice]]
) -> str:
    """Rows of every regime that has more than one choice, compared with FROSTER as it is by default."""
    rows = []
    for regime in regimes:
        here = choices(regime)
        if len(here) < 2:
            continue
        best, froster = best_mean(here), select(results, regime, "residual")
        rows += [
            [
                name,
                regime,
                *emphasized(score_texts(chosen), shown_mean(chosen) == best),
                difference_text(chosen, froster),
                str(len(chosen)),
            ]
            for name, chosen in here
        ]
    header = [column, "classes", "base", "novel", "HM", "HM less FROSTER", "draws"]
    return markdown_table(header, rows) if rows else ""


def ratio_table(results: Sequence[Result], regime: str) -> str:
    """A row a ratio and a column a method that was tested at several; the last row is CLIP itself."""
    curves = ratio_curves(results, regime)
    if not curves:
        return ""
    best = {method: best_mean([("", chosen) for chosen in curve.values()]) for method, curve in curves.items()}
    rows = []
    for ratio in sorted(set(itertools.chain(*curves.values()))):
        row = [f"{ratio:g}"]
        for method, curve in curves.items():
            chosen = curve.get(ratio)
            row.append(joined_means(chosen, shown_mean(chosen) == best[method]) if chosen else "–")
        rows.append(row)
    return markdown_table(["ratio", *(METHODS[method] for method in curves)], rows)


def joined_means(results: Sequence[Result], is_best: bool) -> str:
    *others, hm = (f"{aggregate(results, score).mean:.1f}" for score in SCORES)
    return " / ".join([*others, f"**{hm}**" if is_best else hm])


def method_choices(results: Sequence[Result], regime: str, names: dict[str, str]) -> list[Choice]:
    return [(name, chosen) for key, name in names.items() if (chosen := select(results, regime, key))]


def setting_choices(results: Sequence[Result], regime: str, setting: str) -> list[Choice]:
    """FROSTER at each value of one setting, the others at their defaults, on the draws that all values have."""
    values = sorted({getattr(result, setting) for result in results if result.method == "residual"})
    choices = [(value, select(results, regime, "residual", **{setting: value})) for value in values]
    found: dict[float, list[Result]] = {value: chosen for value, chosen in choices if chosen}
    named = {True: "yes", False: "no"} if setting == "zero_init" else {}
    return [(named.get(bool(value), f"{value:g}"), chosen) for value, chosen in on_common_draws(found).items()]


def on_common_draws(choices: dict[float, list[Result]]) -> dict[float, list[Result]]:
    """The same draws everywhere: means over different ones cannot be compared."""
    draws = set.intersection(*({result.draw for result in chosen} for chosen in choices.values())) if choices else set()
    return {value: [result for result in chosen if result.draw in draws] for value, chosen in choices.items()}


def ratio_curves(results: Sequence[Result], regime: str) -> dict[str, dict[float, list[Result]]]:
    """By method and ratio, from 0 up, on common draws; methods tested at three or more, each ends in CLIP itself."""
    frozen = select(results, regime, "frozen")
    curves = {}
    for method in METHODS:
        ratios = sorted({r.ratio for r in results if (r.regime, r.method) == (regime, method)})
        curve = {ratio: chosen for ratio in ratios if (chosen := select(results, regime, method, ratio=ratio))}
        if method != "frozen" and len(curve) > 2:
            curves[method] = on_common_draws(curve) | ({1.0: frozen} if frozen else {})
    return curves


def score_texts(results: Sequence[Result]) -> list[str]:
    return [cell_text(aggregate(results, score)) for score in SCORES]


def cell_text(cell: MeanStd) -> str:
    return f"{cell.mean:.1f}" if math.isnan(cell.std) else f"{cell.mean:.1f} ± {cell.std:.1f}"


def difference_text(results: Sequence[Result], reference: Sequence[Result]) -> str:
    mean, error, draws = paired_difference(results, reference)
    if not draws or list(results) == list(reference):
        return "–"
    signed = f"{mean:+.1f}".replace("-", "−")
    return signed if math.isnan(error) else f"{signed} ± {error:.1f}"


def shown_mean(results: Sequence[Result]) -> str:
    return f"{aggregate(results, 'hm').mean:.1f}"


def best_mean(choices: Sequence[Choice]) -> str:
    """The highest harmonic mean as it is shown: what looks equal is equally good."""
    return max((shown_mean(chosen) for _, chosen in choices), key=float, default="")


def emphasized(texts: Sequence[str], is_best: bool) -> list[str]:
    return [*texts[:-1], f"**{texts[-1]}**" if is_best else texts[-1]]


# --- the page -------------------------------------------------------------------------------------------------------


def results_page(markdown: str, plots: Sequence[Path], title: str) -> str:
    """The report as one page that needs nothing else: `plots` are inside it."""
    parser = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = parser.parse(markdown)
    pictures = {plot.name: f"data:image/png;base64,{base64.b64encode(plot.read_bytes()).decode()}" for plot in plots}
    for token in tokens:
        for child in token.children or ():
            source = str(child.attrs.get("src", ""))
            if source in pictures:
                child.attrs["src"] = pictures[source]
    body = parser.renderer.render(tokens, parser.options, {})
    scroll = '<div class="scroll" role="region" aria-label="{}" tabindex="0">\n{}'
    body = body.replace("<table>", scroll.format("Table", "<table>")).replace("</table>", "</table>\n</div>")
    body = re.sub(r"<p>(<img [^>]*>)</p>", scroll.format("Plot", r"\1\n</div>"), body)
    body = re.sub(r"(?<=\d) (?=[±%])", "\u00a0", body)
    style = files("froster.bench").joinpath("page.css").read_text(encoding="utf-8")
    return html_page(title, style, f"<main>\n{body}</main>")


# --- plots ----------------------------------------------------------------------------------------------------------


def draw_base_novel(results: Sequence[Result]) -> Figure | None:
    """Base against novel, a panel a regime and a point a method, over lines of equal harmonic mean."""
    panels = {}
    for regime in REGIMES:
        chosen = {method: found for method in PLOTTED if (found := select(results, regime, method))}
        if chosen.keys() - {"frozen"}:
            panels[regime] = {
                method: (aggregate(found, "base"), aggregate(found, "novel")) for method, found in chosen.items()
            }
    if not panels:
        return None
    figure, axes = stacked_panels(len(panels))
    labels: list[list[Label]] = []
    lines: list[list[NDArray[np.float64]]] = []
    for axis, (regime, points) in zip(axes, panels.items(), strict=True):
        set_limits(axis, *zip(*points.values(), strict=True))
        named_above = draw_harmonic_means(axis)
        name_panel(axis, regime, pad=20 if named_above else 10)
        labels.append([])
        lines.append([])
        if "frozen" in points:
            x, y = (cell.mean for cell in points["frozen"])
            (left, right), (bottom, top) = axis.get_xlim(), axis.get_ylim()
            for line in (np.array([[x, bottom], [x, top]]), np.array([[left, y], [right, y]])):
                axis.plot(*line.T, color=STYLES["frozen"][0], linewidth=0.9, linestyle=(0, (4, 3)), zorder=1.5)
                lines[-1].append(line)
        for method, (base, novel) in points.items():
            color, marker = STYLES[method]
            ours = method == "residual"
            across, up = spread(base), spread(novel)
            bars = np.array([[base.mean - across, novel.mean], [base.mean + across, novel.mean]])
            lines[-1] += [bars, np.array([[base.mean, novel.mean - up], [base.mean, novel.mean + up]])]
            axis.errorbar(
                base.mean, novel.mean, up, across, color=color, elinewidth=1.1, alpha=0.55, fmt="none", zorder=2
            )
            size = 10 if ours else 7.5
            face, edge = ("white", color) if method in HOLLOW else (color, "white")
            axis.plot(base.mean, novel.mean, marker, color=face, markersize=size, markeredgecolor=edge, zorder=3)
            labels[-1].append(Label(base.mean, novel.mean, PLOT_NAMES[method], color, 9.5, bold=ours))
    footnote(
        figure,
        "Hollow: averaged and patched. Bars: standard deviation over the draws of training clips.\n"
        "Gray curves: equal harmonic mean, HM. Averaged epochs of the compared methods: see the table.",
    )
    freeze_layout(figure)
    for axis, names, avoided in zip(axes, labels, lines, strict=True):
        place_labels(axis, names, avoided)
    return figure


def draw_alpha_beta(results: Sequence[Result]) -> Figure | None:
    """Base, novel and harmonic mean of FROSTER against alpha and against beta, a row a regime."""
    sweeps = {
        (regime, setting): choices
        for regime in REGIMES
        for setting in ("alpha", "beta")
        if len(choices := setting_choices(results, regime, setting)) > 1
    }
    regimes = [regime for regime in REGIMES if any(key[0] == regime for key in sweeps)]
    settings = [setting for setting in ("alpha", "beta") if any(key[1] == setting for key in sweeps)]
    if not sweeps:
        return None
    size = (8 if len(settings) > 1 else 6, 3.4 * len(regimes) + 0.4)
    figure = Figure(figsize=size, dpi=150, facecolor="white", layout="constrained")
    grid = figure.subplots(len(regimes), len(settings), squeeze=False, sharey="row")
    for regime, row in zip(regimes, grid, strict=True):
        drawn = [key for key in sweeps if key[0] == regime]
        panels = dict(zip(settings, row, strict=True))
        for setting, axis in panels.items():
            if (regime, setting) in drawn:
                draw_sweep(axis, setting, sweeps[regime, setting])
            else:
                axis.set_visible(False)
        first, last = panels[drawn[0][1]], panels[drawn[-1][1]]
        first.set_ylabel("top-1 (%)", color=INK)
        name_panel(first, regime)
        name_lines(last, sweeps[drawn[-1]][-1][1])
    footnote(figure, "Bars: standard deviation over the draws. HM: harmonic mean of base and novel.")
    return figure


def draw_sweep(axis: Axes, setting: str, choices: Sequence[Choice]) -> None:
    values = [float(name) for name, _ in choices]
    for score, (color, marker, width) in SCORE_STYLES.items():
        cells = [aggregate(chosen, score) for _, chosen in choices]
        axis.errorbar(
            values,
            [cell.mean for cell in cells],
            [spread(cell) for cell in cells],
            color=color,
            marker=marker,
            linewidth=width,
            elinewidth=1,
            markersize=6,
        )
    tidy(axis)
    if setting == "alpha":
        axis.set_xscale("log")
    axis.set_xticks(values, [name for name, _ in choices])
    axis.minorticks_off()
    axis.margins(x=0.08, y=0.08)
    axis.grid(axis="y", color=FAINT, linewidth=0.8)
    axis.set_axisbelow(True)
    axis.set_xlabel({"alpha": "alpha (default 0.1)", "beta": "beta (default 2)"}[setting], color=INK)


def name_lines(axis: Axes, ends: Sequence[Result]) -> None:
    """Names of a sweep's lines at their right ends, the means of `ends`, pushed apart where these are close."""
    bottom, top = axis.get_ylim()
    gap, height = 0.065 * (top - bottom), -math.inf
    for end, score in sorted((aggregate(ends, score).mean, score) for score in SCORES):
        height = max(end, height + gap)
        axis.text(
            1.02,
            height,
            {"hm": "HM"}.get(score, score),
            transform=axis.get_yaxis_transform(),
            va="center",
            color=SCORE_STYLES[score][0],
            fontweight="bold" if score == "hm" else "normal",
        )


def draw_ratios(results: Sequence[Result]) -> Figure | None:
    """Base against novel as the share of CLIP in the weights goes from 0 to 1: Open-VCLIP's Fig. 2."""
    panels = {regime: curves for regime in REGIMES if (curves := ratio_curves(results, regime))}
    if not panels:
        return None
    figure, axes = stacked_panels(len(panels))
    labels: list[list[Label]] = []
    lines: list[list[NDArray[np.float64]]] = []
    for axis, (regime, curves) in zip(axes, panels.items(), strict=True):
        name_panel(axis, regime)
        labels.append([])
        lines.append([])
        shown: list[tuple[MeanStd, MeanStd]] = []
        for method, curve in curves.items():
            color, marker = STYLES[method]
            ours = method == "residual"
            cells = [(aggregate(chosen, "base"), aggregate(chosen, "novel")) for chosen in curve.values()]
            means = np.array([[base.mean, novel.mean] for base, novel in cells])
            shown += cells
            axis.plot(*means.T, color=color, linewidth=2.2 if ours else 1.5, zorder=2)
            lines[-1].append(means)
            for ratio, (x, y) in zip(curve, means, strict=True):
                if ratio == 1:
                    continue
                axis.plot(x, y, marker, color=color, markersize=7 if ours else 6, markeredgecolor="white", zorder=3)
                labels[-1].append(Label(x, y, f"{ratio:g}", color, 8, reach=9))
            labels[-1].insert(0, Label(means[0, 0], means[0, 1], PLOT_NAMES[method], color, 10, bold=ours))
        if frozen := select(results, regime, "frozen"):
            x, y = (aggregate(frozen, score).mean for score in ("base", "novel"))
            color, marker = STYLES["frozen"]
            axis.plot(x, y, marker, color=color, markersize=8, markeredgecolor="white", zorder=4)
            labels[-1].insert(0, Label(x, y, f"{METHODS['frozen']} (1)", color, 10))
        set_limits(axis, *zip(*shown, strict=True))
    footnote(figure, "Numbers at the points: interpolation weight of CLIP; 0 is the trained network itself.")
    freeze_layout(figure)
    for axis, names, avoided in zip(axes, labels, lines, strict=True):
        place_labels(axis, names, avoided)
    return figure


def stacked_panels(count: int) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(8, 4.9 * count + 0.2), dpi=150, facecolor="white", layout="constrained")
    axes = list(figure.subplots(count, squeeze=False)[:, 0])
    for axis in axes:
        tidy(axis)
        axis.set_xlabel("base classes, top-1 (%)", color=INK)
        axis.set_ylabel("novel classes, top-1 (%)", color=INK)
    return figure, axes


def name_panel(axis: Axes, regime: str, pad: float = 10) -> None:
    axis.set_title(REGIMES[regime], loc="left", fontweight="bold", fontsize=11.5, color=INK, pad=pad)


def tidy(axis: Axes) -> None:
    axis.spines[["top", "right"]].set_visible(False)
    axis.spines[["left", "bottom"]].set_color("#9a9a9a")
    axis.tick_params(color="#9a9a9a", labelcolor=INK, labelsize=9.5)


def footnote(figure: Figure, text: str) -> None:
    figure.supxlabel(text, x=0.01, ha="left", fontsize=8.5, color=GRAY)


def spread(cell: MeanStd) -> float:
    """Half the length of an error bar."""
    return 0.0 if math.isnan(cell.std) else cell.std


def set_limits(axis: Axes, base: Sequence[MeanStd], novel: Sequence[MeanStd]) -> None:
    """Room around all points and bars, most of it at the right, where the labels go; at least 8 points of accuracy."""
    for cells, before, behind, limit in ((base, 0.1, 0.32, axis.set_xlim), (novel, 0.1, 0.1, axis.set_ylim)):
        low = min(cell.mean - spread(cell) for cell in cells)
        high = max(cell.mean + spread(cell) for cell in cells)
        room = max(high - low, 8)
        middle = (low + high) / 2
        limit(middle - (0.5 + before) * room, middle + (0.5 + behind) * room)
    for ticks in (axis.xaxis, axis.yaxis):
        low, high = ticks.get_view_interval()
        places = MaxNLocator(7, steps=[1, 2, 5, 10]).tick_values(low, high)
        ticks.set_ticks([place for place in places if max(low, 0) <= place <= min(high, 100)])


def draw_harmonic_means(axis: Axes) -> bool:
    """Faint curves of equal harmonic mean, each labeled next to or above the panel; whether one is named above it."""
    named_above = False
    (left, right), (bottom, top) = axis.get_xlim(), axis.get_ylim()
    lowest, highest = (2 * x * y / (x + y) for x, y in ((max(left, 1), max(bottom, 1)), (right, top)))
    for mean in MaxNLocator(8, steps=[1, 2, 5, 10]).tick_values(lowest, highest):
        if not 0 < mean < min(highest, 100):
            continue
        base = np.linspace(max(left, 0.501 * mean), right, 400)
        novel = mean * base / (2 * base - mean)
        inside = (novel >= bottom) & (novel <= top)
        enters = mean * top / (2 * top - mean) if 2 * top > mean else math.inf
        if bottom + 0.04 * (top - bottom) < novel[-1] < top - 0.02 * (top - bottom):
            place, alignment, transform = (1.008, novel[-1]), ("left", "center"), axis.get_yaxis_transform()
        elif left + 0.03 * (right - left) < enters < right - 0.03 * (right - left):
            place, alignment, transform = (enters, 1.008), ("center", "bottom"), axis.get_xaxis_transform()
            named_above = True
        else:
            continue
        axis.plot(base[inside], novel[inside], color=FAINT, linewidth=1, zorder=1)
        horizontal, vertical = alignment
        axis.text(*place, f"HM {mean:g}", transform=transform, ha=horizontal, va=vertical, fontsize=8, color=GRAY)
    return named_above
