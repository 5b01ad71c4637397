"""Compare the students: parameters, FLOPs, and results on puppets."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from math import isfinite
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from froster.backbones.base import BackboneConfig
from froster.backbones.build import build_backbone
from froster.bench.results import (
    FROSTER,
    METHODS,
    REGIMES,
    STUDENT_METHODS,
    Result,
    aggregate,
    begins_with_result,
    read_results,
    select,
)
from froster.checkpoints.folders import find_weights_file
from froster.checkpoints.read import read_checkpoint
from froster.checkpoints.releases import ARCHITECTURES, ZERO_SHOT_SOURCES, find_released, released_models
from froster.errors import FrosterError
from froster.flops import Cost, count_cost
from froster.mean_std import MeanStd
from froster.models import PUPPETS, puppets_weights, suggest
from froster.published import base_to_novel, cross_dataset
from froster.students import STUDENTS, build_student

PUPPETS_STUDENTS = {  # student of each method of the puppets benchmark, without most of FROSTER's variants
    "frozen": "frame_clip",
    "fine_tuned": "vclip",
    "open_vclip": "vclip",
    "residual": "vclip",
    "froster_averaged": "vclip",
} | {f"{name}{suffix}": name for name in STUDENTS for suffix in ("", FROSTER)}


@dataclass(frozen=True)
class Network:
    """A student with default options: its number of parameters, of trainable ones, and its FLOPs."""

    name: str
    title: str
    parameters: int
    trained: int
    flops: Cost


@dataclass(frozen=True)
class BackboneNumbers:
    """A released backbone: cost of a clip that is encoded frame by frame, and published zero-shot top-1 in percent."""

    name: str
    image_size: int
    parameters: int
    flops: int
    zero_shot: dict[str, float]


@dataclass(frozen=True)
class PuppetsScores:
    """Top-1 in percent of a method on puppets, over draws of the training clips."""

    student: str
    method: str
    regime: str
    base: MeanStd
    novel: MeanStd
    hm: MeanStd


def model_sizes(name: str) -> BackboneConfig:
    """Config of a released model, of the package's small one or of a file, without downloading weights.

    Raises `FrosterError` for an unknown name, with the closest known ones, and for a file that is no checkpoint.
    """
    if name == PUPPETS:
        return read_checkpoint(puppets_weights()).config
    if Path(name).exists():
        return read_checkpoint(find_weights_file(Path(name))).config
    model = find_released(name)
    if not model:
        raise FrosterError(f"There is no model {name!r}; {suggest(name)}")
    return ARCHITECTURES[model.architecture]


def all_networks(config: BackboneConfig, frames: int = 8) -> list[Network]:
    """Every student of `froster.students.STUDENTS` on a backbone of this config, for clips of `frames` frames.

    Raises `FrosterError` if a student does not support that many frames.
    """
    return [describe(name, config, frames) for name in STUDENTS]


def backbone_numbers(frames: int = 8) -> list[BackboneNumbers]:
    """The released backbones with published numbers on videos, and CLIP B/16, for clips of `frames` frames."""
    numbers = []
    for model in released_models().values():
        if model.kinetics_400 is not None or model.name == "vit-b-16":
            config = ARCHITECTURES[model.architecture]
            network = describe("frame_clip", config, frames)
            cost = network.parameters, network.flops.clip
            numbers.append(BackboneNumbers(model.name, config.image_size, *cost, model.zero_shot))
    return numbers


@cache
def describe(name: str, config: BackboneConfig, frames: int) -> Network:
    """A student with default options, on the meta device, which computes nothing."""
    with torch.device("meta"):
        student = build_student(name, build_backbone(config))
        cost = count_cost(student, frames)
    parameters, trained = student.parameters(), student.trainable_parameters().values()
    return Network(name, student.title, count(parameters), count(trained), cost)


def count(parameters: Iterable[Tensor]) -> int:
    return sum(parameter.numel() for parameter in parameters)


def read_puppets_scores(path: Path, students: Mapping[str, str] = PUPPETS_STUDENTS) -> list[PuppetsScores]:
    """Results of the puppets benchmark; `students` maps its methods to students.

    Raises `FrosterError` if there is no such file, or it has other content.
    """
    written = "`froster bench puppets` writes results.jsonl or students.jsonl"
    if not path.is_file():
        raise FrosterError(f"There is no file {path}; {written}.")
    if not begins_with_result(path):
        raise FrosterError(f"{path} is not a results file; {written}.")
    return puppets_scores(read_results(path), students)


def puppets_scores(results: Sequence[Result], students: Mapping[str, str] = PUPPETS_STUDENTS) -> list[PuppetsScores]:
    """Means over the draws, for every method in `students` and every regime with results."""
    titles = METHODS | STUDENT_METHODS
    scores = []
    for method, student in students.items():
        for regime in REGIMES:
            if chosen := select(results, regime, method):
                base, novel, hm = (aggregate(chosen, score) for score in ("base", "novel", "hm"))
                scores.append(PuppetsScores(student, titles[method], regime, base, novel, hm))
    return scores


def methods_to_json(
    networks: Sequence[Network], backbones: Sequence[BackboneNumbers], puppets: Sequence[PuppetsScores]
) -> dict[str, Any]:
    """Everything, including published numbers, in plain types; the std of one draw is None."""
    return {
        "networks": [asdict(network) for network in networks],
        "backbones": [{**asdict(backbone), "source": ZERO_SHOT_SOURCES} for backbone in backbones],
        "published": {
            "base_to_novel": [{**asdict(row), "secondhand": list(row.secondhand)} for row in base_to_novel()],
            "cross_dataset": [{**asdict(row), "secondhand": list(row.secondhand)} for row in cross_dataset()],
        },
        "models": [asdict(model) for model in released_models().values()],
        "puppets": [finite(asdict(scores)) for scores in puppets],
    }


def finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: finite(part) for key, part in value.items()}
    return None if isinstance(value, float) and not isfinite(value) else value
