import json
from dataclasses import fields
from math import nan
from pathlib import Path

import torch

from froster.evaluation import evaluate_scores
from froster.mean_std import MeanStd
from froster.protocols.base_to_novel import Halves, TrainingLists
from froster.protocols.cross_dataset import Columns
from froster.protocols.data import ProtocolData, PublishedList
from froster.protocols.models import Pretrained, TrainFromRecipe
from froster.protocols.parts import Part
from froster.protocols.reference import named_reference
from froster.protocols.results import PartResult, Report, Results
from froster.protocols.scores import Scores
from froster.protocols.trade_off import TradeOff
from froster.published import base_to_novel, cross_dataset

FOUND = evaluate_scores(torch.eye(6), torch.arange(6), list("abcdef"))


def test_a_table_like_the_papers_with_the_difference(tmp_path: Path) -> None:
    scores = {
        "UCF-101": {"base": MeanStd(95.9, 0.2, 3), "novel": MeanStd(80.0, 1.25, 3), "hm": MeanStd(87.23, 0.5, 3)},
        "Kinetics-400": {"base": MeanStd(70.0, nan, 1), "novel": MeanStd(60.0, nan, 1), "hm": MeanStd(64.6, nan, 1)},
        "mine": {"base": MeanStd(50.0, nan, 1), "novel": MeanStd(50.0, nan, 1), "hm": MeanStd(50.0, nan, 1)},
    }
    measured = Results(
        scores, [PartResult("UCF-101", "draw 1", "base", FOUND, 816)], [("a.mp4", "broken")], ["A note."]
    )
    reference = named_reference("FROSTER", "base-to-novel")
    report = Report(
        "Base to novel", {"tested": {"model": "x"}}, measured, base_to_novel(), ("base", "novel", "hm"), reference
    )
    header, rows = report.table()
    assert header[1:7] == ["UCF-101 base", "UCF-101 novel", "UCF-101 HM", "K-400 base", "K-400 novel", "K-400 HM"]
    by_method = {row[0]: row[1:] for row in rows}
    # FROSTER's own row, as in facts.md: UCF-101 95.3 / 80.0 / 87.0, K-400 77.8 / 64.3 / 70.4.
    assert by_method["FROSTER"] == ["95.3", "80.0", "87.0", "77.8", "64.3", "70.4", "–", "–", "–"]
    assert by_method["this run"][:4] == ["95.9 ± 0.2", "80.0 ± 1.2", "87.2 ± 0.5", "70.0"]
    assert by_method["minus FROSTER"] == ["+0.6", "+0.0", "+0.2", "−7.8", "−4.3", "−5.8", "–", "–", "–"]
    assert list(by_method)[-2:] == ["this run", "minus FROSTER"]

    markdown, plain = report.write(tmp_path)
    text = markdown.read_text(encoding="utf-8")
    assert "| minus FROSTER | +0.6 |" in text
    assert "1 video could not be read" in text
    assert "| UCF-101 | draw 1 | base | 6 | 6 | 100.0 | 100.0 |" in text
    content = json.loads(plain.read_text(encoding="utf-8"))
    assert content["scores"]["UCF-101"]["base"] == {"mean": 95.9, "std": 0.2, "n": 3}
    assert content["scores"]["mine"]["hm"]["std"] is None
    assert content["differences"]["Kinetics-400"]["base"] == 70.0 - 77.8
    assert content["results"][0]["trained_clips"] == 816
    assert content["unreadable"] == [{"video": "a.mp4", "reason": "broken"}]


def test_a_report_without_a_reference_and_with_names_in_any_script(tmp_path: Path) -> None:
    few = evaluate_scores(torch.eye(4)[:, [1, 0, 2, 3]], torch.arange(4), list("abcd"))
    measured = Results({"mine": {"mean": MeanStd(50.0, nan, 1)}}, [PartResult("mine", "all videos", "all", few)])
    about = {"model": {"name": "舞", "share": None}, "tested": ["a", "b"], "views": 3}
    report = Report("Cross-dataset", about, measured, cross_dataset(), ("mean",), None)
    assert report.table() == (["method", "mine"], [["this run", "50.0"]])
    text, plain = (path.read_text(encoding="utf-8") for path in report.write(tmp_path))
    assert "- model: name 舞\n- tested: a, b\n- views: 3\n" in text
    assert '"name": "舞"' in plain
    assert "Published" not in text, "no published row has a number of this dataset"
    assert "†" not in text
    assert "could not be read" not in text
    # Four classes: no top-5.
    assert "| data |  | classes | number of classes | clips | top-1 |\n" in text
    assert "| mine | all videos | all | 4 | 4 | 50.0 |\n" in text


def test_sources_and_marks_of_the_published_rows() -> None:
    scores = {"UCF*": {"mean": MeanStd(80.0, nan, 1)}}
    reference = named_reference("AIM w/ FROSTER", "cross-dataset")
    text = Report("Cross-dataset", {}, Results(scores), cross_dataset(), ("mean",), reference).markdown()
    assert "| AIM w/ FROSTER | 81.2† |" in text
    assert "| minus AIM w/ FROSTER | −1.2 |" in text
    assert "†: not read in the table itself" in text
    assert "Published: FROSTER (ICLR 2024), Table 2.\n" in text, "TC-CLIP has no UCF*"


def test_results_are_values() -> None:
    """Rows, draws and settings are shared between tables: none may be changed."""
    for kind in (
        PartResult,
        Report,
        Part,
        Halves,
        TrainingLists,
        ProtocolData,
        PublishedList,
        Columns,
        Scores,
        TradeOff,
    ):
        assert fields(kind)
        assert kind.__dataclass_params__.frozen, kind  # type: ignore[attr-defined]
    for source in (TrainFromRecipe, Pretrained):
        assert source.__dataclass_params__.frozen, source  # type: ignore[attr-defined]


def test_cross_dataset_columns_and_deviations() -> None:
    scores = {"UCF EP1": {"mean": MeanStd(88.0, 2.0, 10)}, "UCF*": {"mean": MeanStd(84.0, nan, 1)}}
    scores["Kinetics-600"] = {"mean": MeanStd(75.0, 1.0, 3), "top-5": MeanStd(93.0, 0.5, 3)}
    reference = named_reference("FROSTER", "cross-dataset")
    report = Report("Cross-dataset", {}, Results(scores), cross_dataset(), ("mean", "top-5"), reference)
    header, rows = report.table()
    assert header == ["method", "UCF EP1", "UCF*", "K-600", "K-600 top-5"]
    by_method = {row[0]: row[1:] for row in rows}
    assert by_method["FROSTER"] == ["–", "85.0", "74.8 ± 0.9", "–"]
    assert by_method["this run"] == ["88.0 ± 2.0", "84.0", "75.0 ± 1.0", "93.0 ± 0.5"]
    assert by_method["minus FROSTER"] == ["–", "−1.0", "+0.2", "–"]
