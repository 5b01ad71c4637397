from pathlib import Path

import pytest

from fake_scores import fake_videos
from froster.data.manifests import read_manifest
from froster.errors import FrosterError
from froster.models import load_model
from froster.protocols import models as module
from froster.protocols.models import Pretrained, TrainFromRecipe
from froster.shipped import find_recipe
from froster.training.recipe import TrainRecipe

RECIPE = find_recipe("froster-puppets")


def test_each_draw_is_a_run_with_its_clips_and_seed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained = list[tuple[TrainRecipe, bool]]()

    def train(recipe: TrainRecipe, resume: bool) -> Path:
        trained.append((recipe, resume))
        return recipe.out

    monkeypatch.setattr(module, "train", train)
    monkeypatch.setattr(module, "load_model", lambda path: path)
    source = TrainFromRecipe(RECIPE, ("seed=7", "optimizer.epochs=5", "data.split=train"))
    videos = fake_videos("1.mp4 a train", "2.mp4 b train")
    for number in (0, 2):
        assert source.load(tmp_path / "draw", videos, number, ["optimizer.epochs=6"]) == tmp_path / "draw" / "run"
    assert [(recipe.seed, recipe.optimizer.epochs, resume) for recipe, resume in trained] == [
        (7, 6, True),
        (9, 6, True),
    ]
    recipe = trained[0][0]
    assert (recipe.data.manifest, recipe.data.puppets, recipe.data.split) == (
        tmp_path / "draw" / "train.csv",
        None,
        None,
    )
    listed = read_manifest(recipe.data.manifest)
    assert [(video.path.name, video.label) for video in listed] == [("1.mp4", "a"), ("2.mp4", "b")]
    # Other clips: a new list until a run has begun, then an error.
    source.load(tmp_path / "draw", videos[:1])
    assert trained[-1][0].seed == 7
    assert len(read_manifest(recipe.data.manifest)) == 1
    (tmp_path / "draw" / "run").mkdir()
    source.load(tmp_path / "draw", videos)
    (tmp_path / "draw" / "run" / "recipe.json").touch()
    source.load(tmp_path / "draw", videos[::-1])
    assert [video.label for video in read_manifest(recipe.data.manifest)] == ["a", "b"], "the same clips"
    with pytest.raises(FrosterError, match=r"draw holds a run on other clips \(2 then, 1 now\); choose another `out=`"):
        source.load(tmp_path / "draw", videos[1:])
    assert len(read_manifest(recipe.data.manifest)) == 2
    assert TrainFromRecipe.is_trained
    assert source.describe() == {"recipe": str(RECIPE), "changes": list(source.changes), "student": recipe.student}


def test_a_model_as_it_is_is_loaded_once() -> None:
    source = Pretrained("puppets", "frame_clip")
    assert not Pretrained.is_trained
    assert source.load(Path()) is source.load(Path("x"), [], 1)
    assert source.describe() == {"model": "puppets", "student": "frame_clip"}
    seeded = load_model("puppets", "vpt", seed=0).state_dict()
    # Random parts have always the same values.
    first, second = (Pretrained("puppets", "vpt").network.state_dict() for _ in range(2))
    assert all(first[name].equal(second[name]) and first[name].equal(seeded[name]) for name in first)
