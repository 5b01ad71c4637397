"""Tokenizers: what every backbone's must do, and the byte pairs of the original CLIP."""

import functools
import html
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import ftfy
import instant_clip_tokenizer
import torch
from torch import Tensor

CONTEXT_LENGTH = 77
VOCAB_SIZE = 49408


class Tokenizer(ABC):
    """Texts to token ids.

    `context_length`: tokens of a text, start, end and padding included. `vocab_size`: number of token ids. `pad_id`:
    the id that fills up short texts. `file`: the content of the file it was read from, which goes with the weights
    wherever they are saved; None for a tokenizer that the package has itself.
    """

    context_length: int
    vocab_size: int
    pad_id: int
    file: bytes | None = None

    @abstractmethod
    def __call__(self, texts: str | Sequence[str], context_length: int | None = None) -> Tensor:
        """Token ids `(N, context_length)` int64, padded; longer texts are truncated.

        `context_length` is the tokenizer's own where it is None.
        """

    @abstractmethod
    def lengths(self, tokens: Tensor) -> Tensor:
        """Number of tokens of every text, start and end included, without padding: `(N, L)` int64 -> `(N,)`."""

    def count_longer(self, texts: Sequence[str], max_tokens: int, tokens: Tensor | None = None) -> int:
        """How many of N texts have more than `max_tokens` tokens; `tokens` are theirs, if they are known already."""
        tokens = self(texts, max_tokens) if tokens is None else tokens
        # Tokens do not tell a text that just fits from one that was truncated there.
        full = (self.lengths(tokens) >= max_tokens).nonzero().flatten().tolist()
        return int((self.lengths(self([texts[row] for row in full], max_tokens + 1)) > max_tokens).sum()) if full else 0


@dataclass(frozen=True)
class ClipTokenizer(Tokenizer):
    """The byte pairs of the original CLIP, between a start token and an end token, zero-padded."""

    context_length: int = CONTEXT_LENGTH
    vocab_size: int = VOCAB_SIZE
    pad_id: int = 0

    def __call__(self, texts: str | Sequence[str], context_length: int | None = None) -> Tensor:
        return tokenize(texts, context_length or self.context_length)

    def lengths(self, tokens: Tensor) -> Tensor:
        return tokens.argmax(dim=1) + 1  # the end token has the largest id


@functools.cache
def _byte_pairs() -> instant_clip_tokenizer.Tokenizer:
    return instant_clip_tokenizer.Tokenizer()


def tokenize(texts: str | Sequence[str], context_length: int = CONTEXT_LENGTH) -> Tensor:
    """Token ids as the original CLIP makes them: `(N, context_length)` int64, zero-padded.

    Each row is the start token, the byte pairs of the lower-cased text and the end token; a text that is too long is
    truncated, the end token kept last.
    """
    # The original repairs the encoding and unescapes HTML twice before it splits words.
    cleaned = [
        html.unescape(html.unescape(ftfy.fix_text(text))).strip()
        for text in ([texts] if isinstance(texts, str) else texts)
    ]
    ids = _byte_pairs().tokenize_batch(cleaned, context_length=context_length)
    return torch.from_numpy(ids.astype("int64"))
