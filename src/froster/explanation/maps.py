"""Maps of a clip: what its frame embeddings take from every patch, by attention, through all layers, or for a label.

All kinds follow relevance back from the tokens that become the frame embeddings, 1 / T each, to the patches of every
frame, so that what one frame takes from another is shown where it came from. These tokens are the class tokens of the
last layer, or, in backbones that pool by attention, what pools. A student's `attention_graph` says which token attends
to which; nothing here knows any student or backbone. With A the attention weights of a layer, averaged over its heads,
and I the residual path, relevance r goes through it as

    attention   r A, in the last layer alone in which those tokens attend to patches
    rollout     r (A + I) / 2, its rows normalized                            (Abnar and Zuidema, ACL 2020)
    gradient    r + r Ā, Ā the mean over the heads of the positive part of gradient * A    (Chefer et al., ICCV 2021)
"""

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from froster.backbones.attention import record_attention
from froster.errors import FrosterError
from froster.scoring import check_finite
from froster.students import VideoStudent
from froster.students.attention_graph import PAD_TOKEN, AttentionStep, MergeStep, PoolingStep, Step

Kind = Literal["attention", "rollout", "gradient"]


def relevance_maps(
    model: VideoStudent,
    frames: Tensor,
    kind: Kind = "attention",
    classes: Tensor | None = None,
    target: int | None = None,
) -> NDArray[np.float32]:
    """Relevance maps of a clip: frames `(T, 3, H, W)`, normalized -> maps `(T, h, w)`, one value per patch.

    The largest value of the clip is 1, unless all are 0. `kind`: `"attention"` of the last layer's frame embeddings,
    attention `"rollout"` through all layers, or relevance by `"gradient"` for one label: `classes` is the class matrix
    of `froster.text.classifier.encode_classes`, `target` the label's row; what is explained is the label's log odds
    against the others, or its logit where there are none or scores are independent. Raises `FrosterError` for another
    kind, or a label that is missing.
    """
    if kind not in get_args(Kind):
        raise FrosterError(f"There is no map of kind {kind!r}; choose from {', '.join(get_args(Kind))}.")
    if kind == "gradient" and (classes is None or target is None or not 0 <= target < len(classes)):
        raise FrosterError("A map by gradient explains one label: give the class matrix and the label's row in it.")
    # Inference mode of the caller would prevent gradients.
    with torch.inference_mode(False), torch.set_grad_enabled(kind == "gradient"):
        clip = frames.detach().to(model.device, model.dtype, copy=True)[None].requires_grad_(kind == "gradient")
        steps, score = _look(model, clip, classes, target if kind == "gradient" else None)
        grid, prefix_tokens = model.visual.patch_grid(clip), model.visual.prefix_tokens
        numbers = token_numbers(len(frames), prefix_tokens + grid.rows * grid.columns, clip.device)
        tokens, of_patches = numbers.numel(), numbers[:, prefix_tokens:]
        embedded = model.frame_tokens(numbers)
        relevance = torch.zeros(max(tokens, 1 + int(embedded.max())), device=clip.device)
        relevance[embedded] = 1 / len(frames)
        if kind == "attention":
            relevance = attention(steps, relevance, of_patches, tokens)
        elif kind == "rollout":
            relevance = rollout(steps, relevance, tokens)
        else:
            assert score is not None
            relevance = gradient(steps, relevance, score, tokens)
        maps = relevance[of_patches].unflatten(1, grid)
        return (maps / maps.max().clamp(min=torch.finfo(maps.dtype).tiny)).cpu().numpy()


def token_numbers(frames: int, tokens: int, device: torch.device) -> Tensor:
    """Indices of a clip's tokens, `(T, N)` int64: frame by frame, class token first."""
    return torch.arange(frames * tokens, device=device).view(frames, -1)


def _look(
    model: VideoStudent, clip: Tensor, classes: Tensor | None, target: int | None
) -> tuple[list[Step], Tensor | None]:
    """The attention graph of `(1, T, 3, H, W)`, and the label's score, if any, for gradients."""
    checkpointing, model.visual.checkpointing = model.visual.checkpointing, False
    try:
        with record_attention(model) as recorded:
            video_features = model.forward_features(clip)
    finally:
        model.visual.checkpointing = checkpointing
    grid = model.visual.patch_grid(clip)
    tokens = model.visual.prefix_tokens + grid.rows * grid.columns
    steps = model.attention_graph(recorded, token_numbers(clip.shape[1], tokens, clip.device))
    if classes is None or target is None:
        return steps, None
    similarities = model.similarities(video_features, classes.to(clip.device, copy=True))
    logits = model.similarities_to_logits(similarities)[0]
    check_finite(logits)
    if model.config.score_function == "sigmoid":  # the logit is the label's log odds
        return steps, logits[target]
    others = torch.cat([logits[:target], logits[target + 1 :]])
    # Log odds rather than log softmax, whose gradient vanishes for confident predictions.
    return steps, logits[target] - others.logsumexp(dim=0) if len(others) else logits[target]


def attention(steps: Sequence[Step], relevance: Tensor, of_patches: Tensor, tokens: int) -> Tensor:
    """Relevance `(M,)` of the T N tokens through the last layer in which it reaches any patch: `(M,)`, M >= T N.

    `of_patches`: numbers of the patches `(T, N)`; `tokens`: T N.
    """
    for place in reversed(range(len(steps))):
        step = steps[place]
        if isinstance(step, AttentionStep):
            taken = propagate_relevance(step, step.weights.detach().mean(dim=1), relevance)
            # Earlier attention among added tokens comes from class tokens only, so it reaches no patch.
            origins = next((earlier for earlier in reversed(steps[:place]) if isinstance(earlier, MergeStep)), None)
            taken = propagate_merge(origins, taken, tokens) if origins else taken
            if taken[of_patches].any():
                return taken
    raise ValueError("No frame embedding attends to any patch.")


def rollout(steps: Sequence[Step], relevance: Tensor, tokens: int) -> Tensor:
    """Relevance `(T N,)` of what went into the tokens from which it starts, through all layers; T N is `tokens`."""
    state = relevance
    for step in reversed(steps):
        if isinstance(step, MergeStep):
            state = propagate_merge(step, state, tokens)
            continue
        weights = step.weights.detach().mean(dim=1)
        if isinstance(step, PoolingStep):
            state = propagate_relevance(step, weights, state)[:tokens]
            continue
        state = pad_relevance(step, state)
        row_sums = torch.einsum("bnm,bm->bn", weights, (step.keys != PAD_TOKEN).to(weights.dtype))
        queried = step.queries[step.queries != PAD_TOKEN]
        # (A + I) / 2, normalized by its row sum, which is 1 unless weights fall on padding.
        normalizer = torch.ones_like(state).index_put((queried,), 1 + row_sums[step.queries != PAD_TOKEN])
        state = state / normalizer
        state = state + propagate_relevance(step, weights, state)
    return state[:tokens]


def gradient(steps: Sequence[Step], relevance: Tensor, score: Tensor, tokens: int) -> Tensor:
    """Relevance `(T N,)` for `score`, which depends on the weights of the steps; T N is `tokens`."""
    exchanges = [step for step in steps if isinstance(step, AttentionStep)]
    gradients = torch.autograd.grad(score, [step.weights for step in exchanges], materialize_grads=True)
    of_step = dict(zip(map(id, exchanges), gradients, strict=True))
    state = relevance
    for step in reversed(steps):
        if isinstance(step, MergeStep):
            state = propagate_merge(step, state, tokens)
            continue
        weights = (of_step[id(step)] * step.weights.detach()).clamp(min=0).mean(dim=1)
        if isinstance(step, PoolingStep):
            state = propagate_relevance(step, weights, state)[:tokens]
            continue
        state = pad_relevance(step, state)
        state = state + propagate_relevance(step, weights, state)
    return state[:tokens]


def propagate_relevance(step: AttentionStep, weights: Tensor, state: Tensor) -> Tensor:
    """What the keys gave to queries of relevance `state`, with the weights `(B, N, M)`: as many tokens again.

    Added tokens may follow those of `state`; their relevance is zero.
    """
    state = pad_relevance(step, state)
    padded = torch.cat([state, state.new_zeros(1)])  # the last entry is that of `PAD_TOKEN`
    given = torch.einsum("bn,bnm->bm", padded[step.queries], weights)
    return torch.zeros_like(padded).index_put((step.keys,), given, accumulate=True)[:-1]


def pad_relevance(step: AttentionStep, state: Tensor) -> Tensor:
    """Append zero relevance for the tokens that the step adds."""
    tokens = max(len(state), 1 + int(step.keys.max()), 1 + int(step.queries.max()))
    return torch.cat([state, state.new_zeros(tokens - len(state))])


def propagate_merge(step: MergeStep, state: Tensor, tokens: int) -> Tensor:
    """Distribute the relevance of merged tokens to their sources; `tokens` remain."""
    added = state[tokens:]
    return state[:tokens] + added @ step.shares[: len(added)]
