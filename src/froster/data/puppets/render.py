"""Photos and videos of puppets: the same seed gives the same pixels, whatever else was drawn before."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from froster.data.puppets.actions import ACTIONS, TABLE, Action
from froster.data.puppets.figure import SUPERSAMPLING, Stage, View
from froster.data.puppets.scenes import (
    Clutter,
    DomainGap,
    Scene,
    backdrop,
    draw_clutter,
    draw_scene,
    find_gap,
)

_CHOICE, _PHOTO, _VIDEO = 0, 1, 2  # separate streams of random numbers under one seed
_HEIGHT = 0.62  # a person's height as a share of the picture's side
_SUBFRAMES = 3


@dataclass(frozen=True)
class Photo:
    """A clean picture of one action, with the words that captions use.

    `pixels` is (size, size, 3) uint8 RGB; `action` indexes `ACTIONS`; `clothing` reads like "a red shirt and
    blue trousers", `place` like "on the beach".
    """

    pixels: NDArray[np.uint8]
    action: int
    clothing: str
    place: str


@dataclass(frozen=True)
class _Camera:
    """Where the figure stands in the picture, as shares of the picture's side."""

    height: float
    x: float
    y: float
    mirror: bool

    def view(self, side: int, shift: tuple[float, float] = (0.0, 0.0)) -> View:
        return View(self.height * side, self.x * side + shift[0], self.y * side + shift[1], self.mirror)


def draw_photo(seed: int, action: int | None = None, size: int = 64) -> Photo:
    """Draw the photo of a seed, (size, size, 3) uint8; without `action` the seed chooses one of `ACTIONS`."""
    if action is None:
        action = int(np.random.default_rng((_CHOICE, seed)).integers(len(ACTIONS)))
    rng = np.random.default_rng((_PHOTO, seed, action))
    entry = TABLE[action]
    scene = draw_scene(rng)
    camera = _draw_camera(rng, scale=(0.9, 1.08))
    start, end = entry.moments
    t = start + (end - start) * float(rng.random())
    picture = _picture(scene, entry, camera, t % 1 if entry.cyclic else t, size * SUPERSAMPLING)
    return Photo(np.asarray(picture.reduce(SUPERSAMPLING)), action, scene.clothing, scene.place)


def draw_video(
    seed: int, action: int, frames: int = 16, size: int = 64, gap: str | DomainGap = "default"
) -> NDArray[np.uint8]:
    """Draw the video of a seed, (T, size, size, 3) uint8, in the domain that lies `gap` away from the photos.

    The whole action plays: one-way actions once from start to end, cyclic ones one to two and a half times from a
    random phase. With a `posture` of 0, an action that is another's reversal in time is half of the time drawn as the
    other played backwards, so that only the order of the frames tells the two apart. Raises `FrosterError` for an
    unknown gap level.
    """
    gap = find_gap(gap)
    rng = np.random.default_rng((_VIDEO, seed, action))
    entry = TABLE[action]
    scene = draw_scene(rng)
    camera = _draw_camera(rng, scale=gap.scale)
    clutter = draw_clutter(rng, gap.clutter_boxes)
    phase, cycles = float(rng.random()), float(rng.uniform(1.0, 2.5))
    noise, brightness = float(rng.uniform(*gap.noise)), float(rng.uniform(*gap.brightness))
    shake = rng.normal(0.0, gap.shake / 64, (frames, 2)).tolist()
    backwards = bool(entry.reverse) and float(rng.random()) > (1 + gap.posture) / 2
    if backwards:
        entry = TABLE[ACTIONS.index(entry.reverse)]

    side = size * SUPERSAMPLING
    subframes = _SUBFRAMES if gap.motion_blur > 0 else 1
    video = np.empty((frames, size, size, 3), np.float32)
    for i, (dx, dy) in enumerate(shake):
        light = np.zeros((size, size, 3), np.uint16)
        for j in range(subframes):
            u = (i + gap.motion_blur * j / subframes) / max(frames - 1, 1)
            t = (phase + cycles * u) % 1 if entry.cyclic else abs(backwards - min(u, 1.0))
            picture = _picture(scene, entry, camera, t, side, (dx * side, dy * side), entry.travel * (u - 0.5), clutter)
            light += np.asarray(picture.reduce(SUPERSAMPLING))
        np.multiply(light, brightness / subframes, out=video[i])
    if noise > 0:
        video += noise * rng.standard_normal(video.shape, dtype=np.float32)
    return np.clip(np.rint(video), 0, 255).astype(np.uint8)


def _draw_camera(rng: np.random.Generator, scale: tuple[float, float]) -> _Camera:
    size, x, y, side = rng.random(4).tolist()
    height = _HEIGHT * (scale[0] + (scale[1] - scale[0]) * size)
    return _Camera(height, 0.44 + 0.12 * x, 0.83 + 0.06 * y, side < 0.5)


def _picture(
    scene: Scene,
    action: Action,
    camera: _Camera,
    t: float,
    side: int,
    shift: tuple[float, float] = (0.0, 0.0),
    ahead: float = 0.0,
    clutter: list[Clutter] | None = None,
) -> Image.Image:
    """The supersampled picture at time t; `shift` moves the camera (pixels), `ahead` the person (heights)."""
    stage = Stage(scene.body, scene.look)
    action.pose(stage, t)
    view = camera.view(side, shift)
    picture, draw = backdrop(scene, side, view.y - scene.horizon * view.scale)
    for box in clutter or ():
        if not box.before_figure:
            box.paint(draw, side, shift)
    step = -ahead if camera.mirror else ahead
    stage.paint(draw, View(view.scale, view.x + step * view.scale, view.y, view.mirror))
    for box in clutter or ():
        if box.before_figure:
            box.paint(draw, side, shift)
    return picture
