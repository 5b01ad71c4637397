"""The engine: one thread that owns the models, batches videos across clients, and runs long jobs in small steps."""

import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from froster.errors import FrosterError, WeightsError, is_out_of_memory
from froster.inference import Runtime
from froster.scoring import check_finite
from froster.serve.errors import RequestError, bad_request, internal, log, shutting_down
from froster.students.base import VideoFeatures
from froster.text.classes import ClassText, ClassTexts
from froster.text.classifier import (
    count_truncated,
    encode_and_count_truncated,
    encode_tokens,
    prompts_per_class,
    token_ids,
    unknown_labels,
)
from froster.text.prompts import class_prompts

PROMPTS_PER_STEP = 256  # about a second for ViT-B/16 on two cores, the delay of videos by another client's new labels
MAX_CACHED_LABELS = 8192  # class embeddings per model, 16 MB for ViT-B/16
THREADS = "froster-serve-"  # prefix of all worker threads' names


@dataclass(frozen=True)
class Scores:
    """A model's scores for one video.

    `similarities`, `scores`: `(K,)`, cosine with every label and what the score head makes of it. `classes`: the class
    matrix `(K, …)` on the model's device. `truncated`: number of truncated prompts. `unknown`: labels with words unseen
    in pretraining.
    """

    similarities: list[float]
    scores: list[float]
    classes: Tensor
    truncated: int
    unknown: list[str]


class Row(NamedTuple):
    """A label's class embedding `(…)`, number of truncated prompts, and whether it has unseen words."""

    features: Tensor
    truncated: int
    is_unknown: bool


@dataclass(eq=False)
class VideoJob:
    """One video of V views, `(V, T, 3, S, S)` as `Runtime.encode` takes them; its future returns `Scores`, or, without
    labels, the embedding `(D,)`."""

    model: str
    clips: Tensor
    labels: tuple[ClassText, ...]
    done: Future[Any] = field(default_factory=Future)
    video_features: VideoFeatures | None = None
    rows: dict[ClassText, Row] = field(default_factory=dict)


@dataclass(eq=False)
class StepsJob:
    """Work that runs step by step, interleaved with other clients' work; its future gives the result."""

    steps: Generator[None, None, Any]
    done: Future[Any] = field(default_factory=Future)


class Engine:
    """Runs jobs on the models in its own thread, between `start` and `stop`.

    A job whose future is cancelled is dropped at the next step. `batched` is called with the size of every batch of
    videos.
    """

    def __init__(self, runtimes: dict[str, Runtime], batch: int, batched: Callable[[int], None]) -> None:
        self.runtimes, self.batch, self.batched = runtimes, batch, batched
        self.kept: dict[str, OrderedDict[ClassText, Row]] = {name: OrderedDict() for name in runtimes}
        self.changed = threading.Condition()
        self.arrived: deque[VideoJob | StepsJob] = deque()
        self.stopping = False
        self.videos: deque[VideoJob] = deque()
        self.observed: deque[VideoJob] = deque()
        self.steps: deque[StepsJob] = deque()
        self.thread = threading.Thread(target=self._run, name=f"{THREADS}engine", daemon=True)

    def start(self) -> None:
        self.thread.start()

    def submit(self, job: VideoJob | StepsJob) -> Future[Any]:
        """Queue a job. Raises `RequestError` if the engine is stopping."""
        with self.changed:
            if self.stopping:
                raise shutting_down()
            self.arrived.append(job)
            self.changed.notify()
        return job.done

    def stop(self) -> None:
        """Finish the current step, and fail waiting jobs with `shutting_down`; returns at once."""
        with self.changed:
            self.stopping = True
            self.changed.notify()

    def join(self, seconds: float) -> None:
        """Wait for the current step."""
        self.thread.join(seconds)

    def _run(self) -> None:
        while self._take_arrived():
            self._drop_cancelled()
            if self.videos:
                self._observe(self._next_batch())
            self._answer_complete()
            if self.observed:
                self._encode_some(self.observed.popleft())
            if self.steps:
                self._step(self.steps.popleft())
        for job in (*self.videos, *self.observed, *self.steps, *self.arrived):
            fail(job, shutting_down())

    def _take_arrived(self) -> bool:
        with self.changed:
            while not (self.stopping or self.arrived or self.videos or self.observed or self.steps):
                self.changed.wait()
            while self.arrived and not self.stopping:
                job = self.arrived.popleft()
                if isinstance(job, VideoJob):
                    self.videos.append(job)
                else:
                    self.steps.append(job)
            return not self.stopping

    def _drop_cancelled(self) -> None:
        self.videos = deque(job for job in self.videos if not job.done.cancelled())
        self.observed = deque(job for job in self.observed if not job.done.cancelled())
        for job in [job for job in self.steps if job.done.cancelled()]:
            self.steps.remove(job)
            job.steps.close()

    def _next_batch(self) -> list[VideoJob]:
        """A batch: the oldest video, and others for the same model."""
        model = self.videos[0].model
        jobs = [job for job in self.videos if job.model == model][: self.batch]
        self.videos = deque(job for job in self.videos if job not in jobs)
        return jobs

    def _observe(self, jobs: list[VideoJob]) -> None:
        try:
            observations = self._video_features(jobs)
        except Exception as error:
            if len(jobs) == 1:
                fail(jobs[0], in_words(error))
                return
        else:
            self.batched(len(jobs))
            for job, video_features in zip(jobs, observations, strict=True):
                job.video_features = video_features
                self.observed.append(job)
            return
        # Outside of the handler, which keeps the failed attempt's memory. One by one, so that only the culprit fails.
        self._observe(jobs[: len(jobs) // 2])
        self._observe(jobs[len(jobs) // 2 :])

    @torch.inference_mode()
    def _video_features(self, jobs: list[VideoJob]) -> list[VideoFeatures]:
        runtime = self.runtimes[jobs[0].model]
        whole = runtime.encode(torch.cat([job.clips for job in jobs]))
        counts = [len(job.clips) for job in jobs]
        contexts = [None] * len(jobs) if whole.context is None else whole.context.split(counts)
        return [VideoFeatures(*parts) for parts in zip(whole.frame_embeddings.split(counts), contexts, strict=True)]

    def _answer_complete(self) -> None:
        """Answer the videos whose labels are all encoded."""
        waiting = list(self.observed)
        self.observed.clear()
        for job in waiting:
            try:
                if self._missing(job):
                    self.observed.append(job)
                else:
                    give(job, self._score(job) if job.labels else self._feature(job))
            except Exception as error:
                fail(job, in_words(error))

    def _missing(self, job: VideoJob) -> list[ClassText]:
        """The labels of a job that are not cached."""
        kept = self.kept[job.model]
        for label in job.labels:
            if label not in job.rows and label in kept:
                kept.move_to_end(label)
                job.rows[label] = kept[label]
        return [label for label in job.labels if label not in job.rows]

    def _encode_some(self, job: VideoJob) -> None:
        """Encode a chunk of a job's missing labels, and queue it again."""
        runtime, kept = self.runtimes[job.model], self.kept[job.model]
        try:
            some = self._missing(job)[: max(1, PROMPTS_PER_STEP // prompts_per_class(runtime.model, runtime.templates))]
            for label, row in encode_labels(runtime, some).items():
                job.rows[label] = kept[label] = row
        except Exception as error:
            fail(job, in_words(error))
            return
        while len(kept) > MAX_CACHED_LABELS:
            kept.popitem(last=False)
        self.observed.append(job)

    @torch.inference_mode()
    def _score(self, job: VideoJob) -> Scores:
        runtime = self.runtimes[job.model]
        classes = torch.stack([job.rows[label].features for label in job.labels])
        assert job.video_features is not None
        similarities = runtime.similarities(job.video_features, classes, len(job.clips))[0]
        scores = runtime.score_head.scores(similarities)
        truncated = sum(job.rows[label].truncated for label in job.labels)
        unknown = [label.name for label in job.labels if job.rows[label].is_unknown]
        return Scores(similarities.tolist(), scores.tolist(), classes, truncated, unknown)

    @torch.inference_mode()
    def _feature(self, job: VideoJob) -> list[float]:
        assert job.video_features is not None
        frames = F.normalize(with_finite_norms(job.video_features.frame_embeddings), dim=-1)
        return F.normalize(frames.mean(dim=(0, 1)), dim=-1).tolist()

    def _step(self, job: StepsJob) -> None:
        try:
            next(job.steps)
        except StopIteration as end:
            give(job, end.value)
        except Exception as error:
            fail(job, in_words(error))
        else:
            self.steps.append(job)


def encode_labels(runtime: Runtime, labels: Sequence[ClassText]) -> dict[ClassText, Row]:
    """Class embeddings, as by `froster.text.classifier.encode_classes`."""
    model = runtime.model
    classes, truncated = encode_and_count_truncated(model, ClassTexts(labels), runtime.templates)
    unknown = unknown_labels(model, [label.name for label in labels])
    return {
        label: Row(features, count_truncated_prompts(runtime, label) if truncated else 0, label.name in unknown)
        for label, features in zip(labels, classes.to(runtime.device), strict=True)
    }


def count_truncated_prompts(runtime: Runtime, label: ClassText) -> int:
    prompts = class_prompts(label, runtime.templates, runtime.model.prompt_style)
    return count_truncated(runtime.model, prompts, token_ids(runtime.model, prompts))


def text_steps(runtime: Runtime, texts: Sequence[str]) -> Generator[None, None, list[list[float]]]:
    """Normalized embeddings of texts, without templates: N texts -> N lists of D."""
    features: list[list[float]] = []
    model = runtime.model
    for start in range(0, len(texts), PROMPTS_PER_STEP):
        some = texts[start : start + PROMPTS_PER_STEP]
        tokens = token_ids(model, some)
        encoded = model.unconditional_class_embeddings(encode_tokens(model, tokens).to(runtime.device))
        features += F.normalize(with_finite_norms(encoded), dim=-1).tolist()
        yield
    return features


def with_finite_norms(features: Tensor) -> Tensor:
    """Features `(…, D)` in float32. Raises `WeightsError` where a norm is not finite: cosines would be wrong."""
    features = features.float()
    check_finite(features.norm(dim=-1))
    return features


def in_words(error: Exception) -> RequestError:
    """The error for the client; unexpected ones are logged."""
    if isinstance(error, RequestError):
        return error
    if is_out_of_memory(error):
        return RequestError(503, "out_of_memory", "Not enough memory for this request; try again later.", 10)
    if isinstance(error, WeightsError):
        return RequestError(500, "bad_weights", str(error))
    if isinstance(error, FrosterError):
        return bad_request(str(error))
    log.error("A request failed.", exc_info=error)
    return internal()


def give(job: VideoJob | StepsJob, result: object) -> None:
    with suppress(InvalidStateError):  # the client has disconnected
        job.done.set_result(result)


def fail(job: VideoJob | StepsJob, error: RequestError) -> None:
    with suppress(InvalidStateError):
        job.done.set_exception(error)
