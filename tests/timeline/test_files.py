"""What is written and drawn of a timeline."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from froster.timeline import Segment, Threshold, WindowScores, find_segments
from froster.timeline.files import clock, downsample, draw_timeline, gaps_in, labels_to_show, write_timeline

NAN = np.full(2, np.nan, dtype=np.float32)
THRESHOLD = Threshold(0.5, "similarity")


def windows(tops: str) -> list[WindowScores]:
    """A window a digit, the first label's similarity in tenths; `x` for a gap."""
    made = []
    for second, top in enumerate(tops):
        values = NAN if top == "x" else np.array([int(top) / 10, 0.1], dtype=np.float32)
        made.append(WindowScores(second, second + 2, values / values.sum(), values, 10 * values))
    return made


def test_the_table_has_a_row_a_window_and_empty_cells_in_a_gap(tmp_path: Path) -> None:
    shown = windows("149x9")
    segments = find_segments(shown, ["a, b", "$c"], THRESHOLD)
    files = write_timeline(tmp_path / "film.1", "film.1.mp4", shown, ["a, b", "$c"], segments, THRESHOLD)
    assert [file.name for file in files] == ["film.1.png", "film.1.csv", "film.1.json"]
    rows = list(csv.reader(files[1].open()))
    assert rows[0] == ["start", "end", "label", "a, b", "$c", "similarity: a, b", "similarity: $c"]
    assert rows[3] == ["2.000", "4.000", "a, b", "0.900000", "0.100000", "0.900000", "0.100000"]
    assert rows[4] == ["3.000", "5.000", "", "", "", "", ""]
    assert [row[2] for row in rows[1:]] == ["", "", "a, b", "", "a, b"]
    content = json.loads(files[2].read_text())
    assert content["gaps"] == [[3, 5]]
    assert [Segment(**segment) for segment in content["segments"]] == segments


def test_gaps_that_overlap_are_one() -> None:
    assert gaps_in(windows("1xx11x")) == [(1, 4), (5, 7)]
    assert gaps_in(windows("111")) == []
    assert gaps_in(windows("xxx")) == [(0, 4)]


@pytest.mark.parametrize(
    "seconds, tenths, shown",
    [(0, False, "00:00"), (65.4, False, "01:05"), (59.97, True, "01:00.0"), (3725.25, True, "1:02:05.2")],
)
def test_times_are_minutes_and_seconds(seconds: float, tenths: bool, shown: str) -> None:
    assert clock(seconds, tenths) == shown


def test_few_labels_are_drawn_those_seen_longest_first() -> None:
    labels = list("abcdefgh")
    peaks = np.array([[0.1, 0.9, 0.2, 0.8, 0.3, 0.7, 0.4, 0.6], [np.nan] * 8])
    segments = [Segment(0, 1, "a", 1, 1), Segment(2, 9, "c", 1, 1)]
    assert labels_to_show(peaks, labels, segments) == {0: "a", 1: "b", 2: "c", 3: "d", 5: "f"}


def test_long_lines_keep_their_peaks_and_gaps() -> None:
    values = np.zeros((5000, 2), dtype=np.float32)
    values[1234, 1], values[3000, 0] = 1, np.nan
    times, points = downsample(np.arange(5000.0), values)
    assert len(times) == len(points) == 385  # of 13 windows each
    assert points[94].tolist() == [0, 1] and times[94] == 94 * 13 + 6
    assert np.isnan(points[230, 0]) and np.isfinite(np.delete(points, 230, axis=0)).all()


def test_the_plot_shows_lines_bars_threshold_and_gaps() -> None:
    shown = windows("1899x19911")
    segments = find_segments(shown, ["a", "b"], THRESHOLD)
    above, below = draw_timeline("film", shown, ["a", "b"], segments, THRESHOLD).axes
    np.testing.assert_array_equal(above.lines[0].get_ydata(), [window.similarities[0] for window in shown])
    strong = above.lines[1].get_ydata()
    assert [number for number, value in enumerate(strong) if np.isnan(value)] == [4, 9]
    bars = [(bar.get_x(), bar.get_width(), bar.get_y() + bar.get_height() / 2) for bar in below.patches[:2]]
    assert bars == [(s.start, pytest.approx(s.end - s.start), pytest.approx(0)) for s in segments]
    assert [text.get_text() for text in below.get_yticklabels()] == ["a", "b"]
    assert "gap" in [text.get_text() for text in above.texts]


@pytest.mark.parametrize("tops", ["5", "x", "xxx"])
def test_timelines_of_next_to_nothing_are_drawn(tmp_path: Path, tops: str) -> None:
    write_timeline(tmp_path / "film", "film", windows(tops), ["a", "b"], [], THRESHOLD)
    assert (tmp_path / "film.png").stat().st_size > 1000
