import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from froster.backbones.clip import Clip, ClipConfig
from froster.checkpoints import foreign
from froster.errors import WeightsError
from froster.models import load_model
from froster.students import build_student

pytestmark = pytest.mark.usefixtures("no_grad")


def small_clip(seed: int = 0) -> Clip:
    torch.manual_seed(seed)
    return Clip(ClipConfig(32, 8, 64, 2, 1, 64, 2, 1, 32, vocab_size=512)).eval()


def openai_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    names = {}
    for key, value in state.items():
        key = re.sub(r"^text\.", "", re.sub(r"^(text\.|visual\.)blocks\.", r"\1transformer.resblocks.", key))
        key = key.replace("in_proj.", "in_proj_").replace("mlp.0.", "mlp.c_fc.").replace("mlp.2.", "mlp.c_proj.")
        names[key] = value.clone()
    return names


def released_state(clip: Clip) -> dict[str, Tensor]:
    """The names of the authors' network, which holds the embedded prompts but not the table they come from."""
    state = {}
    for key, value in openai_names(clip.state_dict()).items():
        if key.startswith("visual."):
            key = key.replace("visual.", "image_encoder.")
        elif key != "logit_scale":
            key = f"text_encoder.{key}"
        state[f"module.{key}"] = value
    table = state.pop("module.text_encoder.token_embedding.weight")
    prompts = torch.tensor([[510, 3, 8, 511], [510, 7, 1, 511]])
    state["module.prompt_learner.complete_text_embeddings"] = table[prompts].half().float()
    return state


class CfgNode(dict[str, Any]):
    """As yacs has it: settings are the entries, and marks of its own are attributes."""


@pytest.fixture
def released(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Clip, Path]:
    """A tuned CLIP in the authors' layout; what it was tuned from is a release."""
    original, tuned = small_clip(), small_clip(seed=1)
    tuned.text.token_embedding.weight.copy_(original.text.token_embedding.weight)
    torch.save(openai_names(original.state_dict()), tmp_path / "release.pt")
    monkeypatch.setattr(foreign, "openai_release", {(8, 32): "vit-b-16"}.get)
    monkeypatch.setattr(foreign, "fetch_release", {"vit-b-16": tmp_path / "release.pt"}.__getitem__)

    config = CfgNode(MODEL=CfgNode(ARCH="ViT-B/16"), LR=8e-6)
    config.__dict__["__immutable__"] = True
    yacs = ModuleType("yacs.config")
    yacs.CfgNode = CfgNode  # type: ignore[attr-defined]
    with monkeypatch.context() as patch:
        patch.setattr(CfgNode, "__module__", "yacs.config")
        patch.setitem(sys.modules, "yacs", ModuleType("yacs"))
        patch.setitem(sys.modules, "yacs.config", yacs)
        content = {"model": released_state(tuned), "optimizer": {}, "max_accuracy": 1.0, "epoch": 9, "config": config}
        torch.save(content, tmp_path / "vifi.pth")
    return tuned, tmp_path / "vifi.pth"


def test_score_is_the_cosine_of_the_mean_feature() -> None:
    clip = small_clip()
    student = build_student("vifi_clip", clip)
    frames = torch.randn(3, 4, 3, 32, 32)
    classes = torch.nn.functional.normalize(torch.randn(5, 32), dim=-1)
    video_features = student.forward_features(frames)
    assert torch.equal(video_features.frame_embeddings, clip.encode_video(frames))
    ours = student.similarities(video_features, classes)
    for video in range(3):
        mean = sum(clip.encode_image(frames[video, t][None])[0] for t in range(4)) / 4
        for k, text in enumerate(classes):
            assert abs(ours[video, k] - mean @ text / (mean @ mean).sqrt()) < 1e-6
    assert (ours - student.similarities(video_features, classes, "logits")).abs().max() > 1e-4


def test_everything_is_tuned() -> None:
    student = build_student("vifi_clip", small_clip())
    assert student.trainable_parameters().keys() == dict(student.named_parameters()).keys()


def test_released_layout(released: tuple[Clip, Path]) -> None:
    tuned, path = released
    student = load_model(path)
    assert student.name == "vifi_clip"
    frames, tokens = torch.randn(2, 3, 3, 32, 32), torch.tensor([[510, 9, 2, 511], [510, 77, 511, 0]])
    assert (student.encode_video(frames) - tuned.encode_video(frames)).abs().max() < 2e-5
    assert (student.encode_text(tokens) - tuned.encode_text(tokens)).abs().max() < 2e-5
    assert torch.equal(student.logit_scale, tuned.logit_scale)


def test_released_checkpoint_of_another_clip_is_refused(released: tuple[Clip, Path]) -> None:
    _, path = released
    torch.save(openai_names(small_clip(seed=2).state_dict()), path.with_name("release.pt"))
    with pytest.raises(WeightsError, match="trained from another CLIP than vit-b-16"):
        load_model(path)


def test_sizes_that_openai_never_released_are_named(
    released: tuple[Clip, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(foreign, "openai_release", {}.get)
    with pytest.raises(WeightsError, match="none with patches of 8 pixels and images of 32"):
        load_model(released[1])


def test_prompt_tuned_checkpoint_is_another_network(released: tuple[Clip, Path]) -> None:
    """The authors' second stage learns prompts, which this student does not have."""
    state = released_state(released[0])
    state["module.image_encoder.VPT"] = torch.zeros(8, 64)
    torch.save({"model": state}, released[1])
    with pytest.raises(WeightsError, match=r"does not have 1 tensors \(visual\.VPT\)"):
        load_model(released[1], student="vifi_clip")
