"""LoRA against the formula, `y = (W + alpha / rank B A) x + b`, and against what the field's library computes."""

import copy
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from froster.backbones.build import backbone_names
from froster.backbones.clip import Clip, ClipConfig
from froster.checkpoints.own import save_checkpoint
from froster.errors import FrosterError
from froster.interpolation import patch_states
from froster.merging import average_models, patch_model
from froster.models import load_model, save_model
from froster.students import VideoStudent, build_student, parse_student
from froster.students.lora import Lora, LoraLinear
from pooled_backbone import new_backbone as pooled_backbone
from pooled_backbone import registered
from siglip_files import new_siglip

SMALL = ClipConfig(32, 8, 64, 2, 1, 64, 2, 1, 32)
ALL_TARGETS = "q+k+v+out+mlp"


@pytest.fixture(autouse=True)
def known_backbone() -> Iterator[None]:
    with registered():
        yield


def small_clip() -> Clip:
    torch.manual_seed(0)
    return Clip(SMALL).eval()


def moved(spec: str = "lora:rank=4", seed: int = 1) -> Lora:
    """A student whose updates are trained: B is not zero any more."""
    student = build_student(spec, small_clip()).eval()
    assert isinstance(student, Lora)
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, parameter in student.trainable_parameters().items():
            if name.endswith("lora_b"):
                parameter.normal_(std=0.1)
    return student


def clips() -> Tensor:
    return torch.randn(2, 3, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def texts() -> Tensor:
    return torch.tensor([[49406, 320, 1125, 49407], [49406, 5, 49407, 0]])


def rows_of(targets: str, width: int) -> Tensor:
    """Which output rows of an attention's input projection are updated."""
    return torch.cat([torch.full((width,), name in targets.split("+")) for name in ("q", "k", "v")])


def updated_weight(linear: LoraLinear, targets: str, scale: float) -> Tensor:
    """`W + scale B A`, one projection after another, in float64."""
    weight = linear.weight.detach().double().clone()
    names = [name for name in ("q", "k", "v") if name in targets.split("+")] if len(linear.parts) == 3 else [""]
    rows = len(weight) // len(linear.parts)
    for number, name in enumerate(names):
        first = rows * ("q", "k", "v").index(name) if name else 0
        weight[first : first + rows] += scale * linear.lora_b[number].double() @ linear.lora_a[number].double()
    return weight


@pytest.mark.parametrize(
    "spec", ["lora", "lora:targets=q+k+v+out+mlp,window=1", "lora:encoders=text,rank=1,dropout=.5"]
)
def test_untrained_it_is_the_frozen_model_to_the_bit(spec: str) -> None:
    student = build_student(spec, small_clip()).eval()
    plain = build_student("vclip" if "window=1" in spec else "frame_clip", small_clip()).eval()
    with torch.no_grad():
        assert torch.equal(student.encode_video(clips()), plain.encode_video(clips()))
        assert torch.equal(student.encode_text(texts()), plain.encode_text(texts()))
        student.train()  # dropout falls on what B = 0 removes
        assert torch.equal(student.encode_text(texts()), plain.encode_text(texts()))


@pytest.mark.parametrize("targets", ["q+v", "k", ALL_TARGETS])
def test_layers_and_their_gradients_are_those_of_the_formula(targets: str) -> None:
    student = moved(f"lora:rank=4,alpha=6,targets={targets}")
    attention = student.visual.blocks[1].attn
    linear = attention.in_proj
    assert isinstance(linear, LoraLinear) and linear.lora_a.shape == (len(set(targets.split("+")) & set("qkv")), 4, 64)
    x, upstream = torch.randn(2, 17, 64), torch.randn(2, 17, 192)
    weight = updated_weight(linear, targets, 6 / 4)
    expected = x.double() @ weight.T + linear.bias.double()
    output = linear(x)
    assert (output - expected).abs().max() < 1e-5
    output.backward(upstream)
    # dL/dW' = upstream^T x; of A: scale B^T dL/dW', of B: scale dL/dW' A^T, row group by row group.
    of_weight = torch.einsum("bno,bni->oi", upstream, x)[rows_of(targets, 64)].view(-1, 64, 64)
    torch.testing.assert_close(linear.lora_a.grad, 1.5 * linear.lora_b.mT @ of_weight, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(linear.lora_b.grad, 1.5 * of_weight @ linear.lora_a.mT, atol=1e-4, rtol=1e-4)
    assert isinstance(attention.out_proj, LoraLinear) == ("out" in targets)
    assert isinstance(student.visual.blocks[0].mlp[0], LoraLinear) == ("mlp" in targets)


class PeftLinear(nn.Module):
    """The forward pass of `peft.tuners.lora.Linear`, as its documentation has it, on one projection."""

    def __init__(self, base: nn.Linear, a: Tensor, b: Tensor, alpha: float, p: float) -> None:
        super().__init__()
        self.base_layer, self.lora_dropout = base, nn.Dropout(p)
        self.lora_A = nn.Linear(base.in_features, len(a), bias=False)
        self.lora_B = nn.Linear(len(a), base.out_features, bias=False)
        self.lora_A.weight, self.lora_B.weight, self.scaling = nn.Parameter(a), nn.Parameter(b), alpha / len(a)

    def forward(self, x: Tensor) -> Tensor:
        return self.base_layer(x) + self.lora_B(self.lora_A(self.lora_dropout(x))) * self.scaling


@pytest.mark.parametrize("dropout", [0.0, 0.4])
def test_a_layer_trains_as_in_peft(dropout: float) -> None:
    """Three steps of SGD with the same dropout give the same updates; W and bias stay."""
    base, generator = nn.Linear(24, 40), torch.Generator().manual_seed(0)
    x, target = torch.randn(8, 24, generator=generator), torch.randn(8, 40, generator=generator)
    ours = LoraLinear(base, 3, 5 / 3, dropout, (True,))
    theirs = PeftLinear(base, ours.lora_a[0].detach().clone(), torch.zeros(40, 3), 5, dropout)
    before = base.weight.detach().clone()
    base.requires_grad_(False)
    for layer in (ours, theirs):
        torch.manual_seed(2)
        optimizer = torch.optim.SGD([p for p in layer.parameters() if p.requires_grad], lr=0.5)
        for _ in range(3):
            optimizer.zero_grad()
            F.mse_loss(layer(x), target).backward()
            optimizer.step()
    torch.testing.assert_close(ours.lora_a[0], theirs.lora_A.weight, atol=1e-6, rtol=0)
    torch.testing.assert_close(ours.lora_b[0], theirs.lora_B.weight, atol=1e-6, rtol=0)
    assert torch.equal(base.weight, before) and ours.lora_b.abs().max() > 1e-3


@pytest.mark.parametrize(
    ("encoders", "towers"), [("both", {"visual", "text"}), ("image", {"visual"}), ("text", {"text"})]
)
def test_trains_the_updates_alone(encoders: str, towers: set[str]) -> None:
    student = build_student(f"lora:encoders={encoders}", small_clip())
    trained = student.trainable_parameters()
    assert trained.keys() == {name for name, _ in student.named_parameters()} - backbone_names(SMALL)
    assert {name.split(".")[0] for name in trained} == towers
    assert len(trained) == len(towers) * 2 * 2


@pytest.mark.parametrize(("window", "merged"), [(0, "frame_clip"), (2, "vclip")])
@pytest.mark.parametrize("backbone", ["clip", "pooled", "siglip"])
def test_merged_it_is_the_same_function_without_updates(backbone: str, window: int, merged: str) -> None:
    spec = f"lora:targets={ALL_TARGETS},window={window}"
    make = {"clip": small_clip, "pooled": pooled_backbone, "siglip": new_siglip}[backbone]
    student = build_student(spec, make()).eval()
    student.tokenizer = tokenizer = copy.copy(student.tokenizer)
    student.labels, student.temporal_pooling = {"running": "fast"}, "features"
    with torch.no_grad():
        for name, parameter in student.trainable_parameters().items():
            parameter.add_(0.05 * torch.randn_like(parameter) * name.endswith("lora_b"))
        plain = student.merged()
        classes = student.encode_classes(["running", "fencing"])
        torch.testing.assert_close(plain.encode_classes(["running", "fencing"]), classes, atol=1e-5, rtol=0)
        torch.testing.assert_close(plain.encode_video(clips()), student.encode_video(clips()), atol=1e-5, rtol=1e-4)
        logits = student(clips(), classes).logits
        torch.testing.assert_close(plain(clips(), classes).logits, logits, atol=1e-4, rtol=1e-4)
    assert (plain.name, plain.options.get("window", 0)) == (merged, window)
    assert (plain.labels, plain.temporal_pooling) == (student.labels, "features")
    assert plain.state_dict().keys() == backbone_names(student.config) and plain.tokenizer is tokenizer
    plain.visual.blocks[0].ln_1.weight.data.zero_()  # copies
    assert student.visual.blocks[0].ln_1.weight.abs().min() > 0


def test_saved_merged_or_apart(tmp_path: Path) -> None:
    student = moved()
    save_model(student, tmp_path / "merged.safetensors")
    save_model(student, tmp_path / "apart.safetensors", merge=False)
    merged, apart = load_model(tmp_path / "merged.safetensors"), load_model(tmp_path / "apart.safetensors")
    assert (merged.name, apart.name, apart.options) == ("frame_clip", "lora", student.options)
    assert all(torch.equal(value, student.state_dict()[name]) for name, value in apart.state_dict().items())
    again = apart.merged().state_dict()
    assert all(torch.equal(value, again[name]) for name, value in merged.state_dict().items())
    name = "visual.blocks.0.attn.in_proj.weight"
    expected = updated_weight(student.visual.blocks[0].attn.in_proj, "q+k+v", 4)
    torch.testing.assert_close(merged.state_dict()[name].double(), expected, atol=1e-6, rtol=0)


def test_averages_and_patches_are_of_merged_weights(tmp_path: Path) -> None:
    students: list[VideoStudent] = [moved(seed=1), moved(seed=2)]
    for number, student in enumerate(students):
        save_model(student, tmp_path / f"{number}.safetensors", merge=False)
    average = average_models([tmp_path])
    states = [student.merged().state_dict() for student in students]
    assert average.name == "frame_clip"
    for name, value in average.state_dict().items():
        torch.testing.assert_close(value, (states[0][name] + states[1][name]) / 2, atol=1e-6, rtol=0)
    save_checkpoint(small_clip(), tmp_path / "clip.safetensors")
    patched = patch_model(tmp_path / "0.safetensors", tmp_path / "clip.safetensors", 0.3).state_dict()
    expected = patch_states(small_clip().state_dict(), states[0], 0.3)
    assert all(torch.equal(value, expected[name]) for name, value in patched.items())


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("rank=0", "rank is a whole number, 1 to 1024; not 0"),
        ("rank=1.5", "not 1.5"),
        ("alpha=0", "alpha is a number above 0"),
        ("targets=q+x", r"targets are some of q, k, v, out, mlp, joined by \+; not 'q\+x'"),
        ("targets=q+q", r"not 'q\+q'"),
        ("encoders=vision", "'both', 'image' or 'text', not 'vision'"),
        ("dropout=1.0", "not including, 1; not 1.0"),
        ("window=-1", "0 to 64; not -1"),
    ],
)
def test_wrong_options_are_named(option: str, message: str) -> None:
    with pytest.raises(FrosterError, match=message):
        build_student(f"lora:{option}", small_clip())


def test_options_may_have_decimals() -> None:
    assert parse_student("lora:dropout=0.25,alpha=.5,rank=2") == ("lora", {"dropout": 0.25, "alpha": 0.5, "rank": 2})
