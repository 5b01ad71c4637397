"""Class names of the field's data sets, in readable words, one text file each."""

import re
from importlib.resources import files

from froster.data.puppets import ACTIONS
from froster.errors import FrosterError, did_you_mean

VOCABULARIES: dict[str, str] = {
    "ucf-101": "UCF-101: sports, instruments and daily life",
    "hmdb-51": "HMDB-51: short actions from films",
    "kinetics-400": "Kinetics-400: human actions from the web",
    "kinetics-600": "Kinetics-600: the same, more of them",
    "ssv2": "Something-Something V2: what hands do with things",
    "puppets": "the embedded world of drawn figures",
}


def squeeze(name: str) -> str:
    """A name as people type it, without case and punctuation: UCF101, ucf_101."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


VOCABULARY_SPELLINGS = {squeeze(name): name for name in VOCABULARIES} | {"k400": "kinetics-400", "k600": "kinetics-600"}


def read_vocabulary(name: str) -> tuple[str, ...]:
    """Class names of a data set, in the order of the alphabet.

    Raises `FrosterError` for an unknown name; it names the nearest.
    """
    name = VOCABULARY_SPELLINGS.get(squeeze(name), name)
    if name not in VOCABULARIES:
        raise FrosterError(f"There is no vocabulary {name!r}; {did_you_mean(name, VOCABULARIES)}")
    if name == "puppets":
        return ACTIONS
    return tuple((files(__package__) / f"{name}.txt").read_text(encoding="utf-8").splitlines())
