import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from froster import inference
from froster.data.manifests import LabeledVideo, read_manifest
from froster.errors import FrosterError
from froster.inference import Ensemble, Runtime, load_clips, video_scores
from froster.models import load_model
from froster.protocols import scores as module
from froster.protocols.scores import PAPER_SETTINGS, score_dataset, score_with_ensemble, scores_key
from froster.settings import InferenceSettings
from froster.tables.reproduce import TableSettings
from froster.text.classifier import encode_classes
from froster.text.labels import check_labels

SETTINGS = InferenceSettings(views=2, frames=4, sampling="uniform", precision="float32", workers=1)
LABELS = check_labels({"kicking": "", "running": ""})


def test_the_papers_settings() -> None:
    """Three views of 8 frames, sampled as the authors' code does, in float32; the default of tables too."""
    settings = InferenceSettings(views=3, frames=8, sampling="release", precision="float32")
    assert settings == PAPER_SETTINGS == TableSettings().test


def test_a_video_that_is_not_there_has_a_version_too(tmp_path: Path) -> None:
    assert module.version_of(tmp_path / "missing.mp4") == (0, 0)
    (tmp_path / "a.mp4").write_bytes(b"abc")
    os.utime(tmp_path / "a.mp4", ns=(0, 12345))
    assert module.version_of(tmp_path / "a.mp4") == (3, 12345)


@pytest.fixture
def videos(manifests: Path) -> list[LabeledVideo]:
    return read_manifest(manifests / "mine.csv", "test")[:5]


def test_scores_are_those_of_the_model_whatever_the_chunks(
    videos: list[LabeledVideo], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = [load_model("puppets"), load_model("puppets", "vclip")]
    monkeypatch.setattr(module, "CHUNK", 2)
    seen: list[tuple[int, int]] = []
    found = score_dataset(models, LABELS, videos, tmp_path, SETTINGS, lambda *done: seen.append(done))
    assert seen == [(number, 5) for number in range(1, 6)]
    for model, scores in zip(models, found, strict=True):
        loaded = load_clips(videos, frames=4, views=2, preprocess=model.preprocess, workers=1)
        clips = torch.stack([of_video.frames for _, of_video in loaded])  # type: ignore[union-attr]
        expected = video_scores(model, clips, [encode_classes(model, LABELS)])[0]
        torch.testing.assert_close(scores.values, expected, atol=1e-5, rtol=0)
        assert scores.videos == videos
        assert scores.labels == list(LABELS)


def test_what_is_scored_is_not_decoded_again(
    videos: list[LabeledVideo], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CHUNK", 2)
    model, decoded = load_model("puppets"), list[str]()
    real, patience = inference.load_clips, 9

    def counting(rows, **settings):  # type: ignore[no-untyped-def]
        if len(decoded) >= patience:
            raise KeyboardInterrupt
        decoded.extend(row.path.name for row in rows)
        return real(rows, **settings)

    monkeypatch.setattr(inference, "load_clips", counting)
    whole = score_dataset([model], LABELS, videos, tmp_path / "whole", SETTINGS)[0]
    assert len(decoded) == 5
    decoded.clear()
    patience = 2
    with pytest.raises(KeyboardInterrupt):  # in the second chunk: the first one is kept
        score_dataset([model], LABELS, videos, tmp_path / "stopped", SETTINGS)
    patience = 9
    decoded.clear()
    again = score_dataset([model], LABELS, videos, tmp_path / "stopped", SETTINGS)[0]
    assert decoded == [video.path.name for video in videos[2:]]
    assert torch.equal(again.values, whole.values)
    decoded.clear()
    score_dataset([model], LABELS, videos, tmp_path / "stopped", SETTINGS)
    assert decoded == []
    # Anything that changes the scores makes them anew.
    for labels, settings in (
        (check_labels({"kicking": "with a leg", "running": ""}), SETTINGS),
        (LABELS, replace(SETTINGS, views=1)),
    ):
        decoded.clear()
        score_dataset([model], labels, videos, tmp_path / "stopped", settings)
        assert len(decoded) == 5
    decoded.clear()
    os.utime(videos[0].path, ns=(0, 12345))
    score_dataset([model], LABELS, videos, tmp_path / "stopped", SETTINGS)
    assert len(decoded) == 5, "a video that changed"
    decoded.clear()
    with torch.no_grad():
        model.logit_scale += 1
    score_dataset([model], LABELS, videos, tmp_path / "stopped", SETTINGS)
    assert len(decoded) == 5


def test_unreadable_videos_have_no_row(videos: list[LabeledVideo], tmp_path: Path) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video")
    rows = [videos[0], LabeledVideo(broken, "running"), videos[1]]
    [scores] = score_dataset([load_model("puppets")], LABELS, rows, tmp_path, SETTINGS)
    assert scores.videos == [videos[0], videos[1]]
    assert [path for path, _ in scores.unreadable] == [str(broken)]
    with pytest.raises(FrosterError, match="None of the 1 videos can be read"):
        score_dataset([load_model("puppets")], LABELS, rows[1:2], tmp_path, SETTINGS)


def test_an_ensemble_sums_the_logits(videos: list[LabeledVideo], tmp_path: Path) -> None:
    model, clip = load_model("puppets", "vclip"), load_model("puppets")
    with torch.no_grad():
        model.logit_scale -= 1.0  # logits, not cosines, are summed: the scales must count
        for parameter in model.visual.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0))
    [own] = score_dataset([model], LABELS, videos, tmp_path, SETTINGS)
    [frozen] = score_dataset([clip], LABELS, videos, tmp_path, SETTINGS)
    assert not torch.allclose(own.values, frozen.values, atol=1e-3)
    before = sorted(tmp_path.rglob("*.safetensors"))
    for share in (0.5, 0.25):
        found = score_with_ensemble(model, LABELS, videos, tmp_path, SETTINGS, ensemble=Ensemble(clip, share))
        expected = (1 - share) * model.logit_scale.exp() * own.values + share * clip.logit_scale.exp() * frozen.values
        torch.testing.assert_close(found.values, expected.detach(), atol=1e-5, rtol=0)
        assert found.videos == own.videos
    assert sorted(tmp_path.rglob("*.safetensors")) == before, "both models' scores are kept, and shared"
    for share in (0.0, 1.0, -0.1):
        with pytest.raises(FrosterError, match="between 0 and 1"):
            Ensemble(clip, share)


def test_a_model_that_is_read_in_another_way_is_scored_again(videos: list[LabeledVideo]) -> None:
    """Weights, student and options alone do not decide the scores."""
    model = load_model("puppets")
    key = scores_key([Runtime(model, SETTINGS)], LABELS, videos, SETTINGS)
    assert scores_key([Runtime(load_model("puppets"), SETTINGS)], LABELS, videos, SETTINGS) == key
    for change in ({"activation": "gelu"}, {"resize_mode": "squash"}, {"image_mean": (0.5, 0.5, 0.5)}):
        other = load_model("puppets")
        other.config = replace(model.config, **change)
        assert scores_key([Runtime(other, SETTINGS)], LABELS, videos, SETTINGS) != key
    for attribute, value in (("temporal_pooling", "features"), ("prompt_style", "templates")):
        other = load_model("puppets")
        setattr(other, attribute, value)
        assert scores_key([Runtime(other, SETTINGS)], LABELS, videos, SETTINGS) != key
