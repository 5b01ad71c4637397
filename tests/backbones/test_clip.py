import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

from froster.backbones.blocks import Grid, QuickGELU
from froster.backbones.clip import Clip, ClipConfig
from froster.checkpoints.foreign import infer_config, to_clip_names
from froster.checkpoints.read import load_into
from goldens import GoldenFile

pytestmark = pytest.mark.usefixtures("no_grad")

TOLERANCE = 2e-5  # largest absolute difference, float32


def small_clip(**changes: object) -> Clip:
    sizes = {
        "image_size": 32,
        "patch_size": 8,
        "vision_width": 64,
        "vision_layers": 2,
        "vision_heads": 1,
        "text_width": 64,
        "text_layers": 2,
        "text_heads": 1,
        "embed_dim": 32,
    }
    torch.manual_seed(0)
    return Clip(ClipConfig(**{**sizes, **changes})).eval()


@pytest.fixture(scope="module")
def golden(golden_file: GoldenFile) -> dict[str, Tensor]:
    return load_file(golden_file("clip.safetensors"))


@pytest.fixture(scope="module")
def clip(golden: dict[str, Tensor]) -> Clip:
    state = to_clip_names({key: value for key, value in golden.items() if key.startswith("model.")})
    model = Clip(infer_config(state)).eval()
    load_into(model, state, "clip.safetensors")
    return model


def test_features_and_logits_are_the_originals(clip: Clip, golden: dict[str, Tensor]) -> None:
    images = clip.encode_image(golden["images"])
    texts = clip.encode_text(golden["tokens"].flatten(0, 1)).unflatten(0, golden["tokens"].shape[:2])
    classes = F.normalize(F.normalize(texts, dim=-1).mean(dim=0), dim=-1)
    logits = clip.logit_scale.exp() * F.normalize(images, dim=-1) @ classes.T
    for ours, name in (
        (images, "image_features"),
        (texts, "text_features"),
        (classes, "class_matrix"),
        (logits, "logits"),
    ):
        assert (ours - golden[name]).abs().max() < TOLERANCE, name


def test_cutting_the_padding_changes_nothing(clip: Clip, golden: dict[str, Tensor]) -> None:
    tokens = golden["tokens"].flatten(0, 1)
    longest = int(tokens.argmax(dim=1).max()) + 1
    assert longest < tokens.shape[1]
    difference = clip.encode_text(tokens[:, :longest]) - clip.encode_text(tokens)
    assert difference.abs().max() < 1e-5


def test_frames_do_not_see_one_another() -> None:
    clip, frames = small_clip(), torch.randn(2, 3, 3, 32, 32)
    one_by_one = torch.stack([clip.encode_image(frames[:, t]) for t in range(3)], dim=1)
    assert (clip.encode_video(frames) - one_by_one).abs().max() < 1e-5


def test_any_square_size_that_fits_the_patch() -> None:
    clip = small_clip()
    assert clip.encode_video(torch.randn(1, 2, 3, 48, 48)).shape == (1, 2, 32)
    native = clip.visual.positions(Grid(4, 4))
    assert native is clip.visual.positional_embedding
    # Interpolated positions of a constant table stay constant, whatever the grid.
    clip.visual.positional_embedding[1:] = 0.5
    assert (clip.visual.positions(Grid(7, 7))[1:] - 0.5).abs().max() < 1e-6


def test_size_that_does_not_fit_the_patch_is_refused() -> None:
    with pytest.raises(ValueError, match=r"30 x 32 pixels: .* multiple of 8"):
        small_clip().encode_video(torch.randn(1, 2, 3, 30, 32))


def test_attention_agrees_with_the_textbook() -> None:
    attention = small_clip(vision_width=128, vision_heads=2).visual.blocks[0].attn
    x = torch.randn(1, 2, 5, 128)
    q, k, v = attention.in_proj(x).chunk(3, dim=-1)
    heads = [
        ((q[..., h] @ k[..., h].transpose(-1, -2)) / 64**0.5).softmax(-1) @ v[..., h]
        for h in (slice(0, 64), slice(64, 128))
    ]
    expected = attention.out_proj(torch.cat(heads, dim=-1))
    assert (attention(x) - expected).abs().max() < 1e-5


def test_bfloat16_stays_close() -> None:
    clip, frames = small_clip(), torch.randn(1, 2, 3, 32, 32)
    exact = clip.encode_video(frames)
    rounded = clip.to(torch.bfloat16).encode_video(frames)
    assert rounded.dtype == torch.bfloat16
    assert F.cosine_similarity(exact, rounded.float(), dim=-1).min() > 0.99


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.bfloat16, 0.02)])
def test_quick_gelu_has_the_formulas_values_and_slope(dtype: torch.dtype, tolerance: float) -> None:
    x = torch.linspace(-8, 8, 1001).to(dtype)
    exact = x.double().requires_grad_()
    with torch.enable_grad():
        leaf = x.clone().requires_grad_()
        out, expected = QuickGELU()(leaf), exact * torch.sigmoid(1.702 * exact)
        (3 * out).sum().backward()
        (3 * expected).sum().backward()
    assert out.dtype == leaf.grad.dtype == dtype
    assert torch.equal(out, QuickGELU()(x))
    torch.testing.assert_close(out.double(), expected, atol=tolerance, rtol=tolerance)
    torch.testing.assert_close(leaf.grad.double(), exact.grad, atol=3 * tolerance, rtol=tolerance)
