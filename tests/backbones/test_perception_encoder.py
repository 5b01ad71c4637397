"""Perception Encoder core against the official implementation, and every student on it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from compiled import compare_compiled_gradients
from froster.backbones.blocks import Grid
from froster.backbones.perception_encoder import PerceptionEncoder, PerceptionEncoderConfig
from froster.backbones.rotary import RotaryPositions, rotary_angles
from froster.checkpoints.own import save_checkpoint
from froster.checkpoints.perception_encoder import infer_perception_encoder, to_perception_encoder_names
from froster.checkpoints.read import load_into, read_checkpoint
from froster.errors import FrosterError, WeightsError
from froster.explanation.maps import relevance_maps
from froster.losses.batch import ClipBatch
from froster.losses.froster import Distillation
from froster.models import load_model
from froster.students import STUDENTS, VideoStudent, build_student
from froster.students.frame_clip import FrameClip
from froster.text.classifier import encode_classes
from froster.text.labels import check_labels
from froster.training.objective import Objective, accumulate_gradients
from froster.training.texts import CachedClassEmbeddings, ClassPrompts
from goldens import GoldenFile
from moved_students import moved_student

SMALL = PerceptionEncoderConfig(
    image_size=32,
    patch_size=8,
    vision_width=64,
    vision_layers=2,
    vision_heads=2,
    text_width=64,
    text_layers=2,
    text_heads=1,
    embed_dim=32,
)
WITHOUT_CLASS_TOKEN = PerceptionEncoderConfig(**{**vars(SMALL), "class_token": False, "vision_mlp_width": 96})
LABELS = check_labels({"running": "", "brushing teeth": "moving a small brush across the teeth", "fencing": ""})
REFUSED = {"tc_clip"}  # it merges tokens by their attention to the class token
REFUSED_WITHOUT_CLASS_TOKEN = {"tc_clip", "vita_clip", "x_clip"}
OPTIONS = {"vpt": ":context=8"}  # 2 x 16 vectors and a class name do not fit into 32 tokens
STUDENTS_ON_IT = pytest.mark.parametrize("name", [name for name in STUDENTS if name not in REFUSED])


def new_backbone(config: PerceptionEncoderConfig = SMALL) -> PerceptionEncoder:
    torch.manual_seed(0)
    backbone = PerceptionEncoder(config).eval()
    with torch.no_grad():  # far enough from uniform that positions matter
        for block in backbone.visual.blocks:
            block.attn.in_proj.weight.mul_(4)
    return backbone


def new_student(name: str, config: PerceptionEncoderConfig = SMALL) -> VideoStudent:
    """A student in which nothing that it adds is zero any more."""
    return moved_student(name + OPTIONS.get(name, ""), new_backbone(config))


def clips(batch: int = 2, frames: int = 4, height: int = 32, width: int = 32) -> Tensor:
    return torch.randn(batch, frames, 3, height, width, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def official(golden_file: GoldenFile) -> PerceptionEncoder:
    """The fixture's network: of no released size, so that its heads must be told."""
    state = to_perception_encoder_names(torch.load(golden_file("pe_core.pt"), weights_only=True))
    config, _ = infer_perception_encoder(state, {"vision_heads": 2, "text_heads": 2})
    backbone = PerceptionEncoder(config)
    load_into(backbone, state, "pe_core.pt")
    return backbone.eval()


@torch.inference_mode()
def test_embeddings_are_those_of_the_official_implementation(
    official: PerceptionEncoder, golden_file: GoldenFile
) -> None:
    golden = load_file(golden_file("pe_core.safetensors"))
    for images, features in (("images", "image_features"), ("images_other_size", "image_features_other_size")):
        torch.testing.assert_close(official.encode_image(golden[images]), golden[features], atol=2e-5, rtol=0)
    torch.testing.assert_close(official.encode_text(golden["tokens"]), golden["text_features"], atol=2e-5, rtol=0)
    video = FrameClip(official).encode_video(golden["video"]).mean(dim=1)
    torch.testing.assert_close(video, golden["video_feature"], atol=2e-5, rtol=0)


def test_heads_of_no_release_are_asked_for(golden_file: GoldenFile) -> None:
    with pytest.raises(WeightsError, match="do not show vision_heads and text_heads, and no released one has 3 layers"):
        read_checkpoint(golden_file("pe_core.pt"))
    with pytest.raises(FrosterError, match="there is no key 'image_size' to give"):
        read_checkpoint(golden_file("pe_core.pt"), {"image_size": 48})
    given = {"vision_heads": 2, "text_heads": 2}
    assert load_model(golden_file("pe_core.pt"), backbone=given).config.vision_heads == 2
    sources = read_checkpoint(golden_file("pe_core.pt"), given).sources
    assert (sources["vision_heads"], sources["vision_width"]) == ("given", "tensors")
    assert sources["resize_mode"] == "released Perception Encoders"


@pytest.mark.parametrize(
    ("width", "layers", "heads", "class_token"), [(192, 12, 3, True), (384, 12, 6, True), (1536, 50, 16, False)]
)
def test_released_sizes_are_known(width: int, layers: int, heads: int, class_token: bool) -> None:
    config = PerceptionEncoderConfig(56, 14, width, layers, heads, 128, 1, 2, 32, class_token=class_token)
    with torch.device("meta"):
        inferred, _ = infer_perception_encoder(PerceptionEncoder(config).state_dict(), {})
    assert inferred == PerceptionEncoderConfig(**{**vars(config), "vision_mlp_width": 4 * width, "text_mlp_width": 512})


def official_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors as they are released."""
    named = {}
    for key, value in state.items():
        for ours, theirs in (
            ("visual.attention_pool.in_proj.", "visual.attn_pool.attn.in_proj_"),
            ("visual.attention_pool.out_proj.", "visual.attn_pool.attn.out_proj."),
            ("visual.attention_pool.ln.", "visual.attn_pool.layernorm."),
            ("visual.attention_pool.", "visual.attn_pool."),
            (".attn.in_proj.", ".attn.in_proj_"),
            (".mlp.0.", ".mlp.c_fc."),
            (".mlp.2.", ".mlp.c_proj."),
            (".blocks.", ".transformer.resblocks."),
        ):
            key = key.replace(ours, theirs)
        named[key.removeprefix("text.")] = value
    named["visual.attn_pool.probe"] = named["visual.attn_pool.probe"].view(1, 1, -1)
    return named


def test_a_released_file_is_read(tmp_path: Path) -> None:
    config = PerceptionEncoderConfig(32, 16, 192, 12, 3, 64, 1, 1, 32, vision_mlp_width=768, text_mlp_width=256)
    torch.manual_seed(0)
    backbone = PerceptionEncoder(config).eval()
    wrapped = {f"module.{key}": value for key, value in official_names(backbone.state_dict()).items()}
    torch.save({"state_dict": wrapped}, tmp_path / "pe.pt")
    loaded = load_model(tmp_path / "pe.pt")
    assert (loaded.name, loaded.config) == ("frame_clip", config)
    frames = clips(1, 2)
    with torch.no_grad():
        assert torch.equal(loaded.encode_video(frames), backbone.encode_video(frames))
    assert loaded.tokenizer(["a"]).shape == (1, 32)
    save_checkpoint(loaded, tmp_path / "own.safetensors")
    assert load_model(tmp_path / "own.safetensors").config == config


def test_images_are_squashed_and_scaled_to_minus_one_to_one() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (40, 90, 3), dtype=np.uint8)
    expected = np.asarray(Image.fromarray(picture).resize((32, 32), Image.Resampling.BILINEAR))
    prepared = new_backbone().preprocess(torch.from_numpy(picture)[None])[0]
    # PyTorch's weights have a bit more or less than Pillow's: at most one of 255 levels, hardly anywhere.
    difference = (prepared - torch.from_numpy(expected / 127.5 - 1).permute(2, 0, 1)).abs() * 127.5
    assert difference.max() < 1.01 and difference.mean() < 0.1


def test_rotary_positions_are_complex_rotations() -> None:
    """Channels 2 i and 2 i + 1 as a complex number, times exp(j position frequency)."""
    grid, head = Grid(3, 5), 16
    x = torch.randn(2, 1 + 15 + 2, 2 * head)  # a class token, patches, and two tokens that a student added
    turned = RotaryPositions(heads=2, prefix_tokens=1)(x, grid).view(2, 18, 2, 8, 2)
    pairs = torch.view_as_complex(x.view(2, 18, 2, 8, 2))
    expected = pairs.clone()
    for row in range(3):
        for column in range(5):
            for pair in range(8):
                position = column + 1 if pair < 4 else row + 1
                angle = torch.tensor(position * 10_000 ** (-(pair % 4) / 4))
                expected[:, 1 + 5 * row + column, :, pair] *= torch.polar(torch.tensor(1.0), angle)
    torch.testing.assert_close(torch.view_as_complex(turned.contiguous()), expected, atol=1e-5, rtol=1e-5)


def test_without_a_class_token_positions_count_from_zero() -> None:
    angles = rotary_angles(Grid(2, 2), 8, 0, torch.device("cpu"))
    expected = [[0, 0, 0, 0], [1, 0.01, 0, 0], [0, 0, 1, 0.01], [1, 0.01, 1, 0.01]]
    torch.testing.assert_close(angles, torch.tensor(expected))


def test_a_prediction_before_training_does_not_disturb_it() -> None:
    student = new_student("vclip")
    with torch.inference_mode():
        student.encode_video(clips(1, 2, 24, 40))
    student.encode_video(clips(1, 2, 24, 40)).sum().backward()
    assert student.visual.conv1.weight.grad is not None


def test_neighbors_keys_are_turned_by_their_own_positions() -> None:
    """A video that stands still has the embeddings of its frame (Open-VCLIP Lemma A.1), with missing ones masked."""
    frame = clips(1, 1, 24, 40)
    student = build_student("vclip:boundary=masked", new_backbone())
    with torch.no_grad():
        still = student.encode_video(frame.expand(-1, 4, -1, -1, -1))
        torch.testing.assert_close(
            still, FrameClip(new_backbone()).encode_video(frame).expand(-1, 4, -1), atol=1e-5, rtol=0
        )


@pytest.mark.parametrize(("config", "refused"), [(SMALL, REFUSED), (WITHOUT_CLASS_TOKEN, REFUSED_WITHOUT_CLASS_TOKEN)])
def test_what_needs_a_class_token_says_so(config: PerceptionEncoderConfig, refused: set[str]) -> None:
    for name in STUDENTS:
        if name in refused:
            with pytest.raises(FrosterError, match="cannot be built on Perception Encoder, which does not have"):
                build_student(name, new_backbone(config))
        else:
            new_student(name, config)


@STUDENTS_ON_IT
def test_students_train_with_froster_on_it(name: str) -> None:
    student = new_student(name).train()
    prompts = ClassPrompts(LABELS, student.templates or ("{}",))
    teacher = FrameClip(new_backbone()).requires_grad_(False)
    frames = torch.randint(0, 256, (3, 4, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))
    objective = Objective(
        student,
        prompts,
        distillation=Distillation(32, zero_init=False),
        teacher=teacher,
        teacher_classes=CachedClassEmbeddings(teacher, prompts),
    )
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    terms = accumulate_gradients(objective, [ClipBatch(frames, torch.tensor([0, 1, 2]))], 0, 3, scaler)
    assert all(term.isfinite() for term in terms.values()) and terms["video_distillation"] > 0
    with_gradient = {key for key, p in student.named_parameters() if p.grad is not None and p.grad.any()}
    assert student.trainable_parameters().keys() & with_gradient


@pytest.mark.slow
@STUDENTS_ON_IT
def test_students_compile_to_one_graph_on_it(name: str) -> None:
    student = new_student(name, replace(SMALL, vision_layers=1)).train()
    compare_compiled_gradients(student, clips(), encode_classes(student, LABELS), backend="eager")


@STUDENTS_ON_IT
def test_students_on_it_are_saved_and_loaded(name: str, tmp_path: Path) -> None:
    student = new_student(name, SMALL)
    save_checkpoint(student, tmp_path / "student.safetensors")
    loaded = load_model(tmp_path / "student.safetensors")
    with torch.no_grad():
        classes = encode_classes(student, LABELS)
        assert torch.equal(loaded(clips(), encode_classes(loaded, LABELS)).logits, student(clips(), classes).logits)


@pytest.mark.parametrize("kind", ["attention", "rollout", "gradient"])
@pytest.mark.parametrize("name", ["frame_clip", "vclip"])
@pytest.mark.parametrize("config", [SMALL, WITHOUT_CLASS_TOKEN])
def test_explanations_go_through_the_pooling(config: PerceptionEncoderConfig, name: str, kind: str) -> None:
    student = new_student(name, config)
    maps = relevance_maps(student, clips()[0], kind, encode_classes(student, LABELS), 1)  # type: ignore[arg-type]
    assert maps.shape == (4, 4, 4)
    assert maps.max() == 1 and maps.min() >= 0 and maps.std() > 1e-4
