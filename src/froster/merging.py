"""Models made of other models' weights: averages of checkpoints, and students patched with their backbone."""

import copy
from collections.abc import Iterator, Sequence
from pathlib import Path

from froster.backbones.base import Backbone
from froster.errors import FrosterError
from froster.interpolation import StateDict, average_states, patch_states
from froster.models import load_backbone, load_model
from froster.provenance import common_provenance, provenance_of
from froster.students import VideoStudent


def average_models(checkpoints: Sequence[str | Path]) -> VideoStudent:
    """A model whose weights are the mean of several checkpoints of one student (Open-VCLIP Algorithm 1).

    `checkpoints`: what `load_model` takes; a folder without a trained model stands for all .safetensors files in it,
    such as a run's `checkpoints`. Labels, templates and clip sampling are kept where the checkpoints agree. LoRA's
    updates are merged first: the mean of their products is not the product of their means.

    Raises `FrosterError` for fewer than two checkpoints, or checkpoints of different students; `WeightsError` for one
    that cannot be read.
    """
    paths = [file for path in checkpoints for file in checkpoints_in(path)]
    if len(paths) < 2:
        only = f"There is only one checkpoint, {paths[0]}" if paths else "There is no checkpoint"
        raise FrosterError(f"{only}; give several, or a folder of them, such as a run's checkpoints.")
    model = load_model(paths[0]).merged()
    provenance = [provenance_of(model)]

    def states() -> Iterator[StateDict]:
        yield {key: value.clone() for key, value in model.state_dict().items()}
        for path in paths[1:]:
            other = load_model(path).merged()
            if (other.name, other.options) != (model.name, model.options):
                raise FrosterError(
                    f"{path} holds {describe(other)}, {paths[0]} holds {describe(model)}: "
                    "only checkpoints of the same student can be averaged."
                )
            provenance.append(provenance_of(other))
            yield other.state_dict()

    model.load_state_dict(average_states(states()))
    common_provenance(provenance).apply_to(model, model.name)
    return model


def patch_model(
    student: VideoStudent | str | Path, backbone: Backbone | str | Path, ratio: float = 0.5
) -> VideoStudent:
    """A student whose weights are interpolated with those of its backbone: `ratio * backbone + (1 - ratio) * student`.

    Open-VCLIP's patching: more of the backbone is better on novel classes and worse on base ones. `student`: a model,
    which is copied, or what `load_model` takes; `backbone`: likewise the CLIP that it started from.

    Raises `FrosterError` for a ratio outside of 0 to 1, another backbone, or a student whose backbone is frozen, so
    that there is nothing to patch; `WeightsError` for a file that cannot be read.
    """
    model = copy.deepcopy(student) if isinstance(student, VideoStudent) else load_model(student)
    model = model.merged()
    if model.backbone_source:
        name = "This student" if isinstance(student, VideoStudent) else student
        raise FrosterError(f"{name} has only adapters and a frozen CLIP, so there is nothing to patch.")
    clip = backbone if isinstance(backbone, Backbone) else load_backbone(backbone)
    model.load_state_dict(patch_states(clip.state_dict(), model.state_dict(), ratio))
    return model


def describe(student: VideoStudent) -> str:
    options = ",".join(f"{key}={value}" for key, value in student.options.items())
    return f"{student.name}:{options}" if options else student.name


def checkpoints_in(path: str | Path) -> list[str | Path]:
    """The sorted .safetensors files of a folder; any other path unchanged."""
    found = sorted(file for file in Path(path).glob("*.safetensors") if not file.name.startswith("."))
    return [*found] or [path]
