"""Class embeddings: one text embedding per class, averaged over its prompts, cached on disk."""

import hashlib
import json
import warnings
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import safetensors.torch
import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from torch import Tensor

from froster.backbones.build import BACKBONES
from froster.checkpoints.own import hash_exactly
from froster.errors import FrosterError, FrosterWarning
from froster.files import cache_dir, replace_when_written
from froster.students import VideoStudent
from froster.text.classes import ClassText, ClassTexts
from froster.text.labels import LabelSet, check_labels
from froster.text.prompts import class_prompts

TOKENS_PER_BATCH = 2048  # activations of a batch fit into a CPU's cache


def encode_texts(model: VideoStudent, texts: Sequence[str]) -> Tensor:
    """Rows of `encode_prompts`: N texts -> `(N, …)` float32 on the CPU, such as their features `(N, D)`.

    Warns of texts that exceed the maximum number of tokens.
    """
    tokens = token_ids(model, texts)
    warn_of_truncated_texts(model, texts, tokens)
    return encode_tokens(model, tokens)


@torch.inference_mode()
def encode_tokens(model: VideoStudent, tokens: Tensor) -> Tensor:
    """`encode_texts` for token ids `(N, L)` int64.

    Batches hold texts of similar length and are cut to the longest one unless the text encoder needs the padding. That
    is exact, and several times faster than all positions of every text.
    """
    device = next(model.text.parameters()).device
    lengths = needed_lengths(model, tokens)
    order = lengths.argsort(descending=True, stable=True)
    features = []
    start = 0
    while start < len(order):
        longest = int(lengths[order[start]])
        batch = order[start : start + max(1, TOKENS_PER_BATCH // longest)]
        features.append(model.encode_prompts(tokens[batch, :longest].to(device)).float().cpu())
        start += len(batch)
    return torch.cat(features)[order.argsort()]


def needed_lengths(model: VideoStudent, tokens: Tensor) -> Tensor:
    """How many tokens of every text its embedding depends on: `(N, L)` int64 -> `(N,)`."""
    if model.text.needs_padding:
        return torch.full((len(tokens),), tokens.shape[1])
    return model.tokenizer.lengths(tokens)


def token_ids(model: VideoStudent, texts: Sequence[str]) -> Tensor:
    """Token ids of the model's tokenizer: `(N, L)` int64. Raises `FrosterError` where the model has none for texts."""
    if model.config.vocab_size != model.tokenizer.vocab_size:
        raise FrosterError(
            f"This model has its own vocabulary of {model.config.vocab_size} tokens; "
            f"encoding text needs the {model.tokenizer.vocab_size} tokens of its tokenizer."
        )
    return model.tokenizer(texts)


def warn_of_truncated_texts(model: VideoStudent, texts: Sequence[str], tokens: Tensor) -> None:
    """Warn of the number of texts (with tokens `(N, L)`) that exceed the text encoder's maximum number of tokens."""
    warn_of_truncation(model, count_truncated(model, texts, tokens), len(texts))


def count_truncated(model: VideoStudent, texts: Sequence[str], tokens: Tensor) -> int:
    return model.tokenizer.count_longer(texts, model.text.max_text_tokens, tokens)


def warn_of_truncation(model: VideoStudent, truncated: int, prompts: int) -> None:
    if truncated:
        warnings.warn(
            f"{truncated} of {prompts} prompts exceed the maximum of {model.text.max_text_tokens} tokens of "
            f"{model.title} and are truncated.",
            FrosterWarning,
            stacklevel=3,
        )


def encode_classes(model: VideoStudent, labels: LabelSet, templates: tuple[str, ...] | None = None) -> Tensor:
    """Class embeddings of K classes: `(K, …)` float32, for most models `(K, D)`.

    The embeddings of a class's prompts are normalized, averaged, and the mean is normalized again; if the model's
    `normalize_class_embeddings` is False, they are only averaged. `templates`: by default the model's own.
    """
    templates = model.templates if templates is None else templates
    texts = check_labels(labels)
    classes, truncated = encode_and_count_truncated(model, texts, templates)
    warn_of_truncation(model, truncated, len(texts) * prompts_per_class(model, templates))
    return classes


def prompts_per_class(model: VideoStudent, templates: tuple[str, ...]) -> int:
    """How many prompts are averaged to a class embedding."""
    return len(class_prompts(ClassText(""), templates, model.prompt_style))


def encode_and_count_truncated(
    model: VideoStudent, labels: ClassTexts, templates: tuple[str, ...]
) -> tuple[Tensor, int]:
    """The class embeddings, and how many of their prompts are truncated."""
    prompts = [class_prompts(text, templates, model.prompt_style) for text in labels.values()]
    texts = [prompt for of_class in prompts for prompt in of_class]
    tokens = token_ids(model, texts)
    features = encode_tokens(model, tokens).unflatten(0, (len(prompts), -1)).transpose(0, 1)
    return average_prompts(model, features), count_truncated(model, texts, tokens)


def average_prompts(model: VideoStudent, features: Tensor) -> Tensor:
    """Class embeddings from the embeddings of P prompts per class: `(P, K, …)` -> `(K, …)` float32."""
    if not model.normalize_class_embeddings:
        return features.float().mean(dim=0)
    return F.normalize(F.normalize(features.float(), dim=-1).mean(dim=0), dim=-1)


def templates_for(model: VideoStudent, given: tuple[str, ...] | None, warn: bool = True) -> tuple[str, ...]:
    """The templates to encode classes with: those given, or the model's own.

    A model with learned prompts ignores templates, with a warning.
    """
    if given is None or not model.templates:
        if given is not None and warn:
            warnings.warn(
                f"{model.title} has learned prompts, so the templates are not used.",
                FrosterWarning,
                stacklevel=3,
            )
        return model.templates
    return given


def unknown_labels(model: VideoStudent, labels: Iterable[str]) -> list[str]:
    """The labels with a token unseen in pretraining: its token embedding is zero, as in our small model."""
    names = list(labels)
    unseen = ~model.text.token_embedding.weight.any(dim=1).cpu()
    unseen[model.tokenizer.pad_id] = False  # of CLIP also a real token
    return [
        name
        for name, unknown in zip(names, unseen[token_ids(model, names)].any(dim=1).tolist(), strict=True)
        if unknown
    ]


def warn_of_unknown_labels(model: VideoStudent, names: Sequence[str]) -> None:
    """Warn of labels that the model cannot recognize, because they contain tokens unseen in its pretraining."""
    if unknown := unknown_labels(model, names):
        warnings.warn(unknown_labels_message(unknown, len(names)), FrosterWarning, stacklevel=3)


def unknown_labels_message(unknown: Sequence[str], count: int, kind: str = "labels") -> str:
    some = ", ".join(unknown[:3]) + (", …" if len(unknown) > 3 else "")
    return (
        f"{len(unknown)} of {count} {kind} contain words unseen in this model's pretraining ({some}), "
        "so it cannot recognize them."
    )


def load_or_encode_classes(model: VideoStudent, labels: ClassTexts, templates: tuple[str, ...] | None = None) -> Tensor:
    """`encode_classes` with a cache on disk, keyed by labels, templates and text weights."""
    templates = model.templates if templates is None else templates
    path = cache_dir() / "classes" / f"{cache_key(model, labels, templates)}.safetensors"
    if (cached := load(path, len(labels))) is None:
        cached = encode_and_count_truncated(model, labels, templates)
        store(*cached, path)
    classes, truncated = cached
    warn_of_truncation(model, truncated, len(labels) * prompts_per_class(model, templates))
    return classes


def load(path: Path, classes: int) -> tuple[Tensor, int] | None:
    """Cached embeddings of `classes` classes and the number of truncated prompts; None if missing or damaged."""
    if not path.is_file():
        return None
    try:
        with safe_open(path, "pt") as file:
            embeddings, metadata = file.get_tensor("classes"), file.metadata()
        truncated = int(metadata["truncated"])
        if metadata["sha256"] == digest_of(embeddings) and len(embeddings) == classes and truncated >= 0:
            return embeddings, truncated
    except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError, OSError):
        pass
    with suppress(OSError):  # no write permission
        path.unlink(missing_ok=True)
    return None


def store(classes: Tensor, truncated: int, path: Path) -> None:
    metadata = {"truncated": str(truncated), "sha256": digest_of(classes)}
    try:
        with replace_when_written(path) as temporary:
            safetensors.torch.save_file({"classes": classes}, temporary, metadata=metadata)
    except (OSError, SafetensorError) as error:  # the result is still valid, the next run is just slower
        reason = getattr(error, "strerror", None) or error
        warnings.warn(
            f"The class embeddings cannot be cached in {path.parent} ({reason}); the next run computes "
            "them again. Set the environment variable FROSTER_CACHE to use another folder.",
            FrosterWarning,
            stacklevel=3,
        )


def digest_of(classes: Tensor) -> str:
    """SHA-256 of dtype, shape and values."""
    digest = hashlib.sha256(f"{classes.dtype} {tuple(classes.shape)}".encode())
    hash_exactly(digest, {"classes": classes})
    return digest.hexdigest()


def cache_key(model: VideoStudent, labels: ClassTexts, templates: tuple[str, ...]) -> str:
    """Hash of all that the class matrix depends on: the prompts, the network and its weights in their precision."""
    prompts = [class_prompts(text, templates, model.prompt_style) for text in labels.values()]
    # Most students encode text as their backbone does, and share their class matrices.
    is_custom = (type(model).encode_text, type(model).encode_prompts, type(model.text)) != (
        VideoStudent.encode_text,
        VideoStudent.encode_prompts,
        BACKBONES[model.config.family].text_class,
    )
    encoder = [
        model.normalize_class_embeddings,
        [type(model).__module__, type(model).__qualname__, model.options] if is_custom else [],
    ]
    digest = hashlib.sha256(json.dumps([prompts, model.config.family, asdict(model.config), encoder]).encode())
    digest.update(model.tokenizer.file or b"")
    hash_exactly(digest, model.text.state_dict())
    return digest.hexdigest()
