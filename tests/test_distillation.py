from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

from froster.distillation import Distillation, Projector, feature_distance
from froster.scoring import class_similarities

SCALE = 20.0


def golden_distillation(golden: dict[str, Tensor], distance: str = "cosine") -> Distillation:
    distillation = Distillation(64, distance=distance)
    for name in ("video", "text"):
        projector = getattr(distillation, name)
        projector.w1.weight.data = golden[f"{name}_w1"]
        projector.w2.weight.data = golden[f"{name}_w2"]
    return distillation


def unit(x: Tensor) -> Tensor:
    return F.normalize(x, dim=-1)


def test_losses_and_gradients_are_the_released_codes(goldens: Path) -> None:
    golden = load_file(goldens / "froster_loss.safetensors")
    distillation = golden_distillation(golden)
    frames = golden["student_frames"].clone().requires_grad_()
    classes = golden["student_classes"].clone().requires_grad_()
    logits = SCALE * class_similarities(frames, unit(classes))
    cross_entropy = F.cross_entropy(logits, golden["labels"])
    losses = {
        "video": distillation.video_loss(unit(frames), unit(golden["teacher_frames"])),
        "text": distillation.text_loss(unit(classes), unit(golden["teacher_classes"])),
    }
    total = cross_entropy + distillation.beta * (losses["video"] + losses["text"])
    total.backward()
    torch.testing.assert_close(logits, golden["logits"], atol=2e-5, rtol=1e-6)
    for ours, name in (
        (cross_entropy, "cross_entropy"),
        (losses["video"], "cosine_video"),
        (losses["text"], "cosine_text"),
        (total, "total_cosine"),
    ):
        torch.testing.assert_close(ours, golden[name], atol=1e-6, rtol=0)
    gradients = {"student_frames": frames.grad, "student_classes": classes.grad}
    for side in ("video", "text"):
        for weight in ("w1", "w2"):
            gradients[f"{side}_{weight}"] = getattr(getattr(distillation, side), weight).weight.grad
    assert len(gradients) == 6
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, golden[f"grad_{name}"], atol=1e-6, rtol=0)


def test_l2_is_the_papers_sum(goldens: Path) -> None:
    golden = load_file(goldens / "froster_loss.safetensors")
    for side, name, rows in (("video", "frames", 8), ("text", "classes", 6)):
        student, teacher = unit(golden[f"student_{name}"]), unit(golden[f"teacher_{name}"])
        summed, mean = (
            getattr(golden_distillation(golden, distance), f"{side}_loss")(student, teacher)
            for distance in ("l2_sum", "l2_mean")
        )
        torch.testing.assert_close(summed, golden[f"l2_{side}_sum"], atol=1e-5, rtol=1e-6)
        torch.testing.assert_close(mean * rows, golden[f"l2_{side}_sum"], atol=1e-5, rtol=1e-6)


def test_residual_projector_starts_as_the_identity() -> None:
    z = torch.randn(5, 3, 16)
    assert torch.equal(Projector(16, "residual")(z), z)
    started_at_random = Projector(16, "residual", alpha=0.5, zero_init=False)
    expected = z + 0.5 * F.gelu(z @ started_at_random.w1.weight.T) @ started_at_random.w2.weight.T
    torch.testing.assert_close(started_at_random(z), expected, atol=1e-6, rtol=1e-6)
    assert not torch.allclose(expected, z)


def test_projections_of_figure_3() -> None:
    z = torch.randn(4, 16)
    none, plain = Projector(16, "none"), Projector(16, "plain", alpha=0.1)
    assert torch.equal(none(z), z) and not list(none.parameters())
    torch.testing.assert_close(plain(z), F.gelu(z @ plain.w1.weight.T) @ plain.w2.weight.T, atol=1e-6, rtol=1e-6)
    assert plain.w2.weight.abs().max() > 0


@pytest.mark.parametrize(("video", "text"), [(True, False), (False, True)])
def test_one_side_alone(video: bool, text: bool) -> None:
    distillation = Distillation(16, video=video, text=text)
    assert (distillation.video is not None, distillation.text is not None) == (video, text)
    assert len(list(distillation.parameters())) == 2


@pytest.mark.parametrize("distance", ["cosine", "l2_sum", "l2_mean"])
def test_distance_of_equal_features_is_zero_with_finite_gradient(distance: str) -> None:
    student = unit(torch.randn(3, 8)).requires_grad_()
    loss = feature_distance(student, student.detach().clone(), distance)
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-6)
    assert student.grad is not None and student.grad.isfinite().all()
