"""What a clip costs: multiplications and additions, counted from the shapes of what is multiplied."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from froster.students import VideoStudent

aten = torch.ops.aten


def matrix_product(out: Tensor, a: Tensor, b: Tensor) -> int:
    """`(..., N, C)` by `(..., C, M)`: C multiplications and C additions for each element of the result."""
    return 2 * out.numel() * a.shape[-1]


def biased_matrix_product(out: Tensor, bias: Tensor, a: Tensor, b: Tensor) -> int:
    """The additions of a bias are not counted, nor is anything else that touches each element but once."""
    return matrix_product(out, a, b)


def convolution(out: Tensor, x: Tensor, weight: Tensor, *settings: object) -> int:
    """Weights `(out channels, in channels / groups, ...)`: each element of the result sees one filter of them."""
    return 2 * out.numel() * weight[0].numel()


def attention(out: Tensor | tuple[Tensor, ...], q: Tensor, k: Tensor, v: Tensor, *settings: object) -> int:
    """Logits q k and the weighted sum of v: `(B, heads, N, C)` against `(B, heads, M, C)`."""
    return 2 * q[..., 0].numel() * k.shape[-2] * (k.shape[-1] + v.shape[-1])


# PyTorch breaks linear layers, `@`, einsum and the rest down to these; attention without a fast kernel, too.
FORMULAS: dict[Any, Callable[..., int]] = {
    aten.mm: matrix_product,
    aten.bmm: matrix_product,
    aten.addmm: biased_matrix_product,
    aten.baddbmm: biased_matrix_product,
    aten.convolution: convolution,
    aten._scaled_dot_product_flash_attention_for_cpu: attention,
}


# torch.utils.flop_counter follows the gradients of modules, which fails under no_grad for trainable parameters.
class FlopCounter(TorchDispatchMode):
    """Counts multiplications and additions of matrix products, convolutions and attention on the CPU while entered.

    What touches each element a few times (activations, normalizations, softmax, biases) is not counted.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.flops = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if formula := FORMULAS.get(func.overloadpacket):
            self.flops += formula(out, *args)
        return out


@dataclass(frozen=True)
class Cost:
    """Multiplications and additions of one clip, and of comparing it with one more class."""

    clip: int
    each_class: int


def count_cost(student: VideoStudent, frames: int) -> Cost:
    """What a clip of `frames` frames of the student's own size costs, on the CPU.

    Texts are encoded once for all clips: that is not counted. A student on the meta device computes nothing. Raises
    `FrosterError` if the student does not support that many frames.
    """
    size = student.config.image_size
    clip = torch.zeros(1, frames, 3, size, size)
    texts = torch.zeros(3, student.config.context_length, dtype=torch.int64)
    with torch.no_grad():
        classes = student.encode_prompts(texts)
        with FlopCounter() as seen:
            video_features = student.forward_features(clip)
        with FlopCounter() as with_two:
            student.similarities(video_features, classes[:2])
        with FlopCounter() as with_three:
            student.similarities(video_features, classes)
    each_class = with_three.flops - with_two.flops
    return Cost(seen.flops + with_two.flops - 2 * each_class, each_class)
