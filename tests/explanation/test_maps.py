"""Maps against dense matrices over all tokens of a clip, written down from the papers' formulas."""

import pytest
import torch
from torch import Tensor

from froster.backbones.attention import record_attention
from froster.backbones.clip import Clip, ClipConfig
from froster.errors import FrosterError
from froster.explanation import relevance_maps
from froster.students import STUDENTS, VideoStudent, build_student
from froster.students.attention_graph import AttentionStep
from froster.students.base import VideoFeatures
from froster.students.frame_clip import FrameClip
from froster.students.tc_clip import merge_shares, merge_tokens

T, N, LAYERS, HEADS = 4, 17, 3, 2
KINDS = ("attention", "rollout", "gradient")
SPECS = [
    *(name for name in STUDENTS if name != "vpt"),
    "vpt:context=4",  # as many as the short texts here have room for
    "vclip:window=2",
    "vclip:boundary=masked",
    "vclip:window=5,boundary=masked",  # wider than the clip
    "x_clip:head=none",
    "text4vis:temporal=2",
    "tc_clip:context_tokens=5",
    "tc_clip:context_tokens=0",
    "vita_clip:local_prompts=false",
    "vita_clip:summary=false,global_prompts=0",
    "st_adapter:kernel=spatiotemporal,before=attention+mlp",
]


def student(spec: str) -> VideoStudent:
    torch.manual_seed(0)
    model = build_student(spec, Clip(ClipConfig(32, 8, 128, LAYERS, HEADS, 64, 2, 1, 32, 32, 100))).eval()
    with torch.no_grad():  # many modules start at zero, where wrong maps of them would not show
        for parameter in model.parameters():
            parameter += 0.02 * torch.randn_like(parameter)
    return model


def clip_frames(seed: int = 1) -> Tensor:
    return torch.randn(T, 3, 32, 32, generator=torch.Generator().manual_seed(seed))


def class_matrix(model: VideoStudent, rows: int = 3) -> Tensor:
    tokens = torch.tensor([[98, 5, 99, 0], [98, 7, 8, 99], [98, 6, 99, 0]])[:rows]
    with torch.no_grad():
        return model.encode_prompts(tokens)


@pytest.mark.parametrize("spec", SPECS)
def test_recorded_weights_are_those_of_the_forward_pass(spec: str) -> None:
    """Weights times values, which is how a recorded pass computes, gives what the fast kernels give."""
    model = student(spec)
    with torch.no_grad():
        plain = model.encode_video(clip_frames()[None])
        with record_attention(model) as recorded:
            features = model.encode_video(clip_frames()[None])
        assert torch.equal(model.encode_video(clip_frames()[None]), plain)  # nothing is left behind
    torch.testing.assert_close(features, plain, atol=1e-5, rtol=1e-5)
    steps = model.attention_graph(recorded, torch.arange(T * N).view(T, N))
    weights = [step.weights for step in steps if isinstance(step, AttentionStep)]
    assert len(weights) >= LAYERS
    for rows in weights:
        torch.testing.assert_close(rows.sum(dim=-1), torch.ones(rows.shape[:-1]), atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("spec", SPECS)
def test_every_student_has_every_map(spec: str, kind: str) -> None:
    model = student(spec)
    model.visual.checkpointing = True  # as training leaves it
    with torch.inference_mode():  # as servers run
        maps = relevance_maps(model, clip_frames(), kind, class_matrix(model), 1)
    assert maps.shape == (T, 4, 4)
    assert maps.dtype == "float32"
    assert maps.min() >= 0
    assert maps.max() == 1
    assert maps.std() > 0
    assert model.visual.checkpointing
    assert all(parameter.grad is None for parameter in model.parameters())


# ---------------------------------------------------------------------------------------------------------------------
# Dense matrices by hand. Rows and columns are tokens of the clip, frame by frame, without those not seen.


def heads(x: Tensor) -> Tensor:
    return x.unflatten(-1, (HEADS, -1)).movedim(-2, 0)


def softmax_weights(q: Tensor, k: Tensor) -> Tensor:
    """`(N, C)`, `(M, C)` -> `(heads, N, M)`."""
    q, k = heads(q), heads(k)
    return (q @ k.mT / q.shape[-1] ** 0.5).softmax(-1)


def diagonal(weights: list[Tensor]) -> Tensor:
    """Weights `(heads, N, N)` of every frame as `(heads, T N, T N)`."""
    return torch.stack([torch.block_diag(*(w[head] for w in weights)) for head in range(HEADS)])


def rollout_by_hand(matrices: list[Tensor]) -> Tensor:
    """Product of (A + I) / 2 with normalized rows; the matrices come from the first layer to the last."""
    product = torch.eye(T * N)
    for matrix in matrices:
        mixed = 0.5 * matrix + 0.5 * torch.eye(T * N)
        product = mixed / mixed.sum(dim=1, keepdim=True) @ product
    return product


def as_maps(matrix: Tensor) -> Tensor:
    """What class tokens have of patches in `(T N, T N)`, the largest value 1."""
    maps = matrix.view(T, N, T, N)[:, 0, :, 1:].mean(dim=0).view(T, 4, 4)
    return maps / maps.max()


def check(model: VideoStudent, kind: str, expected: Tensor, **label: object) -> None:
    maps = torch.from_numpy(relevance_maps(model, clip_frames(), kind, **label))
    torch.testing.assert_close(maps, as_maps(expected), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("window", "boundary"), [(1, "zero"), (1, "masked"), (2, "zero"), (5, "masked"), (0, "")])
def test_vclip_by_hand(window: int, boundary: str) -> None:
    """VCLIP as one attention over the whole clip, and each map as its formula says; without a window it is CLIP."""
    model = student(f"vclip:window={window},boundary={boundary}" if window else "frame_clip")
    classes = class_matrix(model)
    frame = torch.arange(T).repeat_interleave(N)
    near = (frame[:, None] - frame).abs() <= window
    missing = torch.stack([((frame + s < 0) | (frame + s >= T)) for s in range(-window, window + 1)]).sum(0) * N
    x = model.visual.embed(clip_frames()[None])[0].flatten(0, 1).detach().requires_grad_()
    weights = []
    for block in model.visual.blocks:
        q, k, v = (heads(t) for t in block.attn.in_proj(block.ln_1(x)).chunk(3, dim=-1))
        exponentials = (q @ k.mT / q.shape[-1] ** 0.5).exp() * near
        zeros = missing[:, None] if boundary == "zero" else 0
        weights.append(exponentials / (exponentials.sum(-1, keepdim=True) + zeros))
        x = x + block.attn.out_proj((weights[-1] @ v).movedim(0, -2).flatten(-2))
        x = x + block.mlp(block.ln_2(x))
    video_features = VideoFeatures(model.visual.pool(x.view(1, T, N, -1)))
    logits = model.logit_scale.exp() * model.similarities(video_features, classes)[0]
    score = logits[2] - (logits[0].exp() + logits[1].exp()).log()
    gradients = torch.autograd.grad(score, weights)

    means = [w.detach().mean(0) for w in weights]
    relevance = torch.eye(T * N)
    for w, gradient in zip(weights, gradients, strict=True):
        relevance = relevance + (w.detach() * gradient).clamp(min=0).mean(0) @ relevance
    check(model, "attention", means[-1])
    check(model, "rollout", rollout_by_hand(means))
    check(model, "gradient", relevance, classes=classes, target=2)


@torch.no_grad()
def test_aim_looks_over_time_and_then_over_space() -> None:
    model = student("aim")
    x = model.visual.embed(clip_frames()[None])[0]
    matrices = []
    for block in model.visual.blocks:
        q, k, _ = block.attn.in_proj(block.ln_1(x)).chunk(3, dim=-1)
        over_time = torch.zeros(T, N, T, N)
        for n in range(N):
            over_time[:, n, :, n] = softmax_weights(q[:, n], k[:, n]).mean(0)
        x = x + block.time_adapter(block.attn(block.ln_1(x).transpose(0, 1)).transpose(0, 1))
        q, k, _ = block.attn.in_proj(block.ln_1(x)).chunk(3, dim=-1)
        over_space = diagonal([softmax_weights(q[t], k[t]) for t in range(T)]).mean(0)
        matrices += [over_time.view(T * N, T * N), over_space]
        y = block.attn(block.ln_1(x))
        x = x + y + block.space_adapter(y)
        z = block.ln_2(x)
        x = x + block.mlp(z) + 0.5 * block.mlp_adapter(z)
    check(model, "attention", matrices[-1])
    check(model, "rollout", rollout_by_hand(matrices))


def of_class_tokens(matrix: Tensor) -> Tensor:
    """`(T, T)` among class tokens as `(T N, T N)`."""
    full = torch.zeros(T, N, T, N)
    full[:, 0, :, 0] = matrix
    return full.view(T * N, T * N)


@torch.no_grad()
@pytest.mark.parametrize("head", ["none", "full"])
def test_x_clip_messages_lead_back_to_the_class_tokens(head: str) -> None:
    model = student(f"x_clip:head={head}")
    x = model.visual.embed(clip_frames()[None])[0]
    matrices = []
    for block in model.visual.blocks:
        messages = block.message.fc(x[:, 0])
        q, k, _ = block.message.attn.in_proj(block.message.ln(messages)).chunk(3, dim=-1)
        composition = 0.5 * softmax_weights(q, k).mean(0) + 0.5 * torch.eye(T)
        messages = block.message(x[None, :, 0])[0]
        tokens = block.ln_1(torch.cat([x, messages[:, None]], dim=1))
        q, k, _ = block.attn.in_proj(tokens).chunk(3, dim=-1)
        matrix = torch.zeros(T, N, T, N)
        for t in range(T):
            weights = softmax_weights(q[t, :N], k[t]).mean(0)
            matrix[t, :, t] = weights[:, :N]
            matrix[t, :, :, 0] += weights[:, N:] * composition[t]
        matrices.append(matrix.view(T * N, T * N))
        x = x + block.attn(tokens)[:, :N]
        x = x + block.mlp(block.ln_2(x))
    check(model, "attention", matrices[-1])
    if model.mit is not None:
        features = model.visual.pool(x[None])
        q, k, _ = model.mit.block.attn.in_proj(model.mit.block.ln_1(features + model.mit.positions_of(T))[0]).chunk(
            3, dim=-1
        )
        one_head = q.shape[-1] // model.mit.block.attn.heads
        over_frames = (q @ k.T / one_head**0.5).softmax(-1)
        assert model.mit.block.attn.heads == 1
        others = torch.eye(T * N) - of_class_tokens(torch.eye(T))
        matrices.append(of_class_tokens(over_frames) + others)
    check(model, "rollout", rollout_by_hand(matrices))


@torch.no_grad()
def test_vita_clip_prompts_lead_back_to_class_tokens_and_global_ones_are_dropped() -> None:
    model = student("vita_clip:global_prompts=3")
    x = model.visual.embed(clip_frames()[None])[0]
    matrices = []
    for block in model.visual.blocks:
        prompts = block.prompts
        projected = prompts.class_projection(x[:, 0])
        q, k, _ = prompts.summary.attn.in_proj(prompts.summary.ln(projected)).chunk(3, dim=-1)
        composition = 0.5 * softmax_weights(q, k).mean(0) + 0.5 * torch.eye(T)
        local, summary = projected + prompts.local_prompts[:T], prompts.summary(projected[None])[0]
        matrix = torch.zeros(T, N, T, N)
        for t in range(T):
            tokens = torch.cat([x[t], prompts.global_prompts, local, summary[t : t + 1]])
            q, k, _ = block.attn.in_proj(block.ln_1(tokens)).chunk(3, dim=-1)
            weights = softmax_weights(q[:N], k).mean(0)
            matrix[t, :, t] = weights[:, :N]
            matrix[t, :, :, 0] += weights[:, N + 3 : N + 3 + T] + weights[:, -1:] * composition[t]
        matrices.append(matrix.view(T * N, T * N))
        x = block(x[None])[0]
    check(model, "attention", matrices[-1])
    check(model, "rollout", rollout_by_hand(matrices))


@torch.no_grad()
def test_tc_clip_context_leads_back_to_its_seeds() -> None:
    """Five context tokens of 16 seeds; what each is made of is found by solving for it."""
    model = student("tc_clip:context_tokens=5")
    x, context, shares = model.visual.embed(clip_frames()[None]), None, torch.zeros(0, T * N)
    matrices = []
    for block in model.visual.blocks:
        normed = block.ln_1(x)[0]
        q, k, _ = block.attn.in_proj(normed).chunk(3, dim=-1)
        bias = torch.zeros(HEADS)
        k_context = torch.zeros(0, 128)
        if context is not None:
            k_context = block.attn.in_proj(block.ln_1(context)[0]).chunk(3, dim=-1)[1]
            bias = block.attn.context_bias
        matrix, attended = torch.zeros(T, N, T * N), torch.zeros(T, N - 1)
        for t in range(T):
            logits = heads(q[t]) @ heads(torch.cat([k[t], k_context])).mT / (128 / HEADS) ** 0.5
            logits[:, :, N:] += bias[:, None, None]
            weights = logits.softmax(-1).mean(0)
            matrix[t, :, t * N : (t + 1) * N] = weights[:, :N]
            matrix[t] += weights[:, N:] @ shares
            attended[t] = weights[0, 1:N]
        matrices.append(matrix.view(T * N, T * N))
        gathered, _ = block.attn(block.ln_1(x), None if context is None else block.ln_1(context))
        behind_attention = (x + gathered)[0]
        x, context = block(x, context)
        seeds = [t * N + 1 + patch for t in range(T) for patch in attended[t].topk(4).indices.tolist()]
        tokens = behind_attention.flatten(0, 1)[seeds]
        # A mean of some of the seeds: linear equations, 16 unknowns and 128 channels.
        solved = torch.linalg.lstsq(tokens.T, merge_tokens(tokens[None], 5)[0].T).solution.T
        shares = torch.zeros(5, T * N)
        shares[:, seeds] = solved
    check(model, "attention", matrices[-1])
    check(model, "rollout", rollout_by_hand(matrices))


@torch.no_grad()
def test_action_clip_head_weighs_the_frames() -> None:
    """Where the head looks at one frame alone, rollout moves relevance there; attention of the last layer stays."""
    model = student("action_clip")
    before = relevance_maps(model, clip_frames(), "rollout").sum((1, 2))
    attention_before = relevance_maps(model, clip_frames())
    for block in model.temporal.blocks:
        block.attn.in_proj.weight[:64] *= 0
        block.attn.in_proj.bias[:32] = 40.0
        block.attn.in_proj.weight[32:64] = torch.randn(32, 32)
        block.ln_1.bias += 1
    after = relevance_maps(model, clip_frames(), "rollout").sum((1, 2))
    assert after.max() / after.sum() > before.max() / before.sum() + 0.1
    assert abs(relevance_maps(model, clip_frames()) - attention_before).max() < 1e-6


@torch.no_grad()
def test_shares_make_the_merged_tokens() -> None:
    tokens = torch.randn(2, 301, 16, generator=torch.Generator().manual_seed(0))
    for count in (7, 120, 400):
        shares = merge_shares(tokens, count)
        torch.testing.assert_close(shares.sum(-1), torch.ones(2, min(count, 301)))
        torch.testing.assert_close(shares @ tokens, merge_tokens(tokens, count), atol=1e-5, rtol=1e-5)


# ---------------------------------------------------------------------------------------------------------------------


def test_frames_need_not_be_square_nor_four() -> None:
    model = student("vclip")
    maps = relevance_maps(model, torch.randn(2, 3, 16, 40), "gradient", class_matrix(model), 0)
    assert maps.shape == (2, 2, 5)


def test_a_single_label_is_explained_by_its_own_logit() -> None:
    model = student("frame_clip")
    maps = relevance_maps(model, clip_frames(), "gradient", class_matrix(model, rows=1), 0)
    assert maps.max() == 1


def test_bfloat16_is_near_float32() -> None:
    model = student("vclip")
    for kind in KINDS:
        exact = relevance_maps(model, clip_frames(), kind, class_matrix(model), 0)
        rounded = relevance_maps(student("vclip").bfloat16(), clip_frames(), kind, class_matrix(model), 0)
        assert abs(exact - rounded).mean() < 0.05, kind


def test_wrong_requests_are_named() -> None:
    model = student("frame_clip")
    with pytest.raises(FrosterError, match="no map of kind 'saliency'; choose from attention, rollout, gradient"):
        relevance_maps(model, clip_frames(), "saliency")
    for label in ({}, {"classes": class_matrix(model)}, {"classes": class_matrix(model), "target": 3}):
        with pytest.raises(FrosterError, match="one label"):
            relevance_maps(model, clip_frames(), "gradient", **label)


def test_a_student_that_does_not_say_how_its_tokens_lie_is_told() -> None:
    class Pairs(FrameClip):
        """Attention among the tokens of two frames at a time."""

        def forward_features(self, frames: Tensor) -> VideoFeatures:
            tokens = self.visual.embed(frames).unflatten(1, (-1, 2)).flatten(2, 3)
            for block in self.visual.blocks:
                tokens = block(tokens)
            return VideoFeatures(self.visual.pool(tokens.unflatten(2, (2, -1)).flatten(1, 2)))

    torch.manual_seed(0)
    model = Pairs(Clip(ClipConfig(32, 8, 64, 1, 1, 64, 1, 1, 32)))
    with pytest.raises(ValueError, match="attention_graph"):
        relevance_maps(model, clip_frames())


def test_a_map_without_any_relevance_is_zero() -> None:
    """Two labels without features: nothing speaks for one of them."""
    model = student("frame_clip")
    maps = relevance_maps(model, clip_frames(), "gradient", torch.zeros(2, 32), 0)
    assert not maps.any()
