"""Segments from made-up windows, whose right answer can be told by eye."""

import numpy as np
import pytest

from froster.scoring import quantile_threshold
from froster.timeline import DEFAULT_THRESHOLD, Segment, SegmentFinder, Threshold, WindowScores, find_segments

LABELS = ["a", "b"]
THRESHOLD = Threshold(0.5, "similarity")
HEIGHTS = {"a": (0.9, 0.2), "b": (0.1, 0.8), "_": (0.3, 0.2)}


def windows(shown: str, window: float = 2.0, stride: float = 1.0) -> list[WindowScores]:
    """A window a letter: a, b, `_` for neither, `x` for a gap."""
    made = []
    for number, letter in enumerate(shown):
        values = np.array(HEIGHTS.get(letter, (np.nan, np.nan)), dtype=np.float32)
        made.append(WindowScores(number * stride, number * stride + window, values / values.sum(), values, values * 10))
    return made


def spans(shown: str, window: float = 2.0, stride: float = 1.0) -> list[tuple[str, float, float]]:
    return [(s.label, s.start, s.end) for s in find_segments(windows(shown, window, stride), LABELS, THRESHOLD)]


@pytest.mark.parametrize(
    "shown, expected",
    [
        ("aaaa", [("a", 0, 5)]),
        ("____", []),
        ("", []),
        ("a", [("a", 0, 2)]),
        ("__aaa__", [("a", 2.5, 5.5)]),
        ("aaabbb", [("a", 0, 3.5), ("b", 3.5, 7)]),
        ("aa_aa", [("a", 0, 6)]),  # a hole
        ("aabaa", [("a", 0, 6)]),
        ("__a__", []),  # a blip
        ("aa_bb", [("a", 0, 2.5), ("b", 3.5, 6)]),  # neighbors that disagree
        ("bba__", [("b", 0, 2.5)]),
        ("aa__aa", [("a", 0, 2.5), ("a", 4.5, 7)]),  # too long for a hole
        ("aaxxaa", [("a", 0, 3), ("a", 4, 7)]),  # never across a gap
        ("aaxaa", [("a", 0, 3), ("a", 3, 6)]),
        ("_xax_", [("a", 2, 4)]),  # nobody to disagree with
        ("xx", []),
    ],
)
def test_windows_become_segments(shown: str, expected: list[tuple[str, float, float]]) -> None:
    assert spans(shown) == expected


def test_windows_that_do_not_overlap_say_nothing_about_each_other() -> None:
    assert spans("_a_", window=1.0) == [("a", 1, 2)]
    assert spans("aab", window=1.0) == [("a", 0, 2), ("b", 2, 3)]
    assert spans("_a_", window=1.0, stride=5.0) == [("a", 5, 6)]
    assert spans("aa_", window=1.0, stride=5.0) == [("a", 0, 6)]


def test_a_segment_has_the_mean_scores_of_its_windows() -> None:
    (segment,) = find_segments(windows("_aa_aa_"), LABELS, THRESHOLD)
    similarities = [0.9, 0.9, 0.3, 0.9, 0.9]
    scores = [0.9 / 1.1, 0.9 / 1.1, 0.3 / 0.5, 0.9 / 1.1, 0.9 / 1.1]
    assert segment == Segment(1.5, 6.5, "a", pytest.approx(np.mean(scores)), pytest.approx(np.mean(similarities)))


def test_segments_come_as_they_end() -> None:
    finder = SegmentFinder(LABELS, THRESHOLD)
    found = [[segment.label for segment in finder.add(window)] for window in windows("aa__bbb")]
    assert found == [[], [], [], ["a"], [], [], []]
    assert [segment.label for segment in finder.finish()] == ["b"]
    assert finder.finish() == []


def test_the_usual_threshold_is_on_contrasts() -> None:
    assert DEFAULT_THRESHOLD.predict_label(windows("a")[0]) == 0
    assert DEFAULT_THRESHOLD.predict_label(windows("b")[0]) == 1
    assert DEFAULT_THRESHOLD.predict_label(WindowScores(0, 1, *np.full((3, 2), 1.9, dtype=np.float32))) is None


@pytest.mark.parametrize("share", [0.0, 0.05, 0.1, 0.3, 0.99])
@pytest.mark.parametrize("windows", [1, 19, 20, 137])
@pytest.mark.filterwarnings("ignore:The negatives give")
def test_at_most_the_share_of_negatives_is_named_and_no_lower_threshold_does_it(share: float, windows: int) -> None:
    best = np.random.default_rng((7, windows)).normal(size=windows).astype(np.float32)
    threshold = quantile_threshold(best.tolist(), share)

    def named(value: float) -> int:
        return sum(
            Threshold(value, "similarity").predict_label(WindowScores(0, 1, *np.full((3, 1), b))) is not None
            for b in best
        )

    assert named(threshold) <= share * windows + 1e-9
    assert named(threshold - 1e-6) > share * windows


def test_equal_negatives_are_all_kept_out() -> None:
    assert quantile_threshold([0.5] * 100, 0.05) == 0.5
