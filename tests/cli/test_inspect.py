import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from commands import froster
from froster.checkpoints.own import save_checkpoint
from froster.errors import WeightsError
from froster.inspection import inspect_checkpoint
from froster.models import load_backbone, load_model
from froster.students import build_student
from fuzz.weights import SAID, openai_names, small_clip


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    """Another program's CLIP, which does not say its heads and activation."""
    save_file(openai_names(small_clip().state_dict()), tmp_path / "clip.safetensors")
    return tmp_path / "clip.safetensors"


def test_what_is_given_makes_a_checkpoint_that_needs_nothing_more(foreign: Path, tmp_path: Path) -> None:
    asked = froster("inspect", foreign)
    assert asked.returncode == 2
    assert "give the keys activation, vision_heads, text_heads of the backbone" in asked.stderr
    given = ["--backbone", "activation=gelu", "--backbone", "vision_heads=2", "--backbone", "text_heads=4"]
    done = froster("inspect", foreign, *given, "--out", tmp_path / "own.safetensors")
    assert done.returncode == 0, done.stderr
    lines = {line.split()[0]: line.split()[1:] for line in done.stdout.splitlines()}
    assert lines["activation"] == ["gelu", "given"]
    assert lines["vision_width"] == ["64", "tensors"]
    assert lines["image_mean"] == ["0.481455,", "0.457827,", "0.408211", "what", "CLIPs", "have", "in", "common"]
    model = load_model(tmp_path / "own.safetensors")
    assert (model.config.activation, model.config.vision_heads, model.config.text_heads) == ("gelu", 2, 4)
    state = small_clip().state_dict()
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    assert load_backbone(tmp_path / "own.safetensors").config == model.config  # a student may be trained from it


def test_json_has_the_same(foreign: Path) -> None:
    given = [f"--backbone={key}={value}" for key, value in SAID.items()]
    found = json.loads(froster("inspect", foreign, *given, "--json").stdout)
    assert found["config"]["vision_heads"] == 1 and found["sources"]["vision_heads"] == "given"
    assert (found["backbone"], found["student"], found["assumed"]) == ("CLIP", None, [])
    assert found["config"]["image_mean"] == [0.48145466, 0.4578275, 0.40821073]


def test_a_student_is_named_with_its_options(tmp_path: Path) -> None:
    save_checkpoint(build_student("vclip:window=2", small_clip()), tmp_path / "own.safetensors")
    first = froster("inspect", tmp_path / "own.safetensors").stdout.splitlines()[0]
    assert first.startswith(f"{tmp_path / 'own.safetensors'}: vclip:window=2,boundary=zero on CLIP, 6")
    state = openai_names(build_student("adaptformer", small_clip()).state_dict())
    save_file({key: value.contiguous() for key, value in state.items()}, tmp_path / "other.safetensors")
    found = inspect_checkpoint(tmp_path / "other.safetensors")
    assert found.student == "adaptformer"
    assert found.sources["vision_heads"] == "the rule of OpenAI's releases"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--backbone", "activation"], "--backbone 'activation' has no value: write KEY=VALUE"),
        (["--backbone", "width=3"], "there is no key 'width' to give"),
        (["--backbone", "image_mean=half"], "image_mean is 'half', which is not a number"),
        (["--out", "clip.bin"], "must end in .safetensors"),
    ],
)
def test_wrong_requests_are_named(arguments: list[str], message: str, foreign: Path) -> None:
    done = froster("inspect", foreign, *arguments)
    assert done.returncode == 2 and message in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_what_is_no_checkpoint_is_refused_as_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"<html>")
    with pytest.raises(WeightsError, match="is not a checkpoint"):
        inspect_checkpoint(tmp_path / "a.bin")
