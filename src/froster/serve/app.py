"""HTTP endpoints; `create_app` builds the ASGI application."""

import asyncio
from collections.abc import Awaitable
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar

from fastapi import FastAPI, Request, Security
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, Response
from fastapi.security import HTTPBearer
from fastapi.staticfiles import StaticFiles
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import Scope

from froster import __version__
from froster.data.vocabularies import PARTS, VOCABULARIES, read_vocabulary
from froster.errors import FrosterError
from froster.serve import documents
from froster.serve.errors import RequestError, bad_request, shutting_down
from froster.serve.guard import Guard, error_answer
from froster.serve.options import TextRequest
from froster.serve.samples import list_samples, sample_file
from froster.serve.service import Service
from froster.serve.settings import ServeSettings

JSON_BYTES = 1_000_000

Result = TypeVar("Result")


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

    # For the OpenAPI description only: the guard has already checked the token.
    scheme = HTTPBearer(scheme_name="token", description="The token the server was started with.", auto_error=False)
    secured: dict[str, Any] = {"dependencies": [Security(scheme)]} if settings.token else {}

    @app.post("/v1/recognize", **documents.RECOGNIZE, **secured)
    async def recognize(request: Request) -> Response:
        """Rank action names for one video."""
        async with service.form(request, documents.RECOGNIZE_FIELDS) as form:
            return JSONResponse(await while_connected(request, service.recognize(form)))

    @app.post("/v1/embed/video", **documents.EMBED_VIDEO, **secured)
    async def embed_video(request: Request) -> Response:
        """The normalized embedding of one video, the mean of its frames' embeddings."""
        async with service.form(request, documents.VIDEO_FIELDS) as form:
            return JSONResponse(await while_connected(request, service.embed_video(form)))

    @app.post("/v1/embed/text", **documents.EMBED_TEXT, **secured)
    async def embed_text(request: Request) -> Response:
        """The normalized embedding of each text, without templates."""
        body = await service.body(request, JSON_BYTES)
        wanted = read_text_request(await body.whole(service.arrivals))
        with service.place_in_queue():
            return JSONResponse(await while_connected(request, service.embed_text(wanted)))

    @app.get("/v1/models", **documents.MODELS, **secured)
    def models() -> dict[str, Any]:
        """The models; `size` is their input resolution in pixels, `labels` what they were trained on."""
        entries = [
            {
                "name": name,
                "student": of.model.name,
                "size": of.model.preprocess.size,
                "default": not place,
                "labels": list(of.model.labels or ()),
            }
            for place, (name, of) in enumerate(service.models.items())
        ]
        return {"models": entries}

    @app.get("/v1/samples", **documents.SAMPLES, **secured)
    def samples() -> dict[str, Any]:
        """Sample clips (puppets) to try the server with."""
        return {"samples": list_samples()}

    @app.get("/v1/vocabularies", **documents.VOCABULARIES, **secured)
    def vocabularies() -> dict[str, Any]:
        """Vocabularies (named label sets)."""
        titles = VOCABULARIES | PARTS
        entries = [{"name": name, "title": titles[name], "labels": list(read_vocabulary(name))} for name in titles]
        return {"vocabularies": entries}

    @app.get("/samples/{file}", include_in_schema=False)
    def sample(file: str) -> Response:
        name, dot, suffix = file.rpartition(".")
        return FileResponse(sample_file(name, dot + suffix))

    @app.get("/healthz", **documents.HEALTH)
    async def health() -> Response:
        """Whether the server accepts requests."""
        if service.closing.is_set():
            raise shutting_down()
        return JSONResponse({"status": "ok"})

    @app.get("/metrics", **documents.METRICS, **secured)
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


async def while_connected(request: Request, work: Awaitable[Result]) -> Result:
    """The result of work for a completely read request; cancelled if the client disconnects."""
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
        rejection = RequestError(error.status_code, code, f"{request.url.path}: {error.detail}.")
        return error_answer(rejection, allowed_methods(error) if error.status_code == 405 else {})
    return error_answer(bad_request(str(error)))


def allowed_methods(error: HTTPException) -> dict[str, str]:
    """The `Allow` header of a 405; HEAD is allowed wherever GET is. Static files are read-only."""
    named = {method.strip() for method in (error.headers or {}).get("Allow", "GET").split(",")}
    return {"Allow": ", ".join(sorted(named | ({"HEAD"} if "GET" in named else set())))}
