"""The processes of a distributed run, as started by `torchrun` or `accelerate launch`."""

import torch
from accelerate import PartialState


def find_processes() -> PartialState:
    """This process and the others of the run: gloo without a GPU, a single process without a launcher."""
    # By default, accelerate treats several processes on the CPU as independent ones.
    return PartialState(cpu=not torch.accelerator.is_available())
