import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from froster.losses.batch import ClipBatch
from froster.losses.froster import L2_EPSILON, Distillation, Projector, feature_distance, froster_loss
from froster.scoring import class_similarities
from froster.students.base import VideoOutput
from froster.video import Preprocessing
from goldens import GoldenFile

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


class GivenEmbeddings(nn.Module):
    """A student or teacher whose frame embeddings are given."""

    def __init__(self, frames: Tensor) -> None:
        super().__init__()
        self.frames, self.preprocess = frames, Preprocessing()
        self.logit_scale = torch.tensor(SCALE).log()

    def forward(self, _: Tensor, class_embeddings: Tensor) -> VideoOutput:
        logits = self.logit_scale.exp() * class_similarities(self.frames, unit(class_embeddings))
        return VideoOutput(logits, self.frames)

    def encode_video(self, _: Tensor) -> Tensor:
        return self.frames

    def unconditional_class_embeddings(self, class_embeddings: Tensor) -> Tensor:
        return class_embeddings


def golden_loss(golden: dict[str, Tensor], distance: str) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:
    """Loss, terms and leaves of `froster_loss` on the golden's embeddings."""
    distillation = golden_distillation(golden, distance)
    leaves = {name: golden[name].clone().requires_grad_() for name in ("student_frames", "student_classes")}
    for side in ("video", "text"):
        for weight in ("w1", "w2"):
            leaves[f"{side}_{weight}"] = getattr(getattr(distillation, side), weight).weight
    student, teacher = GivenEmbeddings(leaves["student_frames"]), GivenEmbeddings(golden["teacher_frames"])
    clips = torch.zeros(len(golden["labels"]), 1, 3, 2, 2, dtype=torch.uint8)
    batch = ClipBatch(clips, golden["labels"])
    loss, terms = froster_loss(
        student, teacher, distillation, batch, leaves["student_classes"], unit(golden["teacher_classes"])
    )
    return loss, terms, leaves


def test_losses_and_gradients_are_the_released_codes(golden_file: GoldenFile) -> None:
    golden = load_file(golden_file("froster_loss.safetensors"))
    loss, terms, leaves = golden_loss(golden, "cosine")
    loss.backward()
    for ours, name in (
        (terms["cross_entropy"], "cross_entropy"),
        (terms["video_distillation"], "cosine_video"),
        (terms["text_distillation"], "cosine_text"),
        (loss, "total_cosine"),
    ):
        torch.testing.assert_close(ours, golden[name], atol=1e-6, rtol=0)
    assert len(leaves) == 6
    for name, leaf in leaves.items():
        torch.testing.assert_close(leaf.grad, golden[f"grad_{name}"], atol=1e-6, rtol=0)


def test_l2_is_the_norm_of_whole_clips_and_of_classes(golden_file: GoldenFile) -> None:
    """FROSTER Eq. 3 and 7: one norm per sample, computed here in float64 from the golden's embeddings."""
    golden = load_file(golden_file("froster_loss.safetensors"))
    _, summed, _ = golden_loss(golden, "l2_sum")
    _, mean, _ = golden_loss(golden, "l2_mean")
    torch.testing.assert_close(summed["text_distillation"], golden["l2_text_sum"], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(6 * mean["text_distillation"], golden["l2_text_sum"], atol=1e-5, rtol=1e-5)
    z = unit(golden["student_frames"].double())
    w1, w2 = golden["video_w1"].double(), golden["video_w2"].double()
    difference = z + 0.1 * F.gelu(z @ w1.T) @ w2.T - unit(golden["teacher_frames"].double())
    clips = len(difference)
    expected = sum(difference[clip].square().sum().item() ** 0.5 for clip in range(clips))
    assert difference.shape[1] > 1 and clips > 1
    assert summed["video_distillation"].item() == pytest.approx(expected, abs=1e-4)
    assert mean["video_distillation"].item() == pytest.approx(expected / clips, abs=1e-4)


def test_l2_of_single_frames_is_the_goldens(golden_file: GoldenFile) -> None:
    """The golden's sum is over frames: a clip of one frame is one sample."""
    golden = load_file(golden_file("froster_loss.safetensors"))
    projected = golden_distillation(golden).video(unit(golden["student_frames"])).flatten(0, 1)
    frames = feature_distance(projected, unit(golden["teacher_frames"]).flatten(0, 1), "l2_sum")
    torch.testing.assert_close(frames, golden["l2_video_sum"], atol=1e-4, rtol=0)


def test_residual_projector_starts_as_the_identity() -> None:
    z = torch.randn(5, 3, 16)
    assert torch.equal(Projector(16, "residual")(z), z)
    started_at_random = Projector(16, "residual", alpha=0.5, zero_init=False)
    expected = z + 0.5 * F.gelu(z @ started_at_random.w1.weight.T) @ started_at_random.w2.weight.T
    torch.testing.assert_close(started_at_random(z), expected, atol=1e-6, rtol=1e-6)
    assert not torch.allclose(expected, z)


def test_the_teacher_sees_the_frames_as_it_normalizes_them_and_gets_no_gradient() -> None:
    seen = list[Tensor]()

    class Teacher(GivenEmbeddings):
        def encode_video(self, frames: Tensor) -> Tensor:
            seen.append(frames)
            return self.frames

    clips = torch.full((2, 1, 3, 2, 2), 100, dtype=torch.uint8)
    classes = torch.randn(3, 64)
    student, teacher = GivenEmbeddings(torch.randn(2, 1, 64)), Teacher(torch.randn(2, 1, 64, requires_grad=True))
    for preprocess in (student.preprocess, Preprocessing(2, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))):
        teacher.preprocess = preprocess
        batch = ClipBatch(clips, torch.tensor([0, 1]))
        froster_loss(student, teacher, Distillation(64), batch, classes, unit(classes))
        torch.testing.assert_close(seen.pop(), preprocess.normalize(clips))
        assert batch.teacher_embeddings is not None
        assert not batch.teacher_embeddings.requires_grad


def test_defaults_are_the_published_values() -> None:
    torch.manual_seed(0)
    projector, distillation = Projector(8, "residual"), Distillation(8)
    assert (projector.alpha, distillation.beta, distillation.distance) == (0.1, 2.0, "cosine")
    for side in (distillation.video, distillation.text):
        assert side is not None
        assert (side.projection, side.alpha) == ("residual", 0.1)
        assert not side.w2.weight.any()
    assert Distillation(8, alpha=0.5).video.alpha == 0.5  # type: ignore[union-attr]
    assert Projector(8, "residual", zero_init=False).w2.weight.any()
    assert Projector(8, "plain").w2.weight.any(), "a plain projector that starts at zero would never move"


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


@pytest.mark.parametrize("noise", [0, 1e-7])
@pytest.mark.parametrize("distance", ["cosine", "l2_sum", "l2_mean"])
def test_features_that_agree_but_for_rounding_have_next_to_no_gradient(distance: str, noise: float) -> None:
    """Without smoothing, the norm's gradient would have length 1 for each sample, in a random direction."""
    student = unit(torch.randn(3, 2, 64)).requires_grad_()
    teacher = student.detach() + noise * torch.randn(3, 2, 64)
    loss = feature_distance(student, teacher, distance)
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=3 * L2_EPSILON + 1e-6)
    assert student.grad is not None and student.grad.norm() < 5e-3


def test_smoothing_leaves_the_norm_of_differences_that_count() -> None:
    student, teacher = unit(torch.randn(4, 3, 64)), unit(torch.randn(4, 3, 64))
    exact = (student - teacher).flatten(1).double().norm(dim=1).sum().item()
    assert feature_distance(student, teacher, "l2_sum").item() == pytest.approx(exact, rel=1e-6)
