import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from froster.data.manifests import read_manifest, write_manifest
from froster.data.vocabularies import read_vocabulary
from froster.errors import FrosterError
from froster.merging import patch_model
from froster.models import load_backbone, load_model
from froster.protocols.cross_dataset import load_test_data
from froster.protocols.data import load_data
from froster.protocols.trade_off import TradeOff, draw_trade_off, measure_trade_off, write_trade_off
from froster.settings import InferenceSettings

SETTINGS = InferenceSettings(views=1, frames=4, sampling="uniform", precision="float32", workers=1)


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
