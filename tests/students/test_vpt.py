import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from froster.backbones.clip import Clip, ClipConfig, TextTransformer
from froster.backbones.tokenizer import tokenize
from froster.errors import FrosterError, FrosterWarning
from froster.students import VideoStudent, build_student
from froster.students.vpt import PromptedText
from froster.text.classifier import encode_texts

END = 99  # end-of-text token of the small vocabulary
SHORT, LONG, EMPTY = [98, 5, END], [98, 3, 1, 4, 1, 5, 9, END], [98, END]


def small_clip(context_length: int = 24, vocab_size: int = 100) -> Clip:
    torch.manual_seed(0)
    return Clip(ClipConfig(32, 8, 64, 2, 1, 64, 2, 1, 32, context_length, vocab_size)).eval()


def rows(*texts: list[int], length: int) -> Tensor:
    return torch.tensor([text + [0] * (length - len(text)) for text in texts])


def feature_by_hand(text: TextTransformer, ids: list[int], before: Tensor, after: Tensor) -> Tensor:
    """The feature of one text, its vectors laid out one after another, with the attention written out."""
    words = text.token_embedding.weight
    sequence = [words[ids[0]], *before, *(words[i] for i in ids[1:-1]), *after, words[ids[-1]]]
    x = torch.stack(sequence) + text.positional_embedding[: len(sequence)]
    for block in text.blocks:
        q, k, v = block.attn.in_proj(block.ln_1(x)).chunk(3, dim=-1)
        logits = (q @ k.T / 8).masked_fill(torch.ones(len(x), len(x)).triu(1).bool(), -torch.inf)
        x = x + block.attn.out_proj(logits.softmax(-1) @ v)
        x = x + block.mlp(block.ln_2(x))
    return text.ln_final(x[-1]) @ text.text_projection


@pytest.mark.parametrize(("before", "after"), [(3, 3), (4, 0), (0, 2)])
@torch.no_grad()
def test_prompts_are_inserted_as_by_hand_whatever_the_padding(before: int, after: int) -> None:
    text = PromptedText(small_clip().text, before, after, std=1.0)
    expected = torch.stack(
        [feature_by_hand(text, ids, text.context[:before], text.context[before:]) for ids in (SHORT, LONG, EMPTY)]
    )
    for length in (8, 11, 24):
        ours = text(rows(SHORT, LONG, EMPTY, length=length))
        assert (ours - expected).abs().max() < 1e-5
    assert (text(rows(SHORT, length=3)) - expected[0]).abs().max() < 1e-5


@torch.no_grad()
def test_long_texts_are_cut_behind_what_leaves_room() -> None:
    text = PromptedText(small_clip(context_length=10).text, 2, 3, std=1.0)  # room for 5 tokens
    expected = torch.stack(
        [feature_by_hand(text, ids, text.context[:2], text.context[2:]) for ids in (SHORT, [98, 3, 1, 4, END])]
    )
    for length in (8, 10):
        assert (text(rows(SHORT, LONG, length=length)) - expected).abs().max() < 1e-5


@torch.no_grad()
def test_real_tokens_of_any_length_with_the_default_context() -> None:
    student = build_student("vpt", small_clip(77, 49408))
    tokens = tokenize(["archery", "riding a horse", "word " * 60])
    features = student.encode_text(tokens)
    ids = [*tokens[2, :44].tolist(), int(tokens[2].max())]
    by_hand = feature_by_hand(student.text, ids, student.text.context[:16], student.text.context[16:])
    assert (features[2] - by_hand).abs().max() < 1e-5
    assert (student.encode_text(tokens[:2, :6]) - features[:2]).abs().max() < 1e-5


@pytest.mark.parametrize(("context", "room"), [(16, 45), (0, 77)])
def test_says_how_many_prompts_are_cut(context: int, room: int, recwarn: pytest.WarningsRecorder) -> None:
    student = build_student("vpt", small_clip(77, 49408), context=context)
    longest, longer = (" ".join(["run"] * words) for words in (room - 2, room - 1))  # beside start and end
    encode_texts(student, ["run", longest])
    assert not recwarn
    encode_texts(student, ["run", longest, longer])
    (warning,) = recwarn
    assert warning.category is FrosterWarning
    assert str(warning.message) == f"1 of 3 prompts exceed the maximum of {room} tokens of VPT and are truncated."


@torch.no_grad()
def test_vision_starts_as_clip_and_text_without_context_is_clip() -> None:
    clip, frames, tokens = small_clip(), torch.randn(2, 5, 3, 32, 32), rows(SHORT, LONG, length=8)
    expected, text = clip.encode_video(frames), clip.encode_text(tokens)
    assert torch.equal(build_student("vpt:context=8", small_clip()).encode_video(frames), expected)
    bare = build_student("vpt:context=0,layers=0", small_clip())
    assert torch.equal(bare.encode_video(frames), expected)
    assert torch.equal(bare.encode_text(tokens), text)
    assert not bare.trainable_parameters()


@torch.no_grad()
def test_temporal_transformer_is_the_papers_without_positions_in_the_feature() -> None:
    student = build_student("vpt:context=2,layers=2", small_clip())
    for parameter in student.temporal.parameters():
        parameter.normal_(std=0.2)
    frames = torch.randn(2, 4, 3, 32, 32)
    features = student.visual(frames)
    x = features + student.temporal.positions[:4]
    for block in student.temporal.blocks:
        q, k, v = block.attn.in_proj(block.ln_1(x)).chunk(3, dim=-1)
        x = x + block.attn.out_proj((q @ k.transpose(1, 2) / 32**0.5).softmax(-1) @ v)
        x = x + block.mlp(block.ln_2(x))
    video_features = student.forward_features(frames)
    torch.testing.assert_close(
        video_features.frame_embeddings, x - student.temporal.positions[:4], atol=1e-4, rtol=1e-5
    )
    classes = F.normalize(torch.randn(3, 32), dim=-1)
    scores = F.normalize(video_features.frame_embeddings.mean(1), dim=-1) @ classes.T
    torch.testing.assert_close(student.similarities(video_features, classes), scores)


def loss_of(student: VideoStudent) -> Tensor:
    torch.manual_seed(1)
    video_features = student.forward_features(torch.randn(2, 3, 3, 32, 32))
    classes = F.normalize(student.encode_text(rows(SHORT, LONG, length=8)), dim=-1)
    return F.cross_entropy(100 * student.similarities(video_features, classes), torch.tensor([0, 1]))


def check_step_changes_what_is_declared(student: VideoStudent) -> None:
    """Two steps of what `trained` names: every such parameter has a gradient and moves; all others keep their bits."""
    student.requires_grad_(False)
    trained = student.trainable_parameters()
    for parameter in trained.values():
        parameter.requires_grad_(True)
    start = {name: parameter.detach().clone() for name, parameter in student.named_parameters()}
    optimizer = torch.optim.AdamW(trained.values(), lr=1e-2)
    for _ in range(2):  # what lies before zero outputs has a gradient from the second step on
        optimizer.zero_grad()
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


def test_a_step_changes_prompts_and_temporal_layers_alone() -> None:
    student = build_student("vpt:context=4", small_clip())
    added = set(student.state_dict()) - set(small_clip().state_dict())
    assert set(student.trainable_parameters()) == added
    assert {name.split(".")[0] for name in added} == {"text", "temporal"}
    check_step_changes_what_is_declared(student)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("vpt:context=11", "0 to 10; not 11"),
        ("vpt:context=many", "not 'many'"),
        ("vpt:context=2,layers=13", "0 to 12; not 13"),
        ("vpt:context=2,layers=two", "not 'two'"),
    ],
)
def test_wrong_options_are_named(spec: str, message: str) -> None:
    with pytest.raises(FrosterError, match=message):
        build_student(spec, small_clip())
