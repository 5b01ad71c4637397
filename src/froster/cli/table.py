"""Ranked labels as a table with bars."""

from typing import TYPE_CHECKING

from rich.bar import Bar
from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from froster.recognizer import Prediction


MAX_BAR = 30  # columns
MIN_BAR = 6


def ranked_table(prediction: "Prediction", top: int, width: int) -> Table:
    """The best `top` labels of one video with percentages and bars, the predicted one highlighted.

    Labels have priority: in a narrow terminal bars shrink or disappear.
    """
    labels = max(cell_len(name) for name, _ in prediction.ranked[:top])
    bars = min(MAX_BAR, width - labels - len("100.0 %") - 6)  # two columns between cells
    table = Table(title=Text(prediction.video, style="bold"), title_justify="left", box=None, show_header=False)
    table.add_column(justify="right")
    table.add_column(overflow="fold")
    if bars >= MIN_BAR:
        table.add_column(width=bars)
    for name, score in prediction.ranked[:top]:
        style = "bold green" if name in prediction.labels else "default"
        bar = (
            [Bar(1.0, 0.0, score, width=bars, color="green" if name in prediction.labels else "blue")]
            if bars >= MIN_BAR
            else []
        )
        table.add_row(Text(f"{100 * score:.1f} %", style=style), Text(name, style=style), *bar)
    return table
