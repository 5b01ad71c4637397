"""What every student network must do, whatever its method."""

import copy
import json
import re
import shutil
import warnings
from functools import cache
from pathlib import Path

import pytest
import safetensors
import torch
import torch.nn.functional as F
from torch import Tensor

from froster.backbones.build import backbone_names
from froster.backbones.clip import Clip, ClipConfig
from froster.backbones.tokenizer import tokenize
from froster.checkpoints.checkpoint import BackboneSource
from froster.checkpoints.own import backbone_digest, save_checkpoint
from froster.errors import WeightsError
from froster.losses.batch import ClipBatch
from froster.losses.froster import Distillation
from froster.models import load_model, warn_of_random_start
from froster.shipped import find_recipe
from froster.students import STUDENTS, VideoStudent, build_student
from froster.students.frame_clip import FrameClip
from froster.text.classes import ClassTexts
from froster.text.classifier import cache_key, encode_classes
from froster.text.labels import check_labels
from froster.text.prompts import TEMPLATES, class_prompts
from froster.training.objective import Objective, accumulate_gradients
from froster.training.parameters import select_trainable
from froster.training.recipe import TrainRecipe
from froster.training.texts import CachedClassEmbeddings, ClassPrompts
from moved_students import moved_student

SMALL = ClipConfig(32, 8, 64, 2, 1, 64, 2, 1, 32)
LABELS = check_labels(
    {"running": "", "brushing teeth": "moving a small brush across the teeth", "fencing": "", "juggling": ""}
)
# With new keys to attend to, or with networks that start at random, as their authors let them.
NOT_CLIP_AT_FIRST = {"vclip", "tc_clip", "vita_clip", "action_clip", "x_clip"}
ALL = pytest.mark.parametrize("name", list(STUDENTS))
# They train nothing of CLIP's own, so their checkpoints need not hold it.
ADAPTERS = [
    name
    for name, student in STUDENTS.items()
    if not any(re.search(student.trainable_params, key) for key in backbone_names(SMALL))
]


@cache
def drawn_clip() -> tuple[Clip, Tensor]:
    """A CLIP and the generator's state after it: most of its drawing is for the vocabulary of 49,408 tokens."""
    torch.manual_seed(0)
    return Clip(SMALL), torch.get_rng_state()


def small_clip() -> Clip:
    clip, generator = drawn_clip()
    torch.set_rng_state(generator)
    return copy.deepcopy(clip)


def new_student(name: str) -> VideoStudent:
    return build_student(name, small_clip()).eval()


def clips(batch: int = 2, frames: int = 4, size: int = 32) -> Tensor:
    return torch.randn(batch, frames, 3, size, size, generator=torch.Generator().manual_seed(1))


def similarities(student: VideoStudent, frames: Tensor) -> Tensor:
    with torch.inference_mode():
        dtype = student.visual.proj.dtype
        return student.similarities(student.forward_features(frames.to(dtype)), encode_classes(student, LABELS))


def objective(student: VideoStudent) -> Objective:
    """FROSTER on the student, whatever it trains."""
    teacher = FrameClip(small_clip()).requires_grad_(False)
    prompts = ClassPrompts(LABELS, student.templates)
    text_is_trained = any(p.requires_grad for p in student.text.parameters())
    return Objective(
        student,
        prompts,
        distillation=Distillation(SMALL.embed_dim, text=text_is_trained, zero_init=False),
        teacher=teacher,
        teacher_classes=CachedClassEmbeddings(teacher, ClassPrompts(LABELS, TEMPLATES)),
        frozen_classes=None if text_is_trained else CachedClassEmbeddings(student, prompts),
    )


def backward(
    student: VideoStudent, checkpointing: bool = False, autocast: torch.dtype | None = None
) -> dict[str, Tensor]:
    """Terms of one training step's loss; the gradients are in the parameters."""
    student.train()
    student.visual.checkpointing = student.text.checkpointing = checkpointing
    frames = torch.randint(0, 256, (3, 4, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))
    torch.manual_seed(3)
    step = objective(student)
    step.precision = autocast
    no_scaler = torch.amp.GradScaler("cpu", enabled=False)
    return accumulate_gradients(step, [ClipBatch(frames, torch.tensor([0, 1, 3]))], 5, 3, no_scaler)


@ALL
@pytest.mark.parametrize(("frames", "size"), [(1, 32), (5, 48), (16, 32)])
def test_any_number_of_frames_any_size(name: str, frames: int, size: int) -> None:
    student = moved_student(name, small_clip())
    with torch.inference_mode():
        assert student.encode_video(clips(2, frames, size)).shape == (2, frames, 32)
    scores = similarities(student, clips(2, frames, size))
    assert scores.shape == (2, len(LABELS))
    assert scores.dtype == torch.float32
    assert scores.abs().max() <= 1 + 1e-5


@ALL
def test_clips_do_not_see_each_other(name: str) -> None:
    student, both = moved_student(name, small_clip()), clips(3)
    alone = torch.cat([similarities(student, clip[None]) for clip in both])
    assert (similarities(student, both) - alone).abs().max() < 1e-5


@ALL
def test_classes_do_not_see_each_other(name: str) -> None:
    student, frames = moved_student(name, small_clip()), clips()
    some = ClassTexts(list(LABELS.values())[1:3])
    with torch.inference_mode():
        of_some = student.similarities(student.forward_features(frames), encode_classes(student, some))
    assert (of_some - similarities(student, frames)[:, 1:3]).abs().max() < 1e-5


@ALL
def test_starts_as_clip_where_the_method_says_so(name: str) -> None:
    student, clip = new_student(name), small_clip().eval()
    with torch.inference_mode():
        difference = (student.encode_video(clips()) - clip.encode_video(clips())).abs().max()
    assert (difference < 1e-5) == (name not in NOT_CLIP_AT_FIRST)


@ALL
def test_bfloat16_is_near_float32(name: str) -> None:
    exact = similarities(moved_student(name, small_clip()), clips())
    rounded = similarities(moved_student(name, small_clip()).to(torch.bfloat16), clips())
    assert 0 < (rounded - exact).abs().max() < 0.02


@ALL
def test_what_is_trained_has_gradients_and_nothing_else(name: str) -> None:
    student = moved_student(name, small_clip())
    if not student.trainable_params:
        assert student.trainable_parameters().keys() == dict(student.named_parameters()).keys()
    select_trainable(student, TrainRecipe.read(find_recipe("puppets/fine-tuned"), [f"student={name}"]))
    terms = backward(student)
    assert all(term.isfinite() for term in terms.values())
    with_gradient = {key for key, p in student.named_parameters() if p.grad is not None and p.grad.any()}
    assert with_gradient == student.trainable_parameters().keys()


@ALL
@pytest.mark.parametrize("trained", ["default", "all", "vision", "text"])
def test_only_what_is_trained_changes(name: str, trained: str) -> None:
    student = moved_student(name, small_clip())
    recipe = TrainRecipe.read(find_recipe("puppets/fine-tuned"), [f"student={name}", f"trained={trained}"])
    select_trainable(student, recipe)
    before = {key: value.clone() for key, value in student.state_dict().items()}
    backward(student)
    torch.optim.AdamW(student.parameters(), lr=1e-3).step()
    changed = {key for key, value in student.state_dict().items() if not torch.equal(value, before[key])}
    of_text = {key for key in before if key.startswith("text.") or key == "logit_scale"}
    expected = {
        "default": student.trainable_parameters().keys(),
        "all": dict(student.named_parameters()).keys(),
        "vision": before.keys() - of_text,
        "text": {key for key in before if key.startswith("text.")},
    }
    assert changed == expected[trained]


@ALL
def test_activation_checkpointing_gives_the_same_gradients(name: str) -> None:
    plain, checkpointed = moved_student(name, small_clip()), moved_student(name, small_clip())
    backward(plain)
    backward(checkpointed, checkpointing=True)
    for (key, one), other in zip(plain.named_parameters(), checkpointed.parameters(), strict=True):
        if one.grad is not None:
            assert other.grad is not None, key
            torch.testing.assert_close(other.grad, one.grad, atol=1e-6, rtol=1e-4, msg=key)


@ALL
def test_autocast_has_nearly_the_same_gradients(name: str) -> None:
    exact, rounded = moved_student(name, small_clip()), moved_student(name, small_clip())
    backward(exact)
    backward(rounded, autocast=torch.bfloat16)
    one, other = (
        torch.cat([p.grad.flatten() for p in student.parameters() if p.grad is not None])
        for student in (exact, rounded)
    )
    assert 0.99 < F.cosine_similarity(one, other, dim=0) < 1 - 1e-7


@ALL
def test_saved_and_loaded_it_is_the_same(name: str, tmp_path: Path) -> None:
    student = moved_student(name, small_clip())
    save_checkpoint(student, tmp_path / "student.safetensors")
    loaded = load_model(tmp_path / "student.safetensors")
    assert (loaded.name, loaded.options) == (name, student.options)
    state = student.state_dict()
    assert loaded.state_dict().keys() == state.keys()
    assert all(torch.equal(value, state[key]) for key, value in loaded.state_dict().items())
    assert torch.equal(similarities(loaded, clips()), similarities(student, clips()))


@pytest.mark.parametrize("name", ADAPTERS)
def test_adapters_alone_are_saved_with_the_name_of_their_clip(name: str, tmp_path: Path) -> None:
    student = moved_student(name, small_clip())
    clip, path = tmp_path / "clip.safetensors", tmp_path / "adapters.safetensors"
    save_checkpoint(small_clip(), clip)
    shutil.copy(clip, tmp_path / "moved.safetensors")
    student.backbone_source = BackboneSource(str(clip), backbone_digest(student.state_dict(), SMALL))
    save_checkpoint(student, path)
    with safetensors.safe_open(path, "pt") as file:
        assert set(file.keys()) == student.trainable_parameters().keys()
        assert json.loads(file.metadata()["clip"])["sha256"] == student.backbone_source.sha256
    assert torch.equal(similarities(load_model(path), clips()), similarities(student, clips()))

    (tmp_path / "elsewhere").mkdir()
    moved = path.rename(tmp_path / "elsewhere" / "adapters.safetensors")
    clip.rename(tmp_path / "elsewhere" / "clip.safetensors")
    assert torch.equal(similarities(load_model(moved), clips()), similarities(student, clips()))
    torch.manual_seed(7)
    save_checkpoint(Clip(SMALL), clip)
    assert torch.equal(similarities(load_model(moved), clips()), similarities(student, clips()))
    (tmp_path / "elsewhere" / "clip.safetensors").unlink()
    with pytest.raises(WeightsError, match=r"trained with another CLIP than .*clip.safetensors: .*SHA-256"):
        load_model(moved)
    clip.unlink()
    with pytest.raises(
        WeightsError, match=r"is missing: there is no .*clip.safetensors. .* clip.safetensors, is found"
    ):
        load_model(moved)
    shutil.copy(tmp_path / "moved.safetensors", tmp_path / "elsewhere" / "clip.safetensors")
    assert torch.equal(similarities(load_model(moved), clips()), similarities(student, clips()))


@ALL
def test_a_plain_clip_becomes_the_student(name: str, tmp_path: Path) -> None:
    save_checkpoint(small_clip(), tmp_path / "clip.safetensors")
    torch.manual_seed(4)
    student = load_model(tmp_path / "clip.safetensors", student=name)
    assert student.name == name
    state = student.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in small_clip().state_dict().items())
    assert all(value.isfinite().all() for value in state.values())


@ALL
def test_class_features_are_those_of_its_texts(name: str) -> None:
    student = moved_student(name, small_clip())
    prompts = {label: class_prompts(text, student.templates) for label, text in LABELS.items()}
    with torch.inference_mode():
        features = F.normalize(student.unconditional_class_embeddings(encode_classes(student, LABELS)), dim=-1)
        for feature, of_class in zip(features, prompts.values(), strict=True):
            of_prompts = F.normalize(student.encode_text(tokenize(of_class)), dim=-1).mean(dim=0)
            assert (feature - F.normalize(of_prompts, dim=-1)).abs().max() < 1e-5


@ALL
def test_an_untrained_network_is_the_same_twice(name: str, tmp_path: Path) -> None:
    save_checkpoint(small_clip(), tmp_path / "clip.safetensors")
    first, second = (load_model(tmp_path / "clip.safetensors", student=name, seed=3) for _ in range(2))
    assert torch.equal(similarities(first, clips()), similarities(second, clips()))


@ALL
def test_an_untrained_network_that_hangs_on_chance_says_so(name: str, tmp_path: Path) -> None:
    save_checkpoint(small_clip(), tmp_path / "clip.safetensors")
    first, second = (load_model(tmp_path / "clip.safetensors", student=name, seed=seed) for seed in (3, 4))
    differs = (similarities(first, clips()) - similarities(second, clips())).abs().max() > 1e-5
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warn_of_random_start(first)
    reason = "it has randomly initialized modules, so its predictions are not meaningful."
    said = [f"{first.title} is not trained: {reason}"] * bool(differs)
    assert [str(warning.message).split(" Train")[0] for warning in caught] == said
    assert differs == (name in ("vpt", "vita_clip", "action_clip", "x_clip"))


def test_a_network_that_has_been_trained_hangs_on_chance_no_more(tmp_path: Path) -> None:
    save_checkpoint(small_clip(), tmp_path / "clip.safetensors")
    student = load_model(tmp_path / "clip.safetensors", student="vpt")
    save_checkpoint(student, tmp_path / "vpt.safetensors")
    with torch.no_grad():
        student.text.context.add_(1e-3)
    assert load_model(tmp_path / "clip.safetensors", student="vpt", context=0).random_start is None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_random_start(student)
        warn_of_random_start(load_model(tmp_path / "vpt.safetensors"))


def test_networks_that_read_text_in_their_own_way_share_no_class_matrix() -> None:
    students = [new_student("frame_clip"), new_student("vclip"), new_student("vpt"), new_student("tc_clip")]
    for context in (4, 8):
        torch.manual_seed(0)
        students.append(build_student("vpt", small_clip(), context=context))
    keys = [cache_key(student, LABELS, ()) for student in students]
    assert keys[0] == keys[1]
    assert len(set(keys)) == 5
