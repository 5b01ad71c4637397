import argparse
import json
import os
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from froster.backbones.clip import Clip, ClipConfig
from froster.checkpoints.own import save_checkpoint
from froster.errors import WeightsError
from froster.models import load_model
from froster.students import build_student
from goldens import GoldenFile

pytestmark = pytest.mark.usefixtures("no_grad")

CONFIG = ClipConfig(32, 8, 128, 2, 2, 64, 2, 1, 32, vocab_size=512)
SAID = {"activation": "quick_gelu", "vision_heads": 2, "text_heads": 1}  # of CONFIG: no foreign file does


def random_clip() -> Clip:
    torch.manual_seed(0)
    clip = Clip(CONFIG).eval()
    for parameter in clip.parameters():  # biases and norms too, so that a swapped one shows
        parameter += 0.02 * torch.randn_like(parameter)
    return clip


def openai_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    names = {}
    for key, value in state.items():
        key = re.sub(r"^text\.blocks\.", "transformer.resblocks.", key)
        key = re.sub(r"^visual\.blocks\.", "visual.transformer.resblocks.", key)
        key = re.sub(r"^text\.", "", key).replace("in_proj.", "in_proj_")
        names[key.replace("mlp.0.", "mlp.c_fc.").replace("mlp.2.", "mlp.c_proj.")] = value.clone()
    return names


@pytest.fixture
def clip() -> Clip:
    return random_clip()


@pytest.fixture
def inputs() -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    tokens = torch.randint(1, 500, (3, 12))
    tokens[:, -1] = 511
    return torch.randn(2, 3, 3, 32, 32), tokens


def assert_same(model: torch.nn.Module, clip: Clip, inputs: tuple[Tensor, Tensor], tolerance: float = 1e-5) -> None:
    frames, tokens = inputs
    assert (model.encode_video(frames) - clip.encode_video(frames)).abs().max() < tolerance
    assert (model.encode_text(tokens) - clip.encode_text(tokens)).abs().max() < tolerance
    assert (model.logit_scale - clip.logit_scale).abs() < tolerance


@pytest.mark.filterwarnings("ignore:.*torch.jit.load.*:DeprecationWarning")
def test_openai_release_file(golden_file: GoldenFile) -> None:
    golden = load_file(golden_file("clip.safetensors"))
    model = load_model(golden_file("clip_release.pt"))
    assert model.name == "frame_clip"
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    images = model.encode_video(golden["images"][:, None])[:, 0]
    texts = model.encode_text(golden["tokens"].flatten(0, 1))
    # The file holds float16: its 11 significant bits bound the agreement, not our arithmetic.
    assert (images - golden["image_features"]).abs().max() < 5e-3
    assert (texts - golden["text_features"].flatten(0, 1)).abs().max() < 5e-3
    # The same rounding applied to the float32 weights gives the same features to float32 accuracy.
    rounded = {k: v for k, v in golden.items() if k.startswith("model.")}
    for key, value in torch.jit.load(golden_file("clip_release.pt")).state_dict().items():
        if f"model.{key}" in rounded:
            rounded[f"model.{key}"] = rounded[f"model.{key}"].to(value.dtype).float()
    path = os.environ["FROSTER_CACHE"] + ".safetensors"
    save_file(rounded, path)
    assert (images - load_model(path, backbone=SAID).encode_video(golden["images"][:, None])[:, 0]).abs().max() < 2e-5


@pytest.mark.parametrize("wrapper", [None, "state_dict", "model_state_dict"])
def test_plain_state_dict(clip: Clip, inputs: tuple[Tensor, Tensor], tmp_path: Path, wrapper: str | None) -> None:
    state = openai_names(clip.state_dict())
    torch.save({wrapper: state, "epoch": 3} if wrapper else state, tmp_path / "clip.pt")
    assert_same(load_model(tmp_path / "clip.pt", backbone=SAID), clip, inputs)


def test_legacy_pickle_and_distributed_prefix(clip: Clip, inputs: tuple[Tensor, Tensor], tmp_path: Path) -> None:
    state = {f"module.{key}": value for key, value in openai_names(clip.state_dict()).items()}
    torch.save(state, tmp_path / "clip.bin", _use_new_zipfile_serialization=False)
    assert_same(load_model(tmp_path / "clip.bin", backbone=SAID), clip, inputs)


def test_open_clip_folder(clip: Clip, inputs: tuple[Tensor, Tensor], tmp_path: Path) -> None:
    save_file(openai_names(clip.state_dict()), tmp_path / "open_clip_model.safetensors")
    with pytest.raises(WeightsError, match=r"does not say activation, vision_heads, text_heads, .* give the keys"):
        load_model(tmp_path)
    assert_same(load_model(tmp_path, backbone=SAID), clip, inputs)
    # OpenCLIP's own models use the exact GELU and say so in the file beside.
    sizes = {"vision_cfg": {"width": 128, "head_width": 64}, "text_cfg": {"heads": 1}}
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": sizes}))
    model = load_model(tmp_path)
    assert model.config.activation == "gelu"
    gelu = Clip(model.config).eval()
    gelu.load_state_dict(clip.state_dict())
    assert_same(model, gelu, inputs)
    assert (gelu.encode_video(inputs[0]) - clip.encode_video(inputs[0])).abs().max() > 1e-4


def test_open_clip_custom_text_names(clip: Clip, inputs: tuple[Tensor, Tensor], tmp_path: Path) -> None:
    towers = ("visual.", "logit_scale")
    state = {
        key if key.startswith(towers) else f"text.{key}": value
        for key, value in openai_names(clip.state_dict()).items()
    }
    save_file(state, tmp_path / "model.safetensors")
    assert_same(load_model(tmp_path / "model.safetensors", backbone=SAID), clip, inputs)


def test_hugging_face_clip(inputs: tuple[Tensor, Tensor], tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.CLIPConfig(
        projection_dim=32,
        text_config={
            "vocab_size": 512, "hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 2,
            "num_attention_heads": 1, "eos_token_id": 511, "bos_token_id": 510,
        },
        vision_config={
            "image_size": 32, "patch_size": 8, "hidden_size": 128, "intermediate_size": 512, "num_hidden_layers": 2,
            "num_attention_heads": 2,
        },
    )  # fmt: skip
    theirs = transformers.CLIPModel(config).eval()
    for parameter in theirs.parameters():  # biases and norms start as zeros and ones: swapped ones would not show
        parameter += 0.02 * torch.randn_like(parameter)
    theirs.save_pretrained(tmp_path)
    ours = load_model(tmp_path)
    frames, tokens = inputs
    images = theirs.visual_projection(theirs.vision_model(pixel_values=frames.flatten(0, 1)).pooler_output)
    texts = theirs.text_projection(theirs.text_model(input_ids=tokens).pooler_output)
    assert (ours.encode_video(frames).flatten(0, 1) - images).abs().max() < 2e-5
    assert (ours.encode_text(tokens) - texts).abs().max() < 2e-5


def test_released_checkpoint_with_projectors_and_teacher(
    clip: Clip, inputs: tuple[Tensor, Tensor], tmp_path: Path
) -> None:
    state = {f"model.{key}": value for key, value in openai_names(clip.state_dict()).items()}
    state |= {f"raw_model.{key[6:]}": torch.zeros_like(value) for key, value in state.items()}
    state["projector_v.0.weight"] = torch.randn(32, 32)
    torch.save({"epoch": 1, "model_state": state, "cfg": "TRAIN: {}"}, tmp_path / "checkpoint.pyth")
    model = load_model(tmp_path / "checkpoint.pyth")
    assert model.name == "vclip"
    assert_same(load_model(tmp_path / "checkpoint.pyth", student="frame_clip"), clip, inputs)


@pytest.mark.parametrize("spec", ["frame_clip", "vclip:window=2,boundary=masked"])
def test_own_checkpoint_rebuilds_itself(inputs: tuple[Tensor, Tensor], tmp_path: Path, spec: str) -> None:
    student = build_student(spec, random_clip()).eval()
    student.text.token_embedding.weight[100:400] = 0
    save_checkpoint(student, tmp_path / "student.safetensors")
    again = load_model(tmp_path / "student.safetensors")
    assert (again.name, again.options) == (student.name, student.options)
    assert all(
        torch.equal(a, b) for a, b in zip(student.state_dict().values(), again.state_dict().values(), strict=True)
    )
    # Rows of zeros are not stored.
    assert load_file(tmp_path / "student.safetensors")["text.token_embedding.weight"].shape == (212, 64)
    assert [path.name for path in tmp_path.iterdir()] == ["student.safetensors"]


def test_description_beside_another_format_is_not_about_it(
    clip: Clip, inputs: tuple[Tensor, Tensor], tmp_path: Path
) -> None:
    description = {"vision_config": {"hidden_act": "gelu", "num_attention_heads": 4}, "text_config": {}}
    (tmp_path / "config.json").write_text(json.dumps(description))
    torch.save(openai_names(clip.state_dict()), tmp_path / "clip.pt")
    assert_same(load_model(tmp_path / "clip.pt", backbone=SAID), clip, inputs)


@pytest.mark.parametrize(
    ("description", "message"),
    [
        ('{"vision_config": null, "text_config": {}}', r"config\.json cannot be read"),
        ('{"vision_config": {}', r"config\.json cannot be read"),
        ('{"vision_config": {"hidden_act": "relu"}, "text_config": {}}', "names the activation 'relu'"),
        ('{"vision_config": {"num_attention_heads": 0}, "text_config": {}}', "0 heads do not go together"),
    ],
)
def test_wrong_description_is_named(tmp_path: Path, description: str, message: str) -> None:
    state = {"vision_model.embeddings.class_embedding": torch.zeros(128)}
    for key, value in random_clip().state_dict().items():
        state.setdefault(key, value)
    save_file(state, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(description)
    with pytest.raises(WeightsError, match=message):
        load_model(tmp_path)


def test_numbers_and_options_beside_the_tensors_are_tolerated(
    clip: Clip, inputs: tuple[Tensor, Tensor], tmp_path: Path
) -> None:
    extras = {"best": np.float64(71.5), "epoch": np.int64(3), "args": argparse.Namespace(lr=0.1)}
    torch.save({"state_dict": openai_names(clip.state_dict()), **extras}, tmp_path / "clip.pt")
    assert_same(load_model(tmp_path / "clip.pt", backbone=SAID), clip, inputs)


class Talkative(torch.nn.Module):
    """A module whose TorchScript archive runs code when PyTorch loads it."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(2))

    def forward(self, x: Tensor) -> Tensor:
        return x

    @torch.jit.export
    def __getstate__(self) -> tuple[Tensor, bool]:
        return self.weight, self.training

    @torch.jit.export
    def __setstate__(self, state: tuple[Tensor, bool]) -> None:
        print("CODE OF THE FILE RUNS")
        self.weight = state[0]
        self.training = state[1]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_code_in_a_torchscript_archive_does_not_run(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    torch.jit.script(Talkative()).save(tmp_path / "talkative.pt")
    torch.jit.load(tmp_path / "talkative.pt")
    assert "CODE OF THE FILE RUNS" in capfd.readouterr().out
    with pytest.raises(WeightsError, match=r"talkative\.pt"):
        load_model(tmp_path / "talkative.pt")
    assert capfd.readouterr().out == ""


class Malicious:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {os.environ['FROSTER_CACHE']}-hacked",)


@pytest.mark.parametrize("new_format", [True, False])
def test_malicious_pickle_is_refused_not_run(tmp_path: Path, new_format: bool) -> None:
    torch.save({"model_state": Malicious()}, tmp_path / "evil.pt", _use_new_zipfile_serialization=new_format)
    with pytest.raises(WeightsError, match=r"evil\.pt was rejected: .*posix\.system"):
        load_model(tmp_path / "evil.pt")
    assert not Path(os.environ["FROSTER_CACHE"] + "-hacked").exists()


def damage(path: Path, how: str, clip: Clip) -> None:
    state = openai_names(clip.state_dict())
    if how == "truncated torch.save":
        torch.save(state, path)
        path.write_bytes(path.read_bytes()[:-5000])
    elif how == "truncated legacy pickle":
        torch.save(state, path, _use_new_zipfile_serialization=False)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    elif how == "truncated safetensors":
        save_file(state, path)
        path.write_bytes(path.read_bytes()[:-5000])
    elif how == "truncated TorchScript":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("archive/constants.pkl", "")
            archive.writestr("archive/data.pkl", b"\x80\x02c__torch__\nClip")
    elif how.startswith("own"):
        save_checkpoint(clip, path)
        with safe_open(path, "pt") as file:
            metadata, tensors = file.metadata(), {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        if how.endswith("future"):
            metadata["format"] = "froster-99"
        else:
            del tensors["text.token_embedding.rows"]
        save_file(tensors, path, metadata=metadata)
    elif how == "empty":
        path.touch()
    elif how == "web page":
        path.write_text("<!DOCTYPE html><html>404 Not Found</html>")
    elif how == "other zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("readme.txt", "hello")
    elif how == "other network":
        save_file({"fc.weight": torch.zeros(3)}, path)
    elif how == "number":
        torch.save(3, path)
    elif how == "lacks a tensor":
        del state["visual.ln_post.bias"]
        save_file(state, path)
    elif how == "one too many":
        save_file({**state, "visual.extra": torch.zeros(1)}, path)
    elif how == "wrong shape":
        save_file({**state, "ln_final.bias": torch.zeros(3)}, path)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("truncated torch.save", "half downloaded"),
        ("truncated legacy pickle", "half downloaded"),
        ("truncated safetensors", "half downloaded"),
        ("empty", "is empty"),
        ("web page", "is not a checkpoint"),
        ("other zip", "not a checkpoint"),
        ("other network", r"is not a CLIP: .*fc\.weight"),
        ("number", "no named tensors"),
        ("lacks a tensor", r"lacks 1 tensors \(visual\.ln_post\.bias\)"),
        ("one too many", r"does not have 1 tensors \(visual\.extra\)"),
        ("wrong shape", r"ln_final\.bias is \(3,\), expected \(64,\)"),
        ("truncated TorchScript", "half downloaded"),
        ("own, without its token rows", "written or changed by another program"),
        ("own, of the future", "made by a newer froster"),
        ("missing", "There is no weights file"),
    ],
)
def test_damaged_file_gives_one_sentence(tmp_path: Path, clip: Clip, how: str, message: str) -> None:
    path = tmp_path / "weights.pt"
    damage(path, how, clip)
    with pytest.raises(WeightsError, match=message) as error:
        load_model(path, backbone=None if how.startswith("own") else SAID)
    assert "\n" not in str(error.value)
    assert str(path) in str(error.value)
