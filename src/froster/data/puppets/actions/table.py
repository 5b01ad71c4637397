"""The table of actions: a name, a pose function of time, and how the action plays."""

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
    moments: tuple[float, float]  # the stretch of t from which a photographer picks; may run past 1 when cyclic
    travel: float = 0.0  # how far the person moves ahead during a video, in units of the person's height
    reverse: str = ""  # the action that this one looks like when time runs backwards, if there is one


TABLE: list[Action] = []


def cyclic(name: str, moments: tuple[float, float] = (0.0, 1.0), travel: float = 0.0) -> Callable[[Pose], Pose]:
    """Enter an action that repeats: t = 1 looks like t = 0."""

    def enter(pose: Pose) -> Pose:
        TABLE.append(Action(name, pose, True, moments, travel))
        return pose

    return enter


def one_way(name: str, moments: tuple[float, float] = (0.0, 1.0), reverse: str = "") -> Callable[[Pose], Pose]:
    """Enter an action that runs once from t = 0 to t = 1."""

    def enter(pose: Pose) -> Pose:
        TABLE.append(Action(name, pose, False, moments, reverse=reverse))
        return pose

    return enter
