"""The table of released models: complete, and in agreement with the networks that it describes."""

from collections import Counter

import pytest
import torch

from froster.backbones.build import build_backbone
from froster.checkpoints.openai import RELEASES
from froster.checkpoints.own import check_config
from froster.checkpoints.releases import ARCHITECTURES, find_released, names_of_models, released_models


def test_all_series_are_there() -> None:
    assert Counter(model.series for model in released_models().values()) == {
        "OpenAI": 4, "LAION-400M": 8, "LAION-2B": 8, "DataComp": 7, "CommonPool": 21, "MetaCLIP": 9, "DFN": 5,
        "Perception Encoder": 5, "SigLIP": 9, "SigLIP 2": 15,
    }  # fmt: skip
    assert [name for name, model in released_models().items() if not model.repository] == list(RELEASES)
    repositories = [model.repository for model in released_models().values() if model.repository]
    assert len(repositories) == len(set(repositories)) == 87


@pytest.mark.parametrize(
    ("name", "repository", "file", "facts"),
    [
        (
            "vit-b-16-datacomp-xl-s13b-b90k",
            "laion/CLIP-ViT-B-16-DataComp.XL-s13B-b90K",
            "open_clip_pytorch_model.bin",
            ("gelu", "clip", "shortest", "bicubic"),
        ),
        (
            "vit-l-14-laion2b-s32b-b82k",
            "laion/CLIP-ViT-L-14-laion2B-s32B-b82K",
            "open_clip_pytorch_model.bin",
            ("gelu", "half", "shortest", "bicubic"),
        ),
        (
            "vit-b-32-laion400m-e32",
            "timm/vit_base_patch32_clip_224.laion400m_e32",
            "open_clip_model.safetensors",
            ("quick_gelu", "clip", "shortest", "bicubic"),
        ),
        (
            "vit-h-14-378-dfn5b",
            "apple/DFN5B-CLIP-ViT-H-14-378",
            "open_clip_pytorch_model.bin",
            ("quick_gelu", "clip", "squash", "bicubic"),
        ),
        (
            "vit-bigg-14-metaclip-fullcc",
            "timm/vit_gigantic_patch14_clip_224.metaclip_2pt5b",
            "open_clip_model.safetensors",
            ("quick_gelu", "clip", "shortest", "bicubic"),
        ),
        (
            "pe-core-g-14",
            "facebook/PE-Core-G14-448",
            "PE-Core-G14-448.pt",
            ("gelu", "half", "squash", "bilinear"),
        ),
        (
            "siglip2-giant-opt-patch16-384",
            "google/siglip2-giant-opt-patch16-384",
            "model.safetensors",
            ("gelu_tanh", "half", "squash", "bilinear"),
        ),
    ],
)
def test_some_rows(name: str, repository: str, file: str, facts: tuple[str, ...]) -> None:
    model = released_models()[name]
    assert (model.repository, model.file) == (repository, file)
    assert (model.activation, model.normalization, model.resize, model.interpolation) == facts


def test_published_accuracies() -> None:
    assert released_models()["pe-core-b-16"].zero_shot == {
        "imagenet": 78.4, "kinetics_400": 65.6, "kinetics_600": 65.1, "ucf_101": 84.6, "hmdb_51": 48.2,
    }  # fmt: skip
    assert released_models()["pe-core-t-16"].zero_shot == {"imagenet": 62.1, "kinetics_400": 41.5}
    assert released_models()["vit-bigg-14-laion2b-s39b-b160k"].zero_shot == {"imagenet": 80.1}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_architectures_are_buildable_and_have_the_parameters_of_the_table(name: str) -> None:
    config = ARCHITECTURES[name]
    check_config(config)
    with torch.device("meta"):
        parameters = sum(parameter.numel() for parameter in build_backbone(config).parameters())
    models = [model for model in released_models().values() if model.architecture == name]
    assert models
    for model in models:
        assert model.parameters == round(parameters / 1e6, 1)
        if model.repository:  # float32; OpenAI's are float16 for the most part
            assert model.megabytes == round(4 * parameters / 1e6)


@pytest.mark.parametrize(
    ("spelling", "name"),
    [
        ("ViT-L/14@336px", "vit-l-14-336"),
        ("ViT-B-32-quickgelu:laion400m_e32", "vit-b-32-laion400m-e32"),
        ("ViT-bigG-14/laion2b_s39b_b160k", "vit-bigg-14-laion2b-s39b-b160k"),
        ("PE-Core-B16-224", "pe-core-b-16"),
        ("CLIP-ViT-B-16-CommonPool.L.text-s1B-b8K", "vit-b-16-commonpool-l-text-s1b-b8k"),
        ("siglip-so400m-patch14-384", "siglip-so400m-patch14-384"),
    ],
)
def test_names_in_other_spellings(spelling: str, name: str) -> None:
    model = find_released(spelling)
    assert model
    assert model.name == name


def test_no_spelling_means_two_models() -> None:
    assert set(names_of_models().values()) == set(released_models())
    assert all(find_released(name) is model for name, model in released_models().items())
