"""AdaptFormer (Chen et al., NeurIPS 2022): a bottleneck parallel to the MLP of every vision layer; CLIP is frozen.

With z = x + attn(ln_1(x)) and y = ln_2(z), a layer gives

    z + mlp(y) + 0.5 * up(GELU(down(y)))

No frame sees another: time enters through the average over frames alone.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from froster.backbones.base import Backbone
from froster.backbones.blocks import Block, Grid
from froster.checkpoints.checkpoint import StateDict
from froster.students.base import VideoStudent
from froster.students.needs import BLOCKS
from froster.students.parts import WrappedBlock

SCALE = 0.5  # of the adapter's output


class Adapter(nn.Module):
    """Bottleneck of a quarter of the width, `(..., C)` to `(..., C)`; it starts at zero."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.down = nn.Linear(width, width // 4)
        self.up = nn.Linear(width // 4, width)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.up(F.gelu(self.down(x)))


class AdaptFormerBlock(WrappedBlock):
    """The backbone's block with an adapter parallel to its MLP, on `(..., N, C)`."""

    def __init__(self, block: Block, width: int) -> None:
        super().__init__(block)
        self.mlp_adapter = Adapter(width)

    def forward(self, x: Tensor, grid: Grid | None = None) -> Tensor:
        x = x + self.attn(self.ln_1(x), grid)
        y = self.ln_2(x)
        return x + self.mlp(y) + SCALE * self.mlp_adapter(y)


class AdaptFormer(VideoStudent):
    """The backbone with an adapter parallel to the MLP of every vision layer; only the adapters are trained."""

    name = "adaptformer"
    title = "AdaptFormer"
    needs = (BLOCKS,)
    trainable_params = r"_adapter\."

    def __init__(self, backbone: Backbone) -> None:
        super().__init__(backbone)
        for layer, block in enumerate(self.visual.blocks):
            assert isinstance(block, Block)
            self.visual.blocks[layer] = AdaptFormerBlock(block, backbone.config.vision_width)

    @classmethod
    def from_released(cls, state: StateDict) -> StateDict:
        return {
            key.replace(".ffn_adapter.adapter.0.", ".mlp_adapter.down.").replace(
                ".ffn_adapter.adapter.2.", ".mlp_adapter.up."
            ): value
            for key, value in state.items()
        }
