"""Open-VCLIP (ICML 2023): interpolated weight regularization.

Each step draws a ratio a from U(0, max_ratio) and adds, to the gradient of the loss L at the student's weights w,

    weight * gradient of L at  a * w_clip + (1 - a) * w        (Eq. 7 to 9)

`froster.training.step.take_step` draws the ratio and calls `accumulate_gradients` at both weights. Averaging and
patching (Algorithm 1) are in `froster.interpolation`.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn


@contextmanager
def interpolated_weights(parameters: Sequence[nn.Parameter], clip: Sequence[Tensor], ratio: float) -> Iterator[None]:
    """Context manager: within it, `parameters` hold `ratio * clip + (1 - ratio) * student` (Open-VCLIP Eq. 7).

    On exit the original values are restored exactly. Gradients computed within are added to `parameters.grad` without
    the factor `1 - ratio` (Eq. 9 and the released code). Needs memory for one more copy of `parameters`.
    """
    own = [parameter.data for parameter in parameters]
    for parameter, student, original in zip(parameters, own, clip, strict=True):
        parameter.data = torch.lerp(student, original, ratio)
    try:
        yield
    finally:
        for parameter, student in zip(parameters, own, strict=True):
            parameter.data = student


def weight_distance(parameters: Sequence[Tensor], clip: Sequence[Tensor]) -> Tensor:
    """Squared L2 distance of the weights from CLIP's, a scalar: the baseline of Open-VCLIP's Table 5."""
    return torch.stack([(p - original).square().sum() for p, original in zip(parameters, clip, strict=True)]).sum()
