import math
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from froster import FrosterError, Prediction, Recognizer, VideoError, WeightsError, load_model, score_timeline
from froster.backbones.clip import Clip, ClipConfig
from froster.data.manifests import LabeledVideo
from froster.data.puppets import ACTIONS, write_videos
from froster.errors import FrosterWarning
from froster.evaluation import evaluate
from froster.explanation.video import explain_video
from froster.inference import Ensemble, Runtime
from froster.settings import InferenceSettings
from froster.students import VideoFeatures, VideoStudent, build_student
from froster.text.classifier import encode_classes
from froster.video import decode_frames, load_video
from froster.video.transforms import Preprocessing
from goldens import GoldenFile

LABELS = ["juggling balls", "riding a bicycle", "climbing a ladder", "playing guitar"]


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("videos")
    write_videos(folder, LABELS, videos=1, frames=20, size=64, seed=123_456_789)
    return [folder / name.replace(" ", "-") / "123456789.mp4" for name in LABELS]


@pytest.fixture
def random_student() -> VideoStudent:
    torch.manual_seed(0)
    return build_student("vclip", Clip(ClipConfig(32, 8, 64, 2, 1, 64, 2, 1, 32))).eval()


def test_small_model_recognizes_puppets(videos: list[Path]) -> None:
    recognizer = Recognizer("puppets", LABELS)
    for video, label in zip(videos, LABELS, strict=True):
        prediction = recognizer.predict(video)
        assert prediction.label == label
        assert prediction.video == str(video)
        assert prediction.warning is None


def test_scores_are_the_softmax_of_the_mean_logits_of_views_and_frames(
    videos: list[Path], random_student: VideoStudent
) -> None:
    recognizer = Recognizer(random_student, LABELS, views=2, frames=5, precision="float32", device="cpu")
    prediction = recognizer.predict(videos[0])
    clips = load_video(videos[0], frames=5, views=2, preprocess=Preprocessing(32)).frames
    with torch.no_grad():
        features = F.normalize(random_student.encode_video(clips), dim=-1)
        classes = encode_classes(random_student, dict.fromkeys(LABELS, ""))
        cosines = (features @ classes.T).mean(dim=(0, 1))
        scores = (random_student.logit_scale.exp() * cosines).softmax(dim=0)
    assert dict(prediction.ranked) == pytest.approx(dict(zip(LABELS, scores.tolist(), strict=True)), abs=1e-6)
    assert prediction.similarities == pytest.approx(dict(zip(LABELS, cosines.tolist(), strict=True)), abs=1e-6)
    assert sum(dict(prediction.ranked).values()) == pytest.approx(1)
    ranks = [score for _, score in prediction.ranked]
    assert ranks == sorted(ranks, reverse=True)


def test_many_videos_in_order_and_a_bad_one_does_not_stop_the_others(
    videos: list[Path], random_student: VideoStudent, tmp_path: Path
) -> None:
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(b"not a video at all")
    recognizer = Recognizer(random_student, LABELS, views=1)
    paths = [*videos[:2], bad, *videos[2:]]
    results = list(recognizer.predict_many(paths))
    assert [video for video, _ in results] == [str(path) for path in paths]
    assert [type(result) for _, result in results] == [
        Prediction,
        Prediction,
        VideoError,
        Prediction,
        Prediction,
    ]
    assert results[0][1] == recognizer.predict(videos[0])


def test_too_little_memory_costs_one_video_not_the_batch(
    videos: list[Path], random_student: VideoStudent, monkeypatch: pytest.MonkeyPatch
) -> None:
    recognizer = Recognizer(random_student, LABELS, precision="float32")
    encode, failures = recognizer.runtime.encode, iter([True])

    def encode_or_fail(clips: Tensor) -> VideoFeatures:
        if next(failures, False):
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes")
        return encode(clips)

    monkeypatch.setattr(recognizer.runtime, "encode", encode_or_fail)
    results = dict(recognizer.predict_many(videos))
    assert "not enough memory for 3 views of 8 frames" in str(results[str(videos[0])])
    assert isinstance(results[str(videos[1])], Prediction)


def test_model_with_another_vocabulary_is_refused(golden_file: GoldenFile) -> None:
    with pytest.raises(FrosterError, match="its own vocabulary of 512 tokens"):
        Recognizer(golden_file("student_vclip.pyth"), LABELS)


def test_one_path_where_many_are_expected_and_wrong_types(videos: list[Path], random_student: VideoStudent) -> None:
    recognizer = Recognizer(random_student, LABELS)
    assert [video for video, _ in recognizer.predict_many(str(videos[0]))] == [str(videos[0])]
    with pytest.raises(FrosterError, match="not list"):
        recognizer.predict([])


def test_frames_in_memory_are_as_good_as_a_file(videos: list[Path], random_student: VideoStudent) -> None:
    recognizer = Recognizer(random_student, LABELS, precision="float32")
    from_file = recognizer.predict(videos[0])
    from_memory = recognizer.predict(decode_frames(videos[0]).frames)
    assert from_memory == replace(from_file, video="")
    for wrong in (np.zeros((3, 8, 8), np.uint8), np.zeros((2, 8, 8, 3), np.float32), np.zeros((0, 8, 8, 3), np.uint8)):
        with pytest.raises(FrosterError, match=r"must be \(N, H, W, 3\) uint8"):
            recognizer.predict(wrong)


def test_descriptions_change_the_classes(random_student: VideoStudent) -> None:
    plain = Recognizer(random_student, LABELS, precision="float32")
    labels = {**dict.fromkeys(LABELS, ""), "juggling balls": "keeping several balls in the air at once"}
    described = Recognizer(random_student, labels, precision="float32")
    moved = (plain.classes - described.classes).abs().amax(dim=1)
    assert moved[0] > 1e-4
    assert moved[1:].max() < 1e-6


def test_the_callers_model_stays_as_it_is(random_student: VideoStudent) -> None:
    before = random_student.state_dict()
    Recognizer(random_student, LABELS, precision="bfloat16")
    assert all(torch.equal(before[key], value) for key, value in random_student.state_dict().items())
    assert {p.dtype for p in random_student.parameters()} == {torch.float32}


def test_temperature_is_not_rounded_with_the_weights(random_student: VideoStudent) -> None:
    random_student.logit_scale.data = torch.tensor(100.0).log()
    runtime = Recognizer(random_student, LABELS, precision="bfloat16").runtime
    assert runtime.score_head.temperature == pytest.approx(100, rel=1e-6)


def test_vocabulary_by_name(random_student: VideoStudent) -> None:
    assert list(Recognizer(random_student, "puppets").labels) == list(ACTIONS)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": []}, "No action names"),
        ({"labels": ["a", "a"]}, "given twice"),
        ({"views": 0}, "at least 1"),
        ({"labels": [1, 2]}, "must be text"),
        ({"labels": {"a": ""}, "sampling": "bogus"}, "no sampling 'bogus'; choose from uniform, release"),
        ({"temporal_pooling": "bogus"}, "choose from logits, features"),
        ({"device": "warp"}, "device 'warp' cannot be used"),
        ({"precision": "float8"}, "no precision 'float8'"),
    ],
)
def test_wrong_arguments(random_student: VideoStudent, change: dict[str, object], message: str) -> None:
    with pytest.raises(FrosterError, match=message):
        Recognizer(random_student, **{"labels": LABELS, **change})


def test_labels_that_the_small_model_cannot_know_are_named() -> None:
    with pytest.warns(FrosterWarning, match=r"1 of 2 labels contain words unseen .*\(arm wrestling\)"):
        Recognizer("puppets", ["arm wrestling", "juggling balls"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Recognizer("puppets", "puppets")


def test_an_untrained_network_of_random_parts_is_named_and_answers_the_same_twice() -> None:
    clips = np.random.default_rng(0).integers(0, 256, (8, 64, 64, 3), dtype=np.uint8)
    predictions = []
    for _ in range(2):
        with pytest.warns(FrosterWarning, match=r"^VPT is not trained: it has randomly initialized .* Train it first"):
            recognizer = Recognizer(load_model("puppets", "vpt", seed=0), ["running", "fishing"])
        predictions.append(recognizer.predict(clips).similarities)
    assert predictions[0] == predictions[1]


def test_small_model_is_a_clip_of_the_original_architecture() -> None:
    model = load_model("puppets")
    parameters = sum(p.numel() for name, p in model.named_parameters() if "token_embedding" not in name)
    assert 2e6 < parameters < 4e6
    assert model.config.vocab_size == 49408
    assert model.config.activation == "quick_gelu"
    assert np.isfinite(model.logit_scale.item())


def test_a_video_is_encoded_once_for_any_number_of_label_sets(
    videos: list[Path], random_student: VideoStudent, monkeypatch: pytest.MonkeyPatch
) -> None:
    recognizer = Recognizer(random_student, LABELS, precision="float32")
    others = ["swimming", "juggling"]
    expected = Recognizer(random_student, others, precision="float32").predict(videos[0])
    encode, encoded = recognizer.runtime.encode, list[int]()
    monkeypatch.setattr(recognizer.runtime, "encode", lambda clips: encoded.append(len(clips)) or encode(clips))
    video = recognizer.encode(videos[0])
    assert recognizer.rank(video, others) == expected
    assert recognizer.rank(video).similarities.keys() == dict.fromkeys(LABELS).keys()
    assert encoded == [3]


def test_recognizers_share_a_runtime(videos: list[Path], random_student: VideoStudent) -> None:
    runtime = Runtime(random_student, InferenceSettings(views=1, precision="float32"))
    first, second = Recognizer(runtime, LABELS), Recognizer(runtime, ["swimming", "juggling"])
    assert first.model is second.model is runtime.model
    alone = Recognizer(random_student, LABELS, views=1, precision="float32").predict(videos[0])
    assert first.rank(second.encode(videos[0])) == alone


def overflowing_features(student: VideoStudent) -> None:
    student.visual.proj.data *= 1e38


def overflowing_norms(student: VideoStudent) -> None:
    student.visual.proj.data *= 1e25


def overflowing_texts(student: VideoStudent) -> None:
    student.text.get_parameter("text_projection").data *= 1e38


def overflowing_scale(student: VideoStudent) -> None:
    student.logit_scale.data.fill_(1000.0)


@pytest.mark.parametrize("huge", [overflowing_features, overflowing_norms, overflowing_texts, overflowing_scale])
def test_finite_weights_that_overflow_are_refused_with_one_sentence(
    videos: list[Path], random_student: VideoStudent, tmp_path: Path, huge: Callable[[VideoStudent], None]
) -> None:
    huge(random_student)
    assert all(value.isfinite().all() for value in random_student.state_dict().values())
    refused = pytest.raises(WeightsError, match=r"^The model's scores are not finite numbers: its weights are damaged")
    manifest = [LabeledVideo(videos[0], LABELS[0])]

    def recognizer() -> Recognizer:
        return Recognizer(random_student, LABELS, precision="float32", device="cpu")

    with refused:
        recognizer().predict(videos[0])
    with refused:
        list(recognizer().predict_many(videos))
    with refused:
        list(score_timeline(recognizer(), videos[0]))
    with refused:
        explain_video(videos[0], LABELS[0], {"model": recognizer()}, "gradient")
    with refused:
        explain_video(videos[0], LABELS[0], {"model": recognizer()}, "attention")
    with refused:
        evaluate(random_student, manifest, LABELS, device="cpu", precision="float32")


def test_none_of_these(videos: list[Path], random_student: VideoStudent) -> None:
    recognizer = Recognizer("puppets", LABELS)
    prediction = recognizer.predict(videos[0])
    best = max(prediction.similarities.values())
    assert prediction.threshold is None
    assert recognizer.predict(videos[0], threshold=best - 1e-3).label == LABELS[0]
    unnamed = recognizer.predict(videos[0], threshold=best + 1e-3)
    assert unnamed.label is None
    assert unnamed.ranked == prediction.ranked
    ((_, many),) = recognizer.predict_many(videos[0], threshold=best + 1e-3)
    assert many == unnamed
    for wrong in (math.nan, math.inf, -math.inf):
        with pytest.raises(FrosterError, match="must be a finite cosine similarity"):
            recognizer.predict(videos[0], threshold=wrong)


def test_threshold_from_negatives(videos: list[Path], tmp_path: Path) -> None:
    recognizer = Recognizer("puppets", LABELS[:2])
    negatives = videos[2:]
    best = sorted(max(recognizer.predict(video).similarities.values()) for video in negatives)
    assert recognizer.calibrate_threshold(negatives, false_positive_rate=0) == pytest.approx(best[1], abs=1e-6)
    assert recognizer.calibrate_threshold(negatives, false_positive_rate=0.5) == pytest.approx(best[0], abs=1e-6)
    with pytest.warns(FrosterWarning, match=r"give 2 videos; for a rate of 0.05 at least 20 are needed"):
        threshold = recognizer.calibrate_threshold(negatives)
    results = dict(recognizer.predict_many(videos, threshold=threshold))
    labels = [result.label for result in results.values() if isinstance(result, Prediction)]
    assert labels == [LABELS[0], LABELS[1], None, None]
    with pytest.warns(FrosterWarning, match=r"it is skipped"):
        assert recognizer.calibrate_threshold([*negatives, tmp_path / "none.mp4"], false_positive_rate=0.5) == best[0]
    with pytest.warns(FrosterWarning), pytest.raises(FrosterError, match="None of the negatives can be read"):
        recognizer.calibrate_threshold([tmp_path / "none.mp4"])
    with pytest.raises(FrosterError, match="false positive rate must be from 0 to below 1, not 2"):
        recognizer.calibrate_threshold(negatives, false_positive_rate=2)


def test_one_label_is_said_once_where_it_is_ranked_without_a_threshold(
    videos: list[Path], random_student: VideoStudent
) -> None:
    with warnings.catch_warnings(action="error"):
        recognizer = Recognizer(random_student, ["walking"], views=1, frames=2)
        recognizer.predict(videos[0], threshold=0.1)
        list(score_timeline(recognizer, videos[0]))
        explain_video(videos[0], "walking", {"model": recognizer})
    with pytest.warns(FrosterWarning, match="There is one label, 'walking', so its score is 1") as caught:
        recognizer.predict(videos[0])
    assert len(caught) == 1
    assert caught[0].filename == __file__
    with pytest.warns(FrosterWarning, match="There is one label") as caught:
        list(recognizer.predict_many(videos))
    assert len(caught) == 1


def test_an_ensemble_sums_the_logits_of_both_models(videos: list[Path]) -> None:
    """FROSTER Fig. 1: each model alone on the same clips, its cosines times its own temperature, summed by shares."""
    student, clip = load_model("puppets", "vclip"), load_model("puppets")
    with torch.no_grad():
        student.logit_scale -= 1.0
        student.visual.proj += 0.02 * torch.randn(student.visual.proj.shape, generator=torch.Generator().manual_seed(0))
    labels, settings = ["kicking", "running", "fishing"], {"views": 2, "frames": 4, "precision": "float32"}
    own, frozen = (Recognizer(model, labels, **settings).predict(videos[0]) for model in (student, clip))  # type: ignore[arg-type]
    for share in (0.5, 0.2):
        both = Recognizer(student, labels, ensemble=Ensemble(clip, share), **settings)  # type: ignore[arg-type]
        found = both.predict(videos[0])
        logits = torch.tensor(
            [
                (1 - share) * student.logit_scale.exp().item() * own.similarities[label]
                + share * clip.logit_scale.exp().item() * frozen.similarities[label]
                for label in labels
            ]
        )
        expected = dict(zip(labels, logits.softmax(dim=0).tolist(), strict=True))
        assert dict(found.ranked) == pytest.approx(expected, abs=1e-5)
        assert dict(both.rank(both.encode(videos[0]), labels[:2]).ranked) == pytest.approx(
            dict(zip(labels[:2], logits[:2].softmax(dim=0).tolist(), strict=True)), abs=1e-5
        )
        rows = [LabeledVideo(path, label) for path, label in zip(videos, labels, strict=False)]
        report = evaluate(student, rows, labels, ensemble=Ensemble(clip, share), **settings)  # type: ignore[arg-type]
        right = [both.predict(row.path).label == row.label for row in rows]
        assert report.parts["all"].top1 == sum(right) / len(right)
        assert report.settings.ensemble == {"model": clip.title, "share": share}
    assert Ensemble.parse("vit-b-16=0.3") == Ensemble("vit-b-16", 0.3)
    assert Ensemble.parse("runs/a") == Ensemble("runs/a", 0.5)
    for wrong, message in (("a=b", "MODEL=SHARE"), ("=0.5", "MODEL=SHARE"), ("a=1", "between 0 and 1")):
        with pytest.raises(FrosterError, match=message):
            Ensemble.parse(wrong)


def test_descriptions_that_the_prompts_leave_out_are_warned_of() -> None:
    model = load_model("puppets")
    model.prompt_style = "templates"
    with pytest.warns(FrosterWarning, match="descriptions are not used: this model was trained with templates alone"):
        Recognizer(model, {"walking": "moving on foot", "bowing": ""}, device="cpu", precision="float32")
