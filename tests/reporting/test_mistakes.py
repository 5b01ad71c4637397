from types import SimpleNamespace
from typing import cast

import numpy as np
import torch

from froster.evaluation import ModelReport, ScoredModel, ScoredPart
from froster.inference import Runtime
from froster.reporting.mistakes import Ranked, find_mistakes
from froster.scoring import ScoreHead

NAMES = {"base": ["a", "b", "c", "d", "e"], "novel": ["v", "w"]}


def scored(parts: dict[str, ScoredPart], temperature: float = 20.0) -> ScoredModel:
    runtime = cast(Runtime, SimpleNamespace(score_head=ScoreHead(temperature)))
    return ScoredModel(runtime, parts, NAMES, cast(ModelReport, None))


def test_order_is_that_of_a_slow_count_over_both_vocabularies() -> None:
    draw = np.random.default_rng(7)
    parts, expected = {}, []
    for start, (part, names) in zip((0, 30), NAMES.items(), strict=True):
        cosines = draw.uniform(-0.2, 0.4, (30, len(names))).astype(np.float32)
        targets = draw.integers(0, len(names), 30)
        parts[part] = ScoredPart(torch.from_numpy(cosines), torch.from_numpy(targets), list(range(start, start + 30)))
        for row, (of_video, target) in enumerate(zip(cosines.astype(np.float64), targets, strict=True)):
            weights = np.exp(20 * of_video)
            shares = weights / weights.sum()
            best = int(np.argmax(of_video))
            if best != target:
                expected.append((shares[best] - shares[target], start + row, names[target], names[best]))
    expected.sort(reverse=True)
    found = find_mistakes(scored(parts), NAMES, 10)
    assert [(m.index, m.truth, m.said) for m in found] == [entry[1:] for entry in expected[:10]]
    np.testing.assert_allclose([m.margin for m in found], [entry[0] for entry in expected[:10]], atol=1e-9)
    assert len(find_mistakes(scored(parts), NAMES, 100)) == len(expected)
    assert find_mistakes(scored(parts), NAMES, 0) == []


def test_the_truth_is_shown_wherever_it_ranks_and_ties_go_in_class_order() -> None:
    part = ScoredPart(torch.tensor([[0.1, 0.3, 0.3, 0.3, 0.2]]), torch.tensor([0]), [4])
    (mistake,) = find_mistakes(scored({"base": part}, 1.0), NAMES, 5)
    shares = np.exp([0.3, 0.3, 0.3, 0.1]) / np.exp([0.1, 0.3, 0.3, 0.3, 0.2]).sum()
    assert [(r.label, r.rank) for r in mistake.ranked] == [("b", 1), ("c", 2), ("d", 3), ("a", 5)]
    np.testing.assert_allclose([r.share for r in mistake.ranked], shares, atol=1e-7)


def test_shares_that_cannot_be_told_apart_go_by_the_cosines_then_by_the_video() -> None:
    cosines = torch.tensor([[0.9, 0.0], [1.0, 0.0], [0.9, 0.0]])
    part = ScoredPart(cosines, torch.ones(3, dtype=torch.int64), [5, 6, 3])
    found = find_mistakes(scored({"novel": part}, 1000.0), NAMES, 3)
    assert [mistake.margin for mistake in found] == [1.0, 1.0, 1.0]
    assert [mistake.index for mistake in found] == [6, 3, 5]
    assert found[0].ranked == [Ranked("v", 1, 1.0), Ranked("w", 2, 0.0)]
