"""Checkpoints of the first version of our format: no family of backbones, no preparation of pictures, no provenance."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from froster.backbones.build import backbone_names
from froster.backbones.clip import Clip, ClipConfig
from froster.checkpoints.own import backbone_digest, save_checkpoint
from froster.models import load_model
from froster.students import VideoStudent, build_student
from froster.text.classifier import encode_classes

pytestmark = pytest.mark.usefixtures("no_grad")

# As that version wrote it, field by field.
CONFIG = (
    '{"image_size": 32, "patch_size": 8, "vision_width": 64, "vision_layers": 2, "vision_heads": 1, "text_width": 64, '
    '"text_layers": 2, "text_heads": 1, "embed_dim": 32, "context_length": 77, "vocab_size": 49408, "activation": '
    '"quick_gelu"}'
)
STUDENTS = {
    "vclip": {"window": 2, "boundary": "masked"},
    "tc_clip": {"context_tokens": 7, "seed_percent": 30, "prompts": 4},
    "x_clip": {"frames": 8, "head": "full", "heads": None},
    "st_adapter": {"kernel": "spatiotemporal", "before": "attention"},
    "aim": {},
}


def trained(name: str) -> VideoStudent:
    torch.manual_seed(0)
    student = build_student(name, Clip(ClipConfig(**json.loads(CONFIG))), **STUDENTS[name]).eval()
    for key, parameter in student.named_parameters():
        if key not in backbone_names(student.config):
            parameter.add_(0.1 * torch.randn_like(parameter))
    return student


def write(student: VideoStudent, path: Path, backbone: Path | None = None) -> None:
    """All tensors, or those that the backbone's file does not have; of the token table the rows that are not zero."""
    state = dict(student.state_dict())
    metadata = {
        "format": "froster-1",
        "config": CONFIG,
        "student": student.name,
        "options": json.dumps(student.options),
        "recipe": "{}",
    }
    if backbone:
        digest = backbone_digest(state, student.config)
        metadata["clip"] = json.dumps({"name": str(backbone), "sha256": digest})
        state = {key: value for key, value in state.items() if key not in backbone_names(student.config)}
    else:
        rows = state["text.token_embedding.weight"].any(dim=1).nonzero()[:, 0]
        state["text.token_embedding.weight"] = state["text.token_embedding.weight"][rows]
        state["text.token_embedding.rows"] = rows.to(torch.int32)
    save_file({key: value.contiguous() for key, value in state.items()}, path, metadata)


@pytest.mark.parametrize("beside", [False, True])
@pytest.mark.parametrize("name", STUDENTS)
def test_it_is_read_bit_by_bit(name: str, beside: bool, tmp_path: Path) -> None:
    student = trained(name)
    student.text.token_embedding.weight[100:200] = 0
    clip = Clip(student.config)
    clip.load_state_dict({key: student.state_dict()[key] for key in clip.state_dict()})
    save_checkpoint(clip, tmp_path / "clip.safetensors")
    write(student, tmp_path / "old.safetensors", tmp_path / "clip.safetensors" if beside else None)
    loaded = load_model(tmp_path / "old.safetensors")
    assert (loaded.name, loaded.options, loaded.config) == (name, student.options, student.config)
    state = loaded.state_dict()
    assert state.keys() == student.state_dict().keys()
    assert all(torch.equal(state[key], value) for key, value in student.state_dict().items())
    frames, labels = torch.randn(2, 4, 3, 32, 32), {"running": "", "fencing": "a sport with swords"}
    expected = student(frames, encode_classes(student, labels))
    assert torch.equal(loaded(frames, encode_classes(loaded, labels)).logits, expected.logits)
    assert loaded.preprocess.resize_mode == "shortest" and loaded.labels is None
