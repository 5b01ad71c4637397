import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from froster.errors import FrosterError
from froster.shipped import existing_recipe, find_recipe
from froster.training import start
from froster.training.pretrain import PretrainRecipe
from froster.training.recipe import TrainRecipe, section_of

ROOT = Path(__file__).parents[2]
RECIPE = ROOT / "recipes" / "clip-puppets.yaml"
PUPPETS = ROOT / "recipes" / "froster-puppets.yaml"
PAGE = ROOT / "docs" / "recipes.md"
BEGIN, END = "<!-- keys -->\n", "<!-- end of keys -->"


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


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("optimizer.epochs=2", ("warmup_epochs=2 and average_from=2", "optimizer.warmup_epochs=1 average_from=1")),
        ("optimizer.epochs=1", ("warmup_epochs=2 and average_from=2", "optimizer.warmup_epochs=0 average_from=0")),
        ("optimizer.warmup_epochs=13.5", ("optimizer.warmup_epochs=13.5 must", "type for example optimizer")),
        ("freeze_clip_epochs=12", ("freeze_clip_epochs=12 must be below optimizer.epochs=12", "freeze_clip_epochs=6")),
    ],
)
def test_all_that_does_not_fit_into_the_epochs_is_said_at_once_with_what_to_type(
    override: str, message: tuple[str, str]
) -> None:
    with pytest.raises(FrosterError) as error:
        TrainRecipe.read(PUPPETS, [override])
    assert all(part in str(error.value) for part in message)
    typed = re.findall(r"[a-z_.]+=\d+", str(error.value).split("for example")[1])
    assert TrainRecipe.read(PUPPETS, [override, *typed]).optimizer.epochs in (1, 2, 12)


def words(schema: dict[str, Any]) -> str:
    """The type of a key, from JSON schema."""
    if "anyOf" in schema:
        return " or ".join(words(part) for part in schema["anyOf"])
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if schema["type"] == "array":
        few = schema.get("prefixItems")
        return f"[{', '.join(map(words, few))}]" if few else f"list of {words(schema['items'])}s"
    if schema["type"] == "object":
        if schema["additionalProperties"] is True:
            return "keys and values"
        return f"text: {words(schema['additionalProperties'])}, …"
    if schema.get("format") == "path":
        return "path"
    name = {"integer": "whole number", "number": "number", "boolean": "true, false", "string": "text", "null": "null"}
    signs = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    bounds = [f"{sign} {schema[bound]:g}" for bound, sign in signs.items() if bound in schema]
    return " ".join([name[schema["type"]], " and ".join(bounds)]).strip()


def key_tables(section: type[BaseModel] = TrainRecipe, name: str = "") -> str:
    """The page's reference: a table of the recipe's own keys, then one of each section."""
    schema, prefix = section.model_json_schema()["properties"], f"{name}." if name else ""
    lines = [f"### {name or 'The recipe'}", "", plain(section.__doc__), ""]
    lines += ["| key | type | default | meaning |", "| --- | --- | --- | --- |"]
    sections = ""
    for key, field in section.model_fields.items():
        part = section_of(field.annotation)
        if isinstance(part, type) and issubclass(part, BaseModel):
            kind = f"[section](#{(prefix + key).replace('.', '')})"
            sections += "\n" + key_tables(part, prefix + key)
        else:
            kind = words(schema[key])
        default = "required" if field.is_required() else f"`{json.dumps(field.default)}`"
        lines.append(f"| `{prefix}{key}` | {kind} | {default} | {plain(field.description)} |")
    return "\n".join(lines) + "\n" + sections


def plain(text: str | None) -> str:
    assert text, "every key and section has an explanation"
    return " ".join(text.split())


def test_the_page_of_recipes_has_every_key_as_it_is() -> None:
    current = PAGE.read_text(encoding="utf-8").split(BEGIN)[1].split(END)[0]
    assert current == key_tables(), "docs/recipes.md is not as recipe.py: run python tests/training/test_recipe.py"
    for row in (
        "| `keep_checkpoints` | whole number > 0 | `3` | Number of epoch checkpoints to keep. |",
        "| `data.resize_short_side` | [whole number > 0, whole number > 0] | `[224, 256]` | Range",
        "| `data.puppets.videos` | whole number > 0 | required | Videos per action. |",
        '| `trained` | `default`, `all`, `vision`, `text` or list of texts | `"default"` |',
        "| `optimizer.factors` | text: number > 0, … | `{}` |",
    ):
        assert f"\n{row}" in current


def test_the_examples_of_the_page_are_recipes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = PAGE.read_text(encoding="utf-8").replace("\\\n", "")
    (tmp_path / "recipes").symlink_to(ROOT / "recipes")
    monkeypatch.chdir(tmp_path)
    files = re.findall(r"^```yaml\n# (\S+\.yaml)\n(.*?)^```", page, flags=re.MULTILINE | re.DOTALL)
    for name, content in files:
        Path(name).write_text(content)
        TrainRecipe.read(name)
    commands = re.findall(r"^froster train (.*?)(?: +#.*)?$", page, flags=re.MULTILINE)
    assert len(files) == 2 and len(commands) >= 4
    for command in commands:
        recipe, *changes = [word for word in shlex.split(command) if word != "--resume"]
        TrainRecipe.read(existing_recipe(Path(recipe)), changes)


if __name__ == "__main__":
    before, rest = PAGE.read_text(encoding="utf-8").split(BEGIN)
    PAGE.write_text(before + BEGIN + key_tables() + END + rest.split(END)[1], encoding="utf-8")


def test_clips_of_ones_own_in_place_of_puppets_are_explained() -> None:
    path = Path(__file__).parents[2] / "recipes" / "froster-puppets.yaml"
    with pytest.raises(FrosterError, match=r"not manifests/x\.csv; for clips of your own add data\.puppets=null\."):
        TrainRecipe.read(path, ["data.manifest=manifests/x.csv"])
    changed = TrainRecipe.read(path, ["data.manifest=manifests/x.csv", "data.puppets=null"])
    assert changed.data.puppets is None


def test_a_file_extends_the_recipe_that_the_command_line_finds(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    for name in ("froster-vit-b-16", "recipes/froster-vit-b-16.yaml", "froster-vit-b-16.yaml"):
        file.write_text(f"extends: {name}\nseed: 5\n")
        assert TrainRecipe.read(file) == TrainRecipe.read(find_recipe("froster-vit-b-16"), ["seed=5"])
    (tmp_path / "froster-vit-b-16").mkdir()  # of a run, say
    assert TrainRecipe.read(file).seed == 5
    (tmp_path / "froster-vit-b-16.yaml").write_text("extends: recipes/froster-vit-b-16\nout: near\n")
    file.write_text("extends: froster-vit-b-16.yaml\n")
    assert TrainRecipe.read(file).out == Path("near")  # a file beside it comes first
    file.write_text("extends: froster-vit-b16\n")
    with pytest.raises(FrosterError, match=r"There is no recipe froster-vit-b16, .*did you mean 'froster-vit-b-16'"):
        TrainRecipe.read(file)
    file.write_text("extends: zebra\n")
    with pytest.raises(FrosterError, match=r"no recipe zebra, .*there are: .*few-clips.*, and those in .*puppets"):
        TrainRecipe.read(file)


def test_a_recipe_takes_factors_from_the_one_that_it_extends(tmp_path: Path) -> None:
    base, file = tmp_path / "base.yaml", tmp_path / "mine.yaml"
    base.write_text("extends: froster-vit-b-16\noptimizer: {factors: {visual: 10, text: 0.1}}\n")
    assert TrainRecipe.read(base).optimizer.factors == {"visual": 10, "text": 0.1}
    for factors, left in (("{text: null, temporal: 2}", {"visual": 10, "temporal": 2}), ("null", {})):
        file.write_text(f"extends: base.yaml\noptimizer: {{factors: {factors}}}\n")
        assert TrainRecipe.read(file).optimizer.factors == left
    assert TrainRecipe.read(base, ["optimizer.factors=null"]).optimizer.factors == {}


def test_keys_and_values_extend_a_recipe_as_a_file_does(monkeypatch: pytest.MonkeyPatch) -> None:
    trained = list[TrainRecipe]()
    monkeypatch.setattr("froster.training.start.train_recipe", lambda recipe, *_: trained.append(recipe))
    start.train({"extends": "froster-vit-b-16", "seed": 5}, optimizer={"epochs": 6})
    assert trained == [TrainRecipe.read(find_recipe("froster-vit-b-16"), ["seed=5", "optimizer.epochs=6"])]


def test_the_end_of_a_recipes_name_finds_it() -> None:
    with pytest.raises(
        FrosterError, match=r"no recipe 'table-4-h'; did you mean 'ablations/table-4-h' or 'puppets/table-4-h'\?$"
    ):
        find_recipe("table-4-h")
