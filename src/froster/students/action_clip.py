"""ActionCLIP (Wang, Xing and Liu, arXiv 2021): per-frame CLIP, then a transformer over the features of the frames.

The paper's temporal head "Transf". With the feature x_t of frame t and a learned position p_t,

    y = x + transformer(x + p),        video feature = mean of y over the frames.
"""

import math

import torch
from torch import Tensor, nn

from froster.backbones.base import Backbone
from froster.backbones.blocks import Attention, Block
from froster.checkpoints.checkpoint import StateDict
from froster.students.base import VideoFeatures, VideoStudent
from froster.students.parts import frame_rows

LAYERS = 6  # of the released models


class TemporalTransformer(nn.Module):
    """Pre-norm transformer over frame features, added to them: `(B, T, D)` -> `(B, T, D)`.

    The output is near `2 x` at the start, not `x`: the transformer's own residual path carries the features too. Clips
    longer than the table of positions, of `frames` rows, stretch it to their length. `heads` that do not divide the
    width are reduced to as many as do.
    """

    def __init__(self, width: int, heads: int, layers: int, frames: int) -> None:
        super().__init__()
        self.positional_embedding = nn.Parameter(0.02 * torch.randn(frames, width))
        self.blocks = nn.Sequential(*(Block(width, math.gcd(width, heads), "quick_gelu") for _ in range(layers)))
        self.apply(initialize)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.blocks(x + frame_rows(self.positional_embedding, x.shape[1]))


def initialize(module: nn.Module) -> None:
    """As the authors do it: normal weights, zero biases; their LayerNorm has an epsilon of its own."""
    if isinstance(module, nn.LayerNorm):
        module.eps = 1e-12
    elif isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)
    elif isinstance(module, Attention):  # it comes after its layers; PyTorch's own start, which the authors keep
        nn.init.xavier_uniform_(module.in_proj.weight)


class ActionClip(VideoStudent):
    """CLIP, all of it tuned, with a transformer of six layers over the frames; each frame's output is its feature.

    The heads are as many as the text encoder's, and the positions as many as those of a text (77): longer clips
    interpolate them.
    """

    name = "action_clip"
    title = "ActionCLIP"
    temporal_pooling = "features"

    def __init__(self, backbone: Backbone) -> None:
        super().__init__(backbone)
        config = backbone.config
        self.temporal = TemporalTransformer(config.embed_dim, config.text_heads, LAYERS, config.context_length)

    @classmethod
    def from_released(cls, state: StateDict) -> StateDict:
        """Tensors of the authors' `fusion_model`; its other forms (LSTM, convolution, class token) are not this one."""
        table = "fusion_model.frame_position_embeddings.weight"
        state = {key.replace(table, "temporal.positional_embedding"): value for key, value in state.items()}
        return {key.replace("fusion_model.", "temporal."): value for key, value in state.items()}

    def forward_features(self, frames: Tensor) -> VideoFeatures:
        return VideoFeatures(self.temporal(self.visual(frames)))
