from pathlib import Path

import pytest
import torch

import froster
from froster.checkpoints.own import save_checkpoint
from froster.cli.average import average
from froster.cli.patch import patch
from froster.errors import FrosterError
from froster.students import VideoStudent


@pytest.fixture
def epochs(tmp_path: Path) -> Path:
    """A folder with the checkpoints of two epochs."""
    model = froster.load_model("puppets", "vclip")
    for number in (1, 2):
        for parameter in model.parameters():
            parameter.data.mul_(1.25)
        model.labels = {"walking": "", "bowing": ""}
        save_checkpoint(model, tmp_path / "epochs" / f"epoch-{number}.safetensors")
    return tmp_path / "epochs"


def equal(one: VideoStudent, other: VideoStudent) -> bool:
    states = one.state_dict(), other.state_dict()
    return states[0].keys() == states[1].keys() and all(torch.equal(states[1][k], v) for k, v in states[0].items())


def test_an_average_is_the_mean_and_what_the_command_writes(epochs: Path, tmp_path: Path) -> None:
    mean = froster.average_models([epochs])
    first, second = (froster.load_model(epochs / f"epoch-{number}.safetensors") for number in (1, 2))
    torch.testing.assert_close(mean.visual.proj, (first.visual.proj + second.visual.proj) / 2)
    assert mean.labels is not None and list(mean.labels) == ["walking", "bowing"]
    average([epochs], tmp_path / "mean.safetensors")
    assert equal(froster.load_model(tmp_path / "mean.safetensors"), mean)
    froster.save_model(mean, tmp_path / "saved.safetensors")
    assert equal(froster.load_model(tmp_path / "saved.safetensors"), mean)


def test_patching_interpolates_and_is_what_the_command_writes(epochs: Path, tmp_path: Path) -> None:
    student = epochs / "epoch-2.safetensors"
    patched = froster.patch_model(student, "puppets", 0.25)
    clip, tuned = froster.load_model("puppets").visual.proj, froster.load_model(student).visual.proj
    torch.testing.assert_close(patched.visual.proj, 0.25 * clip + 0.75 * tuned)
    patch("puppets", student, 0.25, tmp_path / "patched.safetensors")
    assert equal(froster.load_model(tmp_path / "patched.safetensors"), patched)


def test_wrong_arguments_are_value_errors(epochs: Path) -> None:
    with pytest.raises(ValueError, match="There is no checkpoint; give several"):
        froster.average_models([])
    with pytest.raises(FrosterError, match=r"only one checkpoint, .*epoch-1\.safetensors"):
        froster.average_models([epochs / "epoch-1.safetensors"])
    with pytest.raises(ValueError, match="from 0 to 1, not 2"):
        froster.patch_model(epochs / "epoch-1.safetensors", "puppets", 2)
