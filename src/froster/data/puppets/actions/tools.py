"""Work, music and everyday things: a tool in the hands."""

from froster.data.puppets.actions.table import cyclic
from froster.data.puppets.figure import DARK, DARK_WOOD, METAL, SOLE, WHITE, WOOD, Stage
from froster.data.puppets.geometry import aim, along, between, mix, ramp, sway, swing


@cyclic("hammering a nail")
def hammering(s: Stage, t: float) -> None:
    s.behind.box(0.14, 0, 0.52, 0.36, WOOD)
    s.behind.box(0.1, 0.32, 0.56, 0.38, DARK_WOOD)
    up = ramp(t, 0.0, 0.6) if t < 0.6 else 1 - ramp(t, 0.6, 0.8)
    s.legs((14, 14), (-14, 10), x=-0.18)
    s.torso(20, gaze=-10)
    s.arms((mix(38, 120, up), mix(38, 62, up)))
    s.hands(far=(0.3, 0.44))
    s.front.line((0.36, 0.38), (0.36, 0.45), width=0.016, color=METAL)
    handle = aim(s.near_arm[1], s.hand) + mix(12, 40, up)
    top = along(s.hand, handle, 0.17)
    s.front.line(s.hand, top, width=0.028, color=WOOD)
    s.front.line(along(top, handle - 90, 0.075), along(top, handle + 90, 0.055), width=0.07, color=DARK)


@cyclic("digging with a shovel")
def digging(s: Stage, t: float) -> None:
    lift = swing(t)
    soil = (84, 58, 40)
    s.behind.polygon((0.2, 0), (0.66, 0), (0.52, 0.1), (0.36, 0.13), color=soil)
    s.legs((28, 34), (-16, 12), x=-0.15)
    s.torso(mix(46, 26, lift), gaze=-5)
    tip = (mix(0.4, 0.5, lift), mix(0.03, 0.34, lift))
    top = (mix(-0.02, -0.06, lift), mix(0.66, 0.58, lift))
    s.hands(between(top, tip, 0.42), top)
    angle = aim(top, tip)
    neck = along(tip, angle + 180, 0.17)
    s.front.line(top, neck, width=0.03, color=WOOD)
    s.front.line(neck, tip, width=0.11, color=METAL)
    if lift > 0.3:
        s.front.disc((tip[0] - 0.04, tip[1] + 0.06), 0.06, soil)


@cyclic("sweeping with a broom")
def sweeping(s: Stage, t: float) -> None:
    push = sway(t)
    s.legs((16, 6), (-14, 6), x=-0.12)
    s.torso(10, gaze=-20)
    top, foot = (0.06 + 0.03 * push, 0.84), (0.38 + 0.14 * push, 0.1)
    s.hands(between(top, foot, 0.42), between(top, foot, 0.1))
    s.front.line(top, foot, width=0.026, color=DARK_WOOD)
    x = foot[0]
    s.front.polygon((x - 0.06, 0.14), (x + 0.06, 0.14), (x + 0.13, 0.0), (x - 0.13, 0.0), color=(232, 186, 48))


@cyclic("painting a wall")
def painting(s: Stage, t: float) -> None:
    s.behind.box(0.3, 0, 0.75, 1.3, (226, 222, 214))
    s.behind.box(0.3, 0.5, 0.75, 1.3, s.look.thing)
    stroke = 0.22 * sway(t)
    s.legs((8, 0), (-10, 0), x=-0.12)
    s.torso(2, gaze=12)
    s.hands(near=(0.17, 0.86 + stroke))
    s.arms(far=(-6, 18))
    x, y = s.hand
    s.front.line(s.hand, (x + 0.08, y + 0.06), width=0.024, color=DARK)
    s.front.line((x + 0.1, y - 0.03), (x + 0.1, y + 0.15), width=0.07, color=WHITE)
    x, y = s.far_hand
    s.behind.box(x - 0.08, y - 0.17, x + 0.08, y - 0.02, METAL)


@cyclic("brushing teeth")
def brushing(s: Stage, t: float) -> None:
    s.behind.box(0.34, 0, 0.42, 0.42, (210, 214, 220))
    s.behind.polygon((0.2, 0.5), (0.56, 0.5), (0.5, 0.38), (0.26, 0.38), color=WHITE)
    s.legs((4, 0), (-4, 0), x=-0.12)
    s.torso(10)
    x, y = s.mouth
    rub = 0.03 * sway(2 * t)
    s.hands(near=(x + 0.13 + rub, y - 0.01))
    s.arms(far=(25, 50))
    s.front.line((x + rub, y), (x + 0.17 + rub, y), width=0.03, color=s.look.thing)
    s.front.disc((x + 0.01, y), 0.036, WHITE)


@cyclic("drinking from a cup", photo_times=(0.25, 0.75))
def drinking(s: Stage, t: float) -> None:
    raised = ramp(t, 0.0, 0.25) - ramp(t, 0.75, 1.0)
    s.legs((5, 0), (-5, 0), x=-0.05)
    s.torso(mix(0, -6, raised), gaze=34 * raised)
    x, y = s.mouth
    cup = mix(s.neck[0] + 0.2, x + 0.07, raised), mix(s.neck[1] - 0.14, y + 0.01, raised)
    s.hands(near=(cup[0] + 0.02, cup[1] - 0.02))
    s.arms(far=(-6, 12))
    tilt = 62 * raised
    rim, base = along(cup, 180 - tilt, 0.08), along(cup, -tilt, 0.07)
    s.front.line(base, rim, width=0.12, color=s.look.thing)


@cyclic("playing guitar")
def guitar(s: Stage, t: float) -> None:
    s.face_viewer()
    s.legs((8, 0))
    s.torso(-2)
    x, y = s.neck
    body, end = (x - 0.1, y - 0.24), (x + 0.36, y - 0.02)
    s.hands(near=between(body, end, 0.82))
    s.hands(far=(body[0] - 0.01, body[1] + 0.06 * sway(2 * t)), bend=-1)
    # The instrument hangs before the trunk but behind the hands, so the forearms are drawn again over it.
    s.front.disc(body, 0.14, s.look.thing)
    s.front.disc(between(body, end, 0.27), 0.105, s.look.thing)
    s.front.disc(between(body, end, 0.1), 0.045, DARK)
    s.front.line(between(body, end, 0.2), end, width=0.036, color=DARK_WOOD)
    s.front.line(end, between(body, end, 1.12), width=0.06, color=DARK)
    for arm in (s.near_arm, s.far_arm):
        s.front.line(between(arm[1], arm[2], 0.35), arm[2], width=0.05, color=s.look.skin)
        s.front.disc(arm[2], 0.034, s.look.skin)


@cyclic("playing drums")
def drums(s: Stage, t: float) -> None:
    s.behind.line((-0.24, 0), (-0.24, 0.3), width=0.05, color=METAL)
    s.hips(-0.24, 0.36)
    s.feet((0.06, SOLE), (0.02, SOLE))
    s.torso(6)
    beat = sway(t)
    s.arms((48, 38 + 26 * beat), (48, 38 - 26 * beat))
    for hand, height, layer in ((s.far_hand, -beat, s.behind), (s.hand, beat, s.front)):
        layer.line(hand, along(hand, 84 + 34 * height, 0.2), width=0.022, color=WOOD)
    s.front.box(0.12, 0.16, 0.46, 0.42, s.look.thing)
    s.front.line((0.1, 0.42), (0.48, 0.42), width=0.04, color=WHITE)
    s.front.line((0.1, 0.16), (0.48, 0.16), width=0.03, color=WHITE)
    s.behind.line((0.58, 0), (0.58, 0.74), width=0.02, color=METAL)
    s.front.line((0.42, 0.78), (0.74, 0.7), width=0.03, color=(214, 172, 62))
