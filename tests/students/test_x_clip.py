from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from froster.backbones.clip import Clip, ClipConfig
from froster.errors import FrosterError, WeightsError
from froster.models import load_model
from froster.students import build_student
from froster.students.x_clip import XClip
from froster.text.prompts import TEMPLATES
from goldens import GoldenFile

if TYPE_CHECKING:
    from transformers import XCLIPModel  # takes seconds: the two tests that need it import it

pytestmark = pytest.mark.usefixtures("no_grad")

TOLERANCE = 2e-5  # largest absolute difference, float32


def small_x_clip(**options: object) -> XClip:
    torch.manual_seed(0)
    student = build_student("x_clip", Clip(ClipConfig(32, 8, 64, 2, 1, 64, 2, 1, 128)), **options).eval()
    assert isinstance(student, XClip)
    return student


def hugging_face_model(frames: int, heads: int) -> XCLIPModel:
    """Every parameter random, also those that start at zero or one."""
    from transformers import XCLIPConfig, XCLIPModel

    torch.manual_seed(frames)
    text = {"vocab_size": 64, "hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 2}
    vision = {"image_size": 32, "patch_size": 16, "hidden_size": 192, "intermediate_size": 768, "num_hidden_layers": 2}
    mit = {"mit_hidden_size": 128, "mit_intermediate_size": 512, "mit_num_attention_heads": heads}
    model = XCLIPModel(
        XCLIPConfig(
            text_config=text | {"num_attention_heads": 1},
            vision_config=vision | {"num_attention_heads": 3, "num_frames": frames} | mit,
            projection_dim=128,
            prompt_num_attention_heads=heads,
        )
    ).eval()
    for parameter in model.parameters():
        parameter.add_(0.05 * torch.randn_like(parameter))
    return model


@pytest.mark.parametrize("spec", ["x_clip", "x_clip:head=none"])
def test_released_form_of_froster(golden_file: GoldenFile, spec: str) -> None:
    expected = load_file(golden_file("student_x_clip.safetensors"))
    student = load_model(golden_file("student_x_clip.pyth"), student=spec)
    for ours, name in (
        (student.encode_video(expected["frames"]), "frame_features"),
        (student.visual.encode_tokens(expected["frames"]), "last_tokens"),
        (student.encode_text(expected["tokens"]), "text_features"),
    ):
        assert (ours - expected[name]).abs().max() < TOLERANCE, name
    assert (student.temporal_pooling, student.templates, student.normalize_class_embeddings) == (
        "logits",
        TEMPLATES,
        True,
    )
    assert student.trainable_parameters().keys() == dict(student.named_parameters()).keys()


@pytest.mark.parametrize(("frames", "heads", "spec"), [(1, 2, None), (4, 2, "x_clip"), (16, 8, "x_clip:heads=8")])
def test_hugging_face_checkpoint(tmp_path: Path, frames: int, heads: int, spec: str | None) -> None:
    model = hugging_face_model(frames, heads)
    model.save_pretrained(tmp_path)
    video, tokens = torch.randn(2, frames, 3, 32, 32), torch.randint(1, 64, (5, 7))
    theirs = model(input_ids=tokens, pixel_values=video)

    ours = load_model(tmp_path, student=spec)
    assert ours.name == "x_clip"
    assert ours.options["frames"] == frames
    video_features, classes = ours.forward_features(video), ours.encode_prompts(tokens)
    logits = ours.logit_scale.exp() * ours.similarities(video_features, classes)
    for mine, expected in (
        (video_features.frame_embeddings, theirs.mit_output.last_hidden_state),
        (classes, model.get_text_features(tokens).pooler_output),
        (logits, theirs.logits_per_video),
    ):
        assert mine.shape == expected.shape
        assert (mine - expected).abs().max() < TOLERANCE


def authors_names(student: XClip) -> dict[str, Tensor]:
    names = (
        ("visual.blocks.", "visual.transformer.resblocks."),
        ("text.blocks.", "transformer.resblocks."),
        ("text.", ""),
        (".message.attn.in_proj.", ".message_attn.in_proj_"),
        (".message.", ".message_"),
        (".attn.in_proj.", ".attn.in_proj_"),
        ("mit.positions", "mit.positional_embedding"),
        ("mit.block.", "mit.resblocks.0."),
        ("prompts.ln_tokens.", "prompts_visual_ln."),
        ("prompts.proj", "prompts_visual_proj"),
        ("prompts.ln_patches.", "prompts_generator.norm."),
        ("prompts.alpha", "prompts_generator.alpha"),
        ("prompts.layers.", "prompts_generator.decoder."),
    )
    state = {}
    for key, value in student.state_dict().items():
        for ours, theirs in names:
            key = key.replace(ours, theirs)
        if key.startswith("prompts_generator.decoder."):
            key = key.replace("cross_attn.out_proj", "cross_attn.proj").replace("mlp.2", "mlp.3")
            key = key.replace("ln_1", "norm1").replace("ln_2", "norm3")
        else:
            key = key.replace("mlp.0", "mlp.c_fc").replace("mlp.2", "mlp.c_proj")
        state[key] = value[None] if key == "mit.positional_embedding" else value
    return state


def test_checkpoint_with_the_authors_names(tmp_path: Path) -> None:
    student = small_x_clip(frames=3)
    torch.save({"model": authors_names(student)}, tmp_path / "k400.pth")
    loaded = load_model(tmp_path / "k400.pth")
    assert (loaded.name, loaded.options) == ("x_clip", student.options)
    for name, value in student.state_dict().items():
        assert torch.equal(value, loaded.state_dict()[name]), name


def test_other_frames_than_the_checkpoint_has_are_named(tmp_path: Path) -> None:
    torch.save({"model": authors_names(small_x_clip(frames=3))}, tmp_path / "k400.pth")
    with pytest.raises(WeightsError, match=r"mit.positions is \(3, 128\), expected \(8, 128\)"):
        load_model(tmp_path / "k400.pth", student="x_clip:frames=8")


@pytest.mark.parametrize("frames", [1, 3, 8, 13])
def test_positions_cover_the_clip_evenly(frames: int) -> None:
    """A frame's position is that of the middle of its T-th of the clip, between the table's rows' own middles."""
    student = small_x_clip(frames=8)
    table = student.mit.positions.numpy()
    times, rows = (np.arange(frames) + 0.5) / frames, (np.arange(8) + 0.5) / 8
    expected = np.stack([np.interp(times, rows, channel) for channel in table.T], axis=1)
    assert np.abs(student.mit.positions_of(frames).numpy() - expected).max() < 1e-6


def test_frames_hear_of_one_another_and_know_their_order() -> None:
    frames = torch.randn(1, 4, 3, 32, 32)
    changed = frames.clone()
    changed[:, 3] = torch.randn(3, 32, 32)
    for head in ("full", "none"):
        student = small_x_clip(head=head)
        difference = (student.encode_video(changed) - student.encode_video(frames)).abs().amax(dim=-1)[0]
        assert (difference > 1e-4).all()
    backwards = small_x_clip().encode_video(frames.flip(1)).flip(1)
    assert (backwards - small_x_clip().encode_video(frames)).abs().max() > 1e-3


def test_classes_adapt_to_each_video_by_itself() -> None:
    student = small_x_clip()
    student.prompts.alpha.fill_(1.0)
    classes = torch.randn(5, 128)
    together = student.forward_features(torch.randn(2, 3, 3, 32, 32))
    both = student.similarities(together, classes)
    for video in range(2):
        alone = type(together)(together.frame_embeddings[video : video + 1], together.context[video : video + 1])
        torch.testing.assert_close(student.similarities(alone, classes), both[video : video + 1])
    mixed = type(together)(together.frame_embeddings, together.context.flip(0))
    assert (student.similarities(mixed, classes) - both).abs().max() > 1e-4
    torch.testing.assert_close(student.similarities(together, classes[[2, 0]]), both[:, [2, 0]])


def test_prompts_start_along_the_classes() -> None:
    """Texts begin as CLIP's: what a video adds is a tenth of the class, and little else."""
    student = small_x_clip()
    classes = torch.randn(5, 128)
    video_features = student.forward_features(torch.randn(2, 3, 3, 32, 32))
    added = student.prompts(classes, video_features.context)
    assert (added - 0.1 * classes).norm(dim=-1).max() < 0.02 * classes.norm(dim=-1).min()


def test_activation_checkpointing_computes_the_prompts_again() -> None:
    gradients = []
    for checkpointing, runs in ((False, 2), (True, 4)):
        student, seen = small_x_clip(), []
        student.visual.checkpointing = student.text.checkpointing = checkpointing
        for layer in student.prompts.layers:
            layer.register_forward_pre_hook(lambda *_, seen=seen: seen.append(1))
        generator = torch.Generator().manual_seed(0)
        frames = torch.randn(2, 3, 3, 32, 32, generator=generator)
        classes = torch.randn(4, student.config.embed_dim, generator=generator)
        with torch.enable_grad():
            student.similarities(student.forward_features(frames), classes).square().sum().backward()
        assert len(seen) == runs
        gradients.append({name: p.grad for name, p in student.named_parameters() if p.grad is not None})
    torch.testing.assert_close(*gradients)


def test_text_encoder_stays_frozen() -> None:
    student = small_x_clip()
    left = {name for name, _ in student.named_parameters()} - student.trainable_parameters().keys()
    assert left == {"logit_scale", *(f"text.{name}" for name, _ in student.text.named_parameters())}


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("x_clip:frames=0", "1 to 1024; not 0"),
        ("x_clip:frames=many", "not 'many'"),
        ("x_clip:head=half", "'full' or 'none', not 'half'"),
        ("x_clip:heads=3", "must divide the 128 channels"),
    ],
)
def test_wrong_options_are_named(spec: str, message: str) -> None:
    with pytest.raises(FrosterError, match=message):
        build_student(spec, Clip(ClipConfig(32, 8, 64, 2, 1, 64, 2, 1, 128)))
