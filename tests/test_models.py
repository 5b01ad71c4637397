import os
from pathlib import Path

import pytest
import torch

from froster import FrosterError, WeightsError, load_model
from froster.backbones.clip import Clip, ClipConfig
from froster.checkpoints.hub import RELEASES, mark_official
from froster.checkpoints.own import save_checkpoint
from froster.models import default_model, list_models, resolve


@pytest.fixture
def vit_b_16(own_cache: Path) -> Path:
    path = own_cache / "clip" / "ViT-B-16.pt"
    path.parent.mkdir(parents=True)
    torch.manual_seed(0)
    torch.save(Clip(ClipConfig(32, 16, 64, 1, 1, 64, 1, 1, 32)).state_dict(), path)
    mark_official(path, RELEASES["vit-b-16"][0])
    return path


@pytest.mark.parametrize(
    ("name", "student"),
    [
        ("vit-b-16", None),
        ("ViT-B/16", None),
        ("vclip-vit-b-16", "vclip"),
        ("frame_clip-ViT-B/16", "frame_clip"),
    ],
)
def test_names_of_releases(vit_b_16: Path, name: str, student: str | None) -> None:
    assert resolve(name) == (student, "vit-b-16", vit_b_16)
    assert load_model(name).name == (student or "frame_clip")


def test_own_checkpoint_keeps_its_options_when_its_student_is_named(tmp_path: Path, vit_b_16: Path) -> None:
    save_checkpoint(load_model("vit-b-16", student="vclip:window=2,boundary=masked"), tmp_path / "own.safetensors")
    assert load_model(tmp_path / "own.safetensors", student="vclip").options == {"window": 2, "boundary": "masked"}
    assert load_model(tmp_path / "own.safetensors", student="vclip:window=3").options["window"] == 3
    assert load_model(tmp_path / "own.safetensors", student="frame_clip").options == {}


@pytest.mark.parametrize(("made", "asked"), [("adaptformer", "aim"), ("tc_clip", "vclip"), ("aim", "frame_clip")])
def test_a_checkpoint_of_another_student_is_named(tmp_path: Path, vit_b_16: Path, made: str, asked: str) -> None:
    save_checkpoint(load_model("vit-b-16", student=made), tmp_path / "own.safetensors")
    with pytest.raises(WeightsError, match=rf"is a checkpoint of {made} and cannot be loaded as {asked}; leave out"):
        load_model(tmp_path / "own.safetensors", student=asked)


def test_student_named_apart_wins(vit_b_16: Path) -> None:
    model = load_model("vit-b-16", student="vclip:window=2", boundary="masked")
    assert model.options == {"window": 2, "boundary": "masked"}
    assert not model.training
    assert load_model("vclip-vit-b-16", student="frame_clip").name == "frame_clip"


def test_default_is_a_real_model_where_there_is_one(vit_b_16: Path) -> None:
    assert default_model()[0] == "vit-b-16"
    os.utime(vit_b_16)  # changed since it was checked, and not the official content
    assert default_model()[0] == "puppets"
    vit_b_16.unlink()
    name, why = default_model()
    assert name == "puppets"
    assert "`model='vit-b-16'`" in why


@pytest.mark.parametrize(
    ("name", "message"),
    [("vit-b16", "did you mean 'vit-b-16'"), ("zebra", "names are puppets"), ("none.pt", "There is no weights file")],
)
def test_unknown_names_and_files(name: str, message: str) -> None:
    with pytest.raises(WeightsError, match=message):
        load_model(name)


def test_device_and_dtype() -> None:
    model = load_model("puppets", dtype=torch.bfloat16)
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    assert {p.device.type for p in load_model("puppets", device="cpu").parameters()} == {"cpu"}
    with pytest.raises(FrosterError, match="device 'toaster' cannot be used"):
        load_model("puppets", device="toaster")


def test_list_models_names_what_can_be_loaded() -> None:
    assert list_models() == ["puppets", "vit-b-32", "vit-b-16", "vit-l-14", "vit-l-14-336"]


def test_another_student_from_a_checkpoint_pools_as_its_method_does(tmp_path: Path) -> None:
    frame_clip = load_model("puppets")
    frame_clip.temporal_pooling = "features"
    save_checkpoint(frame_clip, tmp_path / "frames.safetensors")
    assert load_model(tmp_path / "frames.safetensors").temporal_pooling == "features"
    assert load_model(tmp_path / "frames.safetensors", "vclip").temporal_pooling == "logits"
