"""Render photos and videos of puppets; the pixels depend only on the seed and the arguments."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

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

_CHOICE, _PHOTO, _VIDEO = 0, 1, 2  # independent random streams per seed
_HEIGHT = 0.62  # a person's height as a share of the image's side
_SUBFRAMES = 3


@dataclass(frozen=True)
class Photo:
    """An image of one action without noise or clutter, with the words for its caption.

    `pixels` is (size, size, 3) uint8 RGB; `action` indexes `ACTIONS`; `clothing` reads like "a red shirt and
    blue trousers", `place` like "on the beach".
    """

    pixels: NDArray[np.uint8]
    action: int
    clothing: str
    place: str


@dataclass(frozen=True)
class _Camera:
    """Position of the figure, as fractions of the image size."""

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
    start, end = entry.photo_times
    t = start + (end - start) * float(rng.random())
    image = _image(scene, entry, camera, t % 1 if entry.cyclic else t, size * SUPERSAMPLING)
    return Photo(np.asarray(image.reduce(SUPERSAMPLING)), action, scene.clothing, scene.place)


def draw_video(
    seed: int, action: int, frames: int = 16, size: int = 64, gap: str | DomainGap = "default"
) -> NDArray[np.uint8]:
    """Draw the video of a seed, (T, size, size, 3) uint8, with the domain gap `gap` to the photos.

    One-way actions play once, cyclic ones 1 to 2.5 times from a random phase. With a `posture` of 0, half of the videos
    of an action that is another's time reversal are that other action played backwards, so that only the order of
    frames distinguishes the two. Raises `FrosterError` for an
    unknown gap level.
    """
    return _draw(seed, action, frames, size, gap)[0]


def draw_video_and_mask(
    seed: int, action: int, frames: int = 16, size: int = 64, gap: str | DomainGap = "default"
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """The video of `draw_video` and its segmentation mask, `(T, size, size)` float32 in [0, 1].

    The mask covers the person and the objects in use, except where clutter occludes them. A value is the fraction of
    the pixel's area and exposure time.
    """
    video, mask = _draw(seed, action, frames, size, gap, mask=True)
    assert mask is not None
    return video, mask


def _draw(
    seed: int, action: int, frames: int, size: int, gap: str | DomainGap, mask: bool = False
) -> tuple[NDArray[np.uint8], NDArray[np.float32] | None]:
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
    masks = np.zeros((frames, size, size), np.float32) if mask else None
    for i, (dx, dy) in enumerate(shake):
        light = np.zeros((size, size, 3), np.uint16)
        for j in range(subframes):
            u = (i + gap.motion_blur * j / subframes) / max(frames - 1, 1)
            t = (phase + cycles * u) % 1 if entry.cyclic else abs(backwards - min(u, 1.0))
            ahead, shift = entry.travel * (u - 0.5), (dx * side, dy * side)
            light += np.asarray(_image(scene, entry, camera, t, side, shift, ahead, clutter).reduce(SUPERSAMPLING))
            if masks is not None:
                figure = _mask(scene, entry, camera, t, side, shift, ahead, clutter).reduce(SUPERSAMPLING)
                masks[i] += np.asarray(figure, np.float32) / (255 * subframes)
        np.multiply(light, brightness / subframes, out=video[i])
    if noise > 0:
        video += noise * rng.standard_normal(video.shape, dtype=np.float32)
    return np.clip(np.rint(video), 0, 255).astype(np.uint8), masks


def _draw_camera(rng: np.random.Generator, scale: tuple[float, float]) -> _Camera:
    size, x, y, side = rng.random(4).tolist()
    height = _HEIGHT * (scale[0] + (scale[1] - scale[0]) * size)
    return _Camera(height, 0.44 + 0.12 * x, 0.83 + 0.06 * y, side < 0.5)


def _image(
    scene: Scene,
    action: Action,
    camera: _Camera,
    t: float,
    side: int,
    shift: tuple[float, float] = (0.0, 0.0),
    ahead: float = 0.0,
    clutter: list[Clutter] | None = None,
) -> Image.Image:
    """The supersampled image at time t; `shift` moves the camera (pixels), `ahead` the person (heights)."""
    view = camera.view(side, shift)
    image, draw = backdrop(scene, side, view.y - scene.horizon * view.scale)
    _paint(draw, scene, action, camera, t, side, shift, ahead, clutter or [])
    return image


def _mask(
    scene: Scene,
    action: Action,
    camera: _Camera,
    t: float,
    side: int,
    shift: tuple[float, float],
    ahead: float,
    clutter: list[Clutter],
) -> Image.Image:
    """The mask of that image: the figure in white on black, 8 bits per pixel."""
    image = Image.new("L", (side, side))
    _paint(ImageDraw.Draw(image), scene, action, camera, t, side, shift, ahead, clutter, mask=True)
    return image


def _paint(
    draw: ImageDraw.ImageDraw,
    scene: Scene,
    action: Action,
    camera: _Camera,
    t: float,
    side: int,
    shift: tuple[float, float],
    ahead: float,
    clutter: list[Clutter],
    mask: bool = False,
) -> None:
    stage = Stage(scene.body, scene.look)
    action.pose(stage, t)
    view = camera.view(side, shift)
    for box in clutter:
        if not box.before_figure:
            box.paint(draw, side, shift, mask)
    step = -ahead if camera.mirror else ahead
    stage.paint(draw, View(view.scale, view.x + step * view.scale, view.y, view.mirror), mask)
    for box in clutter:
        if box.before_figure:
            box.paint(draw, side, shift, mask)
