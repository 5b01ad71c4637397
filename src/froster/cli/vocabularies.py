"""Classes and prompts of a command, from names, vocabularies and files."""

from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from froster.cli.terminal import warn
from froster.errors import FrosterError

if TYPE_CHECKING:
    from froster.text.classes import ClassTexts

WHICH_ACTIONS = 'Give the actions: either --labels "a, b, c" or --labels-file FILE.'


def check_one_way(labels: str | None, labels_file: str | None, base: str | None, novel: str | None) -> None:
    """Raises `FrosterError` if the classes are given in several ways, or incompletely."""
    ways = (labels is not None) + (labels_file is not None) + (base is not None or novel is not None)
    if ways > 1 or (base is None) != (novel is None):
        raise FrosterError(
            "Give the classes in one way: --labels, or --labels-file, or --base together with --novel, "
            "or nothing for the labels of the manifest."
        )


class ClassOptions(TypedDict):
    """The arguments of `froster.evaluate` that say which classes there are."""

    labels: "ClassTexts | None"
    base: "ClassTexts | None"
    novel: "ClassTexts | None"
    descriptions: Path | None


def read_classes(
    labels: str | None, labels_file: str | None, base: str | None, novel: str | None, descriptions: Path | None
) -> ClassOptions:
    """The classes that a command line names. Raises `FrosterError` where it does so in no clear way."""
    from froster.text.labels import parse_labels, read_labels

    check_one_way(labels, labels_file, base, novel)
    known = read_labels(labels_file) if labels_file is not None else None
    return {
        "labels": known if labels is None else parse_labels(labels),
        "base": None if base is None else names_or_file(base, "--base"),
        "novel": None if novel is None else names_or_file(novel, "--novel"),
        "descriptions": descriptions,
    }


def names_or_file(text: str, option: str) -> "ClassTexts":
    """Labels from comma-separated names, a labels file, or the name of a vocabulary."""
    from froster.text.labels import check_labels, parse_labels, read_labels

    if "," in text:
        return check_labels([name for name in text.split(",") if name.strip()], option)
    if Path(text).is_file() or Path(text).suffix in (".txt", ".json", ".csv"):
        return read_labels(text)
    return parse_labels(text)


def labels_of(model: str, labels: str | None, labels_file: str | None) -> "ClassTexts":
    """The given labels, or else those that the model was trained on.

    Raises `FrosterError` if the model has none.
    """
    from froster.provenance import stored_provenance
    from froster.text.labels import parse_labels, read_labels

    if labels_file is not None:
        return read_labels(labels_file)
    if labels is not None:
        return parse_labels(labels)
    found = stored_provenance(model).labels if model != "auto" else None
    if found is None:
        raise FrosterError(WHICH_ACTIONS)
    return found


def announce_templates(model: str, given: Path | None) -> None:
    """Print a note if the model's own templates are used and differ from the default."""
    from froster.provenance import stored_provenance
    from froster.text.prompts import TEMPLATES

    own = stored_provenance(model).templates if given is None and model != "auto" else None
    if own and own != TEMPLATES:
        warn(f"Using the {len(own)} template{'s' * (len(own) > 1)} that {model} was trained with.")
