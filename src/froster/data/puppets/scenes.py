"""Scenes of the puppets: places, clothes, and the gap between the photo domain and the video domain."""

import difflib
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from PIL import Image, ImageDraw

from froster.data.puppets.figure import Body, Color, Look, shade
from froster.errors import FrosterError

_Option = TypeVar("_Option")


@dataclass(frozen=True)
class DomainGap:
    """The gap between the video and the photo domain; ranges are sampled once per video."""

    scale: tuple[float, float]  # size of the figure relative to a photo's
    noise: tuple[float, float]  # std of the pixel noise, in gray levels
    brightness: tuple[float, float]  # factor on every pixel
    clutter_boxes: int  # maximum number of colored boxes in front of or behind the figure
    shake: float  # std of the camera's shift per frame, in pixels of a 64-pixel frame
    posture: float  # how much posture distinguishes time-reversed pairs: 1 as in photos, 0 not at all
    motion_blur: float  # exposure time as a fraction of the frame interval


GAPS: dict[str, DomainGap] = {
    "easy": DomainGap((0.92, 1.05), (0.0, 2.0), (0.92, 1.0), 0, 0.2, 1.0, 0.0),
    "default": DomainGap((0.78, 1.05), (2.0, 8.0), (0.6, 0.95), 2, 0.6, 0.0, 0.5),
    "hard": DomainGap((0.65, 0.9), (7.0, 14.0), (0.5, 0.85), 3, 0.9, 0.0, 0.7),
}


def find_gap(gap: str | DomainGap) -> DomainGap:
    """A gap by name. Raises `FrosterError` with the closest known level."""
    if isinstance(gap, DomainGap):
        return gap
    if gap in GAPS:
        return GAPS[gap]
    nearest = difflib.get_close_matches(gap, GAPS, n=1, cutoff=0.0)[0]
    raise FrosterError(f"There is no domain gap '{gap}' (levels: {', '.join(GAPS)}); did you mean '{nearest}'?")


PLACES: tuple[tuple[str, Color, Color], ...] = (  # words, sky or wall, ground
    ("on the beach", (150, 205, 244), (224, 204, 148)),
    ("in the park", (146, 200, 240), (104, 172, 80)),
    ("in the snow", (204, 220, 238), (240, 243, 248)),
    ("on the street", (190, 196, 206), (104, 104, 110)),
    ("in the desert", (246, 214, 168), (206, 140, 78)),
    ("in a gym", (208, 214, 208), (172, 120, 74)),
    ("in a room", (224, 212, 196), (134, 96, 70)),
    ("on a lawn at dusk", (178, 150, 190), (72, 112, 76)),
)
SHIRTS: tuple[tuple[str, Color], ...] = (
    ("red", (212, 42, 42)), ("blue", (40, 76, 204)), ("green", (34, 142, 66)), ("yellow", (240, 212, 44)),
    ("orange", (244, 132, 26)), ("purple", (134, 52, 164)), ("white", (250, 250, 250)),
    ("black", (30, 30, 36)), ("pink", (240, 122, 172)),
)  # fmt: skip
TROUSERS: tuple[tuple[str, Color], ...] = (
    ("black", (32, 32, 38)), ("navy", (34, 44, 104)), ("brown", (104, 66, 38)), ("gray", (112, 114, 122)),
    ("green", (44, 92, 58)),
)  # fmt: skip
SKINS: tuple[Color, ...] = ((250, 214, 184), (234, 186, 146), (206, 150, 106), (150, 98, 64), (98, 62, 44))
HAIRS: tuple[Color, ...] = ((30, 24, 22), (74, 46, 28), (140, 92, 44), (214, 176, 92), (160, 160, 164))
THINGS: tuple[Color, ...] = (
    (236, 84, 32), (210, 30, 60), (36, 96, 214), (20, 138, 110), (150, 40, 170), (232, 176, 20),
    (120, 72, 34),
)  # fmt: skip


@dataclass(frozen=True)
class Scene:
    """One person in one place: everything that is constant during a video."""

    body: Body
    look: Look
    clothing: str
    place: str
    sky: Color
    ground: Color
    horizon: float  # height of the horizon above the feet, in units of the person's height


def draw_scene(rng: np.random.Generator) -> Scene:
    """A random person in a random place."""
    place, sky, ground = pick(PLACES, rng)
    shirt_name, shirt = pick(SHIRTS, rng)
    trousers_name, trousers = pick(TROUSERS, rng)
    tall, legs, arms, wide, head = (1 + 0.1 * (2 * x - 1) for x in rng.random(5).tolist())
    nominal = Body()
    body = Body(
        thigh=nominal.thigh * tall * legs, shin=nominal.shin * tall * legs, torso=nominal.torso * tall / legs,
        upper_arm=nominal.upper_arm * tall * arms, forearm=nominal.forearm * tall * arms,
        head=nominal.head * head, limb=nominal.limb * wide, girth=nominal.girth * wide,
    )  # fmt: skip
    look = Look(pick(SKINS, rng), pick(HAIRS, rng), shirt, trousers, pick(THINGS, rng))
    light, horizon = rng.random(2).tolist()
    light = 0.92 + 0.12 * light
    clothing = f"{article(shirt_name)} {shirt_name} shirt and {trousers_name} trousers"
    return Scene(body, look, clothing, place, bright(sky, light), bright(ground, light), 0.06 + 0.2 * horizon)


def pick(options: tuple[_Option, ...], rng: np.random.Generator) -> _Option:
    return options[int(rng.integers(len(options)))]


def article(word: str) -> str:
    return "an" if word[0] in "aeiou" else "a"


def bright(color: Color, light: float) -> Color:
    r, g, b = shade(color, light)
    return min(r, 255), min(g, 255), min(b, 255)


@dataclass(frozen=True)
class Clutter:
    """A colored box in the image; corners as fractions of the image size."""

    corners: tuple[float, float, float, float]
    color: Color
    before_figure: bool

    def paint(self, draw: ImageDraw.ImageDraw, side: int, shift: tuple[float, float], mask: bool = False) -> None:
        """Draw the box on a image of `side` pixels, or in black on a mask."""
        x0, y0, x1, y1 = (share * side for share in self.corners)
        dx, dy = shift
        draw.rectangle((x0 + dx, y0 + dy, x1 + dx, y1 + dy), fill=0 if mask else self.color)


def draw_clutter(rng: np.random.Generator, most: int) -> list[Clutter]:
    """0 to `most` random boxes."""
    boxes = []
    for _ in range(int(rng.integers(most + 1))):
        x, y, w, h, r, g, b, side = rng.random(8).tolist()
        width, height = 0.08 + 0.14 * w, 0.08 + 0.14 * h
        x, y = x * (1 - width), y * (1 - height)
        color = int(30 + 210 * r), int(30 + 210 * g), int(30 + 210 * b)
        boxes.append(Clutter((x, y, x + width, y + height), color, side < 0.5))
    return boxes


def backdrop(scene: Scene, side: int, horizon: float) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    """A new image with sky (or wall) and ground; `horizon` in pixels from the top."""
    image = Image.new("RGB", (side, side), scene.sky)
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, horizon, side, side), fill=scene.ground)
    return image, draw
