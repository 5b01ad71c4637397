from pathlib import Path

import pytest

from froster.errors import FrosterError
from froster.serve.app import load_models
from froster.serve.settings import ServeSettings, parse_size, show_size


def test_another_host_needs_a_token() -> None:
    for host in ("0.0.0.0", "::", "192.168.1.2", "example.org"):
        with pytest.raises(FrosterError, match="--token"):
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
    with pytest.raises(FrosterError, match="no such folder"):
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
