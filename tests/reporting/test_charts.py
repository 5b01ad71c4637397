import math
import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest
import torch

from froster.evaluation import ScoredPart, evaluate_scores
from froster.reporting.charts import classes_shown, confusion_matrix, count_confusions, curve, figure

NAMES = [f"class {k} <&>" for k in range(400)]


def drawn(classes: int, clips: int) -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(3)
    targets = torch.randint(classes, (clips,), generator=draw)
    scores = torch.rand(clips, classes, generator=draw) + 0.9 * torch.nn.functional.one_hot(targets, classes)
    return scores, targets


def cells(svg: ET.Element) -> dict[tuple[str, str], int]:
    found = {}
    for title in svg.findall("g/title"):
        match = re.fullmatch(r"(.*), predicted as (.*): (\d+) of \d+", title.text or "")
        assert match
        found[match[1], match[2]] = int(match[3])
    return found


@pytest.mark.parametrize(("classes", "shown"), [(2, 2), (10, 10), (30, 30), (400, 30)])
def test_cells_are_the_counts(classes: int, shown: int) -> None:
    scores, targets = drawn(classes, 600)
    counts = count_confusions(ScoredPart(scores, targets, list(range(600))))
    evaluation = evaluate_scores(scores, targets, NAMES[:classes])
    chosen = classes_shown(counts, evaluation, NAMES)
    assert len(chosen) == len(set(chosen)) == shown
    svg = ET.fromstring(confusion_matrix(counts, chosen, NAMES))
    found = cells(svg)
    said = scores.argmax(dim=1).tolist()
    pairs = list(zip(targets.tolist(), said, strict=True))
    for i in chosen:
        for j in chosen:
            assert found.pop((NAMES[i], NAMES[j]), 0) == pairs.count((i, j))
        others = sum(truth == i and predicted not in chosen for truth, predicted in pairs)
        assert found.pop((NAMES[i], "others"), 0) == others
    assert not found
    width, height = (float(svg.attrib[side]) for side in ("width", "height"))
    for text in svg.findall("text"):
        slanting = re.match(r"translate\(([\d.]+) ([\d.]+)\)", text.attrib.get("transform", ""))
        if slanting:
            reach = 6.9 * len(text.text or "") * math.sqrt(0.5)
            assert float(slanting[1]) + reach < width
            assert float(slanting[2]) - reach > 0
        else:
            assert float(text.attrib["x"]) - 6.9 * len(text.text or "") >= 0
            assert float(text.attrib["y"]) < height


def test_the_most_frequent_confusions_of_many_classes_are_side_by_side() -> None:
    predicted = [5] * 9 + [300] * 8 + [7] + list(range(200, 260))
    targets = [300] * 9 + [40] * 8 + [9] + list(range(100, 160))
    scores = torch.nn.functional.one_hot(torch.tensor(predicted), 400).float()
    evaluation = evaluate_scores(scores, torch.tensor(targets), NAMES)
    counts = count_confusions(ScoredPart(scores, torch.tensor(targets), []))
    assert classes_shown(counts, evaluation, NAMES)[:5] == [300, 5, 40, 9, 7]


def test_curves_reach_their_values_and_leave_gaps() -> None:
    svg = ET.fromstring(curve("loss", [1, 2, 3, 4, 5], [4.0, 2.0, None, 1.0, 0.0]))
    (first, second) = (line.attrib["points"].split() for line in svg.findall("polyline"))
    points = [tuple(map(float, point.split(","))) for point in [*first, *second]]
    assert len(first) == len(second) == 2
    across, down = zip(*points, strict=True)
    np.testing.assert_allclose(np.interp(across, (across[0], across[-1]), (1, 5)), [1, 2, 4, 5], atol=0.01)
    np.testing.assert_allclose(np.interp(down, (down[0], down[-1]), (4, 0)), [4, 2, 1, 0], atol=0.02)
    assert [text.text for text in svg.findall("text")] == ["4", "0", "step 1", "5"]


def test_long_curves_are_averaged_and_short_ones_are_points() -> None:
    steps = list(range(1, 30_001))
    svg = ET.fromstring(curve("loss", steps, [float(step % 2) for step in steps]))
    raw = svg.findall("polyline")[0].attrib["points"].split()
    assert len(raw) == 300
    assert "from 0.5 to 0.5" in svg.attrib["aria-label"]
    alone = ET.fromstring(curve("loss", [7], [1.5]))
    assert len(alone.findall("circle")) == 1
    assert curve("loss", [1, 2], [None, None]) == ""


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (5e-6, "5.0e-6"), (0.0123456, "0.0123"), (12.3456, "12.3"), (123456, "1.2e+05")]
)
def test_figures(value: float, text: str) -> None:
    assert figure(value) == text
