import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from froster import FrosterError, WeightsError, load_model
from froster.backbones.clip import Clip, ClipConfig
from froster.checkpoints.hub import HubReference
from froster.checkpoints.openai import RELEASES, mark_official
from froster.checkpoints.own import save_checkpoint
from froster.checkpoints.releases import ARCHITECTURES, released_models
from froster.models import default_model, list_models, resolve
from fuzz.weights import openai_names


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
    assert resolve(name) == (student, "vit-b-16", vit_b_16, released_models()["vit-b-16"])
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
    names = list_models()
    assert names[:5] == ["puppets", "vit-b-32", "vit-b-16", "vit-l-14", "vit-l-14-336"]
    assert {"vit-h-14-dfn5b", "pe-core-l-14", "siglip2-base-patch16-224"} < set(names)
    assert len(names) == len(set(names)) == 92


def test_a_model_of_the_hub_is_named_when_a_file_is_not_there() -> None:
    with pytest.raises(WeightsError, match=r"no file laion/CLIP; a model of the Hugging Face hub is hf:laion/CLIP\."):
        load_model("laion/CLIP")


def test_a_released_model_of_the_hub_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where its folder has no description, what tensors do not show is that of the released model."""
    model = released_models()["vit-l-14-laion2b-s32b-b82k"]
    config = replace(ARCHITECTURES["ViT-L/14"], vision_layers=1, text_layers=1, vocab_size=512)
    save_file(openai_names(Clip(config).state_dict()), tmp_path / model.file)
    asked = []

    def fetch(reference: HubReference, usual_file: str | None = None) -> Path:
        asked.append((str(reference), usual_file))
        return tmp_path / model.file

    monkeypatch.setattr("froster.models.fetch_from_hub", fetch)
    monkeypatch.setitem(ARCHITECTURES, "ViT-L/14", config)
    loaded = load_model("vclip-ViT-L-14:laion2b_s32b_b82k")
    assert asked == [("hf:laion/CLIP-ViT-L-14-laion2B-s32B-b82K", "open_clip_pytorch_model.bin")]
    assert (loaded.name, loaded.config.activation, loaded.config.image_mean) == ("vclip", "gelu", (0.5, 0.5, 0.5))
    assert load_model("hf:laion/CLIP-ViT-L-14-laion2B-s32B-b82K").config == loaded.config


def test_another_student_from_a_checkpoint_pools_as_its_method_does(tmp_path: Path) -> None:
    frame_clip = load_model("puppets")
    frame_clip.temporal_pooling = "features"
    save_checkpoint(frame_clip, tmp_path / "frames.safetensors")
    assert load_model(tmp_path / "frames.safetensors").temporal_pooling == "features"
    assert load_model(tmp_path / "frames.safetensors", "vclip").temporal_pooling == "logits"
