import json
from dataclasses import replace
from pathlib import Path

import pytest

from froster.data.manifests import LabeledVideo, read_manifest, write_manifest
from froster.data.vocabularies import read_vocabulary
from froster.errors import FrosterError
from froster.evaluation import evaluate, harmonic_mean
from froster.protocols.base_to_novel import (
    TrainingLists,
    base_to_novel,
    custom_halves,
    draw_training_lists,
    halves_of,
    published_lists,
)
from froster.protocols.data import load_data
from froster.protocols.models import Pretrained, TrainFromRecipe
from froster.settings import InferenceSettings
from froster.shipped import find_recipe

SETTINGS = InferenceSettings(views=1, frames=4, sampling="uniform", precision="float32", workers=1)
CHANGES = (
    "optimizer.epochs=1",
    "optimizer.warmup_epochs=0",
    "average_from=null",
    "optimizer.batch_size=6",
    "data.frames=4",
    "precision=float32",
)
RECIPE = TrainFromRecipe(find_recipe("froster-puppets"), CHANGES)


@pytest.mark.slow
def test_every_draw_is_trained_and_tested_once(manifests: Path, tmp_path: Path) -> None:
    data = load_data("mine", manifests)
    halves = halves_of(data)
    # All classes have five training clips: the first half of the alphabet.
    assert list(halves.base) == ["fishing", "kicking", "painting a wall"]
    lists = draw_training_lists(data, list(halves.base), shots=2, draws=2)
    assert [len(draw) for draw in lists.draws] == [6, 6]
    assert {v.label for v in lists.draws[0]} == set(halves.base)
    assert all(video.splits == ("train",) for draw in lists.draws for video in draw)

    measured = base_to_novel(data, halves, RECIPE, lists, tmp_path, SETTINGS)
    runs = [tmp_path / "mine" / f"draw-{draw}" / "run" for draw in (1, 2)]
    recipes = [json.loads((run / "recipe.json").read_text(encoding="utf-8")) for run in runs]
    assert [recipe["seed"] for recipe in recipes] == [0, 1]
    # The same numbers as `froster evaluate` has, draw by draw.
    test = tmp_path / "test.csv"
    write_manifest(test, [video for video in data.videos if "test" in video.splits])
    reports = [
        evaluate(run, test, base=halves.base, novel=halves.novel, views=1, frames=4, precision="float32")
        for run in runs
    ]
    for part in ("base", "novel"):
        expected = [100 * report.parts[part].top1 for report in reports]
        assert [100 * n.evaluation.top1 for n in measured.part_results if n.part == part] == expected
        assert measured.scores["mine"][part].mean == pytest.approx(sum(expected) / 2)
    base, novel, hm = (measured.scores["mine"][key].mean for key in ("base", "novel", "hm"))
    assert hm == pytest.approx(harmonic_mean(base, novel))

    files = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.suffix == ".safetensors"}
    assert base_to_novel(data, halves, RECIPE, lists, tmp_path, SETTINGS) == measured
    assert files == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.suffix == ".safetensors"}


def test_a_model_as_it_is_has_one_draw(manifests: Path, tmp_path: Path) -> None:
    data = load_data("mine", manifests)
    measured = base_to_novel(data, halves_of(data), Pretrained("puppets"), TrainingLists([]), tmp_path, SETTINGS)
    assert [number.part for number in measured.part_results] == ["base", "novel"]
    assert measured.scores["mine"]["hm"].n == 1
    assert not list(tmp_path.rglob("run"))


def test_known_data_sets_have_the_published_halves(manifests: Path, tmp_path: Path) -> None:
    rows = [replace(video, splits=("train1", "test2")) for video in read_manifest(manifests / "mine.csv")]
    labels = ["PlayingViolin", "YoYo", "apply_eye_makeup"]
    rows = [replace(row, label=labels[place % 3]) for place, row in enumerate(rows)]
    write_manifest(tmp_path / "ucf-101.csv", rows)
    data = load_data("UCF101", tmp_path)
    assert {video.label for video in data.videos} == {"playing violin", "yo yo", "apply eye makeup"}
    halves = halves_of(data)
    assert tuple(halves.base) == read_vocabulary("ucf-101-base")
    assert tuple(halves.novel) == read_vocabulary("ucf-101-novel")
    with pytest.raises(FrosterError, match=r"no clip of the base class .* in the split 'train1', nor of \d+ others"):
        draw_training_lists(data, list(halves.base), shots=2, draws=1)
    write_manifest(tmp_path / "ucf-101.csv", [replace(rows[0], label="PlayingViolins")])
    with pytest.raises(FrosterError, match=r"not among the 101 classes.*did you mean 'playing violin'"):
        load_data("ucf-101", tmp_path)


def test_halves_of_ones_own(manifests: Path) -> None:
    data = load_data("mine", manifests)
    halves = custom_halves({"Waving_Hello": "a hand"}, {"running": ""}, data)
    assert (halves.base, halves.novel) == ({"waving hello": "a hand"}, {"running": ""})
    with pytest.raises(FrosterError, match="'running' is both a base and a novel class"):
        custom_halves({"running": ""}, {"Running": ""}, data)
    with pytest.raises(FrosterError, match=r"no video of the class 'runing' \(did you mean 'running'\?\)"):
        custom_halves({"runing": ""}, {"kicking": ""}, data)


def test_published_lists(manifests: Path, tmp_path: Path) -> None:
    data = load_data("mine", manifests)
    names = [video.path.name for video in data.videos]
    assert len(set(names)) < len(names), "the same file names in several folders"
    with pytest.raises(FrosterError, match="no manifest"):
        load_data("yours", manifests)
    # File names that are unique, as in the published lists.
    unique = [replace(v, path=v.path.with_name(f"{v.label[:4]}_{v.path.name}")) for v in data.videos]
    data = replace(data, videos=unique)
    train = [v for v in unique if v.label in ("fishing", "running")][:7]
    classes = tmp_path / "classes.csv"
    classes.write_text("id,name\n0,Running\n1,Fishing\n", encoding="utf-8")
    rows = [f"{v.path.stem}.avi {'0' if v.label == 'running' else '1'}" for v in train]
    listing = tmp_path / "fs_base_s1_train.txt"
    listing.write_text("\n".join([*rows, "lost_video.avi 1"]) + "\n", encoding="utf-8")
    lists = published_lists([listing], classes, data, ["fishing", "running"])
    assert lists.draws == [train]
    assert "Trained on 7 clips" in lists.notes[0]
    assert lists.notes[1].endswith("are missing: lost_video.avi.")
    classes.write_text("id,name\n0,Fishing\n1,Running\n", encoding="utf-8")
    with pytest.raises(FrosterError, match="gives 7 videos other classes"):
        published_lists([listing], classes, data, ["fishing", "running"])


def test_a_few_labels_of_a_published_list_may_be_wrong(manifests: Path, tmp_path: Path) -> None:
    data = load_data("mine", manifests)
    videos = [replace(v, path=v.path.with_name(f"{number}.mp4")) for number, v in enumerate(data.videos)]
    data = replace(data, videos=videos)
    listing, classes = tmp_path / "list.txt", tmp_path / "classes.csv"
    names = sorted({video.label for video in videos})
    classes.write_text("id,name\n" + "".join(f"{place},{name}\n" for place, name in enumerate(names)), encoding="utf-8")
    numbers = [names.index(video.label) for video in videos]
    numbers[3], numbers[7] = 5, 5  # fishing as waving hello
    rows = [f"{video.path.name} {number}" for video, number in zip(videos, numbers, strict=True)]
    listing.write_text("\n".join(rows) + "\n", encoding="utf-8")
    data = replace(data, test_split="none")
    lists = published_lists([listing], classes, data, names)
    assert lists.draws == [videos]
    assert lists.notes[1].startswith("2 clips")


def test_published_lists_may_not_train_on_what_is_tested(manifests: Path, tmp_path: Path) -> None:
    data = load_data("mine", manifests)
    listing = tmp_path / "list.csv"
    for chosen, what in (
        ([v for v in data.videos if "test" in v.splits][:3], "3 clips of the split 'test'"),
        (
            [v for v in data.videos if "train" in v.splits and v.label == "running"],
            "5 clips of classes that are not base",
        ),
    ):
        names = ["/".join(v.path.parts[-3:]) for v in chosen]
        rows = "".join(f"{name},{v.label}\n" for name, v in zip(names, chosen, strict=True))
        listing.write_text(f"path,label\n{rows}", encoding="utf-8")
        with pytest.raises(FrosterError, match=what):
            published_lists([listing], None, data, ["fishing", "kicking"])


def test_published_lists_go_by_folders_where_file_names_repeat(manifests: Path, tmp_path: Path) -> None:
    data = load_data("mine", manifests)
    train = [v for v in data.videos if "train" in v.splits][:4]
    # The same file names under another folder: train/fishing/10.mp4 and val/fishing/10.mp4.
    copies = [replace(v, path=Path("val", *v.path.parts[-2:]), splits=("val",)) for v in train]
    both = replace(data, videos=[*train, *copies])
    listing = tmp_path / "list.csv"
    rows = "".join(f"train/{'/'.join(v.path.parts[-2:])},{v.label}\n" for v in train)
    listing.write_text(f"path,label\n{rows}", encoding="utf-8")
    assert published_lists([listing], None, both, ["fishing"]).draws == [train]
    rows = "".join(f"{v.path.name},{v.label}\n" for v in train)
    listing.write_text(f"path,label\n{rows}", encoding="utf-8")
    with pytest.raises(FrosterError, match=r"several videos that the list .* may mean by .*10\.mp4"):
        published_lists([listing], None, both, ["fishing"])


def test_a_run_on_other_clips_is_not_taken_for_this_one(manifests: Path, tmp_path: Path) -> None:
    data = load_data("mine", manifests)
    halves = halves_of(data)
    one = draw_training_lists(data, list(halves.base), shots=1, draws=1)
    base_to_novel(data, halves, RECIPE, one, tmp_path, SETTINGS)
    two = draw_training_lists(data, list(halves.base), shots=2, draws=1)
    with pytest.raises(FrosterError, match=r"holds a run on other clips \(3 then, 6 now\); choose another `out=`"):
        base_to_novel(data, halves, RECIPE, two, tmp_path, SETTINGS)
    assert len(read_manifest(tmp_path / "mine" / "draw-1" / "train.csv")) == 3


def test_classes_of_test_videos_alone_are_novel(manifests: Path) -> None:
    data = load_data("mine", manifests)
    videos = [v for v in data.videos if v.label != "fishing" or "test" in v.splits]
    halves = halves_of(replace(data, videos=videos))
    assert "fishing" in halves.novel
    assert len(halves.base) == len(halves.novel) == 3


def test_an_unreadable_video_is_counted_once(manifests: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.mp4"
    broken.touch()
    data = load_data("mine", manifests)
    data = replace(data, videos=[*data.videos, LabeledVideo(broken, "running", ("test",))])
    halves = halves_of(data)
    lists = draw_training_lists(data, list(halves.base), shots=1, draws=2)
    measured = base_to_novel(data, halves, RECIPE, lists, tmp_path, SETTINGS)
    assert [video for video, _ in measured.unreadable] == [str(broken)]
