"""Ranked labels as a table with bars."""

from typing import TYPE_CHECKING

from rich.bar import Bar
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from froster.recognizer import Prediction


def ranked_table(prediction: "Prediction", top: int) -> Table:
    """The best `top` labels of one video with percentages and bars, the first one emphasised."""
    table = Table(title=Text(prediction.video, style="bold"), title_justify="left", box=None, show_header=False)
    table.add_column(justify="right")
    table.add_column(overflow="fold")
    table.add_column(width=30)
    for rank, (name, score) in enumerate(prediction.ranked[:top]):
        style = "bold green" if rank == 0 else "default"
        bar = Bar(1.0, 0.0, score, width=30, color="green" if rank == 0 else "blue")
        table.add_row(Text(f"{100 * score:.1f} %", style=style), Text(name, style=style), bar)
    return table
