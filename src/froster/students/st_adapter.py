"""ST-Adapter (Pan et al., NeurIPS 2022): a bottleneck with a convolution over time in every vision layer.

Before attention the patch tokens, not the class token, become

    x + up(convolution(down(x)))

where the convolution is depthwise: each channel mixes with its own past and future. CLIP stays frozen.
"""

import re
from collections.abc import Callable
from typing import Literal, get_args

import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from froster.backbones.base import Backbone
from froster.backbones.blocks import Block, Grid
from froster.checkpoints.checkpoint import StateDict
from froster.errors import FrosterError
from froster.students.base import VideoStudent
from froster.students.needs import BLOCKS
from froster.students.parts import WrappedBlock

Kernel = Literal["temporal", "spatiotemporal"]
Before = Literal["attention", "mlp", "attention+mlp"]
RELEASED = re.compile(r"\.stadapt_(down|up|conv)(?:3d)?_1\.")


class StAdapter(nn.Module):
    """Adds to every patch what a depthwise convolution of 3 frames (`"temporal"`: 3x1x1) sees around it.

    `"spatiotemporal"`: of 3 frames and 3 x 3 patches. Beyond the edges there are zeros. Starts as the identity.
    """

    def __init__(self, width: int, hidden: int, kernel: Kernel, prefix_tokens: int) -> None:
        super().__init__()
        self.kernel, self.prefix_tokens = kernel, prefix_tokens
        self.down = nn.Linear(width, hidden)
        self.conv = (
            # All patches on one axis: PyTorch's 3-D convolution takes about ten times as long on a CPU.
            nn.Conv2d(hidden, hidden, (3, 1), padding=(1, 0), groups=hidden)
            if kernel == "temporal"
            else nn.Conv3d(hidden, hidden, 3, padding=1, groups=hidden)
        )
        self.up = nn.Linear(hidden, width)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, x: Tensor, grid: Grid) -> Tensor:
        """`(B, T, N, C)`, prefix tokens first, to the same; `grid` of the patches in a frame."""
        patches = self.down(x[:, :, self.prefix_tokens :])
        if self.kernel == "temporal":
            patches = rearrange(self.conv(rearrange(patches, "b t n c -> b c t n")), "b c t n -> b t n c")
        else:
            patches = self.conv(rearrange(patches, "b t (h w) c -> b c t h w", h=grid.rows))
            patches = rearrange(patches, "b c t h w -> b t (h w) c")
        return x + F.pad(self.up(patches), (0, 0, self.prefix_tokens, 0))  # nothing for the class token


class StAdapterBlock(WrappedBlock):
    """The backbone's block with an ST-Adapter before its attention, its MLP or both, on `(B, T, N, C)`."""

    def __init__(self, block: Block, before: Before, new_adapter: Callable[[], StAdapter]) -> None:
        super().__init__(block)
        self.adapter_before_attn = new_adapter() if "attention" in before else None
        self.adapter_before_mlp = new_adapter() if "mlp" in before else None

    def forward(self, x: Tensor, grid: Grid | None = None) -> Tensor:
        assert grid is not None
        if self.adapter_before_attn:
            x = self.adapter_before_attn(x, grid)
        x = x + self.attn(self.ln_1(x), grid)
        if self.adapter_before_mlp:
            x = self.adapter_before_mlp(x, grid)
        return x + self.mlp(self.ln_2(x))


class StAdapterClip(VideoStudent):
    """The backbone with ST-Adapters of half its width in every vision layer; they alone are trained.

    `kernel`: what the convolution spans, `"temporal"` (3x1x1) or `"spatiotemporal"` (3x3x3). `before`: where adapters
    stand, before the `"attention"` (FROSTER), the `"mlp"` or both (`"attention+mlp"`, as the authors do for
    Something-Something). Raises `FrosterError` for other values.
    """

    name = "st_adapter"
    title = "ST-Adapter"
    needs = (BLOCKS,)
    trainable_params = r"\.adapter_before_"

    def __init__(self, backbone: Backbone, kernel: Kernel = "temporal", before: Before = "attention") -> None:
        if kernel not in get_args(Kernel):
            raise FrosterError(f"st_adapter's kernel is 'temporal' or 'spatiotemporal', not {kernel!r}.")
        if before not in get_args(Before):
            raise FrosterError(f"st_adapter: `before=` must be 'attention', 'mlp' or 'attention+mlp', not {before!r}.")
        super().__init__(backbone)
        self.options = {"kernel": kernel, "before": before}
        width, prefix_tokens = backbone.config.vision_width, self.visual.prefix_tokens
        for layer, block in enumerate(self.visual.blocks):
            assert isinstance(block, Block)
            self.visual.blocks[layer] = StAdapterBlock(
                block, before, lambda: StAdapter(width, width // 2, kernel, prefix_tokens)
            )

    @classmethod
    def from_released(cls, state: StateDict) -> StateDict:
        return {RELEASED.sub(r".adapter_before_attn.\1.", key): without_ones(key, state[key]) for key in state}


def without_ones(name: str, value: Tensor) -> Tensor:
    """An adapter's released weight as here: linear layers were 1x1 convolutions, Open-VCLIP's have one more axis."""
    part = RELEASED.search(name)
    if part and name.endswith(".weight"):
        for _ in range(value.ndim - (4 if part[1] == "conv" else 2)):
            value = value.squeeze(-1)
    return value
