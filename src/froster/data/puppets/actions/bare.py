"""Actions of the body alone: gestures, gymnastics, ways of moving."""

from froster.data.puppets.actions.table import cyclic, one_way
from froster.data.puppets.figure import METAL, SOLE, WOOD, Stage
from froster.data.puppets.geometry import along, mix, ramp, sway, swing


@cyclic("waving hello")
def waving(s: Stage, t: float) -> None:
    s.face_viewer()
    s.legs((6, 0))
    s.torso(-3)
    s.arms(near=(118, 48 + 30 * sway(t)), far=(-14, -6))


@cyclic("clapping hands")
def clapping(s: Stage, t: float) -> None:
    s.face_viewer()
    s.legs((5, 0))
    s.torso()
    s.arms(both=(38, 212 - 70 * swing(t)))


@cyclic("doing jumping jacks", photo_times=(0.22, 0.78))
def jumping_jacks(s: Stage, t: float) -> None:
    s.face_viewer()
    wide = swing(t)
    s.legs((4 + 24 * wide, 0), lift=0.08 * swing(2 * t))
    s.torso()
    s.arms(both=(18 + 132 * wide, 8))


@cyclic("squatting", photo_times=(0.3, 0.7))
def squatting(s: Stage, t: float) -> None:
    down = swing(t)
    s.legs((98 * down, 128 * down), x=-0.2 * down)
    s.torso(38 * down, gaze=30 * down)
    s.arms(both=(88, 4))


@cyclic("kicking", photo_times=(0.32, 0.68))
def kicking(s: Stage, t: float) -> None:
    kick = swing(t)
    s.legs((mix(-38, 98, kick), mix(50, 4, kick)), (-4, 6), x=-0.15)
    s.torso(mix(12, -18, kick))
    s.arms((mix(40, -45, kick), 20), (mix(-30, 55, kick), 30))


@cyclic("punching")
def punching(s: Stage, t: float) -> None:
    jab = swing(t)
    s.legs((-24, 10), (30, 18), x=-0.1)
    s.torso(10)
    s.arms((mix(35, 90, jab), mix(115, 0, jab)), (mix(90, 35, jab), mix(0, 115, jab)))
    s.behind.disc(s.far_hand, 0.062, s.look.thing)
    s.front.disc(s.hand, 0.068, s.look.thing)


@cyclic("bowing", photo_times=(0.3, 0.7))
def bowing(s: Stage, t: float) -> None:
    down = swing(t)
    s.legs((2, 0), x=-0.12)
    s.torso(84 * down, gaze=-25 * down)
    s.arms(both=(mix(0, -30, down), 4))


@cyclic("doing a cartwheel", photo_times=(0.17, 0.83), travel=0.5)
def cartwheel(s: Stage, t: float) -> None:
    s.face_viewer()
    turn = 360 * t
    s.hips(0, 0.5)
    s.torso(turn)
    s.legs((32 - turn, 0), (-32 - turn, 0))
    s.arms((152 - turn, 4), (-152 - turn, -4))
    s.settle()


@cyclic("walking", photo_times=(0.07, 0.43), travel=0.5)
def walking(s: Stage, t: float) -> None:
    step = sway(t)
    s.legs((28 * step, 6 + 22 * swing(t + 0.25)), (-28 * step, 6 + 22 * swing(t - 0.25)))
    s.torso(2)
    s.arms((-24 * step, 8), (24 * step, 8))


@cyclic("running", travel=0.7)
def running(s: Stage, t: float) -> None:
    step = sway(t)
    s.legs((15 + 50 * step, 18 + 85 * swing(t + 0.35)), (15 - 50 * step, 18 + 85 * swing(t - 0.15)), lift=0.05)
    s.torso(20, gaze=12)
    s.arms((-48 * step, 92), (48 * step, 92))


@cyclic("crawling", travel=0.5)
def crawling(s: Stage, t: float) -> None:
    step = sway(t)
    s.hips(-0.22, s.body.thigh + 0.02)
    s.legs((22 * step, 92 + 18 * step), (-22 * step, 92 - 18 * step))
    s.torso(86, gaze=55)
    x = s.neck[0]
    s.hands((x - 0.12 * step + 0.04, SOLE), (x + 0.12 * step + 0.04, SOLE), bend=-1)


@cyclic("climbing a ladder")
def climbing(s: Stage, t: float) -> None:
    left, right, gap = 0.1, 0.3, 0.13
    for x in (left, right):
        s.behind.line((x, 0), (x, 1.32), width=0.035, color=WOOD)
    for rung in range(10):
        s.behind.line((left, 0.08 + gap * rung), (right, 0.08 + gap * rung), width=0.028, color=WOOD)
    up = swing(t)
    s.hips(-0.1, 0.58)
    s.feet((0.14, 0.21 + gap * up), (0.18, 0.21 + gap * (1 - up)))
    s.torso(8, gaze=35)
    s.hands((0.16, 0.99 + gap * (1 - up)), (0.2, 0.99 + gap * up))


@cyclic("doing push ups")
def push_ups(s: Stage, t: float) -> None:
    up = swing(t)
    toes, slope = (-0.48, 0.05), mix(4, 21, up)
    s.hips(*along(toes, 90 + slope, s.body.thigh + s.body.shin))
    s.legs((slope - 90, 0))
    s.torso(90 - slope, gaze=25)
    x = s.neck[0]
    s.hands((x + 0.02, SOLE), (x + 0.05, SOLE))


@cyclic("doing sit ups")
def sit_ups(s: Stage, t: float) -> None:
    up = swing(t)
    s.hips(-0.02, 0.09)
    s.feet((0.27, SOLE), (0.3, SOLE))
    s.torso(mix(-84, 12, up))
    behind_head = along(s.head, -60 - s.lean, 0.6 * s.body.head)
    s.hands(behind_head, behind_head)


@cyclic("doing pull ups")
def pull_ups(s: Stage, t: float) -> None:
    s.face_viewer()
    top, up = 1.22, swing(t)
    for x in (-0.36, 0.36):
        s.behind.line((x, 0), (x, top), width=0.03, color=METAL)
    s.behind.line((-0.38, top), (0.38, top), width=0.035, color=METAL)
    s.hips(0, top - s.body.torso - mix(0.33, 0.06, up))
    s.legs((4, 0))
    s.torso()
    s.hands((0.17, top), (-0.17, top))


@cyclic("doing a handstand")
def handstand(s: Stage, t: float) -> None:
    wobble = 6 * sway(t)
    s.hips(0, 0.7)
    s.torso(180 + wobble)
    s.legs((180 - wobble, 0), (176 - 3 * wobble, 8))
    s.arms((16, -10), (-16, 10))
    s.settle()


@one_way("falling down", photo_times=(0.3, 0.72))
def falling(s: Stage, t: float) -> None:
    drop = ramp(t, 0.12, 0.85) ** 1.4
    s.hips(0.15 - 0.3 * drop, mix(0.5, 0.1, drop))
    s.legs((mix(0, 88, drop) + 14 * swing(t), 12 * swing(t)), (mix(0, 80, drop), 25 * swing(t)))
    s.torso(-88 * drop, gaze=20 * swing(t))
    flail = swing(min(1.5 * t, 1.0))
    s.arms((30 + 110 * flail + 40 * drop, 20), (-30 + 190 * flail - 30 * drop, 20))
