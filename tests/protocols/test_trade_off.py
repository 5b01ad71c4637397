import io
import json
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

from fake_scores import FakeScores, fake_videos
from froster.data.manifests import read_manifest, write_manifest
from froster.data.vocabularies import read_vocabulary
from froster.errors import FrosterError
from froster.merging import patch_model
from froster.models import load_backbone, load_model
from froster.protocols import trade_off as module
from froster.protocols.cross_dataset import load_test_data
from froster.protocols.data import ProtocolData, load_data
from froster.protocols.trade_off import RATIOS, TradeOff, draw_trade_off, measure_trade_off, write_trade_off
from froster.settings import InferenceSettings
from froster.text.labels import check_labels

SETTINGS = InferenceSettings(views=1, frames=4, sampling="uniform", precision="float32", workers=1)


def test_fake_scores_give_the_points_of_the_figure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed = ProtocolData(
        "closed",
        "Closed set",
        fake_videos("right-1 a val", "right-2 b val", "wrong-3 b val", "right-4 a train", "lost-5 c val"),
        *("train", "val", Path("closed.csv")),
    )
    hmdb = fake_videos("right-6 kick test1", "wrong-7 kick train1", "right-8 kick test2")
    other = ProtocolData("hmdb-51", "HMDB-51", hmdb, "train1", "test1", Path("hmdb.csv"))
    scores = FakeScores(unreadable=("lost-5",))
    monkeypatch.setattr(module, "score_dataset", scores.score_dataset)
    # The student comes first: what a patched one was trained on is the same.
    models, shown = [SimpleNamespace(trained_on=None), SimpleNamespace(trained_on="unused")], list[str]()

    def show(title: str) -> nullcontext[None]:
        shown.append(title)
        return nullcontext()

    descriptions = {"closed": check_labels({"a": "the first", "z": "none of them"})}
    others = [closed, other]
    found = measure_trade_off(models, (0.8, 0.0), closed, others, descriptions, tmp_path, SETTINGS, show)  # type: ignore[arg-type]
    assert shown == ["Closed set", "HMDB-51"]
    first, second = scores.calls
    assert first[:3] == (
        models,
        check_labels({"a": "the first", "b": "", "c": ""}),
        [closed.videos[n] for n in (0, 1, 2, 4)],
    )
    assert first[3:] == (tmp_path / "closed" / "scores", SETTINGS, None)
    assert (second[2], len(second[1])) == (hmdb[:2], 51)
    assert found == TradeOff(
        "Closed set",
        [0.8, 0.0],
        {"Closed set": [pytest.approx(200 / 3)] * 2, "HMDB*": [50.0, 50.0]},
        clips={"Closed set": 3, "HMDB*": 2},
        classes={"Closed set": 3, "HMDB*": 51},
        unreadable=[("lost-5", "no video")] * 2,
        notes=["HMDB-51 is not complete: 3 of 6,766 videos, 1 of 51 classes."],
    )
    table, content, _ = write_trade_off(found, {"model": "舞"}, tmp_path)
    written = table.read_text(encoding="utf-8")
    assert '"model": "舞"' in content.read_text(encoding="utf-8")
    assert "| share of CLIP | Closed set | HMDB* |" in written
    assert "| 0.8 | 66.7 | 50.0 |" in written
    assert "- model: 舞\n" in written
    assert "- HMDB*: 2 clips, 51 classes\n- HMDB-51 is not complete" in written
    assert "- 2 videos could not be read; trade-off.json lists them." in written
    assert "could not be read" not in write_trade_off(replace(found, unreadable=[]), {}, tmp_path)[0].read_text()
    with pytest.raises(FrosterError, match="There is nothing to set against Closed set"):
        measure_trade_off(models, (0.8,), closed, [closed], {}, tmp_path, SETTINGS)  # type: ignore[arg-type]
    empty = replace(other, videos=[replace(hmdb[2], label="sit"), replace(hmdb[0], label="x")])
    with pytest.raises(FrosterError, match=r"hmdb\.csv has no video of HMDB\* to test, in train1 and test1"):
        measure_trade_off(models, (0.8,), closed, [empty], {}, tmp_path, SETTINGS)  # type: ignore[arg-type]


def test_each_ratio_is_a_point_between_clip_and_the_student(manifests: Path, tmp_path: Path) -> None:
    clip = load_backbone("puppets")
    student = load_model("puppets", "frame_clip")
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in student.parameters():
            parameter += 0.02 * torch.randn_like(parameter)
    models = [patch_model(student, clip, ratio) for ratio in (0.0, 0.25, 1.0)]
    name = (
        "visual.blocks.0.mlp.c_fc.weight" if "visual.blocks.0.mlp.c_fc.weight" in clip.state_dict() else "visual.proj"
    )
    own, original = student.state_dict()[name], clip.state_dict()[name]
    for ratio, model in zip((0.0, 0.25, 1.0), models, strict=True):
        torch.testing.assert_close(model.state_dict()[name], ratio * original + (1 - ratio) * own, atol=1e-6, rtol=0)

    closed = load_data("mine", manifests)
    other = replace(closed, name="other", title="other", videos=closed.videos[::2])
    found = measure_trade_off(models, [0.0, 0.25, 1.0], closed, [other], {}, tmp_path, SETTINGS)
    alone = measure_trade_off([load_model("puppets")], [1.0], closed, [other], {}, tmp_path / "clip", SETTINGS)
    assert found.top1["mine"][2] == alone.top1["mine"][0]
    assert set(found.top1) == {"mine", "other"}
    assert len(found.top1["other"]) == 3

    with pytest.raises(FrosterError, match="nothing to set against mine"):
        measure_trade_off(models, [0.0, 0.25, 1.0], closed, [closed], {}, tmp_path, SETTINGS)

    files = write_trade_off(found, {"tested": {"model": "runs/x"}}, tmp_path)
    content = json.loads(files[1].read_text(encoding="utf-8"))
    assert (content["top1"], content["tested"]) == (found.top1, {"model": "runs/x"})
    assert content["clips"] == {"mine": 12, "other": 6}
    table = files[0].read_text(encoding="utf-8")
    assert f"| 0.25 | {found.top1['mine'][1]:.1f} | {found.top1['other'][1]:.1f} |" in table
    assert "- mine: 12 clips, 6 classes" in table
    assert Image.open(files[2]).size[0] > 500


@pytest.mark.slow
def test_the_videos_and_classes_of_figure_2(manifests: Path, tmp_path: Path) -> None:
    rows = read_manifest(manifests / "mine.csv")
    splits = [("train1",), ("test1",), ("test2",), ()]
    hmdb = [replace(row, label="kick", splits=splits[place % 4]) for place, row in enumerate(rows[:8])]
    write_manifest(tmp_path / "hmdb-51.csv", hmdb)
    first, second = (read_vocabulary(f"kinetics-600-draw-{draw}") for draw in (1, 2))
    labels = [first[0], first[1], next(name for name in second if name not in first), "abseiling"]
    k600 = [replace(row, label=labels[place % 4], splits=("val",)) for place, row in enumerate(rows[:8])]
    write_manifest(tmp_path / "kinetics-600.csv", k600)
    k400 = [replace(row, label="abseiling", splits=("val", "train")[place % 2 :][:1]) for place, row in enumerate(rows)]
    write_manifest(tmp_path / "kinetics-400.csv", k400[:10])
    others = [load_test_data(name, tmp_path) for name in ("hmdb-51", "kinetics-600")]
    closed = load_data("kinetics-400", tmp_path)
    found = measure_trade_off([load_model("puppets")], [0.0], closed, others, {}, tmp_path / "out", SETTINGS)
    # The validation split of K-400; split 1 of HMDB-51, training videos too; the first draw of K-600 alone.
    assert found.clips == {"Kinetics-400": 5, "HMDB*": 4, "K-600 draw 1": 4}
    assert found.classes == {"Kinetics-400": 400, "HMDB*": 51, "K-600 draw 1": 160}


def test_the_plot_has_the_ratios_of_figure_2() -> None:
    assert RATIOS == (0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.0)


def test_the_plot_has_a_line_for_each_other_data_set() -> None:
    measured = TradeOff("K-400", [0.0, 0.5, 1.0], {"K-400": [80, 79, 60], "UCF": [70, 80, 75], "HMDB": [40, 50, 45]})
    figure = draw_trade_off(measured)
    lines = {line.get_label(): line.get_xydata().tolist() for line in figure.axes[0].get_lines()}
    assert lines == {"UCF": [[80, 70], [79, 80], [60, 75]], "HMDB": [[80, 40], [79, 50], [60, 45]]}
    assert {text.get_text() for text in figure.axes[0].texts} == {"0", "0.5", "1"}
    figure.savefig(io.BytesIO())


def test_adapters_cannot_be_patched(tmp_path: Path) -> None:
    student = load_model("puppets", "adaptformer", seed=0)
    student.backbone_source = object()  # type: ignore[assignment]
    with pytest.raises(FrosterError, match="has only adapters and a frozen CLIP"):
        patch_model(student, load_backbone("puppets"), 0.5)
