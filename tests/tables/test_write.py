"""Cells, differences and pictures of a table whose numbers are known."""

import io
import json
from math import nan
from pathlib import Path

import pytest
from PIL import Image

from froster.errors import FrosterError
from froster.mean_std import MeanStd
from froster.protocols.trade_off import TradeOff
from froster.published import read_table
from froster.tables.figures import draw, relative_gain
from froster.tables.reproduce import RowResult, TableResult
from froster.tables.write import long_rows, to_json, to_latex, to_markdown, write_table


def measured(table: str, scores: dict[str, dict[str, float]]) -> TableResult:
    """A table with these means, by method and title of the dataset's column."""
    rows = [RowResult(row) for row in read_table(table).rows]
    for of_row in rows:
        for column, mean in scores.get(of_row.row.method, {}).items():
            of_row.results.scores[column] = {"mean": MeanStd(mean, nan, 1), "top-5": MeanStd(mean + 20, 0.5, 3)}
    return TableResult(read_table(table), rows)


def test_cells_have_measured_published_and_difference() -> None:
    result = measured("froster-table-2", {"FROSTER": {"UCF*": 84.2, "Kinetics-600": 75.0}, "AIM": {"HMDB*": 50.0}})
    text = to_markdown(result)
    assert (
        "| FROSTER | 84.2 (85.0, −0.8) | – (84.8 ± 1.1) | – (54.5) | – (54.8 ± 1.3) | 75.0 (74.8 ± 0.9, +0.2) |" in text
    )
    assert "| AIM | – (79.0) | – (79.4 ± 1.0) | 50.0 (49.5, +0.5) |" in text
    assert "| ER-ZASR | – | – (51.8 ± 2.9) |" in text
    assert "- ER-ZASR: TSM pretrained on ImageNet-1k" in text
    header, rows = long_rows(result)
    assert header == ["method", "column", "measured", "published", "difference"]
    assert rows == [
        ["AIM", "HMDB*", "50.0", "49.5", "+0.5"],
        ["FROSTER", "UCF*", "84.2", "85.0", "−0.8"],
        ["FROSTER", "K-600", "75.0", "74.8", "+0.2"],
    ]
    latex = to_latex(result)
    assert r"FROSTER & 84.2 (85.0, $-$0.8) & -- (84.8 $\pm$ 1.1) & " in latex
    assert latex.count(r"\\") == 13
    content = to_json(result)
    assert content["rows"][-1]["cells"]["UCF*"]["mean"]["difference"] == pytest.approx(-0.8)
    json.dumps(content, allow_nan=False)


def test_top_5_stands_beside_top_1() -> None:
    result = measured("open-vclip-table-3", {"Open-VCLIP (ViT-B/16)": {"Kinetics-600": 72.0}})
    assert "| Open-VCLIP (ViT-B/16) | 72.0 (73.0 ± 0.8†, −1.0) | 92.0 ± 0.5 |" in to_markdown(result)


def test_numbers_that_were_not_read_in_their_table_are_marked() -> None:
    scores = {"AIM w/ FROSTER": {"UCF*": 80.0, "HMDB*": 50.0}, "VCLIP": {"UCF*": 79.0}}
    result = measured("froster-table-3", scores)
    text = to_markdown(result)
    assert "| AIM w/ FROSTER | 80.0 (81.2†, −1.2) | 50.0 | – |" in text
    assert "| VCLIP | 79.0 (79.7, −0.7) |" in text
    assert "- †: not read in the table itself" in text
    assert "(81.2$^\\dagger$, $-$1.2)" in to_latex(result)
    assert ["AIM w/ FROSTER", "UCF*", "80.0", "81.2†", "−1.2"] in long_rows(result)[1]
    cells = {row["method"]: row["cells"] for row in to_json(result)["rows"]}
    assert cells["AIM w/ FROSTER"]["UCF*"]["mean"]["secondhand"] is True
    assert cells["VCLIP"]["UCF*"]["mean"]["secondhand"] is False
    assert "†" not in to_markdown(measured("froster-table-2", {"AIM": {"UCF*": 80.0}}))


def test_figure_1_has_a_bar_for_each_network_and_its_ensemble(tmp_path: Path) -> None:
    scores = {"Frozen CLIP": {"UCF*": 74.0}, "AIM": {"UCF*": 79.0}, "AIM + frozen CLIP": {"UCF*": 81.0}}
    result = measured("froster-figure-1", scores)
    result.similarities = {"UCF*": 0.75}
    [axis] = draw(result).axes
    assert [bar.get_height() for bar in axis.patches] == [79.0, 81.0]
    [line] = axis.get_lines()
    assert line.get_ydata() == [74.0, 74.0]
    assert axis.get_title() == "UCF* (similarity 0.75)"
    assert [path.suffix for path in write_table(result, tmp_path)] == [".md", ".tex", ".json", ".png"]
    assert Image.open(tmp_path / "froster-figure-1.png").format == "PNG"


def test_figure_5_has_relative_gains(tmp_path: Path) -> None:
    result = measured(
        "froster-figure-5",
        {
            "AIM": {"UCF*": 80.0, "HMDB*": 50.0},
            "AIM w/ FROSTER": {"UCF*": 84.0, "HMDB*": 49.0},
            "VCLIP": {"UCF*": 80.0},
            "VCLIP w/ FROSTER": {"HMDB*": 1.0},
        },
    )
    [axis] = draw(result).axes
    assert [bar.get_height() for bar in axis.patches] == pytest.approx([5.0, -2.0])
    assert [label.get_text() for label in axis.get_xticklabels()] == ["AIM"]
    rows = {of.row.method: of for of in result.rows}
    assert relative_gain(rows["VCLIP"], rows["VCLIP w/ FROSTER"], "UCF*") is None
    with pytest.raises(FrosterError, match="no network was measured both with and without FROSTER"):
        draw(measured("froster-figure-5", {"AIM": {"UCF*": 80.0}}))
    # After the first of two rows, the table is written without a picture.
    files = write_table(measured("froster-figure-5", {"AIM": {"UCF*": 80.0}}), tmp_path)
    assert [path.suffix for path in files] == [".md", ".tex", ".json"]


def test_figure_2_has_a_panel_for_each_dataset_and_stars() -> None:
    result = measured("open-vclip-figure-2", {})
    for place, of_row in enumerate(result.rows):
        top1 = {"Kinetics-400": [60.0, 70.0, 80.0], "UCF*": [70.0 + place, 80.0, 75.0], "HMDB*": [40.0, 50.0, 45.0]}
        of_row.trade_off = TradeOff("Kinetics-400", [0.8, 0.5, 0.0], top1)
    figure = draw(result)
    assert [axis.get_title() for axis in figure.axes] == ["UCF*", "HMDB*"]
    lines = {line.get_label(): line for line in figure.axes[0].get_lines()}
    assert lines["VCLIP"].get_xydata().tolist() == [[80.0, 75.0], [70.0, 80.0], [60.0, 71.0]]
    [star] = [line for line in figure.axes[0].get_lines() if line.get_marker() == "*"]
    assert star.get_xydata().tolist() == [[70.0, 80.0]]
    assert star.get_color() == lines["Open-VCLIP"].get_color()
    figure.savefig(io.BytesIO())
    assert "| Open-VCLIP | 0.5 | 70.0 | 80.0 | 50.0 |" in to_markdown(result)
    assert "brackets" not in to_latex(result) + to_markdown(result)
