"""Semantic distance of two vocabularies: how near the classes of one are to those of the other, in CLIP's words."""

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
from froster.text.classifier import load_or_encode_classes, unknown_labels
from froster.text.labels import Labels
from froster.text.names import name_key

if TYPE_CHECKING:
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

# Of a heat map, in inches: a cell, and all cells of a panel together.
CELL, NARROWEST, WIDEST, LOWEST, TALLEST = 0.2, 4.5, 11.0, 1.2, 13.0
# Of its class names: letters, and typographic points.
LETTERS, SMALLEST, LARGEST = 60, 5.0, 9.0
LETTER_WIDTH, LINE_HEIGHT = 0.55, 1.18  # in units of the font size


def cosines(a: Tensor, b: Tensor) -> Tensor:
    """Cosine of every class of A with every class of B: `(K, D)`, `(L, D)` -> `(K, L)` float64, within [-1, 1]."""
    return (F.normalize(a.double(), dim=-1) @ F.normalize(b.double(), dim=-1).T).clamp(-1, 1)


def directed_similarity(a: Tensor, b: Tensor) -> float:
    """Best cosine of that class of A, `(K, D)`, which is farthest from all of B, `(L, D)`: min over a of max over b.

    The directed Hausdorff distance with the cosine in place of a distance, so larger is nearer.
    """
    return cosines(a, b).amax(dim=1).min().item()


def hausdorff_similarity(a: Tensor, b: Tensor) -> float:
    """Hausdorff distance of class features `(K, D)` and `(L, D)`, as a cosine: 1 for the same classes.

    The smaller of both directions, so it is symmetric: no class of either is farther from all of the other. The measure
    that FROSTER Fig. 1 and 5 name.
    """
    return min(directed_similarity(a, b), directed_similarity(b, a))


class ReleaseSimilarity(NamedTuple):
    """Mean, largest and smallest of the best cosines of the test classes."""

    mean: float
    max: float
    min: float


def release_similarity(training: Tensor, test: Tensor) -> ReleaseSimilarity:
    """What the authors' code calls the distance of datasets, of class features `(K, D)` and `(L, D)`.

    Its number is the mean over the test classes of the largest cosine with any training class: one-sided, and a
    similarity. The smallest is the directed Hausdorff from test to training. It can leave out the test classes that are
    training classes too: `without_shared`. (`dataset_distance/cal_sim.py`)
    """
    best = cosines(test, training).amax(dim=1)
    return ReleaseSimilarity(best.mean().item(), best.max().item(), best.min().item())


@dataclass(frozen=True)
class Vocabulary:
    """A vocabulary as a model reads it: what it is called, its K class names, their features `(K, D)`."""

    title: str
    names: tuple[str, ...]
    features: Tensor


@torch.inference_mode()
def read_by_model(model: VideoStudent, title: str, labels: Labels, prompts: bool = False) -> Vocabulary:
    """Class features of bare names, as in the authors' code, or with `prompts` as in recognition; cached.

    `prompts`: the model's templates, and descriptions where there are any. Warns of names whose words the model never
    saw.
    """
    if unknown := unknown_labels(model, labels):
        warnings.warn(
            f"This model was never shown words of {len(unknown)} of the {len(labels)} classes of {shortened(title)}: "
            "their similarities say little.",
            FrosterWarning,
            stacklevel=2,
        )
    if prompts:
        classes = load_or_encode_classes(model, labels)
    else:
        classes = load_or_encode_classes(model, dict.fromkeys(labels, ""), templates=())
    device = next(model.parameters()).device
    return Vocabulary(title, tuple(labels), model.unconditional_class_embeddings(classes.to(device)).float().cpu())


def shared_names(names: Sequence[str], others: Sequence[str]) -> set[str]:
    """The names that are also among the others, as `name_key` compares them."""
    known = {name_key(name) for name in others}
    return {name for name in names if name_key(name) in known}


def without_shared(vocabulary: Vocabulary, other: Vocabulary) -> Vocabulary:
    """The classes that `other` does not have under the same name. Raises `FrosterError` when none are left."""
    shared = shared_names(vocabulary.names, other.names)
    rows = [row for row, name in enumerate(vocabulary.names) if name not in shared]
    if not rows:
        all_of, found_in = shortened(vocabulary.title), shortened(other.title)
        raise FrosterError(f"All classes of {all_of} are in {found_in} too; without them there is nothing to compare.")
    return Vocabulary(vocabulary.title, tuple(vocabulary.names[row] for row in rows), vocabulary.features[rows])


class Match(NamedTuple):
    """A class, the class of the other vocabulary that is nearest to it, and their cosine."""

    name: str
    nearest: str
    similarity: float


@dataclass(frozen=True)
class Comparison:
    """Two vocabularies, in cosines: larger is nearer.

    `a_matches`: every class of A with its nearest of B, nearest first; `b_matches` the other way round. `shared`: the
    classes of B that A has under the same name.
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
    """All that is known of the distance of B, such as the classes of a test, from A, those of a training."""
    a_to_b, b_to_a = directed_similarity(a.features, b.features), directed_similarity(b.features, a.features)
    return Comparison(
        a.title,
        b.title,
        min(a_to_b, b_to_a),
        a_to_b,
        b_to_a,
        release_similarity(a.features, b.features),
        nearest_first(a, b),
        nearest_first(b, a),
        frozenset(shared_names(b.names, a.names)),
    )


def nearest_first(vocabulary: Vocabulary, other: Vocabulary) -> tuple[Match, ...]:
    """Every class with its nearest of the other vocabulary; the nearest pair first."""
    best = cosines(vocabulary.features, other.features).max(dim=1)
    matches = [
        Match(name, other.names[column], similarity)
        for name, column, similarity in zip(vocabulary.names, best.indices.tolist(), best.values.tolist(), strict=True)
    ]
    # Rounding errors must not order what is equal.
    return tuple(sorted(matches, key=lambda match: -round(match.similarity, 6)))


# --- heat map -------------------------------------------------------------------------------------------------------


def draw_heat_map(a: Vocabulary, others: Sequence[Vocabulary]) -> "Figure":
    """Cosines of the classes of each vocabulary (rows) with those of A (columns), a panel each.

    Rows go from the class that is nearest to A to the farthest, and every column stands where its best row is, so the
    best matches run down the diagonal. Class names are there where they can be read; a warning names letters that no
    installed font has.
    """
    from matplotlib import rc_context

    texts = [text for vocabulary in (a, *others) for text in (vocabulary.title, *vocabulary.names)]
    with rc_context({"font.family": font_families("".join(texts))}):
        return draw_panels(a, others)


def font_families(text: str) -> list[str]:
    """Matplotlib's usual font and, for the letters that it lacks, others that have most of them, as far as any has."""
    from matplotlib.font_manager import FontProperties, fontManager, get_font

    usual = FontProperties()
    families = list(usual.get_family())
    missing = {ord(letter) for letter in text if letter.isprintable()}
    missing -= get_font(fontManager.findfont(usual)).get_charmap().keys()
    if not missing:
        return families
    has = dict[str, set[int]]()
    for entry in fontManager.ttflist:
        # A family is drawn with its plain face; the fonts of last resort have boxes for all letters.
        plain = (entry.style, entry.weight, entry.stretch) == ("normal", 400, "normal")
        if plain and "last resort" not in entry.name.lower().replace("lastresort", "last resort"):
            has[entry.name] = missing & get_font(entry.fname).get_charmap().keys()
    while missing and (best := max(has, key=lambda name: (len(missing & has[name]), name), default="")):
        if not missing & has[best]:
            letters = "".join(map(chr, sorted(missing)))
            warnings.warn(
                f"No installed font has {shortened(letters)!r}: the picture shows boxes; install one (Noto has most).",
                FrosterWarning,
                stacklevel=3,
            )
            break
        families.append(best)
        missing -= has[best]
    return families


def draw_panels(a: Vocabulary, others: Sequence[Vocabulary]) -> "Figure":
    from matplotlib.figure import Figure

    similarities = [cosines(other.features, a.features).numpy() for other in others]
    width, heights = panel_size(a.names, NARROWEST, WIDEST), [panel_size(b.names, LOWEST, TALLEST) for b in others]
    below = label_length(a.names, width)
    beside = max(label_length(b.names, height) for b, height in zip(others, heights, strict=True))
    figure = Figure(
        figsize=(width + beside + 1.3, sum(heights) + len(others) * (below + 0.8)),
        dpi=150,
        facecolor="white",
        layout="constrained",
    )
    panels = figure.subplots(len(others), squeeze=False, height_ratios=heights)[:, 0]
    lowest, highest = min(map(np.min, similarities)), max(map(np.max, similarities))
    for axis, b, height, values in zip(panels, others, heights, similarities, strict=True):
        rows, columns = reading_order(values)
        image = axis.imshow(
            values[rows][:, columns], aspect="auto", interpolation="nearest", cmap="viridis", vmin=lowest, vmax=highest
        )
        name_classes(axis.yaxis, [b.names[row] for row in rows], height)
        name_classes(axis.xaxis, [a.names[column] for column in columns], width, rotation=90)
        axis.spines[:].set_visible(False)
        distance, mean = hausdorff_similarity(a.features, b.features), release_similarity(a.features, b.features).mean
        axis.set_title(
            f"rows: {shortened(b.title)} ({len(b.names)}), nearest first\n"
            f"columns: {shortened(a.title)} ({len(a.names)}), by their nearest row\n"
            f"Hausdorff {distance:.3f}, mean of max {mean:.3f}",
            loc="left",
            fontsize=LARGEST,
            parse_math=False,
        )
    figure.colorbar(image, ax=panels, label="cosine similarity", fraction=0.05, pad=0.01, aspect=30, anchor=(0, 1))
    return figure


def reading_order(similarities: NDArray[np.float64]) -> tuple[list[int], list[int]]:
    """Order of rows, best cosine first, and of columns, by the place of their best row and then best first."""
    rows = np.argsort(-similarities.max(axis=1).round(6), kind="stable")
    ordered = similarities[rows].round(6)
    columns = np.lexsort((-ordered.max(axis=0), ordered.argmax(axis=0)))
    return rows.tolist(), columns.tolist()


def panel_size(names: Sequence[str], least: float, most: float) -> float:
    """Width or height of all cells together, in inches."""
    return max(min(len(names) * CELL, most), least)


def font_size(names: Sequence[str], inches: float) -> float | None:
    """Of class names beside cells that share so many inches, in typographic points; None where they would not fit."""
    size = min(inches * 72 / len(names) / LINE_HEIGHT, LARGEST)
    return size if size >= SMALLEST else None


def label_length(names: Sequence[str], inches: float) -> float:
    """How much room the class names take beside the cells, in inches."""
    size = font_size(names, inches)
    return 0.0 if size is None else max(len(shortened(name)) for name in names) * LETTER_WIDTH * size / 72


def name_classes(axis: "Axis", names: Sequence[str], inches: float, rotation: int = 0) -> None:
    size = font_size(names, inches)
    if size is None:
        axis.set_ticks([])
        return
    labels = [shortened(name) for name in names]
    axis.set_ticks(range(len(names)), labels, fontsize=size, rotation=rotation, parse_math=False)
    axis.set_tick_params(length=0)


def shortened(text: str, letters: int = LETTERS) -> str:
    """Without its middle where it is too long: paths and long names often differ at the end."""
    head = letters // 2
    return text if len(text) <= letters else f"{text[:head]}…{text[head + 1 - letters :]}"
