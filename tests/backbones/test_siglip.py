"""SigLIP against Hugging Face's classes, and what a backbone of its kind means for students and scores."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import Tensor

from compiled import compare_compiled_gradients
from froster.backbones.siglip import Siglip, SiglipTokenizer
from froster.checkpoints.checkpoint import BackboneSource
from froster.checkpoints.own import backbone_digest, save_checkpoint
from froster.checkpoints.read import read_checkpoint
from froster.errors import FrosterError, WeightsError
from froster.explanation.maps import relevance_maps
from froster.inspection import inspect_checkpoint
from froster.models import load_backbone, load_model
from froster.students import build_student
from froster.students.frame_clip import FrameClip
from froster.text.classifier import cache_key, encode_classes
from froster.text.labels import check_labels
from siglip_files import CONFIG, SIZES, TEXTS, describe, gemma_like, new_siglip, unigram

LABELS = check_labels({"running": "", "brushing teeth": "moving a small brush across the teeth", "fencing": ""})


def hugging_face(tokenizer: Tokenizer, **others: Any) -> Any:
    """Hugging Face's network with random weights that are far enough from zero."""
    import transformers

    transformers.logging.set_verbosity_error()
    text = {**SIZES["text_config"], "vocab_size": tokenizer.get_vocab_size(), "bos_token_id": 0, "eos_token_id": 1}
    torch.manual_seed(0)
    model = transformers.SiglipModel(transformers.SiglipConfig(vision_config=SIZES["vision_config"], text_config=text))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" not in name and "logit" not in name:
                parameter.add_(0.05 * torch.randn_like(parameter))
        model.logit_scale.fill_(4.7)
        model.logit_bias.fill_(-16.5)
    return model.eval()


@pytest.fixture(scope="module")
def reference() -> Any:
    return hugging_face(gemma_like())


@pytest.fixture(scope="module")
def folder(reference: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as Hugging Face writes it."""
    path = tmp_path_factory.mktemp("siglip")
    reference.save_pretrained(path)
    describe(path, gemma_like())
    return path


def changed(folder: Path, to: Path, without: str = "", **files: object) -> Path:
    """A copy of a folder, without a file and with others changed."""
    for file in folder.iterdir():
        if file.name != without:
            (to / file.name).write_bytes(file.read_bytes())
    for stem, content in files.items():
        description = json.loads((to / f"{stem}.json").read_text())
        (to / f"{stem}.json").write_text(json.dumps({**description, **content}))  # type: ignore[dict-item]
    return to


def clips(batch: int = 2, frames: int = 4, height: int = 34, width: int = 34) -> Tensor:
    return torch.randn(batch, frames, 3, height, width, generator=torch.Generator().manual_seed(1))


@torch.inference_mode()
def test_embeddings_and_logits_are_hugging_faces(reference: Any, folder: Path) -> None:
    ours = load_backbone(folder)
    assert isinstance(ours, Siglip) and ours.config == CONFIG
    images, tokens = clips(1, 3)[0], ours.tokenizer(TEXTS)
    theirs = reference(input_ids=tokens, pixel_values=images)
    image, text = ours.encode_image(images), ours.encode_text(tokens)
    torch.testing.assert_close(image, reference.get_image_features(images).pooler_output, atol=2e-5, rtol=0)
    torch.testing.assert_close(text, reference.get_text_features(tokens).pooler_output, atol=2e-5, rtol=0)
    cosines = torch.nn.functional.normalize(image, dim=-1) @ torch.nn.functional.normalize(text, dim=-1).T
    logits = ours.similarities_to_logits(cosines)
    torch.testing.assert_close(logits, theirs.logits_per_image, atol=2e-5, rtol=2e-6)
    assert logits.std() > 1


@torch.inference_mode()
@pytest.mark.parametrize(("height", "width"), [(48, 48), (24, 56), (35, 33)])
def test_other_sizes_have_interpolated_positions(reference: Any, folder: Path, height: int, width: int) -> None:
    images = clips(1, 2, height, width)[0]
    theirs = reference.get_image_features(images, interpolate_pos_encoding=True).pooler_output
    torch.testing.assert_close(load_backbone(folder).encode_image(images), theirs, atol=2e-5, rtol=0)


@torch.inference_mode()
def test_sharded_files_and_the_first_generation(tmp_path: Path) -> None:
    reference = hugging_face(unigram())
    reference.save_pretrained(tmp_path, max_shard_size="60kB")
    assert (tmp_path / "model.safetensors.index.json").exists()
    describe(tmp_path, unigram(), resample=3)
    ours = load_backbone(tmp_path)
    assert ours.config.interpolation == "bicubic" and ours.config.resize_mode == "squash"
    tokens = ours.tokenizer(TEXTS)
    theirs = reference.get_text_features(tokens).pooler_output
    torch.testing.assert_close(ours.encode_text(tokens), theirs, atol=2e-5, rtol=0)


@pytest.mark.parametrize("resample", [2, 3])
def test_pictures_are_prepared_as_hugging_face_does(folder: Path, tmp_path: Path, resample: int) -> None:
    from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

    changed(folder, tmp_path, preprocessor_config={"resample": resample})
    rows, columns = torch.meshgrid(torch.arange(70), torch.arange(120), indexing="ij")
    channels = [100 + 70 * torch.sin(rows / 5), 128 + 90 * torch.cos(columns / 7), (rows * columns) % 256]
    picture = torch.stack(channels, dim=-1).to(torch.uint8).numpy()
    processor = SiglipImageProcessorPil.from_pretrained(tmp_path)
    theirs = torch.from_numpy(np.asarray(processor(Image.fromarray(picture))["pixel_values"][0]))
    prepared = load_backbone(tmp_path).preprocess(torch.from_numpy(picture)[None])[0]
    difference = (prepared - theirs).abs() * 127.5  # in gray levels
    assert difference.max() < 1.01 and difference.mean() < 0.1


def test_tokens_are_those_of_siglip_2(folder: Path) -> None:
    from transformers import Siglip2Tokenizer

    file = json.loads((folder / "tokenizer.json").read_text())
    theirs = Siglip2Tokenizer(
        file["model"]["vocab"],
        [tuple(pair) for pair in file["model"]["merges"]],
        add_bos_token=False,
        add_eos_token=True,
        padding_side="right",
    )
    texts = [*TEXTS, "", "Ünïcode, 走る and ICE-SKATING", "running and jumping " * 20]
    encoded = theirs(texts, padding="max_length", max_length=64, truncation=True)["input_ids"]
    ours = load_backbone(folder).tokenizer(texts)
    assert ours.tolist() == encoded and ours[-1, -1] == 1 and ours[0, -1] == 0


def test_tokens_are_those_of_the_first_generation() -> None:
    from transformers import PreTrainedTokenizerFast

    pieces = unigram()
    theirs = PreTrainedTokenizerFast(tokenizer_object=pieces, eos_token="</s>", pad_token="</s>", unk_token="<unk>")
    texts = {text: text for text in ("salsa dancing", "a photo of a person brushing teeth")}
    texts |= {"  Salsa,\tDANCING! ": "salsa dancing", "don't drop it?": "dont drop it"}
    ours = SiglipTokenizer(pieces.to_str().encode(), 64, pieces.get_vocab_size())
    expected = theirs([f"{text}</s>" for text in texts.values()], padding="max_length", max_length=64)["input_ids"]
    assert ours(list(texts)).tolist() == expected
    assert ours.lengths(ours(list(texts))).tolist() == [row.index(1) + 1 for row in expected]
    assert ours.lengths(ours("fencing " * 100)).tolist() == [64]
    assert ours.count_longer(["fencing " * 100, "fencing"], 64) == 1


def test_the_tokenizer_travels_with_the_weights(folder: Path, tmp_path: Path) -> None:
    student = load_model(folder, student="vclip")
    save_checkpoint(student, tmp_path / "own.safetensors", torch.float16)
    loaded = load_model(tmp_path / "own.safetensors")
    assert loaded.config == CONFIG and loaded.preprocess == student.preprocess
    assert torch.equal(loaded.tokenizer(TEXTS), student.tokenizer(TEXTS))
    assert loaded.tokenizer.file == (folder / "tokenizer.json").read_bytes()
    assert loaded.state_dict().keys() == student.state_dict().keys()


def test_adapters_take_the_tokenizer_from_their_backbone(folder: Path, tmp_path: Path) -> None:
    student = load_model(folder, student="adaptformer")
    student.backbone_source = BackboneSource(str(folder), backbone_digest(student.state_dict(), CONFIG))
    save_checkpoint(student, tmp_path / "adapters.safetensors")
    assert "tokenizer" not in load_file(tmp_path / "adapters.safetensors")
    loaded = load_model(tmp_path / "adapters.safetensors")
    assert torch.equal(loaded.tokenizer(TEXTS), student.tokenizer(TEXTS))


def test_cached_class_embeddings_are_of_one_tokenizer() -> None:
    one, other = FrameClip(new_siglip()), FrameClip(new_siglip())
    assert cache_key(one, LABELS, ()) == cache_key(other, LABELS, ())
    file = json.loads(gemma_like().to_str())
    file["model"]["merges"].pop()
    other.tokenizer = SiglipTokenizer(json.dumps(file).encode(), 64, CONFIG.vocab_size)
    assert cache_key(one, LABELS, ()) != cache_key(other, LABELS, ())


def test_inspect_says_what_it_is_and_from_where(folder: Path) -> None:
    found = inspect_checkpoint(folder)
    assert found.title == "SigLIP" and found.assumed == []
    sources = {
        name: found.sources[name] for name in ("vision_width", "vision_heads", "interpolation", "context_length")
    }
    assert sources == {
        "vision_width": "tensors",
        "vision_heads": "config.json",
        "interpolation": "preprocessor_config.json",
        "context_length": "tensors",
    }


def test_without_descriptions_heads_are_asked_for(folder: Path, tmp_path: Path) -> None:
    save_file(load_file(folder / "model.safetensors"), tmp_path / "model.safetensors")
    gemma_like().save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(WeightsError, match="tensors do not show vision_heads, and no released one has the width 64"):
        read_checkpoint(tmp_path)
    given = {"vision_heads": 2, "text_heads": 3, "interpolation": "bilinear"}
    checkpoint = read_checkpoint(tmp_path, given)
    assert checkpoint.config.image_size == 32  # the pixels behind the last patch do not show
    assert checkpoint.sources["vision_heads"] == "given" and checkpoint.sources["activation"] == "released SigLIPs"


@pytest.mark.parametrize(
    ("without", "files", "message"),
    [
        ("tokenizer.json", {}, "put the tokenizer.json of the model's repository into"),
        ("", {"tokenizer": {"model": {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "a"}}}, "WordLevel model"),
        ("", {"config": {"vision_config": {**SIZES["vision_config"], "hidden_act": "silu"}}}, "the activation 'silu'"),
        (
            "",
            {"config": {"vision_config": {**SIZES["vision_config"], "image_size": 64}}},
            "its image_size is 64, not 32",
        ),
        ("", {"preprocessor_config": {"size": {"shortest_edge": 34}}}, "are squashed to a height and a width"),
        ("", {"preprocessor_config": {"size": {"height": 64, "width": 64}}}, "its image_size is 64, not 34"),
        ("", {"preprocessor_config": {"do_normalize": False}}, "leaves out do_normalize"),
    ],
)
def test_a_folder_that_cannot_be_followed_is_refused(
    folder: Path, tmp_path: Path, without: str, files: dict[str, object], message: str
) -> None:
    changed(folder, tmp_path, without, **files)
    with pytest.raises(WeightsError, match=message):
        load_model(tmp_path)


def test_sentencepiece_alone_is_not_enough(folder: Path, tmp_path: Path) -> None:
    changed(folder, tmp_path, without="tokenizer.json")
    (tmp_path / "spiece.model").write_bytes(b"\n\x0e")
    with pytest.raises(WeightsError, match=r"\(spiece.model alone is not enough\)"):
        load_model(tmp_path)


def test_a_tokenizer_of_another_model_is_refused(folder: Path, tmp_path: Path) -> None:
    changed(folder, tmp_path)
    unigram().save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(WeightsError, match=r"tokenizer\.json has 51 tokens, the text encoder 400"):
        load_model(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(WeightsError, match=r"tokenizer\.json cannot be read"):
        load_model(tmp_path)


def test_naflex_and_lone_image_encoders_are_refused(folder: Path, tmp_path: Path) -> None:
    state = load_file(folder / "model.safetensors")
    patches = "vision_model.embeddings.patch_embedding.weight"
    save_file({**state, patches: state[patches].flatten(1)}, tmp_path / "naflex.safetensors")
    with pytest.raises(WeightsError, match="SigLIP 2 of the NaFlex kind"):
        load_model(tmp_path / "naflex.safetensors")
    vision = {key: value for key, value in state.items() if key.startswith("vision_model.")}
    save_file(vision, tmp_path / "vision.safetensors")
    with pytest.raises(WeightsError, match="image encoder of a SigLIP alone"):
        load_model(tmp_path / "vision.safetensors")


def test_a_missing_package_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(
        FrosterError, match=r'The tokenizer of SigLIP needs the extra siglip: pip install ".*\[siglip\]"'
    ):
        load_model(folder)


def test_without_a_tokenizer_there_are_no_texts() -> None:
    with pytest.raises(FrosterError, match="built without a tokenizer"):
        encode_classes(FrameClip(Siglip(CONFIG)), LABELS)


def test_a_video_that_stands_still_has_the_embeddings_of_its_frame() -> None:
    """Neighbor attention without a class token (Open-VCLIP Lemma A.1), with missing neighbors masked."""
    frame = clips(1, 1, 24, 40)
    student = build_student("vclip:boundary=masked", new_siglip())
    with torch.no_grad():
        still = student.encode_video(frame.expand(-1, 4, -1, -1, -1))
        alone = FrameClip(new_siglip()).encode_video(frame).expand(-1, 4, -1)
        torch.testing.assert_close(still, alone, atol=1e-5, rtol=0)


@pytest.mark.slow(7)
@pytest.mark.parametrize("name", ["frame_clip", "vclip"])
def test_compiles_to_one_graph(name: str) -> None:
    student = build_student(name, new_siglip()).train()
    compare_compiled_gradients(student, clips(), encode_classes(student, LABELS), backend="eager")


@pytest.mark.parametrize("kind", ["attention", "rollout", "gradient"])
@pytest.mark.parametrize("name", ["frame_clip", "vclip"])
def test_explanations_go_through_the_pooling(name: str, kind: str) -> None:
    student = build_student(name, new_siglip())
    maps = relevance_maps(student, clips()[0], kind, encode_classes(student, LABELS), 1)  # type: ignore[arg-type]
    assert maps.shape == (4, 4, 4)
    assert maps.max() == 1 and maps.min() >= 0 and maps.std() > 1e-4
