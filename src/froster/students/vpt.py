"""VPT (Ju et al., "Prompting Visual-Language Models for Efficient Video Understanding", ECCV 2022).

Both encoders of CLIP stay frozen. What is learned is what they are asked, vectors before and after the class name in
place of a hand-written template, and a light transformer that lets the features f of the frames see each other:

    class = TextEncoder([start, a_1 … a_k, name, a_k+1 … a_2k, end])
    video = mean over t of (f + Transformer(f + positions))_t

where the transformer gives what its blocks add, nothing at the start.
"""

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from froster.backbones.base import Backbone, BackboneConfig
from froster.backbones.blocks import Block, run_blocks
from froster.backbones.clip import TextTransformer
from froster.errors import FrosterError
from froster.students.base import VideoFeatures, VideoStudent
from froster.students.needs import CAUSAL_TEXT, require
from froster.students.parts import WrappedText, frame_rows

TABLE_FRAMES = 16  # as in the authors' code
MAX_LAYERS = 12


class PromptedText(WrappedText):
    """A causal text encoder with learned vectors between the start token and the text, and between text and end token.

    A text that is too long for its positions together with the vectors is truncated, the end token kept last.
    """

    def __init__(self, text: TextTransformer, before: int, after: int, std: float) -> None:
        super().__init__(text, vectors=before + after)
        self.before, self.after = before, after
        self.context = nn.Parameter(std * torch.randn(before + after, text.positional_embedding.shape[1]))

    def forward(self, tokens: Tensor) -> Tensor:
        """Embedding at the end-of-text token, the largest id: `(K, L)` int64 -> `(K, D)`, not normalized."""
        tokens = self.truncate(tokens)
        x = self.insert_context(tokens)
        x = run_blocks(self.blocks, x + self.positional_embedding[: x.shape[1]], self.checkpointing)
        end = tokens.argmax(dim=1) + len(self.context)
        return self.ln_final(x[torch.arange(len(x), device=x.device), end]) @ self.text_projection

    def insert_context(self, tokens: Tensor) -> Tensor:
        """Embedded texts with the vectors in their places, `(K, L)` -> `(K, L + before + after, C)`."""
        position = torch.arange(tokens.shape[1] + len(self.context), device=tokens.device)
        end = tokens.argmax(dim=1, keepdim=True) + self.before  # the end token's place, before `after` push it on
        # Number of vectors before a position, which is the index of the vector at that position, if any.
        passed = (position - 1).clamp(0, self.before) + (position - end).clamp(0, self.after)
        is_context = (position > 0) & (position <= self.before) | (position >= end) & (position < end + self.after)
        words = self.token_embedding(tokens.gather(1, position - passed))
        context = F.embedding(passed.clamp(max=len(self.context) - 1), self.context)
        return torch.where(is_context[..., None], context, words)


class TemporalResidual(nn.Module):
    """Adds what a transformer adds to the frame features, `(B, T, D)` -> `(B, T, D)`; the identity at the start."""

    def __init__(self, config: BackboneConfig, layers: int) -> None:
        super().__init__()
        width = config.embed_dim
        heads = width // 64 if width % 64 == 0 else 1
        self.positions = nn.Parameter(0.01 * torch.randn(TABLE_FRAMES, width))
        self.blocks = nn.Sequential(*(Block(width, heads, config.activation) for _ in range(layers)))
        for name, parameter in self.blocks.named_parameters():
            if "out_proj" in name or "mlp.2" in name:
                nn.init.zeros_(parameter)

    def forward(self, features: Tensor) -> Tensor:
        x = features + frame_rows(self.positions, features.shape[1])
        return features + (self.blocks(x) - x)  # the positions only enter the blocks, not the embedding


class Vpt(VideoStudent):
    """The frozen backbone, `context` learned vectors on each side of the class name, `layers` of temporal transformer.

    A text keeps `context_length - 2 context` tokens, 45 of CLIP's by default, and is truncated behind them. Raises
    `FrosterError` when `context` leaves no room for a word, or `layers` is out of range.
    """

    name = "vpt"
    title = "VPT"
    trainable_params = r"^text\.context$|^temporal\."
    temporal_pooling = "features"
    templates = ()

    def __init__(self, backbone: Backbone, context: int = 16, layers: int = 2) -> None:
        if context:
            require(self.title, backbone, [CAUSAL_TEXT])
        longest = (backbone.config.context_length - 3) // 2
        if not isinstance(context, int) or not 0 <= context <= longest:
            raise FrosterError(f"vpt's context is the number of vectors on each side, 0 to {longest}; not {context!r}.")
        if not isinstance(layers, int) or not 0 <= layers <= MAX_LAYERS:
            raise FrosterError(
                f"vpt's layers is the depth of the temporal transformer, 0 to {MAX_LAYERS}; not {layers!r}."
            )
        super().__init__(backbone)
        self.options = {"context": context, "layers": layers}
        if context:
            self.text = PromptedText(cast(TextTransformer, backbone.text), before=context, after=context, std=0.01)
        self.temporal = TemporalResidual(backbone.config, layers) if layers else nn.Identity()

    def forward_features(self, frames: Tensor) -> VideoFeatures:
        return VideoFeatures(self.temporal(self.visual(frames)))
