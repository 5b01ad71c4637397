"""Which classes a command looks for: names, vocabularies and files."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from froster.errors import FrosterError

if TYPE_CHECKING:
    from froster.data.manifests import LabelledVideo
    from froster.text.labels import Labels


def check_one_way(labels: str | None, labels_file: str | None, base: str | None, novel: str | None) -> None:
    """Raises `FrosterError` where the classes are named in no clear way."""
    ways = (labels is not None) + (labels_file is not None) + (base is not None or novel is not None)
    if ways > 1 or (base is None) != (novel is None):
        raise FrosterError(
            "Say in one way which classes to look for: --labels, or --labels-file, or --base together with --novel, "
            "or nothing for the labels of the manifest."
        )


def read_vocabularies(
    videos: Sequence["LabelledVideo"],
    labels: str | None,
    labels_file: str | None,
    base: str | None,
    novel: str | None,
    descriptions: Path | None,
) -> dict[str, "Labels"] | None:
    """The labels of each vocabulary, `all`, or `base` and `novel`; None for those of the videos as the model knows."""
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
    """Labels from names with commas, a labels file, or the name of a vocabulary."""
    from froster.text.labels import check_labels, parse_labels, read_labels

    if "," in text:
        return check_labels([name for name in text.split(",") if name.strip()], option)
    if Path(text).is_file() or Path(text).suffix in (".txt", ".json", ".csv"):
        return read_labels(text)
    return parse_labels(text)
