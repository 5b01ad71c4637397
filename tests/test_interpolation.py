import json

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from froster.errors import FrosterError
from froster.interpolation import WeightAverage, average_states, patch_states
from froster.losses.open_vclip import interpolated_weights, weight_distance
from goldens import GoldenFile


def part(golden: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in golden.items() if key.startswith(prefix)}


def test_average_and_patched(golden_file: GoldenFile) -> None:
    golden = load_file(golden_file("averaging.safetensors"))
    average = average_states([part(golden, f"state.{i}.") for i in range(3)])
    expected = part(golden, "average.")
    assert average.keys() == expected.keys()
    for key, value in expected.items():
        torch.testing.assert_close(average[key], value, atol=1e-7, rtol=1e-6)
    patched = patch_states(part(golden, "state.clip."), average, 0.5)
    torch.testing.assert_close(patched["model.visual.proj"], golden["patched.model.visual.proj"], atol=1e-7, rtol=1e-6)
    assert torch.equal(patched["projector_v.0.weight"], average["projector_v.0.weight"])


def test_average_keeps_what_the_released_tool_drops(golden_file: GoldenFile) -> None:
    golden = load_file(golden_file("more/weight_average.safetensors"))
    about = json.loads(golden_file("more/weight_average.json").read_text())
    epochs = about["constructor"]["averaged_epochs"]
    average = average_states([part(golden, f"ckpt{epoch}/") for epoch in epochs])
    assert set(about["dropped_keys"]) <= average.keys()
    for key, value in part(golden, "average/").items():
        torch.testing.assert_close(average[key], value, atol=1e-7, rtol=1e-6)


@pytest.mark.parametrize("ratio", [0.3, 0.5])
def test_patching(golden_file: GoldenFile, ratio: float) -> None:
    golden = load_file(golden_file("more/patching.safetensors"))
    clip = {f"model.{key}": value for key, value in part(golden, "raw_clip/").items()}
    student = part(golden, "checkpoint/")
    patched = patch_states(clip, student, ratio)
    expected = part(golden, f"patched_{ratio}/")
    assert patched.keys() == expected.keys()
    for key, value in expected.items():
        # The official product of ratio and CLIP is rounded to float16.
        torch.testing.assert_close(patched[key], value, atol=1e-3, rtol=1e-3)
        exact = (
            ratio * clip[key].double() + (1 - ratio) * student[key].double() if key in clip else student[key].double()
        )
        torch.testing.assert_close(patched[key].double(), exact, atol=1e-6, rtol=1e-6)


def test_patching_ends() -> None:
    clip, student = {"a": torch.randn(3)}, {"a": torch.randn(3), "new": torch.randn(2)}
    assert torch.equal(patch_states(clip, student, 0.0)["a"], student["a"])
    assert torch.equal(patch_states(clip, student, 1.0)["a"], clip["a"])
    for ratio in (1.5, -0.5):
        with pytest.raises(FrosterError, match=f"from 0 to 1, not {ratio}"):
            patch_states(clip, student, ratio)
    with pytest.raises(FrosterError, match="differ in a"):
        patch_states({"a": torch.zeros(4)}, student, 0.5)


def test_averaging_refuses_other_networks() -> None:
    with pytest.raises(FrosterError, match="Checkpoint 1 and checkpoint 2 are of different networks: they differ in b"):
        average_states([{"a": torch.zeros(1)}, {"b": torch.zeros(1), "a": torch.zeros(1)}])
    for sizes in ((1, 2), (2, 1)):
        with pytest.raises(FrosterError, match=r"they differ in a\.$"):
            average_states([{"a": torch.zeros(size)} for size in sizes])
    for names, some in (("abc", "a, b, c"), ("dabc", "a, b, c, …")):
        with pytest.raises(FrosterError, match=rf"they differ in {some}\.$"):
            average_states([dict.fromkeys(names, torch.zeros(1)), {}])
    with pytest.raises(FrosterError, match="nothing to average"):
        average_states([])


def test_running_average_is_the_mean() -> None:
    samples = [{"w": torch.randn(4, 4)} for _ in range(7)]
    average = WeightAverage()
    for sample in samples:
        average.update(sample)
    torch.testing.assert_close(average.mean["w"], torch.stack([s["w"] for s in samples]).mean(0), atol=1e-6, rtol=1e-6)


def test_regularization_adds_the_released_gradient(golden_file: GoldenFile) -> None:
    """Open-VCLIP Algorithm 1, executed by the authors' code on a softmax classifier."""
    golden = load_file(golden_file("more/interpolated_weight_regularisation.safetensors"))
    model = nn.Linear(5, 4)
    model.weight.data, model.bias.data = golden["in.weight"].clone(), golden["in.bias"].clone()
    clip = [golden["in.clip_weight"], golden["in.clip_bias"]]

    def loss() -> Tensor:
        return F.cross_entropy(model(golden["in.x"]), golden["in.labels"].long())

    normal = loss()
    normal.backward()
    torch.testing.assert_close(normal, golden["out.loss_normal"], atol=1e-6, rtol=0)
    torch.testing.assert_close(model.weight.grad, golden["out.grad_normal.weight"], atol=1e-6, rtol=0)
    with interpolated_weights(list(model.parameters()), clip, golden["in.patch_ratio"].item()):
        (0.5 * loss()).backward()
    torch.testing.assert_close(model.weight.grad, golden["out.grad_total.weight"], atol=1e-6, rtol=0)
    torch.testing.assert_close(model.bias.grad, golden["out.grad_total.bias"], atol=1e-6, rtol=0)
    assert torch.equal(model.weight.data, golden["in.weight"])


def test_weights_come_back_after_an_error() -> None:
    model = nn.Linear(2, 2)
    before = model.weight.detach().clone()
    with pytest.raises(ZeroDivisionError), interpolated_weights([model.weight], [torch.zeros(2, 2)], 0.5):
        assert torch.equal(model.weight, before / 2)
        raise ZeroDivisionError
    assert torch.equal(model.weight, before)


def test_weights_of_another_number_of_parameters_are_refused() -> None:
    parameters, one = [nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))], [torch.zeros(2)]
    with pytest.raises(ValueError, match="shorter"), interpolated_weights(parameters, one, 0.5):
        pass
    with pytest.raises(ValueError, match="shorter"):
        weight_distance(parameters, one)


def test_weight_distance_is_the_squared_norm() -> None:
    a, b = [torch.randn(3, 2), torch.randn(4)], [torch.randn(3, 2), torch.randn(4)]
    expected = sum(((x - y).double() ** 2).sum().item() for x, y in zip(a, b, strict=True))
    assert weight_distance(a, b).item() == pytest.approx(expected, rel=1e-6)
