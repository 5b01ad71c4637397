"""Byte-pair tokenizer of the original CLIP."""

import functools
import html
from collections.abc import Sequence

import ftfy
import instant_clip_tokenizer
import torch
from torch import Tensor

CONTEXT_LENGTH = 77
VOCAB_SIZE = 49408


@functools.cache
def _tokenizer() -> instant_clip_tokenizer.Tokenizer:
    return instant_clip_tokenizer.Tokenizer()


def tokenize(texts: str | Sequence[str], context_length: int = CONTEXT_LENGTH) -> Tensor:
    """Token ids as the original CLIP makes them: `(N, context_length)` int64, zero-padded.

    Each row is the start token, the byte pairs of the lower-cased text and the end token; a text that is too long is
    cut, the end token kept last.
    """
    # The original repairs the encoding and unescapes HTML twice before it splits words.
    cleaned = [
        html.unescape(html.unescape(ftfy.fix_text(text))).strip()
        for text in ([texts] if isinstance(texts, str) else texts)
    ]
    ids = _tokenizer().tokenize_batch(cleaned, context_length=context_length)
    return torch.from_numpy(ids.astype("int64"))
