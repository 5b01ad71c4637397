import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from froster.backbones.clip import Clip, ClipConfig
from froster.models import load_model
from froster.students import build_student
from goldens import GoldenFile

pytestmark = pytest.mark.usefixtures("no_grad")

TOLERANCE = 2e-5  # largest absolute difference, float32


def small_clip() -> Clip:
    torch.manual_seed(0)
    return Clip(ClipConfig(32, 8, 64, 2, 1, 64, 2, 1, 32)).eval()


def test_released_adaptformer(golden_file: GoldenFile) -> None:
    expected = load_file(golden_file("student_adaptformer.safetensors"))
    student = load_model(golden_file("student_adaptformer.pyth"), student="adaptformer")
    for ours, name in (
        (student.encode_video(expected["frames"]), "frame_features"),
        (student.visual.encode_tokens(expected["frames"]), "last_tokens"),
        (student.encode_text(expected["tokens"]), "text_features"),
    ):
        assert (ours - expected[name]).abs().max() < TOLERANCE, name


def test_starts_as_clip() -> None:
    frames = torch.randn(2, 3, 3, 32, 32)
    before = small_clip().encode_video(frames)
    assert torch.equal(build_student("adaptformer", small_clip()).encode_video(frames), before)


def test_layer_agrees_with_the_formula() -> None:
    student = build_student("adaptformer", small_clip())
    for parameter in student.trainable_parameters().values():
        torch.nn.init.normal_(parameter, std=0.2)
    clip = small_clip()
    x = torch.randn(2, 3, 17, 64)
    adapter = student.visual.blocks[1].mlp_adapter
    block = clip.visual.blocks[1]
    y = block.ln_2(x + block.attn(block.ln_1(x)))
    hidden = y @ adapter.down.weight.T + adapter.down.bias
    assert hidden.shape[-1] == 16
    hidden = hidden * 0.5 * (1 + torch.erf(hidden / 2**0.5))
    expected = block(x) + 0.5 * (hidden @ adapter.up.weight.T + adapter.up.bias)
    assert (student.visual.blocks[1](x) - expected).abs().max() < 1e-5


def test_trains_the_adapters_alone() -> None:
    student = build_student("adaptformer", small_clip())
    of_clip = {name for name, _ in small_clip().named_parameters()}
    assert student.trainable_parameters().keys() == {name for name, _ in student.named_parameters()} - of_clip
    assert len(student.trainable_parameters()) == 2 * 4


def test_every_adapter_learns() -> None:
    """The zero start holds back the gradient of the first layer for one step, no longer."""
    student = build_student("adaptformer", small_clip())
    trained = student.trainable_parameters()
    frames, target = torch.randn(1, 2, 3, 32, 32), torch.randn(1, 2, 32)
    optimizer = torch.optim.SGD(trained.values(), lr=0.1)
    before = {name: parameter.clone() for name, parameter in trained.items()}
    with torch.enable_grad():
        for _ in range(2):
            optimizer.zero_grad()
            F.mse_loss(student.encode_video(frames), target).backward()
            optimizer.step()
    assert [name for name in trained if torch.equal(trained[name], before[name])] == []
