import json
import re
from dataclasses import asdict
from math import nan
from pathlib import Path

import pytest
import torch

from froster.backbones.build import build_backbone
from froster.backbones.clip import Clip, ClipConfig
from froster.bench.results import Result, append_result
from froster.errors import FrosterError
from froster.flops import count_cost
from froster.mean_std import MeanStd
from froster.methods import (
    PUPPETS_STUDENTS,
    PuppetsScores,
    all_networks,
    describe,
    methods_to_json,
    model_sizes,
    puppets_scores,
    read_puppets_scores,
)
from froster.models import load_backbone, puppets_weights
from froster.published import base_to_novel, cross_dataset
from froster.students import STUDENTS, build_student

SMALL = ClipConfig(48, 8, 64, 2, 1, 128, 2, 2, 64)


@pytest.mark.parametrize(
    ("name", "parameters"),  # as OpenAI counts them
    [
        ("vit-b-32", 151_277_313),
        ("vit-b-16", 149_620_737),
        ("vit-l-14", 427_616_513),
        ("vit-l-14-336", 427_944_193),
    ],
)
def test_sizes_of_releases(name: str, parameters: int) -> None:
    assert sum(p.numel() for p in build_backbone(model_sizes(name)).parameters()) == parameters


def test_sizes_of_puppets_and_of_a_model_that_is_not_there() -> None:
    assert model_sizes("puppets") == load_backbone("puppets").config
    with pytest.raises(FrosterError, match="no model 'vit-b-61'; did you mean 'vit-b-16'"):
        model_sizes("vit-b-61")
    assert model_sizes(str(puppets_weights())) == model_sizes("puppets")


@pytest.mark.parametrize("name", STUDENTS)
def test_network_without_storage_is_described_like_a_real_one(name: str) -> None:
    torch.manual_seed(0)
    student = build_student(name, Clip(SMALL))
    network = describe(name, SMALL, frames=3)
    assert (network.name, network.title) == (name, student.title)
    assert network.parameters == sum(p.numel() for p in student.parameters())
    of_method = [p.numel() for key, p in student.named_parameters() if re.search(student.trainable_params, key)]
    assert 0 < network.trained == sum(of_method)
    assert network.flops == count_cost(student, 3)


def test_clip_of_the_papers_size() -> None:
    """GFLOPs of ViT-B/16 at 8 frames: twice the 140 that papers give, who count a multiply-add once."""
    network = describe("frame_clip", model_sizes("vit-b-16"), 8)
    assert network.parameters == network.trained == 149_620_737
    assert network.flops.clip / 2 / 1e9 == pytest.approx(140.5, abs=0.1)


def test_published_scores_belong_to_networks_and_agree_with_their_means() -> None:
    rows = base_to_novel()
    # ER-ZASR of FROSTER Table 2 is no network of ours.
    assert {row.student for row in [*rows, *cross_dataset()]} <= {*STUDENTS, ""}
    for row in rows:
        assert list(row.scores) == ["K-400", "HMDB-51", "UCF-101", "SSv2"]
        for scores in row.scores.values():
            base, novel = scores["base"], scores["novel"]
            assert scores["hm"] == pytest.approx(2 * base * novel / (base + novel), abs=0.1), row.method


def test_published_scores_of_froster(shared: Path) -> None:
    facts = (shared / "facts.md").read_text(encoding="utf-8")
    (ours,) = (row for row in base_to_novel() if row.method == "FROSTER")
    for data, scores in ours.scores.items():
        assert f"{data} {scores['base']} / {scores['novel']} / {scores['hm']}" in facts
    rows = {row.method: row.scores for row in cross_dataset()}
    for data in ("UCF", "HMDB", "K-600"):
        assert f"{data} {rows['FROSTER'][data]['mean']} +- {rows['FROSTER'][data]['std']}" in facts
    for method in ("FROSTER", "Frozen CLIP", "Open-VCLIP"):
        for data in ("UCF*", "HMDB*"):
            assert f"{data} {rows[method][data]['mean']}" in facts
            assert rows[method][data].keys() == {"mean"}


def test_scores_on_puppets_are_means_over_draws(tmp_path: Path) -> None:
    results = [
        Result("hard", "frozen", 0, base=80.0, novel=60.0),
        Result("hard", "residual", 0, base=90.0, novel=70.0),
        Result("hard", "residual", 1, base=94.0, novel=66.0),
        Result("hard", "residual", 1, base=10.0, novel=10.0, alpha=0.5),
        Result("hard", "weight_l2", 0, base=10.0, novel=10.0),
        Result("few", "frame_clip_froster", 0, base=75.0, novel=60.0),
    ]
    scores = {scores.method: scores for scores in puppets_scores(results)}
    frozen, froster = scores["Frozen CLIP"], scores["(c) residual = FROSTER"]
    assert scores["CLIP + FROSTER"].student == "frame_clip"
    assert len(scores) == 3
    assert (frozen.student, frozen.regime, frozen.base.mean, frozen.base.n) == ("frame_clip", "hard", 80.0, 1)
    assert froster.student == "vclip"
    assert froster.base == MeanStd(92.0, pytest.approx(8**0.5), 2)
    assert froster.hm.mean == pytest.approx((2 * 90 * 70 / 160 + 2 * 94 * 66 / 160) / 2)

    for result in results:
        append_result(tmp_path / "results.jsonl", result)
    own = read_puppets_scores(tmp_path / "results.jsonl", {"weight_l2": "vclip"})
    assert [(row.student, row.hm.mean) for row in own] == [("vclip", 10.0)]
    assert {*PUPPETS_STUDENTS.values()} <= {*STUDENTS}
    with pytest.raises(FrosterError, match=r"no file .*none\.jsonl"):
        read_puppets_scores(tmp_path / "none.jsonl")


def test_json_is_plain_and_complete() -> None:
    once = MeanStd(80.0, nan, 1)
    networks = all_networks(SMALL, frames=1)
    content = methods_to_json(networks, [], [PuppetsScores("vclip", "FROSTER", "hard", once, once, once)])
    assert json.loads(json.dumps(content, allow_nan=False)) == content
    assert [network["name"] for network in content["networks"]] == [*STUDENTS]
    assert content["networks"][0]["flops"] == asdict(networks[0].flops)
    assert len(content["published"]["base_to_novel"]) == len(base_to_novel())
    assert content["puppets"][0]["base"] == {"mean": 80.0, "std": None, "n": 1}
