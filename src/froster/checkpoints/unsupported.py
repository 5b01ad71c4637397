"""Vision-language models that froster knows and does not read, and the sentence that says so."""

import json
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from froster.errors import WeightsError

TIMM = "visual.trunk."  # what OpenCLIP calls an image encoder of the library timm
NO_TEXT = "it knows its training classes alone, by number; train the student {} on your clips instead"
READS = "froster reads CLIPs, Perception Encoder cores, and SigLIPs in Hugging Face's layout"


class Unsupported(NamedTuple):
    """A family: the parts of tensor names that give it away (any of them), its name, and what to use instead."""

    tensors: tuple[str, ...]
    title: str
    instead: str = READS


UNSUPPORTED = (
    Unsupported(
        (f"{TIMM}attn_pool.latent",),
        "a SigLIP in OpenCLIP's layout",
        "use the folder of the same model in Hugging Face's layout, such as google/siglip2-base-patch16-224",
    ),
    Unsupported((f"{TIMM}blocks.0.mlp.fc1_g.weight", "visual.blocks.0.mlp.w1.weight"), "an EVA-02-CLIP"),
    Unsupported(
        (f"{TIMM}patch_embed.backbone.", f"{TIMM}stages.0.blocks.0.token_mixer.", "image_encoder.model.patch_emb."),
        "a MobileCLIP",
    ),
    Unsupported((f"{TIMM}stages.0.blocks.0.conv_dw.",), "a CLIP with a ConvNeXt as image encoder"),
    Unsupported(("visual.layer1.0.conv1.weight",), "a CLIP with a ResNet as image encoder"),
    Unsupported(("text.transformer.encoder.layer.0.",), "a CLIP with another text encoder"),
    Unsupported((TIMM,), "a CLIP with an image encoder of the library timm"),
    Unsupported(
        (".adapter_pre_attn.fc1.weight", ".adapter_pre_mlp.fc1.weight"),
        "a network of ST-Adapter's own code, an image encoder with a classifier and no text encoder",
        NO_TEXT.format("st_adapter"),
    ),
    Unsupported(
        (".S_Adapter.D_fc1.weight", ".MLP_Adapter.D_fc1.weight"),
        "a network of AIM's own code, an image encoder with a classifier and no text encoder",
        NO_TEXT.format("aim"),
    ),
)


def refuse_unsupported(tensors: Iterable[str], path: Path) -> None:
    """Raises `WeightsError` that names the family of a file that froster knows and does not read."""
    names = list(tensors)
    for family in UNSUPPORTED:
        if any(part in name for name in names for part in family.tensors):
            called = f", {timm_name}" if (timm_name := described_timm_model(path)) else ""
            raise WeightsError(f"{path} is {family.title}{called}, which froster cannot build; {family.instead}.")


def described_timm_model(path: Path) -> str | None:
    """The image encoder that OpenCLIP's description next to the weights names, if any."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        description = json.loads(path.with_name("open_clip_config.json").read_text(encoding="utf-8"))
        name = description["model_cfg"]["vision_cfg"]["timm_model_name"]
        return name if isinstance(name, str) else None
    return None
