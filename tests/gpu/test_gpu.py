"""What only a CUDA GPU can show: `python -m pytest tests/gpu`. On other machines all of it skips."""

import copy
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor
from torch.amp import GradScaler
from torch.nn.parallel import DistributedDataParallel

from froster import Recognizer, load_model
from froster.backbones.clip import Clip, ClipConfig
from froster.checkpoints.foreign import infer_config, to_clip_names
from froster.data.puppets import ACTIONS, draw_video, write_videos
from froster.errors import FrosterError
from froster.inference import score_videos
from froster.losses.batch import ClipBatch
from froster.losses.froster import Distillation
from froster.students import STUDENTS, build_student
from froster.students.frame_clip import FrameClip
from froster.text.classifier import encode_classes
from froster.text.labels import check_labels
from froster.text.prompts import TEMPLATES
from froster.training import loop
from froster.training.clips import Batch
from froster.training.objective import Objective, accumulate_gradients
from froster.training.recipe import TrainRecipe
from froster.training.texts import CachedClassEmbeddings, ClassPrompts
from froster.video import VideoClips
from goldens import GoldenFile

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU: python -m pytest tests/gpu there"),
]

RECIPES = Path(__file__).parents[2] / "recipes"
CUDA = torch.device("cuda")
LABELS = check_labels({"running": "moving fast on foot", "walking": "", "fencing": "", "juggling": ""})
TINY = ClipConfig(16, 8, 64, 2, 1, 64, 2, 1, 32)
TOLERANCE = 5e-5  # of the goldens: largest absolute difference in float32 (2e-5 on the CPU)
needs_compiler = pytest.mark.skipif(
    not (shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")), reason="torch.compile needs a C compiler"
)


@pytest.fixture(autouse=True)
def float32_is_float32() -> Iterator[None]:
    """No TF32, whose products have ten bits."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """12 small videos of three actions."""
    actions = ["walking", "juggling balls", "sitting down"]
    return write_videos(tmp_path_factory.mktemp("clips"), actions, videos=4, frames=6, size=64)


def short_recipe(manifest: Path, out: Path, *changes: str, name: str = "froster-puppets.yaml") -> TrainRecipe:
    """Three epochs of three steps."""
    short = ["optimizer.epochs=3", "optimizer.warmup_epochs=0", "optimizer.batch_size=4", "average_from=null"]
    data = [f"data.manifest={manifest}", "data.puppets=null", "data.frames=2", "data.workers=0"]
    return TrainRecipe.read(RECIPES / name, [*short, *data, f"out={out}", *changes])


def log(recipe: TrainRecipe) -> list[dict[str, float]]:
    return [json.loads(line) for line in (recipe.out / "log.jsonl").read_text().splitlines()]


# The official implementations' numbers.


@pytest.mark.parametrize(
    ("golden", "spec"),
    [
        ("frame_clip", "frame_clip"),
        ("vclip", "vclip"),
        ("vclip_step2", "vclip:window=2"),
        ("vclip_step3", "vclip:window=3"),
        ("aim", "aim"),
        ("adaptformer", "adaptformer"),
        ("st_adapter", "st_adapter"),
        ("x_clip", "x_clip:head=none"),
    ],
)
@torch.no_grad()
def test_networks_are_the_official_ones(golden_file: GoldenFile, golden: str, spec: str) -> None:
    expected = load_file(golden_file(f"student_{golden}.safetensors"), device="cuda")
    student = load_model(golden_file(f"student_{golden}.pyth"), student=spec).to(CUDA).eval()
    assert (student.encode_video(expected["frames"]) - expected["frame_features"]).abs().max() < TOLERANCE
    assert (student.encode_text(expected["tokens"]) - expected["text_features"]).abs().max() < TOLERANCE


@torch.no_grad()
def test_clip_is_openais(golden_file: GoldenFile) -> None:
    golden = load_file(golden_file("clip.safetensors"))
    state = to_clip_names({key: value for key, value in golden.items() if key.startswith("model.")})
    clip = Clip(infer_config(state))
    clip.load_state_dict(state)
    clip.to(CUDA).eval()
    images = clip.encode_image(golden["images"].to(CUDA)).cpu()
    assert (images - golden["image_features"]).abs().max() < TOLERANCE
    texts = clip.encode_text(golden["tokens"].flatten(0, 1).to(CUDA)).cpu().unflatten(0, golden["tokens"].shape[:2])
    classes = F.normalize(F.normalize(texts, dim=-1).mean(dim=0), dim=-1)
    assert (classes - golden["class_matrix"]).abs().max() < TOLERANCE


# A training step. On the CPU it is the released code's (tests/training/test_objective.py); here the GPU is compared.


def objective(device: torch.device, precision: torch.dtype | None = None, name: str = "vclip") -> Objective:
    torch.manual_seed(0)
    teacher = FrameClip(Clip(TINY)).requires_grad_(False).to(device)
    torch.manual_seed(1)  # a student that has left its teacher
    student = build_student(name, Clip(TINY)).to(device)
    prompts = ClassPrompts(LABELS, TEMPLATES)
    distillation = Distillation(TINY.embed_dim, zero_init=False).to(device)
    return Objective(student, prompts, precision, distillation, teacher, CachedClassEmbeddings(teacher, prompts))


def clip_batch(device: torch.device) -> ClipBatch:
    generator = torch.Generator().manual_seed(2)
    frames = torch.randint(0, 256, (6, 3, 3, 16, 16), dtype=torch.uint8, generator=generator)
    return ClipBatch(frames, torch.arange(6) % len(LABELS)).to(device)


def step(whole: Objective, scaler: GradScaler | None = None) -> tuple[dict[str, float], dict[str, Tensor]]:
    """Terms and gradients of a step of two micro-batches."""
    batch = clip_batch(whole.student.logit_scale.device)
    parts = [ClipBatch(batch.frames[:4], batch.targets[:4]), ClipBatch(batch.frames[4:], batch.targets[4:])]
    scaler = scaler or GradScaler("cuda", enabled=False)
    terms = accumulate_gradients(whole, parts, 0, 6, scaler)
    scale = scaler.get_scale() if scaler.is_enabled() else 1
    gradients = {name: p.grad.cpu() / scale for name, p in whole.named_parameters() if p.grad is not None}
    return {name: term.item() for name, term in terms.items()}, gradients


def test_a_step_is_that_of_the_cpu() -> None:
    """Terms within 1e-5, gradients within 1e-4 of each tensor's largest, float32."""
    (terms, gradients), (expected, theirs) = step(objective(CUDA)), step(objective(torch.device("cpu")))
    assert terms == pytest.approx(expected, abs=1e-5)
    assert gradients.keys() == theirs.keys()
    for name, gradient in theirs.items():
        scale = gradient.abs().max().item()
        torch.testing.assert_close(gradients[name], gradient, atol=1e-4 * scale + 1e-8, rtol=0, msg=name)


@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float16])
def test_a_step_in_half_precision_points_the_same_way(precision: torch.dtype) -> None:
    """Loss within 2 %, the gradient's direction within a cosine of 0.99."""
    scaler = GradScaler("cuda", init_scale=2.0**10, enabled=precision == torch.float16)
    scaler.scale(torch.zeros(1, device=CUDA))  # makes the scale
    (terms, gradients), (expected, theirs) = step(objective(CUDA, precision), scaler), step(objective(CUDA))
    assert terms["loss"] == pytest.approx(expected["loss"], rel=0.02)
    ours, reference = (torch.cat([g[name].flatten() for name in sorted(theirs)]) for g in (gradients, theirs))
    assert F.cosine_similarity(ours, reference, dim=0) > 0.99


@pytest.fixture
def nccl(tmp_path: Path) -> Iterator[None]:
    dist.init_process_group("nccl", store=dist.FileStore(str(tmp_path / "store"), 1), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def test_a_step_under_ddp_with_nccl(nccl: None) -> None:
    plain, wrapped = objective(CUDA), objective(CUDA)
    _, expected = step(plain)
    ddp = DistributedDataParallel(wrapped, device_ids=[torch.cuda.current_device()], gradient_as_bucket_view=True)
    batch = clip_batch(CUDA)
    parts = [ClipBatch(batch.frames[:4], batch.targets[:4]), ClipBatch(batch.frames[4:], batch.targets[4:])]
    accumulate_gradients(ddp, parts, 0, 6, GradScaler("cuda", enabled=False))
    for name, parameter in wrapped.named_parameters():
        if name in expected:
            torch.testing.assert_close(parameter.grad.cpu(), expected[name], atol=1e-6, rtol=1e-4, msg=name)


# Whole runs.


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_training_learns(manifest: Path, tmp_path: Path, precision: str) -> None:
    recipe = short_recipe(manifest, tmp_path / "run", f"precision={precision}", "optimizer.epochs=6")
    model = load_model(loop.train(recipe))
    steps = log(recipe)
    assert len(steps) == 18
    first, last = (sum(step["cross_entropy"] for step in part) / 3 for part in (steps[:3], steps[-3:]))
    assert last < first
    assert all(p.isfinite().all() for p in model.parameters())


def test_float16_skips_steps_that_overflow(manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A scale of 2^40 overflows float16: the scaler halves it, step by step, and the weights stay as they are."""
    scalers = []

    def scaler(device: str, enabled: bool) -> GradScaler:
        scalers.append(GradScaler(device, init_scale=2.0**40, enabled=enabled))
        return scalers[0]

    monkeypatch.setattr(torch.amp, "GradScaler", scaler)
    recipe = short_recipe(manifest, tmp_path / "run", "precision=float16", "optimizer.epochs=1")
    loop.train(recipe)
    assert scalers[0].get_scale() < 2.0**40
    trained, start = load_model(recipe.out / "model.safetensors").state_dict(), load_model("puppets").state_dict()
    assert all(x.isfinite().all() for x in trained.values())
    assert all(torch.equal(trained[name].cpu(), x) for name, x in start.items())


def test_a_float16_run_goes_on_where_it_stopped(
    manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The scaler's state and the optimizer's are kept: the steps after the break are those of an unbroken run."""
    whole = short_recipe(manifest, tmp_path / "whole", "precision=float16")
    loop.train(whole)
    broken = short_recipe(manifest, tmp_path / "broken", "precision=float16")
    take_step = loop.take_step

    def stop_at_step_5(run: loop.Run, *rest: object) -> dict[str, float]:
        if run.step == 4:
            raise KeyboardInterrupt
        return take_step(run, *rest)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(loop, "take_step", stop_at_step_5)
        loop.train(broken)
    loop.train(broken, resume=True)
    assert [step["step"] for step in log(broken)] == list(range(1, 10))
    for ours, theirs in zip(log(broken), log(whole), strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-2)  # atomic sums differ from run to run


def test_batches_lie_in_pinned_memory(manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pinned, take_step = [], loop.take_step

    def watched(run: loop.Run, batches: Iterator[Batch]) -> dict[str, float]:
        batch = next(batches)
        pinned.append(batch.frames.is_pinned())
        return take_step(run, iter([batch]))

    monkeypatch.setattr(loop, "take_step", watched)
    loop.train(short_recipe(manifest, tmp_path / "run", "data.workers=2", "optimizer.epochs=1"))
    assert pinned == [True] * 3


def test_torchrun_with_one_process(manifest: Path, tmp_path: Path) -> None:
    recipe = short_recipe(manifest, tmp_path / "run", "optimizer.epochs=1", "precision=bfloat16")
    path = tmp_path / "recipe.json"
    path.write_text(recipe.model_dump_json())
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "1", "-m", "froster"]
    done = subprocess.run([*command, "train", str(path)], capture_output=True, text=True, env=os.environ, timeout=150)
    assert done.returncode == 0, done.stderr
    assert len(log(recipe)) == 3


@pytest.mark.parametrize("recipe", ["open-vclip", "aim", "st-adapter", "text4vis", "action-clip"])
def test_recipes_of_other_methods_run(manifest: Path, tmp_path: Path, recipe: str) -> None:
    name = f"puppets/{recipe}.yaml"
    loop.train(found := short_recipe(manifest, tmp_path / "run", "optimizer.epochs=1", name=name))
    assert all(np.isfinite(step["loss"]) for step in log(found))


# Memory.


@pytest.fixture
def little_memory() -> Iterator[None]:
    """200 MB beyond what is in use now."""
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(CUDA).total_memory
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + 200 * 2**20) / total)
    yield
    torch.cuda.set_per_process_memory_fraction(1.0)
    torch.cuda.empty_cache()


def loaded(videos: int, views: int, frames: int, size: int) -> list[tuple[int, VideoClips]]:
    generator = torch.Generator().manual_seed(0)
    clips = torch.randint(0, 256, (videos, views, frames, 3, size, size), dtype=torch.uint8, generator=generator)
    return [(index, VideoClips(frames, np.zeros(0), np.zeros(0), None)) for index, frames in enumerate(clips)]


def test_batches_are_halved_until_they_fit(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    model = load_model("puppets", student="vclip").to(CUDA).eval()
    classes = encode_classes(model, LABELS)
    videos = loaded(32, 2, 8, 128)
    with torch.inference_mode():
        ((whole,),) = score_videos([(model, [classes])], videos, frames_per_batch=32).scores
        sizes, encode = [], model.forward_features
        monkeypatch.setattr(model, "forward_features", lambda x: (sizes.append(len(x)), encode(x))[1])
        request.getfixturevalue("little_memory")
        ((scores,),) = score_videos([(model, [classes])], videos, frames_per_batch=10**6).scores
    assert sizes[0] == 64 and min(sizes) < 64  # the first try did not fit
    torch.testing.assert_close(scores, whole, atol=1e-5, rtol=0)


def test_a_video_that_never_fits_is_named(little_memory: None) -> None:
    model = load_model("puppets", student="vclip").to(CUDA).eval()
    with torch.inference_mode(), pytest.raises(FrosterError, match="Not enough memory for 4 views of 64 frames"):
        score_videos([(model, [encode_classes(model, LABELS)])], loaded(1, 4, 64, 256))


def test_training_says_what_to_do_without_memory(manifest: Path, tmp_path: Path, little_memory: None) -> None:
    wide = ["data.frames=64", "optimizer.batch_size=12", "precision=float32"]
    with pytest.raises(FrosterError, match=r"Out of GPU memory .* raise optimizer.gradient_accumulation_steps"):
        loop.train(short_recipe(manifest, tmp_path / "run", *wide))


# Inference, compiled and in lower precision.


@pytest.mark.parametrize("precision", ["auto", "bfloat16", "float32"])
def test_recognizer_agrees_with_the_cpu(precision: str) -> None:
    actions = list(ACTIONS[:10])
    videos = [draw_video(1, number, 16, 64, "easy") for number in range(4)]
    on_gpu = Recognizer("puppets", actions, device="cuda", precision=precision)
    on_cpu = Recognizer("puppets", actions, device="cpu", precision="float32")
    assert on_gpu.runtime.dtype == (torch.float32 if precision == "float32" else torch.bfloat16)
    tolerance = 1e-4 if precision == "float32" else 0.02
    for video in videos:
        ours, theirs = on_gpu.predict(video).similarities, on_cpu.predict(video).similarities
        assert ours == pytest.approx(theirs, abs=tolerance)


@needs_compiler
@pytest.mark.parametrize("name", ["frame_clip", "vclip", "x_clip", "st_adapter", "tc_clip"])
def test_compiled_students_agree(name: str) -> None:
    """Inference and a training step with inductor's kernels, in one graph."""
    assert name in STUDENTS
    torch.manual_seed(0)
    student = build_student(name, Clip(TINY)).to(CUDA)
    twin = copy.deepcopy(student)
    clips = torch.randn(2, 4, 3, 16, 16, device=CUDA)
    classes, targets = encode_classes(student, LABELS).to(CUDA), torch.tensor([0, 2], device=CUDA)
    torch.compiler.reset()
    compiled = torch.compile(twin, fullgraph=True)
    plain, fast = student(clips, classes), compiled(clips, classes)
    torch.testing.assert_close(fast.logits, plain.logits, atol=1e-3, rtol=1e-4)  # logits are up to 14
    F.cross_entropy(plain.logits, targets).backward()
    F.cross_entropy(fast.logits, targets).backward()
    expected = {key: p.grad for key, p in student.named_parameters() if p.grad is not None}
    assert expected
    for key, gradient in expected.items():
        scale = gradient.abs().max().item()
        ours = twin.get_parameter(key).grad
        torch.testing.assert_close(ours, gradient, atol=1e-3 * scale + 1e-7, rtol=0, msg=key)
