import io
import json
import math
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from froster.errors import FrosterError, FrosterWarning
from froster.models import load_model
from froster.text.classifier import encode_classes
from froster.text.distance import (
    MAX_CHARACTERS,
    Vocabulary,
    compare,
    cosines,
    directed_similarity,
    draw_heat_map,
    encode_vocabulary,
    font_families,
    hausdorff_similarity,
    release_similarity,
    shared_names,
    shortened,
    sort_for_diagonal,
    without_shared,
)
from froster.text.labels import check_labels
from goldens import GoldenFile


def features(count: int, seed: int, width: int = 8) -> Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed))


def vocabulary(title: str, count: int, seed: int) -> Vocabulary:
    return Vocabulary(title, tuple(f"{title} {row}" for row in range(count)), features(count, seed))


def cosine_by_hand(x: list[float], y: list[float]) -> float:
    product = sum(p * q for p, q in zip(x, y, strict=True))
    return product / math.sqrt(sum(p * p for p in x) * sum(q * q for q in y))


def test_numbers_of_the_released_code(golden_file: GoldenFile) -> None:
    golden = load_file(golden_file("more/hausdorff.safetensors"))
    facts = json.loads(golden_file("more/hausdorff.json").read_text())
    closed, opened = golden["in.closed_features"], golden["in.open_features"]
    shared = facts["constructor"]["shared_classes_first_rows_of_both"]
    same = [f"same {row}" for row in range(shared)]
    training = Vocabulary("closed", (*same, *(f"closed {row}" for row in range(len(closed) - shared))), closed)
    test = Vocabulary("open", (*same, *(f"open {row}" for row in range(len(opened) - shared))), opened)
    cases = {
        "all": release_similarity(closed, opened),
        "remove_overlap": release_similarity(closed, without_shared(test, training).embeddings),
        "split_half": release_similarity(closed[::2], closed[1::2]),
    }
    for case, found in cases.items():
        assert list(found) == pytest.approx(golden[f"out.{case}"].tolist(), abs=1e-5), case


@pytest.mark.parametrize(("rows", "columns"), [(5, 9), (9, 5), (1, 4), (4, 1), (1, 1)])
def test_every_number_by_the_definition(rows: int, columns: int) -> None:
    a, b = features(rows, 1), features(columns, 2) * 7
    by_hand = [[cosine_by_hand(x, y) for y in b.tolist()] for x in a.tolist()]
    assert cosines(a, b).tolist() == [pytest.approx(row, abs=1e-6) for row in by_hand]
    a_to_b = min(max(row) for row in by_hand)
    best_of_b = [max(row[column] for row in by_hand) for column in range(columns)]
    assert directed_similarity(a, b) == pytest.approx(a_to_b, abs=1e-6)
    assert directed_similarity(b, a) == pytest.approx(min(best_of_b), abs=1e-6)
    assert hausdorff_similarity(a, b) == pytest.approx(min(a_to_b, min(best_of_b)), abs=1e-6)
    released = (sum(best_of_b) / columns, max(best_of_b), min(best_of_b))
    assert release_similarity(a, b) == pytest.approx(released, abs=1e-6)

    found = compare(
        Vocabulary("A", tuple(f"a{row}" for row in range(rows)), a),
        Vocabulary("B", tuple(f"b{column}" for column in range(columns)), b),
    )
    assert (found.a_to_b, found.b_to_a) == pytest.approx((a_to_b, min(best_of_b)), abs=1e-6)
    assert (found.hausdorff, found.release) == (hausdorff_similarity(a, b), release_similarity(a, b))
    assert sorted(match.name for match in found.b_matches) == sorted(f"b{column}" for column in range(columns))
    for match in found.b_matches:
        column = int(match.name[1:])
        assert match.similarity == pytest.approx(best_of_b[column], abs=1e-6)
        assert by_hand[int(match.nearest[1:])][column] == pytest.approx(best_of_b[column], abs=1e-6)
    similarities = [match.similarity for match in found.a_matches]
    assert similarities == sorted(similarities, reverse=True)
    assert similarities[-1] == pytest.approx(a_to_b, abs=1e-6)


def test_hausdorff_sees_what_either_side_lacks() -> None:
    """B is a part of A, so every class of B is in A, but not the other way round: the released number misses that."""
    a = torch.eye(4)
    b = a[:2]
    assert (directed_similarity(b, a), directed_similarity(a, b)) == (1.0, 0.0)
    assert hausdorff_similarity(a, b) == hausdorff_similarity(b, a) == 0.0
    assert release_similarity(a, b) == (1.0, 1.0, 1.0)
    assert release_similarity(b, a) == (0.5, 1.0, 0.0)


def test_the_same_classes_are_at_one_in_any_order_and_length() -> None:
    a = features(30, 3, width=512)
    b = a.flip(0) * torch.linspace(0.1, 5, 30)[:, None]
    assert hausdorff_similarity(a, b) == pytest.approx(1, abs=1e-6)
    assert hausdorff_similarity(a, a) == pytest.approx(1, abs=1e-12)
    assert cosines(a, a).max() <= 1
    equal = compare(vocabulary("x", 30, 3), vocabulary("x", 30, 3))
    assert [match.name for match in equal.b_matches] == [f"x {row}" for row in range(30)]  # not in rounding's order
    assert all(match.name == match.nearest for match in equal.b_matches)
    assert equal.shared == {f"x {row}" for row in range(30)}


def test_shared_names_are_recognized_in_other_spellings() -> None:
    names = ["Sky Diving", "brush_hair", "pull-ups", "跑步", "walking"]
    assert shared_names(names, ["skydiving", "brush hair", "pull ups", "走路", "walk"]) == set(names[:3])
    b = Vocabulary("B", tuple(names), features(5, 0))
    left = without_shared(b, Vocabulary("A", ("SKYDIVING", "walking"), features(2, 1)))
    assert left.names == ("brush_hair", "pull-ups", "跑步")
    assert torch.equal(left.embeddings, b.embeddings[1:4])
    with pytest.raises(FrosterError, match=r"All classes of B are also in B; .* nothing to compare"):
        without_shared(b, b)


def test_classes_are_bare_names_unless_prompts_are_wanted() -> None:
    model = load_model("puppets")
    labels = check_labels({"walking": "a person goes on foot", "running": ""})
    bare = encode_vocabulary(model, "two", labels)
    assert (bare.names, bare.embeddings.shape) == (("walking", "running"), (2, model.config.embed_dim))
    assert torch.equal(bare.embeddings, encode_classes(model, check_labels(["walking", "running"]), templates=()))
    with pytest.warns(FrosterWarning, match="1 of 2 classes of two"):
        unknown = encode_vocabulary(model, "two", check_labels(["walking", "apply lipstick"]))
    assert (unknown.embeddings[0] - bare.embeddings[0]).abs().max() < 1e-6
    as_recognized = encode_vocabulary(model, "two", labels, prompts=True)
    assert torch.equal(as_recognized.embeddings, encode_classes(model, labels))


def test_networks_whose_class_matrix_is_no_matrix_of_features_can_be_compared() -> None:
    model = load_model("puppets", "tc_clip", seed=0)
    found = encode_vocabulary(model, "two", check_labels(["walking", "running"]), prompts=True)
    assert found.embeddings.shape == (2, model.config.embed_dim)
    assert hausdorff_similarity(found.embeddings, found.embeddings) == pytest.approx(1, abs=1e-12)


def test_heat_map_runs_down_the_diagonal() -> None:
    values = np.array([[0.1, 0.5, 0.2], [0.9, 0.3, 0.8], [0.3, 0.4, 0.7]])
    rows, columns = sort_for_diagonal(values)
    assert rows == [1, 2, 0]  # best cosines 0.9, 0.7, 0.5
    assert columns == [0, 2, 1]  # best in rows 1, 1 and 0; of the first two, 0.9 before 0.8


def test_heat_map_shows_every_cosine_under_its_names() -> None:
    a, others = vocabulary("A", 7, 5), [vocabulary("B", 4, 6), vocabulary("$C_1$", 3, 7)]
    figure = draw_heat_map(a, others)
    figure.draw_without_rendering()
    panels, (bar,) = figure.axes[:2], figure.axes[2:]
    for axis, other in zip(panels, others, strict=True):
        shown = axis.images[0].get_array()
        columns = [label.get_text() for label in axis.get_xticklabels()]
        rows = [label.get_text() for label in axis.get_yticklabels()]
        assert (sorted(columns), sorted(rows)) == (sorted(a.names), sorted(other.names))
        for row, b_name in enumerate(rows):
            for column, a_name in enumerate(columns):
                x, y = a.embeddings[a.names.index(a_name)], other.embeddings[other.names.index(b_name)]
                assert shown[row, column] == pytest.approx(cosine_by_hand(x.tolist(), y.tolist()), abs=1e-6)
        assert f"Hausdorff {hausdorff_similarity(a.embeddings, other.embeddings):.3f}" in axis.get_title("left")
    assert bar.get_ylabel() == "cosine similarity"
    assert panels[0].images[0].get_clim() == panels[1].images[0].get_clim()


@pytest.mark.parametrize(
    ("of_a", "of_b", "columns_named", "rows_named"), [(400, 101, False, True), (60, 300, True, False)]
)
def test_class_names_stand_only_where_they_fit(of_a: int, of_b: int, columns_named: bool, rows_named: bool) -> None:
    figure = draw_heat_map(vocabulary("A", of_a, 8), [vocabulary("B", of_b, 9)])
    figure.draw_without_rendering()
    axis = figure.axes[0]
    assert bool(axis.get_xticklabels()) == columns_named
    assert bool(axis.get_yticklabels()) == rows_named
    size = axis.bbox.height / of_b if rows_named else axis.bbox.width / of_a
    labels = axis.get_yticklabels() if rows_named else axis.get_xticklabels()
    boxes = [label.get_window_extent() for label in labels]
    assert all((box.height if rows_named else box.width) < size for box in boxes)
    assert all(box.x0 >= 0 and box.y0 >= 0 for box in boxes)


def test_long_names_lose_their_middle() -> None:
    assert shortened("a" * MAX_CHARACTERS) == "a" * MAX_CHARACTERS
    assert len(shortened("a" * MAX_CHARACTERS + "b")) == MAX_CHARACTERS
    assert shortened("0123456789", 7) == "012…789"
    assert shortened("0123456789", 6) == "012…89"


def test_letters_that_the_usual_font_lacks_are_drawn_with_another(monkeypatch: pytest.MonkeyPatch) -> None:
    from matplotlib import get_data_path
    from matplotlib.font_manager import findfont, fontManager, get_font

    usual, stix = (get_font(findfont(name)).get_charmap() for name in ("DejaVu Sans", "STIXGeneral"))
    letter = chr(min(stix.keys() - usual.keys()))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert font_families("walking") == ["sans-serif"]
        first, other = font_families(f"walking {letter}")
        assert first == "sans-serif" and ord(letter) in get_font(findfont(other)).get_charmap()
        classes = Vocabulary("a", ("x", "y", letter), features(3, 0))
        figure = draw_heat_map(classes, [vocabulary("b", 3, 1)])
        figure.savefig(io.BytesIO())  # matplotlib warns of a letter that it draws as a box
    # As where no other font is installed: matplotlib's own have no Chinese, but one that shows boxes for it.
    own = [entry for entry in fontManager.ttflist if Path(entry.fname).is_relative_to(get_data_path())]
    monkeypatch.setattr(fontManager, "ttflist", own)
    with pytest.warns(FrosterWarning, match="No installed font has '步跑', so the heat map shows boxes"):
        assert font_families("walking 跑步") == ["sans-serif"]
