"""The HTTP side: endpoints, limits and answers. `create_app` is the whole server but its port."""

import asyncio
import math
import time
from collections.abc import AsyncIterator, Awaitable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, asynccontextmanager, contextmanager
from importlib.resources import files
from pathlib import Path
from threading import Event
from typing import Any, TypeVar

import numpy as np
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, Response
from fastapi.staticfiles import StaticFiles
from numpy.typing import NDArray
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import Scope

from froster import __version__
from froster.data.vocabularies import PARTS, VOCABULARIES, read_vocabulary
from froster.errors import FrosterError, did_you_mean
from froster.recognizer import Recognizer
from froster.serve import documents
from froster.serve.engine import THREADS, Engine, Scores, StepsJob, VideoJob, text_steps
from froster.serve.errors import RequestError, bad_request, shutting_down
from froster.serve.extras import attention_steps, timeline_steps
from froster.serve.guard import Guard, error_answer
from froster.serve.metrics import Metrics
from froster.serve.options import TextRequest, check_texts, read_options
from froster.serve.samples import list_samples, sample_file
from froster.serve.settings import ServeSettings
from froster.serve.uploads import Body, Form, read_form, upload_folder
from froster.serve.videos import Loaded, Video, allowed_path, data_url
from froster.text.classifier import templates_for

DECODERS = 2
JSON_BYTES = 1_000_000
GRACE = 5  # seconds for what runs when the server is told to stop
TYPICAL_SECONDS = 1.0  # of a request, before there was one

Result = TypeVar("Result")


class Service:
    """What all requests share: the models' engine, the pool of decoders, the queue's length and the counters."""

    def __init__(self, settings: ServeSettings) -> None:
        self.settings = settings
        self.metrics = Metrics()
        self.models = load_models(settings)
        self.engine = Engine(self.models, settings.batch, self.metrics.batches.observe)
        self.decoders = ThreadPoolExecutor(DECODERS, f"{THREADS}decoder")
        # Decoded videos wait in memory, the others as files: no more than the engine needs to be kept busy.
        self.ahead = asyncio.Semaphore(2 * settings.batch)
        self.closing = asyncio.Event()
        self.loop: asyncio.AbstractEventLoop | None = None
        self.admitted = 0
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
                self.engine.join(GRACE)

    def close(self) -> None:
        """Refuse what comes and what waits, let finish what runs. May be called from a signal handler's thread."""
        self.engine.stop()
        if self.loop is not None and not self.loop.is_closed():
            self.loop.call_soon_threadsafe(self.closing.set)

    @contextmanager
    def place_in_queue(self) -> Iterator[None]:
        """Raises `RequestError` when the queue is full or the server about to stop."""
        if self.closing.is_set():
            raise shutting_down()
        if self.admitted >= self.settings.queue:
            wait = min(60, max(1, math.ceil(self.typical_seconds)))
            raise RequestError(429, "queue_full", f"The server is busy; try again in {wait} s.", wait)
        self.admitted += 1
        self.metrics.queue.set(self.admitted)
        begin = time.monotonic()
        try:
            yield
        finally:
            self.admitted -= 1
            self.metrics.queue.set(self.admitted)
            self.typical_seconds += 0.1 * (time.monotonic() - begin - self.typical_seconds)

    @asynccontextmanager
    async def body(self, request: Request) -> AsyncIterator[Body]:
        """The body of a request that has a place in the queue; of one that gets none, it is read and thrown away."""
        body = Body(request, self.closing)
        with ExitStack() as stack:
            try:
                stack.enter_context(self.place_in_queue())
            except RequestError:
                await body.discard()
                raise
            yield body

    @asynccontextmanager
    async def form(self, request: Request) -> AsyncIterator[Form]:
        """The form of a request that has a place in the queue."""
        async with (
            self.body(request) as body,
            read_form(request, body, self.folder, self.settings.max_upload) as form,
        ):
            yield form

    def model(self, name: str | None) -> str:
        """The name of a model that is there. Raises `RequestError`."""
        if not name:
            return next(iter(self.models))
        if name not in self.models:
            raise RequestError(404, "unknown_model", f"There is no model {name!r}; {did_you_mean(name, self.models)}")
        return name

    def video(self, form: Form) -> Video:
        """The video that a form gives, names or uploads. Raises `RequestError`."""
        path, sample = form.fields.get("path"), form.fields.get("sample")
        if (form.file is not None) + bool(path) + bool(sample) != 1:
            raise bad_request("Send one video: a file, a path or the name of a sample.")
        if form.file is not None:
            return Video(form.file, "The video")
        if path:
            return allowed_path(path, self.settings.folder)
        return Video(sample_file(sample or "", ".mp4"), f"The sample {sample}")

    async def load(self, form: Form, model: str, pictures: bool = False) -> tuple[Video, Loaded]:
        """Decode the video of a form for a model, in the pool."""
        if self.closing.is_set():
            raise shutting_down()
        recognizer, left = self.models[model], Event()

        def work() -> tuple[Video, Loaded]:
            video = self.video(form)  # a sample may have to be drawn
            return video, video.load(
                frames=recognizer.frames,
                views=recognizer.views,
                size=recognizer.model.config.image_size,
                pictures=pictures,
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
        options = read_options(form.fields, self.settings.max_labels)
        model = self.model(options.model)
        recognizer = self.models[model]
        async with self.ahead:
            video, loaded = await self.load(form, model, options.frames or options.explain is not None)
            scores: Scores = await done(self.engine.submit(VideoJob(model, loaded.clips, options.labels)))
        order = sorted(range(len(options.labels)), key=lambda i: -scores.scores[i])
        answer: dict[str, Any] = {
            "model": model,
            "label": options.labels[order[0]],
            "ranked": [
                {"label": options.labels[i], "score": scores.scores[i], "similarity": scores.similarities[i]}
                for i in order[: options.top]
            ],
            "warning": warning(scores, loaded.warning),
        }
        if options.frames:
            answer["frames"] = await asyncio.to_thread(dated_pictures, loaded.times, loaded.pictures)
        if options.explain:
            seen = await done(
                self.engine.submit(
                    StepsJob(attention_steps(recognizer, loaded, options.explain, scores.classes, order[0]))
                )
            )
            answer["attention"] = await asyncio.to_thread(dated_pictures, loaded.times, seen)
        if options.timeline:
            answer["timeline"] = await done(
                self.engine.submit(StepsJob(timeline_steps(recognizer, video, options, scores.classes)))
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


def create_app(settings: ServeSettings) -> FastAPI:
    """The server as an ASGI application; its models are loaded here. `app.state.service` is its `Service`.

    Raises `FrosterError` for models, devices or settings that cannot be used.
    """
    service = Service(settings)
    app = FastAPI(
        title="froster",
        version=__version__,
        description=documents.DESCRIPTION,
        lifespan=service.running,
        docs_url=None,  # FastAPI's page loads scripts from another site
        redoc_url=None,
    )
    app.state.service = service

    def answered(scope: Scope, status: int, seconds: float) -> None:
        endpoint = getattr(scope.get("route"), "path", "other")
        service.metrics.requests.labels(endpoint, str(status)).inc()
        service.metrics.seconds.labels(endpoint).observe(seconds)

    app.add_middleware(Guard, settings=settings, answered=answered)
    app.add_exception_handler(RequestError, answer_error)
    app.add_exception_handler(FrosterError, answer_error)
    app.add_exception_handler(HTTPException, answer_error)
    app.add_exception_handler(RequestValidationError, answer_error)

    @app.post("/v1/recognize", **documents.RECOGNIZE)
    async def recognize(request: Request) -> Response:
        """Rank action names for one video."""
        async with service.form(request) as form:
            return JSONResponse(await while_connected(request, service.recognize(form)))

    @app.post("/v1/embed/video", **documents.EMBED_VIDEO)
    async def embed_video(request: Request) -> Response:
        """The normalised feature of one video, the mean of its frames' features."""
        async with service.form(request) as form:
            return JSONResponse(await while_connected(request, service.embed_video(form)))

    @app.post("/v1/embed/text", **documents.EMBED_TEXT)
    async def embed_text(request: Request) -> Response:
        """The normalised feature of each text, as it stands, without templates."""
        async with service.body(request) as body:
            wanted = read_text_request(await body.whole(JSON_BYTES))
            return JSONResponse(await while_connected(request, service.embed_text(wanted)))

    @app.get("/v1/models", **documents.MODELS)
    def models() -> dict[str, Any]:
        """The models; `size` is the side of the pictures they see, in pixels."""
        entries = [
            {"name": name, "student": of.model.name, "size": of.model.config.image_size, "default": not place}
            for place, (name, of) in enumerate(service.models.items())
        ]
        return {"models": entries}

    @app.get("/v1/samples", **documents.SAMPLES)
    def samples() -> dict[str, Any]:
        """Drawn clips to try the server with."""
        return {"samples": list_samples()}

    @app.get("/v1/vocabularies", **documents.VOCABULARIES)
    def vocabularies() -> dict[str, Any]:
        """Label sets that have a name."""
        titles = VOCABULARIES | PARTS
        entries = [{"name": name, "title": titles[name], "labels": list(read_vocabulary(name))} for name in titles]
        return {"vocabularies": entries}

    @app.get("/samples/{file}", include_in_schema=False)
    def sample(file: str) -> Response:
        name, dot, suffix = file.rpartition(".")
        return FileResponse(sample_file(name, dot + suffix))

    @app.get("/healthz", **documents.HEALTH)
    async def health() -> Response:
        """Whether the server takes requests."""
        if service.closing.is_set():
            raise shutting_down()
        return JSONResponse({"status": "ok"})

    @app.get("/metrics", **documents.METRICS)
    async def metrics() -> Response:
        """Counters for Prometheus."""
        return Response(service.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    @app.get("/docs", include_in_schema=False)
    def docs() -> Response:
        return HTMLResponse(documents.page(app.openapi()))

    page = Path(str(files("froster.serve") / "page"))

    @app.get("/", include_in_schema=False)
    def index() -> Response:
        return FileResponse(page / "index.html")

    app.mount("/page", StaticFiles(directory=page, check_dir=False))
    return app


def load_models(settings: ServeSettings) -> dict[str, Recognizer]:
    """A recognizer of each model, by a name without the machine's folders. Raises `FrosterError`."""
    models = {}
    for path in settings.models:
        name = public_name(path)
        if name in models:
            raise FrosterError(f"Two models are called {name!r}; rename the file or the folder of one.")
        recognizer = Recognizer(path, ["walking"], device=settings.device, precision=settings.precision)
        recognizer.model.templates = templates_for(recognizer.model, settings.templates.get(path))
        models[name] = recognizer
    return models


def public_name(model: str) -> str:
    path = Path(model)
    if len(path.parts) == 1 and not path.suffix:
        return model
    return path.parent.name if path.stem == "model" and path.parent.name else path.stem


async def done(future: Future[Result]) -> Result:
    return await asyncio.wrap_future(future)


async def while_connected(request: Request, work: Awaitable[Result]) -> Result:
    """The result of work whose request was read to its end; the work is cancelled when the client leaves."""
    task, gone = asyncio.ensure_future(work), asyncio.ensure_future(request.receive())
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientDisconnect
        return task.result()
    finally:
        gone.cancel()
        task.cancel()


def read_text_request(body: bytes) -> TextRequest:
    try:
        return TextRequest.model_validate_json(body)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the body"
        raise bad_request(f'Send JSON like {{"texts": ["a person juggling"]}}; {where}: {first["msg"]}.') from error


async def answer_error(request: Request, error: Exception) -> Response:
    if isinstance(error, RequestError):
        return error_answer(error)
    if isinstance(error, HTTPException):
        code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "bad_request")
        return error_answer(RequestError(error.status_code, code, f"{request.url.path}: {error.detail}."))
    return error_answer(bad_request(str(error)))


def warning(scores: Scores, of_video: str | None) -> str | None:
    """What a client should know of an answer, None if nothing."""
    sentences = [f"{of_video}."] if of_video else []
    if scores.unknown:
        some = ", ".join(scores.unknown[:3]) + (", …" if len(scores.unknown) > 3 else "")
        sentences.append(
            f"This model was never shown words of {len(scores.unknown)} of the {len(scores.scores)} labels ({some}): "
            "it cannot recognise them."
        )
    if scores.cut:
        sentences.append(f"{scores.cut} prompts are longer than what the text encoder reads; their ends are cut off.")
    return " ".join(sentences) or None


def dated_pictures(times: NDArray[np.float64], pictures: NDArray[np.uint8]) -> list[dict[str, Any]]:
    return [{"time": time, "image": data_url(picture)} for time, picture in zip(times.tolist(), pictures, strict=True)]
