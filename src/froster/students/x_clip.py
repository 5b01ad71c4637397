"""X-CLIP (Ni et al., ECCV 2022): frames exchange messages, and the texts adapt to the video they are compared with.

Every vision layer makes a message of each frame's class token z_t; the messages of a clip attend to one another; then
the tokens Z_t of frame t attend to its own message besides themselves:

    m_t = W z_t        [m'_1 … m'_T] = M + attention(LN(M)), M = [m_1 … m_T]        Z_t + attention(LN([Z_t, m'_t]))

A multi-frame integration transformer (MIT) goes over the frame features F = [f_1 … f_T], and the video's feature is the
mean of what it gives, F + transformer(F + positions). Video-specific prompts take the place of handwritten templates: a
class c is compared as c + alpha * prompts(c), in which c attends to the video's patch tokens, averaged over the frames.
"""

import re
from collections.abc import Iterator
from typing import Any, Literal, cast, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from froster.backbones.base import Backbone
from froster.backbones.blocks import Activation, Attention, Block, Grid, QuickGELU, run_block
from froster.checkpoints.checkpoint import StateDict
from froster.checkpoints.names import fuse_projections
from froster.errors import FrosterError
from froster.scoring import TemporalPooling, class_similarities
from froster.students.attention_graph import PAD_TOKEN, AttentionStep, Step, one_hot_merge
from froster.students.base import VideoFeatures, VideoStudent
from froster.students.needs import BLOCKS, CLASS_TOKEN
from froster.students.parts import WrappedBlock, cross_attention

Head = Literal["full", "none"]
MAX_FRAMES = 1024
PROMPT_LAYERS = 2


class Messages(nn.Module):
    """What the frames of a clip tell one another: their class tokens `(B, T, C)` -> a message each, `(B, T, C)`."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.fc = nn.Linear(width, width)
        self.ln = nn.LayerNorm(width)
        self.attn = Attention(width, heads)
        nn.init.xavier_uniform_(self.attn.in_proj.weight)
        nn.init.zeros_(self.attn.in_proj.bias)
        nn.init.zeros_(self.attn.out_proj.bias)

    def forward(self, class_tokens: Tensor) -> Tensor:
        messages = self.fc(class_tokens)
        return messages + self.attn(self.ln(messages))


class MessageBlock(WrappedBlock):
    """A block of the backbone on `(B, T, N, C)` in which the tokens of a frame also attend to the frame's message."""

    def __init__(self, block: Block) -> None:
        super().__init__(block)
        self.message = Messages(block.attn.out_proj.out_features, block.attn.heads)

    def forward(self, x: Tensor, grid: Grid | None = None) -> Tensor:
        messages = self.message(x[:, :, 0])
        tokens = torch.cat([x, messages[:, :, None].to(x.dtype)], dim=2)
        x = x + self.attn(self.ln_1(tokens), grid)[:, :, :-1]
        return x + self.mlp(self.ln_2(x))


class FrameIntegration(nn.Module):
    """Multi-frame integration transformer: `(B, T, D)` -> `(B, T, D)`.

    `positions` has a row for each of `frames` frames that cover the clip evenly; other numbers of frames take their
    positions from the same stretch of time, linearly between the rows.
    """

    def __init__(self, frames: int, width: int, heads: int, activation: Activation) -> None:
        super().__init__()
        self.positions = nn.Parameter(nn.init.trunc_normal_(torch.empty(frames, width), std=0.02))
        self.block = Block(width, heads, activation)
        self.block.apply(start_small)

    def forward(self, features: Tensor) -> Tensor:
        return features + self.block(features + self.positions_of(features.shape[1]))

    def positions_of(self, frames: int) -> Tensor:
        """The positions of `T` frames: `(T, D)`."""
        if frames == len(self.positions):
            return self.positions
        rows = F.interpolate(self.positions.float().T[None], size=frames, mode="linear", align_corners=False)
        return rows[0].T.to(self.positions.dtype)


class CrossAttention(nn.Module):
    """Attention of texts `(B, K, D)` to patches `(B, M, D)`: `(B, K, D)`.

    Texts `(1, K, D)` are the same for every video.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj = nn.Linear(width, width, bias=False)
        self.k_proj = nn.Linear(width, width, bias=False)
        self.v_proj = nn.Linear(width, width, bias=False)
        self.out_proj = nn.Linear(width, width)

    def forward(self, texts: Tensor, patches: Tensor) -> Tensor:
        q = self.q_proj(texts).expand(len(patches), -1, -1)
        return self.out_proj(cross_attention(q, self.k_proj(patches), self.v_proj(patches), self.heads))


class PromptLayer(nn.Module):
    """Pre-norm decoder layer: texts attend to patches, but not to one another; shapes as in `CrossAttention`."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(width)
        self.cross_attn = CrossAttention(width, heads)
        self.ln_2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), QuickGELU(), nn.Linear(4 * width, width))

    def forward(self, texts: Tensor, patches: Tensor) -> Tensor:
        texts = texts + self.cross_attn(self.ln_1(texts), patches)
        return texts + self.mlp(self.ln_2(texts))


class VideoPrompts(nn.Module):
    """What a video adds to the class features: `(K, D)` and its patches `(B, M, D)` -> `(B, K, D)`."""

    def __init__(self, vision_width: int, width: int, heads: int) -> None:
        super().__init__()
        self.ln_tokens = nn.LayerNorm(vision_width)
        self.proj = nn.Parameter(torch.randn(vision_width, width))
        self.ln_patches = nn.LayerNorm(width)
        self.layers = nn.ModuleList(PromptLayer(width, heads) for _ in range(PROMPT_LAYERS))
        self.alpha = nn.Parameter(torch.full((width,), 0.1))
        self.layers.apply(start_small)

    def forward(self, classes: Tensor, patches: Tensor, checkpointing: bool = False) -> Tensor:
        texts, patches = classes[None].to(self.alpha.dtype), self.ln_patches(patches)
        for layer in self.layers:
            texts = run_block(layer, texts, patches, checkpointing=checkpointing)
        return self.alpha * texts

    def patches(self, tokens: Tensor) -> Tensor:
        """Patch tokens in the joint space, averaged over the frames: `(B, T, M, C)` -> `(B, M, D)`."""
        return self.ln_tokens(tokens).mean(dim=1) @ self.proj


def start_small(module: nn.Module) -> None:
    """The authors' start of MIT and prompts: their transformers change little."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


class XClip(VideoStudent):
    """The backbone with messages between frames, the frame integration transformer, and prompts made for each video.

    `frames`: rows of the table of frame positions; other numbers of frames are interpolated. `head="none"` leaves
    integration and prompts out: the messages alone, trained and scored as FROSTER does with its X-CLIP. `heads`: of
    integration and prompts, by default one for 64 channels as in the authors' code; `transformers` takes 8, also for
    ViT-L/14. Raises `FrosterError` when an option is out of range.
    """

    name = "x_clip"
    title = "X-CLIP"
    needs = (BLOCKS, CLASS_TOKEN)
    trainable_params = r"^(visual|mit|prompts)\."
    temporal_pooling: TemporalPooling = "features"
    templates: tuple[str, ...] = ()
    normalize_class_embeddings = False

    def __init__(self, backbone: Backbone, frames: int = 8, head: Head = "full", heads: int | None = None) -> None:
        width = backbone.config.embed_dim
        if not isinstance(frames, int) or not 1 <= frames <= MAX_FRAMES:
            raise FrosterError(
                f"x_clip's frames are the rows of its table of positions, 1 to {MAX_FRAMES}; not {frames!r}."
            )
        if head not in get_args(Head):
            raise FrosterError(f"x_clip's head is 'full' or 'none', not {head!r}.")
        head_count = max(1, width // 64) if heads is None else heads
        if not isinstance(head_count, int) or head_count < 1 or width % head_count:
            raise FrosterError(
                f"x_clip's heads must divide the {width} channels of the joint space; not {head_count!r}."
            )
        super().__init__(backbone)
        self.options = {"frames": frames, "head": head, "heads": heads}
        self.visual.blocks = nn.ModuleList(MessageBlock(cast(Block, block)) for block in self.visual.blocks)
        self.mit: FrameIntegration | None = None
        self.prompts: VideoPrompts | None = None
        if head == "full":
            self.mit = FrameIntegration(frames, width, head_count, backbone.config.activation)
            self.prompts = VideoPrompts(backbone.config.vision_width, width, head_count)
        else:  # one of FROSTER's students like any other
            self.trainable_params, self.temporal_pooling = VideoStudent.trainable_params, VideoStudent.temporal_pooling
            self.templates, self.normalize_class_embeddings = (
                VideoStudent.templates,
                VideoStudent.normalize_class_embeddings,
            )

    def forward_features(self, frames: Tensor) -> VideoFeatures:
        tokens = self.visual.encode_tokens(frames)
        features = self.visual.pool(tokens)
        if self.mit is None or self.prompts is None:
            return VideoFeatures(features)
        return VideoFeatures(self.mit(features), self.prompts.patches(tokens[:, :, self.visual.prefix_tokens :]))

    def similarities(
        self, features: VideoFeatures, class_embeddings: Tensor, temporal_pooling: TemporalPooling | None = None
    ) -> Tensor:
        classes = class_embeddings
        if self.prompts is not None:
            prompted = classes + self.prompts(classes, features.context, self.visual.checkpointing)
            classes = F.normalize(prompted.float(), dim=-1)
        return class_similarities(features.frame_embeddings, classes, temporal_pooling or self.temporal_pooling)

    def layer_steps(self, recorded: Iterator[Tensor], numbers: Tensor) -> list[Step]:
        class_tokens = numbers[:, 0]
        messages = numbers.numel() + torch.arange(len(numbers), device=numbers.device)
        keys = torch.cat([numbers, messages[:, None]], dim=1)
        queries = F.pad(numbers, (0, 1), value=PAD_TOKEN)  # what a message gathers within its frame is dropped
        steps: list[Step] = []
        for _ in self.visual.blocks:
            steps.append(one_hot_merge(class_tokens, numbers.numel()))
            steps.append(AttentionStep(next(recorded), messages[None], messages[None]))
            steps.append(AttentionStep(next(recorded), queries, keys))
        return steps

    @classmethod
    def from_released(cls, state: StateDict) -> StateDict:
        """From the authors' names, from those of `transformers`, and from FROSTER's."""
        renamed: StateDict = {}
        for key, value in state.items():
            for pattern, replacement in RELEASED_NAMES:
                key = re.sub(pattern, replacement, key)
            renamed[key] = value.reshape(-1, value.shape[-1]) if key == "mit.positions" else value
        fuse_projections(renamed)
        return renamed

    @classmethod
    def options_from(cls, state: StateDict) -> dict[str, Any]:
        if "mit.positions" in state:
            return {"frames": len(state["mit.positions"])}
        return {"head": "none"} if "visual.blocks.0.message.fc.weight" in state else {}


RELEASED_NAMES = (
    (r"^vision_model\.pre_layernorm\.", "visual.ln_pre."),
    (r"\.message_(fc|ln|attn)\.", r".message.\1."),
    (r"\.message\.attn\.in_proj_", ".message.attn.in_proj."),
    (r"^mit\.position(al)?_embedding$", "mit.positions"),
    (r"^mit\.(resblocks|encoder\.layers)\.0\.", "mit.block."),
    (r"^prompts_visual_(ln|layernorm)\.", "prompts.ln_tokens."),
    (r"^prompts_visual_proj(ection)?$", "prompts.proj"),
    (r"^prompts_generator\.(norm|layernorm)\.", "prompts.ln_patches."),
    (r"^prompts_generator\.alpha$", "prompts.alpha"),
    (r"^prompts_generator\.decoder\.", "prompts.layers."),
    (r"^(prompts\.layers\.\d+)\.norm1\.", r"\1.ln_1."),
    (r"^(prompts\.layers\.\d+)\.norm3\.", r"\1.ln_2."),
    (r"^(prompts\.layers\.\d+\.cross_attn)\.proj\.", r"\1.out_proj."),
    (r"^(prompts\.layers\.\d+\.mlp)\.3\.", r"\1.2."),
)
