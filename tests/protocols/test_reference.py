"""What a run is compared with: the published row whose recipe trains the same."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from froster.backbones.clip import ClipConfig
from froster.errors import FrosterError
from froster.methods import model_sizes
from froster.protocols.models import Pretrained, TrainFromRecipe
from froster.protocols.reference import BACKBONES, find_reference, method_of, method_of_source, named_reference
from froster.published import read_table, table_names
from froster.shipped import find_recipe
from froster.training.recipe import TrainRecipe

SMALL = ClipConfig(48, 8, 64, 2, 1, 128, 2, 2, 64)


def test_backbones_are_known_by_their_sizes() -> None:
    names = ("vit-b-32", "vit-b-16", "vit-l-14")
    sizes = {name: model_sizes(name) for name in names}
    assert {(of.vision_width, of.vision_layers, of.patch_size): name for name, of in sizes.items()} == BACKBONES


@pytest.mark.parametrize(
    ("backbone", "student", "known"),
    [("vit-b-16", "frame_clip", True), ("vit-b-16", "vclip", False), (None, "frame_clip", False)],
)
def test_a_model_as_it_is_is_known_if_it_is_a_plain_clip(backbone: str | None, student: str, known: bool) -> None:
    source = Pretrained("model.pt")
    network = SimpleNamespace(backbone_name=backbone, name=student, config=model_sizes("vit-b-16"))
    source.__dict__["network"] = network  # as the cached property does
    assert method_of_source(source) == ({"backbone": "vit-b-16", "frozen": True} if known else None)
    network.config = SMALL
    assert method_of_source(source) is None, "no backbone of the papers"


def reference(recipe: str, *changes: str, protocol: str = "cross-dataset", descriptions: bool = False) -> str | None:
    source = TrainFromRecipe(find_recipe(recipe), changes)
    found = find_reference(protocol, source, descriptions)  # type: ignore[arg-type]
    return found and f"{found.method}, {found.source.rpartition(', ')[2]}"


@pytest.mark.parametrize(
    ("recipe", "changes", "expected"),
    [
        ("vit-b-16/froster", (), "FROSTER, Table 2"),
        ("vit-b-16/froster", ("optimizer.epochs=5", "data.frames=4"), "FROSTER, Table 2"),
        ("vit-b-16/aim", (), "AIM, Table 2"),
        ("vit-b-16/aim-froster", (), "AIM w/ FROSTER, Table 3"),
        ("vit-b-16/action-clip", (), "ActionCLIP, Table 2"),
        ("vit-b-16/action-clip-froster", (), "ActionCLIP w/ FROSTER, Table 3"),
        ("vit-b-16/vclip", (), "VCLIP, Table 3"),
        ("vit-b-16/open-vclip", (), "Open-VCLIP, Table 2"),
        ("vit-l-14/open-vclip", (), "Open-VCLIP (ViT-L/14), Table 1"),
        ("ablations/open-vclip-table-5-l2", (), "L2 regularization, Table 5"),
        # Nothing is published of these, so nothing is compared: not with the nearest row either.
        ("ablations/table-4-b", (), None),
        ("ablations/table-4-d", (), None),
        ("ablations/table-6-alpha-1", (), None),
        ("ablations/table-7-beta-3", (), None),
        ("vit-b-16/froster", ("student=vclip:window=2",), None),
        ("vit-b-16/froster", ("model=puppets",), None),
        ("vit-b-16/froster", ("model=vit-b-32",), None),
        ("vit-b-16/frame-clip", (), None),
    ],
)
def test_cross_dataset(recipe: str, changes: tuple[str, ...], expected: str | None) -> None:
    assert reference(recipe, *changes) == expected


def test_base_to_novel() -> None:
    for dataset in ("hmdb-51", "ssv2"):
        recipe = f"vit-b-16/base-to-novel/froster-{dataset}"
        assert reference(recipe, protocol="base-to-novel", descriptions=True) == "FROSTER, Table 1"
        recipe = f"vit-b-16/base-to-novel/aim-{dataset}"
        assert reference(recipe, protocol="base-to-novel") == "AIM, Table 1"
    for descriptions, method in ((True, "TC-CLIP (LLM)"), (False, "TC-CLIP")):
        recipe = TrainFromRecipe(find_recipe("vit-b-16/base-to-novel/tc-clip-ssv2"))
        found = find_reference("base-to-novel", recipe, descriptions)
        assert found is not None and found.method == method
    assert find_reference("base-to-novel", recipe) == found, "without descriptions by default"


def test_a_checkpoint_is_compared_with_nothing_and_other_sizes_are_no_frozen_clip() -> None:
    assert find_reference("cross-dataset", Pretrained("puppets")) is None
    assert find_reference("cross-dataset", Pretrained("puppets", "vclip")) is None


def test_named() -> None:
    assert named_reference("froster", "cross-dataset").scores["UCF*"] == {"mean": 85.0}
    with pytest.raises(FrosterError, match="did you mean 'AIM w/ FROSTER'"):
        named_reference("AIM with FROSTER", "cross-dataset")


def test_every_row_has_a_recipe_that_trains_its_student() -> None:
    for table in map(read_table, table_names()):
        for row in table.rows:
            if row.recipe is None:
                continue
            for dataset in table.datasets if "{dataset}" in row.recipe else [table.train]:
                path = find_recipe(row.recipe.format(dataset=dataset))
                recipe = TrainRecipe.read(path, row.changes)
                assert recipe.student.partition(":")[0].replace("-", "_") == row.student, (table.name, row.method)
                assert method_of(recipe) is not None, "a backbone of the papers"


def test_rows_of_one_recipe_share_their_method(tmp_path: Path) -> None:
    """Row A of Table 4 is VCLIP of Table 3, and J is FROSTER: the same training, so the same run."""

    def method(name: str) -> object:
        return method_of(TrainRecipe.read(find_recipe(name)))

    assert method("ablations/table-4-a") == method("vit-b-16/vclip")
    assert method("ablations/table-4-j") == method("vit-b-16/froster") == method("ablations/table-7-beta-2")
    different = [method(f"ablations/table-4-{letter}") for letter in "abcdefgh"]
    assert all(one != other for place, one in enumerate(different) for other in different[:place])
    source = TrainFromRecipe(find_recipe("vit-b-16/froster"))
    assert replace(source, changes=("distillation.alpha=0.5",)).read().distillation != source.read().distillation
