import json
from itertools import combinations
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from froster.checkpoints.own import save_checkpoint
from froster.cli.options import Precision
from froster.cli.serve import serve
from froster.errors import FrosterError
from froster.models import load_model
from froster.recognizer import Recognizer
from froster.serve.app import create_app
from froster.serve.service import load_models
from froster.serve.settings import ServeSettings, parse_size, show_size


def test_another_host_needs_a_token() -> None:
    for host in ("0.0.0.0", "::", "192.168.1.2", "example.org"):
        with pytest.raises(FrosterError, match="`token=`"):
            ServeSettings(host=host)
        assert not ServeSettings(host=host, token="secret").is_local
    for host in ("127.0.0.1", "127.1.2.3", "localhost", "::1"):
        assert ServeSettings(host=host).is_local


@pytest.mark.parametrize("name", ["max_upload", "max_seconds", "max_labels", "queue", "batch"])
def test_limits_are_at_least_1(name: str) -> None:
    with pytest.raises(FrosterError, match="1 or more"):
        ServeSettings(**{name: 0})


def test_tokens_and_folders_that_cannot_be(tmp_path: Path) -> None:
    for token in ("two words", "schlüssel", "line\n"):
        with pytest.raises(FrosterError, match="token"):
            ServeSettings(token=token)
    with pytest.raises(FrosterError, match="There is no folder"):
        ServeSettings(folder=tmp_path / "missing")


def test_sizes() -> None:
    sizes = {"200MB": 200_000_000, "1.5 gb": 1_500_000_000, "12k": 12_000, "7": 7, "7B": 7, "3 M": 3_000_000}
    assert {text: parse_size(text) for text in sizes} == sizes
    for text in ("", "MB", "-1MB", "1TB", "1e3", "200 MiB"):
        with pytest.raises(FrosterError, match="200MB"):
            parse_size(text)
    assert [show_size(size) for size in (200_000_000, 1_500_000_000, 300_000, 12)] == [
        *("200 MB", "1.5 GB", "300 KB", "12 bytes")
    ]


@pytest.mark.filterwarnings("error::froster.errors.FrosterWarning")
def test_models_are_loaded_without_a_word_on_labels_that_nobody_gave() -> None:
    assert list(load_models(ServeSettings(models=("puppets",), device="cpu"))) == ["puppets"]


def test_templates_are_those_of_each_run_or_those_given(
    videos: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    trained, given, run = ["a drawing of {}."], tmp_path / "given.txt", tmp_path / "run.safetensors"
    given.write_text("someone who is {}\n")
    model = load_model("puppets")
    model.templates = tuple(trained)
    save_checkpoint(model, run)
    video, labels = next(iter(videos.values())), list(videos)
    answers: dict[str, dict[str, float]] = {}

    def ask(settings: ServeSettings, _: int, *, access_log: bool) -> None:
        assert access_log
        answers.clear()
        with TestClient(create_app(settings), "http://127.0.0.1") as client:
            for model in ("run", "puppets"):
                form = {"labels": json.dumps(labels), "top": "99", "model": model}
                answer = client.post("/v1/recognize", files={"file": video.read_bytes()}, data=form).json()
                answers[model] = {entry["label"]: entry["similarity"] for entry in answer["ranked"]}

    monkeypatch.setattr("froster.serve.run.run", ask)
    found: list[dict[str, float]] = []
    for templates, of_run, of_puppets in ((None, trained, None), (given, given, given)):
        serve([str(run), "puppets"], templates=templates, device="cpu", precision=Precision.float32)
        for model, its in (("run", of_run), ("puppets", of_puppets)):
            recognizer = Recognizer("puppets", labels, templates=its, device="cpu", precision="float32")
            assert answers[model] == pytest.approx(recognizer.predict(video).similarities, abs=1e-4), (model, its)
        found += answers.values()
        said = capsys.readouterr().err
        assert (f"Using the 1 template that {run} was trained with" in said) == (templates is None)
    for one, other in combinations(found[:3], 2):  # trained with, usual, given
        assert max(abs(one[label] - other[label]) for label in labels) > 0.001
    given.write_text("a {} and a {}")
    with pytest.raises(FrosterError, match=r"given\.txt, line 1"):
        serve([str(run)], templates=given, device="cpu")
