"""LoRA (Hu et al., ICLR 2022): a low-rank update of frozen linear layers, y = W x + b + (alpha / rank) B A x.

A and B are all that is trained; B starts at zero, and with it the student at CLIP. After training the update is merged
into W, so that the released model is a plain per-frame CLIP or VCLIP and costs nothing more.
"""

import math
from collections.abc import Iterator
from typing import Literal, TypeGuard, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from froster.backbones.base import Backbone
from froster.backbones.blocks import Block
from froster.backbones.build import backbone_names, build_backbone
from froster.errors import FrosterError
from froster.provenance import provenance_of
from froster.students.attention_graph import Step
from froster.students.base import VideoStudent
from froster.students.frame_clip import FrameClip
from froster.students.needs import BLOCKS, TEXT_BLOCKS, require
from froster.students.vclip import MAX_WINDOW, VClip, attend_to_neighbors, neighbor_steps

Encoders = Literal["both", "image", "text"]
PROJECTIONS = ("q", "k", "v")  # in this order in the rows of an attention's `in_proj`
TARGETS = (*PROJECTIONS, "out", "mlp")
MAX_RANK = 1024


class LoraLinear(nn.Linear):
    """A linear layer, whose parameters it takes over, with low-rank updates of some of its `parts`.

    `parts`: for each of as many equal groups of output rows whether it is updated; queries, keys and values are three.
    `lora_a`: `(updated parts, rank, in)`, `lora_b`: `(updated parts, rows of a part, rank)`. `scale` is alpha / rank.
    """

    def __init__(self, linear: nn.Linear, rank: int, scale: float, dropout: float, parts: tuple[bool, ...]) -> None:
        nn.Module.__init__(self)  # no weights to initialize
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.weight, self.bias = linear.weight, linear.bias
        self.scale, self.parts, self.dropout = scale, parts, nn.Dropout(dropout)
        bound = 1 / math.sqrt(self.in_features)  # as a linear layer starts
        rows = self.out_features // len(parts)
        a = linear.weight.new_empty(sum(parts), rank, self.in_features)
        self.lora_a = nn.Parameter(nn.init.uniform_(a, -bound, bound))
        self.lora_b = nn.Parameter(linear.weight.new_zeros(sum(parts), rows, rank))

    def forward(self, x: Tensor) -> Tensor:
        low_rank = self.scale * F.linear(self.dropout(x), self.lora_a.flatten(0, 1))
        return super().forward(x) + F.linear(low_rank, self.block_diagonal_b())

    def block_diagonal_b(self) -> Tensor:
        """B of all parts, with rows of zeros for those without an update: `(out, updated parts * rank)`."""
        updates, rows = iter(self.lora_b), self.lora_b.shape[1]
        return torch.block_diag(*(next(updates) if part else self.lora_b.new_empty(rows, 0) for part in self.parts))

    def merged_weight(self) -> Tensor:
        """`W + (alpha / rank) B A`, of the shape of W."""
        update = self.block_diagonal_b().float() @ self.lora_a.flatten(0, 1).float()
        return (self.weight.float() + self.scale * update).to(self.weight.dtype)


class Lora(VideoStudent):
    """The frozen backbone with low-rank updates in every block of one encoder or both; only these are trained.

    `rank` and `alpha` of the updates, which are scaled by alpha / rank. `targets`: which layers, of `"q"`, `"k"`,
    `"v"`, `"out"` (the attention's output projection) and `"mlp"`, joined by +. `encoders`: `"both"`, `"image"` or
    `"text"`. `dropout`: of the updates' input, in training. `window`: 0 is per-frame CLIP, 1 or more VCLIP, whose
    tokens also attend to as many frames to either side. `merged` gives the network without updates.

    Raises `FrosterError` for values out of range.
    """

    name = "lora"
    title = "LoRA"
    trainable_params = r"\.lora_[ab]$"
    merges = True

    def __init__(
        self,
        backbone: Backbone,
        rank: int = 8,
        alpha: float = 16,
        targets: str = "q+k+v",
        encoders: Encoders = "both",
        dropout: float = 0,
        window: int = 0,
    ) -> None:
        check_options(rank, alpha, targets, encoders, dropout, window)
        needs = [BLOCKS] if encoders != "text" or window else []
        require(self.title, backbone, [*needs, TEXT_BLOCKS] if encoders != "image" else needs)
        super().__init__(backbone)
        self.options = {
            "rank": rank,
            "alpha": alpha,
            "targets": targets,
            "encoders": encoders,
            "dropout": dropout,
            "window": window,
        }
        if window:
            attend_to_neighbors(self.visual, window, "zero")
        towers = {"both": (self.visual, self.text), "image": (self.visual,), "text": (self.text,)}[encoders]
        for tower in towers:
            for block in [module for module in tower.modules() if isinstance(module, Block)]:
                self.add_updates(block, targets.split("+"))

    def add_updates(self, block: Block, targets: list[str]) -> None:
        def updated(linear: nn.Linear, parts: tuple[bool, ...] = (True,)) -> LoraLinear:
            options = self.options
            return LoraLinear(linear, options["rank"], options["alpha"] / options["rank"], options["dropout"], parts)

        parts = tuple(name in targets for name in PROJECTIONS)
        if any(parts):
            block.attn.in_proj = updated(block.attn.in_proj, parts)
        if "out" in targets:
            block.attn.out_proj = updated(block.attn.out_proj)
        if "mlp" in targets:
            for name, layer in list(block.mlp.named_children()):
                if isinstance(layer, nn.Linear):
                    setattr(block.mlp, name, updated(layer))

    @torch.no_grad()
    def merged(self) -> VideoStudent:
        """The same function as a plain per-frame CLIP or VCLIP, with copies of the weights."""
        of_backbone = backbone_names(self.config)
        state = {name: value.clone() for name, value in self.state_dict().items() if name in of_backbone}
        for name, module in self.named_modules():
            if isinstance(module, LoraLinear):
                state[f"{name}.weight"] = module.merged_weight()
        backbone = build_backbone(self.config)
        backbone.tokenizer = self.tokenizer
        backbone.load_state_dict(state, assign=True)
        window = self.options["window"]
        student = VClip(backbone, window) if window else FrameClip(backbone)
        provenance_of(self).apply_to(student, student.name)
        return student.train(self.training)

    def layer_steps(self, recorded: Iterator[Tensor], numbers: Tensor) -> list[Step]:
        return neighbor_steps(recorded, numbers, self.options["window"], len(self.visual.blocks))


def is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def check_options(
    rank: object, alpha: object, targets: object, encoders: object, dropout: object, window: object
) -> None:
    """Raises `FrosterError` for an option that is out of range."""
    if type(rank) is not int or not 1 <= rank <= MAX_RANK:
        raise FrosterError(f"lora's rank is a whole number, 1 to {MAX_RANK}; not {rank!r}.")
    if not (is_number(alpha) and 0 < alpha < math.inf):
        raise FrosterError(f"lora's alpha is a number above 0, not {alpha!r}.")
    chosen = targets.split("+") if isinstance(targets, str) else []
    if not chosen or set(chosen) - set(TARGETS) or len(set(chosen)) < len(chosen):
        raise FrosterError(f"lora's targets are some of {', '.join(TARGETS)}, joined by +; not {targets!r}.")
    if encoders not in get_args(Encoders):
        raise FrosterError(f"lora's encoders are 'both', 'image' or 'text', not {encoders!r}.")
    if not (is_number(dropout) and 0 <= dropout < 1):
        raise FrosterError(f"lora's dropout is a probability from 0 up to, but not including, 1; not {dropout!r}.")
    if type(window) is not int or not 0 <= window <= MAX_WINDOW:
        raise FrosterError(f"lora's window is the number of frames to either side, 0 to {MAX_WINDOW}; not {window!r}.")
