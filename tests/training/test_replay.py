"""Whole runs of FROSTER and Open-VCLIP, repeated by a loop written from the papers with plain PyTorch.

The loop shares with the package only the networks' forward passes and the order of the clips. Losses, clipping, AdamW,
schedule, average and patching are its own, with the published values as numbers.
"""

import json
import math
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from froster.backbones.tokenizer import tokenize
from froster.data.manifests import class_indices, read_manifest
from froster.data.puppets import write_videos
from froster.losses.froster import Distillation
from froster.models import load_backbone, load_model
from froster.processes import find_processes
from froster.shipped import find_recipe
from froster.students import VideoStudent
from froster.training import loop
from froster.training.clips import BatchKeys, TrainingClips
from froster.training.recipe import TrainRecipe
from froster.training.step import draw_template_and_ratio

ACTIONS = ["juggling balls", "sitting down", "walking"]
EPOCHS, WARMUP, STEPS_PER_EPOCH, BATCH = 3, 1, 2, 4
RATE, START, END = 1e-4, 1e-6, 1e-6
KINDS = ("photo", "video", "example", "demonstration")
FORMS = ("{}.", "a person {}.", "a person using {}.", "a person doing {}.", "a person during {}.")
FORMS += ("a person performing {}.", "a person practicing {}.")
TEMPLATES = [f"a {kind} of {form}" for kind in KINDS for form in FORMS]


def recipe_of(name: str, manifest: Path, out: Path, *changes: str) -> TrainRecipe:
    return TrainRecipe.read(
        find_recipe(name),
        [
            f"out={out}",
            f"data.manifest={manifest}",
            "data.puppets=null",
            "data.frames=3",
            "data.in_memory=false",
            f"optimizer.epochs={EPOCHS}",
            f"optimizer.warmup_epochs={WARMUP}",
            f"optimizer.batch_size={BATCH}",
            f"optimizer.learning_rate={RATE}",
            f"optimizer.warmup_start={START}",
            f"optimizer.final_learning_rate={END}",
            f"average_from={WARMUP}",
            "precision=float32",
            *changes,
        ],
    )


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_videos(tmp_path_factory.mktemp("clips"), ACTIONS, videos=3, frames=6, size=72)


def prepared(recipe: TrainRecipe) -> loop.Run:
    data = loop.read_data(recipe, False)
    targets = class_indices(data.videos, list(data.labels), recipe.data.manifest)
    return loop.prepare(recipe, loop.RunFolder(recipe.out), data, targets, find_processes())


def rate_of(step: int) -> float:
    epoch = step / STEPS_PER_EPOCH
    if epoch < WARMUP:
        return START + (RATE - START) * epoch / WARMUP
    return END + (RATE - END) * (1 + math.cos(math.pi * (epoch - WARMUP) / (EPOCHS - WARMUP))) / 2


def clips_of(recipe: TrainRecipe) -> list[tuple[Tensor, Tensor]]:
    """Frames, scaled by CLIP's mean and std, and targets of every step."""
    videos = read_manifest(recipe.data.manifest)
    targets = [ACTIONS.index(video.label) for video in videos]
    clips = TrainingClips(videos, targets, recipe.data, 64, recipe.seed)
    mean = torch.tensor((0.48145466, 0.4578275, 0.40821073)).view(3, 1, 1)
    std = torch.tensor((0.26862954, 0.26130258, 0.27577711)).view(3, 1, 1)
    steps = []
    for keys in BatchKeys(len(videos), BATCH, 1, EPOCHS, recipe.seed):
        samples = [clips[key] for key in keys]
        frames = torch.stack([sample.frames for sample in samples])
        steps.append(((frames / 255 - mean) / std, torch.tensor([sample.target for sample in samples])))
    return steps


def unit(x: Tensor) -> Tensor:
    return x / x.norm(dim=-1, keepdim=True)


def classes_of(model: VideoStudent, prompts: list[list[str]]) -> Tensor:
    """Class embeddings of `prompts[class]`: normalized, averaged, normalized."""
    return unit(torch.stack([unit(model.encode_text(tokenize(of_class))).mean(dim=0) for of_class in prompts]))


def cross_entropy(model: VideoStudent, embeddings: Tensor, classes: Tensor, targets: Tensor) -> Tensor:
    """Cosines of every frame, scaled and averaged over the frames."""
    logits = (model.logit_scale.exp() * unit(embeddings) @ classes.T).mean(dim=1)
    return (logits.logsumexp(dim=1) - logits.gather(1, targets[:, None])[:, 0]).mean()


@dataclass
class AdamW:
    """Loshchilov and Hutter's algorithm, on parameters by name; decay 0.01 on those with two axes or more."""

    parameters: dict[str, Tensor]
    first: dict[str, Tensor] = field(default_factory=dict)
    second: dict[str, Tensor] = field(default_factory=dict)
    steps: int = 0

    @torch.no_grad()
    def step(self, gradients: dict[str, Tensor], rate: float) -> None:
        self.steps += 1
        for name, gradient in gradients.items():
            parameter = self.parameters[name]
            first = 0.9 * self.first.get(name, torch.zeros_like(gradient)) + 0.1 * gradient
            second = 0.999 * self.second.get(name, torch.zeros_like(gradient)) + 0.001 * gradient**2
            self.first[name], self.second[name] = first, second
            if parameter.ndim > 1:
                parameter *= 1 - rate * 0.01
            unbiased = (second / (1 - 0.999**self.steps)).sqrt() + 1e-8
            parameter -= rate * first / (1 - 0.9**self.steps) / unbiased


def clip_gradients(gradients: dict[str, Tensor]) -> float:
    """To a norm of 1; returns the norm before."""
    norm = math.sqrt(sum(gradient.double().square().sum().item() for gradient in gradients.values()))
    if norm > 1:
        for gradient in gradients.values():
            gradient /= norm
    return norm


def logged(out: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


def mean_of(states: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    return {name: torch.stack([state[name].double() for state in states]).mean(dim=0) for name in states[0]}


def assert_trained_alike(path: Path, expected: dict[str, Tensor], start: dict[str, Tensor]) -> None:
    trained = load_model(path).state_dict()
    assert trained.keys() == expected.keys()
    moved = 0.0
    for name, value in expected.items():
        assert (trained[name] - value).abs().max() < 1e-5, name
        moved = max(moved, (trained[name] - start[name]).abs().max().item())
    assert moved > 1e-4  # ten times the tolerance: a step that is left out shows


def random_numbers(recipe: TrainRecipe, step: int) -> tuple[int, float]:
    """The template of a step, and its number in [0, 1): drawn from a stream of their own."""
    rng = np.random.default_rng((recipe.seed, 3, step))
    return int(rng.integers(28)), float(rng.random())


@pytest.mark.slow
def test_a_run_of_froster(manifest: Path, tmp_path: Path) -> None:
    recipe = recipe_of("froster-puppets", manifest, tmp_path / "run")
    # W1 of the projectors is random: taken from the package, which draws it with the recipe's seed.
    drawn = prepared(recipe)
    distillation = drawn.objective.distillation
    assert distillation is not None and distillation.video is not None and distillation.text is not None
    projectors = {
        f"{side}.{weight}": getattr(getattr(distillation, side), weight).weight.detach().clone().requires_grad_()
        for side in ("video", "text")
        for weight in ("w1", "w2")
    }
    student, teacher = load_model("puppets", "vclip").train(), load_model("puppets", "frame_clip")
    start = {name: value.clone() for name, value in student.state_dict().items()}
    trained = {**dict(student.named_parameters()), **projectors}
    adam, averaged = AdamW(trained), []

    def project(side: str, z: Tensor) -> Tensor:  # Eq. 6, alpha = 0.1
        return z + 0.1 * torch.nn.functional.gelu(z @ projectors[f"{side}.w1"].T) @ projectors[f"{side}.w2"].T

    path = loop.train(recipe, show=False)
    for step, (frames, targets) in enumerate(clips_of(recipe)):
        template = TEMPLATES[random_numbers(recipe, step)[0]]
        prompts = [[f"{template.format(name)} {name}", name] for name in ACTIONS]
        embeddings, classes = student.encode_video(frames), classes_of(student, prompts)
        with torch.no_grad():
            of_teacher, classes_of_teacher = unit(teacher.encode_video(frames)), classes_of(teacher, prompts)
        entropy = cross_entropy(student, embeddings, classes, targets)
        video = (1 - (unit(project("video", unit(embeddings))) * of_teacher).sum(dim=-1)).mean()
        text = (1 - (unit(project("text", classes)) * classes_of_teacher).sum(dim=-1)).mean()
        loss = entropy + 2 * (video + text)  # Eq. 8, beta = 2
        found = torch.autograd.grad(loss, list(trained.values()), allow_unused=True)
        gradients = {name: g for name, g in zip(trained, found, strict=True) if g is not None}
        line = logged(recipe.out)[step]
        assert line["cross_entropy"] == pytest.approx(entropy.item(), abs=1e-5)
        assert line["video_distillation"] == pytest.approx(video.item(), abs=1e-5)
        assert line["text_distillation"] == pytest.approx(text.item(), abs=1e-5)
        assert line["loss"] == pytest.approx(loss.item(), abs=1e-5)
        assert line["gradient_norm"] == pytest.approx(clip_gradients(gradients), rel=1e-4)
        assert line["learning_rate"] == pytest.approx(rate_of(step), rel=1e-9)
        adam.step(gradients, rate_of(step))
        if (step + 1) % STEPS_PER_EPOCH == 0 and (step + 1) // STEPS_PER_EPOCH > WARMUP:
            averaged.append({name: value.clone() for name, value in student.state_dict().items()})
    assert len(averaged) == EPOCHS - WARMUP == 2
    assert_trained_alike(path, mean_of(averaged), start)


@pytest.mark.slow
def test_a_run_of_open_vclip(manifest: Path, tmp_path: Path) -> None:
    changes = "data.prompt_style=templates", "data.preprocess=release"  # as the recipes of the tables
    recipe = recipe_of("puppets/open-vclip", manifest, tmp_path / "run", *changes)
    student = load_model("puppets", "vclip").train()
    clip = {name: value.clone() for name, value in load_backbone("puppets").state_dict().items()}
    trained = {name: p for name, p in student.named_parameters() if name.startswith("visual.")}
    adam, averaged, ratios = AdamW(trained), [], []
    with torch.no_grad():  # the text encoder is frozen: all 28 templates, averaged, once
        classes = classes_of(student, [[template.format(name) for template in TEMPLATES] for name in ACTIONS])

    def gradients_and_loss(frames: Tensor, targets: Tensor) -> tuple[dict[str, Tensor], float]:
        loss = cross_entropy(student, student.encode_video(frames), classes, targets)
        return dict(zip(trained, torch.autograd.grad(loss, list(trained.values())), strict=True)), loss.item()

    path = loop.train(recipe, show=False)
    for step, (frames, targets) in enumerate(clips_of(recipe)):
        gradients, loss = gradients_and_loss(frames, targets)
        ratios.append(0.6 * random_numbers(recipe, step)[1])  # U(0, 0.6)
        kept = {name: p.detach().clone() for name, p in trained.items()}
        with torch.no_grad():
            for name, parameter in trained.items():  # Eq. 7
                parameter.copy_(ratios[-1] * clip[name] + (1 - ratios[-1]) * kept[name])
        between, loss_between = gradients_and_loss(frames, targets)
        with torch.no_grad():
            for name, parameter in trained.items():
                parameter.copy_(kept[name])
        total = {name: gradients[name] + 0.5 * between[name] for name in trained}  # Eq. 9, C = 0.5
        line = logged(recipe.out)[step]
        assert line["cross_entropy"] == pytest.approx(loss, abs=1e-5)
        assert line["interpolated"] == pytest.approx(loss_between, abs=1e-5)
        assert line["loss"] == pytest.approx(loss + 0.5 * loss_between, abs=1e-5)
        assert line["gradient_norm"] == pytest.approx(clip_gradients(total), rel=1e-4)
        adam.step(total, rate_of(step))
        if (step + 1) % STEPS_PER_EPOCH == 0 and (step + 1) // STEPS_PER_EPOCH > WARMUP:
            averaged.append({name: value.clone() for name, value in student.state_dict().items()})
    assert max(ratios) - min(ratios) > 0.1
    patched = {name: 0.5 * clip[name] + 0.5 * value for name, value in mean_of(averaged).items()}
    assert_trained_alike(path, patched, clip)


def test_interpolation_ratios_are_uniform_up_to_the_maximum(manifest: Path, tmp_path: Path) -> None:
    recipe = recipe_of("puppets/open-vclip", manifest, tmp_path / "run")
    run = prepared(recipe)
    drawn = []
    for run.step in range(2000):
        drawn.append(draw_template_and_ratio(run))
    templates, ratios = zip(*drawn, strict=True)
    assert set(templates) == set(range(28))
    assert 0 <= min(ratios) < 0.01 and 0.99 < max(ratios) < 1
    assert np.mean(ratios) == pytest.approx(0.5, abs=0.03) and np.std(ratios) == pytest.approx(12**-0.5, abs=0.02)


@pytest.mark.parametrize("dim", [64, 512])
def test_projectors_start_with_kaimings_variance(dim: int) -> None:
    """Kaiming normal: variance 2 / fan-in, for W1 and for a W2 that does not start at zero."""
    torch.manual_seed(0)
    for projector in (Distillation(dim).video, Distillation(dim, "plain").text):
        assert projector is not None
        assert projector.w1.weight.std().item() == pytest.approx(math.sqrt(2 / dim), rel=0.05)
    assert projector.w2.weight.std().item() == pytest.approx(math.sqrt(2 / dim), rel=0.05)
