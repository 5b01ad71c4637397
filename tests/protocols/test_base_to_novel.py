import json
import statistics
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest

from fake_scores import FakeScores, FakeSource, fake_videos
from froster.data.manifests import LabeledVideo, read_manifest, write_manifest
from froster.data.trained import TrainedVideos
from froster.data.vocabularies import read_vocabulary
from froster.errors import FrosterError, FrosterWarning
from froster.evaluation import evaluate, harmonic_mean
from froster.protocols import base_to_novel as module
from froster.protocols.base_to_novel import (
    Halves,
    TrainingLists,
    base_to_novel,
    custom_halves,
    default_recipe,
    draw_training_lists,
    halves_of,
    published_lists,
)
from froster.protocols.data import ProtocolData, load_data
from froster.protocols.models import Pretrained, TrainFromRecipe
from froster.settings import InferenceSettings
from froster.shipped import find_recipe
from froster.text.labels import check_labels

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


def test_fake_scores_give_the_numbers_of_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    videos = fake_videos(
        *("right-1 a test", "right-2 a test", "wrong-3 b test", "right-4 b test"),  # base: 3 of 4
        *("right-5 c test", "wrong-6 c test", "wrong-7 d test", "wrong-8 d test", "lost-9 d test"),  # novel: 1 of 4
        *("right-10 c train", "right-11 a train", "right-12 e test"),
    )
    data = ProtocolData("mine", "My data", videos, "train", "test", Path("mine.csv"))
    source, scores = FakeSource(), FakeScores(unreadable=("lost-9",))
    monkeypatch.setattr(module, "score_with_ensemble", scores.score_with_ensemble)
    shown = list[str]()
    found = base_to_novel(
        data,
        Halves(check_labels({"b": "", "a": "the first"}), check_labels(["d", "c"])),
        source,
        TrainingLists([[videos[10]], [videos[10], videos[9]]], ["a note"]),
        tmp_path,
        SETTINGS,
        lambda title: shown.append(title) or nullcontext(),  # type: ignore[func-returns-value]
        "ensemble",  # type: ignore[arg-type]
    )
    assert source.runs == [
        (tmp_path / "mine" / "draw-1", [videos[10]], 0),
        (tmp_path / "mine" / "draw-2", [videos[10], videos[9]], 1),
    ]
    assert shown == ["My data, draw 1", "My data, draw 2"]
    for number, (model, labels, tested, *more) in enumerate(scores.calls):
        assert (model.number, labels.descriptions) == (number, {"b": "", "a": "the first", "d": "", "c": ""})
        assert tested == videos[:9]
        assert more == [tmp_path / "mine" / "scores", SETTINGS, None, "ensemble"]
    parts = [(of.data, of.draw, of.part, of.trained_clips) for of in found.part_results]
    assert parts == [("My data", f"draw {draw}", part, draw) for draw in (1, 2) for part in ("base", "novel")]
    assert [(of.evaluation.classes, of.evaluation.clips) for of in found.part_results] == [(2, 4)] * 4
    # Draw 1: 75 and 25 %, so HM 2 * 75 * 25 / (75 + 25) = 37.5; draw 2: all right.
    expected = {
        "base": (87.5, statistics.stdev((75, 100))),
        "novel": (62.5, statistics.stdev((25, 100))),
        "hm": (2 * 87.5 * 62.5 / 150, statistics.stdev((37.5, 100))),
    }
    for key, score in found.scores["My data"].items():
        assert (score.mean, score.std, score.n) == (*map(pytest.approx, expected.pop(key)), 2)
    assert not expected
    assert found.notes == ["a note", "My data, base: b, a; novel: d, c."]
    assert found.unreadable == [("lost-9", "no video")]
    # A model as it is: one draw, which has no number.
    frozen = FakeSource(is_trained=False)
    alone = base_to_novel(data, halves_of(data), frozen, TrainingLists([[videos[0]]]), tmp_path, SETTINGS)
    assert frozen.runs == [(tmp_path / "mine" / "draw-1", [], 0)]
    assert len(alone.part_results) == 2
    only_base = replace(data, videos=videos[:4])
    with pytest.raises(FrosterError, match=r"mine\.csv has no video of novel classes in the split 'test'"):
        base_to_novel(
            only_base, Halves(check_labels(["a"]), check_labels(["c"])), source, TrainingLists([]), tmp_path, SETTINGS
        )


def test_fake_scores_of_a_model_trained_on_tested_videos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = fake_videos("right-1 a test", "right-2 b test")
    videos = [replace(row, path=tmp_path / row.path) for row in rows]
    for video in videos:
        video.path.write_text(video.path.name)
    data = ProtocolData("ucf-101", "UCF-101", videos, "train", "test", Path("mine.csv"))
    monkeypatch.setattr(module, "score_with_ensemble", FakeScores().score_with_ensemble)
    source = FakeSource(trained_on=TrainedVideos.of(videos[:1], "mine.csv"))
    with pytest.warns(FrosterWarning, match="1 of 2 tested videos"):
        found = base_to_novel(
            data, Halves(check_labels(["a"]), check_labels(["b"])), source, TrainingLists([[]]), tmp_path, SETTINGS
        )
    # Of a dataset with published halves the classes are not listed.
    assert [note[:30] for note in found.notes] == ["UCF-101 is not complete: 2 of ", "UCF-101: 1 of 2 tested videos "]


def test_published_recipes_of_the_four_datasets_and_of_ones_own() -> None:
    for dataset in ("ucf-101", "hmdb-51", "kinetics-400", "ssv2"):
        assert default_recipe(dataset).parts[-2:] == ("base-to-novel", f"froster-{dataset}.yaml")
    assert default_recipe("mine").name == "froster-vit-b-16.yaml"


def test_published_classes_with_few_clips_are_noted() -> None:
    videos = fake_videos("1 a train", "2 a train", "3 b train", "4 b test")
    data = ProtocolData("mine", "My data", videos, "train", "test", Path("mine.csv"))
    lists = draw_training_lists(data, ["a", "b"], shots=2, draws=3)
    assert [sorted(video.path.name for video in draw) for draw in lists.draws] == [["1", "2", "3"]] * 3
    assert lists.notes == [
        "My data: 2 clips of each base class, drawn from its split train.",
        "1 base classes of My data have fewer than 2 training clips.",
    ]
    assert len(draw_training_lists(data, ["a"], shots=2, draws=1).notes) == 1
    # Each draw is another choice.
    draws = draw_training_lists(replace(data, videos=fake_videos(*(f"{n} a train" for n in range(40)))), ["a"], 4, 3)
    assert len({tuple(draw) for draw in draws.draws}) == 3
    with pytest.raises(FrosterError, match=r"no clip of the base class 'c' in the split 'train'\.$"):
        draw_training_lists(data, ["a", "c"], shots=2, draws=1)
    with pytest.raises(FrosterError, match=r"'c' in the split 'train', nor of 1 others\.$"):
        draw_training_lists(data, ["a", "c", "d"], shots=2, draws=1)


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
    halves = custom_halves(check_labels({"Waving_Hello": "a hand"}), check_labels(["running"]), data)
    assert (halves.base, halves.novel) == (check_labels({"waving hello": "a hand"}), check_labels(["running"]))
    with pytest.raises(FrosterError, match="'running' is both a base and a novel class"):
        custom_halves(check_labels(["running"]), check_labels(["Running"]), data)
    with pytest.raises(FrosterError, match=r"no video of the class 'runing' \(did you mean 'running'\?\)"):
        custom_halves(check_labels(["runing"]), check_labels(["kicking"]), data)


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
