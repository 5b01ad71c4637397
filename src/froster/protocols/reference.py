"""The published row that a run is compared with: the one whose recipe trains the same, or none."""

from collections.abc import Iterator
from typing import Any

from froster.checkpoints.read import read_checkpoint
from froster.errors import FrosterError, did_you_mean
from froster.models import resolve
from froster.protocols.models import Pretrained, TrainFromRecipe
from froster.published import Protocol, Published, Row, Table, read_table, table_names
from froster.shipped import find_recipe, shipped_recipes
from froster.training.recipe import TrainRecipe

# (width, layers, patch size) of the vision transformers that the papers' tables are of
BACKBONES = {(768, 12, 32): "vit-b-32", (768, 12, 16): "vit-b-16", (1024, 24, 14): "vit-l-14"}


def find_reference(
    protocol: Protocol, source: TrainFromRecipe | Pretrained, descriptions: bool = False
) -> Published | None:
    """The row of the protocol's tables that trains what `source` trains; None where there is none or it is unknown.

    Compared are backbone, student, trained parameters, distillation, interpolation and weight distance. Of several rows
    the one that uses class descriptions as the run does, else the first.
    """
    wanted = method_of_source(source)
    if wanted is None:
        return None
    rows = [(row, table) for row, table in published_rows(protocol) if method_of_row(row, table) == wanted]
    rows.sort(key=lambda pair: pair[0].descriptions != descriptions)
    if not rows:
        return None
    row, table = rows[0]
    return row.as_published(table.source)


def named_reference(method: str, protocol: Protocol) -> Published:
    """The first published row of that method. Raises `FrosterError` that names the nearest where there is none."""
    rows = list(published_rows(protocol))
    for row, table in rows:
        if row.method.lower() == method.lower():
            return row.as_published(table.source)
    raise FrosterError(
        f"The papers' tables have no {method!r}; {did_you_mean(method, [row.method for row, _ in rows])}"
    )


def published_rows(protocol: Protocol) -> Iterator[tuple[Row, Table]]:
    """All rows with published scores of the protocol's tables."""
    for table in map(read_table, table_names()):
        if table.protocol == protocol:
            yield from ((row, table) for row in table.rows if row.published and row.ensemble is None)


def method_of_source(source: TrainFromRecipe | Pretrained) -> dict[str, Any] | None:
    """What a run trains; of a checkpoint it is unknown (None), a plain CLIP is frozen."""
    if isinstance(source, TrainFromRecipe):
        return method_of(source.read())
    network = source.network
    if network.backbone_name is None or network.name != "frame_clip":
        return None
    return frozen(BACKBONES.get((network.config.vision_width, network.config.vision_layers, network.config.patch_size)))


def method_of_row(row: Row, table: Table) -> dict[str, Any] | None:
    if row.model is not None:
        return frozen(row.model)
    name = (row.recipe or "").format(dataset=table.datasets[0])
    return method_of(TrainRecipe.read(find_recipe(name))) if name in shipped_recipes() else None


def frozen(backbone: str | None) -> dict[str, Any] | None:
    return {"backbone": backbone, "frozen": True} if backbone else None


def method_of(recipe: TrainRecipe) -> dict[str, Any] | None:
    """What distinguishes the rows of the papers' tables; None for a backbone that they do not use."""
    backbone = backbone_of(recipe.model)
    if backbone is None:
        return None
    return {
        "backbone": backbone,
        "student": recipe.student.partition(":")[0].replace("-", "_"),
        "options": recipe.student.partition(":")[2],
        **recipe.model_dump(mode="json", include={"trained", "interpolation", "weight_distance"}),
        "distillation": recipe.distillation and recipe.distillation.model_dump(mode="json", exclude={"distance"}),
    }


def backbone_of(model: str) -> str | None:
    """The papers' backbone of this size, by its name or by the sizes of its weights."""
    if model in BACKBONES.values():
        return model
    found = resolve(model)
    config = read_checkpoint(found.path, released=found.released).config
    return BACKBONES.get((config.vision_width, config.vision_layers, config.patch_size))
