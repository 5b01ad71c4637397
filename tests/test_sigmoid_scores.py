"""Independent scores: every label has a probability of its own, the sigmoid of scaled cosine plus bias."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from commands import froster
from froster.checkpoints.own import save_checkpoint
from froster.data.manifests import LabeledVideo
from froster.data.puppets import draw_video
from froster.data.puppets.files import write_mp4
from froster.errors import FrosterError
from froster.evaluation import evaluate
from froster.explanation.video import explain
from froster.inference import Ensemble
from froster.models import load_model
from froster.recognizer import Prediction, Recognizer
from froster.scoring import ScoreHead
from froster.students import VideoStudent
from froster.students.frame_clip import FrameClip
from froster.timeline import score_timeline
from siglip_files import new_siglip

LABELS = ["running", "brushing teeth", "fencing"]


def new_student(bias: float = 0.0, temperature: float = 10.0) -> FrameClip:
    student = FrameClip(new_siglip())
    with torch.no_grad():
        student.logit_scale.fill_(np.log(temperature))
        assert student.logit_bias is not None
        student.logit_bias.fill_(bias)
    return student


@pytest.fixture(scope="module")
def video() -> NDArray[np.uint8]:
    return draw_video(0, 3, 8, 64)


@pytest.fixture(scope="module")
def file(video: NDArray[np.uint8], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("video") / "puppet.mp4"
    write_mp4(path, video, 8)
    return path


def recognizer(student: VideoStudent, **others: object) -> Recognizer:
    return Recognizer(student, LABELS, device="cpu", precision="float32", **others)  # type: ignore[arg-type]


def test_scores_are_the_sigmoid_of_scaled_cosine_plus_bias(video: NDArray[np.uint8]) -> None:
    prediction = recognizer(new_student(-2.0)).predict(video)
    for label, score in prediction.ranked:
        expected = 1 / (1 + np.exp(2.0 - 10 * prediction.similarities[label]))
        assert score == pytest.approx(expected, rel=1e-5)
    assert prediction.independent
    assert [label for label, _ in prediction.ranked] == sorted(LABELS, key=lambda name: -prediction.similarities[name])


def test_none_one_or_several_labels_may_be_likely(video: NDArray[np.uint8]) -> None:
    cosines = recognizer(new_student()).predict(video).similarities
    first, second, third = sorted(cosines.values(), reverse=True)
    assert first - second > 1e-4 and second - third > 1e-4
    for bias, shown in ((-first - 1, 0), (-(first + second) / 2, 1), (-(second + third) / 2, 2), (-third + 1, 3)):
        prediction = recognizer(new_student(bias, temperature=1.0)).predict(video)
        names = [name for name, _ in prediction.ranked]
        assert prediction.labels == names[:shown] and prediction.label == (names[0] if shown else None)


def test_a_threshold_is_of_similarities() -> None:
    ranked, cosines = [("a", 0.9), ("b", 0.4)], {"a": 0.3, "b": 0.2}
    assert Prediction("", ranked, cosines, threshold=0.1, independent=True).labels == ["a", "b"]
    assert Prediction("", ranked, cosines, threshold=0.25, independent=True).labels == ["a"]
    assert Prediction("", ranked, cosines, threshold=0.35, independent=True).label is None
    assert Prediction("", ranked, cosines, threshold=0.1).labels == ["a"]
    assert Prediction("", ranked, cosines).labels == ["a"]


@pytest.mark.filterwarnings("error")
def test_a_single_label_has_a_score(video: NDArray[np.uint8]) -> None:
    one = Recognizer(new_student(-4.0), ["running"], device="cpu", precision="float32").predict(video)
    assert 0 < one.ranked[0][1] < 1 and one.label is None


def test_saturated_scores_are_ranked_by_similarity(video: NDArray[np.uint8]) -> None:
    prediction = recognizer(new_student(200.0)).predict(video)
    assert [score for _, score in prediction.ranked] == [1, 1, 1]
    assert [label for label, _ in prediction.ranked] == sorted(LABELS, key=lambda name: -prediction.similarities[name])


def test_an_ensemble_sums_logits_with_their_biases(video: NDArray[np.uint8]) -> None:
    one, other = new_student(-2.0), new_student(-5.0, temperature=30.0)
    with torch.no_grad():
        other.visual.conv1.weight.mul_(1.5)
    own, second = (recognizer(student).predict(video).similarities for student in (one, other))
    for label, score in recognizer(one, ensemble=Ensemble(other, 0.3)).predict(video).ranked:
        logit = 0.7 * (10 * own[label] - 2) + 0.3 * (30 * second[label] - 5)
        assert score == pytest.approx(1 / (1 + np.exp(-logit)), rel=1e-4)


def test_an_ensemble_is_of_one_kind_of_scores() -> None:
    from froster.backbones.clip import Clip, ClipConfig

    square = {"image_mean": (0.5,) * 3, "image_std": (0.5,) * 3, "resize_mode": "squash", "interpolation": "bilinear"}
    clip = FrameClip(Clip(ClipConfig(34, 17, 64, 1, 1, 64, 1, 1, 32, **square)))  # type: ignore[arg-type]
    with pytest.raises(FrosterError, match="both have softmax scores, or both sigmoid scores"):
        recognizer(new_student(), ensemble=Ensemble(clip))


def test_evaluation_and_timeline(file: Path) -> None:
    student = new_student(-1.0)
    found = recognizer(student).predict(file)
    report = evaluate(student, [LabeledVideo(file, found.ranked[0][0])], LABELS, device="cpu", precision="float32")
    assert report.parts["all"].top1 == 1
    for window in score_timeline(recognizer(student), file, window=0.5, stride=0.5):
        expected = 1 / (1 + np.exp(1 - 10 * window.similarities))
        np.testing.assert_allclose(window.scores, expected, rtol=1e-5)


def test_an_explanation_is_of_the_labels_own_logit(file: Path) -> None:
    student, one = new_student(-1.0), recognizer(new_student(-1.0), views=1, frames=4)
    alone = explain(student, file, "fencing", ["fencing"], kind="gradient", frames=4)
    among = explain(student, file, "fencing", LABELS, kind="gradient", frames=4)
    np.testing.assert_allclose(alone.looks[0].maps, among.looks[0].maps, atol=1e-5)
    assert alone.looks[0].score == among.looks[0].score == f"{100 * dict(one.predict(file).ranked)['fencing']:.1f} %"


def test_the_command_says_none_of_these(file: Path, tmp_path: Path) -> None:
    save_checkpoint(new_student(-20.0), tmp_path / "unlikely.safetensors")
    save_checkpoint(new_student(20.0), tmp_path / "likely.safetensors")
    words = ["predict", file, "--labels", ",".join(LABELS), "--json", "--model"]
    unlikely, likely = (
        json.loads(froster(*words, tmp_path / f"{name}.safetensors").stdout) for name in ("unlikely", "likely")
    )
    assert unlikely["labels"] == [] and max(row["score"] for row in unlikely["predictions"]) < 0.01
    assert sorted(likely["labels"]) == sorted(LABELS)


def test_a_saved_student_keeps_its_scores(video: NDArray[np.uint8], tmp_path: Path) -> None:
    student = new_student(-3.0)
    save_checkpoint(student, tmp_path / "student.safetensors")
    loaded = load_model(tmp_path / "student.safetensors")
    assert ScoreHead.of(loaded) == ScoreHead.of(student) == ScoreHead(pytest.approx(10), -3.0, "sigmoid")
    assert recognizer(loaded).predict(video).ranked == recognizer(student).predict(video).ranked
