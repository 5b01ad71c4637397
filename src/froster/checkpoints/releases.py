"""The table of released models, `released.csv`: names, where the files are, and what their tensors do not show.

Its columns: `file`, the weights file of the repository on the Hugging Face hub (without one: of OpenAI's server);
`normalization`, CLIP's mean and std (`clip`) or 0.5 (`half`); `parameters` in millions, text encoder included;
`megabytes` of the file; `gflops` of one frame, multiply-add as two; published zero-shot top-1 in percent, on ImageNet
and, of 8 frames, on all classes of video datasets. Sources of these: `ZERO_SHOT_SOURCES`.
"""

import csv
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from functools import cache
from importlib.resources import files
from typing import Any

from froster.backbones.base import BackboneConfig
from froster.backbones.clip import ClipConfig
from froster.backbones.perception_encoder import PerceptionEncoderConfig
from froster.backbones.siglip import SiglipConfig
from froster.video.transforms import CLIP_MEAN, CLIP_STD

OPENAI = "OpenAI"  # a series
HALF = (0.5, 0.5, 0.5)
NORMALIZATIONS = {"clip": (CLIP_MEAN, CLIP_STD), "half": (HALF, HALF)}
ZERO_SHOT = ("imagenet", "kinetics_400", "kinetics_600", "ucf_101", "hmdb_51")  # columns
ZERO_SHOT_SOURCES = (
    "ImageNet: OpenCLIP's docs/openclip_results.csv; MetaCLIP's, Perception Encoder's and SigLIP 2's READMEs. "
    "Videos: Bolya et al., Perception Encoder, 2025."
)


def clip(image: int, patch: int, width: int, layers: int, heads: int, *text: int, **others: Any) -> ClipConfig:
    text_width, text_layers, text_heads, embed_dim = text
    return ClipConfig(image, patch, width, layers, heads, text_width, text_layers, text_heads, embed_dim, **others)


def perception_encoder(
    image: int, patch: int, width: int, layers: int, heads: int, *text: int, **others: Any
) -> PerceptionEncoderConfig:
    sizes = (image, patch, width, layers, heads)
    text_width, text_layers, text_heads, embed_dim = text
    return PerceptionEncoderConfig(*sizes, text_width, text_layers, text_heads, embed_dim, **others)


SIGLIP_SIZES = {  # width, layers, heads, hidden width of the MLPs; the giant has the text encoder of SO400M
    "B": (768, 12, 12, None),
    "L": (1024, 24, 16, None),
    "SO400M": (1152, 27, 16, 4304),
    "g-opt": (1536, 40, 16, None),
}


def siglip(size: str, patch: int, image: int, vocab_size: int) -> SiglipConfig:
    width, layers, heads, mlp_width = SIGLIP_SIZES[size]
    text_width, text_layers, text_heads, text_mlp_width = SIGLIP_SIZES["SO400M" if size == "g-opt" else size]
    text = (text_width, text_layers, text_heads, width)
    others: dict[str, Any] = {"vision_mlp_width": mlp_width, "text_mlp_width": text_mlp_width}
    return SiglipConfig(image, patch, width, layers, heads, *text, vocab_size=vocab_size, **others)


ARCHITECTURES: dict[str, BackboneConfig] = {
    "ViT-B/32": clip(224, 32, 768, 12, 12, 512, 12, 8, 512),
    "ViT-B/32-256": clip(256, 32, 768, 12, 12, 512, 12, 8, 512),
    "ViT-B/16": clip(224, 16, 768, 12, 12, 512, 12, 8, 512),
    "ViT-B/16+-240": clip(240, 16, 896, 12, 14, 640, 12, 10, 640),
    "ViT-L/14": clip(224, 14, 1024, 24, 16, 768, 12, 12, 768),
    "ViT-L/14-336": clip(336, 14, 1024, 24, 16, 768, 12, 12, 768),
    "ViT-H/14": clip(224, 14, 1280, 32, 16, 1024, 24, 16, 1024),
    "ViT-H/14-378": clip(378, 14, 1280, 32, 16, 1024, 24, 16, 1024),
    "ViT-g/14": clip(224, 14, 1408, 40, 16, 1024, 24, 16, 1024, vision_mlp_width=6144),
    "ViT-bigG/14": clip(224, 14, 1664, 48, 16, 1280, 32, 20, 1280, vision_mlp_width=8192),
    "PE-Core-T/16-384": perception_encoder(384, 16, 192, 12, 3, 512, 12, 8, 512),
    "PE-Core-S/16-384": perception_encoder(384, 16, 384, 12, 6, 512, 12, 8, 512),
    "PE-Core-B/16-224": perception_encoder(224, 16, 768, 12, 12, 1024, 24, 16, 1024),
    "PE-Core-L/14-336": perception_encoder(336, 14, 1024, 24, 16, 1024, 24, 16, 1024),
    "PE-Core-G/14-448": perception_encoder(
        448, 14, 1536, 50, 16, 1280, 24, 20, 1280, context_length=72, vision_mlp_width=8960, class_token=False
    ),
    **{f"SigLIP-B/16-{image}": siglip("B", 16, image, 32_000) for image in (224, 256, 384, 512)},
    "SigLIP-B/16-256-i18n": siglip("B", 16, 256, 250_000),
    **{f"SigLIP-L/16-{image}": siglip("L", 16, image, 32_000) for image in (256, 384)},
    **{f"SigLIP-SO400M/14-{image}": siglip("SO400M", 14, image, 32_000) for image in (224, 384)},
    "SigLIP2-B/32-256": siglip("B", 32, 256, 256_000),
    **{f"SigLIP2-B/16-{image}": siglip("B", 16, image, 256_000) for image in (224, 256, 384, 512)},
    **{f"SigLIP2-L/16-{image}": siglip("L", 16, image, 256_000) for image in (256, 384, 512)},
    **{f"SigLIP2-SO400M/14-{image}": siglip("SO400M", 14, image, 256_000) for image in (224, 384)},
    **{f"SigLIP2-SO400M/16-{image}": siglip("SO400M", 16, image, 256_000) for image in (256, 384, 512)},
    **{f"SigLIP2-g-opt/16-{image}": siglip("g-opt", 16, image, 256_000) for image in (256, 384)},
}


@dataclass(frozen=True)
class ReleasedModel:
    """A row of the table; numbers that nobody published are None.

    `repository`: on the Hugging Face hub, empty for OpenAI's files. `series`: what it belongs to (LAION-2B, DFN).
    """

    name: str
    series: str
    architecture: str
    repository: str
    file: str
    activation: str
    normalization: str
    resize: str
    interpolation: str
    license: str
    parameters: float
    megabytes: int
    gflops: float | None
    imagenet: float | None
    kinetics_400: float | None
    kinetics_600: float | None
    ucf_101: float | None
    hmdb_51: float | None

    @property
    def facts(self) -> dict[str, Any]:
        """What its tensors do not show, as fields of a backbone's config."""
        mean, std = NORMALIZATIONS[self.normalization]
        config = ARCHITECTURES[self.architecture]
        return {
            "activation": self.activation,
            "image_mean": mean,
            "image_std": std,
            "resize_mode": self.resize,
            "interpolation": self.interpolation,
            "vision_heads": config.vision_heads,
            "text_heads": config.text_heads,
        }

    def has_sizes(self, sizes: Mapping[str, Any]) -> bool:
        """Whether tensors of these `sizes` can be it."""
        return size_key(asdict(ARCHITECTURES[self.architecture])) == size_key(sizes)

    @property
    def zero_shot(self) -> dict[str, float]:
        """Published zero-shot top-1 in percent, by the names in `ZERO_SHOT`."""
        return {name: value for name in ZERO_SHOT if (value := getattr(self, name)) is not None}


@cache
def released_models() -> Mapping[str, ReleasedModel]:
    """All released models by name."""
    numbers = {field.name: field.type for field in fields(ReleasedModel) if field.type is not str}
    models = {}
    with (files("froster") / "checkpoints" / "released.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            values: dict[str, Any] = dict(row)
            for name, kind in numbers.items():
                values[name] = None if not row[name] else int(row[name]) if kind is int else float(row[name])
            models[row["name"]] = ReleasedModel(**values)
    return models


@cache
def names_of_models() -> Mapping[str, str]:
    """Model names by every spelling that `normalize_name` makes of their own names and of their repositories'."""
    models = released_models().values()
    of_repositories = {normalize_name(model.repository.rpartition("/")[2]): model.name for model in models}
    return of_repositories | {model.name: model.name for model in models}


def normalize_name(name: str) -> str:
    """A name as the table spells it: also OpenAI's `ViT-L/14@336px`, OpenCLIP's `ViT-B-32-quickgelu:laion400m_e32`."""
    return re.sub(r"[/@_:.]", "-", name.lower()).removesuffix("px").replace("-quickgelu", "")


def find_released(name: str) -> ReleasedModel | None:
    """The model of this name in any spelling, or that of the hub repository of this name."""
    found = names_of_models().get(normalize_name(name))
    return released_models()[found] if found else None


def size_key(sizes: Mapping[str, Any]) -> tuple[int, ...]:
    names = "patch_size image_size vision_width vision_layers text_width text_layers embed_dim"
    return tuple(sizes[name] for name in names.split())
