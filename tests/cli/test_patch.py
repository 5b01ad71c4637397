import json
import shutil
from pathlib import Path

import pytest

from froster import load_model
from froster.checkpoints.checkpoint import BackboneSource
from froster.checkpoints.own import backbone_digest, save_checkpoint
from froster.cli.patch import patch
from froster.data.trained import TrainedVideos
from froster.errors import FrosterError
from froster.models import puppets_weights
from froster.provenance import stored_provenance
from froster.text.labels import check_labels

TRAINED = TrainedVideos(("clips.csv",), frozenset({b"a hash"}))
LABELS = {"walking": "", "bowing": "a bend from the hips"}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run's folder with weights that differ from CLIP's in one tensor."""
    model = load_model("puppets", "vclip")
    model.logit_scale.data += 1
    model.trained_on = TRAINED
    save_checkpoint(model, tmp_path / "run" / "model.safetensors", labels=json.dumps(LABELS))
    return tmp_path / "run"


def test_labels_and_training_videos_of_the_run_are_kept(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "patched.safetensors"
    patch("puppets", run, 0.25, out)
    own = load_model("puppets").logit_scale.item()
    assert load_model(out).logit_scale.item() == pytest.approx(own + 0.75)
    assert (stored_provenance(out).labels, stored_provenance(out).trained_on) == (check_labels(LABELS), TRAINED)


def test_inputs_are_not_overwritten(run: Path, tmp_path: Path) -> None:
    clip = tmp_path / "clip.safetensors"
    shutil.copy(puppets_weights(), clip)
    for out in (clip, run / "model.safetensors"):
        before = out.read_bytes()
        with pytest.raises(FrosterError, match="is one of the input checkpoints"):
            patch(str(clip), run, 0.5, out)
        assert out.read_bytes() == before


@pytest.mark.parametrize(("name", "message"), [("run", "is a folder"), ("patched.pt", r"must end in \.safetensors")])
def test_other_outputs_are_refused(run: Path, tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(FrosterError, match=message):
        patch("puppets", run, 0.5, tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_adapters_are_nothing_to_patch(tmp_path: Path) -> None:
    model = load_model("puppets", "adaptformer")
    model.backbone_source = BackboneSource("puppets", backbone_digest(model.state_dict(), model.config))
    save_checkpoint(model, tmp_path / "adapters.safetensors")
    with pytest.raises(FrosterError, match="has only adapters and a frozen CLIP"):
        patch("puppets", tmp_path / "adapters.safetensors", 0.5, tmp_path / "patched.safetensors")
