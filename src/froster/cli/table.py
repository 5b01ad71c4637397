"""Ranked labels as a table with bars."""

from typing import TYPE_CHECKING

from rich.bar import Bar
from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from froster.recognizer import Prediction


WIDEST = 30  # columns of a bar
NARROWEST = 6  # a narrower one says nothing


def ranked_table(prediction: "Prediction", top: int, width: int) -> Table:
    """The best `top` labels of one video with percentages and bars, the prediction's own emphasized.

    Labels come first: in a narrow terminal bars shrink, and go where there is no room.
    """
    labels = max(cell_len(name) for name, _ in prediction.ranked[:top])
    bars = min(WIDEST, width - labels - len("100.0 %") - 6)  # two columns between cells
    table = Table(title=Text(prediction.video, style="bold"), title_justify="left", box=None, show_header=False)
    table.add_column(justify="right")
    table.add_column(overflow="fold")
    if bars >= NARROWEST:
        table.add_column(width=bars)
    for name, score in prediction.ranked[:top]:
        style = "bold green" if name == prediction.label else "default"
        bar = (
            [Bar(1.0, 0.0, score, width=bars, color="green" if name == prediction.label else "blue")]
            if bars >= NARROWEST
            else []
        )
        table.add_row(Text(f"{100 * score:.1f} %", style=style), Text(name, style=style), *bar)
    return table
