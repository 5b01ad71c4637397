import statistics
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from froster import FrosterError, Recognizer, VideoError, inference
from froster.backbones.clip import Clip, ClipConfig
from froster.data.manifests import LabeledVideo, write_manifest
from froster.data.puppets import write_videos
from froster.errors import FrosterWarning
from froster.evaluation import evaluate, evaluate_scores, harmonic_mean
from froster.inference import ScoredVideos, load_clips, score_videos, video_scores
from froster.models import load_model
from froster.students import VideoFeatures, VideoStudent, build_student
from froster.video import VideoClips, load_video
from froster.video.transforms import Preprocessing

LABELS = ["juggling balls", "riding a bicycle", "climbing a ladder", "playing guitar", "standing up", "walking"]
NAMES = ["f", "e", "d", "c", "b", "a", "g"]
CLASSES = [torch.eye(32)[:9]]  # a vocabulary of nine classes


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> list[LabeledVideo]:
    folder = tmp_path_factory.mktemp("videos")
    write_videos(folder, LABELS, videos=1, frames=14, size=64, seed=900)
    return [LabeledVideo(folder / name.replace(" ", "-") / "900.mp4", name) for name in LABELS]


@pytest.fixture(params=["frame_clip", "vclip"])
def random_student(request: pytest.FixtureRequest) -> VideoStudent:
    return student(request.param)


def student(name: str, seed: int = 0) -> VideoStudent:
    torch.manual_seed(seed)
    return build_student(name, Clip(ClipConfig(32, 8, 64, 2, 1, 64, 2, 1, 32))).eval()


@pytest.mark.parametrize("classes", [2, 5, 6, 7])
def test_metrics_are_those_of_a_slow_count_with_ties_in_class_order(classes: int) -> None:
    draw = np.random.default_rng((3, classes))
    similarities = draw.integers(0, 6, (300, classes)) / 8  # many ties
    targets = draw.integers(0, classes - 1, 300)  # the last class has no clips
    result = evaluate_scores(torch.from_numpy(similarities).float(), torch.from_numpy(targets), NAMES[:classes])

    rankings = [sorted(range(classes), key=lambda k, row=row: (-row[k], k)) for row in similarities]
    hits = np.array([ranking[0] == target for ranking, target in zip(rankings, targets, strict=True)])
    five = np.array([target in ranking[:5] for ranking, target in zip(rankings, targets, strict=True)])
    assert result.clips == 300
    assert result.classes == classes
    assert result.top1 == hits.mean()
    assert result.top5 == (five.mean() if classes > 5 else None)
    accuracy = {NAMES[k]: hits[targets == k].mean() for k in range(classes - 1)}
    assert result.per_class == accuracy
    assert result.clips_per_class == {NAMES[k]: (targets == k).sum() for k in range(classes - 1)}
    assert list(result.per_class) == sorted(accuracy, key=lambda name: (accuracy[name], NAMES.index(name)))
    assert result.mean_class_accuracy == pytest.approx(np.mean(list(accuracy.values())), abs=1e-12)
    confused = [
        (NAMES[i], NAMES[j], sum(r[0] == j and t == i for r, t in zip(rankings, targets, strict=True)))
        for i in range(classes)
        for j in range(classes)
        if i != j
    ]
    assert result.confusions == sorted([c for c in confused if c[2]], key=lambda pair: -pair[2])


def test_all_equal_scores_are_right_only_for_the_first_classes() -> None:
    result = evaluate_scores(torch.zeros(7, 7), torch.arange(7), NAMES)
    assert result.top1 == 1 / 7
    assert result.top5 == 5 / 7
    assert result.per_class[NAMES[0]] == 1
    assert {predicted for _, predicted, _ in result.confusions} == {NAMES[0]}


def test_no_clips_and_broken_scores_are_errors() -> None:
    with pytest.raises(FrosterError, match="no clips"):
        evaluate_scores(torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64), NAMES[:3])
    with pytest.raises(FrosterError, match="not finite"):
        evaluate_scores(torch.tensor([[0.1, float("nan")]]), torch.tensor([0]), NAMES[:2])


def test_harmonic_mean_gives_the_published_numbers() -> None:
    published = [(77.8, 64.3, 70.4), (74.1, 58.0, 65.1), (95.3, 80.0, 87.0), (18.3, 12.2, 14.6)]  # FROSTER, Table 1
    for base, novel, mean in published:
        assert harmonic_mean(base, novel) == pytest.approx(mean, abs=0.05)
        assert harmonic_mean(base, novel) == pytest.approx(statistics.harmonic_mean([base, novel]))
    assert harmonic_mean(0.0, 0.0) == 0
    assert harmonic_mean(0.5, 0.0) == 0


def test_scores_are_those_of_the_recognizer(videos: list[LabeledVideo], random_student: VideoStudent) -> None:
    recognizer = Recognizer(random_student, LABELS, views=2, frames=5, device="cpu", precision="float32")
    loaded = load_clips(videos, frames=5, views=2, preprocess=Preprocessing(32))
    models = [(random_student, [recognizer.classes, recognizer.classes[:2]])]
    scored = score_videos(models, loaded, frames_per_batch=40)  # four videos together, then two
    ((scores, of_two),) = scored.scores
    assert scores.dtype == torch.float32
    assert scored.indices == list(range(6))
    torch.testing.assert_close(of_two, scores[:, :2], atol=1e-6, rtol=0)
    for video, row in zip(videos, scores, strict=True):
        expected = recognizer.predict(video.path).similarities
        assert dict(zip(LABELS, row.tolist(), strict=True)) == pytest.approx(expected, abs=1e-5)


def test_several_models_see_the_same_clips_decoded_once(videos: list[LabeledVideo]) -> None:
    models = [(student("vclip", seed), CLASSES) for seed in (1, 2)]
    both = score_videos(models, load_clips(videos, preprocess=Preprocessing(32)))
    for model, (scores,) in zip(models, both.scores, strict=True):
        ((alone,),) = score_videos([model], load_clips(videos, preprocess=Preprocessing(32)), frames_per_batch=1).scores
        torch.testing.assert_close(scores, alone, atol=1e-6, rtol=0)
    assert not torch.allclose(both.scores[0][0], both.scores[1][0])


def test_raw_frames_are_normalized(videos: list[LabeledVideo], random_student: VideoStudent) -> None:
    clips = load_video(videos[0].path, frames=4, views=2, preprocess=Preprocessing(32)).frames[None]
    mean = torch.tensor([0.48145466, 0.4578275, 0.40821073]).view(3, 1, 1)
    std = torch.tensor([0.26862954, 0.26130258, 0.27577711]).view(3, 1, 1)
    raw = ((clips * std + mean) * 255).round().to(torch.uint8)
    (expected,), (scores,) = (video_scores(random_student, frames, CLASSES) for frames in (clips, raw))
    torch.testing.assert_close(scores, expected, atol=1e-6, rtol=0)


def test_batches_shrink_to_the_memory(monkeypatch: pytest.MonkeyPatch, videos: list[LabeledVideo]) -> None:
    model = student("vclip")
    clips = torch.stack(
        [load_video(video.path, frames=4, views=2, preprocess=Preprocessing(32)).frames for video in videos]
    )
    (whole,) = video_scores(model, clips, CLASSES)
    encode, most = model.forward_features, 4

    def encode_or_fail(frames: Tensor) -> VideoFeatures:
        if len(frames) > most:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes")
        return encode(frames)

    monkeypatch.setattr(model, "forward_features", encode_or_fail)
    loaded = [(index, VideoClips(frames, np.zeros(0), np.zeros(0), None)) for index, frames in enumerate(clips)]
    ((scores,),) = score_videos([(model, CLASSES)], loaded).scores
    torch.testing.assert_close(scores, whole, atol=1e-6, rtol=0)
    most = 1
    with pytest.raises(FrosterError, match="Not enough memory for 2 views of 4 frames"):
        score_videos([(model, CLASSES)], loaded)


def test_other_faults_of_a_model_are_not_taken_for_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    model = student("vclip")
    monkeypatch.setattr(model, "forward_features", lambda frames: torch.zeros(1, 2) @ torch.zeros(3, 4))
    loaded = [(0, VideoClips(torch.zeros(1, 2, 3, 32, 32), np.zeros(0), np.zeros(0), None))]
    with pytest.raises(RuntimeError, match="shapes"):
        score_videos([(model, CLASSES)], loaded)


@pytest.mark.parametrize("workers", [1, 3])
def test_clips_come_in_order_and_few_are_decoded_ahead(
    videos: list[LabeledVideo], monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    started = []

    def counted(path: Path, **settings: object) -> VideoClips:
        started.append(path)
        return load_video(path, **settings)

    monkeypatch.setattr(inference, "load_video", counted)
    missing = LabeledVideo(Path("missing.mp4"), "walking")
    wanted = [*videos[:2], missing, *videos[2:]]
    loaded: Iterator[tuple[int, VideoClips | VideoError]] = load_clips(
        wanted, frames=4, preprocess=Preprocessing(32), workers=workers
    )
    first = next(loaded)
    assert len(started) <= workers + 1
    results = [first, *loaded]
    assert [index for index, _ in results] == list(range(7))
    for video, (_, clips) in zip(wanted, results, strict=True):
        if video is missing:
            assert isinstance(clips, VideoError)
            continue
        assert isinstance(clips, VideoClips)
        assert torch.equal(clips.frames, load_video(video.path, frames=4, views=3, preprocess=Preprocessing(32)).frames)


def test_segments_are_loaded_as_segments(videos: list[LabeledVideo]) -> None:
    path = videos[0].path  # 14 frames, 16 a second
    wanted = [
        LabeledVideo(path, "a", end=0.25),
        LabeledVideo(path, "b", start=0.25),
        LabeledVideo(path, "c", start=9),
    ]
    (_, first), (_, second), (_, outside) = load_clips(wanted, frames=2, views=1, preprocess=Preprocessing(32))
    assert isinstance(first, VideoClips) and isinstance(second, VideoClips)
    assert (first.indices.tolist(), second.indices.tolist()) == ([[1, 3]], [[6, 11]])
    assert torch.equal(second.frames, load_video(path, frames=2, preprocess=Preprocessing(32), start=0.25).frames)
    assert isinstance(outside, VideoError) and "the video is 0.88 s long" in str(outside)


def test_too_little_memory_costs_one_video(videos: list[LabeledVideo], monkeypatch: pytest.MonkeyPatch) -> None:
    def load_or_fail(path: Path, **settings: object) -> VideoClips:
        if path == videos[0].path:
            raise MemoryError
        return load_video(path, **settings)

    monkeypatch.setattr(inference, "load_video", load_or_fail)
    (_, failed), (_, clips) = load_clips(videos[:2], preprocess=Preprocessing(32))
    assert "not enough memory for 3 views of 8 frames" in str(failed)
    assert isinstance(clips, VideoClips)


def test_base_clips_are_compared_with_base_classes_and_novel_with_novel(
    videos: list[LabeledVideo], tmp_path: Path
) -> None:
    base, novel = LABELS[:3], [*LABELS[3:], "fishing"]
    damaged = tmp_path / "damaged.mp4"
    damaged.write_bytes(b"not a video")
    wanted = [videos[5], videos[0], LabeledVideo(damaged, "walking"), *videos[1:5]]
    steps: list[tuple[int, int]] = []
    report = evaluate(
        "puppets", wanted, base=base, novel=novel, precision="float32", progress=lambda *done: steps.append(done)
    )

    assert steps == [(done, 7) for done in range(1, 8)]
    for part, names in (("base", base), ("novel", novel)):
        recognizer = Recognizer("puppets", names, precision="float32")
        own = [video for video in videos if video.label in names]
        predicted = {video.label: recognizer.predict(video.path).label for video in own}
        result = report.parts[part]
        assert (result.clips, result.classes) == (3, len(names))
        assert result.per_class == {label: float(label == guess) for label, guess in predicted.items()}
        wrong = {(label, guess, 1) for label, guess in predicted.items() if label != guess}
        assert set(result.confusions) == wrong
    shares = [report.parts[part].top1 for part in ("base", "novel")]
    assert report.harmonic_mean == pytest.approx(statistics.harmonic_mean(shares))
    assert [video for video, _ in report.unreadable] == [str(damaged)]
    assert report.videos == 7
    assert report.settings.precision == "float32"


def test_partly_damaged_videos_are_counted_and_named(shared: Path) -> None:
    damaged = LabeledVideo(shared / "videos" / "corrupted.mp4", "walking")
    with pytest.warns(FrosterWarning, match=r"1 of 2 labels contain words unseen .*\(arm wrestling\)"):
        report = evaluate("puppets", [damaged], ["walking", "arm wrestling"])
    assert report.parts["all"].clips == 1
    assert report.harmonic_mean is None
    assert "harmonic_mean" not in report.to_json()
    ((video, reason),) = report.partial
    assert video == str(damaged.path)
    assert "28 of 50 frames" in reason


@pytest.mark.parametrize(
    ("base", "novel", "message"),
    [
        (LABELS[:3], LABELS[2:], "'climbing a ladder' is both base and novel"),
        (LABELS, ["fishing"], "no video of the novel classes"),
        (LABELS[:3], LABELS[3:5], "'walking'"),
    ],
)
def test_vocabularies_that_do_not_fit(
    videos: list[LabeledVideo], base: list[str], novel: list[str], message: str
) -> None:
    with pytest.raises(FrosterError, match=message):
        evaluate("puppets", videos, base=base, novel=novel)


def test_classes_that_are_given_in_two_ways(videos: list[LabeledVideo]) -> None:
    for wrong in ({"base": LABELS}, {"novel": LABELS}, {"labels": LABELS, "base": LABELS[:2], "novel": LABELS[2:]}):
        with pytest.raises(FrosterError, match="in one way: `labels`, or `base` together with `novel`"):
            evaluate("puppets", videos, **wrong)  # type: ignore[arg-type]
    with pytest.raises(FrosterError, match="`split` chooses rows of a manifest"):
        evaluate("puppets", videos, split="test")


def test_counts_below_one_and_nothing_readable(videos: list[LabeledVideo], tmp_path: Path) -> None:
    with pytest.raises(FrosterError, match="views and frames must be at least 1, not 0"):
        evaluate("puppets", videos, LABELS, views=0)
    missing = [LabeledVideo(Path("missing.mp4"), "walking")]
    write_manifest(tmp_path / "clips.csv", missing)
    with pytest.raises(FrosterError, match=r"clips.csv: no video can be read; the first of them: .*missing.mp4"):
        evaluate("puppets", tmp_path / "clips.csv", LABELS)
    with pytest.raises(FrosterError, match="no video of novel classes can be read"):
        evaluate("puppets", [*videos[:5], *missing], base=LABELS[:5], novel=["walking"])


def test_batches_are_the_same_whatever_can_be_read_and_wherever_it_is_scored(
    videos: list[LabeledVideo], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Batches of two: indices 0 and 1, 2 and 3, 4 and 5."""
    model, sizes = student("vclip"), list[int]()
    encode = model.forward_features
    monkeypatch.setattr(model, "forward_features", lambda frames: sizes.append(len(frames)) or encode(frames))
    missing = LabeledVideo(Path("missing.mp4"), "walking")
    wanted = [videos[0], missing, *videos[2:6]]
    options = {"frames": 4, "views": 2, "preprocess": Preprocessing(32)}
    whole = score_videos([(model, CLASSES)], load_clips(wanted, **options), frames_per_batch=16)
    assert sizes == [2, 4, 4]
    assert whole.indices == [0, 2, 3, 4, 5]
    parts = []
    for share in ([0, 1, 4, 5], [2, 3]):
        loaded = load_clips([wanted[index] for index in share], **options)
        with_indices = ((share[place], clips) for place, clips in loaded)
        parts.append(score_videos([(model, CLASSES)], with_indices, frames_per_batch=16))
    merged = ScoredVideos.merged(parts)
    assert torch.equal(merged.scores[0][0], whole.scores[0][0])
    assert (merged.indices, merged.unreadable, merged.partial) == (whole.indices, whole.unreadable, whole.partial)


def test_models_keep_their_precision_and_scores_stay_float32(videos: list[LabeledVideo]) -> None:
    model = load_model("puppets").to(torch.bfloat16)
    classes = [torch.nn.functional.normalize(torch.randn(5, model.config.embed_dim), dim=1)]
    ((scores,),) = score_videos([(model, classes)], load_clips(videos[:2], preprocess=Preprocessing(64))).scores
    ((exact,),) = score_videos(
        [(load_model("puppets"), classes)], load_clips(videos[:2], preprocess=Preprocessing(64))
    ).scores
    assert scores.dtype == torch.float32
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    torch.testing.assert_close(scores, exact, atol=0.02, rtol=0)
    assert not torch.equal(scores, exact)
