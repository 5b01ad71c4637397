"""An articulated figure and its objects, drawn with Pillow at twice the resolution and downsampled."""

from dataclasses import dataclass, field
from math import cos, radians, sin

from PIL import ImageDraw

from froster.data.puppets.geometry import Point, aim, along, two_bones

Color = tuple[int, int, int]
Limb = tuple[Point, Point, Point]

SUPERSAMPLING = 2
WOOD, DARK_WOOD, METAL, DARK, WHITE = (
    (150, 98, 52),
    (92, 58, 34),
    (128, 132, 140),
    (34, 32, 36),
    (245, 245, 242),
)
SOLE = 0.03  # height of the ankle above the ground


@dataclass(frozen=True)
class Body:
    """Lengths and thicknesses in units of the person's nominal height."""

    thigh: float = 0.24
    shin: float = 0.23
    torso: float = 0.29
    upper_arm: float = 0.18
    forearm: float = 0.19
    head: float = 0.095
    limb: float = 0.075
    girth: float = 0.15


@dataclass(frozen=True)
class Look:
    """Colors (RGB, 0 to 255) of a person and of the thing the person uses."""

    skin: Color
    hair: Color
    shirt: Color
    trousers: Color
    thing: Color


@dataclass(frozen=True)
class View:
    """Transform from unit to pixel coordinates: scale, position of the feet, mirroring."""

    scale: float
    x: float
    y: float
    mirror: bool

    def pixels(self, points: list[Point]) -> list[Point]:
        scale = -self.scale if self.mirror else self.scale
        return [(self.x + scale * px, self.y - self.scale * py) for px, py in points]


@dataclass
class Sketch:
    """A list of shapes in unit coordinates, painted later in the order in which they were added."""

    shapes: list[tuple[str, list[Point], float, Color]] = field(default_factory=list)

    def line(self, *points: Point, width: float, color: Color) -> None:
        self.shapes.append(("line", list(points), width, color))

    def disc(self, center: Point, radius: float, color: Color) -> None:
        self.shapes.append(("disc", [center], radius, color))

    def polygon(self, *corners: Point, color: Color) -> None:
        self.shapes.append(("polygon", list(corners), 0.0, color))

    def box(self, left: float, bottom: float, right: float, top: float, color: Color) -> None:
        self.polygon((left, bottom), (right, bottom), (right, top), (left, top), color=color)

    def arc(
        self,
        center: Point,
        rx: float,
        ry: float,
        start: float,
        end: float,
        width: float,
        color: Color,
        tilt: float = 0,
    ) -> None:
        """Part of an ellipse from angle `start` to `end` (degrees, 0 is down), turned by `tilt`."""
        steps = 14
        ct, st = cos(radians(tilt)), sin(radians(tilt))
        points = []
        for i in range(steps + 1):
            a = radians(start + (end - start) * i / steps)
            x, y = rx * sin(a), -ry * cos(a)
            points.append((center[0] + ct * x - st * y, center[1] + st * x + ct * y))
        self.line(*points, width=width, color=color)

    def ring(self, center: Point, radius: float, width: float, color: Color) -> None:
        self.shapes.append(("ring", [center, (radius, 0.0)], width, color))

    def limb(self, joints: Limb, width: float, upper: Color, lower: Color) -> None:
        """Two bones with round ends; the second one is a little thinner."""
        start, middle, end = joints
        self.line(middle, end, width=0.85 * width, color=lower)
        self.disc(end, 0.425 * width, lower)
        self.line(start, middle, width=width, color=upper)
        self.disc(middle, 0.5 * width, upper)
        self.disc(start, 0.5 * width, upper)

    def paint(self, draw: ImageDraw.ImageDraw, view: View, mask: bool = False) -> None:
        """Draw every shape on a image, or in white on a mask; nothing gets thinner than one supersampled pixel."""
        scale = view.scale
        for kind, points, extent, color_of_shape in self.shapes:
            color: Color | int = 255 if mask else color_of_shape
            if kind == "ring":
                ((x, y),) = view.pixels(points[:1])
                r = points[1][0] * scale
                draw.ellipse((x - r, y - r, x + r, y + r), outline=color, width=max(1, round(extent * scale)))
                continue
            pixels = view.pixels(points)
            if kind == "line":
                draw.line(pixels, fill=color, width=max(1, round(extent * scale)), joint=_joint(pixels))
            elif kind == "disc":
                x, y = pixels[0]
                r = extent * scale
                draw.ellipse((x - r, y - r, x + r, y + r), fill=color)
            else:
                draw.polygon(pixels, fill=color)


def _joint(pixels: list[Point]) -> str | None:
    return "curve" if len(pixels) > 2 else None


class Stage:
    """The canvas of an action: pose the figure from the ground up (legs, torso, arms), then add objects.

    Side view by default; `face_viewer()` turns the figure to the front, where angles given for both sides at
    once point outwards. "Near" is the side closer to the viewer (in front view: the one at `+x`). Things on
    `behind` are behind the figure, those on `front` in front of it.
    """

    def __init__(self, body: Body, look: Look) -> None:
        self.body, self.look = body, look
        self.behind, self.front = Sketch(), Sketch()
        self.frontal = False
        self.hip: Point | None = None
        self.lean = self.gaze = 0.0

    # --- posing -------------------------------------------------------------------------------------------

    def face_viewer(self) -> None:
        self.frontal = True

    def hips(self, x: float, y: float) -> None:
        """Pin the hips; without it, `legs` puts the lower foot on the ground."""
        self.hip = (x, y)

    def legs(self, near: Point, far: Point | None = None, x: float = 0.0, lift: float = 0.0) -> None:
        """Legs by (angle of the thigh, bend of the knee) in degrees; one pair sets both legs."""
        b = self.body
        far = self._other(near, far)
        if self.hip is None:
            drops = [b.thigh * cos(radians(a)) + b.shin * cos(radians(a - k)) for a, k in (near, far)]
            self.hip = (x, max(drops) + SOLE + lift)
        self.near_leg, self.far_leg = (
            self._bones(self._hip_joint(side), angle, -knee, b.thigh, b.shin)
            for side, (angle, knee) in ((1, near), (-1, far))
        )

    def feet(self, near: Point, far: Point) -> None:
        """Legs that end at two points (ankles)."""
        b = self.body
        near_hip, far_hip = self._hip_joint(1), self._hip_joint(-1)
        self.near_leg = (near_hip, *two_bones(near_hip, near, b.thigh, b.shin, -1))
        self.far_leg = (far_hip, *two_bones(far_hip, far, b.thigh, b.shin, 1 if self.frontal else -1))

    def torso(self, lean: float = 0.0, gaze: float = 0.0) -> None:
        """Lean in degrees from upright (90 lies face down ahead, -90 on the back); gaze up is positive."""
        self.lean, self.gaze = lean, gaze

    def arms(self, near: Point | None = None, far: Point | None = None, both: Point | None = None) -> None:
        """Arms by (angle of the upper arm, bend of the elbow) in degrees."""
        b = self.body
        if both is not None:
            near, far = both, self._other(both, None)
        if near is not None:
            self.near_arm = self._bones(self.shoulder_joint(1), near[0], near[1], b.upper_arm, b.forearm)
        if far is not None:
            self.far_arm = self._bones(self.shoulder_joint(-1), far[0], far[1], b.upper_arm, b.forearm)

    def hands(self, near: Point | None = None, far: Point | None = None, bend: int = 1) -> None:
        """Arms whose hands reach for points; `bend=-1` turns the elbows the other way."""
        b = self.body
        if near is not None:
            joint = self.shoulder_joint(1)
            self.near_arm = (joint, *two_bones(joint, near, b.upper_arm, b.forearm, bend))
        if far is not None:
            joint = self.shoulder_joint(-1)
            flip = -bend if self.frontal else bend
            self.far_arm = (joint, *two_bones(joint, far, b.upper_arm, b.forearm, flip))

    def settle(self) -> None:
        """Move the figure down or up until its lowest hand or foot touches the ground."""
        limbs = (self.near_leg, self.far_leg, self.near_arm, self.far_arm)
        drop = min(point[1] for limb in limbs for point in limb) - SOLE
        self.near_leg, self.far_leg, self.near_arm, self.far_arm = (_moved(limb, -drop) for limb in limbs)
        assert self.hip is not None
        self.hip = (self.hip[0], self.hip[1] - drop)

    # --- joints -------------------------------------------------------------------------------------------

    @property
    def neck(self) -> Point:
        assert self.hip is not None, "legs or hips come first"
        return along(self.hip, 180 - self.lean, self.body.torso)

    @property
    def head(self) -> Point:
        return along(self.neck, 180 - self.lean + 0.4 * self.gaze, 1.3 * self.body.head)

    @property
    def mouth(self) -> Point:
        return along(self.head, 90 - self.lean + self.gaze - 25, 0.95 * self.body.head)

    @property
    def hand(self) -> Point:
        return self.near_arm[2]

    @property
    def far_hand(self) -> Point:
        return self.far_arm[2]

    def shoulder_joint(self, side: int) -> Point:
        """Shoulder of the near (+1) or far (-1) side."""
        low = along(self.neck, -self.lean, 0.03)
        return along(low, 90 - self.lean, side * 0.62 * self.body.girth) if self.frontal else low

    def _hip_joint(self, side: int) -> Point:
        assert self.hip is not None, "legs or hips come first"
        return along(self.hip, 90 - self.lean, side * 0.3 * self.body.girth) if self.frontal else self.hip

    def _other(self, near: Point, far: Point | None) -> Point:
        if far is not None:
            return far
        return (-near[0], -near[1]) if self.frontal else near

    @staticmethod
    def _bones(start: Point, angle: float, bend: float, first: float, second: float) -> Limb:
        middle = along(start, angle, first)
        return start, middle, along(middle, angle + bend, second)

    # --- drawing ------------------------------------------------------------------------------------------

    def paint(self, draw: ImageDraw.ImageDraw, view: View, mask: bool = False) -> None:
        """Draw objects behind the figure, the figure, and objects in front of it; on a `mask` all in white."""
        self.behind.paint(draw, view, mask)
        self._figure().paint(draw, view, mask)
        self.front.paint(draw, view, mask)

    def _figure(self) -> Sketch:
        look, b, sketch = self.look, self.body, Sketch()
        far = 1.0 if self.frontal else 0.76  # the far side is darker, which separates crossing limbs
        if not self.frontal:
            sketch.limb(self.far_arm, b.limb * 0.85, shade(look.shirt, far), shade(look.skin, far))
        self._leg(sketch, self.far_leg, far)
        if self.frontal:
            self._leg(sketch, self.near_leg, 1.0)
        self._trunk(sketch)
        if not self.frontal:
            self._leg(sketch, self.near_leg, 1.0)
        self._head(sketch)
        if self.frontal:
            sketch.limb(self.far_arm, b.limb * 0.85, look.shirt, look.skin)
        sketch.limb(self.near_arm, b.limb * 0.85, look.shirt, look.skin)
        return sketch

    def _leg(self, sketch: Sketch, leg: Limb, light: float) -> None:
        color = shade(self.look.trousers, light)
        sketch.limb(leg, self.body.limb, color, color)
        _, knee, ankle = leg
        if self.frontal:
            sketch.disc(ankle, 0.55 * self.body.limb, shade(DARK, light))
            return
        toes = along(ankle, aim(knee, ankle) + 90, 0.075)
        sketch.line(ankle, toes, width=0.65 * self.body.limb, color=shade(DARK, light))

    def _trunk(self, sketch: Sketch) -> None:
        assert self.hip is not None
        shirt, b = self.look.shirt, self.body
        if self.frontal:
            side = 90 - self.lean
            top, low = along(self.neck, -self.lean, 0.0), along(self.hip, -self.lean, 0.02)
            wide, slim = 0.68 * b.girth, 0.5 * b.girth
            sketch.polygon(
                along(top, side, -wide),
                along(top, side, wide),
                along(low, side, slim),
                along(low, side, -slim),
                color=shirt,
            )
        else:
            sketch.line(self.hip, self.neck, width=b.girth, color=shirt)
            sketch.disc(self.hip, 0.5 * b.girth, self.look.trousers)
            sketch.line(along(self.hip, 180 - self.lean, 0.03), self.neck, width=b.girth, color=shirt)

    def _head(self, sketch: Sketch) -> None:
        look, r, head = self.look, self.body.head, self.head
        sketch.line(self.neck, head, width=0.6 * r, color=look.skin)
        sketch.disc(head, r, look.hair)
        up = 180 - self.lean + self.gaze
        if self.frontal:
            face = along(head, up, -0.2 * r)
            sketch.disc(face, 0.82 * r, look.skin)
            for side in (-0.3, 0.3):
                sketch.disc(along(face, up - 90, side * r), 0.1 * r, DARK)
        else:
            face = along(along(head, up - 90, 0.3 * r), up, -0.14 * r)
            sketch.disc(face, 0.8 * r, look.skin)
            sketch.disc(along(face, up - 90, 0.5 * r), 0.1 * r, DARK)


def _moved(limb: Limb, up: float) -> Limb:
    (x0, y0), (x1, y1), (x2, y2) = limb
    return (x0, y0 + up), (x1, y1 + up), (x2, y2 + up)


def shade(color: Color, light: float) -> Color:
    """A color scaled by a brightness."""
    return int(color[0] * light), int(color[1] * light), int(color[2] * light)
