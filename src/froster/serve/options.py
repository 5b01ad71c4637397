"""Parse and check the options of a request."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast, get_args

from pydantic import BaseModel, ConfigDict, Field

from froster.data.vocabularies import VOCABULARY_SPELLINGS, read_vocabulary
from froster.errors import FrosterError
from froster.explanation import Kind
from froster.serve.errors import RequestError, bad_request
from froster.text.class_files import looks_like_json
from froster.text.classes import ClassTexts
from froster.text.labels import check_labels, split_names
from froster.text.names import name_key

MAX_TEXT = 1000  # characters; CLIP reads about 300
FLAGS = {"": False, "0": False, "1": True, "false": False, "true": True}


@dataclass(frozen=True)
class Options:
    """The fields of `POST /v1/recognize`, without the video."""

    labels: ClassTexts
    top: int
    frames: bool
    explain: Kind | None
    timeline: bool
    assumed: str | None = None  # a sentence on how the labels were read


class TextRequest(BaseModel):
    """The body of `POST /v1/embed/text`."""

    model_config = ConfigDict(extra="forbid", strict=True)

    texts: list[str] = Field(min_length=1)
    model: str | None = None


def read_options(fields: Mapping[str, str], max_labels: int, trained: ClassTexts | None) -> Options:
    """The options in a form's fields; without labels, those that the model was `trained` on. Raises `RequestError`."""
    top = fields.get("top") or "5"
    if not (top.isascii() and top.isdecimal() and int(top[:9]) > 0):
        raise bad_request(f"top must be a whole number, 1 or more, not {top!r}.")
    kinds = get_args(Kind)
    explain = fields.get("explain") or None
    if explain is not None and explain not in kinds:
        raise bad_request(f"explain must be one of {', '.join(kinds)}, or empty, not {explain!r}.")
    given, assumed = fields.get("labels", ""), None
    if trained and not given.strip():
        labels = trained
    else:
        labels, assumed = read_labels(given, max_labels)
    return Options(
        labels=labels,
        top=int(top[:9]),
        frames=read_flag(fields, "frames"),
        explain=cast(Kind | None, explain),
        timeline=read_flag(fields, "timeline"),
        assumed=assumed,
    )


def read_flag(fields: Mapping[str, str], name: str) -> bool:
    value = fields.get(name, "")
    if value not in FLAGS:
        raise bad_request(f"{name} must be 0 or 1, not {value!r}.")
    return FLAGS[value]


def read_labels(text: str, max_labels: int) -> tuple[ClassTexts, str | None]:
    """Labels from comma-separated names, a JSON list or a vocabulary, and a warning if that was ambiguous.

    Raises `RequestError`.
    """
    assumed = None
    if name_key(text) in VOCABULARY_SPELLINGS:
        names: list[object] = [*read_vocabulary(text)]
    elif looks_like_json(text):
        names = read_list(text)
    else:
        given, assumed = split_names(text)
        names = [*given]
    if not names:
        raise RequestError(422, "no_labels", "Say which actions to look for: labels, with commas between them.")
    if len(names) > max_labels:
        raise RequestError(422, "too_many_labels", f"{len(names)} labels exceed the maximum of {max_labels}.")
    try:
        labels = check_labels(names, "labels")  # type: ignore[arg-type]  # checks that they are text
    except FrosterError as error:
        raise bad_request(str(error)) from error
    check_texts(list(labels))
    return labels, assumed


def check_texts(texts: Sequence[str]) -> None:
    """Raises `RequestError` for invalid Unicode and for texts longer than any model reads."""
    for text in texts:
        if not text.strip():
            raise bad_request("One of the texts is empty; leave it out.")
        if any(letter == "\0" or "\ud800" <= letter <= "\udfff" for letter in text):
            raise bad_request(f"{text[:30]!a} contains an invalid character or a null byte; remove it.")
        if len(text) > MAX_TEXT:
            raise bad_request(f"{text[:30]!r}… is longer than {MAX_TEXT} characters.")


def read_list(text: str) -> list[object]:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise bad_request(f"labels look like JSON but are invalid: {error}.") from error
    if not isinstance(content, list):
        raise bad_request('labels as JSON must be a list: ["juggling", "fencing"].')
    return content
