"""The recipes that come with froster."""

import difflib
from collections.abc import Collection
from pathlib import Path

from froster.errors import FrosterError

# In the package of an installed wheel, or at the top of a checkout.
FOLDERS = (Path(__file__).parent / "recipes", Path(__file__).parents[2] / "recipes")


def find_recipe(name: str) -> Path:
    """The recipe of that name, such as `"puppets/fine-tuned"`. Raises `FrosterError` with the closest known one."""
    shipped = shipped_recipes()
    if name not in shipped:
        raise FrosterError(f"froster has no recipe {name!r}; {similar_recipes(name, shipped)}")
    return shipped[name]


def existing_recipe(path: Path, folder: Path = Path()) -> Path:
    """The file itself, in `folder`, or froster's own recipe of that name (`recipes/NAME.yaml`, `NAME`)."""
    if (folder / path).is_file():
        return folder / path
    name, shipped = path.as_posix().removesuffix(path.suffix).removeprefix("recipes/"), shipped_recipes()
    if name not in shipped:
        hint = similar_recipes(name, shipped)
        raise FrosterError(f"There is no recipe {path}, neither as a file nor among froster's own; {hint}")
    return shipped[name]


def similar_recipes(name: str, shipped: Collection[str]) -> str:
    """The end of a sentence about an unknown recipe: similar names, or those at the top and the folders of the rest."""
    named_so = [known for known in shipped if known.rpartition("/")[2] == name.rpartition("/")[2]]
    if near := named_so[:3] or difflib.get_close_matches(name, shipped, n=3):
        return f"did you mean {' or '.join(map(repr, near))}?"
    at_top = ", ".join(known for known in shipped if "/" not in known)
    folders = ", ".join(sorted({known.partition("/")[0] for known in shipped if "/" in known}))
    return f"there are: {at_top}, and those in {folders}."


def shipped_recipes() -> dict[str, Path]:
    """All recipes that come with froster, by their names."""
    return {
        path.relative_to(folder).with_suffix("").as_posix(): path
        for folder in FOLDERS
        for path in sorted(folder.rglob("*.yaml"))
    }
