"""Maps of a clip: what its class tokens take from every patch, by attention alone, through all layers, or for a label.

All kinds follow relevance back from the class tokens of the last layer, 1 / T each, to the patches of every frame, so
that what one frame takes from another is shown where it came from. A student's `attention_graph` says which token
attends to which; nothing here knows any student. With A the attention weights of a layer, averaged over its heads, and
I the residual path, relevance r goes through it as

    attention   r A, in the last layer alone in which class tokens attend to patches
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
from froster.students.attention_graph import PAD_TOKEN, AttentionStep, MergeStep, Step

Kind = Literal["attention", "rollout", "gradient"]


def explain(
    model: VideoStudent,
    frames: Tensor,
    kind: Kind = "attention",
    classes: Tensor | None = None,
    target: int | None = None,
) -> NDArray[np.float32]:
    """Where the model looks in a clip: frames `(T, 3, H, W)`, CLIP-normalized -> maps `(T, h, w)`, one value a patch.

    The largest value of the clip is 1, unless all are 0. `kind`: `"attention"` of the last layer's class tokens,
    attention `"rollout"` through all layers, or relevance by `"gradient"` for one label: `classes` is the class matrix
    of `froster.text.classifier.encode_classes`, `target` the label's row; what is explained is the label's log odds
    against the others, or its logit where there are none. Raises `FrosterError` for another kind,
    or a label that is missing.
    """
    if kind not in get_args(Kind):
        raise FrosterError(f"There is no map of kind {kind!r}; choose from {', '.join(get_args(Kind))}.")
    if kind == "gradient" and (classes is None or target is None or not 0 <= target < len(classes)):
        raise FrosterError("A map by gradient explains one label: give the class matrix and the label's row in it.")
    parameter = model.visual.proj
    # A caller's inference mode would leave nothing to take gradients of.
    with torch.inference_mode(False), torch.set_grad_enabled(kind == "gradient"):
        clip = frames.detach().to(parameter.device, parameter.dtype, copy=True)[None].requires_grad_(kind == "gradient")
        steps, score = _look(model, clip, classes, target if kind == "gradient" else None)
        patches = (frames.shape[-2] // model.visual.patch_size, frames.shape[-1] // model.visual.patch_size)
        numbers = token_numbers(len(frames), patches[0] * patches[1], parameter.device)
        relevance = torch.zeros(numbers.numel(), device=parameter.device)
        relevance[numbers[:, 0]] = 1 / len(frames)
        if kind == "attention":
            relevance = attention(steps, relevance, numbers)
        elif kind == "rollout":
            relevance = rollout(steps, relevance)
        else:
            assert score is not None
            relevance = gradient(steps, relevance, score)
        maps = relevance[numbers[:, 1:]].unflatten(1, patches)
        return (maps / maps.max().clamp(min=torch.finfo(maps.dtype).tiny)).cpu().numpy()


def token_numbers(frames: int, patches: int, device: torch.device) -> Tensor:
    """The numbers of a clip's tokens, `(T, N)` int64: frame by frame, class token first."""
    return torch.arange(frames * (1 + patches), device=device).view(frames, -1)


def _look(
    model: VideoStudent, clip: Tensor, classes: Tensor | None, target: int | None
) -> tuple[list[Step], Tensor | None]:
    """How the tokens of `(1, T, 3, H, W)` flow, and the score of the label, if there is one, to take gradients of."""
    checkpointing, model.visual.checkpointing = model.visual.checkpointing, False
    try:
        with record_attention(model) as recorded:
            video_features = model.forward_features(clip)
    finally:
        model.visual.checkpointing = checkpointing
    patches = clip[0, 0, 0].numel() // model.visual.patch_size**2
    steps = model.attention_graph(recorded, token_numbers(clip.shape[1], patches, clip.device))
    if classes is None or target is None:
        return steps, None
    logits = (
        model.logit_scale.detach().exp() * model.similarities(video_features, classes.to(clip.device, copy=True))[0]
    )
    check_finite(logits)
    others = torch.cat([logits[:target], logits[target + 1 :]])
    # Log odds, not the log of the label's share: that one's gradient vanishes where the model is sure.
    return steps, logits[target] - others.logsumexp(dim=0) if len(others) else logits[target]


def attention(steps: Sequence[Step], relevance: Tensor, numbers: Tensor) -> Tensor:
    """What class tokens take from patches in the last layer in which they take anything: `(T N,)` to the same."""
    for place in reversed(range(len(steps))):
        step = steps[place]
        if isinstance(step, AttentionStep):
            taken = propagate_relevance(step, step.weights.detach().mean(dim=1), relevance)
            # What added tokens exchanged among themselves before is of class tokens alone, and shows in no patch.
            origins = next((earlier for earlier in reversed(steps[:place]) if isinstance(earlier, MergeStep)), None)
            taken = propagate_merge(origins, taken, len(relevance)) if origins else taken
            if taken[numbers[:, 1:]].any():
                return taken
    raise ValueError("No class token attends to any patch.")


def rollout(steps: Sequence[Step], relevance: Tensor) -> Tensor:
    """Relevance `(T N,)` of what went into the tokens from which it starts, through all layers."""
    state = relevance
    for step in reversed(steps):
        if isinstance(step, MergeStep):
            state = propagate_merge(step, state, len(relevance))
            continue
        weights = step.weights.detach().mean(dim=1)
        state = pad_relevance(step, state)
        row_sums = torch.einsum("bnm,bm->bn", weights, (step.keys != PAD_TOKEN).to(weights.dtype))
        queried = step.queries[step.queries != PAD_TOKEN]
        # Half the residual path, half the attention, both over their sum, which is 1 where no weight falls on nothing.
        normalizer = torch.ones_like(state).index_put((queried,), 1 + row_sums[step.queries != PAD_TOKEN])
        state = state / normalizer
        state = state + propagate_relevance(step, weights, state)
    return state[: len(relevance)]


def gradient(steps: Sequence[Step], relevance: Tensor, score: Tensor) -> Tensor:
    """Relevance `(T N,)` for `score`, which depends on the weights of the steps."""
    exchanges = [step for step in steps if isinstance(step, AttentionStep)]
    gradients = torch.autograd.grad(score, [step.weights for step in exchanges], materialize_grads=True)
    of_step = dict(zip(map(id, exchanges), gradients, strict=True))
    state = relevance
    for step in reversed(steps):
        if isinstance(step, MergeStep):
            state = propagate_merge(step, state, len(relevance))
            continue
        weights = (of_step[id(step)] * step.weights.detach()).clamp(min=0).mean(dim=1)
        state = pad_relevance(step, state)
        state = state + propagate_relevance(step, weights, state)
    return state[: len(relevance)]


def propagate_relevance(step: AttentionStep, weights: Tensor, state: Tensor) -> Tensor:
    """What the keys gave to queries of relevance `state`, with the weights `(B, N, M)`: as many tokens again.

    Added tokens may lie behind those of `state`; there is nothing in them.
    """
    state = pad_relevance(step, state)
    padded = torch.cat([state, state.new_zeros(1)])  # the last place is that of `PAD_TOKEN`
    given = torch.einsum("bn,bnm->bm", padded[step.queries], weights)
    return torch.zeros_like(padded).index_put((step.keys,), given, accumulate=True)[:-1]


def pad_relevance(step: AttentionStep, state: Tensor) -> Tensor:
    """Relevance of the tokens so far, and of those that the step adds, which is 0."""
    tokens = max(len(state), 1 + int(step.keys.max()), 1 + int(step.queries.max()))
    return torch.cat([state, state.new_zeros(tokens - len(state))])


def propagate_merge(step: MergeStep, state: Tensor, tokens: int) -> Tensor:
    """Relevance of added tokens goes to those they are made of; `tokens` are left."""
    added = state[tokens:]
    return state[:tokens] + added @ step.shares[: len(added)]
