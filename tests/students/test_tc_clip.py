import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from froster.backbones.clip import Clip, ClipConfig
from froster.backbones.tokenizer import tokenize
from froster.errors import FrosterError
from froster.scoring import class_similarities
from froster.students import build_student
from froster.students.tc_clip import TcClip, merge_tokens
from froster.text.classifier import encode_classes

SMALL = ClipConfig(32, 8, 128, 3, 2, 128, 3, 2, 32)
LABELS = {"running": "", "brushing teeth": "moving a small brush across the teeth", "fencing": ""}


def small_clip() -> Clip:
    torch.manual_seed(0)
    return Clip(SMALL)


def tc_clip(moved: bool = False, **options: int) -> TcClip:
    """A new student, or one in which nothing that the method adds is at zero any more."""
    student = build_student("tc_clip", small_clip(), **options).eval()
    assert isinstance(student, TcClip)
    if moved:
        with torch.no_grad():
            for name, parameter in student.named_parameters():
                if name.startswith(("prompt_reader", "text.prompts")) or "context_bias" in name:
                    parameter.add_(0.3 * torch.randn_like(parameter))
    return student


def clips(batch: int = 2, frames: int = 3) -> Tensor:
    return torch.randn(batch, frames, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def merge_by_hand(tokens: Tensor, count: int) -> Tensor:
    """One clip's tokens `(S, C)`: lists of the tokens that each group is made of, merged pair by pair."""
    groups = [[number] for number in range(len(tokens))]

    def mean(group: list[int]) -> Tensor:
        return tokens[group].mean(dim=0)

    while len(groups) > count:
        even, odd = groups[::2], groups[1::2]
        pairs = min(100, len(groups) - count, len(odd))
        means, best = torch.stack([mean(group) for group in odd]), []
        for number, group in enumerate(even):
            cosines = F.cosine_similarity(mean(group), means).tolist()
            best.append((max(cosines), number, cosines.index(max(cosines))))
        best.sort(key=lambda choice: -choice[0])
        merged = [list(group) for group in odd]
        for _, number, partner in best[:pairs]:
            merged[partner] += even[number]
        groups = [even[number] for _, number, _ in best[pairs:]] + merged
    return torch.stack([mean(group) for group in groups])


@pytest.mark.parametrize(("tokens", "count"), [(12, 12), (12, 20), (13, 5), (31, 1), (230, 20)])
def test_merging_agrees_with_lists_of_tokens(tokens: int, count: int) -> None:
    seeds = torch.randn(2, tokens, 8, generator=torch.Generator().manual_seed(3))
    by_hand = torch.stack([merge_by_hand(clip, count) for clip in seeds])
    merged = merge_tokens(seeds, count)
    assert merged.shape == (2, min(tokens, count), 8)
    assert (merged - by_hand).abs().max() < 1e-5


def test_merging_keeps_the_weighted_sum_in_its_gradient() -> None:
    """Every token has the share 1 / group size in one mean: the gradients of the sizes times the means are all 1."""
    seeds = torch.randn(1, 40, 8, requires_grad=True)
    merged = merge_tokens(seeds, 7)
    merged.sum().backward()
    assert seeds.grad is not None
    shares = seeds.grad[0, :, 0]
    assert (shares.sum() - 7).abs() < 1e-5
    assert ((1 / shares) - (1 / shares).round()).abs().max() < 1e-4


def encode_by_hand(student: TcClip, frames: Tensor) -> tuple[Tensor, Tensor]:
    """Tokens `(T, N, C)` and context `(M, C)` of one clip `(1, T, 3, H, W)`, frame by frame and head by head."""
    visual = student.visual
    tokens, context = list(visual.embed(frames)[0]), torch.zeros(0, SMALL.vision_width)
    for number, block in enumerate(visual.blocks):
        behind, seeds = [], []
        for x in tokens:
            keys = torch.cat([x, context])
            q = block.attn.in_proj(block.ln_1(x)).chunk(3, dim=-1)[0]
            _, k, v = block.attn.in_proj(block.ln_1(keys)).chunk(3, dim=-1)
            heads, of_class = [], torch.zeros(len(x) - 1)
            for head in range(SMALL.vision_heads):
                part = slice(64 * head, 64 * (head + 1))
                logits = q[:, part] @ k[:, part].T / 8
                if number:
                    logits[:, len(x) :] += block.attn.context_bias[head]
                weights = logits.softmax(dim=-1)
                heads.append(weights @ v[:, part])
                of_class += weights[0, 1 : len(x)]
            x = x + block.attn.out_proj(torch.cat(heads, dim=-1))
            most = of_class.argsort(descending=True)[: 16 * student.options["seed_percent"] // 100]
            seeds += [x[1 + place] for place in most]
            behind.append(x)
        context = merge_by_hand(torch.stack(seeds), student.options["context_tokens"])
        tokens = [x + block.mlp(block.ln_2(x)) for x in behind]
        context = context + block.mlp(block.ln_2(context))
    return torch.stack(tokens), context


@pytest.mark.parametrize(("context_tokens", "seed_percent"), [(4, 30), (7, 60), (96, 30)])
@pytest.mark.usefixtures("no_grad")
def test_vision_agrees_with_a_loop_over_frames_and_heads(context_tokens: int, seed_percent: int) -> None:
    student = tc_clip(moved=True, context_tokens=context_tokens, seed_percent=seed_percent)
    tokens, context = student.encode_tokens(clips())
    for number in range(2):
        by_hand = encode_by_hand(student, clips()[number : number + 1])
        assert (tokens[number] - by_hand[0]).abs().max() < 2e-5
        assert (context[number] - by_hand[1]).abs().max() < 2e-5


def class_features_by_hand(student: TcClip, text: str, context: Tensor | None) -> Tensor:
    """Feature of one class for one video's context `(M, D)`: the whole text through every layer, as the authors do."""
    encoder, prompts = student.text, student.options["prompts"]
    tokens = tokenize(text)[0]
    tokens = tokens[: int(tokens.argmax()) + 1]
    words = encoder.token_embedding(tokens)
    x = torch.cat([words[:1], encoder.prompts, words[1:]])
    x = x + encoder.positional_embedding[: len(x)]
    for block in encoder.blocks[:-1]:
        x = block(x[None])[0]
    if context is not None:
        reader, middle = student.prompt_reader, x[1 : 1 + prompts]
        assert reader is not None
        seen = reader.ln_context(context)
        k, v = reader.kv_proj(seen).chunk(2, dim=-1)
        q = reader.q_proj(reader.ln_1(middle))
        heads = [
            (q[:, part] @ k[:, part].T / 8).softmax(dim=-1) @ v[:, part]
            for part in (slice(64 * head, 64 * (head + 1)) for head in range(SMALL.text_heads))
        ]
        middle = middle + reader.out_proj(torch.cat(heads, dim=-1))
        middle = middle + reader.mlp(reader.ln_2(middle))
        x = torch.cat([x[:1], middle, x[1 + prompts :]])
    return encoder.ln_final(encoder.blocks[-1](x[None])[0, -1]) @ encoder.text_projection


@pytest.mark.parametrize("prompts", [0, 1, 4, 6])
@pytest.mark.usefixtures("no_grad")
def test_classes_agree_with_the_whole_text_for_each_video(prompts: int) -> None:
    student = tc_clip(moved=True, prompts=prompts, context_tokens=5)
    classes = encode_classes(student, LABELS)
    video_features = student.forward_features(clips())
    assert (video_features.context is None) == (prompts == 0)
    texts = ["running", "brushing teeth: moving a small brush across the teeth", "fencing"]
    for number, feature in enumerate(F.normalize(video_features.frame_embeddings.mean(dim=1), dim=-1)):
        context = None if video_features.context is None else video_features.context[number]
        by_hand = torch.stack([class_features_by_hand(student, text, context) for text in texts])
        expected = F.normalize(by_hand, dim=-1) @ feature
        assert (student.similarities(video_features, classes)[number] - expected).abs().max() < 1e-5
    by_hand = torch.stack([class_features_by_hand(student, text, None) for text in texts])
    assert (student.unconditional_class_embeddings(classes) - by_hand).abs().max() < 1e-5
    assert (student.encode_text(tokenize(texts)) - by_hand).abs().max() < 1e-5


@pytest.mark.usefixtures("no_grad")
def test_video_conditions_the_classes() -> None:
    student = tc_clip(moved=True)
    classes, video_features = encode_classes(student, LABELS), student.forward_features(clips())
    assert video_features.context is not None
    other = type(video_features)(video_features.frame_embeddings, video_features.context.flip(0))
    difference = student.similarities(video_features, classes) - student.similarities(other, classes)
    assert difference.abs().max() > 1e-3


@pytest.mark.usefixtures("no_grad")
def test_text_starts_as_clips_of_the_first_words() -> None:
    student, clip = tc_clip(), small_clip()
    names = ["running", "brushing teeth"]
    expected = clip.encode_text(tokenize([f"a photo of a {name}" for name in names]))
    assert (student.encode_text(tokenize(names)) - expected).abs().max() < 1e-5
    video_features = student.forward_features(clips())
    scores = student.similarities(video_features, encode_classes(student, dict.fromkeys(names, "")))
    plain = class_similarities(video_features.frame_embeddings, F.normalize(expected, dim=-1), "features")
    assert (scores - plain).abs().max() < 1e-5


@pytest.mark.usefixtures("no_grad")
def test_without_context_tokens_it_is_frame_clip() -> None:
    student, clip = tc_clip(moved=True, context_tokens=0), build_student("frame_clip", small_clip())
    assert torch.equal(student.encode_video(clips()), clip.encode_video(clips()))
    assert student.prompt_reader is None
    student = tc_clip(context_tokens=0, prompts=0)
    assert sum(p.numel() for p in student.parameters()) == sum(p.numel() for p in clip.parameters())
    scores = student.similarities(student.forward_features(clips()), encode_classes(student, LABELS))
    expected = clip.similarities(clip.forward_features(clips()), encode_classes(clip, LABELS, ()), "features")
    assert (scores - expected).abs().max() < 1e-5


@pytest.mark.usefixtures("no_grad")
def test_a_long_text_is_cut_and_keeps_its_end() -> None:
    student = tc_clip(moved=True)
    words = ["run"] * 80
    longest, longer = student.encode_text(tokenize([" ".join(words[:71]), " ".join(words)]))
    shorter = student.encode_text(tokenize(" ".join(words[:70])))[0]
    assert (longest - longer).abs().max() < 1e-5
    assert (longest - shorter).abs().max() > 1e-4


def test_text_side_does_not_train_the_video_through_the_context() -> None:
    student = tc_clip(moved=True)
    classes, video_features = encode_classes(student, LABELS), student.forward_features(clips())
    video_features = type(video_features)(video_features.frame_embeddings.detach(), video_features.context)
    student.similarities(video_features, classes).sum().backward()
    assert all(parameter.grad is None for parameter in student.visual.parameters())
    assert student.prompt_reader is not None
    assert all(parameter.grad.any() for parameter in student.prompt_reader.parameters())


def test_activation_checkpointing_computes_the_conditional_text_again() -> None:
    gradients = []
    for checkpointing, runs in ((False, 1), (True, 2)):
        student = tc_clip(moved=True)
        student.visual.checkpointing = student.text.checkpointing = checkpointing
        classes, seen = encode_classes(student, LABELS), []
        student.text.last_block.mlp.register_forward_pre_hook(lambda *_, seen=seen: seen.append(1))
        student.similarities(student.forward_features(clips()), classes).square().sum().backward()
        assert len(seen) == runs
        gradients.append({name: p.grad for name, p in student.named_parameters() if p.grad is not None})
    torch.testing.assert_close(*gradients)


def test_first_step_moves_what_starts_at_zero() -> None:
    student = tc_clip()
    student.similarities(student.forward_features(clips()), encode_classes(student, LABELS)).square().sum().backward()
    assert student.prompt_reader is not None
    for parameter in (*student.prompt_reader.out_proj.parameters(), *student.prompt_reader.mlp[2].parameters()):
        assert parameter.grad is not None and parameter.grad.any()
    biases = [parameter for name, parameter in student.named_parameters() if "context_bias" in name]
    assert len(biases) == SMALL.vision_layers - 1
    assert all(bias.grad is not None and bias.grad.any() for bias in biases)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("tc_clip:context_tokens=4097", "context_tokens is a whole number, 0 to 4096; not 4097"),
        ("tc_clip:seed_percent=0", "seed_percent is a whole number, 1 to 100; not 0"),
        ("tc_clip:seed_percent=0.3", "not 0.3"),
        ("tc_clip:prompts=75", "0 to 74; not 75"),
    ],
)
def test_wrong_options_are_named(spec: str, message: str) -> None:
    with pytest.raises(FrosterError, match=message):
        build_student(spec, small_clip())
