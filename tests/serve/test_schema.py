"""The server and its OpenAPI description agree: requests are taken or refused, and answered, as it says."""

import json
import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

pytest.importorskip("fastapi", reason="needs the extra serve: pip install -e '.[serve]'")

from fastapi.testclient import TestClient

from froster.serve import documents
from froster.serve.app import create_app
from froster.serve.settings import ServeSettings

SAMPLE = {"sample": "bowing"}
LABELS = {"labels": "bowing, walking"}
MODELS = {
    "/v1/recognize": documents.RECOGNIZE,
    "/v1/embed/video": documents.EMBED_VIDEO,
    "/v1/embed/text": documents.EMBED_TEXT,
    "/v1/models": documents.MODELS,
    "/v1/samples": documents.SAMPLES,
    "/v1/vocabularies": documents.VOCABULARIES,
    "/healthz": documents.HEALTH,
}


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    app = create_app(ServeSettings(device="cpu", precision="float32", max_labels=3, token="sesame"))
    with TestClient(app, "http://localhost", headers={"Authorization": "Bearer sesame"}) as client:
        yield client


@pytest.fixture(scope="module")
def schema(client: TestClient) -> dict[str, Any]:
    return client.get("/openapi.json").json()  # type: ignore[no-any-return]


def post(client: TestClient, path: str, fields: dict[str, Any], **options: Any) -> httpx.Response:
    if path == "/v1/embed/text":
        return client.post(path, json=fields, **options)
    return client.post(path, files={name: (None, value) for name, value in fields.items()}, **options)


def check_answer(answer: httpx.Response, path: str, schema: dict[str, Any]) -> None:
    """Status and content type are documented, and the body is what is documented for them."""
    operation = schema["paths"][path][answer.request.method.lower()]
    assert str(answer.status_code) in operation["responses"], (path, answer.text)
    described = operation["responses"][str(answer.status_code)]
    kind = answer.headers["content-type"].partition(";")[0]
    assert kind in described["content"], (path, kind)
    if answer.status_code >= 400:
        error = documents.ErrorAnswer.model_validate_json(answer.content).error
        assert error.code in described["description"].split(", "), error
    elif path in MODELS:
        model = MODELS[path]["response_model"]
        assert model.model_validate_json(answer.content, strict=True)
        assert answer.json().keys() <= model.model_fields.keys()


@pytest.mark.parametrize(
    ("path", "fields", "status"),
    [
        ("/v1/recognize", SAMPLE | LABELS, 200),
        ("/v1/recognize", SAMPLE | LABELS | {"frames": "1", "explain": "attention", "timeline": "1", "top": "1"}, 200),
        ("/v1/recognize", SAMPLE | LABELS | {"path": "", "explain": "", "model": ""}, 200),
        ("/v1/recognize", SAMPLE, 422),
        ("/v1/recognize", SAMPLE | {"labels": "a,b,c,d"}, 422),
        ("/v1/recognize", {"file": b"no video"} | LABELS, 422),
        ("/v1/recognize", LABELS, 400),
        ("/v1/recognize", SAMPLE | LABELS | {"path": "a.mp4"}, 400),
        ("/v1/recognize", SAMPLE | LABELS | {"unknown": "1"}, 400),
        ("/v1/recognize", SAMPLE | LABELS | {"top": "0"}, 400),
        ("/v1/recognize", SAMPLE | LABELS | {"frames": "2"}, 400),
        ("/v1/recognize", SAMPLE | LABELS | {"explain": "magic"}, 400),
        ("/v1/recognize", LABELS | {"path": "a.mp4"}, 403),
        ("/v1/recognize", LABELS | {"sample": "unknown"}, 404),
        ("/v1/recognize", SAMPLE | LABELS | {"model": "unknown"}, 404),
        ("/v1/embed/video", SAMPLE, 200),
        ("/v1/embed/video", SAMPLE | LABELS, 400),
        ("/v1/embed/text", {"texts": ["a", "b"]}, 200),
        ("/v1/embed/text", {"texts": ["a"], "model": None}, 200),
        ("/v1/embed/text", {"texts": ["a"], "model": "unknown"}, 404),
        ("/v1/embed/text", {"texts": ["a"] * 4}, 422),
        ("/v1/embed/text", {"texts": []}, 400),
        ("/v1/embed/text", {"texts": ["a", 1]}, 400),
        ("/v1/embed/text", {"texts": [" "]}, 400),
        ("/v1/embed/text", {"texts": ["a\0"]}, 400),
        ("/v1/embed/text", {"texts": ["a"], "unknown": 1}, 400),
        ("/v1/embed/text", {"texts": ["a"], "model": 1}, 400),
        ("/v1/embed/text", {}, 400),
    ],
)
def test_requests(client: TestClient, schema: dict[str, Any], path: str, fields: dict[str, Any], status: int) -> None:
    answer = post(client, path, fields)
    assert answer.status_code == status, answer.text
    check_answer(answer, path, schema)
    (kind, content), *_ = schema["paths"][path]["post"]["requestBody"]["content"].items()
    assert kind in answer.request.headers["content-type"]
    assert follows(fields, content["schema"]) == (status != 400 and "unknown" not in fields.get("sample", ""))


def follows(fields: dict[str, Any], wanted: dict[str, Any]) -> bool:
    """Whether a body is as its schema wants it, by the keywords that ours use. Form fields are text."""
    known = wanted["properties"]
    alternatives = [one for one in wanted.get("oneOf", []) if all(fields.get(name) for name in one["required"])]
    return (
        fields.keys() <= known.keys()
        and wanted["additionalProperties"] is False
        and all(name in fields for name in wanted.get("required", ()))
        and (len(alternatives) == 1 or "oneOf" not in wanted)
        and all(is_of(value, known[name]) for name, value in fields.items())
    )


def is_of(value: Any, wanted: dict[str, Any]) -> bool:
    kinds = wanted["type"] if isinstance(wanted["type"], list) else [wanted["type"]]
    if kinds == ["integer"]:
        value = int(value)
    types = {"string": (str, bytes), "integer": int, "null": type(None), "array": list}
    if not any(isinstance(value, types[kind]) for kind in kinds):
        return False
    if isinstance(value, list):
        return len(value) >= wanted.get("minItems", 0) and all(is_of(item, wanted["items"]) for item in value)
    return (
        value in wanted.get("enum", [value])
        and (not isinstance(value, int) or value >= wanted.get("minimum", value))
        and (not isinstance(value, str) or bool(re.search(wanted.get("pattern", ""), value)))
    )


def test_everything_else(client: TestClient, schema: dict[str, Any]) -> None:
    assert MODELS.keys() | {"/metrics"} == schema["paths"].keys()
    for path, methods in schema["paths"].items():
        if "get" in methods:
            check_answer(client.get(path), path, schema)
        else:
            fields = {"texts": ["a"]} if path == "/v1/embed/text" else SAMPLE
            lost = post(client, path, fields, params={"labels": "bowing"})
            assert (lost.status_code, "query" in lost.text) == (400, True)
            check_answer(lost, path, schema)
        for method in methods:
            refused = client.request(method, path, headers={"Host": "evil.example"})
            assert refused.status_code == 403
            check_answer(refused, path, schema)
            if "security" in methods[method]:
                unsigned = client.request(method, path, headers={"Authorization": ""})
                assert unsigned.status_code == 401
                check_answer(unsigned, path, schema)
    for content in (b"", b"{", b"[1]", b"\xff", json.dumps({"texts": ["\ud800"]}).encode()):
        answer = client.post("/v1/embed/text", content=content)
        assert answer.status_code == 400
        check_answer(answer, "/v1/embed/text", schema)
