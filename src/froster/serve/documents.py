"""API documentation: schemas and examples for OpenAPI, and a page that works offline."""

import html
import json
import re
from typing import Any

from fastapi.responses import PlainTextResponse
from pydantic import BaseModel, Field

from froster.serve.options import FLAGS, MAX_TEXT
from froster.serve.samples import named_actions

DESCRIPTION = """Recognizes any action in any video: send a video and action names, get them ranked.

Errors are JSON, `{"error": {"code": "file_too_large", "message": "one sentence for people"}}`.
A server with a token requires `Authorization: Bearer TOKEN` for every request under `/v1` and for `/metrics`."""


class Ranked(BaseModel):
    """A label, its score (share of 1 among the given labels, or a probability of its own), and its cosine."""

    label: str
    score: float
    similarity: float


class Scored(BaseModel):
    label: str
    score: float


class TimedImage(BaseModel):
    time: float = Field(description="Seconds after the first frame.")
    image: str = Field(description="A JPEG as a `data:` URL.")


class WindowScores(BaseModel):
    start: float
    end: float
    ranked: list[Scored]


class Segment(BaseModel):
    start: float
    end: float
    label: str
    score: float


class TimelineAnswer(BaseModel):
    windows: list[WindowScores]
    segments: list[Segment]


class Recognition(BaseModel):
    model: str
    label: str = Field(description="The best label.")
    labels: list[str] | None = Field(
        None, description="Only of a model whose labels have independent probabilities: those of 0.5 or more, if any."
    )
    ranked: list[Ranked] = Field(description="The best `top` labels, best first.")
    warning: str | None = Field(description="Unused parts of the video and unknown labels, if any.")
    seconds: float = Field(description="Processing time.")
    frames: list[TimedImage] | None = Field(None, description="Only with `frames=1`.")
    attention: list[TimedImage] | None = Field(None, description="Only with `explain`.")
    timeline: TimelineAnswer | None = Field(None, description="Only with `timeline=1`.")

    model_config = {
        "json_schema_extra": {
            "examples": [
                {
                    "model": "vit-b-16",
                    "label": "juggling",
                    "ranked": [
                        {"label": "juggling", "score": 0.93, "similarity": 0.281},
                        {"label": "fencing", "score": 0.07, "similarity": 0.255},
                    ],
                    "warning": None,
                    "seconds": 0.41,
                }
            ]
        }
    }


class VideoFeature(BaseModel):
    model: str
    features: list[float]
    frames: int = Field(description="Number of frames used.")


class TextFeatures(BaseModel):
    model: str
    features: list[list[float]]


class ModelEntry(BaseModel):
    name: str
    student: str
    size: int = Field(description="Input resolution in pixels.")
    default: bool
    labels: list[str] = Field(description="Training labels, the default of a request; empty if unknown.")


class Models(BaseModel):
    models: list[ModelEntry]


class Sample(BaseModel):
    name: str
    title: str
    labels: list[str]
    video: str = Field(description="URL, relative to this list.")
    picture: str = Field(description="As `video`.")


class Samples(BaseModel):
    samples: list[Sample]


class Vocabulary(BaseModel):
    name: str
    title: str
    labels: list[str]


class Vocabularies(BaseModel):
    vocabularies: list[Vocabulary]


class Health(BaseModel):
    status: str


class ErrorBody(BaseModel):
    code: str
    message: str


class ErrorAnswer(BaseModel):
    error: ErrorBody


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Responses for OpenAPI, each with its error codes."""
    return {
        status: {
            "model": ErrorAnswer,
            "description": ", ".join(CODES[status]),
            "content": {
                "application/json": {
                    "examples": {
                        code: {"value": {"error": {"code": code, "message": message}}}
                        for code, message in CODES[status].items()
                    }
                }
            },
        }
        for status in statuses
    }


CODES: dict[int, dict[str, str]] = {
    400: {"bad_request": "Send one video: a file, a path or the name of a sample."},
    401: {"unauthorized": "This server needs its token: Authorization: Bearer TOKEN."},
    403: {
        "path_not_allowed": "The path leads out of the folder that this server may read.",
        "wrong_host": "This server answers to localhost, not to 'evil.example'.",
        "cross_site": "Another site's page may not send requests to this server.",
    },
    404: {
        "unknown_model": "There is no model 'vit-b-61'; did you mean 'vit-b-16'?",
        "unknown_sample": "There is no sample 'juggling'; there are skipping-rope, juggling-balls.",
    },
    408: {"upload_timeout": "Nothing came for 30 seconds; send it again."},
    413: {
        "file_too_large": "The file is larger than 200 MB, the most this server takes.",
        "video_too_long": "The video is 900 seconds long; this server takes at most 600: cut it.",
    },
    422: {
        "no_labels": "Say which actions to look for: labels, with commas between them.",
        "too_many_labels": "1200 labels are more than the 1000 allowed here.",
        "unreadable_video": "The video: not a video that can be read (Invalid data found when processing input).",
    },
    429: {"queue_full": "The server is busy; try again in 1 s."},
    500: {
        "internal": "The server failed at this request; its log says why.",
        "bad_weights": "The model's scores are not finite numbers: its weights are damaged, or overflow.",
    },
    503: {
        "shutting_down": "The server is shutting down; try again when it is back.",
        "out_of_memory": "Not enough memory for this request; try again later.",
    },
    507: {"no_space": "The upload cannot be stored (No space left on device)."},
}

VIDEO_FIELDS = {
    "file": {"type": "string", "format": "binary", "description": "The video; or `path`, or `sample`."},
    "path": {"type": "string", "description": "A file in the folder that the server was started with."},
    "sample": {
        "type": "string",
        "enum": ["", *named_actions()],
        "description": "A name from `/v1/samples`.",
    },
    "model": {"type": "string", "description": "A name from `/v1/models`; by default the first."},
}
FLAG = {"type": "string", "enum": [*FLAGS], "default": "0"}
RECOGNIZE_FIELDS = {
    **VIDEO_FIELDS,
    "labels": {
        "type": "string",
        "description": "Names with commas (semicolons or line breaks where there is none), a JSON list of names, or "
        'the name of a vocabulary: `juggling, fencing`, `["juggling", "fencing"]`, `ucf-101`; by default what the '
        "model was trained on, with its descriptions, where it says so.",
    },
    "top": {"type": "integer", "minimum": 1, "default": 5, "description": "How many labels to return."},
    "frames": FLAG | {"description": "Also return frames."},
    "explain": {
        "type": "string",
        "enum": ["", "attention", "rollout", "gradient"],
        "default": "",
        "description": "Also return where the model looks.",
    },
    "timeline": FLAG | {"description": "Also return what happens when."},
}


TEXT = r"^[^\u0000]*[^\s\u0000][^\u0000]*$"  # not empty, without null bytes
ONE_VIDEO = [  # empty fields, as browsers send them, count as absent
    {"required": ["file"]},
    *({"required": [name], "properties": {name: {"minLength": 1}}} for name in ("path", "sample")),
]
EXAMPLE = {"sample": "juggling-balls", "labels": "juggling, fencing", "top": 5, "frames": "0", "timeline": "0"}


def form(fields: dict[str, Any]) -> dict[str, Any]:
    schema = {"type": "object", "properties": fields, "oneOf": ONE_VIDEO, "additionalProperties": False}
    # Examples of single fields would be put together by tools, and name two videos.
    content = {"schema": schema, "example": {name: value for name, value in EXAMPLE.items() if name in fields}}
    return {"requestBody": {"required": True, "content": {"multipart/form-data": content}}}


TEXT_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["texts"],
                    "properties": {
                        "texts": {
                            "type": "array",
                            "minItems": 1,
                            "items": {"type": "string", "pattern": TEXT, "minLength": 1, "maxLength": MAX_TEXT},
                        },
                        "model": {"type": ["string", "null"]},
                    },
                    "additionalProperties": False,
                },
                "example": {"texts": ["a person juggling"]},
            }
        },
    }
}

OF_VIDEOS = (400, 401, 403, 404, 408, 413, 422, 429, 500, 503, 507)
RECOGNIZE: dict[str, Any] = {
    "response_model": Recognition,
    "response_model_exclude_none": True,
    "responses": errors(*OF_VIDEOS),
    "openapi_extra": form(RECOGNIZE_FIELDS),
}
EMBED_VIDEO: dict[str, Any] = {
    "response_model": VideoFeature,
    "responses": errors(*OF_VIDEOS),
    "openapi_extra": form(VIDEO_FIELDS),
}
EMBED_TEXT: dict[str, Any] = {
    "response_model": TextFeatures,
    "responses": errors(400, 401, 403, 404, 408, 422, 429, 500, 503),
    "openapi_extra": TEXT_BODY,
}
MODELS: dict[str, Any] = {"response_model": Models, "responses": errors(401, 403)}
SAMPLES: dict[str, Any] = {"response_model": Samples, "responses": errors(401, 403)}
VOCABULARIES: dict[str, Any] = {"response_model": Vocabularies, "responses": errors(401, 403)}
HEALTH: dict[str, Any] = {"response_model": Health, "responses": errors(403, 503)}
METRICS: dict[str, Any] = {"response_class": PlainTextResponse, "responses": errors(401, 403)}


def page(schema: dict[str, Any]) -> str:
    """The API as one plain HTML page, from its OpenAPI description."""
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8><title>froster: API</title>"
        '<meta name=viewport content="width=device-width, initial-scale=1">'
        '<link rel=icon href="page/icon.svg" type="image/svg+xml">'
        "<style>:root{color-scheme:light dark}"
        "body{font:16px/1.5 system-ui,sans-serif;max-width:54rem;margin:2rem auto;padding:0 1rem;"
        "color:light-dark(#222,#e6e6e6);background:light-dark(#fff,#0f1412)}"
        "pre{background:light-dark(#f3f5f7,#1d2522);padding:.8rem;overflow:auto}table{border-collapse:collapse}"
        "td,th{text-align:left;vertical-align:top;padding:.2rem 1rem .2rem 0}</style>",
        f"<h1>froster {escape(schema['info']['version'])}: API</h1>",
        *(f"<p>{escape(line)}</p>" for line in schema["info"]["description"].split("\n") if line),
        '<p>For tools: <a href="openapi.json">openapi.json</a>.</p>',
    ]
    for path, methods in schema["paths"].items():
        for method, operation in methods.items():
            parts.append(f"<h2>{method.upper()} {escape(path)}</h2><p>{escape(operation.get('description', ''))}</p>")
            for kind, content in operation.get("requestBody", {}).get("content", {}).items():
                parts.append(f"<p>Request: <code>{escape(kind)}</code></p><table>")
                for name, value in content["schema"]["properties"].items():
                    parts.append(f"<tr><td><code>{escape(name)}</code><td>{escape(value.get('description', ''))}</tr>")
                parts.append("</table>")
                if kind == "application/json":
                    parts.append(f"<pre>{escape(json.dumps(content['example'], indent=2))}</pre>")
            parts += example_answers(operation, schema)
    return "".join(parts)


def example_answers(operation: dict[str, Any], schema: dict[str, Any]) -> list[str]:
    parts = []
    answer = operation["responses"]["200"]["content"].get("application/json", {}).get("schema", {})
    model = schema["components"]["schemas"].get(answer.get("$ref", "").rpartition("/")[2], {})
    for example in model.get("examples", []):
        parts.append(f"<p>Answer:</p><pre>{escape(json.dumps(example, indent=2))}</pre>")
    parts.append("<table>")
    for status, response in operation["responses"].items():
        if status != "200":
            parts.append(f"<tr><td>{status}<td>{escape(response['description'])}</tr>")
    return [*parts, "</table>"]


def escape(text: str) -> str:
    """HTML of a text with code in backticks."""
    return re.sub("`([^`]*)`", r"<code>\1</code>", html.escape(text))
