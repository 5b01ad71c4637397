import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from froster.backbones.clip import Clip, ClipConfig
from froster.checkpoints.foreign import to_clip_names
from froster.checkpoints.own import save_checkpoint
from froster.errors import FrosterError
from froster.models import load_model
from froster.students import build_student
from froster.students.st_adapter import StAdapter, StAdapterBlock
from goldens import GoldenFile

pytestmark = pytest.mark.usefixtures("no_grad")

TOLERANCE = 2e-5  # largest absolute difference, float32


def small_clip() -> Clip:
    torch.manual_seed(0)
    return Clip(ClipConfig(32, 8, 64, 2, 1, 64, 2, 1, 32)).eval()


def test_released_st_adapter(golden_file: GoldenFile) -> None:
    expected = load_file(golden_file("student_st_adapter.safetensors"))
    student = load_model(golden_file("student_st_adapter.pyth"), student="st_adapter")
    for ours, name in (
        (student.encode_video(expected["frames"]), "frame_features"),
        (student.visual.encode_tokens(expected["frames"]), "last_tokens"),
        (student.encode_text(expected["tokens"]), "text_features"),
    ):
        assert (ours - expected[name]).abs().max() < TOLERANCE, name


def test_open_vclip_has_one_more_axis(golden_file: GoldenFile, tmp_path: Path) -> None:
    released = torch.load(golden_file("student_st_adapter.pyth"), weights_only=True)
    state = released["model_state"]
    longer = {name: x[..., None] if "stadapt" in name and x.ndim == 4 else x for name, x in state.items()}
    assert sum(x.ndim == 5 for x in longer.values()) == 2 * 3
    torch.save({"model_state": longer}, tmp_path / "open-vclip.pyth")
    ours = load_model(tmp_path / "open-vclip.pyth", student="st_adapter").state_dict()
    expected = load_model(golden_file("student_st_adapter.pyth"), student="st_adapter").state_dict()
    assert ours.keys() == expected.keys()
    assert all(torch.equal(ours[name], expected[name]) for name in ours)


def test_the_papers_form_agrees_with_its_authors(golden_file: GoldenFile) -> None:
    """Adapters of 48 channels before attention and MLP; the mean class token goes to a linear head of 7 classes."""
    original = load_file(golden_file("more/st_adapter_original.safetensors"))
    clip = Clip(ClipConfig(32, 8, 128, 2, 2, 64, 1, 1, 32)).eval()
    vision = clip.visual
    for layer, block in enumerate(vision.blocks):
        vision.blocks[layer] = StAdapterBlock(block, "attention+mlp", lambda: StAdapter(128, 48, "temporal", 1))
    names = {"pre": "before", "fc1": "down", "fc2": "up"}
    state = {"proj": vision.proj}
    for name, x in to_clip_names({f"visual.{name}": x for name, x in original.items()}).items():
        name = re.sub(r"(?<=adapter_)pre|(?<=\.)fc[12](?=\.)", lambda part: names[part[0]], name)
        if not re.search(r"\.(in|out|fc)\.", name):
            state[name.removeprefix("visual.")] = x[..., 0] if x.ndim == 5 else x
    vision.load_state_dict(state)
    class_token = vision.encode_tokens(original["in.video"].transpose(1, 2))[:, :, 0].mean(dim=1)
    logits = vision.ln_post(class_token) @ original["fc.weight"].T + original["fc.bias"]
    assert (logits - original["out.logits"]).abs().max() < TOLERANCE


@pytest.mark.parametrize("before", ["attention", "mlp", "attention+mlp"])
@pytest.mark.parametrize("kernel", ["temporal", "spatiotemporal"])
def test_starts_as_clip(kernel: str, before: str) -> None:
    frames = torch.randn(2, 3, 3, 32, 48)
    student = build_student("st_adapter", small_clip(), kernel=kernel, before=before)
    assert torch.equal(student.encode_video(frames), small_clip().encode_video(frames))


def adapter_by_hand(adapter: StAdapter, x: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
    """One tap of the kernel after another; neighbors beyond the edges are zeros."""
    hidden = x[:, :, 1:] @ adapter.down.weight.T + adapter.down.bias
    hidden = hidden.unflatten(2, (rows, columns))
    mixed = torch.zeros_like(hidden) + adapter.conv.bias
    around = [-1, 0, 1] if adapter.kernel == "spatiotemporal" else [0]
    for frame in range(x.shape[1]):
        for row in range(rows):
            for column in range(columns):
                for dt in (-1, 0, 1):
                    for dr in around:
                        for dc in around:
                            at = (frame + dt, row + dr, column + dc)
                            if not all(0 <= i < n for i, n in zip(at, (x.shape[1], rows, columns), strict=True)):
                                continue
                            tap = (dt + 1, dr + 1, dc + 1) if len(around) == 3 else (dt + 1, 0)
                            weight = adapter.conv.weight[:, 0][(slice(None), *tap)]
                            mixed[:, frame, row, column] += weight * hidden[:, at[0], at[1], at[2]]
    out = x.clone()
    out[:, :, 1:] += mixed.flatten(2, 3) @ adapter.up.weight.T + adapter.up.bias
    return out


@pytest.mark.parametrize("kernel", ["temporal", "spatiotemporal"])
def test_layers_agree_with_loops_on_frames_that_are_not_square(kernel: str) -> None:
    student = build_student("st_adapter", small_clip(), kernel=kernel, before="attention+mlp")
    for parameter in student.trainable_parameters().values():
        torch.nn.init.normal_(parameter, std=0.2)
    frames = torch.randn(2, 3, 3, 32, 72)  # 4 x 9 patches: as many as 6 x 6
    x = student.visual.embed(frames)
    for block in student.visual.blocks:
        x = adapter_by_hand(block.adapter_before_attn, x, 4, 9)
        x = x + block.attn(block.ln_1(x))
        x = adapter_by_hand(block.adapter_before_mlp, x, 4, 9)
        x = x + block.mlp(block.ln_2(x))
    ours = student.visual.encode_tokens(frames)
    assert (ours - x).abs().max() < 1e-5 * x.abs().max()


@pytest.mark.parametrize(
    ("before", "names"), [("attention", {"attn"}), ("mlp", {"mlp"}), ("attention+mlp", {"attn", "mlp"})]
)
def test_trains_the_adapters_alone(before: str, names: set[str]) -> None:
    student = build_student("st_adapter", small_clip(), before=before)
    of_clip = {name for name, _ in small_clip().named_parameters()}
    trained = student.trainable_parameters().keys()
    assert trained == {name for name, _ in student.named_parameters()} - of_clip
    assert {re.findall(r"adapter_before_(\w+)", name)[0] for name in trained} == names
    assert len(trained) == 2 * 6 * len(names)


@pytest.mark.parametrize("kernel", ["temporal", "spatiotemporal"])
def test_activation_checkpointing_changes_nothing(kernel: str) -> None:
    student = build_student("st_adapter", small_clip(), kernel=kernel)
    for parameter in student.trainable_parameters().values():
        torch.nn.init.normal_(parameter, std=0.2)
    frames = torch.randn(1, 3, 3, 32, 48)
    gradients = []
    for student.visual.checkpointing in (False, True):
        with torch.enable_grad():
            loss = student.encode_video(frames).square().sum()
            gradients.append(torch.autograd.grad(loss, list(student.trainable_parameters().values())))
    for plain, checkpointed in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, checkpointed)


def test_saved_and_loaded_with_its_options(tmp_path: Path) -> None:
    student = build_student("st_adapter:kernel=spatiotemporal,before=attention+mlp", small_clip())
    for parameter in student.trainable_parameters().values():
        torch.nn.init.normal_(parameter, std=0.2)
    save_checkpoint(student, tmp_path / "student.safetensors")
    loaded = load_model(tmp_path / "student.safetensors")
    assert loaded.options == {"kernel": "spatiotemporal", "before": "attention+mlp"}
    frames = torch.randn(1, 3, 3, 32, 48)
    assert torch.equal(loaded.encode_video(frames), student.encode_video(frames))


@pytest.mark.parametrize(
    ("spec", "message"),
    [("st_adapter:kernel=5", "'temporal' or 'spatiotemporal', not 5"), ("st_adapter:before=text", "not 'text'")],
)
def test_wrong_option_is_named(spec: str, message: str) -> None:
    with pytest.raises(FrosterError, match=message):
        build_student(spec, small_clip())
