"""Normalization of names of classes, folders, datasets and vocabularies, to compare them."""

import unicodedata


def name_key(name: str) -> str:
    """The normalized form of a name: `Playing Violin`, `playing_violin` and `PlayingViolin` have the same key.

    Case, spaces, punctuation and Unicode encoding (NFKC) are removed; letters, digits, vowel signs and emoji of all
    scripts are kept. Names of punctuation only are compared as they are.
    """
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
    return "".join(filter(_counts, folded)) or name.strip()


def _counts(character: str) -> bool:
    # Marks are the vowels of Hindi and Thai, which `\w` does not match; variation selectors carry no meaning.
    if "\ufe00" <= character <= "\ufe0f":
        return False
    category = unicodedata.category(character)
    return category[0] in "LNM" or category == "So" or "\U0001f3fb" <= character <= "\U0001f3ff"  # skin tones
