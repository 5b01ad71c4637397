"""A server behind a reverse proxy, below a prefix: with and without a token."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urljoin

import pytest

pytest.importorskip("fastapi", reason="needs the extra serve: pip install -e '.[serve]'")

from fastapi import FastAPI
from fastapi.testclient import TestClient

from froster.errors import FrosterError
from froster.serve.app import create_app
from froster.serve.settings import ServeSettings

TOKEN = "sesame"
SIGNED = {"Authorization": f"Bearer {TOKEN}"}
TESTED = "/froster"


@contextmanager
def client_of(app: FastAPI, root_path: str = "") -> Iterator[TestClient]:
    with TestClient(app, base_url="http://localhost", root_path=root_path) as client:
        yield client


@pytest.fixture(scope="module")
def app() -> FastAPI:
    return create_app(ServeSettings(root_path=TESTED, token=TOKEN, device="cpu"))


@pytest.fixture(scope="module")
def client(app: FastAPI) -> Iterator[TestClient]:
    with client_of(app) as client:
        yield client


@pytest.mark.parametrize("prefix", ["", TESTED])
def test_the_proxy_may_take_the_prefix_away_or_leave_it(client: TestClient, prefix: str) -> None:
    for path in ("/", "/healthz", "/docs", "/openapi.json", "/page/page.js", "/samples/bowing.jpg"):
        answer = client.get(prefix + path)
        assert answer.status_code == 200, path
        assert client.head(prefix + path).headers["content-type"] == answer.headers["content-type"]
    asked = {"sample": (None, "bowing"), "labels": (None, "bowing, walking")}
    assert client.post(f"{prefix}/v1/recognize", files=asked, headers=SIGNED).json()["label"] == "bowing"
    assert client.get(f"{prefix}/page/../v1/nothing", headers=SIGNED).status_code == 404


@pytest.mark.parametrize("prefix", ["", TESTED])
def test_the_prefix_does_not_lead_past_the_token(client: TestClient, prefix: str) -> None:
    for path in ("/v1/models", "/v1/samples", "/v1/nothing", "/metrics"):
        for method in ("GET", "HEAD", "POST"):
            assert client.request(method, prefix + path).status_code == 401, path
    assert client.get(f"{prefix}/v1/models", headers=SIGNED).status_code == 200
    for path in (
        "//v1/models",
        "/v1//models",
        "/v1/models/",
        "/%2fv1/models",
        "/froster/froster/v1/models",
        "/./v1/models",
    ):
        assert client.get(prefix + path).status_code in (401, 404), path


def test_a_prefix_from_the_server_does_not_lead_past_the_token_either() -> None:
    """As `uvicorn --root-path` sets it for an app that knows of none."""
    app = create_app(ServeSettings(token=TOKEN, device="cpu"))
    with client_of(app, "/of/uvicorn") as client:
        for path in ("/v1/models", "/of/uvicorn/v1/models"):
            assert client.get(path).status_code == 401
            assert client.get(path, headers=SIGNED).status_code == 200


def test_links_lead_below_the_prefix(client: TestClient) -> None:
    page = client.get(f"{TESTED}/docs").text
    links = re.findall(r'href="([^"]+)"', page)
    assert len(links) == 2
    for sample in client.get("/v1/samples", headers=SIGNED).json()["samples"][:1]:
        links += [f"v1/{sample[name]}" for name in ("video", "picture")]
    for link in links:
        whole = urljoin(f"http://localhost{TESTED}/docs", link)
        assert whole.startswith(f"http://localhost{TESTED}/")
        assert client.get(whole).status_code == 200, link
    assert client.get("/openapi.json").json()["servers"] == [{"url": TESTED}]
    # Links of the page are relative, too: they need the slash.
    answer = client.get(TESTED, follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (307, f"http://localhost{TESTED}/")


def test_a_server_with_a_token_says_so_in_its_description(client: TestClient) -> None:
    schema = client.get("/openapi.json").json()
    assert schema["components"]["securitySchemes"]["token"] == {
        "type": "http",
        "scheme": "bearer",
        "description": "The token the server was started with.",
    }
    secured = {
        path for path, methods in schema["paths"].items() if all(one.get("security") for one in methods.values())
    }
    assert secured == {path for path in schema["paths"] if client.get(path).status_code == 401}
    without = create_app(ServeSettings(device="cpu")).openapi()
    assert "securitySchemes" not in without["components"]


@pytest.mark.parametrize("text", ["froster", "/froster/", "/", "/a//b", "http://a", "/a?b", "/a\n", "/ü"])
def test_prefixes_that_are_none(text: str) -> None:
    with pytest.raises(FrosterError, match="prefix"):
        ServeSettings(root_path=text)
