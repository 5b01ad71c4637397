"""Every student on a backbone that is not CLIP: it works where it has what the student needs, else it is refused."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from compiled import compare_compiled_gradients
from froster.backbones.clip import Clip, ClipConfig
from froster.checkpoints.checkpoint import BackboneSource
from froster.checkpoints.own import backbone_digest, save_checkpoint
from froster.errors import FrosterError, FrosterWarning
from froster.explanation.maps import relevance_maps
from froster.flops import count_cost
from froster.losses.batch import ClipBatch
from froster.losses.froster import Distillation
from froster.models import load_backbone, load_model
from froster.recognizer import Recognizer
from froster.students import STUDENTS, VideoStudent, build_student
from froster.students.frame_clip import FrameClip
from froster.text.classifier import encode_classes
from froster.text.labels import check_labels
from froster.training.objective import Objective, accumulate_gradients
from froster.training.texts import CachedClassEmbeddings, ClassPrompts
from moved_students import moved_student
from pooled_backbone import POOLED, Pooled, PooledConfig, new_backbone, registered

LABELS = check_labels({"running": "", "brushing teeth": "moving a small brush across the teeth", "fencing": ""})
REFUSED = {
    "tc_clip": "TC-CLIP cannot be built on the pooled test backbone, which does not have frame embeddings that are "
    "pooled from a class token, nor a causal text encoder that pools the end-of-text token.",
    "vita_clip": "Vita-CLIP cannot be built on the pooled test backbone, which does not have a class token in its "
    "image encoder, nor a LayerNorm between patch embedding and blocks, nor a causal text encoder that pools the "
    "end-of-text token.",
    "vpt": "VPT cannot be built on the pooled test backbone, which does not have a causal text encoder that pools the "
    "end-of-text token.",
    "x_clip": "X-CLIP cannot be built on the pooled test backbone, which does not have a class token in its image "
    "encoder.",
}
TAKEN = [name for name in STUDENTS if name not in REFUSED]
ALL_TAKEN = pytest.mark.parametrize("name", TAKEN)


@pytest.fixture(autouse=True)
def known_backbone() -> Iterator[None]:
    with registered():
        yield


def new_student(name: str, config: PooledConfig = POOLED) -> VideoStudent:
    """A student on the pooled backbone, nothing of what it adds at zero any more."""
    return moved_student(name, new_backbone(config))


def clips(batch: int = 2, frames: int = 4, height: int = 32, width: int = 32) -> Tensor:
    return torch.randn(batch, frames, 3, height, width, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", REFUSED)
def test_a_student_says_what_the_backbone_lacks(name: str) -> None:
    with pytest.raises(FrosterError) as caught:
        build_student(name, new_backbone())
    assert str(caught.value) == REFUSED[name]


def test_what_options_leave_out_is_not_needed() -> None:
    student = build_student("vpt:context=0", new_backbone())
    assert student.encode_video(clips()).shape == (2, 4, 32)


def test_a_new_student_has_been_thought_about() -> None:
    """All need blocks or less; whoever adds a student decides where it belongs."""
    needing_blocks = {"action_clip", "adaptformer", "aim", "lora", "st_adapter", "text4vis", "vclip"}
    assert set(TAKEN) == {*needing_blocks, "frame_clip", "vifi_clip"}


@ALL_TAKEN
def test_logits_have_temperature_and_bias(name: str) -> None:
    student = new_student(name)
    classes = encode_classes(student, LABELS)
    with torch.no_grad():
        output = student(clips(), classes)
        expected = F.normalize(output.frame_embeddings, dim=-1).mean(dim=1) @ classes.T
        if student.temporal_pooling == "features":
            expected = F.normalize(output.frame_embeddings.mean(dim=1), dim=-1) @ classes.T
    assert student.logit_bias is not None and student.logit_bias.item() == -10
    assert output.frame_embeddings.shape == (2, 4, 32)
    torch.testing.assert_close(output.logits, expected / 0.07 - 10, atol=1e-4, rtol=1e-5)


@ALL_TAKEN
def test_frames_need_not_be_square_nor_of_the_pretrained_size(name: str) -> None:
    with torch.no_grad():
        assert new_student(name).encode_video(clips(1, 3, 48, 40)).shape == (1, 3, 32)


def test_a_whole_convolution_over_space_and_time_finds_its_patches_without_a_class_token() -> None:
    student = build_student("st_adapter:kernel=spatiotemporal", new_backbone())
    (adapter,) = [module for key, module in student.named_modules() if key == "visual.blocks.0.adapter_before_attn"]
    with torch.no_grad():
        adapter.up.weight.normal_()
        x = student.visual.embed(clips(1, 3, 16, 24))
        out = adapter(x, student.visual.patch_grid(clips(1, 3, 16, 24)))
        grid = adapter.down(x).view(1, 3, 2, 3, -1).permute(0, 4, 1, 2, 3)
        by_hand = x + adapter.up(adapter.conv(grid).permute(0, 2, 3, 4, 1)).view_as(x)
    torch.testing.assert_close(out, by_hand)


@pytest.mark.slow
@ALL_TAKEN
def test_compiles_to_one_graph_and_has_the_same_gradients(name: str) -> None:
    student = new_student(name, replace(POOLED, vision_layers=1)).train()
    backend = "aot_eager" if name == "vclip" else "eager"  # AOTAutograd sees the same operations in all of them
    compare_compiled_gradients(student, clips(), encode_classes(student, LABELS), backend)


def step(student: VideoStudent, teacher: VideoStudent) -> dict[str, Tensor]:
    """Terms of FROSTER's step; the gradients are in the parameters."""
    frames = torch.randint(0, 256, (3, 4, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))
    prompts = ClassPrompts(LABELS, ("a video of {}.",))
    objective = Objective(
        student,
        prompts,
        distillation=Distillation(32, zero_init=False),
        teacher=teacher.requires_grad_(False),
        teacher_classes=CachedClassEmbeddings(teacher, prompts),
    )
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    return accumulate_gradients(objective, [ClipBatch(frames, torch.tensor([0, 1, 2]))], 0, 3, scaler)


@ALL_TAKEN
def test_froster_trains_it_and_teaches_with_it(name: str) -> None:
    student = new_student(name).train()
    terms = step(student, FrameClip(new_backbone()))
    assert set(terms) == {"cross_entropy", "video_distillation", "text_distillation", "loss"}
    assert all(term.isfinite() for term in terms.values())
    trained = student.trainable_parameters()
    with_gradient = {key for key, p in student.named_parameters() if p.grad is not None and p.grad.any()}
    # A bias that all classes share changes no softmax.
    assert trained.keys() - with_gradient <= {"logit_bias"}


def test_each_prepares_the_frames_and_reads_the_texts_in_its_own_way() -> None:
    """A CLIP learns from a teacher of another mean, std, tokenizer and context length."""
    torch.manual_seed(0)
    student = FrameClip(Clip(ClipConfig(32, 8, 64, 2, 1, 64, 2, 1, 32))).train()
    teacher = FrameClip(new_backbone())
    terms = step(student, teacher)
    frames = torch.randint(0, 256, (3, 4, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))
    prompts = ClassPrompts(LABELS, ("a video of {}.",))
    torch.manual_seed(0)
    distillation = Distillation(32, zero_init=False)
    with torch.no_grad():
        taught = F.normalize(teacher.encode_video((frames / 255 - 0.5) / 0.5), dim=-1)
        learned = F.normalize(student.encode_video(student.preprocess.normalize(frames)), dim=-1)
        of_teacher = torch.stack([teacher.encode_text(teacher.tokenizer(row)) for row in prompts.prompts])
        classes = F.normalize(F.normalize(of_teacher, dim=-1).mean(dim=0), dim=-1)
    assert prompts.tokenize(student).shape[-1] == 77 and prompts.tokenize(teacher).shape[-1] == 40
    assert torch.allclose(CachedClassEmbeddings(teacher, prompts)(0), classes, atol=1e-5)
    assert distillation.video is not None and taught.shape == learned.shape
    assert 0 < terms["video_distillation"] < 2 and terms["text_distillation"] > 0


@ALL_TAKEN
def test_saved_and_loaded_it_is_the_same(name: str, tmp_path: Path) -> None:
    student = new_student(name)
    save_checkpoint(student, tmp_path / "student.safetensors")
    loaded = load_model(tmp_path / "student.safetensors")
    assert (loaded.name, loaded.config, loaded.options) == (name, student.config, student.options)
    state = student.state_dict()
    assert loaded.state_dict().keys() == state.keys() and "logit_bias" in state
    assert all(torch.equal(value, state[key]) for key, value in loaded.state_dict().items())
    assert loaded.preprocess == student.preprocess
    with torch.no_grad():
        classes = encode_classes(student, LABELS)
        assert torch.equal(loaded(clips(), encode_classes(loaded, LABELS)).logits, student(clips(), classes).logits)


def test_adapters_name_the_backbone_that_they_belong_to(tmp_path: Path) -> None:
    save_checkpoint(new_backbone(), tmp_path / "backbone.safetensors")
    assert isinstance(load_backbone(tmp_path / "backbone.safetensors"), Pooled)
    student = new_student("adaptformer")
    digest = backbone_digest(student.state_dict(), POOLED)
    student.backbone_source = BackboneSource(str(tmp_path / "backbone.safetensors"), digest)
    save_checkpoint(student, tmp_path / "adapters.safetensors")
    assert (tmp_path / "adapters.safetensors").stat().st_size < (tmp_path / "backbone.safetensors").stat().st_size / 2
    loaded = load_model(tmp_path / "adapters.safetensors").state_dict()
    assert all(torch.equal(value, loaded[key]) for key, value in student.state_dict().items())


def test_a_plain_backbone_becomes_a_student(tmp_path: Path) -> None:
    save_checkpoint(new_backbone(), tmp_path / "backbone.safetensors")
    assert load_model(tmp_path / "backbone.safetensors").name == "frame_clip"
    student = load_model(tmp_path / "backbone.safetensors", student="action_clip", seed=0)
    assert student.random_start is not None
    with pytest.raises(FrosterError, match="X-CLIP cannot be built on the pooled test backbone"):
        load_model(tmp_path / "backbone.safetensors", student="x_clip")


def test_a_video_is_prepared_as_the_backbone_wants_it() -> None:
    """Squashed, not cropped, with its own mean and std."""
    student = new_student("frame_clip")
    video = np.zeros((6, 40, 120, 3), dtype=np.uint8)
    video[:, :, :40] = 255  # only the left third is white: a center crop would not see it
    prepared = student.preprocess(torch.from_numpy(video))
    assert prepared.shape == (6, 3, 32, 32)
    assert prepared[..., :9].min() == 1 and prepared[..., 13:].max() == -1
    recognizer = Recognizer(student, list(LABELS), device="cpu", precision="float32")
    prediction = recognizer.predict(video)
    clip = prepared[[0, 1, 2, 3, 4, 5]][None]
    assert len(prediction.similarities) == 3 and clip.shape == (1, 6, 3, 32, 32)


def test_texts_longer_than_its_context_are_counted() -> None:
    student = new_student("frame_clip")
    long = {"running": "", "walking": " ".join(["step"] * 60), "jumping": " ".join(["up"] * 37)}
    # "walking: step step …" has 61 words, "jumping: up up …" 38, which still fits; with the template "a photo of a
    # jumping. jumping: up …" both are too long.
    with pytest.warns(FrosterWarning, match=r"^3 of 6 prompts"):
        encode_classes(student, long, ("a photo of a {}.",))


@pytest.mark.parametrize("kind", ["attention", "rollout", "gradient"])
@ALL_TAKEN
def test_explanations_go_through_the_pooling(name: str, kind: str) -> None:
    student = new_student(name)
    maps = relevance_maps(student, clips()[0], kind, encode_classes(student, LABELS), 1)  # type: ignore[arg-type]
    assert maps.shape == (4, 4, 4)
    assert maps.max() == 1 and maps.min() >= 0
    assert maps.std() > 1e-4


def test_attention_is_that_of_the_probe() -> None:
    student = new_student("frame_clip")
    pool = student.visual.attention_pool
    with torch.no_grad():
        tokens = student.visual.ln(student.visual.encode_tokens(clips()[:1]))[0]
        q = pool.q_proj(pool.probe).view(2, 32)
        k = pool.kv_proj(tokens)[..., :64].view(4, 16, 2, 32)
        weights = (torch.einsum("hc,tnhc->tnh", q, k) / 32**0.5).softmax(dim=1).mean(dim=-1)
    maps = torch.from_numpy(relevance_maps(student, clips()[0]))
    torch.testing.assert_close(maps.flatten(1), weights / weights.max(), atol=1e-5, rtol=1e-5)


def test_rollout_goes_through_probe_and_layers() -> None:
    student = new_student("frame_clip")
    pool, rolled = student.visual.attention_pool, torch.eye(16).expand(4, 16, 16)
    with torch.no_grad():
        x = student.visual.embed(clips()[:1])
        for block in student.visual.blocks:
            q, k, _ = block.attn.qkv(block.ln_1(x))
            weights = (q @ k.mT / 64**0.5).softmax(dim=-1)[0]
            rolled = (weights + torch.eye(16)) / 2 @ rolled
            x = block(x)
        q = pool.q_proj(pool.probe).view(2, 32)
        k = pool.kv_proj(student.visual.ln(x))[0, ..., :64].view(4, 16, 2, 32)
        weights = (torch.einsum("hc,tnhc->tnh", q, k) / 32**0.5).softmax(dim=1).mean(dim=-1)
        expected = torch.einsum("tn,tnm->tm", weights, rolled)
    maps = torch.from_numpy(relevance_maps(student, clips()[0], "rollout"))
    torch.testing.assert_close(maps.flatten(1), expected / expected.max(), atol=1e-5, rtol=1e-5)


@ALL_TAKEN
def test_its_cost_is_counted(name: str) -> None:
    assert count_cost(new_student(name), 4).clip > 1e6
