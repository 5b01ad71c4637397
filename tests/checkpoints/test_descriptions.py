"""What tensors do not show is read from descriptions, taken from known releases, or asked for: never guessed."""

import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from froster.backbones.build import build_backbone
from froster.backbones.clip import Clip, ClipConfig
from froster.checkpoints.descriptions import clips_by_size, gather_facts, read_assignments
from froster.checkpoints.own import save_checkpoint
from froster.checkpoints.read import read_checkpoint
from froster.errors import FrosterError, FrosterWarning, WeightsError
from froster.models import load_model
from fuzz.weights import SAID, openai_names, small_clip
from goldens import GoldenFile

pytestmark = pytest.mark.usefixtures("no_grad")

OPEN_CLIP = ("big_g_14_like", "dfn_h_14_378_like", "h_14_like", "laion_l_14_like")
SIZES = dict(
    zip(
        ["patch_size", "image_size", "vision_width", "vision_layers", "text_width", "text_layers", "embed_dim"],
        (14, 224, 1280, 32, 1024, 24, 1024),
        strict=True,
    )
)
MODEL_CFG: dict[str, Any] = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "head_width": 32, "patch_size": 8},
    "text_cfg": {"context_length": 77, "vocab_size": 512, "width": 64, "heads": 4, "layers": 2},
}


def put(folder: Path, name: str = "weights.safetensors", **descriptions: object) -> Path:
    """A small CLIP under OpenAI's names, and descriptions beside it."""
    save_file(openai_names(small_clip().state_dict()), folder / name)
    for stem, description in descriptions.items():
        (folder / f"{stem}.json").write_text(json.dumps(description))
    return folder / name


def open_clip_folder(name: str, golden_file: GoldenFile, folder: Path) -> Path:
    for file in ("open_clip_config.json", "open_clip_model.safetensors", "reference.safetensors"):
        (folder / file).symlink_to(golden_file(f"open_clip/{name}/{file}"))
    return folder


@pytest.mark.parametrize("name", OPEN_CLIP)
def test_open_clips_own_numbers(name: str, golden_file: GoldenFile, tmp_path: Path) -> None:
    """Features within 2e-5 of OpenCLIP 3.3; a prepared picture within two gray levels, mostly exact."""
    folder = open_clip_folder(name, golden_file, tmp_path)
    reference, model = load_file(folder / "reference.safetensors"), load_model(folder)
    assert (model.encode_video(reference["images"][:, None])[:, 0] - reference["image_features"]).abs().max() < 2e-5
    assert (model.encode_text(reference["tokens"]) - reference["text_features"]).abs().max() < 2e-5
    difference = (model.preprocess(reference["picture"][None])[0] - reference["prepared"]).abs()
    gray_level = 1 / 255 / min(model.config.image_std)
    assert difference.max() < 2.01 * gray_level
    assert difference.mean() < 0.02 * gray_level


@pytest.mark.parametrize("name", OPEN_CLIP)
def test_what_was_read_travels_in_our_checkpoints(name: str, golden_file: GoldenFile, tmp_path: Path) -> None:
    model = load_model(open_clip_folder(name, golden_file, tmp_path), student="vclip")
    save_checkpoint(model, tmp_path / "own.safetensors")
    again = load_model(tmp_path / "own.safetensors")
    assert (again.config, again.preprocess) == (model.config, model.preprocess)


def test_every_field_of_open_clips_description(tmp_path: Path) -> None:
    prepared = {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6], "interpolation": "bilinear", "resize_mode": "longest"}
    model_cfg = {**MODEL_CFG, "quick_gelu": True, "text_cfg": {**MODEL_CFG["text_cfg"], "norm_kwargs": {"eps": 1e-6}}}
    path = put(tmp_path, open_clip_config={"model_cfg": model_cfg, "preprocess_cfg": prepared})
    config = load_model(path).config
    assert config == ClipConfig(
        32, 8, 64, 2, 2, 64, 2, 4, 32, 77, 512, "quick_gelu", 1e-5, 1e-6, None, None,
        (0.1, 0.2, 0.3), (0.4, 0.5, 0.6), "longest", "bilinear",
    )  # fmt: skip
    sources = read_checkpoint(path).sources
    assert sources["vision_heads"] == sources["image_mean"] == "open_clip_config.json"
    assert sources["vision_width"] == "tensors"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"vision_cfg": {**MODEL_CFG["vision_cfg"], "ls_init_value": 1e-5}}, "asks for ls_init_value=1e-05"),
        ({"vision_cfg": {**MODEL_CFG["vision_cfg"], "no_ln_pre": True}}, "asks for no_ln_pre=True"),
        ({"vision_cfg": {**MODEL_CFG["vision_cfg"], "pool_type": "avg"}}, "asks for pool_type='avg'"),
        ({"text_cfg": {**MODEL_CFG["text_cfg"], "no_causal_mask": True}}, "asks for no_causal_mask=True"),
        ({"text_cfg": {**MODEL_CFG["text_cfg"], "hf_model_name": "roberta"}}, "asks for hf_model_name='roberta'"),
        ({"vision_cfg": {**MODEL_CFG["vision_cfg"], "width": 96}}, "describes another network: its vision_width is 96"),
        ({"vision_cfg": {**MODEL_CFG["vision_cfg"], "image_size": [32, 64]}}, "are not square"),
        ({"vision_cfg": None}, "cannot be read"),
    ],
)
def test_what_froster_cannot_follow_is_refused(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = put(tmp_path, "open_clip_model.safetensors", open_clip_config={"model_cfg": {**MODEL_CFG, **change}})
    with pytest.raises(WeightsError, match=message) as caught:
        load_model(path)
    assert "open_clip_config.json" in str(caught.value)


@pytest.mark.parametrize(
    ("prepared", "message"),
    [
        ({"interpolation": "nearest"}, "names the interpolation 'nearest'; froster knows bicubic and bilinear"),
        ({"resize_mode": "stretch"}, "names the resize_mode 'stretch'"),
        ({"fill_color": 127}, "asks for fill_color=127"),
        ({"mean": [0.5, 0.5]}, "cannot be read"),
    ],
)
def test_preparation_that_froster_does_not_know_is_refused(
    prepared: dict[str, Any], message: str, tmp_path: Path
) -> None:
    path = put(tmp_path, open_clip_config={"model_cfg": MODEL_CFG, "preprocess_cfg": prepared})
    with pytest.raises(WeightsError, match=message):
        load_model(path)


def test_a_description_of_other_sizes_is_about_other_weights(tmp_path: Path) -> None:
    other = {**MODEL_CFG, "vision_cfg": {**MODEL_CFG["vision_cfg"], "width": 96}}
    unreadable = {**other, "vision_cfg": {**other["vision_cfg"], "timm_model_name": "convnext_base"}}
    for model_cfg in (other, unreadable):
        path = put(tmp_path, open_clip_config={"model_cfg": model_cfg})
        with (
            pytest.warns(FrosterWarning, match=r"not used for weights\.safetensors: .* vision_width is 96, not 64"),
            pytest.raises(WeightsError, match="give the keys activation, vision_heads, text_heads"),
        ):
            load_model(path)
    with pytest.warns(FrosterWarning):
        assert load_model(path, backbone=SAID).config.activation == "quick_gelu"


HUGGING_FACE = {
    "vision_config": {"hidden_act": "gelu", "num_attention_heads": 2, "layer_norm_eps": 1e-6},
    "text_config": {"hidden_act": "gelu", "num_attention_heads": 4},
}
PREPROCESSOR = {
    "do_resize": True, "size": {"shortest_edge": 32}, "resample": 3, "do_center_crop": True,
    "crop_size": {"height": 32, "width": 32}, "do_normalize": True, "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.25, 0.25, 0.25],
}  # fmt: skip


def hugging_face_facts(folder: Path, config: object, preprocessor: object) -> dict[str, Any]:
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor))
    sizes = {**SIZES, "image_size": 32}
    return gather_facts(sizes, folder / "model.safetensors", {}, hugging_face=True, from_openai=False).values


def test_every_field_of_hugging_faces_descriptions(tmp_path: Path) -> None:
    facts = hugging_face_facts(tmp_path, HUGGING_FACE, PREPROCESSOR)
    assert facts == {
        "activation": "gelu", "vision_heads": 2, "text_heads": 4, "vision_norm_eps": 1e-6, "text_norm_eps": 1e-5,
        "image_mean": (0.5, 0.5, 0.5), "image_std": (0.25, 0.25, 0.25), "resize_mode": "shortest",
        "interpolation": "bicubic",
    }  # fmt: skip
    squash = {**PREPROCESSOR, "size": {"height": 32, "width": 32}, "do_center_crop": False, "resample": 2}
    facts = hugging_face_facts(tmp_path, HUGGING_FACE, squash)
    assert (facts["resize_mode"], facts["interpolation"]) == ("squash", "bilinear")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": {"shortest_edge": 48}}, "resizes to 48 pixels and crops 32"),
        ({"size": 64, "crop_size": 64}, "its image_size is 64, not 32"),
        ({"resample": 0}, "names the interpolation .*Pillow's 0"),
        ({"do_normalize": False}, "leaves out do_normalize"),
        ({"rescale_factor": 1.0}, "asks for rescale_factor=1.0"),
    ],
)
def test_a_preprocessor_that_froster_cannot_follow_is_refused(
    change: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(WeightsError, match=message):
        hugging_face_facts(tmp_path, HUGGING_FACE, {**PREPROCESSOR, **change})


def test_sizes_of_a_known_release_decide_what_all_of_these_sizes_share(tmp_path: Path) -> None:
    def facts(sizes: dict[str, int], **given: object) -> dict[str, Any]:
        return gather_facts(sizes, tmp_path / "h.pt", given, hugging_face=False, from_openai=False).values

    with pytest.raises(
        WeightsError, match=r"does not say activation, resize_mode, .* the keys activation, resize_mode"
    ):
        facts(SIZES)
    with pytest.raises(WeightsError, match=r"does not say resize_mode, "):  # MetaCLIP's and DFN's differ
        facts(SIZES, activation="quick_gelu")
    h_14 = facts(SIZES, activation="gelu")
    assert (h_14["vision_heads"], h_14["text_heads"], h_14["activation"]) == (16, 16, "gelu")
    g_14 = facts({**SIZES, "vision_width": 1408, "vision_layers": 40})
    assert (g_14["vision_heads"], g_14["activation"]) == (16, "gelu")
    assert facts({**SIZES, "image_size": 378})["resize_mode"] == "squash"


def test_heads_of_known_releases_divide_their_widths() -> None:
    assert len(clips_by_size()) == 10
    for (_, _, vision_width, _, text_width, _, _), models in clips_by_size().items():
        for model in models:
            assert vision_width % model.facts["vision_heads"] == 0
            assert text_width % model.facts["text_heads"] == 0


def vit_b_32() -> dict[str, Tensor]:
    """Tensors of OpenAI's sizes, the large ones without memory of their own."""
    config = ClipConfig(224, 32, 768, 12, 12, 512, 12, 8, 512, vocab_size=8)
    state = build_backbone(config).state_dict()
    return {key: torch.zeros(()).expand(value.shape) for key, value in state.items()}


def test_what_is_assumed_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from froster.checkpoints import foreign

    with pytest.warns(FrosterWarning, match=r"assumed: activation=quick_gelu.* OpenAI's ViT-B/32"):
        checkpoint = foreign.read_foreign(vit_b_32(), {}, tmp_path / "b.pt")
    assert checkpoint.sources["activation"] == "assumed: OpenAI's ViT-B/32, of the same sizes"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        released = foreign.read_foreign(vit_b_32(), {"torchscript": True}, tmp_path / "b.pt")
        given = foreign.read_foreign(vit_b_32(), {}, tmp_path / "b.pt", {**SAID, "vision_heads": 12, "text_heads": 8})
    assert released.sources["activation"] == "the rule of OpenAI's releases"
    assert given.sources["activation"] == "given"
    # OpenCLIP's networks of these sizes have either activation: its file name alone does not tell.
    with pytest.raises(WeightsError, match="give the key activation of the backbone"):
        foreign.read_foreign(vit_b_32(), {}, tmp_path / "open_clip_pytorch_model.bin")


def test_what_is_given_goes_before_a_description(tmp_path: Path) -> None:
    path = put(tmp_path, open_clip_config={"model_cfg": MODEL_CFG})
    config = load_model(path, backbone={"activation": "quick_gelu", "image_mean": [0.5, 0.5, 0.5]}).config
    assert (config.activation, config.vision_heads, config.image_mean) == ("quick_gelu", 2, (0.5, 0.5, 0.5))
    with pytest.raises(FrosterError, match="no key 'vision_width' to give; the keys are activation, vision_heads"):
        load_model(path, backbone={"vision_width": 3})
    with pytest.raises(WeightsError, match="there is no activation 'relu'"):
        load_model(path, backbone={"activation": "relu"})
    save_checkpoint(small_clip(), tmp_path / "own.safetensors")
    with pytest.raises(FrosterError, match="says all about its backbone itself"):
        load_model(tmp_path / "own.safetensors", backbone={"activation": "gelu"})


def test_values_as_they_are_typed() -> None:
    typed = {"activation": "gelu", "vision_heads": "16", "image_mean": "0.5,0.5,0.25", "text_norm_eps": "1e-6"}
    assert read_assignments(typed) == {
        "activation": "gelu", "vision_heads": 16, "image_mean": (0.5, 0.5, 0.25), "text_norm_eps": 1e-6,
    }  # fmt: skip
    for wrong in ({"image_mean": "half"}, {"text_norm_eps": "small"}, {"width": "3"}):
        with pytest.raises(FrosterError):
            read_assignments(wrong)


def test_mlps_need_not_be_four_times_the_width(tmp_path: Path) -> None:
    torch.manual_seed(0)
    clip = Clip(ClipConfig(32, 8, 64, 2, 1, 64, 2, 1, 32, vocab_size=512, vision_mlp_width=100, text_mlp_width=72))
    save_file(openai_names(clip.state_dict()), tmp_path / "clip.safetensors")
    loaded = load_model(tmp_path / "clip.safetensors", backbone=SAID)
    assert loaded.config == clip.config
    frames = torch.randn(1, 2, 3, 32, 32)
    assert torch.equal(loaded.encode_video(frames), clip.eval().encode_video(frames))
