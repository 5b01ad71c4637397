"""Classes and prompts of a command, from names, vocabularies and files."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from froster.cli.terminal import warn
from froster.errors import FrosterError

if TYPE_CHECKING:
    from froster.data.manifests import LabeledVideo
    from froster.text.labels import Labels

WHICH_ACTIONS = 'Give the actions: either --labels "a, b, c" or --labels-file FILE.'


def check_one_way(labels: str | None, labels_file: str | None, base: str | None, novel: str | None) -> None:
    """Raises `FrosterError` if the classes are given in several ways, or incompletely."""
    ways = (labels is not None) + (labels_file is not None) + (base is not None or novel is not None)
    if ways > 1 or (base is None) != (novel is None):
        raise FrosterError(
            "Give the classes in one way: --labels, or --labels-file, or --base together with --novel, "
            "or nothing for the labels of the manifest."
        )


def read_vocabularies(
    videos: Sequence["LabeledVideo"],
    labels: str | None,
    labels_file: str | None,
    base: str | None,
    novel: str | None,
    descriptions: Path | None,
) -> dict[str, "Labels"] | None:
    """The labels of each vocabulary: `all`, or `base` and `novel`; None for the labels of the videos."""
    from froster.text.descriptions import describe_labels
    from froster.text.labels import parse_labels, read_labels

    vocabularies: dict[str, Labels]
    if base is not None and novel is not None:
        vocabularies = {"base": names_or_file(base, "--base"), "novel": names_or_file(novel, "--novel")}
    elif labels_file is not None:
        vocabularies = {"all": read_labels(labels_file)}
    elif labels is not None:
        vocabularies = {"all": parse_labels(labels)}
    elif descriptions is None:
        return None
    else:
        vocabularies = {"all": dict.fromkeys(sorted({video.label for video in videos}), "")}
    if descriptions is not None:
        together = {name: text for names in vocabularies.values() for name, text in names.items()}
        described = describe_labels(together, descriptions)
        vocabularies = {part: {name: described[name] for name in names} for part, names in vocabularies.items()}
    return vocabularies


def names_or_file(text: str, option: str) -> "Labels":
    """Labels from comma-separated names, a labels file, or the name of a vocabulary."""
    from froster.text.labels import check_labels, parse_labels, read_labels

    if "," in text:
        return check_labels([name for name in text.split(",") if name.strip()], option)
    if Path(text).is_file() or Path(text).suffix in (".txt", ".json", ".csv"):
        return read_labels(text)
    return parse_labels(text)


def announce_splits(videos: Sequence["LabeledVideo"], split: str | None, manifest: Path) -> None:
    """Warn that all rows of a manifest with several splits are used if none is chosen."""
    from froster.data.manifests import describe_splits

    splits = describe_splits(videos) if split is None else None
    if splits:
        warn(f"Testing all {len(videos)} rows of {manifest}, from all splits ({splits}); choose one with --split.")


def labels_of(model: str, labels: str | None, labels_file: str | None) -> "Labels":
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


def announce_templates(model: str, given: "tuple[str, ...] | None") -> None:
    """Print a note if the model's own templates are used and differ from the default."""
    from froster.provenance import stored_provenance
    from froster.text.prompts import TEMPLATES

    own = stored_provenance(model).templates if given is None and model != "auto" else None
    if own and own != TEMPLATES:
        warn(f"Using the {len(own)} template{'s' * (len(own) > 1)} that {model} was trained with.")
