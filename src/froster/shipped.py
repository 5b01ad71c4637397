"""The recipes that come with froster."""

from pathlib import Path

from froster.errors import FrosterError, did_you_mean

# In the package of an installed wheel, or at the top of a checkout.
FOLDERS = (Path(__file__).parent / "recipes", Path(__file__).parents[2] / "recipes")


def find_recipe(name: str) -> Path:
    """The recipe of that name, such as `"puppets/fine-tuned"`. Raises `FrosterError` with the closest known one."""
    shipped = shipped_recipes()
    if name not in shipped:
        raise FrosterError(f"froster has no recipe {name!r}; {did_you_mean(name, shipped)}")
    return shipped[name]


def existing_recipe(path: Path, folder: Path = Path()) -> Path:
    """The file itself, in `folder`, or froster's own recipe of that name (`recipes/NAME.yaml`, `NAME`)."""
    if (folder / path).is_file():
        return folder / path
    name, shipped = path.as_posix().removesuffix(path.suffix).removeprefix("recipes/"), shipped_recipes()
    if name not in shipped:
        hint = did_you_mean(name, shipped)
        raise FrosterError(f"There is no recipe {path}, neither as a file nor among froster's own; {hint}")
    return shipped[name]


def shipped_recipes() -> dict[str, Path]:
    """All recipes that come with froster, by their names."""
    return {
        path.relative_to(folder).with_suffix("").as_posix(): path
        for folder in FOLDERS
        for path in sorted(folder.rglob("*.yaml"))
    }
