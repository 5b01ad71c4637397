"""Pairs of time-reversed actions: same poses and objects, opposite order of frames.

Each pair is one function of "how far along" with a flag; the flag adds the natural cues (gaze, lean, the free hand) by
which a photo tells the two apart. How far videos keep them is a matter of the domain gap: see `DomainGap.posture`.
"""

from froster.data.puppets.actions.table import one_way
from froster.data.puppets.figure import DARK_WOOD, SOLE, WOOD, Stage
from froster.data.puppets.geometry import mix, ramp, sway


def _toss(s: Stage, out: float, throwing: bool) -> None:
    """The ball is behind the head at `out` 0, leaves (or meets) the outstretched hand at 0.5, is far at 1."""
    reach = ramp(out, 0.05, 0.5)
    if throwing:  # a long stride, the other arm points ahead and swings down
        s.legs((-20, 8), (22, 16), x=-0.3)
        s.torso(mix(-14, 20, reach))
        s.arms((mix(-120, -258, reach) + 360, mix(70, 0, reach)), (mix(95, -35, reach), 10))
    else:  # soft knees side by side, both open hands go to the ball
        s.legs((20, 34), (2, 26), x=-0.3)
        s.torso(mix(0, 12, reach), gaze=12)
        s.arms((mix(-120, -262, reach) + 360, mix(70, 0, reach)), (mix(75, 82, reach), mix(60, 0, reach)))
    flight = max(out - 0.5, 0.0) / 0.5
    x, y = s.hand
    s.front.disc((x + 0.05 + 0.85 * flight, y + 0.03 + 0.5 * flight * (0.8 - flight)), 0.058, s.look.thing)


@one_way("throwing a ball", photo_times=(0.0, 0.72), reverse="catching a ball")
def throwing(s: Stage, t: float) -> None:
    _toss(s, t, throwing=True)


@one_way("catching a ball", photo_times=(0.28, 0.95), reverse="throwing a ball")
def catching(s: Stage, t: float) -> None:
    _toss(s, 1 - t, throwing=False)


def _seat(s: Stage, up: float, rising: bool) -> None:
    """On the chair at `up` 0, upright before it at 1."""
    s.behind.line((-0.36, 0), (-0.36, 0.62), width=0.035, color=DARK_WOOD)
    s.behind.line((-0.36, 0.26), (-0.06, 0.26), width=0.05, color=DARK_WOOD)
    s.behind.line((-0.08, 0), (-0.08, 0.26), width=0.035, color=DARK_WOOD)
    bent = 4 * up * (1 - up)
    tall = s.body.thigh + s.body.shin + SOLE
    s.hips(mix(-0.18, 0.06, up), mix(0.32, tall - 0.005, up))
    s.feet((0.09, SOLE), (0.06, SOLE))
    if rising:  # weight over the knees, hands push on them, eyes ahead and up
        s.torso(mix(14, 4, up) + 30 * bent, gaze=30)
        knee = s.near_leg[1]
        s.hands((knee[0] + 0.02, knee[1] + 0.05), (knee[0] + 0.04, knee[1] + 0.05))
    else:  # eyes down, hands feel for the seat behind
        s.torso(mix(4, 0, up) + 20 * bent, gaze=-25)
        s.arms((mix(-28, -18, up) - 26 * bent, 6), (mix(-20, -10, up) - 26 * bent, 6))


@one_way("standing up", photo_times=(0.2, 0.8), reverse="sitting down")
def standing_up(s: Stage, t: float) -> None:
    _seat(s, ramp(t, 0.05, 0.95), rising=True)


@one_way("sitting down", photo_times=(0.2, 0.8), reverse="standing up")
def sitting_down(s: Stage, t: float) -> None:
    _seat(s, 1 - ramp(t, 0.05, 0.95), rising=False)


def _crate(s: Stage, way: float, pushing: bool) -> None:
    """Person and crate together, from the back (`way` 0) to the front (1)."""
    x, step = mix(-0.4, 0.1, way), 18 * sway(2 * way)
    if pushing:  # behind the crate, leaning into it
        s.legs((-14 + step, 18), (-14 - step, 18), x=x - 0.1)
        s.torso(26, gaze=8)
    else:  # heels dug in, upright, looking at the crate
        s.legs((16 + step, 18), (16 - step, 18), x=x - 0.04)
        s.torso(-4, gaze=-12)
    edge = x + 0.3
    s.hands((edge, 0.42), (edge, 0.37))
    s.front.box(edge, 0, edge + 0.4, 0.46, s.look.thing)
    s.front.line((edge, 0), (edge + 0.4, 0.46), width=0.025, color=DARK_WOOD)
    s.front.line((edge, 0.46), (edge + 0.4, 0), width=0.025, color=DARK_WOOD)


@one_way("pushing a box", reverse="pulling a box")
def pushing(s: Stage, t: float) -> None:
    _crate(s, t, pushing=True)


@one_way("pulling a box", reverse="pushing a box")
def pulling(s: Stage, t: float) -> None:
    _crate(s, 1 - t, pushing=False)


def _parcel(s: Stage, up: float, lifting: bool) -> None:
    """The parcel stands on the ground at `up` 0 and is held before the chest at 1."""
    low = 1 - up
    if lifting:  # from the knees, back straight, eyes ahead
        s.legs((8 + 68 * low, 8 + 92 * low), (68 * low, 92 * low), x=-0.12 - 0.14 * low)
        s.torso(mix(-4, 50, low), gaze=28)
    else:  # with a round back, knees nearly straight, eyes on the ground
        s.legs((8 + 44 * low, 8 + 58 * low), (44 * low, 58 * low), x=-0.12 - 0.14 * low)
        s.torso(mix(6, 72, low), gaze=-28)
    bottom = mix(0.0, 0.5, up)
    s.hands((0.13, bottom + 0.1), (0.15, bottom + 0.1))
    s.front.box(0.1, bottom, 0.36, bottom + 0.23, WOOD)
    s.front.line((0.23, bottom), (0.23, bottom + 0.23), width=0.04, color=(214, 186, 130))
    x, y = s.hand
    s.front.disc((x, y), 0.034, s.look.skin)


@one_way("picking up a box", photo_times=(0.1, 0.9), reverse="putting down a box")
def picking_up(s: Stage, t: float) -> None:
    _parcel(s, ramp(t, 0.1, 0.95), lifting=True)


@one_way("putting down a box", photo_times=(0.1, 0.9), reverse="picking up a box")
def putting_down(s: Stage, t: float) -> None:
    _parcel(s, 1 - ramp(t, 0.05, 0.9), lifting=False)
