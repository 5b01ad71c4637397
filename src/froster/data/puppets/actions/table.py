"""The table of actions: name, pose as a function of time, cyclic or one-way."""

from collections.abc import Callable
from dataclasses import dataclass

from froster.data.puppets.figure import Stage

Pose = Callable[[Stage, float], None]


@dataclass(frozen=True)
class Action:
    """One action: `pose(stage, t)` draws it at time t in [0, 1], from start to end or around one cycle."""

    name: str
    pose: Pose
    cyclic: bool
    photo_times: tuple[float, float]  # range of t for photos; may exceed 1 if cyclic
    travel: float = 0.0  # forward motion during a video, in units of the person's height
    reverse: str = ""  # the action that this one looks like played backwards, if any


TABLE: list[Action] = []


def cyclic(name: str, photo_times: tuple[float, float] = (0.0, 1.0), travel: float = 0.0) -> Callable[[Pose], Pose]:
    """Register an action that repeats: t = 1 looks like t = 0."""

    def register(pose: Pose) -> Pose:
        TABLE.append(Action(name, pose, True, photo_times, travel))
        return pose

    return register


def one_way(name: str, photo_times: tuple[float, float] = (0.0, 1.0), reverse: str = "") -> Callable[[Pose], Pose]:
    """Register an action that runs once from t = 0 to t = 1."""

    def register(pose: Pose) -> Pose:
        TABLE.append(Action(name, pose, False, photo_times, reverse=reverse))
        return pose

    return register
