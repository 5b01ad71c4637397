import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from froster.data.manifests import LabeledVideo
from froster.data.puppets.files import write_mp4
from froster.errors import FrosterError
from froster.explanation import overlay, relevance_maps
from froster.inference import Runtime
from froster.models import load_model
from froster.reporting.films import FILM_FRAMES, Film, film_of
from froster.settings import InferenceSettings
from froster.students import VideoStudent
from froster.video import load_video


def pictures(webp: bytes) -> list[np.ndarray]:
    with Image.open(io.BytesIO(webp)) as image:
        frames = []
        for place in range(getattr(image, "n_frames", 1)):
            image.seek(place)
            frames.append(np.asarray(image.convert("RGB"), dtype=np.float32))
    return frames


@pytest.fixture(scope="module")
def fading(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty frames, 10 a second, frame n of brightness 4 n; a bright square on the left."""
    frames = np.zeros((60, 80, 120, 3), np.uint8) + 4 * np.arange(60, dtype=np.uint8)[:, None, None, None]
    frames[:, 30:50, 20:40] = 255
    path = tmp_path_factory.mktemp("videos") / "fading.mp4"
    write_mp4(path, frames, 10)
    return path


def brightness(film: list[np.ndarray]) -> list[float]:
    return [float(frame[:, 60:].mean()) for frame in film]


def made(video: LabeledVideo, network: VideoStudent | None = None) -> Film:
    settings = InferenceSettings(views=3, frames=4, sampling="uniform", device="cpu", precision="float32")
    return film_of(video, None if network is None else Runtime(network, settings, copy_model=False))


def test_the_film_spans_the_video_and_the_still_is_its_middle(fading: Path) -> None:
    film = made(LabeledVideo(fading, "fading"))
    assert film.moving is not None
    moving = pictures(film.moving)
    assert len(moving) == FILM_FRAMES
    assert moving[0].shape == (80, 120, 3) and film.sides == (120, 80)
    np.testing.assert_allclose(brightness(moving), 4 * np.linspace(0, 59, FILM_FRAMES).round(), atol=6)
    np.testing.assert_allclose(brightness(pictures(film.still)), [4 * 31], atol=6)
    assert film.seconds == pytest.approx(6)
    assert film.strip is None


def test_a_segment_shows_only_itself(fading: Path) -> None:
    film = made(LabeledVideo(fading, "fading", start=2.0, end=3.0), load_model("puppets"))
    assert film.moving is not None
    shown = brightness(pictures(film.moving))  # frames that are nearly alike become one that lasts longer
    assert sorted(shown) == shown
    np.testing.assert_allclose([shown[0], shown[-1]], [4 * 20, 4 * 29], atol=6)
    assert film.seconds == pytest.approx(1)
    assert min(film.times) >= 2 and max(film.times) < 3


def test_the_strip_is_what_the_model_saw_and_where_it_looked(fading: Path) -> None:
    network = load_model("puppets")
    film = made(LabeledVideo(fading, "fading"), network)
    assert film.strip is not None
    clip = load_video(fading, frames=4, views=3, preprocess=network.preprocess)
    assert film.times == pytest.approx(clip.times[1].tolist())
    (sheet,) = pictures(film.strip)
    assert sheet.shape[:2] == (228, 4 * 116 - 4) == film.strip_sides[::-1]
    tiles = [sheet[:112, 116 * place : 116 * place + 112] for place in range(4)]
    np.testing.assert_allclose([tile[:, 70:].mean() for tile in tiles], 40 * clip.times[1], atol=6)
    shown = np.stack(tiles).astype(np.uint8)
    expected = overlay(shown, relevance_maps(network, clip.frames[1])).astype(np.float32)
    for place in range(4):
        below = sheet[116:, 116 * place : 116 * place + 112]
        assert np.abs(below - expected[place]).mean() < 8


def test_single_pictures_do_not_move_and_large_videos_shrink(tmp_path: Path) -> None:
    Image.new("RGB", (1000, 400), (200, 0, 0)).save(tmp_path / "red.png")
    film = made(LabeledVideo(tmp_path / "red.png", "red"), load_model("puppets"))
    assert film.moving is None
    (still,) = pictures(film.still)
    assert still.shape == (115, 288, 3)
    np.testing.assert_allclose(still.mean(axis=(0, 1)), [200, 0, 0], atol=4)


def test_a_student_without_maps_is_an_error(fading: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = load_model("puppets")

    def refuse(*arguments: object) -> None:
        raise ValueError

    monkeypatch.setattr(network, "attention_graph", refuse)
    with pytest.raises(FrosterError, match="attention=False"):
        made(LabeledVideo(fading, "fading"), network)
