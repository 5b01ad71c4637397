"""Puppets: determinism, shapes, differences between actions, domains and captions."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from froster.data.puppets import ACTIONS, GAPS, DomainGap, action_index, caption, draw_photo, draw_video, render
from froster.data.puppets.actions import TABLE, Action
from froster.data.puppets.figure import Body, Look, Stage
from froster.data.puppets.geometry import along, two_bones
from froster.data.puppets.scenes import Scene
from froster.errors import FrosterError
from froster.text.classes import ClassText
from froster.text.prompts import class_prompts

STILL = DomainGap(
    scale=(1.0, 1.0), noise=(0.0, 0.0), brightness=(1.0, 1.0), clutter_boxes=0, shake=0.0, posture=1.0, motion_blur=0.0
)
PAIRS = [
    ("throwing a ball", "catching a ball"),
    ("standing up", "sitting down"),
    ("pushing a box", "pulling a box"),
    ("picking up a box", "putting down a box"),
]


def posed(name: str, t: float) -> Stage:
    gray = (128, 128, 128)
    stage = Stage(Body(), Look(gray, gray, gray, gray, gray))
    TABLE[action_index(name)].pose(stage, t)
    return stage


def test_names_are_unique_and_complete() -> None:
    assert len(ACTIONS) == len(set(ACTIONS)) == len(TABLE) == 45
    assert all(name == name.strip().lower() for name in ACTIONS)


def test_photo_is_the_same_twice_and_whatever_was_drawn_before() -> None:
    first = draw_photo(5)
    for seed in (1, 2, 3):
        draw_photo(seed)
        draw_video(seed, 0, frames=2)
    again = draw_photo(5, first.action)
    assert np.array_equal(first.pixels, again.pixels)
    assert (first.clothing, first.place) == (again.clothing, again.place)
    assert not np.array_equal(first.pixels, draw_photo(6, first.action).pixels)


def test_video_is_the_same_twice() -> None:
    assert np.array_equal(draw_video(3, 7, gap="hard"), draw_video(3, 7, gap="hard"))
    assert not np.array_equal(draw_video(3, 7), draw_video(4, 7))


@pytest.mark.parametrize("size", [64, 224])
def test_shapes(size: int) -> None:
    photo, video = draw_photo(0, size=size).pixels, draw_video(0, 3, frames=5, size=size)
    assert photo.shape == (size, size, 3) and photo.dtype == np.uint8
    assert video.shape == (5, size, size, 3) and video.dtype == np.uint8


def test_size_only_changes_the_resolution() -> None:
    small, large = draw_photo(2, 4, 64).pixels.astype(float), draw_photo(2, 4, 128).pixels.astype(float)
    halved = large.reshape(64, 2, 64, 2, 3).mean((1, 3))
    assert np.abs(small - halved).mean() < 6  # edges differ by a supersampled pixel, surfaces not at all


def test_the_seed_chooses_every_action() -> None:
    assert {draw_photo(seed, size=16).action for seed in range(600)} == set(range(len(ACTIONS)))


def test_all_actions_draw_differently() -> None:
    """Same person, same place, same time: two actions differ in at least 40 of 4096 pixels."""
    from froster.data.puppets.render import _Camera, _image
    from froster.data.puppets.scenes import draw_scene

    scene, camera = draw_scene(np.random.default_rng(0)), _Camera(0.62, 0.5, 0.85, False)
    pictures = []
    for action in TABLE:
        t = 0.6 * action.photo_times[0] + 0.4 * action.photo_times[1]
        pictures.append(np.asarray(_image(scene, action, camera, t, 64), int))
    for i, one in enumerate(pictures):
        for j in range(i):
            differs = (np.abs(one - pictures[j]).sum(-1) > 30).sum()
            assert differs >= 40, (ACTIONS[i], ACTIONS[j], differs)


@pytest.mark.parametrize("action", [action for action in TABLE if action.cyclic], ids=lambda a: a.name)
def test_cycles_close(action) -> None:
    start, end = posed(action.name, 0.0), posed(action.name, 1.0 - 1e-9)
    for limb in ("near_arm", "far_arm", "near_leg", "far_leg"):
        assert np.allclose(getattr(start, limb), getattr(end, limb), atol=1e-3), limb


@pytest.mark.parametrize("name", ACTIONS)
def test_every_video_moves(name: str) -> None:
    video = draw_video(1, action_index(name), frames=8, gap=STILL).astype(int)
    changed = (np.abs(np.diff(video, axis=0)).sum(-1) > 30).sum((1, 2))
    assert changed.max() >= 8


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair[0])
def test_posture_tells_a_pair_apart_as_often_as_the_gap_says(
    pair: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without posture, half of the videos are the other action backwards; with it, none."""
    drawn: list[tuple[str, float]] = []
    paint = render._image

    def note_and_paint(scene: Scene, action: Action, camera: render._Camera, t: float, *rest: object) -> Image.Image:
        drawn.append((action.name, t))
        return paint(scene, action, camera, t, *rest)

    monkeypatch.setattr(render, "_image", note_and_paint)
    for posture, least, most in ((1.0, 0, 0), (0.0, 20, 40)):
        others = 0
        for seed in range(60):
            drawn.clear()
            draw_video(seed, action_index(pair[0]), frames=3, size=8, gap=replace(STILL, posture=posture))
            names, times = {name for name, _ in drawn}, [t for _, t in drawn]
            assert len(names) == 1
            assert times == ([0.0, 0.5, 1.0] if names == {pair[0]} else [1.0, 0.5, 0.0])
            others += names == {pair[1]}
        assert least <= others <= most


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair[0])
def test_pairs_are_reversed_in_time(pair: tuple[str, str]) -> None:
    """Played backwards, one action's things and hips follow the other's more closely than played forwards."""

    def track(name: str) -> np.ndarray:
        stages = [posed(name, t) for t in np.linspace(0.05, 0.95, 10).tolist()]
        things = [np.mean([p for shape in s.front.shapes for p in shape[1][:1]], axis=0) for s in stages]
        return np.array([np.concatenate([thing, s.hip]) for thing, s in zip(things, stages, strict=True)])

    if pair[0] == "standing up":  # the chair stands still: only the hips tell

        def track(name: str) -> np.ndarray:
            return np.array([posed(name, t).hip for t in np.linspace(0.05, 0.95, 10).tolist()])

    one, other = track(pair[0]), track(pair[1])
    assert np.abs(one - other[::-1]).mean() < 0.35 * np.abs(one - other).mean()


def test_gap_levels_are_ordered() -> None:
    noise, light = {}, {}
    for level in GAPS:
        videos = [draw_video(seed, 0, frames=4, gap=level)[:, :6, :6].astype(float) for seed in range(24)]
        # The picture's corner is plain sky: what varies inside it is noise.
        noise[level] = np.median([video.std((1, 2)).mean() for video in videos])
        light[level] = np.mean([video.mean() for video in videos])
    assert noise["easy"] < noise["default"] < noise["hard"]
    assert light["easy"] > light["default"] > light["hard"]


def test_gap_parameters_do_what_they_say() -> None:
    plain = draw_video(0, 0, gap=STILL).astype(float)
    dark = draw_video(0, 0, gap=replace(STILL, brightness=(0.5, 0.5))).astype(float)
    assert np.abs(dark - plain / 2).max() <= 0.5
    noisy = draw_video(0, 0, gap=replace(STILL, brightness=(0.5, 0.5), noise=(9.0, 9.0))).astype(float)
    assert (noisy - dark).std() == pytest.approx(9.0, rel=0.02)  # at half brightness nothing clips
    shaken = draw_video(0, 0, gap=replace(STILL, shake=2.0))
    assert len({frame[:, 0].tobytes() for frame in shaken}) > 1  # the horizon moves
    assert len({frame[:, 0].tobytes() for frame in draw_video(0, 0, gap=STILL)}) == 1


def test_unknown_names_give_the_nearest() -> None:
    with pytest.raises(FrosterError, match="juggling balls"):
        action_index("jugling ball")
    with pytest.raises(FrosterError, match="default"):
        draw_video(0, 0, gap="defualt")


def test_captions_name_the_action_in_many_short_wordings() -> None:
    rng = np.random.default_rng(0)
    photo = draw_photo(1, action_index("juggling balls"))
    texts = [caption(photo, rng) for _ in range(1000)]
    assert all("juggling balls" in text and len(text.split()) < 40 for text in texts)
    assert len(set(texts)) > 100
    assert any(photo.clothing in text for text in texts) and any(photo.place in text for text in texts)
    assert any(photo.clothing not in text and photo.place in text for text in texts)
    assert "juggling balls" in texts


def test_captions_cover_the_recognizers_prompts() -> None:
    rng = np.random.default_rng(0)
    photo = draw_photo(1, 0, size=8)
    texts = {caption(photo, rng) for _ in range(4000)}
    assert set(class_prompts(ClassText(ACTIONS[0]))) <= texts


def test_two_bones_keep_their_lengths_and_reach() -> None:
    middle, end = two_bones((0.1, 0.8), (0.3, 0.7), 0.18, 0.2, 1)
    assert np.hypot(*np.subtract(middle, (0.1, 0.8))) == pytest.approx(0.18)
    assert np.hypot(*np.subtract(end, middle)) == pytest.approx(0.2)
    assert end == pytest.approx((0.3, 0.7))
    _, end = two_bones((0.0, 0.0), (5.0, 0.0), 0.18, 0.2, 1)  # out of reach: a straight limb towards it
    assert end == pytest.approx((0.38, 0.0), abs=1e-3)
    assert along((0.0, 0.0), 90, 2.0) == pytest.approx((2.0, 0.0))
