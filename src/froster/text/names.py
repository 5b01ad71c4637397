"""When two names are the same: of classes, folders, datasets and vocabularies."""

import unicodedata


def name_key(name: str) -> str:
    """A name as it is compared: `Playing Violin`, `playing_violin` and `PlayingViolin` have one key.

    Case, spaces, punctuation and ways to encode one character (NFKC) make no difference; letters, digits, vowel signs
    and pictures (emoji) of every script do. Names of punctuation alone are compared as they are.
    """
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
    return "".join(filter(_counts, folded)) or name.strip()


def _counts(character: str) -> bool:
    # Marks hold the vowels of Hindi and Thai, which `\w` does not match; variation selectors hold nothing.
    if "\ufe00" <= character <= "\ufe0f":
        return False
    category = unicodedata.category(character)
    return category[0] in "LNM" or category == "So" or "\U0001f3fb" <= character <= "\U0001f3ff"  # skin tones
