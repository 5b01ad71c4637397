import unicodedata
import warnings
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
from matplotlib import get_data_path
from matplotlib.font_manager import findfont, fontManager, get_font
from PIL import Image

from froster.data.puppets import action_index, draw_video
from froster.data.puppets.files import write_mp4
from froster.errors import FrosterError, FrosterWarning, VideoError
from froster.explanation import relevance_maps
from froster.explanation.sheet import draw_film, draw_sheet, save_explanation
from froster.explanation.video import Explanation, Frames, Look, explain_video, maps_between
from froster.models import load_model
from froster.recognizer import Recognizer
from froster.video import load_video
from froster.video.transforms import Preprocessing

LABELS = ("juggling balls", "playing guitar")


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seconds, wider than high: a puppet in the middle, red on the left and blue on the right."""
    frames = draw_video(5, action_index("juggling balls"), 32, 96, "easy")
    wide = np.zeros((32, 96, 160, 3), np.uint8)
    wide[:, :, :32, 0] = 255
    wide[:, :, 32:128] = frames
    wide[:, :, 128:, 2] = 255
    path = tmp_path_factory.mktemp("videos") / "wide.mp4"
    write_mp4(path, wide, 16)
    return path


@pytest.fixture(scope="module")
def recognizers() -> dict[str, Recognizer]:
    settings = {"views": 1, "frames": 4, "precision": "float32"}
    return {
        "frozen": Recognizer("puppets", LABELS, **settings),
        "neighbors": Recognizer(load_model("puppets", "vclip"), LABELS, **settings),
    }


@pytest.mark.parametrize("kind", ["attention", "rollout", "gradient"])
def test_scores_and_maps_are_those_of_the_models(video: Path, recognizers: dict[str, Recognizer], kind: str) -> None:
    explanation = explain_video(video, "playing guitar", recognizers, kind)
    assert [look.model for look in explanation.looks] == ["frozen", "neighbors"]
    for look, recognizer in zip(explanation.looks, recognizers.values(), strict=True):
        score = dict(recognizer.predict(video).ranked)["playing guitar"]
        assert look.score == f"{100 * score:.1f} %"
        clip = load_video(video, frames=4, preprocess=Preprocessing(64)).frames[0]
        assert (look.maps == relevance_maps(recognizer.model, clip, kind, recognizer.classes, 1)).all()
    assert explanation.warning is None


def test_pictures_are_the_center_of_the_frames_at_their_times(video: Path, recognizers: dict[str, Recognizer]) -> None:
    explanation = explain_video(video, "juggling balls", recognizers)
    clips = load_video(video, frames=4, preprocess=Preprocessing(64))
    assert explanation.clip.times.tolist() == clips.times[0].tolist()
    assert explanation.clip.frames.shape == (4, 160, 160, 3)
    assert explanation.film.frames.shape == (32, 160, 160, 3)
    assert explanation.rate == 16
    drawn = draw_video(5, action_index("juggling balls"), 32, 96, "easy")
    for pictures, numbers in ((explanation.clip, clips.indices[0]), (explanation.film, range(32))):
        for picture, number in zip(pictures.frames, numbers, strict=True):
            small = np.asarray(Image.fromarray(picture).resize((96, 96), Image.Resampling.BOX), int)
            assert abs(small - drawn[number])[:, 4:-4].mean() < 12  # nothing red or blue


@pytest.mark.slow
def test_long_and_large_videos_are_reduced(tmp_path: Path, recognizers: dict[str, Recognizer]) -> None:
    path = tmp_path / "large.mp4"
    write_mp4(path, np.random.default_rng(0).integers(0, 255, (100, 360, 400, 3), dtype=np.uint8), 5)
    explanation = explain_video(path, "juggling balls", {"one": recognizers["frozen"]})
    assert explanation.film.frames.shape == (64, 320, 320, 3)
    assert explanation.rate == 4  # 3.2 a second would be too slow to be a film
    assert explanation.film.times[[0, -1]] == pytest.approx([0, 99 / 5], abs=0.01)


def test_maps_between_are_linear_in_time() -> None:
    look = Look("", "", np.arange(3, dtype=np.float32)[:, None, None])
    clip = Frames(np.zeros((3, 1, 1, 3), np.uint8), np.array([1.0, 2.0, 4.0]))
    maps = maps_between(look, clip, np.array([0.0, 1.0, 1.5, 2.0, 3.5, 4.0, 9.0]))
    assert maps[:, 0, 0].tolist() == [0, 0, 0.5, 1, 1.75, 2, 2]
    once = Frames(clip.frames, np.array([1.0, 1.0, 1.0]))  # a video of one frame, which is taken three times
    assert maps_between(look, once, np.array([0.0, 1.0, 2.0]))[:, 0, 0].tolist() == [0, 0, 0]


def test_a_picture_is_a_video_of_one_frame(tmp_path: Path, recognizers: dict[str, Recognizer]) -> None:
    Image.fromarray(draw_video(1, 0, 1, 64, "easy")[0]).save(tmp_path / "one.png")
    explanation = explain_video(tmp_path / "one.png", "juggling balls", recognizers)
    assert len(explanation.clip.frames) == 4
    assert len(explanation.film.frames) == 1
    assert len(save_explanation(explanation, tmp_path / "out.png")) == 3


def test_one_label_alone_has_a_cosine(video: Path) -> None:
    alone = Recognizer("puppets", ["juggling balls"], views=1, frames=2, precision="float32")
    (look,) = explain_video(video, "juggling balls", {"one": alone}, "gradient").looks
    assert look.score == f"cosine {alone.predict(video).similarities['juggling balls']:.2f}"


def test_what_cannot_be_explained_is_named(video: Path, tmp_path: Path, recognizers: dict[str, Recognizer]) -> None:
    with pytest.raises(FrosterError, match="'fencing' is not among those of the model frozen"):
        explain_video(video, "fencing", recognizers)
    with pytest.raises(FrosterError, match="no map of kind 'saliency'"):
        explain_video(video, "juggling balls", recognizers, "saliency")
    other = {**recognizers, "more": Recognizer("puppets", LABELS, views=1, frames=3, precision="float32")}
    for models in (other, {}):
        with pytest.raises(FrosterError, match="the same number of frames"):
            explain_video(video, "juggling balls", models)
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(VideoError, match=r"text\.mp4"):
        explain_video(tmp_path / "text.mp4", "juggling balls", recognizers)


# ---------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def explanation() -> Explanation:
    """Gray frames, and two models: one looks at the upper left corner, at first, one at the lower right, at last."""
    frames = np.full((10, 160, 160, 3), 128, np.uint8)
    maps = np.zeros((2, 3, 4, 4), np.float32)
    maps[0, 0, 0, 0] = maps[1, 2, 3, 3] = 1
    looks = [Look(f"model {number}", "50.0 %", maps[number]) for number in range(2)]
    clip, film = Frames(frames[:3], np.array([0.0, 1.0, 2.0])), Frames(frames, np.linspace(0, 2, 10))
    return Explanation("juggling balls", "attention", looks, clip, film, 5, None)


def bright(picture: np.ndarray) -> tuple[float, float]:
    """Where a picture is yellow, as shares of its height and width."""
    rows, columns = np.nonzero((picture[..., 0] > 200) & (picture[..., 1] > 180) & (picture[..., 2] < 180))
    return rows.mean() / picture.shape[0], columns.mean() / picture.shape[1]


def test_the_sheet_shows_each_model_below_the_frames(explanation: Explanation) -> None:
    sheet = np.asarray(draw_sheet(explanation))
    cells = sheet[68:-18, 18 + 112 : -18]
    assert cells.shape == (3 * 164 - 4, 3 * 164 - 4, 3)
    assert (cells[:160] == np.full(3, 128)).all(-1)[:, :160].all()
    first, second = cells[164:324], cells[328:]
    row, column = bright(first)
    assert row < 0.2 and column < 0.1
    row, column = bright(second)
    assert row > 0.8 and column > 0.9


def test_the_film_plays_the_maps(explanation: Explanation) -> None:
    film = [np.asarray(frame) for frame in draw_film(explanation)]
    assert len(film) == 10
    assert len({frame.shape for frame in film}) == 1
    left, right = film[0][60:], film[-1][60:]
    assert 0.33 < bright(left)[1] < 0.4  # the second of three panels, on its left
    assert bright(right)[1] > 0.9
    panels = film[5][60:-10, 10:-10]  # in the middle nobody looks anywhere
    assert (panels.max(-1) < 200).sum() == 3 * 160 * 160


def test_all_files_are_written_or_none(
    explanation: Explanation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = save_explanation(explanation, tmp_path / "all" / "look.png")
    assert [file.name for file in files] == ["look.png", "look.mp4", "look.gif"]
    assert sorted(path.name for path in (tmp_path / "all").iterdir()) == ["look.gif", "look.mp4", "look.png"]
    assert Image.open(files[0]).size == draw_sheet(explanation).size
    with av.open(str(files[1])) as container:
        assert container.streams.video[0].average_rate == 5
        assert sum(1 for _ in container.decode(video=0)) == 10
    with Image.open(files[2]) as gif:
        assert (gif.n_frames, gif.info["loop"], gif.info["duration"]) == (10, 0, 200)

    (still,) = save_explanation(explanation, tmp_path / "still" / "look.png", animation=False)
    assert list(still.parent.iterdir()) == [still]

    def fail(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("froster.explanation.sheet.write_gif", fail)
    with pytest.raises(OSError, match="No space"):
        save_explanation(explanation, tmp_path / "none" / "look.png")
    assert list((tmp_path / "none").iterdir()) == []


def test_letters_that_the_usual_font_lacks_are_drawn_with_another(
    explanation: Explanation, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual, stix = (get_font(findfont(name)).get_charmap() for name in ("DejaVu Sans", "STIXGeneral"))
    symbols = [chr(code) for code in stix.keys() - usual.keys() if unicodedata.category(chr(code)) == "Sm"]
    one, other = (replace(explanation, label=f"walking {symbol * 5}") for symbol in sorted(symbols)[:2])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # Boxes would be the same for both.
        assert draw_sheet(one).tobytes() != draw_sheet(other).tobytes()
        assert next(draw_film(one)).tobytes() != next(draw_film(other)).tobytes()
    own = [entry for entry in fontManager.ttflist if Path(entry.fname).is_relative_to(get_data_path())]
    monkeypatch.setattr(fontManager, "ttflist", own)  # which have no Chinese
    with pytest.warns(FrosterWarning, match="No installed font has '步跑', so the heat map shows boxes") as warned:
        boxes = draw_sheet(replace(explanation, label="walking 跑步"))
        next(draw_film(replace(explanation, label="walking 跑步")))
    assert len(warned) == 1
    with pytest.warns(FrosterWarning, match="No installed font"):
        assert boxes.tobytes() == draw_sheet(replace(explanation, label="walking 步跑")).tobytes()


def test_long_names_are_shortened_and_do_not_widen_the_sheet(explanation: Explanation) -> None:
    looks = [Look("a model with a name that is far too long", "100.0 %", look.maps) for look in explanation.looks]
    label = "pretending to put something very long behind something that is longer still " * 4
    long = Explanation(
        label, "gradient", looks, *(getattr(explanation, n) for n in ("clip", "film", "rate", "warning"))
    )
    sheet, plain = draw_sheet(long), draw_sheet(explanation)
    assert sheet.size == plain.size
    legend = np.asarray(plain)[:30, 460:]
    assert (legend < 200).any()
    assert (np.asarray(sheet)[:30, 460:] == legend).all()
    assert (np.asarray(sheet)[100:, 122:130] == 255).all()  # the gutter between names and frames
