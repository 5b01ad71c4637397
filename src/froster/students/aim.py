"""AIM (Yang et al., ICLR 2023): CLIP's own attention looks over time before it looks over space; CLIP stays frozen.

Every vision layer uses its attention twice, followed by adapters, bottlenecks up(GELU(down(x))):

    x = x + time_adapter(attn(ln_1(x)) of one patch across the frames)
    x = x + y + space_adapter(y),            y = attn(ln_1(x)) of one frame across its patches
    x = x + mlp(z) + 0.5 * mlp_adapter(z),   z = ln_2(x)

Attention has no sense of order and frames have no positions here: the frames are a set.
"""

import re
from collections.abc import Iterator

from torch import Tensor

from froster.backbones.base import Backbone
from froster.backbones.blocks import Block, Grid
from froster.checkpoints.checkpoint import StateDict
from froster.students.adaptformer import SCALE, Adapter
from froster.students.attention_graph import AttentionStep, Step
from froster.students.base import VideoStudent
from froster.students.needs import BLOCKS
from froster.students.parts import WrappedBlock

RELEASED = re.compile(r"\.(t|s|ffn)_adapter\.adapter\.(0|2)\.")
OURS = {"t": "time_adapter", "s": "space_adapter", "ffn": "mlp_adapter", "0": "down", "2": "up"}


class AimBlock(WrappedBlock):
    """The backbone's block with its attention first over time, then over space, on `(B, T, N, C)`."""

    def __init__(self, block: Block, width: int) -> None:
        super().__init__(block)
        self.time_adapter = Adapter(width)
        self.space_adapter = Adapter(width)
        self.mlp_adapter = Adapter(width)

    def forward(self, x: Tensor, grid: Grid | None = None) -> Tensor:
        # One patch is at the same position in every frame: no grid.
        across_time = self.attn(self.ln_1(x).transpose(1, 2)).transpose(1, 2)
        x = x + self.time_adapter(across_time)  # no skip around the adapter: nothing at the start
        y = self.attn(self.ln_1(x), grid)
        x = x + y + self.space_adapter(y)
        z = self.ln_2(x)
        return x + self.mlp(z) + SCALE * self.mlp_adapter(z)


class Aim(VideoStudent):
    """Three adapters in every vision layer: after temporal attention, after spatial attention, and parallel to the MLP.

    The adapters alone are trained.
    """

    name = "aim"
    title = "AIM"
    needs = (BLOCKS,)
    trainable_params = r"_adapter\."

    def __init__(self, backbone: Backbone) -> None:
        super().__init__(backbone)
        for layer, block in enumerate(self.visual.blocks):
            assert isinstance(block, Block)
            self.visual.blocks[layer] = AimBlock(block, backbone.config.vision_width)

    @classmethod
    def from_released(cls, state: StateDict) -> StateDict:
        return {RELEASED.sub(lambda name: f".{OURS[name[1]]}.{OURS[name[2]]}.", key): state[key] for key in state}

    def layer_steps(self, recorded: Iterator[Tensor], numbers: Tensor) -> list[Step]:
        over_time_and_space = (numbers.T, numbers) * len(self.visual.blocks)
        return [AttentionStep(next(recorded), n, n) for n in over_time_and_space]
