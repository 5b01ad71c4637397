"""Pretraining of a small CLIP on puppet photos: captions in the batch, and one prompt for every action name."""

import dataclasses
import json
import math
import time
from pathlib import Path
from typing import Annotated, Any, Self

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field, NonNegativeFloat, PositiveFloat, model_validator
from torch import Tensor, nn
from torch.utils.data import Dataset

from froster.backbones.blocks import Block
from froster.backbones.clip import Clip, ClipConfig
from froster.backbones.tokenizer import CONTEXT_LENGTH, VOCAB_SIZE, tokenize
from froster.checkpoints.own import save_checkpoint
from froster.data.puppets import ACTIONS, GAPS, caption, draw_photo, draw_video
from froster.device import has_bfloat16, pick_device
from froster.errors import FrosterError
from froster.files import replace_when_written
from froster.progress import ProgressBar
from froster.scoring import class_similarities
from froster.students.frame_clip import FrameClip
from froster.text.classes import ClassText
from froster.text.classifier import encode_classes
from froster.text.labels import check_labels
from froster.text.prompts import TEMPLATES, class_prompts
from froster.training.recipe import Recipe
from froster.training.state import StateFile
from froster.training.workers import iterate

# Test photos and videos use seeds above those of any run: a million runs of a million photos end below.
TEST_SEED = 2**40
SAVE_EVERY = 50


class PretrainRecipe(Recipe):
    """All settings of pretraining."""

    seed: int = Field(ge=0, lt=10**6)
    out: Path
    model: ClipConfig
    photos: int = Field(ge=1, le=10**6)
    batch_size: int = Field(ge=2)
    learning_rate: PositiveFloat
    warmup_steps: int = Field(ge=0)
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]]
    weight_decay: NonNegativeFloat
    contrast_weight: NonNegativeFloat

    @model_validator(mode="after")
    def check_sizes(self) -> Self:
        model = self.model
        if min(size for size in dataclasses.astuple(model) if isinstance(size, int)) < 1:
            raise ValueError("every size of the model must be at least 1")
        if model.image_size % model.patch_size:
            raise ValueError(f"image_size {model.image_size} is not a multiple of patch_size {model.patch_size}")
        if model.vision_width % model.vision_heads or model.text_width % model.text_heads:
            raise ValueError("a width of the model is not a multiple of its heads")
        if (model.context_length, model.vocab_size) != (CONTEXT_LENGTH, VOCAB_SIZE):
            raise ValueError("CLIP's tokenizer needs context_length 77 and vocab_size 49408")
        if self.photos < self.batch_size:
            raise ValueError(f"{self.photos} photos do not fill one batch of {self.batch_size}")
        return self

    @property
    def steps(self) -> int:
        return self.photos // self.batch_size


class PhotoBatches(Dataset[tuple[Tensor, Tensor, Tensor]]):
    """Batches by step: images `(B, 3, S, S)` uint8, caption tokens `(B, L)` int64, action indices `(B,)` int64."""

    def __init__(self, recipe: PretrainRecipe, start: int) -> None:
        self.recipe, self.start = recipe, start

    def __len__(self) -> int:
        return self.recipe.steps - self.start

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, Tensor]:
        recipe, step = self.recipe, self.start + index
        # Every run seed has its own range of photo seeds.
        first = (recipe.seed * recipe.steps + step) * recipe.batch_size
        seeds = range(first, first + recipe.batch_size)
        photos = [draw_photo(seed, size=recipe.model.image_size) for seed in seeds]
        words = np.random.default_rng((recipe.seed, step))
        tokens = cut(tokenize([caption(photo, words) for photo in photos]))
        pixels = torch.from_numpy(np.stack([photo.pixels for photo in photos])).permute(0, 3, 1, 2)
        return pixels, tokens, torch.tensor([photo.action for photo in photos])


def cut(tokens: Tensor) -> Tensor:
    """Tokens without common padding."""
    return tokens[:, : int(tokens.argmax(dim=1).max()) + 1]


def pretrain(recipe: PretrainRecipe, resume: bool = False) -> Path:
    """Train, test, and write `clip.safetensors` and `scores.json` into the recipe's `out`; returns the checkpoint.

    With `resume` an interrupted run continues from its last saved step, with the same batches as without interruption.
    Raises `FrosterError` when `out` holds a run and `resume` is not given, or holds a run of another recipe.
    """
    torch.manual_seed(recipe.seed)
    device = pick_device("auto")
    clip = Clip(recipe.model).to(device)
    initialize(clip)
    optimizer = torch.optim.AdamW(parameter_groups(clip, recipe.weight_decay), betas=recipe.betas)
    state_file = StateFile(recipe.out / "state.pt")
    own_recipe = recipe.model_dump_json(exclude={"out"})
    step, seconds = 0, 0.0
    seen = torch.zeros(recipe.model.vocab_size, dtype=torch.bool)
    seen[tokenize([prompt for name in ACTIONS for prompt in class_prompts(ClassText(name))]).unique()] = True
    if state_file.exists():
        if not resume:
            raise FrosterError(
                f"{recipe.out} holds a run already: resume it with `resume=True`, or choose another out=FOLDER."
            )
        saved = load_state(state_file, own_recipe)
        clip.load_state_dict(saved["clip"])
        optimizer.load_state_dict(saved["optimizer"])
        step, seconds, seen = saved["step"], saved["seconds"], saved["seen"]

    elif resume:
        raise FrosterError(f"There is nothing to resume in {recipe.out}; leave out `resume=True`.")

    photos = PhotoBatches(recipe, step)
    batches = iterate(photos, workers=1, batch_size=None, prefetch_factor=8) if len(photos) else ()
    started = time.perf_counter() - seconds
    with ProgressBar("Pretraining", recipe.steps, step, "steps") as bar:
        for pixels, tokens, actions in batches:
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(recipe, step)
            loss = training_loss(
                clip, clip.preprocess.normalize(pixels).to(device), tokens.to(device), actions.to(device), recipe, step
            )
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(clip.parameters(), 1.0)
            optimizer.step()
            with torch.no_grad():
                clip.logit_scale.clamp_(max=math.log(100))
            seen[tokens.unique()] = True
            step += 1
            seconds = time.perf_counter() - started
            if not math.isfinite(loss.item()):
                raise FrosterError(
                    f"The loss is {loss.item()} at step {step}; a lower learning_rate may help. "
                    f"The last good state is {state_file.path}."
                )
            bar.update(step, f"loss {loss.item():.3f}  {step * recipe.batch_size / seconds:.0f} photos/s")
            if step % SAVE_EVERY == 0 or step == recipe.steps:
                state = {"clip": clip.state_dict(), "optimizer": optimizer.state_dict(), "seen": seen}
                state_file.save({**state, "step": step, "seconds": seconds, "recipe": own_recipe})

    with torch.no_grad():  # embeddings of unseen tokens are still random; zero rows are not stored
        clip.text.token_embedding.weight[~seen.to(device)] = 0
    clip.eval()
    scores = {
        **zero_shot_scores(clip, device),
        "photos_seen": recipe.steps * recipe.batch_size,
        "minutes": round(seconds / 60, 1),
    }
    path = recipe.out / "clip.safetensors"
    save_checkpoint(clip, path, torch.float16, recipe=own_recipe, scores=json.dumps(scores))
    with replace_when_written(recipe.out / "scores.json") as temporary:
        temporary.write_text(json.dumps(scores, indent=2) + "\n", encoding="utf-8")
    return path


def load_state(file: StateFile, recipe: str) -> dict[str, Any]:
    saved = file.load()
    assert saved is not None  # the caller saw that it exists
    if saved["recipe"] != recipe:
        raise FrosterError(f"{file.path} belongs to a run of another recipe; choose another out=, or change nothing.")
    return saved


def training_loss(
    clip: Clip, pixels: Tensor, tokens: Tensor, actions: Tensor, recipe: PretrainRecipe, step: int
) -> Tensor:
    """Cross entropy over the action names plus the symmetric contrastive loss with the captions of the batch."""
    name_tokens = action_tokens(step).to(tokens.device)
    length = max(tokens.shape[1], name_tokens.shape[1])
    texts = torch.cat([F.pad(t, (0, length - t.shape[1])) for t in (name_tokens, tokens)])
    with torch.autocast(pixels.device.type, torch.bfloat16, enabled=has_bfloat16(pixels.device)):
        images = clip.encode_image(pixels)
        features = clip.encode_text(texts)
    images, features = F.normalize(images.float(), dim=-1), F.normalize(features.float(), dim=-1)
    names, captions = features.split([len(name_tokens), len(tokens)])
    scale = clip.logit_scale.exp()
    pairs = scale * images @ captions.T
    own = torch.arange(len(pairs), device=pairs.device)
    contrast = (F.cross_entropy(pairs, own) + F.cross_entropy(pairs.T, own)) / 2
    return F.cross_entropy(scale * images @ names.T, actions) + recipe.contrast_weight * contrast


def action_tokens(step: int) -> Tensor:
    """Tokens of every action name in the prompt of this step, in turn: `(K, L)` int64."""
    which = step % (len(TEMPLATES) + 1)
    return cut(tokenize([class_prompts(ClassText(name))[which] for name in ACTIONS]))


def learning_rate(recipe: PretrainRecipe, step: int) -> float:
    """Linear warm-up, then cosine to zero."""
    if step < recipe.warmup_steps:
        return recipe.learning_rate * (step + 1) / recipe.warmup_steps
    progress = (step - recipe.warmup_steps) / max(1, recipe.steps - recipe.warmup_steps)
    return recipe.learning_rate * 0.5 * (1 + math.cos(math.pi * progress))


def parameter_groups(clip: Clip, weight_decay: float) -> list[dict[str, object]]:
    """Matrices with weight decay; 1-D parameters, biases and the temperature without."""
    parameters = list(clip.parameters())
    return [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]


def initialize(clip: Clip) -> None:
    """CLIP's own initialization of its linear layers, scaled to width and depth."""
    for tower in (clip.visual, clip.text):
        for block in tower.blocks:
            assert isinstance(block, Block)
            width = block.ln_1.weight.numel()
            residual = width**-0.5 * (2 * len(tower.blocks)) ** -0.5
            nn.init.normal_(block.attn.in_proj.weight, std=width**-0.5)
            nn.init.normal_(block.attn.out_proj.weight, std=residual)
            widen, narrow = (layer for layer in block.mlp if isinstance(layer, nn.Linear))
            nn.init.normal_(widen.weight, std=(2 * width) ** -0.5)
            nn.init.normal_(narrow.weight, std=residual)
            for linear in (block.attn.in_proj, block.attn.out_proj, widen, narrow):
                nn.init.zeros_(linear.bias)


def zero_shot_scores(
    clip: Clip, device: torch.device, photos: int = 4500, videos_per_action: int = 20
) -> dict[str, object]:
    """Zero-shot top-1 in percent over all actions: unseen photos, and videos of each domain gap frame by frame."""
    labels = check_labels(ACTIONS)
    classes = encode_classes(FrameClip(clip), labels).to(device)
    size = clip.config.image_size
    drawn = [draw_photo(TEST_SEED + i, action=i % len(ACTIONS), size=size) for i in range(photos)]
    pixels = np.stack([photo.pixels for photo in drawn])[:, None]
    right = predict(clip, pixels, classes) == torch.tensor([photo.action for photo in drawn])
    scores: dict[str, object] = {"photos": percent(right)}
    truth = torch.arange(len(ACTIONS)).repeat(videos_per_action)
    for gap in GAPS:
        clips = np.stack(
            [draw_video(TEST_SEED + i, action, frames=8, size=size, gap=gap) for i, action in enumerate(truth.tolist())]
        )
        scores[f"videos_{gap}"] = percent(predict(clip, clips, classes) == truth)
    return scores


@torch.inference_mode()
def predict(clip: Clip, clips: np.ndarray, classes: Tensor) -> Tensor:
    """Best class of every clip: `(N, T, S, S, 3)` uint8 -> `(N,)` int64."""
    best = []
    for batch in torch.from_numpy(clips).split(256):
        frames = clip.preprocess.normalize(batch.flatten(0, 1).permute(0, 3, 1, 2)).unflatten(0, batch.shape[:2])
        best.append(class_similarities(clip.encode_video(frames.to(classes.device)), classes).argmax(dim=1).cpu())
    return torch.cat(best)


def percent(right: Tensor) -> float:
    return round(100 * right.float().mean().item(), 2)
