import json
import shutil
from pathlib import Path

import pytest
import torch

from froster import load_model
from froster.checkpoints.checkpoint import BackboneSource
from froster.checkpoints.own import backbone_digest, save_checkpoint
from froster.cli.average import average
from froster.errors import FrosterError
from froster.provenance import stored_provenance
from froster.text.labels import check_labels

LABELS = {"walking": "", "bowing": "a bend from the hips"}


@pytest.fixture
def epochs(tmp_path: Path) -> Path:
    """A folder with two checkpoints, which differ in one tensor, and other files."""
    folder = tmp_path / "epochs"
    folder.mkdir()
    model = load_model("puppets", "vclip")
    for number in (2, 1):
        model.logit_scale.data.fill_(number)
        save_checkpoint(model, folder / f"epoch-{number}.safetensors", labels=json.dumps(LABELS))
    (folder / ".epoch-3.0a0a.partial.safetensors").write_text("half")
    (folder / "notes.txt").write_text("notes")
    return folder


def test_a_folder_is_all_its_checkpoints_and_labels_are_kept(epochs: Path, tmp_path: Path) -> None:
    out = tmp_path / "mean.safetensors"
    average([epochs], out)
    mean = load_model(out)
    assert mean.logit_scale.item() == pytest.approx(1.5)
    assert torch.equal(mean.visual.proj, load_model(epochs / "epoch-1.safetensors").visual.proj)
    assert stored_provenance(out).labels == check_labels(LABELS)

    third = tmp_path / "third.safetensors"
    mean.logit_scale.data.fill_(6)
    save_checkpoint(mean, third, labels=json.dumps({"walking": ""}))
    average([epochs, third], out)
    assert load_model(out).logit_scale.item() == pytest.approx(3)
    assert stored_provenance(out).labels is None


def test_one_checkpoint_has_nothing_to_average_with(epochs: Path, tmp_path: Path) -> None:
    (epochs / "epoch-1.safetensors").unlink()
    for one in (epochs, epochs / "epoch-2.safetensors"):
        with pytest.raises(FrosterError, match=r"only one checkpoint, .*epoch-2\.safetensors; give several"):
            average([one], tmp_path / "mean.safetensors")
    assert not (tmp_path / "mean.safetensors").exists()


def test_networks_of_two_kinds_are_named(epochs: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.safetensors"
    save_checkpoint(load_model("puppets", "adaptformer"), other)
    with pytest.raises(FrosterError, match=r"other\.safetensors holds adaptformer, .*epoch-1.* holds vclip:window=1"):
        average([epochs, other], tmp_path / "mean.safetensors")


def test_inputs_are_not_overwritten(epochs: Path) -> None:
    out = epochs / "epoch-2.safetensors"
    before = out.read_bytes()
    with pytest.raises(FrosterError, match=r"epoch-2\.safetensors is one of the input checkpoints"):
        average([epochs], out)
    assert out.read_bytes() == before


@pytest.mark.parametrize(("name", "message"), [("epochs", "is a folder"), ("mean.pt", r"must end in \.safetensors")])
def test_other_outputs_are_refused_before_the_work(tmp_path: Path, epochs: Path, name: str, message: str) -> None:
    with pytest.raises(FrosterError, match=message):
        average([epochs], tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ["epochs"]


def test_adapters_of_different_clips_become_a_whole_checkpoint(tmp_path: Path) -> None:
    adapters, whole = load_model("puppets", "adaptformer", seed=0), load_model("puppets", "adaptformer", seed=1)
    adapters.backbone_source = BackboneSource("puppets", backbone_digest(adapters.state_dict(), adapters.config))
    whole.visual.proj.data += 1
    paths = [tmp_path / "adapters.safetensors", tmp_path / "whole.safetensors"]
    for student, path in zip((adapters, whole), paths, strict=True):
        save_checkpoint(student, path)
    assert paths[0].stat().st_size < 0.1 * paths[1].stat().st_size
    for number, order in enumerate((paths, paths[::-1])):
        average(order, tmp_path / f"{number}.safetensors")
        mean = load_model(tmp_path / f"{number}.safetensors").state_dict()
        for key, value in mean.items():
            torch.testing.assert_close(value, (adapters.state_dict()[key] + whole.state_dict()[key]) / 2)
    average([paths[0], shutil.copy(paths[0], tmp_path / "copy.safetensors")], tmp_path / "small.safetensors")
    assert (tmp_path / "small.safetensors").stat().st_size < 2 * paths[0].stat().st_size
