"""Where the recipes lie that come with froster."""

from pathlib import Path

from froster.errors import FrosterError

# Beside the package in an installed wheel, at the top of a checkout.
FOLDERS = (Path(__file__).parent / "recipes", Path(__file__).parents[2] / "recipes")


def find_recipe(name: str) -> Path:
    """The recipe of that name, such as `"puppets/fine-tuned"`. Raises `FrosterError` when there is none."""
    for path in (folder / f"{name}.yaml" for folder in FOLDERS):
        if path.is_file():
            return path
    raise FrosterError(f"froster came without its recipe {name}.yaml; install it again.")
