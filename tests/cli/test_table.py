import io

import pytest

from froster.cli.table import ranked_table
from froster.cli.terminal import Screen
from froster.recognizer import Prediction

NAMES = ["riding a bicycle", "playing the guitar", "跑步"]


@pytest.mark.parametrize("width", [30, 36, 50, 80])
def test_labels_are_whole_whatever_the_width(width: int) -> None:
    file = io.StringIO()
    screen = Screen(file=file, width=width)
    prediction = Prediction("clip.mp4", list(zip(NAMES, (0.9, 0.07, 0.03), strict=True)), dict.fromkeys(NAMES, 0.2))
    screen.print(ranked_table(prediction, 3, screen.width))
    lines = file.getvalue().splitlines()
    assert all(any(name in line for line in lines) for name in NAMES)
    assert ("█" in file.getvalue()) == (width >= 40)
