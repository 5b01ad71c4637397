import json

import torch

from froster.backbones.tokenizer import tokenize
from goldens import GoldenFile


def test_every_golden_text(golden_file: GoldenFile) -> None:
    golden = json.loads(golden_file("tokenizer.json").read_text())
    tokens = tokenize(golden["texts"])
    assert tokens.dtype == torch.int64
    assert tokens.shape == (len(golden["texts"]), 77)
    for text, row, ids in zip(golden["texts"], tokens.tolist(), golden["ids"], strict=True):
        assert row == ids + [0] * (77 - len(ids)), text


def test_known_ids() -> None:
    assert tokenize("a photo of a cat").tolist()[0][:7] == [49406, 320, 1125, 539, 320, 2368, 49407]


def test_long_text_keeps_its_end_token() -> None:
    row = tokenize("word " * 200)[0]
    assert row[0] == 49406
    assert row[-1] == 49407
    assert tokenize(["word " * 200, "word"], context_length=8).shape == (2, 8)
