"""Weights as training programs lay them out: wrapped names, averages, DeepSpeed, several files."""

import argparse
import io
import json
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from froster.backbones.clip import Clip
from froster.checkpoints.own import save_checkpoint
from froster.errors import FrosterWarning, WeightsError
from froster.models import load_model
from fuzz.weights import SAID, fuzz, openai_names, small_clip

pytestmark = pytest.mark.usefixtures("no_grad")


@pytest.fixture
def clip() -> Clip:
    return small_clip()


def prefixed(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {prefix + key: value for key, value in state.items()}


def assert_loads(path: Path, clip: Clip) -> None:
    loaded = load_model(path, backbone=SAID).state_dict()
    assert loaded.keys() == clip.state_dict().keys()
    assert all(torch.equal(loaded[key], value) for key, value in clip.state_dict().items())


@pytest.mark.parametrize(
    "prefix",
    [
        "_orig_mod.", "module._orig_mod.", "module.module.", "clip.", "model.clip.", "_orig_mod.module.model.",
        "clip_model.", "net.backbone.", "module._fsdp_wrapped_module.model.",
    ],
)  # fmt: skip
def test_prefixes_in_any_nesting(clip: Clip, tmp_path: Path, prefix: str) -> None:
    torch.save(prefixed(openai_names(clip.state_dict()), prefix), tmp_path / "clip.pt")
    assert_loads(tmp_path / "clip.pt", clip)


def test_compiled_parts_inside_a_name(clip: Clip, tmp_path: Path) -> None:
    state = {
        key.replace("visual.", "visual._orig_mod."): value for key, value in openai_names(clip.state_dict()).items()
    }
    torch.save(state, tmp_path / "clip.pt")
    assert_loads(tmp_path / "clip.pt", clip)


@pytest.mark.parametrize("key", ["module", "params", "model_ema", "ema_state_dict", "state_dict_ema", "params_ema"])
def test_one_state_dict_under_any_usual_name(clip: Clip, tmp_path: Path, key: str) -> None:
    torch.save({key: openai_names(clip.state_dict()), "step": 3, "optimizer": {"state": {}}}, tmp_path / "clip.pt")
    assert_loads(tmp_path / "clip.pt", clip)


def test_trained_weights_go_before_their_average_with_a_warning(clip: Clip, tmp_path: Path) -> None:
    state = openai_names(clip.state_dict())
    average = {key: torch.zeros_like(value) for key, value in state.items()}
    torch.save({"state_dict_ema": average, "state_dict": state}, tmp_path / "clip.pt")
    with pytest.warns(FrosterWarning, match=r"sets of weights \(state_dict, state_dict_ema\); state_dict is used"):
        assert_loads(tmp_path / "clip.pt", clip)
    torch.save(prefixed(average, "model_ema.") | prefixed(state, "model."), tmp_path / "clip.pt")
    with pytest.warns(FrosterWarning, match=r"several networks \('model', 'model_ema'\); 'model' is used"):
        assert_loads(tmp_path / "clip.pt", clip)


def test_deepspeed_folder(clip: Clip, tmp_path: Path) -> None:
    step = tmp_path / "global_step7"
    step.mkdir()
    torch.save({"module": openai_names(clip.state_dict()), "ds_version": "0.15"}, step / "mp_rank_00_model_states.pt")
    (tmp_path / "latest").write_text("global_step7")
    assert_loads(tmp_path, clip)
    empty = {key: torch.empty(0) for key in openai_names(clip.state_dict())}
    torch.save({"module": empty}, step / "mp_rank_00_model_states.pt")
    with pytest.raises(WeightsError, match=r"ZeRO-3 .* zero_to_fp32\.py"):
        load_model(tmp_path)


@pytest.mark.parametrize(("index", "suffix"), [("model.safetensors", "safetensors"), ("pytorch_model.bin", "bin")])
def test_sharded_checkpoint(clip: Clip, tmp_path: Path, index: str, suffix: str) -> None:
    state = openai_names(clip.state_dict())
    stem, places = index.partition(".")[0], {}
    for number, keys in enumerate((sorted(state)[:20], sorted(state)[20:]), start=1):
        name = f"{stem}-{number:05}-of-00002.{suffix}"
        part = {key: state[key] for key in keys}
        save_file(part, tmp_path / name) if suffix == "safetensors" else torch.save(part, tmp_path / name)
        places |= dict.fromkeys(keys, name)
    (tmp_path / f"{index}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
    for path in (tmp_path, tmp_path / f"{index}.index.json", tmp_path / f"{stem}-00002-of-00002.{suffix}"):
        assert_loads(path, clip)
    (tmp_path / f"{stem}-00001-of-00002.{suffix}").unlink()
    with pytest.raises(WeightsError, match=r"needs .*-00001-of-00002\.\w+, which is not next to it"):
        load_model(tmp_path)
    (tmp_path / f"{index}.index.json").write_text(json.dumps({"weight_map": {"a": "../secret.bin"}}))
    with pytest.raises(WeightsError, match="not a file next to it"):
        load_model(tmp_path)


def test_epsilons_of_a_description_are_used_and_kept(clip: Clip, tmp_path: Path) -> None:
    save_file(openai_names(clip.state_dict()), tmp_path / "open_clip_model.safetensors")
    vision = {"width": 64, "head_width": 64, "norm_kwargs": {"eps": 1e-3}}
    description = {"model_cfg": {"quick_gelu": True, "vision_cfg": vision, "text_cfg": {"heads": 1}}}
    (tmp_path / "open_clip_config.json").write_text(json.dumps(description))
    model = load_model(tmp_path)
    frames = torch.randn(1, 2, 3, 32, 32)
    for module in clip.visual.modules():
        if isinstance(module, torch.nn.LayerNorm):
            module.eps = 1e-3
    assert (model.encode_video(frames) - clip.encode_video(frames)).abs().max() < 1e-5
    assert (load_model_of(small_clip(), tmp_path).encode_video(frames) - clip.encode_video(frames)).abs().max() > 1e-4
    save_checkpoint(model, tmp_path / "own.safetensors")
    assert (load_model(tmp_path / "own.safetensors").encode_video(frames) - model.encode_video(frames)).abs().max() == 0


def load_model_of(clip: Clip, folder: Path) -> torch.nn.Module:
    save_checkpoint(clip, folder / "plain.safetensors")
    return load_model(folder / "plain.safetensors")


def test_objects_beside_the_tensors_stay_unbuilt(clip: Clip, tmp_path: Path) -> None:
    extras = {
        "best": np.float64(71.5), "dtype": np.dtype("float32"), "args": argparse.Namespace(lr=0.1), "path": Path("a"),
        "history": OrderedDict(a=[1, 2]), "array": np.zeros(3), "seen": {1, 2}, "device": torch.device("cpu"),
    }  # fmt: skip
    for legacy in (False, True):
        content = {"state_dict": openai_names(clip.state_dict()), **extras}
        torch.save(content, tmp_path / "clip.pt", _use_new_zipfile_serialization=not legacy)
        assert_loads(tmp_path / "clip.pt", clip)


def test_state_of_a_dtype_never_reaches_numpy(tmp_path: Path) -> None:
    """numpy's `__setstate__` writes where a made-up state tells it to: a crash of 61 bytes."""
    path = tmp_path / "weights.pkl"
    path.write_bytes(
        b"\x80\x02cnumpy\ndtype\nU\x02V8K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x10tb."
    )
    with pytest.raises(WeightsError, match=r"weights\.pkl .* holds a pickled dtype and no named tensors"):
        load_model(path)


def test_broken_weights_are_named(clip: Clip, tmp_path: Path) -> None:
    for value in (float("nan"), float("inf")):
        state = openai_names(clip.state_dict())
        state["visual.proj"][3, 4] = value
        save_file(state, tmp_path / "clip.safetensors")
        with pytest.raises(WeightsError, match=r"1 of its \d+ tensors hold NaN or infinite numbers \(visual\.proj\)"):
            load_model(tmp_path / "clip.safetensors", backbone=SAID)


def test_zip_bomb_and_overlapping_tensors_are_refused(clip: Clip, tmp_path: Path) -> None:
    path = tmp_path / "bomb.pt"
    torch.save({"visual.conv1.weight": torch.zeros(20_000_000)}, tmp_path / "large.pt")
    with zipfile.ZipFile(tmp_path / "large.pt") as large, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as small:
        for name in large.namelist():
            small.writestr(name, large.read(name))
    with pytest.raises(WeightsError, match="more than 8 times its size"):
        load_model(path)
    for stretched in (torch.zeros(1).expand(30_000, 30_000), torch.zeros(4_000).as_strided((2_000, 2_000), (1, 1))):
        torch.save({"visual.conv1.weight": stretched}, path)
        with pytest.raises(WeightsError, match=r"bomb\.pt is not a whole checkpoint"):
            load_model(path)


def test_modules_that_refer_to_one_another_without_end(tmp_path: Path) -> None:
    code = b"\x80\x02c__torch__\nM\n)\x81}b" + b"q\x00"
    for _ in range(60):  # each module holds the one before twice
        code += b"0c__torch__\nM\n)\x81}(X\x01\x00\x00\x00ah\x00X\x01\x00\x00\x00bh\x00ubq\x00"
    with zipfile.ZipFile(tmp_path / "m.pt", "w") as archive:
        archive.writestr("m/constants.pkl", "")
        archive.writestr("m/data.pkl", code + b".")
    with pytest.raises(WeightsError, match="nested without end"):
        load_model(tmp_path / "m.pt")


def test_deep_keys_do_not_overflow_the_stack(tmp_path: Path) -> None:
    (tmp_path / "deep.pkl").write_bytes(b"\x80\x02}" + b")" + b"\x85" * 1_000_000 + b"Ns.")
    with pytest.raises(WeightsError, match="keys that are not names"):
        load_model(tmp_path / "deep.pkl")


@pytest.mark.parametrize(
    ("key", "value"),
    [("patch_size", 0), ("vision_layers", 10**9), ("vision_heads", 3), ("vocab_size", 10**9), ("text_width", "64"),
     ("activation", "relu"), ("image_size", True), ("embed_dim", None), ("text_norm_eps", 0.0)],
)  # fmt: skip
def test_impossible_descriptions_are_refused(clip: Clip, tmp_path: Path, key: str, value: object) -> None:
    path = tmp_path / "own.safetensors"
    save_checkpoint(clip, path)
    with safe_open(path, "pt") as file:
        metadata, tensors = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    metadata["config"] = json.dumps(json.loads(metadata["config"]) | {key: value})
    save_file(tensors, path, metadata=metadata)
    with pytest.raises(WeightsError, match=r"own\.safetensors is a damaged froster checkpoint"):
        load_model(path)


def test_recorded_clip_starts_no_download_and_opens_no_other_file(
    clip: Clip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "adapters.safetensors"
    monkeypatch.setattr("froster.models.fetch_release", lambda name: pytest.fail("a download starts"))
    for name, message in (("vit-b-16", "Download it once"), ("/etc/passwd", "there is no /etc/passwd")):
        save_checkpoint(clip, path)
        with safe_open(path, "pt") as file:
            metadata, tensors = file.metadata(), {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        save_file(tensors, path, metadata=metadata | {"clip": json.dumps({"name": name, "sha256": "0" * 64})})
        with pytest.raises(WeightsError, match=message):
            load_model(path)


def test_an_archive_without_checksums_is_read(clip: Clip, tmp_path: Path) -> None:
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(openai_names(clip.state_dict()), tmp_path / "clip.pt")
    finally:
        torch.serialization.set_crc32_options(True)
    assert_loads(tmp_path / "clip.pt", clip)


def test_a_plain_pickle_is_not_a_checkpoint(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    pickle.dump({"a": [1, 2.5, "x"]}, buffer)
    (tmp_path / "a.pkl").write_bytes(buffer.getvalue())
    with pytest.raises(WeightsError, match="no named tensors"):
        load_model(tmp_path / "a.pkl")


def test_mutated_files_end_in_a_sentence(tmp_path: Path) -> None:
    bad = [(what, found) for what, found, _ in fuzz(24, 1, tmp_path) if found not in ("refused", "same")]
    assert bad == []
