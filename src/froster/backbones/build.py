"""The table of backbones, and networks without values, to be filled from a checkpoint."""

import functools
import inspect
from typing import Any, TypeVar

import torch
from torch.overrides import TorchFunctionMode

from froster.backbones.base import Backbone, BackboneConfig
from froster.backbones.clip import Clip
from froster.backbones.perception_encoder import PerceptionEncoder
from froster.backbones.siglip import Siglip
from froster.errors import FrosterError

BACKBONES: dict[str, type[Backbone]] = {}
Registered = TypeVar("Registered", bound=type[Backbone])


def register_backbone(cls: Registered) -> Registered:
    """Class decorator: checkpoints may hold backbones of this class, under the `family` of its configs.

    Raises `FrosterError` where another class has that family.
    """
    family = cls.config_class.family
    other = BACKBONES.get(family)
    if other and (other.__module__, other.__qualname__) != (cls.__module__, cls.__qualname__):
        raise FrosterError(f"{inspect.getfile(other)} has a backbone {family!r} too; choose another name.")
    BACKBONES[family] = cls
    return cls


class Uninitialized(TorchFunctionMode):
    """Inside, modules are built without values: their memory is not even touched.

    On the meta device, random values would make PyTorch import its compiler, which takes a second.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__module__", "") == "torch.nn.init" or func in (torch.Tensor.normal_, torch.Tensor.uniform_):
            return args[0] if args else kwargs["tensor"]
        return (torch.empty if func is torch.randn else func)(*args, **kwargs)


def new_backbone(config: BackboneConfig) -> Backbone:
    """A backbone of the config's family, randomly initialized."""
    family: Any = BACKBONES[config.family]
    backbone: Backbone = family(config)
    return backbone


def build_backbone(config: BackboneConfig) -> Backbone:
    """A backbone without values, to be filled by `froster.checkpoints.read.load_into`."""
    with Uninitialized():
        return new_backbone(config)


@functools.cache
def backbone_names(config: BackboneConfig) -> frozenset[str]:
    """Names of a backbone's tensors, which every student on it has too."""
    return frozenset(build_backbone(config).state_dict())


register_backbone(Clip)
register_backbone(PerceptionEncoder)
register_backbone(Siglip)
