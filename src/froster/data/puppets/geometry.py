"""Plane geometry and timing for puppets: directions, two-bone inverse kinematics, easing curves.

Unit coordinates: a person is about 1 tall, `y` points up, the ground is `y = 0` and the person faces `+x`.
Angles are degrees: 0 hangs straight down, 90 points forward, 180 straight up, -90 backward.
Plain floats on purpose: numpy is slow on points.
"""

from math import acos, atan2, cos, degrees, hypot, pi, radians, sin

Point = tuple[float, float]


def along(start: Point, angle: float, length: float) -> Point:
    """The point `length` away from `start` in direction `angle` (degrees, 0 is down, 90 forward)."""
    a = radians(angle)
    return start[0] + length * sin(a), start[1] - length * cos(a)


def aim(start: Point, end: Point) -> float:
    """The direction (degrees) from `start` to `end`."""
    return degrees(atan2(end[0] - start[0], start[1] - end[1]))


def between(start: Point, end: Point, share: float) -> Point:
    """Linear interpolation between two points; `share` from 0 to 1."""
    return start[0] + share * (end[0] - start[0]), start[1] + share * (end[1] - start[1])


def two_bones(start: Point, target: Point, first: float, second: float, bend: int) -> tuple[Point, Point]:
    """Middle and end joint of a limb that reaches for `target` as far as it can.

    `bend`: +1 if the second bone turns forward (an elbow), -1 if backward (a knee).
    """
    distance = hypot(target[0] - start[0], target[1] - start[1])
    distance = min(max(distance, abs(first - second) + 1e-3, 1e-3), first + second - 1e-4)
    line = aim(start, target)
    inner = (first * first + distance * distance - second * second) / (2 * first * distance)
    middle = along(start, line - bend * degrees(acos(min(max(inner, -1.0), 1.0))), first)
    return middle, along(start, line, distance)


def swing(t: float) -> float:
    """0 to 1 and back to 0 over one cycle, smoothly."""
    return 0.5 - 0.5 * cos(2 * pi * t)


def sway(t: float) -> float:
    """A sine over one cycle: 0, 1, 0, -1, 0."""
    return sin(2 * pi * t)


def ramp(t: float, start: float, end: float) -> float:
    """0 before `start`, 1 after `end`, a smooth step in between."""
    x = min(max((t - start) / (end - start), 0.0), 1.0)
    return x * x * (3 - 2 * x)


def mix(a: float, b: float, share: float) -> float:
    """`a` at share 0, `b` at share 1, linear in between."""
    return a + (b - a) * share
