"""`froster distance`: semantic distance of vocabularies."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from froster.cli.options import BackboneOption, ModelOption, read_backbone
from froster.cli.terminal import Screen, echo_json

if TYPE_CHECKING:
    from froster.text.distance import Comparison, Match

LEGEND = (
    "Cosines of class names; 1 is the same name. A to B: minimum over the classes of A of their best cosine with B; "
    "B to A likewise. Hausdorff: the smaller of the two. Mean of max: as in the authors' code, the mean over the "
    "classes of B of their best cosine with A. Shared: classes of B whose names are also in A."
)
MAX_TITLE = 22


def distance(
    a: Annotated[
        str,
        typer.Argument(
            metavar="A",
            help='Training classes: a vocabulary (see `froster classes`), names, "a, b, c", or a labels file.',
        ),
    ],
    others: Annotated[list[str], typer.Argument(metavar="B", help="Test classes, one or more, likewise.")],
    model: ModelOption = "auto",
    backbone: BackboneOption = None,
    prompts: Annotated[
        bool,
        typer.Option(
            "--prompts", help="Use the 28 templates and descriptions, as for recognition, instead of bare names."
        ),
    ] = False,
    remove_shared: Annotated[
        bool, typer.Option("--remove-shared", help="Leave out classes of B whose names are also in A.")
    ] = False,
    top: Annotated[int, typer.Option(min=1, help="Number of closest and farthest classes to show.")] = 10,
    picture: Annotated[
        Path | None, typer.Option(help="Also plot all cosines into this file (.png, .jpg, .svg, .pdf).")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything, for every class, as JSON.")] = False,
) -> None:
    """Compare the classes of test sets with those of a training set, closest first.

    Example: froster distance kinetics-400 ucf-101 hmdb-51 --model vit-b-16
    """

    from froster.cli.vocabularies import names_or_file
    from froster.files import replace_when_written
    from froster.models import default_model, load_model
    from froster.text.distance import (
        compare,
        draw_heat_map,
        encode_vocabulary,
        hausdorff_similarity,
        shortened,
        without_shared,
    )

    if picture is not None:
        from froster.picture import check_picture_path

        check_picture_path(picture)
    labels = names_or_file(a, "A")
    labels_of_others = [names_or_file(text, "B") for text in others]
    errors = Screen(stderr=True, soft_wrap=True)
    if model == "auto":
        model, why = default_model()
        errors.print(why)
    with errors.status(f"Loading {model} and encoding {len(labels) + sum(map(len, labels_of_others))} labels"):
        network = load_model(model, seed=0, backbone=read_backbone(backbone))
        training = encode_vocabulary(network, a, labels, prompts)
        tests = [
            encode_vocabulary(network, text, of_other, prompts)
            for text, of_other in zip(others, labels_of_others, strict=True)
        ]
    if remove_shared:
        tests = [without_shared(test, training) for test in tests]
    tests.sort(key=lambda test: -hausdorff_similarity(training.embeddings, test.embeddings))
    comparisons = [compare(training, test) for test in tests]
    if as_json:
        settings = {"model": model, "prompts": prompts, "remove_shared": remove_shared}
        content = settings | {"a": a, "classes": len(labels), "b": [found.to_json() for found in comparisons]}
        echo_json(content, indent=2)
    else:
        screen = Screen()
        how = f"({len(labels)}), {'with templates' if prompts else 'bare names'}, {model}"
        screen.print(f"A: {shortened(a)} {how}", style="bold", soft_wrap=True)
        show(comparisons, top, screen)
    if picture is not None:
        with replace_when_written(picture) as temporary:
            draw_heat_map(training, tests).savefig(temporary)
        errors.print(f"See {picture}")


def show(comparisons: Sequence["Comparison"], top: int, screen: "Screen") -> None:
    from rich.text import Text

    from froster.cli.evaluate import plain_table
    from froster.cli.methods import show_note
    from froster.text.distance import shortened

    table = plain_table(["B", "classes", "shared", "Hausdorff", "A to B", "B to A", "mean of max"])
    for found in comparisons:
        table.add_row(
            Text(shortened(found.b, MAX_TITLE)),
            str(len(found.b_matches)),
            str(len(found.shared)),
            Text(f"{found.hausdorff:.3f}", style="bold green"),
            *(f"{similarity:.3f}" for similarity in (found.a_to_b, found.b_to_a, found.release.mean)),
        )
    screen.print(table)
    show_note(LEGEND, screen)
    for found in comparisons:
        show_classes(found, top, screen)


def show_classes(found: "Comparison", top: int, screen: "Screen") -> None:
    """The classes of B, without shared ones, that are closest to A, and the farthest of both vocabularies."""
    from froster.text.distance import shortened

    a, b = shortened(found.a, MAX_TITLE), shortened(found.b, MAX_TITLE)
    others = [match for match in found.b_matches if match.name not in found.shared]
    except_shared = f", except the {len(found.shared)} shared" if found.shared else ""
    if len(others) <= 2 * top:
        show_matches(f"Classes of {b}, closest to {a} first{except_shared}", others, a, screen)
    else:
        show_matches(f"Classes of {b} closest to {a}{except_shared}", others[:top], a, screen)
        show_matches(f"Classes of {b} farthest from {a}", others[: -top - 1 : -1], a, screen)
    show_matches(f"Class of {a} farthest from {b}", found.a_matches[-1:], b, screen)


def show_matches(title: str, matches: Sequence["Match"], other: str, screen: "Screen") -> None:
    from rich.text import Text

    from froster.cli.evaluate import plain_table

    if not matches:
        return
    table = plain_table(["", f"closest in {other}", "cosine"], texts=2)
    for match in matches:
        table.add_row(Text(match.name), Text(match.nearest), f"{match.similarity:.3f}")
    screen.print(f"\n{title}", style="bold", soft_wrap=True)
    screen.print(table)
