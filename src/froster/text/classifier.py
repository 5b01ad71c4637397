"""The class matrix: one text feature per class, averaged over its prompts, computed once and kept on disk."""

import hashlib
import json
import warnings
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import safetensors.torch
import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from torch import Tensor

from froster.backbones.clip import TextTransformer
from froster.backbones.tokenizer import VOCAB_SIZE, tokenize
from froster.checkpoints.own import hash_exactly
from froster.errors import FrosterError, FrosterWarning
from froster.files import cache_dir, replace_when_written
from froster.students import VideoStudent
from froster.text.prompts import class_prompts

TOKENS_PER_BATCH = 2048  # small enough for a CPU to keep the activations in its cache


def encode_texts(model: VideoStudent, texts: Sequence[str]) -> Tensor:
    """Rows of `encode_prompts`: N texts -> `(N, …)` float32 on the CPU, such as their features `(N, D)`.

    Warns of texts that are too long.
    """
    tokens = token_ids(model, texts)
    warn_of_cut_texts(model, texts, tokens)
    return encode_tokens(model, tokens)


@torch.inference_mode()
def encode_tokens(model: VideoStudent, tokens: Tensor) -> Tensor:
    """`encode_texts` of token ids `(N, L)` int64.

    Texts go through in batches of similar length, each cut to its longest text. That is exact, since the text
    transformer is causal, and several times less work than 77 positions a text.
    """
    device = next(model.text.parameters()).device
    lengths = tokens.argmax(dim=1) + 1
    order = lengths.argsort(descending=True, stable=True)
    features = []
    start = 0
    while start < len(order):
        longest = int(lengths[order[start]])
        batch = order[start : start + max(1, TOKENS_PER_BATCH // longest)]
        features.append(model.encode_prompts(tokens[batch, :longest].to(device)).float().cpu())
        start += len(batch)
    return torch.cat(features)[order.argsort()]


def token_ids(model: VideoStudent, texts: Sequence[str]) -> Tensor:
    if model.config.vocab_size != VOCAB_SIZE:
        raise FrosterError(
            f"This model has a vocabulary of its own, {model.config.vocab_size} tokens; "
            f"text needs a model with the {VOCAB_SIZE} tokens of CLIP's tokenizer."
        )
    return tokenize(texts)


def warn_of_cut_texts(model: VideoStudent, texts: Sequence[str], tokens: Tensor) -> None:
    """Say how many of N texts, of tokens `(N, L)`, are longer than what the text encoder has room for."""
    warn_of_cut(model, count_cut(model, texts, tokens), len(texts))


def count_cut(model: VideoStudent, texts: Sequence[str], tokens: Tensor) -> int:
    room = model.text.max_text_tokens
    # Tokens tell no text that just fits from one that was cut there.
    long = [texts[row] for row in (tokens.argmax(dim=1) >= room - 1).nonzero().flatten().tolist()]
    return int((tokenize(long, room + 1)[:, -1] != 0).sum()) if long else 0


def warn_of_cut(model: VideoStudent, cut: int, prompts: int) -> None:
    if cut:
        warnings.warn(
            f"{cut} of {prompts} prompts are cut: the text encoder of {model.title} has room for "
            f"{model.text.max_text_tokens} tokens.",
            FrosterWarning,
            stacklevel=3,
        )


def encode_classes(model: VideoStudent, labels: Mapping[str, str], templates: tuple[str, ...] | None = None) -> Tensor:
    """Class matrix of K labels (name -> description, "" for none): `(K, …)` float32, of most models `(K, D)`.

    Each prompt's embedding is normalized, the prompts of a class are averaged, the mean is normalized again. Where the
    model's `normalize_class_embeddings` is False, it is the plain mean of what `encode_prompts` gives. `templates`: by
    default the model's own.
    """
    templates = model.templates if templates is None else templates
    classes, cut = encode_and_count_cut(model, labels, templates)
    warn_of_cut(model, cut, len(labels) * (len(templates) + 1))
    return classes


def encode_and_count_cut(
    model: VideoStudent, labels: Mapping[str, str], templates: tuple[str, ...]
) -> tuple[Tensor, int]:
    """The class matrix, and how many of its prompts are too long."""
    prompts = [class_prompts(name, description, templates) for name, description in labels.items()]
    texts = [prompt for of_class in prompts for prompt in of_class]
    tokens = token_ids(model, texts)
    features = encode_tokens(model, tokens).unflatten(0, (len(prompts), -1)).transpose(0, 1)
    return average_prompts(model, features), count_cut(model, texts, tokens)


def average_prompts(model: VideoStudent, features: Tensor) -> Tensor:
    """Class matrix from the features of P prompts of every class: `(P, K, …)` -> `(K, …)` float32."""
    if not model.normalize_class_embeddings:
        return features.float().mean(dim=0)
    return F.normalize(F.normalize(features.float(), dim=-1).mean(dim=0), dim=-1)


def templates_for(model: VideoStudent, given: tuple[str, ...] | None, warn: bool = True) -> tuple[str, ...]:
    """The templates to encode classes with: those given, or the model's own.

    A model that learns the words around the names has no use for them: it keeps its own, none, with a warning.
    """
    if given is None or not model.templates:
        if given is not None and warn:
            warnings.warn(
                f"{model.title} learns the words around the names: the templates are not used.",
                FrosterWarning,
                stacklevel=3,
            )
        return model.templates
    return given


def unknown_labels(model: VideoStudent, labels: Iterable[str]) -> list[str]:
    """The labels with a token that the model never saw: its row in the token table is zero, as in our small model."""
    names = list(labels)
    unseen = ~model.text.get_parameter("token_embedding.weight").any(dim=1).cpu()
    unseen[0] = False  # padding, and a real token besides
    return [
        name
        for name, unknown in zip(names, unseen[token_ids(model, names)].any(dim=1).tolist(), strict=True)
        if unknown
    ]


def warn_of_unknown_labels(model: VideoStudent, names: Sequence[str]) -> None:
    """Say how many of the labels the model cannot recognize, because it never saw their words."""
    if unknown := unknown_labels(model, names):
        some = ", ".join(unknown[:3]) + (", …" if len(unknown) > 3 else "")
        warnings.warn(
            f"This model was never shown words of {len(unknown)} of the {len(names)} labels ({some}): "
            "it cannot recognize them.",
            FrosterWarning,
            stacklevel=3,
        )


def load_or_encode_classes(
    model: VideoStudent, labels: Mapping[str, str], templates: tuple[str, ...] | None = None
) -> Tensor:
    """`encode_classes`, kept in the user's cache under the content of labels, templates and text weights."""
    templates = model.templates if templates is None else templates
    path = cache_dir() / "classes" / f"{cache_key(model, labels, templates)}.safetensors"
    if (kept := load(path, len(labels))) is None:
        kept = encode_and_count_cut(model, labels, templates)
        store(*kept, path)
    classes, cut = kept
    warn_of_cut(model, cut, len(labels) * (len(templates) + 1))
    return classes


def load(path: Path, classes: int) -> tuple[Tensor, int] | None:
    """The matrix of so many classes and the number of its cut prompts; None if there is none, or a damaged one."""
    if not path.is_file():
        return None
    try:
        with safe_open(path, "pt") as file:
            matrix, metadata = file.get_tensor("classes"), file.metadata()
        cut = int(metadata["cut"])
        if metadata["sha256"] == matrix_digest(matrix) and len(matrix) == classes and cut >= 0:
            return matrix, cut
    except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError, OSError):
        pass
    with suppress(OSError):  # of somebody else, or on a disk that cannot be written
        path.unlink(missing_ok=True)
    return None


def store(classes: Tensor, cut: int, path: Path) -> None:
    metadata = {"cut": str(cut), "sha256": matrix_digest(classes)}
    try:
        with replace_when_written(path) as temporary:
            safetensors.torch.save_file({"classes": classes}, temporary, metadata=metadata)
    except (OSError, SafetensorError) as error:  # costs the next run some time, not this run its result
        reason = getattr(error, "strerror", None) or error
        warnings.warn(
            f"The class embeddings cannot be kept in {path.parent} ({reason}): the next run computes "
            "them again. The environment variable FROSTER_CACHE moves the cache.",
            FrosterWarning,
            stacklevel=3,
        )


def matrix_digest(classes: Tensor) -> str:
    """SHA-256 of the numbers, their type and the shape."""
    digest = hashlib.sha256(f"{classes.dtype} {tuple(classes.shape)}".encode())
    hash_exactly(digest, {"classes": classes})
    return digest.hexdigest()


def cache_key(model: VideoStudent, labels: Mapping[str, str], templates: tuple[str, ...]) -> str:
    """Hash of all that the class matrix depends on: the prompts, the network and its weights in their precision."""
    prompts = [class_prompts(name, description, templates) for name, description in labels.items()]
    # Most students encode text as CLIP does, and share their class matrices.
    own_way = (type(model).encode_text, type(model).encode_prompts, type(model.text)) != (
        VideoStudent.encode_text,
        VideoStudent.encode_prompts,
        TextTransformer,
    )
    encoder = [
        model.normalize_class_embeddings,
        [type(model).__module__, type(model).__qualname__, model.options] if own_way else [],
    ]
    digest = hashlib.sha256(json.dumps([prompts, asdict(model.config), encoder]).encode())
    hash_exactly(digest, model.text.state_dict())
    return digest.hexdigest()
