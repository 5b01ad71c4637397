"""Labels (action names) with optional descriptions, from a string or a file."""

import difflib
import re
import warnings
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from froster.data.vocabularies import VOCABULARY_SPELLINGS, read_vocabulary, readable_name
from froster.errors import FrosterError, FrosterWarning
from froster.text.class_files import ListedClass, read_class_file
from froster.text.classes import ClassText, ClassTexts
from froster.text.names import name_key

# Classes as callers give them: the name of a vocabulary, names, or name -> description
LabelSet = str | Sequence[str] | Mapping[str, str] | ClassTexts

FILES = (".txt", ".json", ".csv", ".tsv", ".yaml", ".yml")  # suffixes of labels files
OTHER_SEPARATORS = re.compile("[;\n\uff0c\uff1b\u3001\u060c\u061b]")  # including Chinese, Japanese and Arabic ones


def parse_labels(text: str) -> ClassTexts:
    """Labels from `"juggling, brushing teeth"` or the name of a vocabulary, such as `"ucf-101"`.

    Without a comma, semicolons, line breaks and the commas of other scripts also separate names, with a warning; a
    comma after a single name (`"push; pull,"`) prevents that. Raises `FrosterError` if there are none, one is given
    twice, or the only one is a file or similar to the name of a vocabulary.
    """
    if name_key(text) in VOCABULARY_SPELLINGS:
        return check_labels(read_vocabulary(text))
    names, assumed = split_names(text)
    if assumed:
        warnings.warn(assumed, FrosterWarning, stacklevel=2)
    if assumed or "," in text:
        return check_labels(names, "labels")
    if is_file(text):
        raise FrosterError(f"{text!r} is a file, not action names; give it as `labels_file=`.")
    if Path(text.strip()).suffix.lower() in FILES:
        raise FrosterError(
            f"There is no file {text!r}; give an existing one as `labels_file=`, "
            f"or {f'{text},'!r} for an action with that name."
        )
    if near := difflib.get_close_matches(name_key(text), VOCABULARY_SPELLINGS, n=1, cutoff=0.65):
        raise FrosterError(
            f"There is no vocabulary {text!r}; did you mean the vocabulary {VOCABULARY_SPELLINGS[near[0]]!r}, "
            f"or {f'{text},'!r} for an action with that name?"
        )
    return check_labels([text] if text.strip() else [], "labels")


def split_names(text: str) -> tuple[list[str], str | None]:
    """The names that a text lists, and, where the separator had to be guessed, a sentence that says so."""
    if "," in text:
        return [name for name in text.split(",") if name.strip()], None
    names = [name.strip() for name in OTHER_SEPARATORS.split(text) if name.strip()]
    if OTHER_SEPARATORS.search(text.strip()):
        return names, f"Labels are separated by commas; {text.strip()!r} is read as {len(names)} names."
    return names, None


def is_file(text: str) -> bool:
    try:
        return Path(text).is_file()
    except (OSError, ValueError):  # too long for a file name, or with a null byte
        return False


def read_labels(path: str | Path) -> ClassTexts:
    """Labels from a file, in any format of `read_class_file`; classes with indices are sorted by index.

    Identifiers (ApplyEyeMakeup, brush_hair, Holding [something]) are converted to lowercase words, with a warning.
    Raises `FrosterError` if the file is missing, has another format, is empty, or names an action twice.
    """
    classes, numbered, _ = read_class_file(path, f"The labels file {path}")
    if numbered:
        classes = sorted(classes, key=lambda one: class_number(one, path))
    return check_pairs(
        [(name, one.description) for name, one in zip(in_words(classes, path), classes, strict=True)], path
    )


def class_number(one: ListedClass, path: str | Path) -> int:
    try:
        return int(one.number[:18])
    except ValueError:
        raise FrosterError(f"{path}: {one.name!r} has the index {one.number[:40]!r}, which is not a number.") from None


def in_words(classes: Sequence[ListedClass], path: str | Path) -> list[str]:
    """The names, converted to lowercase words (with a warning) if they are identifiers."""
    names = [one.name.strip() for one in classes]
    placeholders = any(re.search(r"\[(some|part|number)\w*", name, re.IGNORECASE) for name in names)
    identifiers = not any(re.search(r"\s", name) for name in names) and any(
        re.search(r"[a-z][A-Z]|\w_\w", name) for name in names
    )
    if not (placeholders or identifiers):
        return names
    changed = next(name for name in names if readable_name(name) != name.lower())
    warnings.warn(
        f"{path}: names are converted to words, such as {changed!r} to {readable_name(changed)!r}.",
        FrosterWarning,
        stacklevel=3,
    )
    return [readable_name(name) for name in names]


def warn_of_one_label(labels: Collection[str]) -> None:
    """Warn of a single label, whose score (a softmax over the labels) is always 1."""
    if message := one_label_message(labels):
        warnings.warn(message, FrosterWarning, stacklevel=3)


def one_label_message(labels: Collection[str]) -> str | None:
    """What to say of a single label; None where there are several."""
    if len(labels) != 1:
        return None
    return (
        f"There is one label, {next(iter(labels))!r}, so its score is 1 for every video; give other labels too, or a "
        "threshold on its similarity."
    )


def check_labels(labels: LabelSet, source: str | Path = "labels") -> ClassTexts:
    """The classes that a caller names: by a list, a mapping name -> description, or what `parse_labels` takes.

    Raises `FrosterError` that names `source` if there are none, one is given twice, or one is not text.
    """
    if isinstance(labels, ClassTexts):
        return labels
    if isinstance(labels, str):
        return parse_labels(labels)
    if isinstance(labels, Mapping):
        return check_pairs(list(labels.items()), source)
    return check_pairs([(name, "") for name in labels], source)


def check_pairs(pairs: Sequence[tuple[object, object]], source: str | Path) -> ClassTexts:
    texts: list[ClassText] = []
    spelled: dict[str, str] = {}  # lowercase -> name
    for name, description in pairs:
        if not isinstance(name, str) or not isinstance(description, str):
            wrong = name if not isinstance(name, str) else description
            raise FrosterError(f"{source}: names and descriptions must be text, not {wrong!r}.")
        name = name.strip()
        if not name:
            raise FrosterError(f"{source}: an action name is empty.")
        if (other := spelled.get(name.lower())) == name:
            raise FrosterError(f"{source}: the label {name!r} is given twice.")
        if other:
            raise FrosterError(
                f"{source}: the labels {other!r} and {name!r} are the same to CLIP, which lowercases text."
            )
        texts.append(ClassText(name, description.strip()))
        spelled[name.lower()] = name
    if not texts:
        raise FrosterError(f"No action names in {source}: give at least one.")
    return ClassTexts(texts)
