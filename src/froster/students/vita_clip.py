"""Vita-CLIP (Wasim et al., "Vita-CLIP: Video and text adaptive CLIP via Multimodal Prompting", CVPR 2023).

Both encoders of CLIP stay frozen. In every vision layer, the tokens of frame t are joined by prompts, to which they
attend, and which are dropped behind the attention:

    z_t' = z_t + Attention(LN([z_t, G, L_1 + p_1 … L_T + p_T, S_t])),   p_t = W (class token of frame t)
    S = p + SummaryAttention(LN(p))

G are global prompts, the same for every frame; L local ones, one for each frame of the clip; S_t is the summary token,
from an attention over the class tokens of all frames. On the text side, learned vectors precede the class name.
"""

import re
from collections.abc import Iterator
from typing import Any, cast

import torch
from torch import Tensor, nn

from froster.backbones.base import Backbone, BackboneConfig
from froster.backbones.blocks import Attention, Block, Grid
from froster.backbones.clip import TextTransformer
from froster.checkpoints.checkpoint import StateDict
from froster.checkpoints.names import fuse_projections
from froster.errors import FrosterError, WeightsError
from froster.students.attention_graph import PAD_TOKEN, AttentionStep, Step, one_hot_merge
from froster.students.base import VideoStudent
from froster.students.needs import BLOCKS, CAUSAL_TEXT, CLASS_TOKEN, NORM_BEFORE_BLOCKS, require
from froster.students.parts import WrappedBlock, frame_rows
from froster.students.vpt import TABLE_FRAMES, PromptedText

MAX_GLOBAL_PROMPTS = 256
RELEASED = (
    (r"^visual\.time_embed$", "visual.ln_pre.frame_positions"),
    (r"^prompt_learner\.ctx$", "text.context"),
    (r"\.local_prompts$", ".prompts.local_prompts"),
    (r"\.cls_proj\.", ".prompts.class_projection."),
    (r"\.summary_ln\.", ".prompts.summary.ln."),
    (r"\.summary_attn_layer\.", ".prompts.summary.attn."),
)


class SummaryToken(nn.Module):
    """What each frame's class token makes of those of all frames: `(B, T, C)` -> `(B, T, C)`."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.ln = nn.LayerNorm(width)
        self.attn = Attention(width, heads)
        for weight in (*self.attn.in_proj.weight.chunk(3), self.attn.out_proj.weight):
            nn.init.xavier_uniform_(weight)
        nn.init.zeros_(self.attn.in_proj.bias)
        nn.init.zeros_(self.attn.out_proj.bias)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.attn(self.ln(x))


class LayerPrompts(nn.Module):
    """The prompts of one vision layer."""

    def __init__(self, config: BackboneConfig, global_prompts: int, local_prompts: bool, summary: bool) -> None:
        super().__init__()
        width = config.vision_width
        bound = (6 / (3 * config.patch_size**2 + width)) ** 0.5  # Xavier's, of the patch embedding

        def table(rows: int) -> nn.Parameter | None:
            return nn.Parameter(torch.empty(rows, width).uniform_(-bound, bound)) if rows else None

        self.global_prompts = table(global_prompts)
        self.local_prompts = table(TABLE_FRAMES if local_prompts else 0)
        self.class_projection = nn.Linear(width, width) if local_prompts or summary else None
        self.summary = SummaryToken(width, config.vision_heads) if summary else None

    def forward(self, class_tokens: Tensor) -> list[Tensor]:
        """Tokens `(B, T, …, C)` that join those of each frame, from the class tokens `(B, T, C)` of all frames."""
        frames = class_tokens.shape[1]
        prompts = []
        if self.global_prompts is not None:
            prompts.append(self.global_prompts.expand(*class_tokens.shape[:2], -1, -1))
        if self.class_projection is not None:
            projected = self.class_projection(class_tokens)
            if self.local_prompts is not None:
                local = projected + frame_rows(self.local_prompts, frames)
                prompts.append(local[:, None].expand(-1, frames, -1, -1))
            if self.summary is not None:
                prompts.append(self.summary(projected)[:, :, None])
        return prompts


class PromptedBlock(WrappedBlock):
    """The backbone's block on `(B, T, N, C)`, whose tokens attend to prompts too; prompts attend to nothing."""

    def __init__(self, block: Block, prompts: LayerPrompts) -> None:
        super().__init__(block)
        self.prompts = prompts

    def forward(self, x: Tensor, grid: Grid | None = None) -> Tensor:
        tokens = self.ln_1(torch.cat([x, *self.prompts(x[:, :, 0])], dim=2))
        q, k, v = self.attn.qkv(tokens, grid)
        # Prompts are dropped behind the attention, so what they would ask is never needed.
        x = x + self.attn.out_proj(self.attn.attend(q[:, :, : x.shape[2]], k, v))
        return x + self.mlp(self.ln_2(x))


class FrameNorm(nn.LayerNorm):
    """The LayerNorm before the blocks, after positions in time are added to `(B, T, N, C)`; these start at zero."""

    def __init__(self, norm: nn.LayerNorm) -> None:
        super().__init__(norm.normalized_shape, norm.eps)
        self.weight, self.bias = norm.weight, norm.bias
        self.frame_positions = nn.Parameter(torch.zeros(TABLE_FRAMES, len(norm.weight)))

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x + frame_rows(self.frame_positions, x.shape[1])[:, None])


class VitaClip(VideoStudent):
    """The frozen backbone with prompts in every vision layer, and `context` learned vectors before the class name.

    `global_prompts`: their number; `local_prompts` and `summary`: whether there are any (true or false). Raises
    `FrosterError` when a number is out of range.
    """

    name = "vita_clip"
    title = "Vita-CLIP"
    needs = (BLOCKS, CLASS_TOKEN, NORM_BEFORE_BLOCKS)
    trainable_params = r"^visual\.blocks\.\d+\.prompts\.|^visual\.ln_pre\.frame_positions$|^text\.context$"
    temporal_pooling = "features"
    templates = ()
    released_templates = ("{}.",)

    def __init__(
        self,
        backbone: Backbone,
        global_prompts: int = 8,
        local_prompts: bool = True,
        summary: bool = True,
        context: int = 8,
    ) -> None:
        require(self.title, backbone, (*self.needs, CAUSAL_TEXT) if context else self.needs)
        if not isinstance(global_prompts, int) or not 0 <= global_prompts <= MAX_GLOBAL_PROMPTS:
            raise FrosterError(f"vita_clip's global_prompts are 0 to {MAX_GLOBAL_PROMPTS}, not {global_prompts!r}.")
        longest = backbone.config.context_length - 3
        if not isinstance(context, int) or not 0 <= context <= longest:
            raise FrosterError(f"vita_clip's context is the number of text vectors, 0 to {longest}; not {context!r}.")
        local_prompts = parse_switch("local_prompts", local_prompts)
        summary = parse_switch("summary", summary)
        super().__init__(backbone)
        self.options = {
            "global_prompts": global_prompts,
            "local_prompts": local_prompts,
            "summary": summary,
            "context": context,
        }
        self.visual.ln_pre = FrameNorm(cast(nn.LayerNorm, self.visual.ln_pre))
        for number, block in enumerate(self.visual.blocks):
            assert isinstance(block, Block)
            prompts = LayerPrompts(backbone.config, global_prompts, local_prompts, summary)
            self.visual.blocks[number] = PromptedBlock(block, prompts)
        if context:
            self.text = PromptedText(cast(TextTransformer, backbone.text), before=context, after=0, std=0.02)

    @classmethod
    def from_released(cls, state: StateDict) -> StateDict:
        """The authors' names, where tables of frames have as many rows as clips in training had frames.

        Raises `WeightsError` where every training class has text vectors of its own.
        """
        if "visual.time_embed" not in state:
            return state
        context = state.get("prompt_learner.ctx")
        if context is not None and context.ndim == 3:
            raise WeightsError(
                f"This Vita-CLIP has text vectors of its own for each of its {len(context)} training classes: it "
                "cannot tell others. Use a checkpoint with vectors for all classes in common."
            )
        ours: StateDict = {}
        for key, value in state.items():
            if key == "visual.global_prompts":
                ours |= {f"visual.blocks.{layer}.prompts.global_prompts": rows for layer, rows in enumerate(value)}
            elif not key.startswith("prompt_learner.token_"):
                for pattern, replacement in RELEASED:
                    key = re.sub(pattern, replacement, key)
                ours[key] = of_frames(value) if key.endswith((".frame_positions", ".local_prompts")) else value
        fuse_projections(ours)
        return ours

    @classmethod
    def options_from(cls, state: StateDict) -> dict[str, Any]:
        if "visual.ln_pre.frame_positions" not in state:
            return {}
        layer = "visual.blocks.0.prompts"
        return {
            "global_prompts": len(state.get(f"{layer}.global_prompts", ())),
            "local_prompts": f"{layer}.local_prompts" in state,
            "summary": f"{layer}.summary.ln.weight" in state,
            "context": len(state.get("text.context", ())),
        }

    def layer_steps(self, recorded: Iterator[Tensor], numbers: Tensor) -> list[Step]:
        """Local prompts count as the class tokens they are made of, as do summary tokens; global ones do not."""
        frames, class_tokens = len(numbers), numbers[:, 0]
        summaries = numbers.numel() + torch.arange(frames, device=numbers.device)
        parts = [numbers, numbers.new_full((frames, self.options["global_prompts"]), PAD_TOKEN)]
        if self.options["local_prompts"]:
            parts.append(class_tokens.expand(frames, -1))
        if self.options["summary"]:
            parts.append(summaries[:, None])
        keys = torch.cat(parts, dim=1)
        steps = list[Step]()
        for _ in self.visual.blocks:
            if self.options["summary"]:
                steps.append(one_hot_merge(class_tokens, numbers.numel()))
                steps.append(AttentionStep(next(recorded), summaries[None], summaries[None]))
            steps.append(AttentionStep(next(recorded), numbers, keys))
        return steps


def of_frames(table: Tensor) -> Tensor:
    """A released table of frames, `(T, C)` or `(1, T, C)`, with as many rows as ours: the last one is repeated."""
    table = table.reshape(-1, table.shape[-1])
    if len(table) > TABLE_FRAMES:
        raise WeightsError(f"This Vita-CLIP is for clips of {len(table)} frames; froster's has up to {TABLE_FRAMES}.")
    return torch.cat([table, table[-1:].expand(TABLE_FRAMES - len(table), -1)])


def parse_switch(option: str, value: object) -> bool:
    """True or false, also as they are typed: `true`, `false`, 1, 0."""
    if value in (True, "true"):
        return True
    if value in (False, "false"):
        return False
    raise FrosterError(f"vita_clip's {option} is true or false, not {value!r}.")
