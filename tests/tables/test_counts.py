"""Videos and classes in the cells of the tables, against the official lists."""

import json
from pathlib import Path

import pytest

from froster.data.lists import read_list
from froster.data.manifests import LabeledVideo, write_manifest
from froster.data.vocabularies import published_halves, read_vocabulary
from froster.protocols.base_to_novel import draw_training_lists, halves_of, published_lists
from froster.protocols.cross_dataset import load_test_data, parts_of
from froster.protocols.data import find_training_lists, load_data
from froster.protocols.parts import Part, select_videos

VIFI = Path("splits") / "vifi"


def official(shared: Path, short: str, name: str) -> dict[str, LabeledVideo]:
    """The videos of ViFi-CLIP's lists of a dataset by file name, in the splits that the lists put them in."""
    labels = shared / VIFI / "labels" / f"{name}_labels.csv"
    splits: dict[str, set[str]] = {}
    videos: dict[str, str] = {}
    for split in (1, 2, 3):
        for row in read_list(shared / VIFI / "zero_shot" / f"{short}_val{split}.txt", labels):
            splits.setdefault(row.name, set()).add(f"test{split}")
            videos[row.name] = row.label
    base = shared / VIFI / "labels" / f"{name}_base_labels.csv"
    for row in read_list(shared / VIFI / "base2novel" / short / "base_train.txt", base):
        splits.setdefault(row.name, set()).add("train1")
        videos.setdefault(row.name, row.label)
    return {file: LabeledVideo(Path(file), label, tuple(sorted(splits[file]))) for file, label in videos.items()}


@pytest.mark.parametrize(
    ("short", "spelled", "name", "tests"),
    [
        ("ucf", "ucf_101", "ucf-101", (3783, 3734, 3696)),
        ("hmdb", "hmdb_51", "hmdb-51", (1530, 1530, 1530)),
    ],
)
def test_official_splits_and_halves(
    shared: Path, tmp_path: Path, short: str, spelled: str, name: str, tests: tuple[int, ...]
) -> None:
    write_manifest(tmp_path / f"{name}.csv", official(shared, short, spelled).values())
    data = load_test_data(name, tmp_path)
    columns = list(parts_of(data).values())
    assert [len(select_videos(data.videos, [part])) for part in columns[2]] == list(tests)
    assert [len(part.classes) for part in columns[2]] == [len(read_vocabulary(name))] * 3
    assert [len(part.classes) for part in columns[0]] == [len(read_vocabulary(name)) // 2] * 10

    halves = halves_of(data)
    folder = shared / VIFI / "base2novel" / short
    for part, file in (("base", "base_val.txt"), ("novel", "novel_val.txt")):
        classes = tuple(getattr(halves, part))
        tested = select_videos(data.videos, [Part(part, classes, (data.test_split,))])
        listed = read_list(folder / file, shared / VIFI / "labels" / f"{spelled}_{part}_labels.csv")
        # HMDB-51's lists exchange two pairs of classes, one of which is base and the other novel.
        assert len(tested) == len(listed), part
        if short == "ucf":
            assert {video.path.name for video in tested} == {row.name for row in listed}
    lists, names = find_training_lists(shared / VIFI, name)
    draws = published_lists(lists, names, load_data(name, tmp_path), list(halves.base)).draws
    assert [len(draw) for draw in draws] == [16 * len(halves.base)] * 3
    drawn = draw_training_lists(data, list(halves.base), shots=16, draws=3).draws
    assert [len(draw) for draw in drawn] == [16 * len(halves.base)] * 3


def test_the_published_halves_of_ucf_hold_the_published_videos(shared: Path, tmp_path: Path) -> None:
    """FROSTER's lists of the halves 1 and 2 (counted from 0) hold all videos of these classes, of all splits."""
    folder = shared / "splits" / "froster_csv" / "ucf101_half"
    videos = dict[str, LabeledVideo]()
    counts = []
    for half in (1, 2):
        names = json.loads((folder / f"{half}_ucf101-index2cls.json").read_text(encoding="utf-8"))
        rows = [line.rpartition(",") for line in (folder / f"{half}_test.csv").read_text().splitlines()]
        counts.append(len(rows))
        videos |= {path: LabeledVideo(Path(path), names[number]) for path, _, number in rows}
    write_manifest(tmp_path / "ucf-101.csv", videos.values())
    data = load_test_data("ucf-101", tmp_path)
    parts = parts_of(data)["UCF EP1"][1:3]
    assert [part.classes for part in parts] == list(published_halves("ucf-101")[1:3])
    assert [len(select_videos(data.videos, [part])) for part in parts] == counts == [6658, 6625]


def test_the_first_draw_of_kinetics_600(shared: Path, tmp_path: Path) -> None:
    labels = shared / VIFI / "labels" / "ZS_split1_K600.csv"
    rows = read_list(shared / VIFI / "zero_shot" / "k600_split1.txt", labels)
    write_manifest(tmp_path / "kinetics-600-draw-1.csv", [LabeledVideo(Path(row.name), row.label) for row in rows])
    for draw in (2, 3):
        other = read_vocabulary(f"kinetics-600-draw-{draw}")[0]
        write_manifest(tmp_path / f"kinetics-600-draw-{draw}.csv", [LabeledVideo(Path(f"{draw}.mp4"), other)])
    [parts] = parts_of(load_test_data("kinetics-600", tmp_path)).values()
    assert len(parts[0].classes) == 160
    data = load_test_data("kinetics-600", tmp_path)
    assert len(select_videos(data.videos, parts[:1])) == len(rows) == 14_084
