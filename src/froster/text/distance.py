"""Semantic distance of two vocabularies, from the cosines of their class embeddings."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from froster.errors import FrosterError, FrosterWarning
from froster.students import VideoStudent
from froster.text.classes import ClassTexts
from froster.text.classifier import load_or_encode_classes, unknown_labels, unknown_labels_message
from froster.text.names import name_key

if TYPE_CHECKING:
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

# Sizes of the heat map's cells and panels, in inches.
CELL, MIN_WIDTH, MAX_WIDTH, MIN_HEIGHT, MAX_HEIGHT = 0.2, 4.5, 11.0, 1.2, 13.0
# Class names: characters, and font sizes in points.
MAX_CHARACTERS, MIN_FONT, MAX_FONT = 60, 5.0, 9.0
CHARACTER_WIDTH, LINE_HEIGHT = 0.55, 1.18  # in units of the font size


def cosines(a: Tensor, b: Tensor) -> Tensor:
    """Cosine of every class of A with every class of B: `(K, D)`, `(L, D)` -> `(K, L)` float64, within [-1, 1]."""
    return (F.normalize(a.double(), dim=-1) @ F.normalize(b.double(), dim=-1).T).clamp(-1, 1)


def directed_similarity(a: Tensor, b: Tensor) -> float:
    """Directed Hausdorff similarity of A `(K, D)` to B `(L, D)`: min over a of max over b of their cosine.

    The directed Hausdorff distance with cosines instead of distances, so larger is closer.
    """
    return cosines(a, b).amax(dim=1).min().item()


def hausdorff_similarity(a: Tensor, b: Tensor) -> float:
    """Hausdorff similarity of class embeddings `(K, D)` and `(L, D)`, as a cosine: 1 for the same classes.

    The smaller of both directions, hence symmetric (FROSTER Fig. 1 and 5).
    """
    return min(directed_similarity(a, b), directed_similarity(b, a))


class ReleaseSimilarity(NamedTuple):
    """Mean, maximum and minimum over the test classes of their best cosine with a training class."""

    mean: float
    max: float
    min: float


def release_similarity(training: Tensor, test: Tensor) -> ReleaseSimilarity:
    """The dataset distance of the authors' code, from class embeddings `(K, D)` and `(L, D)`.

    It is the mean over the test classes of the largest cosine with any training class, so a one-sided similarity. The
    minimum is the directed Hausdorff similarity from test to training. To exclude test classes that are also training
    classes, use `without_shared`. (`dataset_distance/cal_sim.py`)
    """
    best = cosines(test, training).amax(dim=1)
    return ReleaseSimilarity(best.mean().item(), best.max().item(), best.min().item())


@dataclass(frozen=True)
class Vocabulary:
    """A vocabulary encoded by a model: title, K class names, their embeddings `(K, D)`."""

    title: str
    names: tuple[str, ...]
    embeddings: Tensor


@torch.inference_mode()
def encode_vocabulary(model: VideoStudent, title: str, labels: ClassTexts, prompts: bool = False) -> Vocabulary:
    """Class embeddings of the bare names, as in the authors' code, or with `prompts` as at inference; cached.

    `prompts`: use the model's templates, and descriptions if any. Warns of names with words unseen in pretraining.
    """
    if unknown := unknown_labels(model, labels):
        message = unknown_labels_message(unknown, len(labels), f"classes of {shortened(title)}")
        warnings.warn(message, FrosterWarning, stacklevel=2)
    if prompts:
        classes = load_or_encode_classes(model, labels)
    else:
        classes = load_or_encode_classes(model, ClassTexts.of_names(labels), templates=())
    device = next(model.parameters()).device
    return Vocabulary(title, tuple(labels), model.unconditional_class_embeddings(classes.to(device)).float().cpu())


def shared_names(names: Sequence[str], others: Sequence[str]) -> set[str]:
    """The names that are also among the others, compared by `name_key`."""
    known = {name_key(name) for name in others}
    return {name for name in names if name_key(name) in known}


def without_shared(vocabulary: Vocabulary, other: Vocabulary) -> Vocabulary:
    """The classes whose names are not in `other`. Raises `FrosterError` if none are left."""
    shared = shared_names(vocabulary.names, other.names)
    rows = [row for row, name in enumerate(vocabulary.names) if name not in shared]
    if not rows:
        all_of, found_in = shortened(vocabulary.title), shortened(other.title)
        raise FrosterError(f"All classes of {all_of} are also in {found_in}; without them there is nothing to compare.")
    return Vocabulary(vocabulary.title, tuple(vocabulary.names[row] for row in rows), vocabulary.embeddings[rows])


class Match(NamedTuple):
    """A class, the closest class of the other vocabulary, and their cosine."""

    name: str
    nearest: str
    similarity: float


@dataclass(frozen=True)
class Comparison:
    """Comparison of two vocabularies, in cosines: larger is closer.

    `a_matches`: every class of A with the closest class of B, closest first; `b_matches`: the reverse. `shared`: the
    classes of B whose names are also in A.
    """

    a: str
    b: str
    hausdorff: float
    a_to_b: float
    b_to_a: float
    release: ReleaseSimilarity
    a_matches: tuple[Match, ...]
    b_matches: tuple[Match, ...]
    shared: frozenset[str]

    def to_json(self) -> dict[str, Any]:
        return {
            "vocabulary": self.b,
            "classes": len(self.b_matches),
            "shared": sorted(self.shared),
            "hausdorff": self.hausdorff,
            "a_to_b": self.a_to_b,
            "b_to_a": self.b_to_a,
            "release": self.release._asdict(),
            "a_nearest_first": [match._asdict() for match in self.a_matches],
            "b_nearest_first": [match._asdict() for match in self.b_matches],
        }


def compare(a: Vocabulary, b: Vocabulary) -> Comparison:
    """Compare B, such as the classes of a test set, with A, those of a training set."""
    a_to_b, b_to_a = directed_similarity(a.embeddings, b.embeddings), directed_similarity(b.embeddings, a.embeddings)
    return Comparison(
        a.title,
        b.title,
        min(a_to_b, b_to_a),
        a_to_b,
        b_to_a,
        release_similarity(a.embeddings, b.embeddings),
        nearest_first(a, b),
        nearest_first(b, a),
        frozenset(shared_names(b.names, a.names)),
    )


def nearest_first(vocabulary: Vocabulary, other: Vocabulary) -> tuple[Match, ...]:
    """Every class with the closest class of the other vocabulary; the closest pair first."""
    best = cosines(vocabulary.embeddings, other.embeddings).max(dim=1)
    matches = [
        Match(name, other.names[column], similarity)
        for name, column, similarity in zip(vocabulary.names, best.indices.tolist(), best.values.tolist(), strict=True)
    ]
    # Rounding errors must not change the order of equal similarities.
    return tuple(sorted(matches, key=lambda match: -round(match.similarity, 6)))


# --- heat map -------------------------------------------------------------------------------------------------------


def draw_heat_map(a: Vocabulary, others: Sequence[Vocabulary]) -> "Figure":
    """Cosines of the classes of each vocabulary (rows) with those of A (columns), one panel each.

    Rows are sorted from the closest to A to the farthest, columns by their best row, so that the best matches are on
    the diagonal. Class names are drawn if they are large enough to read; a warning lists characters that no installed
    font has.
    """
    from matplotlib import rc_context

    texts = [text for vocabulary in (a, *others) for text in (vocabulary.title, *vocabulary.names)]
    with rc_context({"font.family": font_families("".join(texts))}):
        return draw_panels(a, others)


def font_families(text: str) -> list[str]:
    """Matplotlib's default font and, for the characters that it lacks, other installed fonts that have most of them."""
    from matplotlib.font_manager import FontProperties, fontManager, get_font

    default = FontProperties()
    families = list(default.get_family())
    missing = {ord(letter) for letter in text if letter.isprintable()}
    missing -= get_font(fontManager.findfont(default)).get_charmap().keys()
    if not missing:
        return families
    has = dict[str, set[int]]()
    for entry in fontManager.ttflist:
        # Only regular faces are drawn; the fonts of last resort have boxes for all characters.
        plain = (entry.style, entry.weight, entry.stretch) == ("normal", 400, "normal")
        if plain and "last resort" not in entry.name.lower().replace("lastresort", "last resort"):
            has[entry.name] = missing & get_font(entry.fname).get_charmap().keys()
    while missing and (best := max(has, key=lambda name: (len(missing & has[name]), name), default="")):
        if not missing & has[best]:
            letters = "".join(map(chr, sorted(missing)))
            warnings.warn(
                f"No installed font has {shortened(letters)!r}, so the heat map shows boxes; install Noto.",
                FrosterWarning,
                stacklevel=3,
            )
            break
        families.append(best)
        missing -= has[best]
    return families


def draw_panels(a: Vocabulary, others: Sequence[Vocabulary]) -> "Figure":
    from matplotlib.figure import Figure

    similarities = [cosines(other.embeddings, a.embeddings).numpy() for other in others]
    width, heights = (
        panel_size(a.names, MIN_WIDTH, MAX_WIDTH),
        [panel_size(b.names, MIN_HEIGHT, MAX_HEIGHT) for b in others],
    )
    below = label_length(a.names, width)
    left = max(label_length(b.names, height) for b, height in zip(others, heights, strict=True))
    figure = Figure(
        figsize=(width + left + 1.3, sum(heights) + len(others) * (below + 0.8)),
        dpi=150,
        facecolor="white",
        layout="constrained",
    )
    panels = figure.subplots(len(others), squeeze=False, height_ratios=heights)[:, 0]
    lowest, highest = min(map(np.min, similarities)), max(map(np.max, similarities))
    for axis, b, height, values in zip(panels, others, heights, similarities, strict=True):
        rows, columns = sort_for_diagonal(values)
        image = axis.imshow(
            values[rows][:, columns], aspect="auto", interpolation="nearest", cmap="viridis", vmin=lowest, vmax=highest
        )
        name_classes(axis.yaxis, [b.names[row] for row in rows], height)
        name_classes(axis.xaxis, [a.names[column] for column in columns], width, rotation=90)
        axis.spines[:].set_visible(False)
        distance, mean = (
            hausdorff_similarity(a.embeddings, b.embeddings),
            release_similarity(a.embeddings, b.embeddings).mean,
        )
        axis.set_title(
            f"rows: {shortened(b.title)} ({len(b.names)}), nearest first\n"
            f"columns: {shortened(a.title)} ({len(a.names)}), by their nearest row\n"
            f"Hausdorff {distance:.3f}, mean of max {mean:.3f}",
            loc="left",
            fontsize=MAX_FONT,
            parse_math=False,
        )
    figure.colorbar(image, ax=panels, label="cosine similarity", fraction=0.05, pad=0.01, aspect=30, anchor=(0, 1))
    return figure


def sort_for_diagonal(similarities: NDArray[np.float64]) -> tuple[list[int], list[int]]:
    """Order of rows, best cosine first, and of columns, by the position of their best row, then best first."""
    rows = np.argsort(-similarities.max(axis=1).round(6), kind="stable")
    ordered = similarities[rows].round(6)
    columns = np.lexsort((-ordered.max(axis=0), ordered.argmax(axis=0)))
    return rows.tolist(), columns.tolist()


def panel_size(names: Sequence[str], minimum: float, maximum: float) -> float:
    """Width or height of all cells, in inches."""
    return max(min(len(names) * CELL, maximum), minimum)


def font_size(names: Sequence[str], inches: float) -> float | None:
    """Font size in points for class names next to cells of `inches` in total; None if they do not fit."""
    size = min(inches * 72 / len(names) / LINE_HEIGHT, MAX_FONT)
    return size if size >= MIN_FONT else None


def label_length(names: Sequence[str], inches: float) -> float:
    """Space for the class names next to the cells, in inches."""
    size = font_size(names, inches)
    return 0.0 if size is None else max(len(shortened(name)) for name in names) * CHARACTER_WIDTH * size / 72


def name_classes(axis: "Axis", names: Sequence[str], inches: float, rotation: int = 0) -> None:
    size = font_size(names, inches)
    if size is None:
        axis.set_ticks([])
        return
    labels = [shortened(name) for name in names]
    axis.set_ticks(range(len(names)), labels, fontsize=size, rotation=rotation, parse_math=False)
    axis.set_tick_params(length=0)


def shortened(text: str, characters: int = MAX_CHARACTERS) -> str:
    """Shorten a long text in the middle, since paths and long names often differ at the end."""
    head = characters // 2
    return text if len(text) <= characters else f"{text[:head]}…{text[head + 1 - characters :]}"
