"""Request handling: decode, recognize, embed, with a bounded queue."""

import asyncio
import math
import time
from collections.abc import AsyncIterator, Collection, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from threading import Event
from typing import Any, TypeVar

import numpy as np
from fastapi import FastAPI, Request
from numpy.typing import NDArray

from froster.errors import FrosterError, did_you_mean
from froster.inference import Runtime
from froster.scoring import LIKELY
from froster.serve.engine import THREADS, Engine, Scores, StepsJob, VideoJob, text_steps
from froster.serve.errors import RequestError, bad_request, busy, shutting_down
from froster.serve.extras import attention_steps, timeline_steps
from froster.serve.metrics import Metrics
from froster.serve.options import TextRequest, check_texts, read_options
from froster.serve.samples import sample_file
from froster.serve.settings import ServeSettings
from froster.serve.uploads import Arrivals, Body, Form, read_form, upload_folder
from froster.serve.videos import Loaded, Video, allowed_path, data_url
from froster.text.classifier import unknown_labels_message
from froster.text.labels import one_label_message

DECODERS = 2
SHUTDOWN_SECONDS = 5  # for running work when the server is stopped
TYPICAL_SECONDS = 1.0  # estimate for the first request
BODIES_PER_PLACE = 4  # concurrently arriving bodies per place in the queue

Result = TypeVar("Result")


class Service:
    """State shared by all requests: models, engine, decoder pool, queue and metrics."""

    def __init__(self, settings: ServeSettings) -> None:
        self.settings = settings
        self.metrics = Metrics()
        self.models = load_models(settings)
        self.engine = Engine(self.models, settings.batch, self.metrics.batches.observe)
        self.decoders = ThreadPoolExecutor(DECODERS, f"{THREADS}decoder")
        # Decoded videos wait in memory, others as files: only as many as keep the engine busy.
        self.ahead = asyncio.Semaphore(2 * settings.batch)
        self.closing = asyncio.Event()
        self.loop: asyncio.AbstractEventLoop | None = None
        self.arrivals = Arrivals(BODIES_PER_PLACE * settings.queue, settings.queue * settings.max_upload)
        self.admitted = 0
        self.metrics.queue.set_function(lambda: self.admitted)
        self.metrics.arriving.set_function(lambda: len(self.arrivals.bodies))
        self.typical_seconds = TYPICAL_SECONDS
        self.folder = Path()

    @asynccontextmanager
    async def running(self, _: FastAPI) -> AsyncIterator[None]:
        self.loop = asyncio.get_running_loop()
        with upload_folder() as self.folder:
            self.engine.start()
            try:
                yield
            finally:
                self.close()
                self.decoders.shutdown(wait=False, cancel_futures=True)
                self.engine.join(SHUTDOWN_SECONDS)

    def close(self) -> None:
        """Reject new and waiting requests, finish running ones. Safe in a signal handler's thread."""
        self.engine.stop()
        if self.loop is not None and not self.loop.is_closed():
            self.loop.call_soon_threadsafe(self.closing.set)

    def check_queue(self) -> None:
        """Raises `RequestError` if the queue is full or the server is stopping."""
        if self.closing.is_set():
            raise shutting_down()
        if self.admitted >= self.settings.queue:
            raise busy("The server is busy", min(60, max(1, math.ceil(self.typical_seconds))))

    @contextmanager
    def place_in_queue(self) -> Iterator[None]:
        """A place in the queue for a complete request. Raises `RequestError` if it is full."""
        self.check_queue()
        self.admitted += 1
        begin = time.monotonic()
        try:
            yield
        finally:
            self.admitted -= 1
            self.typical_seconds += 0.1 * (time.monotonic() - begin - self.typical_seconds)

    async def body(self, request: Request, limit: int) -> Body:
        """The unread body of a request. Raises `RequestError` for a query string, or if the queue is full."""
        body = Body(request, self.closing, limit)
        try:
            if request.url.query:  # fields sent there would be silently ignored
                raise bad_request("Send everything in the body: this address takes no query.")
            self.check_queue()
        except RequestError:
            await body.discard()
            raise
        return body

    @asynccontextmanager
    async def form(self, request: Request, fields: Collection[str]) -> AsyncIterator[Form]:
        """A request's form, with a place in the queue. Raises `RequestError`."""
        body = await self.body(request, self.settings.max_upload)
        async with read_form(request, body, self.folder, self.arrivals, fields) as form:
            with self.place_in_queue():
                yield form

    def model(self, name: str | None) -> str:
        """The name of a loaded model. Raises `RequestError`."""
        if not name:
            return next(iter(self.models))
        if name not in self.models:
            raise RequestError(404, "unknown_model", f"There is no model {name!r}; {did_you_mean(name, self.models)}")
        return name

    def video(self, form: Form) -> Video:
        """The video of a form: uploaded, a path, or a sample. Raises `RequestError`."""
        path, sample = form.fields.get("path"), form.fields.get("sample")
        if (form.file is not None) + bool(path) + bool(sample) != 1:
            raise bad_request("Send one video: a file, a path or the name of a sample.")
        if form.file is not None:
            return Video(form.file, "The video")
        if path:
            return allowed_path(path, self.settings.folder)
        return Video(sample_file(sample or "", ".mp4"), f"The sample {sample}")

    async def load(self, form: Form, model: str, images: bool = False) -> tuple[Video, Loaded]:
        """Decode the video of a form for a model, in the pool."""
        if self.closing.is_set():
            raise shutting_down()
        runtime, left = self.models[model], Event()

        def work() -> tuple[Video, Loaded]:
            video = self.video(form)  # a sample may have to be rendered
            return video, video.load(
                runtime.clip_sampling,
                runtime.model.preprocess,
                images=images,
                max_seconds=self.settings.max_seconds,
                cancelled=left.is_set,
            )

        try:
            loaded = await asyncio.wrap_future(self.decoders.submit(work))
        finally:
            left.set()
        self.metrics.decoded.inc()
        return loaded

    async def recognize(self, form: Form) -> dict[str, Any]:
        begin = time.monotonic()
        model = self.model(form.fields.get("model"))
        options = read_options(form.fields, self.settings.max_labels, self.models[model].model.labels)
        runtime = self.models[model]
        async with self.ahead:
            video, loaded = await self.load(form, model, options.frames or options.explain is not None)
            scores: Scores = await done(
                self.engine.submit(VideoJob(model, loaded.clips, tuple(options.labels.values())))
            )
        labels = list(options.labels)
        order = sorted(range(len(labels)), key=lambda i: -scores.similarities[i])
        independent = runtime.score_head.is_independent
        alone = None if independent else one_label_message(options.labels)
        answer: dict[str, Any] = {
            "model": model,
            "label": labels[order[0]],
            "ranked": [
                {"label": labels[i], "score": scores.scores[i], "similarity": scores.similarities[i]}
                for i in order[: options.top]
            ],
            "warning": warning(scores, [options.assumed, alone], loaded.warning),
        }
        if independent:
            answer["labels"] = [labels[i] for i in order if scores.scores[i] >= LIKELY]
        if options.frames:
            answer["frames"] = await asyncio.to_thread(timed_images, loaded.times, loaded.images)
        if options.explain:
            seen = await done(
                self.engine.submit(
                    StepsJob(attention_steps(runtime, loaded, options.explain, scores.classes, order[0]))
                )
            )
            answer["attention"] = await asyncio.to_thread(timed_images, loaded.times, seen)
        if options.timeline:
            answer["timeline"] = await done(
                self.engine.submit(StepsJob(timeline_steps(runtime, video, options, scores.classes)))
            )
        answer["seconds"] = time.monotonic() - begin
        return answer

    async def embed_video(self, form: Form) -> dict[str, Any]:
        model = self.model(form.fields.get("model"))
        async with self.ahead:
            _, loaded = await self.load(form, model)
            features = await done(self.engine.submit(VideoJob(model, loaded.clips, ())))
        return {"model": model, "features": features, "frames": loaded.clips.shape[0] * loaded.clips.shape[1]}

    async def embed_text(self, wanted: TextRequest) -> dict[str, Any]:
        model = self.model(wanted.model)
        if len(wanted.texts) > self.settings.max_labels:
            raise RequestError(422, "too_many_labels", f"Send at most {self.settings.max_labels} texts at a time.")
        check_texts(wanted.texts)
        steps = text_steps(self.models[model], wanted.texts)
        return {"model": model, "features": await done(self.engine.submit(StepsJob(steps)))}


def load_models(settings: ServeSettings) -> dict[str, Runtime]:
    """Public name -> model path; names do not reveal folders. Raises `FrosterError` for duplicates."""
    models = {}
    for path in settings.models:
        name = public_name(path)
        if name in models:
            raise FrosterError(f"Two models are called {name!r}; rename the file or the folder of one.")
        models[name] = Runtime(path, settings.inference(path))
    return models


def public_name(model: str) -> str:
    path = Path(model)
    if len(path.parts) == 1 and not path.suffix:
        return model
    return path.parent.name if path.stem == "model" and path.parent.name else path.stem


async def done(future: Future[Result]) -> Result:
    return await asyncio.wrap_future(future)


def warning(scores: Scores, of_labels: list[str | None], of_video: str | None) -> str | None:
    """The warning in an answer, None if there is none."""
    sentences = [sentence for sentence in of_labels if sentence]
    if of_video:
        sentences.append(f"{of_video}.")
    if scores.unknown:
        sentences.append(unknown_labels_message(scores.unknown, len(scores.scores)))
    if scores.truncated:
        sentences.append(
            f"{scores.truncated} prompts exceed the text encoder's maximum number of tokens and are truncated."
        )
    return " ".join(sentences) or None


def timed_images(times: NDArray[np.float64], images: NDArray[np.uint8]) -> list[dict[str, Any]]:
    return [{"time": time, "image": data_url(image)} for time, image in zip(times.tolist(), images, strict=True)]
