"""A compiled student against itself."""

import copy

import torch
import torch.nn.functional as F
from torch import Tensor

from froster.students import VideoStudent


def compare_compiled_gradients(student: VideoStudent, clips: Tensor, classes: Tensor, backend: str) -> None:
    """Asserts that a student compiles to one graph, whose gradients on two clips are its own."""
    twin, targets = copy.deepcopy(student), torch.tensor([0, 2])
    torch.compiler.reset()
    compiled = torch.compile(twin, fullgraph=True, backend=backend)
    F.cross_entropy(student(clips, classes).logits, targets).backward()
    F.cross_entropy(compiled(clips, classes).logits, targets).backward()
    for (key, one), other in zip(student.named_parameters(), twin.parameters(), strict=True):
        if one.grad is not None:
            torch.testing.assert_close(other.grad, one.grad, atol=1e-5, rtol=1e-4, msg=key)
