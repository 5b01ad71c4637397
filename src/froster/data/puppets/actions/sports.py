"""Sports and games: balls, bats, wheels and bars."""

from froster.data.puppets.actions.table import cyclic
from froster.data.puppets.figure import DARK, DARK_WOOD, METAL, SOLE, WHITE, WOOD, Stage
from froster.data.puppets.geometry import aim, along, between, mix, ramp, sway, swing

STRING = (70, 70, 74)


@cyclic("juggling balls")
def juggling(s: Stage, t: float) -> None:
    s.face_viewer()
    s.legs((7, 0))
    s.torso()
    x, y = s.neck
    dip = 12 * sway(3 * t)
    s.arms((14, 104 + dip), (-14, -104 + dip))
    reach = s.hand[0] - x
    for ball in range(3):
        flight = (2 * t + ball * 2 / 3) % 2  # 0 to 1 flies right to left, 1 to 2 flies back
        x_ball = reach * (1 - 2 * flight if flight < 1 else 2 * flight - 3)
        height = 4 * (flight % 1) * (1 - flight % 1)
        s.front.disc((x + x_ball, y - 0.05 + 0.48 * height), 0.052, s.look.thing)


@cyclic("bouncing a ball")
def bouncing(s: Stage, t: float) -> None:
    up = 1 - (2 * (t % 1) - 1) ** 2
    s.legs((16, 24), (-8, 14), x=-0.1)
    s.torso(16, gaze=-15)
    ball = (0.2, 0.08 + 0.4 * up)
    s.hands(near=(0.2, 0.46 + 0.12 * up))
    s.arms(far=(-20, 25))
    s.front.disc(ball, 0.078, s.look.thing)


@cyclic("skipping rope", photo_times=(0.82, 1.18))
def skipping(s: Stage, t: float) -> None:
    s.face_viewer()
    s.legs((4, 0), lift=0.02 + 0.09 * swing(t - 0.5))
    s.torso()
    s.arms(both=(22, 40))
    (x, y), (far_x, _) = s.hand, s.far_hand
    height = -sway(t + 0.75)  # 1 overhead, -1 under the feet
    layer = s.behind if t % 1 > 0.5 else s.front
    reach = 0.78 if height > 0 else y
    layer.arc(((x + far_x) / 2, y), (x - far_x) / 2, reach * height, 90, 270, 0.024, s.look.thing)


@cyclic("playing tennis")
def tennis(s: Stage, t: float) -> None:
    stroke = swing(t)
    s.legs((mix(-20, 22, stroke), 14), (mix(24, -18, stroke), 16), x=-0.12)
    s.torso(mix(-4, 14, stroke))
    s.arms((mix(-70, 105, stroke), 15), (mix(60, -20, stroke), 30))
    angle = aim(s.near_arm[1], s.hand) + mix(-20, 25, stroke)
    s.front.line(s.hand, along(s.hand, angle, 0.14), width=0.03, color=DARK)
    s.front.ring(along(s.hand, angle, 0.24), 0.105, 0.026, s.look.thing)
    s.front.disc((mix(0.75, 0.5, swing(t)), mix(0.55, 0.8, swing(t))), 0.035, (214, 232, 60))


@cyclic("playing golf")
def golf(s: Stage, t: float) -> None:
    s.face_viewer()
    hit = sway(t - 0.25)  # -1 club drawn back, 0 at the ball, 1 follow-through
    s.legs((11, 4))
    s.torso(5 * hit)
    grip = along(between(s.neck, s.hip or s.neck, 0.2), 12 + 105 * hit, 0.27)
    s.hands(grip, grip)
    head = along(grip, 14 + 165 * hit, mix(0.52, 0.44, abs(hit)))
    s.front.line(grip, head, width=0.022, color=DARK)
    s.front.line(head, along(head, 104 + 165 * hit, 0.07), width=0.045, color=METAL)
    s.front.disc((0.22 + 0.6 * ramp(t, 0.3, 0.5) * (t < 0.6), 0.03), 0.03, WHITE)
    s.behind.line((0.6, 0), (0.6, 0.5), width=0.02, color=DARK)
    s.behind.polygon((0.6, 0.5), (0.6, 0.36), (0.76, 0.43), color=s.look.thing)


@cyclic("shooting arrows with a bow")
def archery(s: Stage, t: float) -> None:
    drawn = ramp(t, 0.0, 0.55) if t < 0.8 else 1 - ramp(t, 0.8, 0.86)
    s.legs((14, 0), (-14, 0), x=-0.15)
    s.torso(-4)
    s.arms(far=(90, 0))
    grip = s.far_hand
    nock = (grip[0] - mix(0.08, 0.3, drawn), grip[1])
    s.hands(near=nock)
    tips = [(grip[0] - 0.09, grip[1] + side * 0.36) for side in (1, -1)]
    s.front.arc((grip[0] - 0.11, grip[1]), 0.13, 0.36, 10, 170, 0.03, WOOD)
    s.front.line(tips[0], nock, tips[1], width=0.012, color=STRING)
    shot = 1.2 * ramp(t, 0.8, 1.0)
    s.front.line((nock[0] + shot, nock[1]), (nock[0] + shot + 0.36, nock[1]), width=0.018, color=DARK)


@cyclic("lifting a barbell")
def barbell(s: Stage, t: float) -> None:
    s.face_viewer()
    up = swing(t)
    bent = 1 - ramp(up, 0.1, 0.5)
    s.legs((12 + 34 * bent, 46 * bent))
    s.torso()
    bar = mix(s.neck[1] - 0.33, s.neck[1] + 0.34, up)
    s.hands((0.2, bar), (-0.2, bar), bend=-1 if up < 0.4 else 1)
    s.front.line((-0.5, bar), (0.5, bar), width=0.028, color=METAL)
    for side in (-1, 1):
        s.front.line((side * 0.42, bar - 0.14), (side * 0.42, bar + 0.14), width=0.07, color=DARK)
        s.front.line((side * 0.48, bar - 0.09), (side * 0.48, bar + 0.09), width=0.05, color=DARK)


@cyclic("rowing a boat")
def rowing(s: Stage, t: float) -> None:
    pull, dip = swing(t), sway(t)
    s.behind.box(-1.4, -0.05, 1.4, 0.08, (58, 118, 190))
    s.hips(-0.12, 0.17)
    s.feet((0.24, 0.15), (0.26, 0.15))
    s.torso(mix(28, -24, pull))
    grip = (mix(0.3, 0.1, pull), 0.42 - 0.04 * dip)
    s.hands(grip, grip)
    s.front.polygon((-0.6, 0.22), (0.58, 0.22), (0.44, 0.02), (-0.46, 0.02), color=s.look.thing)
    s.front.line((-0.62, 0.22), (0.6, 0.22), width=0.03, color=WOOD)
    blade = (mix(-0.34, 0.56, pull), 0.06 + 0.09 * max(dip, -0.4))
    s.front.line(grip, blade, width=0.03, color=DARK_WOOD)
    s.front.line(between(grip, blade, 0.8), blade, width=0.07, color=DARK_WOOD)


@cyclic("riding a bicycle", travel=0.4)
def bicycle(s: Stage, t: float) -> None:
    rear, front, crank = (-0.36, 0.2), (0.34, 0.2), (-0.04, 0.22)
    saddle, head = (-0.16, 0.56), (0.24, 0.62)
    for hub in (rear, front):
        s.behind.ring(hub, 0.2, 0.028, DARK)
        for spoke in (0, 60, 120):
            rim = along(hub, spoke - 360 * t, 0.19)
            s.behind.line(rim, (2 * hub[0] - rim[0], 2 * hub[1] - rim[1]), width=0.008, color=METAL)
    s.behind.line(rear, crank, saddle, rear, width=0.03, color=s.look.thing)
    s.behind.line(crank, head, saddle, width=0.03, color=s.look.thing)
    s.behind.line(front, head, (0.3, 0.7), width=0.03, color=s.look.thing)
    s.hips(-0.15, 0.62)
    pedals = along(crank, -360 * t, 0.1), along(crank, 180 - 360 * t, 0.1)
    s.feet(*((x - 0.03, y + SOLE) for x, y in pedals))
    s.torso(36, gaze=25)
    s.hands((0.3, 0.7), (0.3, 0.7))


@cyclic("spinning a hula hoop")
def hula_hoop(s: Stage, t: float) -> None:
    s.face_viewer()
    out, tilt = sway(t), 9 * sway(t + 0.25)
    s.legs((9, 0), x=0.04 * out)
    s.torso(-3 * out)
    s.arms(both=(100, 28))
    center = (0.09 * out, 0.52)
    s.behind.arc(center, 0.31, 0.085, 90, 270, 0.032, s.look.thing, tilt)
    s.front.arc(center, 0.31, 0.085, -90, 90, 0.032, s.look.thing, tilt)


@cyclic("flying a kite")
def kite(s: Stage, t: float) -> None:
    s.legs((10, 0), (-10, 4), x=-0.4)
    s.torso(-8, gaze=32)
    s.arms((122 + 8 * sway(t), 16), (105, 40))
    x, y = 0.42 + 0.06 * sway(t), 1.08 + 0.05 * sway(2 * t)
    s.behind.line(s.hand, (x, y), width=0.01, color=WHITE)
    s.front.polygon((x, y - 0.19), (x + 0.13, y + 0.03), (x, y + 0.15), (x - 0.13, y + 0.03), color=s.look.thing)
    tail = [(x + 0.03 * sway(t + i / 3), y - 0.19 - 0.05 * i) for i in range(5)]
    s.front.line(*tail, width=0.02, color=s.look.thing)


@cyclic("fishing")
def fishing(s: Stage, t: float) -> None:
    s.behind.box(0.2, -0.05, 0.8, 0.06, (58, 118, 190))
    s.behind.box(-0.42, 0, -0.12, 0.24, WOOD)
    s.hips(-0.27, 0.3)
    s.feet((0.02, SOLE), (0.0, SOLE))
    s.torso(4)
    s.arms((42, 42), (34, 52))
    tip = along(s.hand, 122 + 9 * sway(t), 0.5)
    s.front.line(s.hand, tip, width=0.024, color=DARK)
    s.front.line(tip, (tip[0] + 0.04, 0.06 + 0.03 * swing(t)), width=0.01, color=WHITE)
    s.front.disc((tip[0] + 0.04, 0.06 + 0.03 * swing(t)), 0.035, s.look.thing)
