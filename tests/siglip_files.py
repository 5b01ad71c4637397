"""A small SigLIP with random weights, in the files of a Hugging Face folder, and tokenizers of both generations."""

import functools
import json
from pathlib import Path
from typing import Any

import torch
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from froster.backbones.siglip import Siglip, SiglipConfig

TEXTS = [
    "a photo of a person brushing teeth",
    "a video of a person running, jumping and fencing!",
    "an example of playing the guitar: plucking the strings",
    "Salsa dancing; Tai-Chi; don't drop it?",
]


@functools.cache
def gemma_like() -> Tokenizer:
    """Byte pairs with a fallback to bytes, spaces as "▁": SigLIP 2's kind."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    tokenizer.decoder = decoders.Replace("▁", " ")
    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", *(f"<0x{byte:02X}>" for byte in range(256))]
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator([text.lower() for text in TEXTS], trainer)
    return tokenizer


@functools.cache
def unigram() -> Tokenizer:
    """Unigram pieces of words that begin with "▁": SigLIP's kind."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.Replace(Regex(" {2,}"), " ")
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=90, special_tokens=["<pad>", "</s>", "<unk>"], unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator([text.lower() for text in TEXTS], trainer)
    return tokenizer


SIZES = {  # Hugging Face's names; patches see 32 of 34 pixels
    "vision_config": {
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": 34,
        "patch_size": 8,
    },
    "text_config": {
        "hidden_size": 48,
        "intermediate_size": 80,
        "num_hidden_layers": 2,
        "num_attention_heads": 3,
        "projection_size": 64,
        "max_position_embeddings": 64,
    },
}
PREPROCESSOR = {
    "do_convert_rgb": None,
    "do_normalize": True,
    "do_rescale": True,
    "do_resize": True,
    "image_mean": [0.5, 0.5, 0.5],
    "image_processor_type": "SiglipImageProcessor",
    "image_std": [0.5, 0.5, 0.5],
    "resample": 2,
    "rescale_factor": 0.00392156862745098,
    "size": {"height": 34, "width": 34},
}
CONFIG = SiglipConfig(
    image_size=34,
    patch_size=8,
    vision_width=64,
    vision_layers=2,
    vision_heads=2,
    text_width=48,
    text_layers=2,
    text_heads=3,
    embed_dim=64,
    vocab_size=400,
    vision_mlp_width=96,
    text_mlp_width=80,
    interpolation="bilinear",
)


def describe(folder: Path, tokenizer: Tokenizer | None, **preprocessor: Any) -> None:
    """Everything of a Hugging Face folder but `config.json` and the weights."""
    (folder / "preprocessor_config.json").write_text(json.dumps({**PREPROCESSOR, **preprocessor}))
    if tokenizer is not None:
        tokenizer.save(str(folder / "tokenizer.json"))


def new_siglip(seed: int = 0) -> Siglip:
    """One with random weights and a tokenizer like Gemma's."""
    torch.manual_seed(seed)
    siglip = Siglip(CONFIG).eval()
    siglip.read_tokenizer(gemma_like().to_str().encode())
    with torch.no_grad():  # far enough from uniform that a map has something to show
        for block in siglip.visual.blocks:
            block.attn.in_proj.weight.mul_(4)
    return siglip
