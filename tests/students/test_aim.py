import pytest
import torch
from safetensors.torch import load_file

from froster.backbones.blocks import Block
from froster.backbones.clip import Clip, ClipConfig
from froster.models import load_model
from froster.students import VideoStudent, build_student
from froster.students.adaptformer import Adapter
from goldens import GoldenFile

pytestmark = pytest.mark.usefixtures("no_grad")

TOLERANCE = 2e-5  # largest absolute difference, float32


def small_clip() -> Clip:
    torch.manual_seed(0)
    return Clip(ClipConfig(32, 8, 64, 2, 1, 64, 2, 1, 32)).eval()


def trained_aim() -> VideoStudent:
    student = build_student("aim", small_clip())
    for parameter in student.trainable_parameters().values():
        torch.nn.init.normal_(parameter, std=0.2)
    return student


def test_released_aim(golden_file: GoldenFile) -> None:
    expected = load_file(golden_file("student_aim.safetensors"))
    student = load_model(golden_file("student_aim.pyth"), student="aim")
    for ours, name in (
        (student.encode_video(expected["frames"]), "frame_features"),
        (student.visual.encode_tokens(expected["frames"]), "last_tokens"),
        (student.encode_text(expected["tokens"]), "text_features"),
    ):
        assert (ours - expected[name]).abs().max() < TOLERANCE, name


def test_starts_as_clip() -> None:
    frames = torch.randn(2, 3, 3, 32, 32)
    before = small_clip().encode_video(frames)
    assert (build_student("aim", small_clip()).encode_video(frames) - before).abs().max() < 1e-5


def attention_by_hand(block: Block, x: torch.Tensor) -> torch.Tensor:
    """Attention of one head among the rows of x `(N, C)`."""
    q, k, v = block.attn.in_proj(block.ln_1(x)).chunk(3, dim=-1)
    return block.attn.out_proj((q @ k.T / q.shape[-1] ** 0.5).softmax(-1) @ v)


def adapter_by_hand(adapter: Adapter, x: torch.Tensor) -> torch.Tensor:
    hidden = x @ adapter.down.weight.T + adapter.down.bias
    hidden = hidden * 0.5 * (1 + torch.erf(hidden / 2**0.5))
    return hidden @ adapter.up.weight.T + adapter.up.bias


def test_layer_agrees_with_loops_over_patches_and_frames() -> None:
    block = trained_aim().visual.blocks[1]
    x = torch.randn(2, 3, 17, 64)
    ours = block(x)
    for clip in range(2):
        expected = x[clip].clone()
        for patch in range(17):
            expected[:, patch] += adapter_by_hand(block.time_adapter, attention_by_hand(block, x[clip, :, patch]))
        for frame in range(3):
            y = attention_by_hand(block, expected[frame])
            expected[frame] += y + adapter_by_hand(block.space_adapter, y)
        z = block.ln_2(expected)
        expected += block.mlp(z) + 0.5 * adapter_by_hand(block.mlp_adapter, z)
        assert (ours[clip] - expected).abs().max() < 1e-5


def test_frames_are_a_set() -> None:
    """No positions in time: frames in another order have the same features, in that order."""
    student = trained_aim()
    frames, order = torch.randn(1, 5, 3, 32, 32), torch.tensor([3, 0, 4, 2, 1])
    features = student.encode_video(frames)
    assert (student.encode_video(frames[:, order]) - features[:, order]).abs().max() < 1e-5
    assert (student.encode_video(frames[:, :4]) - features[:, :4]).abs().max() > 1e-3, "frames see one another"


def test_trains_the_adapters_alone() -> None:
    student = build_student("aim", small_clip())
    of_clip = {name for name, _ in small_clip().named_parameters()}
    assert student.trainable_parameters().keys() == {name for name, _ in student.named_parameters()} - of_clip
    assert len(student.trainable_parameters()) == 2 * 3 * 4
