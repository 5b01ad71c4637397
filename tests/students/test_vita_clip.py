import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from froster.backbones.clip import Clip, ClipConfig
from froster.errors import FrosterError
from froster.students import VideoStudent, build_student
from froster.students.vita_clip import PromptedBlock

END = 99  # end-of-text token of the small vocabulary
TOKENS = torch.tensor([[98, 5, END, 0, 0], [98, 3, 1, 4, END]])
NOTHING = "vita_clip:global_prompts=0,local_prompts=false,summary=false,context=0"


def small_clip(context_length: int = 24) -> Clip:
    torch.manual_seed(0)
    return Clip(ClipConfig(32, 8, 128, 2, 2, 64, 2, 1, 32, context_length, 100)).eval()


def attention_by_hand(attn: torch.nn.Module, x: Tensor) -> Tensor:
    """Self-attention with two heads of 64 among the tokens of `(N, C)`."""
    q, k, v = (s.unflatten(-1, (2, 64)).transpose(0, 1) for s in attn.in_proj(x).chunk(3, dim=-1))
    out = (q @ k.transpose(1, 2) / 8).softmax(-1) @ v
    return attn.out_proj(out.transpose(0, 1).flatten(1))


def block_by_hand(block: PromptedBlock, clip: Tensor) -> Tensor:
    """A layer on one clip `(T, N, C)`, as the authors go about it: every token added, one frame after another, attends
    to all, and the added ones are thrown away."""
    prompts = block.prompts
    projected, summary = None, None
    if prompts.class_projection is not None:
        projected = prompts.class_projection(clip[:, 0])
    if prompts.summary is not None:
        summary = projected + attention_by_hand(prompts.summary.attn, prompts.summary.ln(projected))
    outputs = []
    for t, frame in enumerate(clip):
        parts = [frame[:1]]
        if prompts.local_prompts is not None:
            parts += [(prompts.local_prompts[i] + projected[i])[None] for i in range(len(clip))]
        if prompts.global_prompts is not None:
            parts.append(prompts.global_prompts)
        added = sum(map(len, parts)) - 1
        parts.append(frame[1:])
        if summary is not None:
            parts.append(summary[t : t + 1])
        x = torch.cat(parts)
        x = x + attention_by_hand(block.attn, block.ln_1(x))
        x = torch.cat([x[:1], x[1 + added : len(frame) + added]])
        outputs.append(x + block.mlp(block.ln_2(x)))
    return torch.stack(outputs)


@pytest.mark.parametrize(
    "spec",
    [
        "vita_clip",
        "vita_clip:global_prompts=0,summary=false",
        "vita_clip:local_prompts=false",
        "vita_clip:global_prompts=3,local_prompts=0,summary=0",
    ],
)
@torch.no_grad()
def test_vision_agrees_with_a_loop_over_clips_and_frames(spec: str) -> None:
    student = build_student(spec, small_clip())
    visual = student.visual
    visual.ln_pre.frame_positions.normal_()
    frames = torch.randn(2, 3, 3, 32, 32)
    patches = F.conv2d(frames.flatten(0, 1), visual.conv1.weight, stride=8).flatten(2).transpose(1, 2)
    x = torch.cat([visual.class_embedding.expand(6, 1, -1), patches], dim=1) + visual.positional_embedding
    x = x.unflatten(0, (2, 3)) + visual.ln_pre.frame_positions[:3, None]
    x = F.layer_norm(x, (128,), visual.ln_pre.weight, visual.ln_pre.bias)
    for block in visual.blocks:
        x = torch.stack([block_by_hand(block, clip) for clip in x])
    expected = visual.ln_post(x[:, :, 0]) @ visual.proj
    assert (student.encode_video(frames) - expected).abs().max() < 2e-5


@torch.no_grad()
def test_without_prompts_it_is_clip() -> None:
    frames = torch.randn(2, 5, 3, 32, 32)
    student = build_student(NOTHING, small_clip())
    torch.testing.assert_close(student.encode_video(frames), small_clip().encode_video(frames), atol=1e-6, rtol=1e-6)
    assert torch.equal(student.encode_text(TOKENS), small_clip().encode_text(TOKENS))
    assert list(student.trainable_parameters()) == ["visual.ln_pre.frame_positions"]


@pytest.mark.parametrize(
    "spec",
    [NOTHING.replace("global_prompts=0", "global_prompts=1"), NOTHING.replace("summary=false", "summary=true")],
)
@torch.no_grad()
def test_a_prompt_that_nobody_looks_at_changes_nothing(spec: str) -> None:
    """With keys of minus infinity for the prompts, all that remains is CLIP: the prompts are really dropped again."""
    student, frames = build_student(spec, small_clip()), torch.randn(1, 4, 3, 32, 32)
    expected = small_clip().encode_video(frames)
    assert (student.encode_video(frames) - expected).abs().max() > 1e-4
    for block in student.visual.blocks:
        attend = block.attn.attend

        def blind(q: Tensor, k: Tensor, v: Tensor, attend=attend) -> Tensor:
            return attend(q, k[:, :, : q.shape[2]], v[:, :, : q.shape[2]])

        block.attn.attend = blind
    assert (student.encode_video(frames) - expected).abs().max() < 1e-5


@pytest.mark.parametrize("frames", [1, 7, 20])
@torch.no_grad()
def test_any_number_of_frames(frames: int) -> None:
    student = build_student("vita_clip", small_clip())
    student.visual.ln_pre.frame_positions.normal_()
    video = torch.randn(2, frames, 3, 48, 32)
    features = student.encode_video(video)
    assert features.shape == (2, frames, 32)
    torch.testing.assert_close(student.encode_video(video[1:])[0], features[1], atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_text_context_stands_before_the_name() -> None:
    student = build_student("vita_clip:context=2", small_clip())
    text = student.text
    words = text.token_embedding.weight
    x = torch.stack([words[98], *text.context, words[5], words[END]])[None] + text.positional_embedding[:5]
    for block in text.blocks:
        x = block(x)
    by_hand = text.ln_final(x[0, -1]) @ text.text_projection
    assert (student.encode_text(TOKENS)[0] - by_hand).abs().max() < 1e-5


def loss_of(student: VideoStudent) -> Tensor:
    torch.manual_seed(1)
    video_features = student.forward_features(torch.randn(2, 16, 3, 16, 16))
    classes = F.normalize(student.encode_text(TOKENS), dim=-1)
    return F.cross_entropy(100 * student.similarities(video_features, classes), torch.tensor([0, 1]))


def test_a_step_changes_the_prompts_alone() -> None:
    student = build_student("vita_clip", small_clip())
    trained = student.trainable_parameters()
    assert set(trained) == set(student.state_dict()) - set(small_clip().state_dict())
    student.requires_grad_(False)
    for parameter in trained.values():
        parameter.requires_grad_(True)
    start = {name: parameter.detach().clone() for name, parameter in student.named_parameters()}
    optimizer = torch.optim.AdamW(trained.values(), lr=1e-2)
    loss_of(student).backward()
    optimizer.step()
    for name, parameter in student.named_parameters():
        if name in trained:
            assert parameter.grad is not None, name
            assert parameter.grad.abs().max() > 0, name
            assert not torch.equal(parameter, start[name]), name
        else:
            assert parameter.grad is None, name
            assert torch.equal(parameter, start[name]), name


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("vita_clip:global_prompts=257", "0 to 256, not 257"),
        ("vita_clip:context=22", "0 to 21; not 22"),
        ("vita_clip:summary=maybe", "summary is true or false, not 'maybe'"),
        ("vita_clip:local_prompts=2", "local_prompts is true or false, not 2"),
    ],
)
def test_wrong_options_are_named(spec: str, message: str) -> None:
    with pytest.raises(FrosterError, match=message):
        build_student(spec, small_clip())
