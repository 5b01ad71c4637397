"""How the tokens of a clip flow into one another: what an explanation follows back from the scores to the patches.

Every token of a clip has a number: frame by frame, class token first. Tokens that a layer adds for a while, such as
messages between frames, are numbered behind them, anew in each layer.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

NOTHING = -1  # the number of what is no token of the clip: zeros beyond its ends, learnt prompts, dropped outputs


@dataclass(frozen=True, eq=False)
class Exchange:
    """Attention with a residual path: each query keeps itself and adds what it takes from the keys.

    `weights`: `(B, heads, N, M)`, as recorded. `queries` `(B, N)` and `keys` `(B, M)`: numbers of the tokens, int64,
    `NOTHING` for what is none. Raises `ValueError` when they do not fit the weights.
    """

    weights: Tensor
    queries: Tensor
    keys: Tensor

    def __post_init__(self) -> None:
        batch, _, queries, keys = self.weights.shape
        if (*self.queries.shape, *self.keys.shape) != (batch, queries, batch, keys):
            raise ValueError(
                f"Attention {tuple(self.weights.shape)} is not among {tuple(self.queries.shape)} queries and "
                f"{tuple(self.keys.shape)} keys: the student needs a `token_flow` of its own."
            )


@dataclass(frozen=True, eq=False)
class Origins:
    """Tokens that are made of others: `shares` `(E, T N)`, of every token of the clip in each added one."""

    shares: Tensor


Step = Exchange | Origins


def made_of(numbers: Tensor, tokens: int) -> Origins:
    """Added tokens each of which is made of one of the clip's so many tokens."""
    return Origins(torch.eye(tokens, device=numbers.device)[numbers])
