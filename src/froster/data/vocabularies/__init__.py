"""Class names of common datasets, in readable words, and the subsets used by the papers' protocols."""

import json
import re
from collections.abc import Iterable, Sequence
from functools import cache
from importlib.resources import files

from froster.data.puppets import ACTIONS
from froster.errors import FrosterError, did_you_mean
from froster.text.names import name_key

VOCABULARIES: dict[str, str] = {
    "ucf-101": "UCF-101: sports, instruments and daily life",
    "hmdb-51": "HMDB-51: short actions from films",
    "kinetics-400": "Kinetics-400: human actions from the web",
    "kinetics-600": "Kinetics-600: human actions from the web, more classes",
    "ssv2": "Something-Something V2: what hands do with things",
    "puppets": "synthetic benchmark of drawn figures",
}
HALVED = ("ucf-101", "hmdb-51", "kinetics-400", "ssv2", "puppets")
DRAWS = 3  # random draws of 160 Kinetics-600 classes that are not in Kinetics-400
PARTS: dict[str, str] = {
    **{f"{name}-{part}": f"{part} half of {name}" for name in HALVED for part in ("base", "novel")},
    **{f"kinetics-600-draw-{draw}": "160 classes that are not in kinetics-400" for draw in range(1, DRAWS + 1)},
    "kinetics-600-new": "the 220 classes that are not in kinetics-400, from which the draws are sampled",
    "puppets-base": "the 10 base classes of the puppets recipes",
    "puppets-novel": "the other 35 classes",
}


VOCABULARY_SPELLINGS = {name_key(name): name for name in (*VOCABULARIES, *PARTS)} | {
    "k400": "kinetics-400",
    "k600": "kinetics-600",
    "k400base": "kinetics-400-base",
    "k400novel": "kinetics-400-novel",
}


@cache
def read_vocabulary(name: str) -> tuple[str, ...]:
    """Class names of a dataset or of a subset (`"ucf-101-base"`), in alphabetical order.

    Raises `FrosterError` for an unknown name, with the closest known one.
    """
    name = VOCABULARY_SPELLINGS.get(name_key(name), name)
    if name not in VOCABULARIES and name not in PARTS:
        raise FrosterError(f"There is no vocabulary {name!r}; {did_you_mean(name, (*VOCABULARIES, *PARTS))}")
    if name == "puppets":
        return ACTIONS
    if name == "puppets-base":
        return tuple(ACTIONS[place * len(ACTIONS) // 10] for place in range(10))
    if name.endswith("-novel"):
        whole = name.removesuffix("-novel")
        base = read_vocabulary(f"{whole}-base")
        return tuple(action for action in read_vocabulary(whole) if action not in base)
    return tuple((files(__package__) / f"{name}.txt").read_text(encoding="utf-8").splitlines())


@cache
def published_halves(name: str) -> tuple[tuple[str, ...], ...]:
    """The ten halves of the classes that EP1 of Open-VCLIP tests: 50 of UCF-101 or 25 of HMDB-51, else none."""
    path = files(__package__) / f"{name}-halves.json"
    return tuple(map(tuple, json.loads(path.read_text(encoding="utf-8")))) if path.is_file() else ()


def readable_name(name: str) -> str:
    """A class name in lowercase words: `"ApplyEyeMakeup"` -> `"apply eye makeup"`; underscores and brackets removed."""
    words = name.replace("[", "").replace("]", "").replace("_", " ")
    if " " not in words.strip():
        words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", words)
    return " ".join(words.lower().split())


def canonical_names(names: Iterable[str], vocabulary: Sequence[str]) -> list[str]:
    """Each name in the vocabulary's spelling if they differ only in case and punctuation, else its `readable_name`."""
    spellings = {name_key(name): name for name in vocabulary}
    return [spellings.get(name_key(name), readable_name(name)) for name in names]
