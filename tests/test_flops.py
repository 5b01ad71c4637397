import pytest
import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from froster.backbones.clip import Clip, ClipConfig
from froster.flops import Cost, FlopCounter, count_cost
from froster.students import STUDENTS, VideoStudent, build_student

pytestmark = pytest.mark.usefixtures("no_grad")

FRAMES = 3


def small(name: str) -> VideoStudent:
    torch.manual_seed(0)
    clip = Clip(ClipConfig(48, 8, 64, 3, 1, 128, 2, 2, 64)).eval()
    return build_student(name, clip).requires_grad_(False)  # PyTorch's counter follows gradients of modules


@pytest.mark.parametrize("name", STUDENTS)
def test_every_student_agrees_with_the_counter_of_pytorch(name: str) -> None:
    student = small(name)
    clip = torch.randn(1, FRAMES, 3, 48, 48)
    classes = student.encode_prompts(torch.randint(1, 1000, (5, 77)))
    # That counter has no formula for the CPU's fast attention, but for the matrix products it can be made of.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as theirs:
        student.similarities(student.forward_features(clip), classes)
    with FlopCounter() as ours:
        student.similarities(student.forward_features(clip), classes)
    assert ours.flops == theirs.get_total_flops()

    cost = count_cost(student, FRAMES)
    assert cost.clip + 5 * cost.each_class == ours.flops


@pytest.mark.parametrize(("name", "frames_seen"), [("frame_clip", 1), ("vclip", 3)])
def test_clip_and_vclip_by_hand(name: str, frames_seen: int) -> None:
    width, layers, patch, joint = 64, 3, 8, 64
    patches = (48 // patch) ** 2
    tokens = patches + 1
    projections = 3 * width**2 + width**2 + 2 * width * 4 * width  # of each token: q, k, v, output, MLP
    attention = 2 * tokens * frames_seen * tokens * width  # logits and the weighted sum
    frame = patches * 3 * patch**2 * width + layers * (tokens * projections + attention) + width * joint
    assert count_cost(small(name), FRAMES) == Cost(FRAMES * 2 * frame, 2 * joint)


@pytest.mark.parametrize(
    ("multiply", "expected"),
    [
        (lambda: F.linear(torch.ones(2, 3, 5), torch.ones(7, 5), torch.ones(7)), 2 * 6 * 5 * 7),
        (lambda: torch.ones(2, 3, 4, 5) @ torch.ones(2, 3, 5, 6), 2 * 6 * 4 * 5 * 6),
        (
            lambda: torch.einsum("bkhc,blhc->bhkl", torch.ones(2, 3, 4, 5), torch.ones(2, 6, 4, 5)),
            2 * 2 * 3 * 4 * 5 * 6,
        ),
        (lambda: F.conv1d(torch.ones(2, 6, 9), torch.ones(6, 1, 3), padding=1, groups=6), 2 * 2 * 6 * 9 * 3),
        (lambda: F.conv2d(torch.ones(1, 3, 8, 8), torch.ones(5, 3, 4, 4), stride=4), 2 * 5 * 2 * 2 * 3 * 4 * 4),
        (
            lambda: F.scaled_dot_product_attention(*(torch.ones(2, 4, n, 8) for n in (3, 5, 5))),
            2 * 2 * (2 * 4 * 3 * 5 * 8),
        ),
        (
            lambda: F.scaled_dot_product_attention(
                *(torch.ones(2, 4, n, 8) for n in (3, 5, 5)), attn_mask=torch.ones(2, 1, 1, 5, dtype=torch.bool)
            ),
            2 * 2 * (2 * 4 * 3 * 5 * 8),
        ),
        (lambda: torch.ones(9, 9).softmax(dim=-1) * 2 + 1, 0),
    ],
)
def test_each_kind_of_product_by_hand(multiply, expected: int) -> None:  # type: ignore[no-untyped-def]
    with FlopCounter() as counter:
        multiply()
    assert counter.flops == expected
