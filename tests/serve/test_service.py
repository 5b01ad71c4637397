import asyncio
import json
import threading
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path

import httpx
import numpy as np
import pytest
import torch
from fastapi.testclient import TestClient

from froster.checkpoints.own import save_checkpoint
from froster.data.puppets import draw_video
from froster.data.puppets.files import write_mp4
from froster.errors import FrosterWarning
from froster.models import load_model
from froster.provenance import ClipSampling
from froster.recognizer import Recognizer
from froster.serve.app import create_app
from froster.serve.engine import StepsJob
from froster.serve.service import Service
from froster.serve.settings import ServeSettings
from froster.text.labels import parse_labels
from froster.video import Sampling, load_video
from running import run

FORM = {"sample": (None, "bowing"), "labels": (None, "bowing, walking")}


def test_a_full_queue() -> None:
    """Complete requests hold places until they are answered; others are told when to come back."""
    app = create_app(ServeSettings(queue=2, device="cpu"))
    service: Service = app.state.service
    goes_on = threading.Event()

    def blocked() -> Generator[None, None, None]:
        assert goes_on.wait(20)
        yield

    async def work() -> None:
        transport = httpx.ASGITransport(app)
        async with service.running(app), httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            service.engine.submit(StepsJob(blocked()))
            waiting = [asyncio.ensure_future(client.post("/v1/recognize", files=FORM)) for _ in range(2)]
            while service.admitted < 2:
                await asyncio.sleep(0.01)
            for path, body in (("/v1/recognize", {"files": FORM}), ("/v1/embed/text", {"json": {"texts": ["a"]}})):
                refused = await client.post(path, **body)  # type: ignore[arg-type]
                assert (refused.status_code, refused.json()["error"]["code"]) == (429, "queue_full")
                assert 1 <= int(refused.headers["retry-after"]) <= 60
            assert (await client.get("/healthz")).status_code == 200
            assert "froster_queue_length 2.0" in (await client.get("/metrics")).text
            goes_on.set()
            assert [(await answer).json()["label"] for answer in waiting] == ["bowing", "bowing"]
            assert service.admitted == 0
            assert (await client.post("/v1/recognize", files=FORM)).status_code == 200

    asyncio.run(work())


def test_labels_of_a_model_are_those_it_was_trained_on(trained: Path, videos: dict[str, Path]) -> None:
    """With their descriptions and the model's templates, where a request gives none."""
    app = create_app(ServeSettings(models=(str(trained), "puppets"), device="cpu", precision="float32", max_labels=2))
    recognizer = Recognizer(trained, device="cpu", precision="float32")
    with TestClient(app, base_url="http://localhost") as client:
        listed = client.get("/v1/models").json()["models"]
        assert [entry["labels"] for entry in listed] == [["juggling balls", "crawling", "bowing"], []]

        def ask(video: Path, **fields: str) -> httpx.Response:
            return client.post("/v1/recognize", files={"file": video.read_bytes()}, data=fields)

        for video in list(videos.values())[:2]:
            expected = recognizer.predict(video)
            for fields in ({}, {"labels": " "}):
                answer = ask(video, **fields).json()
                assert [entry["label"] for entry in answer["ranked"]] == [label for label, _ in expected.ranked]
                for entry in answer["ranked"]:
                    assert entry["similarity"] == pytest.approx(expected.similarities[entry["label"]], abs=1e-4)
        given = ask(video, labels="juggling balls, walking").json()["ranked"]
        described = expected.similarities["juggling balls"]
        assert abs(next(one for one in given if one["label"] == "juggling balls")["similarity"] - described) > 1e-3
        assert ask(video, timeline="1").json()["timeline"]["windows"][0]["ranked"][0]["label"] in recognizer.labels
        for refused in (ask(video, labels="[]"), ask(video, model="puppets")):
            assert (refused.status_code, refused.json()["error"]["code"]) == (422, "no_labels")


@pytest.mark.parametrize("late", [True, False])
def test_places_are_taken_when_the_body_is_complete(late: bool) -> None:
    """A body that completes while the queue is full is refused, too."""
    app = create_app(ServeSettings(queue=1, device="cpu"))
    service: Service = app.state.service
    filled = asyncio.Event()

    async def body() -> object:
        yield b'{"texts": '
        await filled.wait()
        yield b'["walking"]}'

    async def work() -> None:
        transport = httpx.ASGITransport(app)
        async with service.running(app), httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            asked = asyncio.ensure_future(client.post("/v1/embed/text", content=body()))  # type: ignore[arg-type]
            while not service.arrivals.bodies:
                await asyncio.sleep(0.01)
            assert service.admitted == 0
            with service.place_in_queue():
                if late:
                    filled.set()
                    assert (await asked).json()["error"]["code"] == "queue_full"
            filled.set()
            assert (await asked).status_code == (429 if late else 200)

    asyncio.run(work())


@pytest.mark.parametrize("sampling", ["uniform", "release"])
def test_scores_are_those_of_predict_in_the_sampling_that_a_model_was_trained_with(
    tmp_path: Path, sampling: Sampling
) -> None:
    video, model = tmp_path / "clip.mp4", load_model("puppets")
    write_mp4(video, draw_video(1, 5, 150, 96, "easy"), 30)
    model.clip_sampling = ClipSampling(frames=4, views=2, sampling=sampling)
    model.config = replace(model.config, interpolation="bilinear")
    save_checkpoint(model, tmp_path / "model.safetensors")
    labels, wanted = "walking, bowing, riding a bicycle", {"frames": "1", "explain": "attention", "top": "3"}
    expected = run(
        "predict", video, "--model", tmp_path / "model.safetensors", "--labels", labels, "--precision", "float32"
    )
    (line,) = [json.loads(line) for line in expected.stdout.splitlines()]
    settings = ServeSettings(models=(str(tmp_path / "model.safetensors"),), device="cpu", precision="float32")
    with TestClient(create_app(settings), base_url="http://localhost") as client:
        files = {"file": video.read_bytes()}
        answer = client.post("/v1/recognize", files=files, data=wanted | {"labels": labels}).json()
        embedded = client.post("/v1/embed/video", files=files).json()
    assert [entry["label"] for entry in answer["ranked"]] == [entry["label"] for entry in line["predictions"]]
    for found, entry in zip(answer["ranked"], line["predictions"], strict=True):
        assert found["similarity"] == pytest.approx(entry["similarity"], abs=1e-5)
        assert found["score"] == pytest.approx(entry["score"], abs=1e-4)
    how = load_video(video, frames=4, views=2, sampling=sampling)
    np.testing.assert_allclose([frame["time"] for frame in answer["frames"]], how.times[1], atol=1e-6)
    assert len(answer["attention"]) == 4 and embedded["frames"] == 8


def test_weights_that_overflow_are_a_fault_of_the_server(tmp_path: Path) -> None:
    model = load_model("puppets")
    with torch.no_grad():
        model.visual.proj *= 1e38
        model.text.text_projection *= 1e38
    save_checkpoint(model, tmp_path / "model.safetensors")
    settings = ServeSettings(models=(str(tmp_path / "model.safetensors"),), device="cpu", precision="float32")
    with TestClient(create_app(settings), base_url="http://localhost") as client:
        for path, request in (
            ("/v1/recognize", {"files": FORM}),
            ("/v1/recognize", {"files": FORM | {"timeline": (None, "1"), "explain": (None, "rollout")}}),
            ("/v1/embed/video", {"files": {"sample": (None, "bowing")}}),
            ("/v1/embed/text", {"json": {"texts": ["a person"]}}),
        ):
            answer = client.post(path, **request)  # type: ignore[arg-type]
            assert (answer.status_code, answer.json()["error"]["code"]) == (500, "bad_weights"), path
            assert "not finite numbers" in answer.json()["error"]["message"]
        assert client.get("/healthz").status_code == 200


@pytest.mark.parametrize("labels", ["walking; bowing", "walking\nbowing", "walking、bowing", "walking，bowing"])
def test_labels_are_separated_as_on_the_command_line(labels: str) -> None:
    with pytest.warns(FrosterWarning) as warned:
        expected = list(parse_labels(labels))
    with TestClient(create_app(ServeSettings(device="cpu")), base_url="http://localhost") as client:
        answer = client.post("/v1/recognize", files=FORM | {"labels": (None, labels)}).json()
        one = client.post("/v1/recognize", files=FORM | {"labels": (None, "walking")}).json()
    assert {entry["label"] for entry in answer["ranked"]} == set(expected) == {"walking", "bowing"}
    assert answer["warning"] == str(warned[0].message)
    assert "its score is 1 for every video" in one["warning"]
