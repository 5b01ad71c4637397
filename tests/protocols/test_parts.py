import statistics
from dataclasses import replace
from math import isnan
from pathlib import Path

import pytest
import torch

from froster.data.manifests import LabeledVideo
from froster.data.vocabularies import read_vocabulary
from froster.errors import FrosterError
from froster.mean_std import mean_std
from froster.protocols.parts import HALVES, Part, draw_shots, evaluate_part, frequent_half, random_half, select_videos
from froster.protocols.scores import Scores


def video(number: int, label: str, *splits: str) -> LabeledVideo:
    return LabeledVideo(Path(f"{number}.mp4"), label, splits)


def test_a_part_counts_its_videos_among_its_classes() -> None:
    # Row 1 is right among a and b, wrong among all three; row 2 is of another class, row 3 of another split.
    videos = [video(0, "a", "test1"), video(1, "b", "test1"), video(2, "c", "test1"), video(3, "b", "train1")]
    values = torch.tensor([[0.9, 0.1, 0.2], [0.3, 0.4, 0.8], [0.5, 0.1, 0.2], [0.9, 0.1, 0.2]])
    scores = Scores(values, videos, ["a", "b", "c"], [], [])
    found = evaluate_part(scores, Part("ab", ("b", "a"), ("test1",)))
    assert (found.clips, found.classes, found.top1) == (2, 2, 1.0)
    assert evaluate_part(scores, Part("all", ("a", "b", "c"), ("test1",))).top1 == pytest.approx(1 / 3)
    assert evaluate_part(scores, Part("any split", ("a", "b", "c"))).top1 == pytest.approx(1 / 4)
    with pytest.raises(FrosterError, match="no readable video of the 1 classes of c in train1"):
        evaluate_part(scores, Part("c", ("c",), ("train1",)))
    assert select_videos(videos, [Part("ab", ("a", "b"), ("test1",))]) == videos[:2]
    assert len({Part("ab", ("a", "b")), Part("ab", ("a", "b"))}) == 1
    assert [Part("x", (), splits).videos_from for splits in ((), ("train1", "test1"))] == [
        "all videos",
        "train1 and test1",
    ]


def test_halves_are_of_the_published_size_and_stay_the_same() -> None:
    ucf, hmdb = read_vocabulary("ucf-101"), read_vocabulary("hmdb-51")
    draws = [random_half(ucf, draw) for draw in range(1, 11)]
    assert {len(half) for half in draws} == {50}
    assert len(random_half(hmdb, 1)) == 25
    assert len(set(draws)) == HALVES == 10
    assert draws[3] == random_half(ucf, 4)
    # Each class is in half of many draws: 500 draws of 50 of 101 give 247.5 ± 11.2.
    counts = [sum(name in random_half(ucf, draw) for draw in range(500)) for name in ucf]
    assert all(abs(count - 500 * 50 / 101) < 5 * 11.2 for count in counts)


def test_shots_do_not_depend_on_the_order_of_the_manifest() -> None:
    videos = [video(number, "ab"[number % 2]) for number in range(40)] + [video(99, "rare")]
    chosen, short = draw_shots(videos, ["a", "b", "rare"], 4, draw=1)
    assert [sum(v.label == name for v in chosen) for name in ("a", "b", "rare")] == [4, 4, 1]
    assert short == {"rare": 1}
    assert len(set(chosen)) == len(chosen)
    assert draw_shots(videos[::-1], ["a", "b", "rare"], 4, draw=1)[0] == chosen
    assert draw_shots(videos, ["a", "b", "rare"], 4, draw=2)[0] != chosen
    # Runs are found again by the clips that they were trained on: a draw must not change with froster's version.
    assert [v.path.stem for v in chosen] == ["2", "20", "38", "8", "21", "27", "39", "5", "99"]
    # Two segments of a file.
    segments = [replace(video(1, "a"), start=start) for start in (5.0, 2.0)]
    assert draw_shots(segments, ["a"], 1, draw=1)[0] == draw_shots(segments[::-1], ["a"], 1, draw=1)[0]


def test_the_frequent_half_is_base() -> None:
    videos = [video(n, name) for n, name in enumerate(["run"] * 3 + ["jump"] * 2 + ["sit"] * 2 + ["wave"] + ["nod"])]
    assert frequent_half(videos, [video(99, "run")]) == (("jump", "run", "sit"), ("nod", "wave"))
    assert frequent_half(videos[3:7], [video(99, "jump")]) == (("jump",), ("sit",)), "test videos do not count"
    assert frequent_half(videos, [video(99, "alone")]) == (("jump", "run", "sit"), ("alone", "nod", "wave"))


def test_spread() -> None:
    found = mean_std([1.0, 2.0, 4.0])
    assert (found.mean, found.std) == pytest.approx((7 / 3, statistics.stdev([1, 2, 4])))
    assert isnan(mean_std([5.0]).std)
    assert mean_std([5.0]).to_json() == {"mean": 5.0, "std": None, "n": 1}
