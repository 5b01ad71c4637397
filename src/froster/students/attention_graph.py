"""Which tokens of a clip attend to which: what an explanation follows back from the scores to the patches.

Every token of a clip has a number: frame by frame, class token first. Tokens that exist within one layer, such as
messages between frames, are numbered behind them, starting again in each layer; so are the frames' embeddings where an
attention pools the tokens.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

PAD_TOKEN = -1  # number of what is not a token of the clip: zero padding, learned prompts, dropped outputs


@dataclass(frozen=True, eq=False)
class AttentionStep:
    """Attention with a residual connection: each query token adds a weighted sum over the keys.

    `weights`: `(B, heads, N, M)`, as recorded. `queries` `(B, N)` and `keys` `(B, M)`: numbers of the tokens, int64,
    `PAD_TOKEN` for padding. Raises `ValueError` when they do not fit the weights.
    """

    weights: Tensor
    queries: Tensor
    keys: Tensor

    def __post_init__(self) -> None:
        batch, _, queries, keys = self.weights.shape
        if (*self.queries.shape, *self.keys.shape) != (batch, queries, batch, keys):
            raise ValueError(
                f"Attention {tuple(self.weights.shape)} is not among {tuple(self.queries.shape)} queries and "
                f"{tuple(self.keys.shape)} keys: the student needs its own `attention_graph`."
            )


@dataclass(frozen=True, eq=False)
class PoolingStep(AttentionStep):
    """Attention without a residual connection, in which queries that are not tokens pool a frame's embedding.

    `weights` `(T, heads, 1, N)`; `queries` `(T, 1)` are numbered behind all tokens of the clip.
    """


@dataclass(frozen=True, eq=False)
class MergeStep:
    """Tokens merged from others: `shares` `(E, T N)`, the share of every token of the clip in each merged one."""

    shares: Tensor


Step = AttentionStep | MergeStep


def one_hot_merge(numbers: Tensor, tokens: int) -> MergeStep:
    """Merged tokens each of which is one token of the clip: `numbers` `(E,)` of `tokens` tokens."""
    return MergeStep(torch.eye(tokens, device=numbers.device)[numbers])
