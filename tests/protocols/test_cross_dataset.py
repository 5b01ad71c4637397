from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from fake_scores import FakeScores, fake_videos
from froster.data.manifests import LabeledVideo, read_manifest, write_manifest
from froster.data.trained import TrainedVideos
from froster.data.vocabularies import published_halves, read_vocabulary
from froster.errors import FrosterError, FrosterWarning
from froster.evaluation import evaluate
from froster.models import load_model
from froster.protocols import cross_dataset as module
from froster.protocols.cross_dataset import (
    classes_of,
    load_test_data,
    parts_of,
    read_half_classes,
    run_cross_dataset,
    zero_shot_part,
)
from froster.protocols.data import ProtocolData, load_data
from froster.protocols.parts import Part, random_half
from froster.settings import InferenceSettings
from froster.text.classes import ClassTexts
from froster.text.labels import check_labels

SETTINGS = InferenceSettings(views=1, frames=4, sampling="uniform", precision="float32", workers=1)


def with_labels(manifests: Path, path: Path, labels: list[str], splits: list[tuple[str, ...]]) -> None:
    rows = read_manifest(manifests / "mine.csv")[:8]
    rows = [
        replace(row, label=labels[place % len(labels)], splits=splits[place % len(splits)])
        for place, row in enumerate(rows)
    ]
    write_manifest(path, rows)


def test_fake_scores_give_the_numbers_of_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    videos = fake_videos(
        *("right-1 a test1", "right-2 b test1 train2", "wrong-3 c test2", "wrong-4 d test2", "lost-5 e test1"),
        *("wrong-6 f test2", "fifth-7 a train1"),
    )
    data = ProtocolData("mine", "My data", videos, "train1", "test1", Path("mine.csv"))
    scores = FakeScores(unreadable=("lost-5",))
    monkeypatch.setattr(module, "score_with_ensemble", scores.score_with_ensemble)
    model, shown = SimpleNamespace(trained_on=None), list[str]()

    def show(title: str) -> nullcontext[None]:
        shown.append(title)
        return nullcontext()

    found = run_cross_dataset(
        data, model, check_labels({"b": "the second", "z": ""}), tmp_path, SETTINGS, show, None, "ensemble"
    )  # type: ignore[arg-type]
    assert shown == ["My data"]
    [(tested, labels, scored, *more)] = scores.calls
    assert tested is model
    assert labels.descriptions == {"a": "", "b": "the second", "c": "", "d": "", "e": "", "f": ""}
    assert scored == videos
    assert more == [tmp_path / "mine" / "scores", SETTINGS, None, "ensemble"]
    assert list(found.scores) == ["My data EP1", "My data*", "My data"]
    assert found.scores["My data*"]["mean"].mean == pytest.approx(100 * 2 / 6)
    splits = found.scores["My data"]["mean"]  # 2 of 2, and 0 of 3
    assert (splits.mean, splits.n) == (50.0, 2)
    assert splits.std == pytest.approx(5000**0.5)
    assert found.scores["My data EP1"].keys() == {"mean"}, "top-5 is reported for Kinetics-600 alone"
    halves = [(of.draw, of.part, of.evaluation.classes) for of in found.part_results if of.data == "My data EP1"]
    assert halves == [("all videos", f"half {draw}", 3) for draw in range(1, 11)]
    assert [of.draw for of in found.part_results[-2:]] == ["test1", "test2"]
    assert found.unreadable == [("lost-5", "no video")]
    assert found.notes == []
    drawn = parts_of(data)["My data EP1"]
    assert [part.classes for part in drawn] == [random_half(("a", "b", "c", "d", "e", "f"), n) for n in range(1, 11)]
    columns = {"none": [Part("z", ("z",))], "some": [Part(name, (name,)) for name in "xby"]}
    part = run_cross_dataset(data, model, ClassTexts(), tmp_path, SETTINGS, columns=columns)  # type: ignore[arg-type]
    assert part.notes == ["none: 1 of 1 parts have no video.", "some: 2 of 3 parts have no video."]
    assert list(part.scores) == ["some"]
    with pytest.raises(FrosterError, match=r"mine\.csv has no video of the classes and splits to test on"):
        run_cross_dataset(data, model, ClassTexts(), tmp_path, SETTINGS, columns={"x": [Part("x", ("q",))]})  # type: ignore[arg-type]


def test_fake_scores_of_kinetics_600_have_top_5(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [read_vocabulary(f"kinetics-600-draw-{draw}") for draw in (1, 2, 3)]
    common = sorted(set(names[0]) & set(names[1]) & set(names[2]))[:4]
    kinds = ("right", "fifth", "wrong", "wrong")
    rows = [replace(fake_videos(f"{kind}-1 x val")[0], label=name) for kind, name in zip(kinds, common, strict=True)]
    other = next(name for name in names[1] if name not in (*names[0], *names[2]))
    rows.append(replace(rows[0], label=other))
    data = ProtocolData("kinetics-600", "Kinetics-600", rows, "train", "val", Path("k600.csv"))
    monkeypatch.setattr(module, "score_with_ensemble", FakeScores().score_with_ensemble)
    found = run_cross_dataset(data, SimpleNamespace(trained_on=None), ClassTexts(), tmp_path, SETTINGS)  # type: ignore[arg-type]
    assert [(of.draw, of.part) for of in found.part_results] == [("val", f"draw {draw}") for draw in (1, 2, 3)]
    assert [(of.evaluation.clips, of.evaluation.classes) for of in found.part_results] == [(4, 160), (5, 160), (4, 160)]
    assert found.scores["Kinetics-600"]["mean"].mean == pytest.approx((25 + 40 + 25) / 3)
    assert found.scores["Kinetics-600"]["top-5"].mean == pytest.approx((50 + 60 + 50) / 3)
    assert found.notes == ["Kinetics-600 is not complete: 5 of 600 classes."]
    # Open-VCLIP Fig. 2 has the first draw alone.
    column, part = zero_shot_part(data)
    assert (column, part) == ("K-600 draw 1", Part("draw 1", names[0], ("val",)))
    assert list(parts_of(data, closed=True)) == ["Kinetics-600"]
    assert [part.name for part in parts_of(data, closed=True)["Kinetics-600"]] == ["all"]


def test_lists_of_kinetics_600_take_the_place_of_its_validation_split(tmp_path: Path) -> None:
    names = [read_vocabulary(f"kinetics-600-draw-{draw}")[0] for draw in (1, 2, 3)]
    for draw, name in enumerate(names, start=1):
        write_manifest(
            tmp_path / f"kinetics-600-draw-{draw}.csv", [fake(f"{draw}.mp4", name), fake("all.mp4", names[0])]
        )
    write_manifest(tmp_path / "hmdb-51.csv", [fake("h.mp4", "kick")])
    data = load_test_data("kinetics-600", tmp_path)
    assert {video.path.name: video.splits for video in data.videos} == {
        "all.mp4": ("draw-1", "draw-2", "draw-3"),
        **{f"{draw}.mp4": (f"draw-{draw}",) for draw in (1, 2, 3)},
    }
    assert (data.name, data.manifest) == ("kinetics-600", tmp_path)
    assert [part.splits for part in parts_of(data)["Kinetics-600"]] == [("draw-1",), ("draw-2",), ("draw-3",)]
    assert [video.path.name for video in load_test_data("hmdb-51", tmp_path).videos] == ["h.mp4"]
    for draw in (1, 2, 3):
        (tmp_path / f"kinetics-600-draw-{draw}.csv").unlink()
    write_manifest(tmp_path / "kinetics-600.csv", [fake("k.mp4", names[0])])
    assert load_test_data("kinetics-600", tmp_path).manifest == tmp_path / "kinetics-600.csv"


def fake(file: str, label: str) -> LabeledVideo:
    return LabeledVideo(Path(file), label)


def test_fake_rows_of_hmdb_without_splits_are_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = fake_videos("right-1 kick", "right-2 sit")
    data = ProtocolData("hmdb-51", "HMDB-51", rows, "train1", "test1", Path("hmdb.csv"))
    monkeypatch.setattr(module, "score_with_ensemble", FakeScores().score_with_ensemble)
    model = SimpleNamespace(trained_on=None)
    found = run_cross_dataset(data, model, ClassTexts(), tmp_path, SETTINGS)  # type: ignore[arg-type]
    assert "HMDB-51: no video has a split, so EP1 and EP2 are of all videos." in found.notes
    assert zero_shot_part(data) == ("HMDB*", Part("all", read_vocabulary("hmdb-51")))
    whole = replace(data, videos=[replace(rows[0], splits=("train1",)), replace(rows[1], splits=("test2",))])
    assert not any(
        "no video has a split" in note
        for note in module.summarize(
            FakeScores().score(ClassTexts.of_names(read_vocabulary("hmdb-51")), whole.videos), parts_of(whole), whole
        ).notes
    )
    assert zero_shot_part(whole)[1].splits == ("train1", "test1")
    mine = replace(data, name="mine", title="Mine")
    assert zero_shot_part(mine) == ("Mine", Part("all", ("kick", "sit"), ("test1",)))


def test_ucf_has_ten_halves_all_videos_and_three_splits(manifests: Path, tmp_path: Path) -> None:
    splits = [("test1", "train2", "train3"), ("train1", "test2", "train3"), ("train1", "train2", "test3"), ("train1",)]
    with_labels(manifests, tmp_path / "ucf-101.csv", ["YoYo", "Archery", "TaiChi"], splits)
    columns = parts_of(load_test_data("ucf-101", tmp_path))
    assert {column: len(parts) for column, parts in columns.items()} == {"UCF EP1": 10, "UCF*": 1, "UCF": 3}
    assert [part.classes for part in columns["UCF EP1"]] == list(published_halves("ucf-101"))
    assert [(part.splits, len(part.classes)) for part in columns["UCF"]] == [
        (("test1",), 101),
        (("test2",), 101),
        (("test3",), 101),
    ]
    assert columns["UCF*"][0].splits == ()


def test_hmdb_full_is_split_1(manifests: Path, tmp_path: Path) -> None:
    splits = [("train1", "test2"), ("test1", "train2"), ("test3",), ("train3",)]
    with_labels(manifests, tmp_path / "hmdb-51.csv", ["brush_hair"], splits)
    data = load_test_data("hmdb-51", tmp_path)
    columns = parts_of(data)
    for column in ("HMDB EP1", "HMDB*"):
        assert {part.splits for part in columns[column]} == {("train1", "test1")}
        assert all(part.splits == () for part in parts_of(data, all_videos=True)[column])
    # Eight rows go through the four kinds of splits twice.
    assert sum(map(columns["HMDB*"][0].contains, data.videos)) == 4
    assert [part.classes for part in columns["HMDB EP1"]] == list(published_halves("hmdb-51"))
    # Without the official lists there is no split 1.
    with_labels(manifests, tmp_path / "hmdb-51.csv", ["brush_hair"], [()])
    columns = parts_of(load_test_data("hmdb-51", tmp_path))
    assert (columns["HMDB*"][0].splits, list(columns)) == ((), ["HMDB EP1", "HMDB*"])


def test_a_trained_dataset_is_tested_on_its_test_split(manifests: Path, tmp_path: Path) -> None:
    with_labels(manifests, tmp_path / "kinetics-400.csv", ["abseiling"], [("train",), ("val",)])
    [(column, [part])] = parts_of(load_test_data("kinetics-400", tmp_path)).items()
    assert (column, part.splits, len(part.classes)) == ("Kinetics-400", ("val",), 400)
    [(column, [part])] = parts_of(load_test_data("mine", manifests), closed=True).items()
    assert (column, part.splits) == ("mine", ("test",))


def test_published_halves(manifests: Path, tmp_path: Path, shared: Path) -> None:
    with_labels(manifests, tmp_path / "ucf-101.csv", ["YoYo", "Archery", "TaiChi"], [()])
    data = load_test_data("ucf-101", tmp_path)
    folder = shared / "splits" / "froster_csv" / "ucf101_half"
    halves = [read_half_classes(folder / f"{draw}_ucf101-index2cls.json", data) for draw in (1, 2)]
    assert [set(half) for half in halves] == [set(half) for half in published_halves("ucf-101")[1:3]]
    assert [part.classes for part in parts_of(data, halves)["UCF EP1"]] == halves
    assert [len(half) for half in halves] == [50, 50]
    assert all(set(half) <= set(read_vocabulary("ucf-101")) for half in halves)
    (tmp_path / "half.txt").write_text("archery\nswimming\n", encoding="utf-8")
    with pytest.raises(FrosterError, match=r"half\.txt: swimming are not classes of UCF-101"):
        read_half_classes(tmp_path / "half.txt", data)


def test_kinetics_600_has_three_draws_of_its_own_lists_if_there_are_any(manifests: Path, tmp_path: Path) -> None:
    first, second, third = (read_vocabulary(f"kinetics-600-draw-{draw}") for draw in (1, 2, 3))
    common = sorted(set(first) & set(second) & set(third))[:2]
    with_labels(manifests, tmp_path / "kinetics-600.csv", [*common, "abseiling"], [("val",), ("train",)])
    data = load_test_data("kinetics-600", tmp_path)
    [(column, parts)] = parts_of(data).items()
    assert column == "Kinetics-600"
    assert [(part.classes, part.splits) for part in parts] == [(first, ("val",)), (second, ("val",)), (third, ("val",))]

    for draw in (1, 2, 3):
        with_labels(manifests, tmp_path / f"kinetics-600-draw-{draw}.csv", common[: 1 + draw // 2], [()])
    data = load_test_data("kinetics-600", tmp_path)
    assert len(data.videos) == 8, "a video of several lists is tested once"
    parts = parts_of(data)["Kinetics-600"]
    assert [part.splits for part in parts] == [("draw-1",), ("draw-2",), ("draw-3",)]
    measured = run_cross_dataset(data, load_model("puppets"), ClassTexts(), tmp_path, SETTINGS)
    assert [number.evaluation.clips for number in measured.part_results] == [8, 8, 8]
    assert measured.scores["Kinetics-600"]["mean"].n == 3
    assert measured.scores["Kinetics-600"]["top-5"].mean >= measured.scores["Kinetics-600"]["mean"].mean


def test_the_numbers_are_those_of_evaluation(manifests: Path, tmp_path: Path) -> None:
    data = load_data("mine", manifests)
    measured = run_cross_dataset(data, load_model("puppets"), ClassTexts(), tmp_path, SETTINGS)
    vocabulary = dict.fromkeys(classes_of(data), "")
    for column, split in (("mine*", None), ("mine", "test")):
        report = evaluate("puppets", data.manifest, vocabulary, split=split, views=1, frames=4, precision="float32")
        assert measured.scores[column]["mean"].mean == pytest.approx(100 * report.parts["all"].top1)
    halves = [number for number in measured.part_results if number.data == "mine EP1"]
    assert [number.evaluation.classes for number in halves] == [3] * 10
    columns = {"some": [Part("running", ("running",)), Part("nothing", ("kissing",))]}
    measured_part = run_cross_dataset(data, load_model("puppets"), ClassTexts(), tmp_path, SETTINGS, columns=columns)
    assert measured_part.notes == ["some: 1 of 2 parts have no video."]
    assert measured_part.scores["some"]["mean"].n == 1
    # Fewer classes are easier: on average over the draws, each class is right at least as often as among all.
    assert measured.scores["mine EP1"]["mean"].mean >= measured.scores["mine*"]["mean"].mean


def test_tested_training_videos_are_noted_and_testing_nothing_else_is_refused(manifests: Path, tmp_path: Path) -> None:
    data = load_data("mine", manifests)
    model = load_model("puppets")
    model.trained_on = TrainedVideos.of(data.split("train"), data.manifest)
    with pytest.warns(FrosterWarning, match=r"mine: 30 of 42 tested videos \(71 %\).*test the split 'test' instead"):
        measured = run_cross_dataset(data, model, ClassTexts(), tmp_path, SETTINGS)
    assert ["30 of 42 tested videos" in note for note in measured.notes] == [True]
    trained_alone = replace(data, videos=data.split("train"))
    with pytest.raises(FrosterError, match=r"every tested video \(30\) is among the model's training videos"):
        run_cross_dataset(trained_alone, model, ClassTexts(), tmp_path, SETTINGS)
