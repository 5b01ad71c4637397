"""TC-CLIP (Kim et al., "Leveraging Temporal Contextualization for Video Action Recognition", ECCV 2024).

In every vision layer each frame picks its seeds, the patch tokens that its class token attends to most. The seeds of
all frames are merged, the most alike first, into context tokens s for the whole clip, to which every frame attends in
the next layer in addition to its own tokens z_t:

    z_t' = z_t + Attention(queries LN(z_t), keys and values LN([z_t, s]))

with CLIP's own weights, and a trained bias for each head on the logits of s. The last layer's context also conditions
the text (video-conditional prompting). CLIP's last norm and projection take it into the joint space, y = project(s),
without gradient from the text. Before the last text layer the learned vectors p in "start p_1 … p_P class name end"
read it:

    p' = p + CrossAttention(queries LN(p), keys and values LN(y)),   p'' = p' + MLP(LN(p'))

Text is causal: in front of the class name, p is the same for every class, and only the end token's feature is needed.
So the last text layer runs for one query of each video and class, which attends to the class's own tokens as one term
of its softmax, and to the P vectors, whose keys and values are computed once a video.
"""

import re
from collections.abc import Iterator
from typing import Any, cast

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from froster.backbones.attention import Recorder, attention
from froster.backbones.base import Backbone, BackboneConfig
from froster.backbones.blocks import Attention, Block, run_block, run_blocks
from froster.backbones.clip import TextTransformer
from froster.backbones.tokenizer import Tokenizer
from froster.checkpoints.checkpoint import StateDict
from froster.device import without_autocast
from froster.errors import FrosterError
from froster.scoring import TemporalPooling, class_similarities
from froster.students.attention_graph import AttentionStep, MergeStep, Step
from froster.students.base import VideoFeatures, VideoStudent
from froster.students.needs import BLOCKS, CAUSAL_TEXT, CLASS_TOKEN_POOLING
from froster.students.parts import WrappedText, cross_attention

MAX_CONTEXT_TOKENS = 4096
MERGED_PER_ROUND = 100  # as in the authors' code
BIAS_CHANNELS = 8  # one carries the bias; attention kernels want a multiple of eight
FIRST_WORDS = "a photo of a"
READER = "prompt_generation_layer.0."  # of released checkpoints
RELEASED = (
    (r"^prompt_learner\.ctx$", "text.prompts"),
    (r"^prompt_generation_layer\.0\.attn\.out_proj\.", "prompt_reader.out_proj."),
    (r"^prompt_generation_layer\.0\.ln_1_kv\.", "prompt_reader.ln_context."),
    (r"^prompt_generation_layer\.0\.(ln_1|ln_2|mlp)\.", r"prompt_reader.\1."),
)


# ---------------------------------------------------------------------------------------------------------------------
# Vision: temporal contextualization.


def merge_tokens(tokens: Tensor, count: int) -> Tensor:
    """Merge the tokens that are most alike until `count` are left: `(B, S, C)` -> `(B, min(S, count), C)` means.

    Rounds of bipartite matching (ToMe, Bolya et al., ICLR 2023): every token at an even place chooses the one at an odd
    place with the largest cosine; of these pairs the most alike become one token, the mean of all that it was made of.
    """
    sums, sizes = merge_rows((tokens, torch.ones_like(tokens[..., :1])), count)
    return sums / sizes


def merge_shares(tokens: Tensor, count: int) -> Tensor:
    """How much of every token is in each of those that `merge_tokens` makes: `(B, S, C)` -> `(B, min(S, count), S)`."""
    itself = torch.eye(tokens.shape[1], device=tokens.device).expand(len(tokens), -1, -1)
    _, members = merge_rows((tokens, itself), count)
    return members / members.sum(dim=-1, keepdim=True)


def merge_rows(rows: tuple[Tensor, ...], count: int) -> tuple[Tensor, ...]:
    """Sums of the rows that are merged, in each of several `(B, S, …)`; the first are the tokens, which decide."""
    while (left := rows[0].shape[1]) > count:
        pairs = min(MERGED_PER_ROUND, left - count, left // 2)
        with torch.no_grad():
            unit = F.normalize(rows[0], dim=-1)
            likeness, partner = (unit[:, ::2] @ unit[:, 1::2].mT).max(dim=-1)
            order = likeness.argsort(dim=-1, descending=True, stable=True)
            joined = partner.gather(1, order[:, :pairs])
            joins = (torch.arange(left // 2, device=unit.device)[:, None] == joined[:, None]).to(unit.dtype)
        rows = tuple(merge_pairs(x, order, joins) for x in rows)
    return rows


def merge_pairs(x: Tensor, order: Tensor, joins: Tensor) -> Tensor:
    """Add the first `pairs` even rows in `order` to odd rows: `(B, N, C)`, `(B, ⌈N/2⌉)`, `(B, ⌊N/2⌋, pairs)`."""
    even, odd = x[:, ::2].take_along_dim(order[..., None], dim=1), x[:, 1::2]
    pairs = joins.shape[-1]
    # A product with zeros and ones, whose sums always come in the same order; atomic additions do not.
    return torch.cat([even[:, pairs:], odd + joins @ even[:, :pairs]], dim=1)


class ContextAttention(Recorder):
    """Attention of `(B, T, N, C)` within each frame and to the clip's context `(B, M, C)`.

    With the backbone's own weights; `context_bias`, one number a head, is added to the logits of the context.
    """

    def __init__(self, attention: Attention, context: bool) -> None:
        super().__init__()
        self.heads, self.in_proj, self.out_proj = attention.heads, attention.in_proj, attention.out_proj
        self.context_bias = nn.Parameter(torch.zeros(self.heads)) if context else None

    def forward(self, x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        """What the tokens gather, `(B, T, N, C)`, and how much each class token attends to its patches, `(B, T, N-1)`.

        The latter is the mean over the heads, float32, without gradient.
        """
        frames, tokens, width = x.shape[1:]
        q, k, v = self.in_proj(x).chunk(3, dim=-1)
        if context is not None:
            of_context = F.linear(context, self.in_proj.weight[width:], self.in_proj.bias[width:])
            of_context = of_context[:, None].expand(-1, frames, -1, -1)
            k, v = (torch.cat(both, dim=2) for both in zip((k, v), of_context.chunk(2, dim=-1), strict=True))
        q, k, v = (rearrange(t, "b t n (h c) -> (b t) h n c", h=self.heads) for t in (q, k, v))
        if self.context_bias is not None:
            q, k, v = self.with_bias(q, k, v)
        with torch.no_grad():
            of_class = ((q[:, :, :1] @ k.mT).float() * q.shape[-1] ** -0.5).softmax(dim=-1)[:, :, 0, 1:tokens]
        out = attention(q, k, v, recorder=self.recorder)[..., : width // self.heads]
        out = rearrange(out, "(b t) h n c -> b t n (h c)", t=frames)
        return self.out_proj(out), of_class.mean(dim=1).unflatten(0, (-1, frames))

    def with_bias(self, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The same with further channels: 1 in the queries and the bias in the context's keys, nothing in the values.

        The fast attention kernels take no bias that is trained.
        """
        assert self.context_bias is not None
        channels, tokens = q.shape[-1], q.shape[2]
        wide = channels + BIAS_CHANNELS
        bias = (wide**0.5 * self.context_bias.to(k.dtype))[:, None, None].expand(-1, k.shape[2] - tokens, 1)
        bias = F.pad(bias, (0, BIAS_CHANNELS - 1, tokens, 0))
        one = F.pad(q.new_ones(1), (0, BIAS_CHANNELS - 1))
        q = torch.cat([q * (wide / channels) ** 0.5, one.expand(*q.shape[:3], -1)], dim=-1)
        return q, torch.cat([k, bias.expand(len(k), -1, -1, -1)], dim=-1), F.pad(v, (0, BIAS_CHANNELS))


class ContextBlock(Recorder):
    """The backbone's block on the tokens of a clip, and the context tokens that it makes of them for the next."""

    def __init__(self, block: Block, first: bool, context_tokens: int, seed_percent: int) -> None:
        super().__init__()
        self.ln_1, self.ln_2, self.mlp = block.ln_1, block.ln_2, block.mlp
        self.attn = ContextAttention(block.attn, context=not first)
        self.context_tokens, self.seed_percent = context_tokens, seed_percent

    def forward(self, x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        """`(B, T, N, C)` and `(B, M, C)`, None before the first layer -> the same behind this layer."""
        gathered, attended = self.attn(self.ln_1(x), None if context is None else self.ln_1(context))
        x = x + gathered
        context = self.summarize(x, attended)
        return x + self.mlp(self.ln_2(x)), context + self.mlp(self.ln_2(context))

    def summarize(self, x: Tensor, attended: Tensor) -> Tensor:
        """Context of the tokens `(B, T, N, C)`, the patches among which are `attended` `(B, T, N-1)`: `(B, M, C)`.

        M is `context_tokens`, or T times the seeds of a frame where these are fewer.
        """
        seeds = max(1, attended.shape[-1] * self.seed_percent // 100)
        most = attended.topk(seeds, dim=-1).indices[..., None]
        tokens = x[:, :, 1:].take_along_dim(most, dim=2).flatten(1, 2)
        # Half precision has no exact counts; and sums of many tokens would lose the later ones.
        with without_autocast(x.device):
            if self.recorder is not None:
                self.recorder.append(self.origins(tokens.detach().float(), most[..., 0], x.shape[2]))
            return merge_tokens(tokens.float(), self.context_tokens).to(x.dtype)

    def origins(self, seeds: Tensor, most: Tensor, tokens: int) -> Tensor:
        """How much of every token of the clip is in each context token, merged from the seeds: `(B, M, T N)`."""
        shares = merge_shares(seeds, self.context_tokens)
        first = tokens * torch.arange(most.shape[1], device=most.device)[:, None] + 1  # behind the class token
        places = (first + most).flatten(1)[:, None].expand_as(shares)
        return shares.new_zeros(*shares.shape[:2], most.shape[1] * tokens).scatter(2, places, shares)


# ---------------------------------------------------------------------------------------------------------------------
# Text: video-conditional prompting.


class ConditionalText(WrappedText):
    """A causal text encoder with P learned vectors before the class's words, its last layer apart from the others.

    A text that is too long for its positions together with the vectors is truncated, the end token kept last.
    """

    def __init__(self, text: TextTransformer, tokenizer: Tokenizer, prompts: int) -> None:
        super().__init__(text, vectors=prompts)
        tokens = tokenizer(FIRST_WORDS)
        words = tokens[0, 1 : tokenizer.lengths(tokens)[0] - 1][:prompts]
        table = text.token_embedding.weight.detach()
        if len(table) != tokenizer.vocab_size:  # the words have no vectors there
            words = words[:0]
        rest = 0.02 * torch.randn(prompts - len(words), table.shape[1])
        self.prompts = nn.Parameter(torch.cat([table[words], rest]))

    def forward(self, tokens: Tensor) -> Tensor:
        """Embedding at the end-of-text token without a video: `(K, L)` int64 -> `(K, D)`, not normalized."""
        return self.finish(self.encode_rows(tokens), self.unread_prompts()[None])[0]

    def unread_prompts(self) -> Tensor:
        """The vectors before the last layer, the same for every class and video: `(P, C)`."""
        start = self.token_embedding.weight[-2:-1]  # CLIP's last two tokens are start and end
        x = torch.cat([start, self.prompts]) + self.positional_embedding[: 1 + len(self.prompts)]
        return run_blocks(self.blocks[:-1], x[None], self.checkpointing)[0, 1:]

    def encode_rows(self, tokens: Tensor) -> Tensor:
        """All that the last layer needs of each text: `(K, L)` int64 -> `(K, 2 C + heads)` float32.

        Of the end token: itself, what it gathers from the text's own tokens, and how much weight these have in its
        softmax, the logarithm of the sum over their exponentials.
        """
        prompts, block = len(self.prompts), self.last_block
        tokens = self.truncate(tokens)
        end = tokens.argmax(dim=1) + prompts
        words = self.token_embedding(tokens)
        x = torch.cat([words[:, :1], self.prompts.expand(len(words), -1, -1), words[:, 1:]], dim=1)
        x = run_blocks(self.blocks[:-1], x + self.positional_embedding[: x.shape[1]], self.checkpointing)

        place = torch.arange(x.shape[1], device=x.device)
        own = (place <= end[:, None]) & ((place == 0) | (place > prompts))
        q, k, v = (self.split_heads(t) for t in block.attn.in_proj(block.ln_1(x)).chunk(3, dim=-1))
        rows = torch.arange(len(x), device=x.device)
        logits = torch.einsum("khc,klhc->khl", q[rows, end], k).float() * q.shape[-1] ** -0.5
        logits = logits.masked_fill(~own[:, None], float("-inf"))
        gathered = torch.einsum("khl,klhc->khc", logits.softmax(dim=-1).to(v.dtype), v)
        return torch.cat([x[rows, end].float(), gathered.flatten(1).float(), logits.logsumexp(dim=-1)], dim=1)

    def finish(self, rows: Tensor, prompts: Tensor) -> Tensor:
        """The last layer, for the end token alone: `(K, 2 C + heads)`, vectors `(B, P, C)` -> `(B, K, D)`."""
        block, dtype = self.last_block, self.text_projection.dtype
        end, gathered, weight = rows.split([len(self.ln_final.weight)] * 2 + [block.attn.heads], dim=-1)
        end = end.to(dtype)
        in_proj = block.attn.in_proj
        width = end.shape[-1]
        q = self.split_heads(F.linear(block.ln_1(end), in_proj.weight[:width], in_proj.bias[:width]))
        of_prompts = F.linear(block.ln_1(prompts), in_proj.weight[width:], in_proj.bias[width:])
        k, v = (self.split_heads(t) for t in of_prompts.chunk(2, dim=-1))
        logits = torch.einsum("khc,bphc->bkhp", q, k).float() * q.shape[-1] ** -0.5
        # One softmax over the text's own tokens, which count as one with their common weight, and the vectors.
        weights = torch.cat([weight[..., None].expand(len(k), -1, -1, -1), logits], dim=-1).softmax(dim=-1)
        of_text = weights[..., :1] * self.split_heads(gathered)
        x = of_text + torch.einsum("bkhp,bphc->bkhc", weights[..., 1:].to(v.dtype), v)
        x = end + block.attn.out_proj(x.flatten(-2).to(dtype))
        return self.ln_final(x + block.mlp(block.ln_2(x))) @ self.text_projection

    def split_heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.last_block.attn.heads, -1))

    @property
    def last_block(self) -> Block:
        block = self.blocks[-1]
        assert isinstance(block, Block)
        return block


class PromptReader(nn.Module):
    """Transformer block in which vectors of the text attend to the context of a video; the identity at the start."""

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        width, self.heads = config.text_width, config.text_heads
        self.ln_1, self.ln_context, self.ln_2 = (nn.LayerNorm(n) for n in (width, config.embed_dim, width))
        self.q_proj, self.kv_proj = nn.Linear(width, width), nn.Linear(config.embed_dim, 2 * width)
        self.out_proj = nn.Linear(width, width)
        self.mlp = Block(width, config.text_heads, config.activation).mlp
        for name, parameter in self.named_parameters():
            if name.endswith("bias") or name.startswith(("out_proj", "mlp.2")):
                nn.init.zeros_(parameter)
            elif parameter.ndim == 2:
                nn.init.trunc_normal_(parameter, std=0.02)

    def forward(self, prompts: Tensor, context: Tensor) -> Tensor:
        """Vectors `(P, C)` as each of the videos changes them, whose context is `(B, M, D)`: `(B, P, C)`."""
        q = self.q_proj(self.ln_1(prompts)).expand(len(context), -1, -1)
        k, v = self.kv_proj(self.ln_context(context)).chunk(2, dim=-1)
        x = prompts + self.out_proj(cross_attention(q, k, v, self.heads))
        return x + self.mlp(self.ln_2(x))


class TcClip(VideoStudent):
    """The backbone with `context_tokens` for the whole clip in every vision layer, and `prompts` vectors in its text.

    `seed_percent`: the share of its patches that a frame offers for the context. Where all frames together offer fewer
    than `context_tokens`, these are the context. The vectors start as the words "a photo of a", further ones at random.
    Without context tokens it is the backbone frame by frame, without vectors its text is the backbone's. Raises
    `FrosterError` when a number is out of range.
    """

    name = "tc_clip"
    title = "TC-CLIP"
    needs = (BLOCKS, CLASS_TOKEN_POOLING, CAUSAL_TEXT)
    temporal_pooling = "features"
    templates = ()
    released_templates = ("{}.",)
    normalize_class_embeddings = False
    text: ConditionalText

    def __init__(self, backbone: Backbone, context_tokens: int = 96, seed_percent: int = 30, prompts: int = 4) -> None:
        for option, value, least, most in (
            ("context_tokens", context_tokens, 0, MAX_CONTEXT_TOKENS),
            ("seed_percent", seed_percent, 1, 100),
            ("prompts", prompts, 0, backbone.config.context_length - 3),
        ):
            if not isinstance(value, int) or not least <= value <= most:
                raise FrosterError(f"tc_clip's {option} is a whole number, {least} to {most}; not {value!r}.")
        super().__init__(backbone)
        self.options = {"context_tokens": context_tokens, "seed_percent": seed_percent, "prompts": prompts}
        if context_tokens:
            for layer, block in enumerate(self.visual.blocks):
                self.visual.blocks[layer] = ContextBlock(cast(Block, block), layer == 0, context_tokens, seed_percent)
        self.text = ConditionalText(cast(TextTransformer, backbone.text), backbone.tokenizer, prompts)
        self.prompt_reader = PromptReader(backbone.config) if context_tokens and prompts else None

    @classmethod
    def from_released(cls, state: StateDict) -> StateDict:
        """The authors' names, without the embedded names of the training classes.

        Theirs has a bias for the context and one for a frame's own tokens: only the difference counts.
        """
        if f"{READER}ln_1.weight" not in state:
            return state
        ours: StateDict = {}
        for key, value in state.items():
            if key.startswith("prompt_learner.token_"):
                continue
            if key.endswith(".attn.local_global_bias_table"):
                own, context = value[:, 0].unbind(dim=-1)
                ours[key.replace("local_global_bias_table", "context_bias")] = context - own
            elif key.startswith(f"{READER}attn.in_proj."):
                kind, width = key.rpartition(".")[2], len(value) // 3
                ours[f"prompt_reader.q_proj.{kind}"] = value[:width]
                ours[f"prompt_reader.kv_proj.{kind}"] = value[width:]
            else:
                for pattern, replacement in RELEASED:
                    key = re.sub(pattern, replacement, key)
                ours[key] = value
        return ours

    @classmethod
    def options_from(cls, state: StateDict) -> dict[str, Any]:
        return {"prompts": len(state["text.prompts"])} if "text.prompts" in state else {}

    def forward_features(self, frames: Tensor) -> VideoFeatures:
        if not self.options["context_tokens"]:
            return VideoFeatures(self.visual(frames))
        tokens, context = self.encode_tokens(frames)
        # As class tokens, one of each row, go into the joint space; the authors stop the text's gradient here.
        seen = self.visual.pool(context[:, :, None]).detach() if self.prompt_reader else None
        return VideoFeatures(self.visual.pool(tokens), seen)

    def encode_tokens(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens and context after the last layer: `(B, T, 3, H, W)` -> `(B, T, N, C)`, `(B, M, C)`."""
        x, context = self.visual.embed(frames), None
        for block in self.visual.blocks:
            x, context = run_block(block, x, context, checkpointing=self.visual.checkpointing)
        assert context is not None
        return x, context

    def layer_steps(self, recorded: Iterator[Tensor], numbers: Tensor) -> list[Step]:
        if not self.options["context_tokens"]:
            return super().layer_steps(recorded, numbers)
        first, keys, steps = numbers.numel(), numbers, list[Step]()
        for _ in self.visual.blocks:
            weights, (origins,) = next(recorded), next(recorded)
            steps += [AttentionStep(weights, numbers, keys), MergeStep(origins)]
            context = first + torch.arange(len(origins), device=numbers.device)
            keys = torch.cat([numbers, context.expand(len(numbers), -1)], dim=1)
        return steps

    def encode_prompts(self, tokens: Tensor) -> Tensor:
        return self.text.encode_rows(tokens)

    def unconditional_class_embeddings(self, class_embeddings: Tensor) -> Tensor:
        return self.text.finish(class_embeddings, self.text.unread_prompts()[None])[0]

    def similarities(
        self, features: VideoFeatures, class_embeddings: Tensor, temporal_pooling: TemporalPooling | None = None
    ) -> Tensor:
        prompts = self.text.unread_prompts()[None]
        if self.prompt_reader and features.context is not None:
            prompts = self.prompt_reader(prompts[0], features.context)
        finished = run_block(self.text.finish, class_embeddings, prompts, checkpointing=self.text.checkpointing).float()
        classes = F.normalize(finished, dim=-1).expand(len(features.frame_embeddings), -1, -1)
        return class_similarities(features.frame_embeddings, classes, temporal_pooling or self.temporal_pooling)
