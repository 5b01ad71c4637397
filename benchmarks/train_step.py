"""How fast a training step is, against a plain implementation of the same step in the same run.

    python benchmarks/train_step.py          # ten minutes on two cores
    python benchmarks/train_step.py cuda     # a batch of 32 and 400 classes, for a large GPU

FROSTER with a vclip student at ViT-B/16 with random weights and 8 frames at 224 pixels: student, teacher, class texts,
losses, backward pass, gradient clipping and AdamW as in `froster train`, with the clips in memory and the teacher's
texts known from an earlier step. The plain step is the same mathematics as one would write it down: attention by its
formula, 77 positions of every prompt, the teacher's texts in each step, float32 (on a GPU bfloat16 by autocast). All
work on the same parameters, in turns; medians are printed. First it is checked that the two agree in float32.
"""

import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from froster.backbones.clip import Clip, ClipConfig
from froster.data.vocabularies import read_vocabulary
from froster.losses.batch import ClipBatch
from froster.losses.froster import Distillation
from froster.students import VideoStudent, build_student
from froster.text.classes import ClassTexts
from froster.text.prompts import TEMPLATES
from froster.training.objective import Objective, accumulate_gradients
from froster.training.texts import CachedClassEmbeddings, ClassPrompts
from froster.video.transforms import Preprocessing

VIT_B_16 = ClipConfig(224, 16, 768, 12, 12, 512, 12, 8, 512)
TINY = ClipConfig(32, 16, 128, 2, 2, 64, 2, 1, 32)
FRAMES = 8
ROUNDS = 7
CLIPS = {"cpu": 2, "cuda": 32}
VOCABULARY = {"cpu": "hmdb-51", "cuda": "kinetics-400"}
TEMPLATE = 5  # "a photo of a person performing {}.", of median length
MATRIX = {"cpu": 2048, "cuda": 8192}


@dataclass(frozen=True)
class Variant:
    autocast: torch.dtype | None = None
    checkpointing: bool = False


PLAIN, BFLOAT16 = "plain", "froster, bfloat16"
OURS = {
    "froster, float32": Variant(),
    BFLOAT16: Variant(torch.bfloat16),
    "froster, bfloat16, checkpointing": Variant(torch.bfloat16, checkpointing=True),
}
BACKWARD, UPDATE = "losses and backward", "gradient clipping and optimizer"
PARTS = ("text, forward", "student's video, forward", "teacher's video, forward", BACKWARD, UPDATE)


class Setting:
    """What all variants share: the parameters that are trained, teacher, class texts and batch."""

    def __init__(self, config: ClipConfig, device: str, clips: int, labels: tuple[str, ...]) -> None:
        torch.manual_seed(0)
        self.config, self.device = config, device
        self.student = build_student("vclip", Clip(config)).to(device)
        self.distillation = Distillation(config.embed_dim, zero_init=False).to(device)
        self.parameters = [*self.student.parameters(), *self.distillation.parameters()]
        self.texts = ClassPrompts(ClassTexts.of_names(labels), TEMPLATES)
        self.frames = torch.randint(0, 256, (clips, FRAMES, 3, config.image_size, config.image_size), dtype=torch.uint8)
        self.targets = torch.randint(0, len(labels), (clips,))
        self.teacher = cache(self.build_teacher)

    def build_teacher(self, dtype: torch.dtype) -> VideoStudent:
        torch.manual_seed(1)
        return build_student("frame_clip", Clip(self.config)).requires_grad_(False).to(self.device, dtype)

    def optimizer(self, **options: Any) -> torch.optim.Optimizer:
        groups = [
            {"params": [p for p in self.parameters if p.ndim > 1], "weight_decay": 0.01},
            {"params": [p for p in self.parameters if p.ndim <= 1], "weight_decay": 0.0},
        ]
        return torch.optim.AdamW(groups, lr=3.33e-6, **options)


class Step:
    """One training step: gradients, then the update of the parameters."""

    def __init__(self, setting: Setting, optimizer: torch.optim.Optimizer) -> None:
        self.setting, self.optimizer = setting, optimizer

    def __call__(self) -> None:
        self.gradients()
        self.update()

    def gradients(self) -> dict[str, Tensor]:
        raise NotImplementedError

    def update(self) -> None:
        nn.utils.clip_grad_norm_(self.setting.parameters, 1.0)
        self.optimizer.step()


class OurStep(Step):
    def __init__(self, setting: Setting, optimizer: torch.optim.Optimizer, variant: Variant) -> None:
        super().__init__(setting, optimizer)
        self.checkpointing = variant.checkpointing
        self.scaler = torch.amp.GradScaler(setting.device, enabled=False)
        teacher = setting.teacher(variant.autocast or torch.float32)
        classes = CachedClassEmbeddings(teacher, setting.texts)
        self.objective = Objective(
            setting.student, setting.texts, variant.autocast, setting.distillation, teacher, classes
        )

    def gradients(self) -> dict[str, Tensor]:
        student = self.setting.student
        student.visual.checkpointing = student.text.checkpointing = self.checkpointing
        self.optimizer.zero_grad()
        batch = ClipBatch(self.setting.frames, self.setting.targets).to(torch.device(self.setting.device))
        return accumulate_gradients(self.objective, [batch], TEMPLATE, len(self.setting.targets), self.scaler)


class PlainStep(Step):
    def __init__(self, setting: Setting) -> None:
        super().__init__(setting, setting.optimizer())
        self.teacher = setting.teacher(torch.float32)

    def gradients(self) -> dict[str, Tensor]:
        setting, student, teacher = self.setting, self.setting.student, self.teacher
        distillation: Any = setting.distillation
        self.optimizer.zero_grad()
        frames, targets = setting.frames.to(setting.device), setting.targets.to(setting.device)
        frames = Preprocessing().normalize(frames.flatten(0, 1)).unflatten(0, frames.shape[:2])
        tokens = setting.texts.tokenize(setting.student)[[TEMPLATE, -1]].to(setting.device)
        with torch.autocast(setting.device, torch.bfloat16, enabled=setting.device == "cuda"):
            features = plain_features(student.visual, frames, window=1)
            classes = plain_classes(student.text, tokens)
            with torch.no_grad():
                taught = plain_features(teacher.visual, frames, window=0)
                taught_classes = plain_classes(teacher.text, tokens)
        logits = student.logit_scale.exp() * (features @ classes.T).mean(dim=1)
        terms = {
            "cross_entropy": F.cross_entropy(logits, targets),
            "video_distillation": 1 - F.cosine_similarity(distillation.video(features), taught, dim=-1).mean(),
            "text_distillation": 1 - F.cosine_similarity(distillation.text(classes), taught_classes, dim=-1).mean(),
        }
        terms["loss"] = terms["cross_entropy"] + distillation.beta * (
            terms["video_distillation"] + terms["text_distillation"]
        )
        terms["loss"].backward()
        return terms


def plain_features(visual: Any, frames: Tensor, window: int) -> Tensor:
    """`(B, T, 3, H, W)` -> `(B, T, D)`, normalized; tokens attend to `window` frames to either side (0: their own)."""
    patches = F.conv2d(frames.flatten(0, 1), visual.conv1.weight, stride=visual.patch_size)
    patches = rearrange(patches, "(b t) c h w -> b t (h w) c", b=len(frames))
    cls = visual.class_embedding.expand(*patches.shape[:2], 1, -1)
    x = visual.ln_pre(torch.cat([cls, patches], dim=2) + visual.positional_embedding)
    for block in visual.blocks:
        x = plain_block(block, x, partial(with_neighbors, window=window))
    return F.normalize((visual.ln_post(x[:, :, 0]) @ visual.proj).float(), dim=-1)


def plain_classes(text: Any, tokens: Tensor) -> Tensor:
    """`(2, K, 77)` -> `(K, D)`, normalized."""
    x = text.token_embedding(tokens) + text.positional_embedding
    causal = torch.full((x.shape[-2], x.shape[-2]), float("-inf"), device=x.device).triu(1)
    for block in text.blocks:
        x = plain_block(block, x, mask=causal)
    end_of_text = tokens.argmax(dim=-1)[..., None, None].expand(-1, -1, 1, x.shape[-1])
    features = text.ln_final(x.gather(2, end_of_text)[:, :, 0]) @ text.text_projection
    return F.normalize(F.normalize(features.float(), dim=-1).mean(dim=0), dim=-1)


def plain_block(
    block: Any, x: Tensor, keys: Callable[[Tensor], Tensor] = lambda x: x, mask: Tensor | None = None
) -> Tensor:
    """Pre-norm transformer block on `(..., N, C)`; `keys` says which keys and values the queries see."""
    q, k, v = block.attn.in_proj(block.ln_1(x)).chunk(3, dim=-1)
    q, k, v = (rearrange(t, "... n (h c) -> ... h n c", h=block.attn.heads) for t in (q, keys(k), keys(v)))
    logits = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
    weights = (logits if mask is None else logits + mask).softmax(dim=-1)
    x = x + block.attn.out_proj(rearrange(weights @ v, "... h n c -> ... n (h c)"))
    expand, _, contract = block.mlp
    hidden = expand(block.ln_2(x))
    return x + contract(hidden * torch.sigmoid(1.702 * hidden))


def with_neighbors(x: Tensor, window: int) -> Tensor:
    """`(B, T, N, C)` -> `(B, T, (2 window + 1) N, C)`; where there is no frame, zeros."""
    padded = F.pad(x, (0, 0, 0, 0, window, window))
    return torch.cat([padded[:, i : i + x.shape[1]] for i in range(2 * window + 1)], dim=2)


def main() -> None:
    if sys.argv[1:2] == ["peak"]:
        print(peak_memory(*sys.argv[2:]))
        return
    device = sys.argv[1] if sys.argv[1:] else "cpu"
    check_agreement()
    names = (PLAIN, *OURS)
    peaks = {name: peak_of(name, device) for name in names}  # first, while this process holds no memory
    setting = real_setting(device)
    steps = build_steps(setting, names)
    matrix = torch.randn(MATRIX[device], MATRIX[device], dtype=torch.bfloat16, device=device)
    times: dict[str, list[float]] = {}
    for round_ in range(ROUNDS + 1):
        taken = {name: timed(device, step) for name, step in steps.items()}
        taken |= split_of(steps[BFLOAT16]) | {"matrix product": timed(device, lambda: matrix @ matrix)}
        if round_:  # the first one warms up
            for key, seconds in taken.items():
                times.setdefault(key, []).append(seconds)
    medians = {key: statistics.median(seconds) for key, seconds in times.items()}

    speed = 2 * MATRIX[device] ** 3 / medians["matrix product"]
    clips = CLIPS[device]
    print(f"PyTorch {torch.__version__}, {torch.get_num_threads()} threads\n")
    print(f"| a step of {clips} clips, {setting.texts.classes} classes | seconds | times as fast as plain ", end="")
    print("| clips a second | of bfloat16 matrix-product speed | peak memory | of plain |")
    print("|---|---|---|---|---|---|---|")
    for name in names:
        seconds = medians[name]
        print(
            f"| {name} | {seconds:.3g} | {medians[PLAIN] / seconds:.2f} | {clips / seconds:.3g} "
            f"| {100 * step_flops(setting) / seconds / speed:.0f} % of {speed / 1e12:.3g} TFLOP/s "
            f"| {peaks[name]} MB | {100 * peaks[name] / peaks[PLAIN]:.0f} % |"
        )
    print(f"\n| part of the step, {BFLOAT16} | seconds | share |")
    print("|---|---|---|")
    whole = sum(medians[part] for part in PARTS)
    for part in PARTS:
        print(f"| {part} | {medians[part]:.3g} | {100 * medians[part] / whole:.0f} % |")


def real_setting(device: str) -> Setting:
    return Setting(VIT_B_16, device, CLIPS[device], read_vocabulary(VOCABULARY[device]))


def build_steps(setting: Setting, names: tuple[str, ...]) -> dict[str, Step]:
    fused = setting.optimizer(fused=True)
    return {name: PlainStep(setting) if name == PLAIN else OurStep(setting, fused, OURS[name]) for name in names}


def check_agreement() -> None:
    """Ours in float32 and the plain step have the same losses and the same gradients."""
    setting = Setting(TINY, "cpu", 2, read_vocabulary("hmdb-51")[:5])
    terms, gradients = [], []
    for step in build_steps(setting, (PLAIN, "froster, float32")).values():
        terms.append(step.gradients())
        gradients.append([p.grad for p in setting.parameters])
    torch.testing.assert_close(terms[0], terms[1], atol=1e-4, rtol=0)
    for plain, ours in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, plain, atol=1e-4 * float(plain.abs().max()), rtol=0)


def split_of(step: Step) -> dict[str, float]:
    """Seconds of the `PARTS` of one of our steps."""
    assert isinstance(step, OurStep)
    device, objective = step.setting.device, step.objective
    seconds: dict[str, float] = {}

    def clocked(part: str, function: Callable[..., object]) -> Callable[..., object]:
        def run(*arguments: object) -> object:
            results: list[object] = []
            seconds[part] = timed(device, lambda: results.append(function(*arguments)))
            return results[0]

        return run

    methods = (
        (objective.prompts, "encode"),
        (objective.student, "forward_features"),
        (objective.teacher, "forward_features"),
    )
    with ExitStack() as patches:
        for part, (owner, method) in zip(PARTS, methods, strict=False):
            patches.enter_context(patch.object(owner, method, clocked(part, getattr(owner, method))))
        whole = timed(device, step.gradients)
    seconds[BACKWARD] = whole - sum(seconds.values())
    seconds[UPDATE] = timed(device, step.update)
    return seconds


def step_flops(setting: Setting) -> float:
    """Multiplications and additions that the step needs, forward and (twice that) backward.

    Of matrix products and attention; texts are as long as the longest of the step.
    """
    config = setting.config
    tokens = (config.image_size // config.patch_size) ** 2 + 1
    length = int(setting.texts.tokenize(setting.student)[[TEMPLATE, -1]].argmax(dim=-1).max()) + 1

    def blocks(layers: int, width: int, queries: int, keys: int) -> float:
        return layers * (2 * queries * 12 * width**2 + 4 * queries * keys * width)

    frames = setting.frames.shape[0] * setting.frames.shape[1]
    patches = 2 * tokens * 3 * config.patch_size**2 * config.vision_width
    teacher = frames * (blocks(config.vision_layers, config.vision_width, tokens, tokens) + patches)
    student = frames * (blocks(config.vision_layers, config.vision_width, tokens, 3 * tokens) + patches)
    text = 2 * setting.texts.classes * blocks(config.text_layers, config.text_width, length, length)
    return 3 * (student + text) + teacher


def peak_of(name: str, device: str) -> int:
    command = [sys.executable, __file__, "peak", name, device]
    return int(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)


def peak_memory(name: str, device: str) -> int:
    """Megabytes of the whole second step, with weights and optimizer, on the GPU or above the bare imports (Linux).

    Run in a process of its own.
    """
    imports = memory("VmRSS")
    step = build_steps(real_setting(device), (name,))[name]
    step()
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    Path("/proc/self/clear_refs").write_text("5")  # the peak so far is that of building the models
    step()
    if device == "cuda":
        return torch.cuda.max_memory_allocated() // 2**20
    return (memory("VmHWM") - imports) // 1024


def memory(key: str) -> int:
    """A figure of this process in kB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(key)).split()[1])


def timed(device: str, run: Callable[[], object]) -> float:
    if device == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    run()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
