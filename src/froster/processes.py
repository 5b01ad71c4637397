"""The processes that work together, as `torchrun` or `accelerate launch` started them."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

import torch

from froster.errors import FrosterError

if TYPE_CHECKING:
    from accelerate import PartialState

Part = TypeVar("Part")


def find_processes() -> "PartialState":
    """This process and its siblings; without a GPU they talk over gloo, and without a launcher there is one."""
    from accelerate import PartialState

    # Left to itself, accelerate takes several processes on the CPU for as many single ones.
    return PartialState(cpu=not torch.accelerator.is_available())


def count_processes() -> int:
    """How many processes the launcher started; 1 without one. Costs nothing, unlike `find_processes`."""
    return int(os.environ.get("WORLD_SIZE") or 1)


def process_index() -> int:
    """The rank of this process, 0 without a launcher."""
    return find_processes().process_index if count_processes() > 1 else 0


def gather_parts(part: Part) -> list[Part]:
    """The parts of all processes in the order of their ranks, the same list in each of them."""
    if count_processes() == 1:
        return [part]
    parts: list[Part | None] = [None] * find_processes().num_processes
    torch.distributed.all_gather_object(parts, part)
    return parts  # type: ignore[return-value]  # every place is filled


@contextmanager
def failing_together() -> Iterator[None]:
    """Within it, which takes no collective, an error of one process becomes at its end an error of all.

    Otherwise the others would wait for the one that failed. They raise `FrosterError` with its rank and message.
    """
    error: Exception | None = None
    try:
        yield
    except Exception as caught:
        error = caught
    messages = gather_parts(None if error is None else str(error) or type(error).__name__)
    if error is not None:
        raise error
    for rank, message in enumerate(messages):
        if message is not None:
            raise FrosterError(f"Process {rank} failed: {message}")
