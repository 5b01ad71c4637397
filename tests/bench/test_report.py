import base64
import io
import itertools
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from rich.console import Console

from froster.bench.report import PLOTTED, draw_alpha_beta, draw_base_novel, draw_ratios, summary_table, write_report
from froster.bench.results import METHODS as NAMES
from froster.bench.results import REGIMES, Result, select
from froster.errors import FrosterError

METHODS = {method: name for method, name in NAMES.items() if method in PLOTTED}  # those that the synthetic results have

DRAWS = 5
RATIOS = (0.0, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
ACCURACY = {
    "fine_tuned": (91, 46),
    "weight_l2": (86, 52),
    "open_vclip": (88, 55),
    "no_projector": (88.7, 54.2),
    "plain": (90.4, 49.8),
    "residual": (90.3, 58.1),
    "distill_video": (89.9, 54.9),
    "distill_text": (90.8, 52.9),
    "froster_averaged": (90.1, 59.6),
    "froster_patched": (87, 62.4),
    "fine_tuned_patched": (88.2, 61.1),
    "no_projector_patched": (86.2, 61.5),
    "plain_patched": (87.8, 60.3),
}
NOTES = "`froster bench puppets`, on <two> & more cores\n\n| student | learning rate |\n|---|---|\n| vclip | 3e-5 |"


def synthetic_results() -> list[Result]:
    """Every method on five draws in both regimes, sweeps of FROSTER's settings, and three ratio curves."""
    rng = np.random.default_rng(0)
    results = []
    for regime, lift in (("hard", 0), ("few", 0), ("many", 9)):
        clip = np.array([62.1, 60.4])
        results.append(Result(regime, "frozen", 0, *clip.tolist(), ratio=1.0))
        for draw in range(DRAWS):

            def tested(
                method: str, where: np.ndarray, regime: str = regime, draw: int = draw, **settings: float
            ) -> Result:
                base, novel = (where + rng.normal(0, 0.6, 2)).tolist()
                return Result(regime, method, draw, base, novel, **settings)

            for method, accuracy in ACCURACY.items():
                end = np.add(accuracy, (0, lift))
                if method in ("fine_tuned", "open_vclip", "residual"):
                    for ratio in RATIOS:
                        bow = 20 * ratio * (1 - ratio)
                        results.append(tested(method, ratio * clip + (1 - ratio) * end + bow, ratio=ratio))
                else:
                    results.append(tested(method, end, ratio=0.5 if method.endswith("_patched") else 0.0))
            end = np.add(ACCURACY["residual"], (0, lift))
            results += [tested("residual", end - 1, alpha=alpha) for alpha in (1.0, 0.5, 0.05)]
            results += [tested("residual", end - 1, beta=beta) for beta in (1.0, 3.0)]
            results.append(tested("residual", end - 2, zero_init=False))
    return results


@pytest.fixture(scope="module")
def results() -> list[Result]:
    return synthetic_results()


@pytest.fixture(scope="module")
def report(results: list[Result], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("report")
    files = write_report(results, out, NOTES)
    assert sorted(path.name for path in files) == sorted(path.name for path in out.iterdir())
    return out


def sections(markdown: str) -> dict[str, list[list[str]]]:
    """The rows of the last table under each heading, headers included."""
    tables: dict[str, list[list[str]]] = {}
    heading = ""
    for line in markdown.splitlines():
        if line.startswith("#"):
            heading = line.lstrip("# ")
            while heading in tables:
                heading += " again"
        elif line.startswith("|") and "--" not in line:
            tables.setdefault(heading, []).append([cell.strip() for cell in line.strip("|").split("|")])
    return tables


def scores(results: list[Result], regime: str, method: str, **settings: float) -> np.ndarray:
    """`(draws, 3)`: base, novel and harmonic mean, in the order of the draws."""
    wanted = {"ratio": 0.5 if method == "open_vclip" or method.endswith("_patched") else 0.0, "alpha": 0.1, "beta": 2.0}
    wanted |= {"zero_init": True} | settings
    found = sorted(
        (r.draw, r.base, r.novel)
        for r in results
        if r.regime == regime and r.method == method and all(getattr(r, key) == wanted[key] for key in wanted)
    )
    base, novel = np.array(found)[:, 1:].T
    return np.stack([base, novel, 2 * base * novel / (base + novel)], axis=1)


def as_texts(values: np.ndarray) -> list[str]:
    return [
        f"{mean:.1f} ± {std:.1f}" for mean, std in zip(values.mean(axis=0), values.std(axis=0, ddof=1), strict=True)
    ]


def difference(a: np.ndarray, b: np.ndarray) -> str:
    paired = (a - b)[:, 2]
    return f"{paired.mean():+.1f} ± {paired.std(ddof=1) / np.sqrt(len(paired)):.1f}".replace("-", "−")


def frozen_scores(draws: int = DRAWS) -> np.ndarray:
    return np.tile([62.1, 60.4, 2 * 62.1 * 60.4 / (62.1 + 60.4)], (draws, 1))


@pytest.mark.parametrize("regime", REGIMES)
def test_main_table_holds_what_numpy_computes(results: list[Result], report: Path, regime: str) -> None:
    header, *rows = sections((report / "results.md").read_text())[REGIMES[regime]]
    assert header == ["method", "base", "novel", "HM", "HM less frozen CLIP", "HM less fine-tuned", "draws"]
    assert [row[0] for row in rows] == list(METHODS.values())
    tuned = scores(results, regime, "fine_tuned")
    means = {"frozen": frozen_scores()[0, 2]}
    for method, row in zip(METHODS, rows, strict=True):
        plain = [cell.strip("*") for cell in row]
        if method == "frozen":
            assert plain[1:] == ["62.1", "60.4", "61.2", "–", difference(frozen_scores(), tuned), "1"]
            continue
        own = scores(results, regime, method)
        means[method] = own[:, 2].mean()
        assert plain[1:4] == as_texts(own)
        assert plain[4] == difference(own, frozen_scores())
        assert plain[5] == ("–" if method == "fine_tuned" else difference(own, tuned))
        assert plain[6] == "5"
    best = max(means, key=lambda method: means[method])
    bold = [(row[0], place) for row in rows for place, cell in enumerate(row) if cell.startswith("**")]
    assert bold == [(METHODS[best], 3)]


def test_ablations_compare_with_froster(results: list[Result], report: Path) -> None:
    tables = sections((report / "results.md").read_text())
    expected: dict[str, list[tuple[str, str, dict[str, float]]]] = {
        "Alpha of the residual projector": [(f"{a:g}", "residual", {"alpha": a}) for a in (0.05, 0.1, 0.5, 1.0)],
        "Beta, the weight of distillation": [(f"{b:g}", "residual", {"beta": b}) for b in (1.0, 2.0, 3.0)],
        "Zero initialization of the residual projector": [
            ("no", "residual", {"zero_init": False}),
            ("yes", "residual", {"zero_init": True}),
        ],
        "Projector": [
            ("(a) none", "no_projector", {}),
            ("(b) two layers", "plain", {}),
            ("(c) residual", "residual", {}),
        ],
        "What is distilled": [
            ("video and text", "residual", {}),
            ("video only", "distill_video", {}),
            ("text only", "distill_text", {}),
        ],
    }
    for heading, choices in expected.items():
        rows = tables[heading][1:]
        assert len(rows) == len(REGIMES) * len(choices)
        for row, (regime, (name, method, settings)) in zip(rows, itertools.product(REGIMES, choices), strict=True):
            own, froster = scores(results, regime, method, **settings), scores(results, regime, "residual")
            less = "–" if np.array_equal(own, froster) else difference(own, froster)
            assert [cell.strip("*") for cell in row] == [name, regime, *as_texts(own), less, "5"]
        assert [sum(row[4].startswith("**") for row in rows if row[1] == regime) for regime in REGIMES] == [1] * len(
            REGIMES
        )


@pytest.mark.parametrize(("regime", "suffix"), [("few", " again"), ("many", " again")])
def test_ratio_table(results: list[Result], report: Path, regime: str, suffix: str) -> None:
    header, *rows = sections((report / "results.md").read_text())[REGIMES[regime] + suffix]
    curves = ("fine_tuned", "open_vclip", "residual")
    assert header == ["ratio", *(METHODS[method] for method in curves)]
    assert [row[0] for row in rows] == ["0", "0.2", "0.3", "0.4", "0.5", "0.6", "0.7", "0.8", "1"]
    assert rows[-1][1:] == ["62.1 / 60.4 / 61.2"] * 3
    for column, method in enumerate(curves, start=1):
        means = [scores(results, regime, method, ratio=ratio).mean(axis=0) for ratio in RATIOS]
        assert [row[column].replace("*", "") for row in rows[:-1]] == [" / ".join(f"{m:.1f}" for m in x) for x in means]
        best = {f"{max(mean[2] for mean in means):.1f}"}
        assert {bold for row in rows for bold in re.findall(r"\*\*(.+?)\*\*", row[column])} == best


def test_notes_and_plots_are_in_the_markdown(report: Path) -> None:
    markdown = (report / "results.md").read_text()
    assert 0 < markdown.index(NOTES) < markdown.index("## Few classes")
    pictures = re.findall(r"!\[.+\]\((.+)\)", markdown)
    assert pictures == ["base-novel.png", "alpha-beta.png", "ratios.png"]
    assert all((report / picture).read_bytes().startswith(b"\x89PNG") for picture in pictures)


def result_pair(draws: int, **novel: tuple[float, float]) -> list[Result]:
    """Results of one regime whose novel accuracies are mean and step between the draws."""
    return [
        Result("few", method, draw, 60.0 if method == "frozen" else 80.0, mean + draw * step)
        for method, (mean, step) in novel.items()
        for draw in range(1 if method == "frozen" else draws)
    ]


@pytest.mark.parametrize(
    ("results", "sentence"),
    [
        (
            result_pair(3, frozen=(60, 0), fine_tuned=(45, 1), residual=(54, 2)),
            "fine-tuning takes base classes from 60.0 to 80.0 % and loses 14.0 ± 0.6 points on novel ones "
            "(60.0 to 46.0 %); **FROSTER wins back 10.0 ± 0.6 points** (56.0 %), at 80.0 % on base ones.",
        ),
        (
            result_pair(1, frozen=(60, 0), fine_tuned=(50, 0), residual=(62, 0)),
            "loses 10.0 points on novel ones (60.0 to 50.0 %); **FROSTER wins back 12.0 points** (62.0 %, "
            "more than the frozen CLIP), at",
        ),
        (
            result_pair(1, frozen=(60, 0), fine_tuned=(63, 0), residual=(62, 0)),
            "gains 3.0 points on novel ones (60.0 to 63.0 %); **FROSTER gives back 1.0 points** (62.0 %, more than",
        ),
        (result_pair(1, frozen=(60, 0), fine_tuned=(50, 0)), "on novel ones (60.0 to 50.0 %).\n"),
    ],
)
def test_headline_says_what_the_numbers_say(results: list[Result], sentence: str, tmp_path: Path) -> None:
    write_report(results, tmp_path)
    assert sentence in (tmp_path / "results.md").read_text()


class Page(HTMLParser):
    """Tables, pictures and other references of a page; fails on tags that are not closed in order."""

    VOID = ("meta", "img", "br", "hr", "link", "input", "source")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.tables: list[list[list[str]]] = []
        self.sources: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += attrs
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
        elif tag == "img":
            assert dict(attrs)["alt"]
            self.sources.append(dict(attrs)["src"] or "")
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in self.VOID
        self.handle_starttag(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data
        if "td" in self.open or "th" in self.open:
            self.tables[-1][-1][-1] += data


def test_page_holds_every_number_and_needs_nothing_else(report: Path) -> None:
    text = (report / "results.html").read_text(encoding="utf-8")
    page = Page(text)
    assert text.startswith("<!DOCTYPE html>\n<html lang=")
    assert ("name", "viewport") in page.attributes
    written = list(sections((report / "results.md").read_text()).values())
    assert [[[cell.replace("\u00a0", " ") for cell in row] for row in table] for table in page.tables] == [
        [[re.sub(r"[*`]", "", cell) for cell in row] for row in table] for table in written
    ]
    assert text.count("<strong>") == (report / "results.md").read_text().count("**") / 2
    assert "on <two> & more cores" in page.text
    assert not page.tags & {"script", "link", "iframe", "two"}
    assert not [value for name, value in page.attributes if name in ("href", "srcset", "onload")]
    assert not re.search(r"https?:|url\(|@import", re.sub(r"base64,[\w+/=]+", "", text))
    pictures = [
        base64.b64decode(source.removeprefix("data:image/png;base64,"), validate=True) for source in page.sources
    ]
    assert pictures == [(report / f"{name}.png").read_bytes() for name in ("base-novel", "alpha-beta", "ratios")]


def overlapping_texts(figure: Figure) -> list[tuple[str, str]]:
    figure.draw_without_rendering()
    pairs = []
    for axis in figure.axes:
        texts = [*axis.texts, axis.title, axis.xaxis.label, axis.yaxis.label]
        texts += [*axis.get_xticklabels(), *axis.get_yticklabels()]
        boxes = [(text.get_text(), text.get_window_extent()) for text in texts if text.get_text()]
        pairs += [(a, b) for (a, first), (b, second) in itertools.combinations(boxes, 2) if first.overlaps(second)]
    return pairs


def test_labels_never_overlap(results: list[Result]) -> None:
    rng = np.random.default_rng(1)
    crowded = [
        replace(result, base=80 + rng.normal(0, 1.5), novel=60 + rng.normal(0, 1.5))
        for result in results
        if result.method != "frozen" and result.regime == "few" and result.ratio in (0.0, 0.5)
    ]
    for shown in (results, [*select(results, "few", "frozen"), *crowded]):
        figure = draw_base_novel(shown)
        assert figure is not None
        assert overlapping_texts(figure) == []
        for axis in figure.axes:
            names = {text.get_text() for text in axis.texts if not text.get_text().startswith("HM ")}
            assert names == {METHODS[method] for method in METHODS if method != "residual"} | {"FROSTER"}
    figure = draw_ratios(results)
    assert figure is not None
    assert overlapping_texts(figure) == []


def test_points_and_curves_lie_where_the_means_are(results: list[Result]) -> None:
    figure = draw_base_novel(results)
    assert figure is not None
    for axis, regime in zip(figure.axes, REGIMES, strict=True):
        drawn = np.array([line.get_xydata()[0] for line in axis.lines if line.get_marker() not in ("None", "")])
        means = [scores(results, regime, method)[:, :2].mean(axis=0) for method in PLOTTED if method != "frozen"]
        assert drawn == pytest.approx(np.array([[62.1, 60.4], *means]))
        assert (axis.get_xlabel(), axis.get_ylabel()) == ("base classes, top-1 (%)", "novel classes, top-1 (%)")
    figure = draw_ratios(results)
    assert figure is not None
    for axis, regime in zip(figure.axes, REGIMES, strict=True):
        curves = [line.get_xydata() for line in axis.lines if len(line.get_xydata()) == len(RATIOS) + 1]
        for curve, method in zip(curves, ("fine_tuned", "open_vclip", "residual"), strict=True):
            means = [scores(results, regime, method, ratio=ratio)[:, :2].mean(axis=0) for ratio in RATIOS]
            assert curve == pytest.approx(np.array([*means, [62.1, 60.4]]))
    figure = draw_alpha_beta(results)
    assert figure is not None
    assert overlapping_texts(figure) == []
    hard_alpha, hard_beta, *_ = figure.axes
    assert hard_alpha.get_xscale() == "log"
    for axis, setting, values in ((hard_alpha, "alpha", (0.05, 0.1, 0.5, 1.0)), (hard_beta, "beta", (1.0, 2.0, 3.0))):
        means = np.array([scores(results, "hard", "residual", **{setting: value}).mean(axis=0) for value in values])
        drawn = [line.get_xydata()[:, 1] for line in axis.lines if len(line.get_xydata()) == len(values)]
        assert np.sort(drawn, axis=0) == pytest.approx(np.sort(means.T, axis=0))


def test_harmonic_mean_curves_are_equal_harmonic_means(results: list[Result]) -> None:
    figure = draw_base_novel(results)
    assert figure is not None
    for axis in figure.axes:
        named = [float(text.get_text().removeprefix("HM ")) for text in axis.texts if text.get_text().startswith("HM ")]
        curves = [line.get_xydata() for line in axis.lines if len(line.get_xydata()) > 20]
        assert len(named) == len(curves) >= 2
        for mean, curve in zip(named, curves, strict=True):
            assert 2 / (1 / curve[:, 0] + 1 / curve[:, 1]) == pytest.approx(np.full(len(curve), mean))


def test_unfinished_bench(results: list[Result], tmp_path: Path) -> None:
    with pytest.raises(FrosterError, match="no results to report"):
        write_report([], tmp_path)
    assert list(tmp_path.iterdir()) == []

    alone = select(results, "few", "frozen")
    assert [path.name for path in write_report(alone, tmp_path / "alone")] == ["results.md", "results.html"]
    assert "![" not in (tmp_path / "alone" / "results.md").read_text()

    started = [*alone, *select(results, "few", "residual")[:2], *select(results, "few", "distill_text")[:1]]
    files = write_report(started, tmp_path / "started")
    assert [path.name for path in files] == ["results.md", "results.html", "base-novel.png"]
    tables = sections(files[0].read_text())
    assert tables.keys() == {REGIMES["few"], "What is distilled"}
    draws = {row[0]: row[-1] for row in tables[REGIMES["few"]][1:]}
    assert draws == {"Frozen CLIP": "1", METHODS["residual"]: "2", METHODS["distill_text"]: "1"}
    assert [row[5] for row in tables[REGIMES["few"]][1:]] == ["–"] * 3
    assert "nan" not in files[1].read_text().split("<main>")[1].split("data:")[0]

    only_beta = [
        r for r in results if r.method == "residual" and r.regime == "many" and r.ratio == 0 and r.alpha == 0.1
    ]
    names = [path.name for path in write_report(only_beta, tmp_path / "beta")]
    assert names == ["results.md", "results.html", "base-novel.png", "alpha-beta.png"]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("accuracy", [(0.0, 0.0), (100.0, 100.0), (100.0, 0.0), (0.5, 99.5)])
def test_extreme_accuracies(accuracy: tuple[float, float], tmp_path: Path) -> None:
    results = [Result("few", "frozen", 0, *accuracy)]
    results += [Result("few", "plain", draw, *accuracy, ratio=ratio) for draw in (0, 1) for ratio in (0.0, 0.3, 0.5)]
    assert [path.name for path in write_report(results, tmp_path)][2:] == ["base-novel.png", "ratios.png"]


def test_equally_good_methods_are_all_bold(tmp_path: Path) -> None:
    results = [
        Result("few", "frozen", 0, 60.0, 60.0),
        Result("few", "plain", 0, 70.01, 70.01),
        Result("few", "residual", 0, 70.04, 70.04),
    ]
    write_report(results, tmp_path)
    rows = sections((tmp_path / "results.md").read_text())[REGIMES["few"]][1:]
    assert [row[3] for row in rows] == ["60.0", "**70.0**", "**70.0**"]


def test_summary_for_the_terminal(results: list[Result]) -> None:
    console = Console(width=90, record=True, file=io.StringIO())
    console.print(summary_table(results, "many"))
    lines = console.export_text(styles=True).splitlines()
    for method, name in METHODS.items():
        line = next(line for line in lines if name in line)
        if method != "frozen":
            assert all(text in line for text in as_texts(scores(results, "many", method)))
    best = max((m for m in METHODS if m != "frozen"), key=lambda m: scores(results, "many", m)[:, 2].mean())
    assert [line for line in lines if "\x1b[1;32m" in line] == [line for line in lines if METHODS[best] in line]
