"""FROSTER with a teacher of another family, width, size and preprocessing than the student's CLIP."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from froster.backbones.clip import Clip, ClipConfig
from froster.backbones.perception_encoder import PerceptionEncoder, PerceptionEncoderConfig
from froster.checkpoints.own import save_checkpoint
from froster.data.manifests import class_indices, read_manifest
from froster.data.puppets import write_videos
from froster.errors import FrosterError, WeightsError
from froster.losses.froster import Projector
from froster.models import load_backbone, load_model
from froster.processes import find_processes
from froster.shipped import find_recipe
from froster.text.labels import check_labels
from froster.training import loop, run
from froster.training.alignment import align_projectors, batches_to_fit, best_linear_map, embed_classes
from froster.training.checkpoint import RunFolder
from froster.training.clips import BatchKeys, TrainingClips
from froster.training.data import read_data
from froster.training.recipe import TrainRecipe
from froster.training.state import read_state
from froster.training.texts import ClassPrompts

ACTIONS = ["juggling balls", "sitting down", "walking"]
STUDENT = ClipConfig(32, 16, 64, 2, 1, 32, 1, 1, 24)
TEACHER = PerceptionEncoderConfig(
    image_size=48,
    patch_size=16,
    vision_width=64,
    vision_layers=2,
    vision_heads=2,
    text_width=32,
    text_layers=1,
    text_heads=1,
    embed_dim=40,
)


def scattered(backbone: nn.Module) -> nn.Module:
    """Embeddings far enough apart that a wrong one shows."""
    with torch.no_grad():
        for name, parameter in backbone.named_parameters():
            if name.endswith("in_proj.weight") or name == "text.token_embedding.weight":
                parameter.mul_(8)
    return backbone


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six clips, `student.safetensors`, `teacher.safetensors`, and a teacher as wide as the student."""
    folder = tmp_path_factory.mktemp("files")
    write_videos(folder, ACTIONS, videos=2, frames=6, size=48)
    torch.manual_seed(0)
    save_checkpoint(scattered(Clip(STUDENT)), folder / "student.safetensors")
    save_checkpoint(scattered(PerceptionEncoder(TEACHER)), folder / "teacher.safetensors")
    save_checkpoint(scattered(Clip(replace(STUDENT, text_layers=2))), folder / "as-wide.safetensors")
    return folder


def recipe_of(files: Path, out: Path, *changes: str, teacher: str | None = "teacher.safetensors") -> TrainRecipe:
    return TrainRecipe.read(
        find_recipe("froster-puppets"),
        [
            f"out={out}",
            f"model={files / 'student.safetensors'}",
            *([f"teacher={files / teacher}"] if teacher else []),
            f"data.manifest={files / 'manifest.csv'}",
            "data.puppets=null",
            "data.frames=3",
            "data.resize_short_side=[32,36]",
            "data.in_memory=false",
            "optimizer.epochs=2",
            "optimizer.warmup_epochs=0",
            "optimizer.batch_size=3",
            "optimizer.learning_rate=0.001",
            "average_from=null",
            "precision=float32",
            *changes,
        ],
    )


def prepared(recipe: TrainRecipe) -> run.Run:
    data = read_data(recipe, False)
    targets = class_indices(data.videos, list(data.labels), recipe.data.manifest)
    return run.prepare(recipe, RunFolder(recipe.out), data, targets, find_processes())


def first_clips(recipe: TrainRecipe, batches: int) -> tuple[Tensor, Tensor]:
    """Frames `(N, T, 3, 32, 32)` uint8 and targets of the first batches."""
    videos = read_manifest(recipe.data.manifest)
    clips = TrainingClips(videos, [ACTIONS.index(video.label) for video in videos], recipe.data, 32, recipe.seed)
    keys = list(BatchKeys(len(videos), 3, 1, 2, recipe.seed))[:batches]
    samples = [clips[key] for of_batch in keys for key in of_batch]
    return torch.stack([sample.frames for sample in samples]), torch.tensor([sample.target for sample in samples])


def unit(x: Tensor) -> Tensor:
    return x / x.norm(dim=-1, keepdim=True)


def classes_of(model: nn.Module, prompts: list[list[str]]) -> Tensor:
    """Class embeddings of `prompts[class]`, with the model's own tokenizer."""
    return unit(torch.stack([unit(model.encode_text(model.tokenizer(of_class))).mean(dim=0) for of_class in prompts]))


def as_clip_sees(frames: Tensor) -> Tensor:
    mean = torch.tensor((0.48145466, 0.4578275, 0.40821073)).view(3, 1, 1)
    std = torch.tensor((0.26862954, 0.26130258, 0.27577711)).view(3, 1, 1)
    return (frames / 255 - mean) / std


def as_teacher_sees(frames: Tensor) -> Tensor:
    """Scaled from 32 to 48 pixels bilinearly, then to -1 to 1."""
    scaled = torch.nn.functional.interpolate(
        frames.flatten(0, 1).float(), (48, 48), mode="bilinear", antialias=True, align_corners=False
    )
    return (scaled.unflatten(0, frames.shape[:2]) / 255 - 0.5) / 0.5


def ridge(z: Tensor, y: Tensor) -> Tensor:
    """`argmin |Z W^T - Y|^2 + 0.1 |Z|^2 / D |W|^2`, as least squares with D more rows, in float64."""
    z, y = z.detach().double(), y.detach().double()
    dims = z.shape[1]
    weight = (0.1 * z.square().sum() / dims).sqrt()
    rows = torch.cat([z, weight * torch.eye(dims).double()])
    return torch.linalg.lstsq(rows, torch.cat([y, torch.zeros(dims, y.shape[1]).double()])).solution.T.float()


def test_the_first_step_is_the_papers_with_a_linear_map_for_the_identity(files: Path, tmp_path: Path) -> None:
    """Loss, terms and gradients from the formulas; W from the first epoch's frames and from all templates."""
    recipe = recipe_of(files, tmp_path / "run", "distillation.zero_init=false")
    drawn = prepared(recipe).objective.distillation
    assert drawn is not None and drawn.video is not None and drawn.text is not None
    student = load_model(files / "student.safetensors", "vclip").train()
    teacher = load_backbone(files / "teacher.safetensors")
    frames, targets = first_clips(recipe, 2)
    prompts = [
        [[f"{template.format(name)} {name}", name] for name in ACTIONS] for template in load_model("puppets").templates
    ]
    with torch.no_grad():
        z = unit(student.encode_video(as_clip_sees(frames))).flatten(0, 1)
        y = unit(teacher.encode_video(as_teacher_sees(frames))).flatten(0, 1)
        w_video = ridge(z, y)
        w_text = ridge(
            torch.cat([classes_of(student, of_template) for of_template in prompts]),
            torch.cat([classes_of(teacher, of_template) for of_template in prompts]),
        )
    w_video.requires_grad_(), w_text.requires_grad_()
    template = int(np.random.default_rng((recipe.seed, 3, 0)).integers(28))
    embeddings, classes = student.encode_video(as_clip_sees(frames[:3])), classes_of(student, prompts[template])

    def project(side: str, x: Tensor, w: Tensor) -> Tensor:  # W z + 0.1 W2 GELU(W1 z)
        projector = getattr(drawn, side)
        return x @ w.T + 0.1 * torch.nn.functional.gelu(x @ projector.w1.weight.T) @ projector.w2.weight.T

    logits = (student.logit_scale.exp() * unit(embeddings) @ classes.T).mean(dim=1)
    entropy = (logits.logsumexp(dim=1) - logits.gather(1, targets[:3, None])[:, 0]).mean()
    video = (1 - (unit(project("video", unit(embeddings), w_video)) * y[:9].view(3, 3, 40)).sum(dim=-1)).mean()
    of_teacher = classes_of(teacher, prompts[template])
    text = (1 - (unit(project("text", classes, w_text)) * of_teacher).sum(dim=-1)).mean()
    loss = entropy + 2 * (video + text)
    trained = [*student.parameters(), *drawn.video.parameters(), *drawn.text.parameters(), w_video, w_text]
    found = [gradient for gradient in torch.autograd.grad(loss, trained, allow_unused=True) if gradient is not None]

    loop.train(recipe, show=False)
    line = json.loads((recipe.out / "log.jsonl").read_text().splitlines()[0])
    assert line["cross_entropy"] == pytest.approx(entropy.item(), abs=1e-5)
    assert line["video_distillation"] == pytest.approx(video.item(), abs=1e-5)
    assert line["text_distillation"] == pytest.approx(text.item(), abs=1e-5)
    assert line["loss"] == pytest.approx(loss.item(), abs=1e-5)
    norm = torch.cat([gradient.flatten() for gradient in found]).norm().item()
    assert line["gradient_norm"] == pytest.approx(norm, rel=1e-4)
    assert 0.01 < video.item() < 1 and 0.001 < text.item() < 1


def test_the_teachers_own_file_gives_the_same_bits(files: Path, tmp_path: Path) -> None:
    copy = files / "copy.safetensors"
    copy.write_bytes((files / "student.safetensors").read_bytes())
    default = loop.train(recipe_of(files, tmp_path / "default", teacher=None), show=False)
    named = loop.train(recipe_of(files, tmp_path / "named", teacher="copy.safetensors"), show=False)
    expected = load_model(default).state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in load_model(named).state_dict().items())
    objective = prepared(recipe_of(files, tmp_path / "unused", teacher="copy.safetensors")).objective
    assert objective.distillation is not None and objective.distillation.video is not None
    assert objective.distillation.video.alignment is None


def test_a_fine_tuned_student_keeps_the_space_of_its_clip(files: Path, tmp_path: Path) -> None:
    """Of as many dimensions: one space with the CLIP that it comes from, two with a CLIP that was trained apart."""
    tuned = loop.train(recipe_of(files, tmp_path / "tuned", "distillation=null", teacher=None), show=False)
    for teacher, aligned in (("student.safetensors", False), ("as-wide.safetensors", True)):
        objective = prepared(recipe_of(files, tmp_path / "again", f"model={tuned}", teacher=teacher)).objective
        assert objective.distillation is not None and objective.distillation.text is not None
        assert (objective.distillation.text.alignment is not None) == aligned


def test_a_resumed_run_keeps_the_fit_and_ends_with_the_same_bits(
    files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = loop.train(recipe_of(files, tmp_path / "whole"), show=False)
    recipe = recipe_of(files, tmp_path / "stopped")
    take_step = loop.take_step

    def step_or_stop(of_run: run.Run, batches: Iterator) -> dict[str, float]:
        if of_run.step == of_run.steps_per_epoch:
            raise KeyboardInterrupt
        return take_step(of_run, batches)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(loop, "take_step", step_or_stop)
        loop.train(recipe, show=False)
    saved = read_state(recipe.out / "state.pt")
    assert saved is not None and saved["distillation"]["video.alignment"].shape == (40, 24)
    expected = load_model(whole).state_dict()
    resumed = load_model(loop.train(recipe, resume=True, show=False)).state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in resumed.items())
    assert not any("alignment" in name for name in resumed)  # the projectors are for training alone


def test_the_fit_is_the_best_of_linear_maps_and_finds_an_exact_one() -> None:
    torch.manual_seed(0)
    z, w = unit(torch.randn(500, 24)).double(), torch.randn(40, 24).double()
    found = best_linear_map(z.T @ z, (z @ w.T).T @ z)
    assert torch.nn.functional.cosine_similarity(z @ found.T, z @ w.T).min() > 0.99
    y = torch.randn(500, 40).double()
    torch.testing.assert_close(best_linear_map(z.T @ z, y.T @ z).float(), ridge(z, y), atol=1e-5, rtol=1e-4)
    few = unit(torch.randn(3, 24)).double()  # fewer rows than dimensions
    assert best_linear_map(few.T @ few, torch.randn(40, 3).double() @ few).isfinite().all()


def test_projectors_to_another_width() -> None:
    z = torch.randn(5, 3, 16)
    residual, plain = Projector(16, "residual", teacher_dim=24), Projector(16, "plain", teacher_dim=24)
    assert residual.alignment is not None and plain.alignment is None
    assert plain(z).shape == (5, 3, 24)
    assert torch.equal(residual(z), torch.cat([z, torch.zeros(5, 3, 8)], dim=-1))
    assert {name for name, _ in residual.named_parameters()} == {"alignment", "w1.weight", "w2.weight"}


def test_frames_are_tested_on_batches_that_the_map_was_not_fitted_to(files: Path, tmp_path: Path) -> None:
    recipe = recipe_of(files, tmp_path / "run")
    videos = read_manifest(recipe.data.manifest)
    clips = TrainingClips(videos, [ACTIONS.index(video.label) for video in videos], recipe.data, 32, recipe.seed)
    of_run = prepared(recipe)
    cosines = align_projectors(of_run, clips)
    frames, _ = first_clips(recipe, 2)
    with torch.no_grad():
        z = unit(load_model(files / "student.safetensors", "vclip").encode_video(as_clip_sees(frames))).flatten(0, 1)
        y = unit(load_backbone(files / "teacher.safetensors").encode_video(as_teacher_sees(frames))).flatten(0, 1)
    mapped = unit(z[9:] @ ridge(z[:9], y[:9]).T)
    assert cosines["video"] == pytest.approx((mapped * y[9:]).sum(dim=-1).mean().item(), abs=1e-5)
    assert 0.9 < cosines["text"] <= 1
    assert of_run.student.training


def test_four_clips_are_fitted_for_each_dimension(files: Path, tmp_path: Path) -> None:
    assert batches_to_fit(prepared(recipe_of(files, tmp_path / "run"))) == 2  # no more than an epoch
    long = prepared(recipe_of(files, tmp_path / "run", "optimizer.min_steps=100"))
    assert batches_to_fit(long) == 32  # of 3 clips, for 24 dimensions


def test_a_process_without_templates_has_no_class_embeddings_to_fit(files: Path, tmp_path: Path) -> None:
    of_run = prepared(recipe_of(files, tmp_path / "run"))
    of_run.keys.rank, of_run.keys.world_size = 99, 100
    assert [len(part) for part in embed_classes(of_run)] == [0, 0]


@pytest.mark.parametrize("student", ["lora", "vpt:context=8", "tc_clip", "x_clip"])
def test_other_students_learn_from_it(files: Path, tmp_path: Path, student: str) -> None:
    """Learned prompts, frozen texts, and texts that depend on the video."""
    recipe = recipe_of(files, tmp_path / "run", f"student={student}", "optimizer.epochs=1")
    loop.train(recipe, show=False)
    line = json.loads((recipe.out / "log.jsonl").read_text().splitlines()[-1])
    assert 0 < line["video_distillation"] < 1 and (student == "x_clip") == ("text_distillation" not in line)


def test_patching_takes_the_students_clip_not_the_teacher(files: Path, tmp_path: Path) -> None:
    clip = load_backbone(files / "student.safetensors")
    torch.manual_seed(7)
    save_checkpoint(scattered(Clip(STUDENT)), tmp_path / "apart.safetensors")  # of the same sizes, trained apart
    for teacher in (files / "teacher.safetensors", tmp_path / "apart.safetensors"):
        recipe = recipe_of(files, tmp_path / teacher.stem, "patch_ratio=1", teacher=str(teacher))
        path = loop.train(recipe, show=False)
        patched = load_model(path).state_dict()
        assert all(torch.equal(patched[key], value) for key, value in clip.state_dict().items())


def test_what_cannot_teach_is_said(files: Path, tmp_path: Path) -> None:
    with pytest.raises(FrosterError, match="teacher is not used without distillation; set"):
        recipe_of(files, tmp_path / "run", "distillation=null")
    with pytest.raises(WeightsError, match=r"no-such\.safetensors"):
        loop.train(recipe_of(files, tmp_path / "run", teacher="no-such.safetensors"), show=False)
    with pytest.raises(FrosterError, match=r"compares embeddings as they are, .* \(40 dimensions, the student's 24\)"):
        loop.train(recipe_of(files, tmp_path / "run", "distillation.projector=none"), show=False)
    student = load_model(files / "student.safetensors", "vclip")
    save_checkpoint(student, tmp_path / "tuned.safetensors")
    with pytest.raises(WeightsError, match="is a fine-tuned student"):
        loop.train(recipe_of(files, tmp_path / "run", f"teacher={tmp_path / 'tuned.safetensors'}"), show=False)
    changes = (f"model={tmp_path / 'tuned.safetensors'}", "patch_ratio=0.5")
    with pytest.raises(WeightsError, match="need the CLIP that the student started from; teacher is another network"):
        loop.train(recipe_of(files, tmp_path / "run", *changes), show=False)
    assert not (tmp_path / "run" / "model.safetensors").exists()
    (files / "notes.txt").write_text("no weights")
    with pytest.raises(WeightsError, match=r"notes\.txt"):
        loop.train(recipe_of(files, tmp_path / "run", teacher="notes.txt"), show=False)


def test_the_prompts_of_each_are_in_its_own_tokens(files: Path) -> None:
    prompts = ClassPrompts(check_labels(["walking"]), ("a video of {}.",))
    shapes = [prompts.tokenize(load_model(files / f"{name}.safetensors")).shape for name in ("student", "teacher")]
    assert [shape[-1] for shape in shapes] == [77, 32]
