import json
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import safetensors.torch
import torch

from froster.checkpoints.own import FORMAT, save_checkpoint
from froster.data.manifests import read_manifest, write_manifest
from froster.data.puppets import write_videos
from froster.data.trained import TrainedVideos
from froster.errors import FrosterError, FrosterWarning, WeightsError
from froster.evaluation import evaluate
from froster.models import load_model
from froster.provenance import ClipSampling, Provenance, common_provenance, stored_provenance
from froster.recognizer import Recognizer
from froster.text.labels import check_labels

LABELS = {"walking": "", "bowing": "a bend from the hips"}


def stored(path: Path, form: str = FORMAT, **metadata: str) -> Path:
    safetensors.torch.save_file({"a": torch.zeros(1)}, path, {"format": form, **metadata})
    return path


def test_a_checkpoint_carries_labels_templates_and_sampling(tmp_path: Path) -> None:
    model = load_model("puppets")
    model.labels, model.templates = LABELS, ("a drawing of {}.",)
    model.clip_sampling = ClipSampling(frames=4, views=2, sampling="release")
    save_checkpoint(model, tmp_path / "run" / "model.safetensors")
    loaded = load_model(tmp_path / "run")
    assert (loaded.labels, loaded.templates, loaded.clip_sampling) == (
        check_labels(LABELS),
        ("a drawing of {}.",),
        ClipSampling(4, 2, "release"),
    )
    recognizer = Recognizer(tmp_path / "run", device="cpu", precision="float32")
    given = Recognizer(
        "puppets", LABELS, templates=["a drawing of {}."], views=2, frames=4, device="cpu", precision="float32"
    )
    assert recognizer.labels == check_labels(LABELS)
    torch.testing.assert_close(recognizer.classes, given.classes, atol=1e-6, rtol=0)


def test_a_model_that_says_nothing_needs_labels() -> None:
    with pytest.raises(FrosterError, match="puppets does not know which labels it was trained on"):
        Recognizer("puppets")


def test_labels_are_read_from_our_files_alone(tmp_path: Path) -> None:
    assert stored_provenance(stored(tmp_path / "a.safetensors", labels=json.dumps(LABELS))).labels == check_labels(
        LABELS
    )
    assert stored_provenance(stored(tmp_path / "b.safetensors")).labels is None
    assert stored_provenance(stored(tmp_path / "c.safetensors", form="pt", labels="cats and dogs")).labels is None
    torch.save({"a": torch.zeros(1)}, tmp_path / "d.pt")
    assert stored_provenance(tmp_path / "d.pt") == stored_provenance("vit-b-16") == Provenance()


@pytest.mark.parametrize(
    ("entry", "value"),
    [
        ("labels", "{"),
        ("labels", "7"),
        ("labels", "[" * 100_000),
        ("templates", '"a {}"'),
        ("templates", "[1]"),
        ("templates", '["no placeholder"]'),
        ("clip_sampling", '{"frames": 0}'),
        ("clip_sampling", '{"frames": 1e9}'),
        ("clip_sampling", '{"frames": 1000000, "views": 3}'),
        ("clip_sampling", '{"sampling": "bogus"}'),
        ("clip_sampling", '{"bogus": 1}'),
        ("clip_sampling", "[]"),
        ("trained_on", "7"),
        ("trained_on", '{"manifests": [], "files": "AAAA", "segments": {}}'),
        ("trained_on", '{"manifests": [], "files": "", "segments": {"AAAAAAAA": [[1]]}}'),
    ],
)
def test_damaged_metadata_is_named(tmp_path: Path, entry: str, value: str) -> None:
    path = stored(tmp_path / "e.safetensors", **{entry: value})
    with pytest.raises(WeightsError, match=rf"e\.safetensors is a damaged froster checkpoint: its {entry} cannot"):
        stored_provenance(path)


def test_a_checkpoint_knows_its_training_videos_and_says_so_where_they_are_tested(tmp_path: Path) -> None:
    manifest = write_videos(tmp_path / "clips", ["bowing", "walking"], videos=2, frames=8, size=64)
    rows = read_manifest(manifest)
    model = load_model("puppets")
    model.trained_on = TrainedVideos.of(rows[:3], manifest)
    save_checkpoint(model, tmp_path / "run" / "model.safetensors")
    assert load_model(tmp_path / "run").trained_on == model.trained_on
    moved = [replace(row, path=row.path.rename(tmp_path / f"{number}.mp4")) for number, row in enumerate(rows)]
    write_manifest(tmp_path / "test.csv", moved)
    settings = {"views": 1, "frames": 2, "device": "cpu", "precision": "float32"}
    with pytest.warns(
        FrosterWarning, match=r"test\.csv: 3 of 4 tested videos \(75 %\) are among the model's training videos"
    ):
        report = evaluate(tmp_path / "run", tmp_path / "test.csv", **settings)
    assert report.to_json()["trained_videos"] == {"videos": 3, "share": 0.75, "manifests": [str(manifest)]}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        report = evaluate(tmp_path / "run", moved[3:], LABELS, **settings)
        assert report.to_json()["trained_videos"]["videos"] == 0
        untrained = evaluate("puppets", moved, **settings)
    assert untrained.to_json()["trained_videos"] is None


def test_checkpoints_made_of_others_keep_what_all_agree_on() -> None:
    labels, sampling = check_labels(LABELS), ClipSampling()
    first, other = Provenance(labels, ("a {}",), sampling), Provenance(check_labels(["walking"]), ("a {}",), sampling)
    assert common_provenance([first, Provenance(None, ("a {}",), ClipSampling())]).labels == labels
    assert common_provenance([first, other]).labels is None
    with pytest.warns(FrosterWarning, match="different templates; those of the first are kept"):
        assert common_provenance([first, Provenance(labels, ("the {}",), ClipSampling())]).templates == ("a {}",)
    trained = [TrainedVideos(("a.csv",), frozenset({name})) for name in (b"first.", b"second")]
    of_both = [replace(first, trained_on=of) for of in (*trained, None)]
    assert common_provenance(of_both).trained_on == trained[0] | trained[1]
