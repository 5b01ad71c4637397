"""Parts that several networks are made of."""

import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from froster.backbones.attention import attention
from froster.backbones.blocks import Block
from froster.backbones.clip import TextTransformer


class WrappedBlock(Block):
    """Wraps a pretrained block of the backbone and reuses its modules under their names; adds no new ones."""

    def __init__(self, block: Block) -> None:
        nn.Module.__init__(self)
        self.ln_1, self.attn, self.ln_2, self.mlp = block.ln_1, block.attn, block.ln_2, block.mlp


class WrappedText(TextTransformer):
    """Wraps a causal text encoder for a method that inserts `vectors` learned vectors into every text."""

    def __init__(self, text: TextTransformer, vectors: int) -> None:
        nn.Module.__init__(self)
        self.token_embedding, self.positional_embedding = text.token_embedding, text.positional_embedding
        self.blocks, self.ln_final, self.text_projection = text.blocks, text.ln_final, text.text_projection
        self.vectors = vectors

    @property
    def max_text_tokens(self) -> int:
        return super().max_text_tokens - self.vectors

    def truncate(self, tokens: Tensor) -> Tensor:
        """Truncate `(K, L)` tokens to `max_text_tokens`, keeping the end-of-text token last."""
        end = tokens.argmax(dim=1, keepdim=True).clamp(max=self.max_text_tokens - 1)
        return tokens[:, : self.max_text_tokens].scatter(1, end, tokens.amax(dim=1, keepdim=True))


def frame_rows(table: Tensor, frames: int) -> Tensor:
    """Rows of a table for the first frames, `(M, C)` -> `(T, C)`; stretched linearly where there are more than M."""
    if frames <= len(table):
        return table[:frames]
    stretched = F.interpolate(table.T[None].float(), size=frames, mode="linear", align_corners=True)
    return stretched[0].T.to(table.dtype)


def cross_attention(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    """Softmax attention of queries `(B, N, C)` to keys and values `(B, M, C)`: `(B, N, C)`."""
    q, k, v = (rearrange(t, "b n (h c) -> b h n c", h=heads) for t in (q, k, v))
    return rearrange(attention(q, k, v), "b h n c -> b n (h c)")
