"""Families that froster knows and does not read are refused by name."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from froster.errors import WeightsError
from froster.models import load_model

# A few tensors of each layout, by the names in the released files; the text encoder is OpenCLIP's.
TEXT = ("text.token_embedding.weight", "text.positional_embedding", "text.transformer.resblocks.0.ln_1.weight")
FILES = {
    "a SigLIP in OpenCLIP's layout": ("visual.trunk.patch_embed.proj.weight", "visual.trunk.attn_pool.latent"),
    "an EVA-02-CLIP": ("visual.trunk.cls_token", "visual.trunk.blocks.0.mlp.fc1_g.weight"),
    "an EVA-02-CLIP, eva02_base_patch16_clip_224": ("visual.trunk.blocks.0.mlp.fc1_g.weight",),
    "a MobileCLIP": ("visual.trunk.patch_embed.backbone.stem.0.conv.weight", "visual.trunk.blocks.0.norm1.weight"),
    "a CLIP with a ConvNeXt as image encoder": ("visual.trunk.stages.0.blocks.0.conv_dw.weight",),
    "a CLIP with a ResNet as image encoder": ("visual.conv1.weight", "visual.layer1.0.conv1.weight"),
    "a CLIP with another text encoder": ("visual.conv1.weight", "text.transformer.encoder.layer.0.output.weight"),
    "a CLIP with an image encoder of the library timm": ("visual.trunk.blocks.0.norm1.weight",),
}


@pytest.mark.parametrize("family", FILES)
def test_the_family_is_named(family: str, tmp_path: Path) -> None:
    save_file({name: torch.ones(4, 4) for name in (*FILES[family], *TEXT)}, tmp_path / "open_clip_model.safetensors")
    timm_name = family.partition(", ")[2]
    if timm_name:
        model = {"vision_cfg": {"timm_model_name": timm_name, "timm_pool": "token"}}
        (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": model}))
    with pytest.raises(WeightsError, match=f"is {family}, which froster cannot build; "):
        load_model(tmp_path)


def test_what_to_use_instead_is_said(tmp_path: Path) -> None:
    save_file({"visual.trunk.attn_pool.latent": torch.ones(1)}, tmp_path / "siglip.safetensors")
    with pytest.raises(WeightsError, match="Hugging Face's layout, such as google/siglip2-base-patch16-224"):
        load_model(tmp_path / "siglip.safetensors")
