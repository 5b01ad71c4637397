"""The processes that train together, as `torchrun` or `accelerate launch` started them."""

import torch
from accelerate import PartialState


def find_processes() -> PartialState:
    """This process and its siblings; without a GPU they talk over gloo, and without a launcher there is one."""
    # Left to itself, accelerate takes several processes on the CPU for as many single ones.
    return PartialState(cpu=not torch.accelerator.is_available())
