import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from froster.backbones import attention as module
from froster.backbones.attention import attention


def gradients(function: object, tensors: list[Tensor], upstream: Tensor) -> list[Tensor]:
    leaves = [tensor.clone().requires_grad_() for tensor in tensors]
    out = function(*leaves)  # type: ignore[operator]
    out.backward(upstream)
    return [out.detach(), *(leaf.grad for leaf in leaves)]


@pytest.mark.parametrize("kind", ["plain", "causal", "masked"])
@pytest.mark.parametrize("chunk", [2**20, 500])
def test_bfloat16_gradients_are_those_of_float32(kind: str, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Values and gradients against PyTorch's in float32, within bfloat16's rounding (2 % of the largest)."""
    monkeypatch.setattr(module, "CHUNK", chunk)
    torch.manual_seed(0)
    q, upstream = torch.randn(2, 5, 2, 9, 16, dtype=torch.bfloat16)
    k, v = torch.randn(2, 5, 2, 9, 16, dtype=torch.bfloat16)
    mask = None
    if kind == "masked":
        mask = torch.rand(5, 1, 1, 9) > 0.5
        mask[..., 0] = True  # every query sees something
    causal = kind == "causal"
    ours = gradients(lambda *t: attention(*t, mask, causal), [q, k, v], upstream)
    theirs = gradients(
        lambda *t: F.scaled_dot_product_attention(*t, attn_mask=mask, is_causal=causal),
        [q.float(), k.float(), v.float()],
        upstream.float(),
    )
    assert all(tensor.dtype == torch.bfloat16 for tensor in ours)
    for mine, reference in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine.float(), reference, atol=0.02 * reference.abs().max().item(), rtol=0)


def test_the_own_backward_pass_is_taken_for_bfloat16_on_the_cpu() -> None:
    q = torch.randn(1, 1, 3, 8, dtype=torch.bfloat16, requires_grad=True)
    assert type(attention(q, q, q).grad_fn).__name__ == "_Bfloat16AttentionBackward"
    plain = q.detach().float().requires_grad_()
    assert type(attention(plain, plain, plain).grad_fn).__name__ != "_Bfloat16AttentionBackward"
