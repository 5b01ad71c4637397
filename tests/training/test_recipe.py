from pathlib import Path

import pytest

from froster.errors import FrosterError
from froster.training.pretrain import PretrainRecipe

RECIPE = Path(__file__).parents[2] / "recipes" / "clip-puppets.yaml"


def test_shipped_recipe_and_overrides() -> None:
    recipe = PretrainRecipe.read(RECIPE, ["seed=3", "model.patch_size=8", "betas=[0.9, 0.98]"])
    assert (recipe.seed, recipe.model.patch_size, recipe.betas) == (3, 8, (0.9, 0.98))
    assert recipe.model.vocab_size == 49408


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("learning_rat=1", "unknown key 'learning_rat', did you mean 'learning_rate'"),
        ("model.patch=8", "unknown key 'model.patch', did you mean 'patch_size'"),
        ("zebra=1", "unknown key 'zebra'; keys are seed, out"),
        ("seed=much", "seed: input should be a valid integer"),
        ("seed", "not of the form key=value"),
        ("seed.deep=1", "'seed' is a value"),
        ("batch_size=0", "batch_size: input should be greater than or equal to 2"),
        ("photos=10", "10 photos do not fill one batch of 256"),
        ("model.image_size=70", "image_size 70 is not a multiple of patch_size 16"),
        ("model.vision_heads=5", "width of the model is not a multiple of its heads"),
        ("model.vision_heads=0", "at least 1"),
        ("model.vocab_size=10", "vocab_size 49408"),
        ("betas=[0.9, 1]", "betas.1: input should be less than 1"),
        ("betas=[1", "value is not valid YAML"),
    ],
)
def test_wrong_override_is_named(override: str, message: str) -> None:
    with pytest.raises(FrosterError, match=message.replace(".", r"\.")):
        PretrainRecipe.read(RECIPE, [override])


def test_wrong_files(tmp_path: Path) -> None:
    with pytest.raises(FrosterError, match="cannot be read: No such file"):
        PretrainRecipe.read(tmp_path / "none.yaml")
    (tmp_path / "bad.yaml").write_text("a: [1")
    with pytest.raises(FrosterError, match=r"bad\.yaml is not valid YAML"):
        PretrainRecipe.read(tmp_path / "bad.yaml")
    (tmp_path / "list.yaml").write_text("- a")
    with pytest.raises(FrosterError, match="must be keys and values"):
        PretrainRecipe.read(tmp_path / "list.yaml")
    (tmp_path / "short.yaml").write_text("seed: 1")
    with pytest.raises(FrosterError, match="photos: field required"):
        PretrainRecipe.read(tmp_path / "short.yaml")
