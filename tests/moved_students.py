"""Students as training leaves them."""

import torch

from froster.backbones.base import Backbone
from froster.backbones.build import backbone_names
from froster.students import VideoStudent, build_student


def moved_student(name: str, backbone: Backbone) -> VideoStudent:
    """A student on this backbone in which nothing that it adds is at zero any more, with noise from torch's seed."""
    student = build_student(name, backbone).eval()
    of_backbone = backbone_names(backbone.config)
    with torch.no_grad():
        for key, parameter in student.named_parameters():
            if key not in of_backbone:
                parameter.add_(0.1 * torch.randn_like(parameter))
    return student
