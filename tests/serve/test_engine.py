import threading
from collections.abc import Generator, Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

from froster.inference import Runtime
from froster.models import load_model
from froster.serve.engine import Engine, StepsJob, VideoJob, encode_labels
from froster.serve.errors import RequestError
from froster.serve.service import load_models
from froster.serve.settings import ServeSettings
from froster.settings import InferenceSettings
from froster.students.base import VideoFeatures
from froster.text.classes import ClassText, ClassTexts
from froster.text.classifier import encode_classes
from froster.video.transforms import Preprocessing

LABELS = ClassText("walking"), ClassText("bowing", "bending forward"), ClassText("crawling")


@pytest.fixture(scope="module")
def runtime() -> Runtime:
    return Runtime("puppets", InferenceSettings(precision="float32"))


@pytest.fixture
def batches() -> list[int]:
    return []


@pytest.fixture
def engine(runtime: Runtime, batches: list[int]) -> Iterator[Engine]:
    engine = Engine({"puppets": runtime, "other": runtime}, 4, batches.append)
    yield engine
    engine.stop()
    if engine.thread.is_alive():
        engine.join(10)
        assert not engine.thread.is_alive()


def clip(seed: int, views: int = 1) -> Tensor:
    return torch.from_numpy(np.random.default_rng((seed, 0)).integers(0, 256, (views, 2, 3, 64, 64), np.uint8))


def test_what_waits_goes_through_together(engine: Engine, runtime: Runtime, batches: list[int]) -> None:
    """Videos of other lengths and label sets too; each gets what it would get alone."""
    asked = [(seed, 1 + seed % 3, LABELS[seed % 2 : 2 + seed % 2]) for seed in range(10)]
    jobs = [VideoJob("puppets", clip(seed, views), labels) for seed, views, labels in asked]
    jobs.insert(5, VideoJob("other", clip(99), LABELS))
    for job in jobs:
        engine.submit(job)
    engine.start()
    found = [job.done.result(20) for job in jobs]
    assert sorted(batches) == [1, 2, 4, 4]
    del found[5]
    for (seed, views, labels), scores in zip(asked, found, strict=True):
        classes = encode_classes(runtime.model, ClassTexts(labels))
        with torch.no_grad():
            video_features = runtime.model.forward_features(Preprocessing().normalize(clip(seed, views)))
            expected = runtime.model.similarities(video_features, classes).mean(dim=0)
        np.testing.assert_allclose(scores.similarities, expected, atol=1e-5)
        np.testing.assert_allclose(scores.scores, runtime.score_head.scores(expected), atol=1e-3)
        np.testing.assert_allclose(scores.classes, classes, atol=1e-5)


def test_models_keep_the_templates_they_were_trained_with() -> None:
    templates = ("a drawing of {}.",)
    models = load_models(ServeSettings(precision="float32", templates={"puppets": templates}))
    rows = encode_labels(models["puppets"], LABELS)
    student = load_model("puppets")
    expected = encode_classes(student, ClassTexts(LABELS), templates)
    np.testing.assert_allclose(torch.stack([rows[label].features for label in LABELS]), expected, atol=1e-5)
    usual = encode_classes(student, ClassTexts(LABELS))
    assert (usual - expected).abs().max() > 0.01


def test_labels_are_encoded_once(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    kicking, fishing = ClassText("kicking"), ClassText("fishing", "with a rod")
    walking, bowing, crawling = LABELS
    encoded: list[ClassText] = []

    def counted(runtime: Runtime, labels: list[ClassText]) -> object:
        encoded.extend(labels)
        return encode_labels(runtime, labels)

    monkeypatch.setattr("froster.serve.engine.encode_labels", counted)
    monkeypatch.setattr("froster.serve.engine.MAX_CACHED_LABELS", 4)
    engine.start()
    for labels in (LABELS, LABELS[::-1], (bowing, kicking, fishing), (walking, bowing)):
        engine.submit(VideoJob("puppets", clip(0), labels)).result(20)
    assert len(encoded) == 5 and set(encoded) == {*LABELS, kicking, fishing}
    # The four that were used last; crawling was forgotten for fishing.
    assert list(engine.kept["puppets"]) == [kicking, fishing, walking, bowing]
    engine.submit(VideoJob("puppets", clip(0), (crawling,))).result(20)
    assert encoded.count(crawling) == 2
    other = ClassText("crawling", "on all fours")  # another row: its prompts are others
    engine.submit(VideoJob("puppets", clip(0), (other,))).result(20)
    assert encoded.count(other) == 1


def test_more_labels_than_are_kept(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("froster.serve.engine.MAX_CACHED_LABELS", 2)
    monkeypatch.setattr("froster.serve.engine.PROMPTS_PER_STEP", 1)
    jobs = [VideoJob("puppets", clip(seed), labels) for seed, labels in enumerate((LABELS, LABELS[::-1]))]
    for job in jobs:
        engine.submit(job)
    engine.start()
    assert [len(job.done.result(20).scores) for job in jobs] == [3, 3]
    assert len(engine.kept["puppets"]) == 2


def test_one_that_fails_does_not_fail_others(engine: Engine, batches: list[int]) -> None:
    jobs = [VideoJob("puppets", clip(seed), LABELS) for seed in range(4)]
    jobs[2].clips = jobs[2].clips[:, :, :, :50]  # no model takes such pictures
    for job in jobs:
        engine.submit(job)
    engine.start()
    assert all(job.done.result(20).scores for job in jobs if job is not jobs[2])
    with pytest.raises(RequestError) as error:
        jobs[2].done.result(20)
    assert (error.value.status, error.value.code) == (500, "internal")


def test_batches_that_do_not_fit_in_memory_are_halved(
    engine: Engine, batches: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = engine.runtimes["puppets"].model
    forward_features = model.forward_features
    limit = 2

    def small(frames: Tensor) -> VideoFeatures:
        if len(frames) > limit:
            raise torch.OutOfMemoryError("out of memory")
        return forward_features(frames)

    monkeypatch.setattr(model, "forward_features", small)
    jobs = [VideoJob("puppets", clip(seed), LABELS) for seed in range(4)]
    jobs.append(VideoJob("puppets", clip(9, views=3), LABELS))
    for job in jobs:
        engine.submit(job)
    engine.start()
    assert all(len(job.done.result(20).scores) == 3 for job in jobs[:4])
    assert batches == [2, 2]
    with pytest.raises(RequestError) as error:
        jobs[4].done.result(20)
    assert (error.value.status, error.value.code) == (503, "out_of_memory")


def test_cancelled_jobs_cost_nothing(engine: Engine, batches: list[int]) -> None:
    runs, closed = threading.Event(), threading.Event()

    def endless() -> Generator[None, None, None]:
        try:
            while True:
                runs.set()
                yield
        finally:
            closed.set()

    steps = StepsJob(endless())
    videos = [VideoJob("puppets", clip(seed), LABELS) for seed in range(3)]
    for job in (steps, *videos):
        engine.submit(job)
    videos[0].done.cancel()
    videos[2].done.cancel()
    engine.start()
    videos[1].done.result(20)
    assert batches == [1]
    assert runs.wait(10) and not closed.is_set()
    steps.done.cancel()
    assert closed.wait(10)


def test_stop_finishes_the_step_that_runs(engine: Engine) -> None:
    runs, goes_on = threading.Event(), threading.Event()

    def slow() -> Generator[None, None, str]:
        runs.set()
        assert goes_on.wait(10)
        return "done"
        yield

    first, second = StepsJob(slow()), StepsJob(slow())
    engine.submit(first)
    engine.submit(second)
    engine.start()
    assert runs.wait(10)
    engine.stop()
    for job in (VideoJob("puppets", clip(0), LABELS), StepsJob(slow())):
        with pytest.raises(RequestError, match="shutting down"):
            engine.submit(job)
    goes_on.set()
    assert first.done.result(10) == "done"
    with pytest.raises(RequestError) as error:
        second.done.result(10)
    assert (error.value.status, error.value.code) == (503, "shutting_down")
