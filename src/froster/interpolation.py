"""Averaging and patching of weights (Open-VCLIP, ICML 2023, Algorithm 1)."""

from collections.abc import Iterable

import torch
from torch import Tensor

from froster.errors import FrosterError

StateDict = dict[str, Tensor]


class WeightAverage:
    """Stochastic weight averaging: the running mean over calls of `update`, in float32."""

    def __init__(self) -> None:
        self.count = 0
        self.mean: StateDict = {}

    def update(self, state: StateDict) -> None:
        """Add one sample of the weights."""
        self.count += 1
        if self.count == 1:
            self.mean = {key: value.detach().clone().float() for key, value in state.items()}
            return
        for key, value in state.items():
            self.mean[key].lerp_(value.detach().float(), 1 / self.count)


def average_states(states: Iterable[StateDict]) -> StateDict:
    """Mean of checkpoints, over all tensors, adapters and projectors included.

    Raises `FrosterError` when there are none, or they are of different networks.
    """
    average = WeightAverage()
    for number, state in enumerate(states, start=1):
        if average.count:
            check_same_network(average.mean, state, f"Checkpoint 1 and checkpoint {number}")
        average.update(state)
    if not average.count:
        raise FrosterError("There is nothing to average: give at least one checkpoint.")
    return average.mean


def patch_states(clip: StateDict, student: StateDict, ratio: float) -> StateDict:
    """`ratio * clip + (1 - ratio) * student` (Open-VCLIP's patching): 0 is the student, 1 is CLIP.

    Tensors that CLIP does not have keep the student's values. Raises `FrosterError` when the ratio is not in [0, 1], or
    when tensors of CLIP are missing in the student or have another shape.
    """
    if not 0 <= ratio <= 1:
        raise FrosterError(f"The ratio is the interpolation weight of CLIP, from 0 to 1, not {ratio}.")
    check_same_network(clip, {key: student[key] for key in clip if key in student}, "This CLIP and this student")
    return {
        key: torch.lerp(value.float(), clip[key].to(value.device, torch.float32), ratio) if key in clip else value
        for key, value in student.items()
    }


def check_same_network(first: StateDict, second: StateDict, which: str) -> None:
    """Raises `FrosterError` that begins with `which` where names or shapes differ."""
    different = first.keys() ^ second.keys() or {key for key in first if first[key].shape != second[key].shape}
    if different:
        some = ", ".join(sorted(different)[:3]) + (", …" if len(different) > 3 else "")
        raise FrosterError(f"{which} are of different networks: they differ in {some}.")
