import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from froster.losses.batch import ClipBatch, autocast, cross_entropy, unit
from froster.losses.fine_tuning import fine_tuning_loss
from froster.students.base import VideoOutput
from froster.video import Preprocessing


class GivenLogits(nn.Module):
    """A student whose logits are the mean of the normalized frames plus the class embeddings."""

    def __init__(self) -> None:
        super().__init__()
        self.preprocess, self.logit_scale = Preprocessing(), torch.zeros(())
        self.autocast: list[bool] = []

    def forward(self, frames: Tensor, class_embeddings: Tensor) -> VideoOutput:
        self.autocast.append(torch.is_autocast_enabled("cpu"))
        return VideoOutput(frames.mean((1, 2, 3, 4))[:, None] * torch.arange(3) + class_embeddings, frames)


def test_cross_entropy_and_its_share_of_a_larger_batch() -> None:
    student, classes = GivenLogits(), torch.tensor([0.1, -0.2, 0.3])
    frames = torch.randint(0, 256, (4, 2, 3, 8, 8), dtype=torch.uint8)
    targets = torch.tensor([0, 2, 1, 1])
    logits = student.preprocess.normalize(frames).mean((1, 2, 3, 4))[:, None] * torch.arange(3) + classes
    whole, terms = fine_tuning_loss(student, ClipBatch(frames, targets), classes)  # type: ignore[arg-type]
    torch.testing.assert_close(whole, F.cross_entropy(logits, targets))
    assert terms == {"cross_entropy": whole}
    parts = [
        fine_tuning_loss(student, ClipBatch(frames[part], targets[part]), classes, 4)[0]  # type: ignore[arg-type]
        for part in (slice(0, 1), slice(1, 4))
    ]
    torch.testing.assert_close(sum(parts), whole)
    assert student.autocast == [False] * 3
    fine_tuning_loss(student, ClipBatch(frames, targets), classes, None, torch.bfloat16)  # type: ignore[arg-type]
    assert student.autocast[-1]


def test_class_weights_are_factors_that_do_not_depend_on_the_batch() -> None:
    logits, targets = torch.tensor([[1.0, 2.0, 0.0], [0.5, 0.0, 1.0]]), torch.tensor([1, 2])
    each = F.cross_entropy(logits, targets, reduction="none")
    batch = ClipBatch(torch.zeros(2, 1, 3, 2, 2), targets)
    weights = torch.tensor([9.0, 2.0, 0.5])
    torch.testing.assert_close(cross_entropy(logits, batch, 8, weights), (2.0 * each[0] + 0.5 * each[1]) / 8)
    torch.testing.assert_close(cross_entropy(logits, batch, 8, None), each.sum() / 8)
    torch.testing.assert_close(cross_entropy(logits, batch, 2, torch.ones(3)), each.mean())


def test_helpers_of_the_losses() -> None:
    embeddings = torch.tensor([[3.0, 4.0], [0.0, 2.0]], dtype=torch.bfloat16)
    found = unit(embeddings)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, torch.tensor([[0.6, 0.8], [0.0, 1.0]]))
    student = GivenLogits()
    assert not autocast(student, None)._enabled  # type: ignore[arg-type]
    assert autocast(student, torch.bfloat16).fast_dtype == torch.bfloat16  # type: ignore[arg-type]
    batch = ClipBatch(torch.zeros(1, 1, 3, 2, 2), torch.tensor([0]))
    assert batch.to(torch.device("cpu")).teacher_embeddings is None
    batch.teacher_embeddings = torch.ones(1, 1, 2)
    moved = batch.to(torch.device("meta"))
    assert {part.device.type for part in (moved.frames, moved.targets, moved.teacher_embeddings)} == {"meta"}  # type: ignore[union-attr]


@pytest.mark.parametrize("size", [1, 3])
def test_a_batch_of_its_own_has_the_mean(size: int) -> None:
    student, classes = GivenLogits(), torch.tensor([0.1, -0.2, 0.3])
    batch = ClipBatch(torch.zeros(size, 1, 3, 2, 2), torch.zeros(size, dtype=torch.int64))
    one, same = (fine_tuning_loss(student, batch, classes, number)[0] for number in (None, size))  # type: ignore[arg-type]
    assert one == same
