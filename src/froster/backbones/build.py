"""CLIPs without values, to be filled from a checkpoint."""

import functools
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from froster.backbones.clip import Clip, ClipConfig


class Uninitialized(TorchFunctionMode):
    """Inside, modules are built without values: their memory is not even touched.

    On the meta device, random values would make PyTorch import its compiler, which takes a second.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__module__", "") == "torch.nn.init" or func in (torch.Tensor.normal_, torch.Tensor.uniform_):
            return args[0] if args else kwargs["tensor"]
        return (torch.empty if func is torch.randn else func)(*args, **kwargs)


def build_clip(config: ClipConfig) -> Clip:
    """A `Clip` without values, to be filled by `froster.checkpoints.read.load_into`."""
    with Uninitialized():
        return Clip(config)


@functools.cache
def clip_names(config: ClipConfig) -> frozenset[str]:
    """Names of a CLIP's tensors, which every student has too."""
    return frozenset(build_clip(config).state_dict())
