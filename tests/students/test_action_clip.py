import re
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

from froster.backbones.clip import Clip, ClipConfig
from froster.checkpoints.foreign import to_clip_names
from froster.errors import WeightsError
from froster.models import load_model
from froster.students import build_student
from froster.students.action_clip import ActionClip, TemporalTransformer
from goldens import GoldenFile

pytestmark = pytest.mark.usefixtures("no_grad")

TOLERANCE = 2e-5  # largest absolute difference, float32


def small_clip(embed_dim: int = 64, text_heads: int = 1) -> Clip:
    torch.manual_seed(0)
    return Clip(ClipConfig(32, 8, 64, 2, 1, 64, 2, text_heads, embed_dim, vocab_size=512)).eval()


def openai_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    names = {}
    for key, value in state.items():
        key = re.sub(r"^text\.", "", re.sub(r"^(text\.|visual\.)blocks\.", r"\1transformer.resblocks.", key))
        key = key.replace("in_proj.", "in_proj_").replace("mlp.0.", "mlp.c_fc.").replace("mlp.2.", "mlp.c_proj.")
        names[key] = value.clone()
    return names


def released_head(released: dict[str, Tensor]) -> TemporalTransformer:
    state = ActionClip.from_released(to_clip_names({f"fusion_model.{key}": value for key, value in released.items()}))
    head = TemporalTransformer(width=64, heads=1, layers=6, frames=77)
    head.load_state_dict({key.removeprefix("temporal."): value for key, value in state.items()})
    return head


def head_by_hand(released: dict[str, Tensor], x: Tensor, heads: int = 1) -> Tensor:
    """The authors' head in PyTorch's own multi-head attention, under the authors' names: `(B, T, D)` -> `(B, T, D)`."""
    width = x.shape[-1]
    y = x + released["frame_position_embeddings.weight"][: x.shape[1]]
    for layer in range(6):
        weights = {
            key.removeprefix(prefix): value
            for key, value in released.items()
            if key.startswith(prefix := f"transformer.resblocks.{layer}.")
        }
        attention = torch.nn.MultiheadAttention(width, heads, batch_first=True)
        attention.load_state_dict(
            {k.removeprefix("attn."): value for k, value in weights.items() if k.startswith("attn.")}
        )
        h = F.layer_norm(y, (width,), weights["ln_1.weight"], weights["ln_1.bias"], eps=1e-12)
        y = y + attention(h, h, h)[0]
        h = F.layer_norm(y, (width,), weights["ln_2.weight"], weights["ln_2.bias"], eps=1e-12)
        h = h @ weights["mlp.c_fc.weight"].T + weights["mlp.c_fc.bias"]
        y = y + (h * torch.sigmoid(1.702 * h)) @ weights["mlp.c_proj.weight"].T + weights["mlp.c_proj.bias"]
    return x + y


def golden_head(golden_file: GoldenFile) -> dict[str, Tensor]:
    released = torch.load(golden_file("action_clip_head.pyth"), weights_only=True)["fusion_model_state_dict"]
    return {key.removeprefix("module."): value for key, value in released.items()}


def test_released_head(golden_file: GoldenFile) -> None:
    golden = load_file(golden_file("action_clip_head.safetensors"))
    features = released_head(golden_head(golden_file))(golden["frame_features"])
    assert (features.mean(dim=1) - golden["video_feature"]).abs().max() < TOLERANCE


def test_head_of_the_authors_repository(golden_file: GoldenFile) -> None:
    golden = load_file(golden_file("more/action_clip.safetensors"))
    head = released_head({key.removeprefix("Transf."): golden[key] for key in golden if key.startswith("Transf.")})
    features = head(golden["in.frame_features"])
    assert (features.mean(dim=1) - golden["out.Transf"]).abs().max() < TOLERANCE


def test_released_layout(golden_file: GoldenFile, tmp_path: Path) -> None:
    clip, released = small_clip(), golden_head(golden_file)
    fusion = {f"module.{key}": value for key, value in released.items()}
    content = {"epoch": 3, "model_state_dict": openai_names(clip.state_dict()), "fusion_model_state_dict": fusion}
    torch.save(content, tmp_path / "model_best.pt")
    student = load_model(tmp_path / "model_best.pt")
    frames = torch.randn(2, 5, 3, 32, 32)
    expected = head_by_hand(released, clip.encode_video(frames))
    assert student.name == "action_clip"
    assert (student.encode_video(frames) - expected).abs().max() < TOLERANCE

    content["fusion_model_state_dict"] = {
        "module.lstm_visual.weight_ih_l0": torch.ones(256, 64)
    }  # another of its heads
    torch.save(content, tmp_path / "lstm.pt")
    with pytest.raises(WeightsError, match="lacks 73 tensors"):
        load_model(tmp_path / "lstm.pt", student="action_clip")


@pytest.mark.parametrize("heads", [1, 2, 4])
@pytest.mark.parametrize("scale", [1.0, 1e-4])  # where the features are small, the epsilon of the LayerNorm shows
def test_head_agrees_with_the_loop_by_hand(heads: int, scale: float) -> None:
    student = build_student("action_clip", small_clip(32, text_heads=heads))
    head = student.temporal
    for parameter in head.parameters():  # biases too, so that a swapped one shows
        parameter.copy_(0.3 * torch.randn_like(parameter))
    head.positional_embedding *= scale
    released = openai_names({f"text.{key}": value for key, value in head.state_dict().items()})
    released["frame_position_embeddings.weight"] = released.pop("positional_embedding")
    x = scale * torch.randn(2, 7, 32)
    expected = head_by_hand(released, x, heads)
    assert (head(x) - expected).abs().max() < TOLERANCE * expected.abs().max()


def test_video_is_the_mean_of_its_frames_features() -> None:
    student = build_student("action_clip", small_clip())
    video_features = student.forward_features(torch.randn(3, 4, 3, 32, 32))
    classes = F.normalize(torch.randn(6, 64), dim=-1)
    video = torch.stack([frames.sum(dim=0) / 4 for frames in video_features.frame_embeddings])
    expected = torch.stack([torch.stack([v @ c / v.norm() for c in classes]) for v in video])
    torch.testing.assert_close(student.similarities(video_features, classes), expected, atol=1e-6, rtol=0)


def test_knows_before_from_after() -> None:
    student = build_student("action_clip", small_clip())
    frames = torch.randn(1, 5, 3, 32, 32)
    backwards = student.encode_video(frames.flip(1)).flip(1)
    assert (backwards - student.encode_video(frames)).abs().max() > 1e-3


def test_starts_near_clip_not_as_clip() -> None:
    clip = small_clip()
    frames = torch.randn(2, 5, 3, 32, 32)
    expected = clip.encode_video(frames)
    cosine = F.cosine_similarity(build_student("action_clip", clip).encode_video(frames), expected, dim=-1)
    assert cosine.min() > 0.98
    assert cosine.max() < 0.99999


def test_positions_of_long_clips_are_interpolated() -> None:
    head = build_student("action_clip", small_clip()).temporal
    table = head.positional_embedding
    stretched = torch.empty(2 * 77 - 1, 64)  # one more between any two
    stretched[::2] = table
    stretched[1::2] = (table[1:] + table[:-1]) / 2
    for frames, positions in ((8, table[:8]), (77, table), (2 * 77 - 1, stretched)):
        x = torch.randn(2, frames, 64)
        torch.testing.assert_close(head(x), x + head.blocks(x + positions))


def test_starts_with_the_authors_values() -> None:
    torch.manual_seed(0)
    for name, value in TemporalTransformer(width=128, heads=2, layers=2, frames=77).named_parameters():
        if name.endswith("bias"):
            assert not value.any(), name
        elif "ln_" in name:
            assert (value == 1).all(), name
        elif "in_proj" in name:  # uniform, of the variance 2 / (columns + rows)
            assert value.std().item() == pytest.approx((2 / (128 + 3 * 128)) ** 0.5, rel=0.05), name
            assert value.abs().max() <= (6 / (128 + 3 * 128)) ** 0.5, name
        else:
            assert value.std().item() == pytest.approx(0.02, rel=0.05), name
