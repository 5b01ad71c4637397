import json
from pathlib import Path

import pytest

from fake_scores import fake_videos
from froster.data.lists import read_list
from froster.data.manifests import write_manifest
from froster.data.vocabularies import read_vocabulary
from froster.errors import FrosterError
from froster.protocols.data import (
    ProtocolData,
    agreeing_parts,
    find_training_lists,
    has_halves,
    incompleteness,
    load_data,
    read_training_list,
)
from froster.text.descriptions import merge_descriptions


def write_lists(folder: Path, pattern: str) -> list[Path]:
    folder.mkdir(parents=True)
    lists = [folder / pattern.format(draw) for draw in (1, 2, 3)]
    for path in lists:
        path.write_text("a.avi 0\n", encoding="utf-8")
    return lists


def test_training_lists_of_vifi_clip_and_froster_are_found_in_their_folders(tmp_path: Path) -> None:
    vifi = tmp_path / "datasets_splits"
    ucf = write_lists(vifi / "base2novel_splits" / "ucf_splits" / "ucf", "fs_base_s{}_train.txt")
    hmdb = write_lists(vifi / "base2novel_splits" / "hmdb", "fs_base_s{}_train.txt")
    labels = vifi / "labels" / "hmdb_51_base_labels.csv"
    labels.parent.mkdir()
    labels.write_text("id,name\n0,kick\n", encoding="utf-8")
    assert find_training_lists(vifi, "ucf-101")[0] == ucf
    assert find_training_lists(vifi, "hmdb-51") == (hmdb, labels)
    with pytest.raises(FrosterError, match="no training lists of kinetics-400"):
        find_training_lists(vifi, "kinetics-400")

    own = write_lists(tmp_path / "zs_label_db" / "B2N_k400", "train_{}.csv")
    classes = own[0].with_name("raw_train_idx2cls.json")
    classes.write_text(json.dumps({"0": "abseiling"}), encoding="utf-8")
    assert find_training_lists(tmp_path / "zs_label_db", "kinetics-400") == (own, classes)
    own[2].unlink()
    with pytest.raises(FrosterError, match="those of draws 2 and 3"):
        find_training_lists(tmp_path / "zs_label_db", "kinetics-400")


def test_the_published_lists_have_sixteen_clips_of_each_base_class(shared: Path) -> None:
    for name, clips in (("ucf-101", 51 * 16), ("hmdb-51", 26 * 16)):
        lists, classes = find_training_lists(shared / "splits" / "vifi", name)
        assert classes is not None
        assert [len(read_list(path, classes)) for path in lists] == [clips] * 3


def test_descriptions_of_several_files_are_merged(tmp_path: Path) -> None:
    files = [tmp_path / f"{draw}.json" for draw in (1, 2)]
    files[0].write_text(json.dumps({"0": "running: on legs", "1": "kicking: with a leg"}), encoding="utf-8")
    files[1].write_text(json.dumps({"0": "running: on legs", "1": "waving: a hand"}), encoding="utf-8")
    assert merge_descriptions(files).descriptions == {"running": "on legs", "kicking": "with a leg", "waving": "a hand"}
    files[1].write_text(json.dumps({"running": "fast"}), encoding="utf-8")
    with pytest.raises(FrosterError, match=r"1\.json and .*2\.json describe 'running' differently"):
        merge_descriptions(files)


def test_a_missing_manifest_says_what_writes_it(tmp_path: Path) -> None:
    with pytest.raises(FrosterError, match=r"write it with `froster data check FOLDER --dataset ucf-101 --out \S+`\.$"):
        load_data("UCF101", tmp_path)
    write_manifest(tmp_path / "mine.csv", fake_videos("1.mp4 a"))
    (tmp_path / "mine.partial.csv").write_text("path\n", encoding="utf-8")
    with pytest.raises(FrosterError, match=r"--dataset folder --out \S+yours\.csv`, or take one of mine\.$"):
        load_data("yours", tmp_path)
    for other in ("another", "kinetics-600-draw-1"):
        with pytest.raises(FrosterError, match=rf"`froster data convert LIST --videos FOLDER --out \S+{other}\.csv`"):
            load_data("kinetics-600", tmp_path, tmp_path / f"{other}.csv")


def test_known_datasets_have_their_splits_and_spelling(tmp_path: Path) -> None:
    write_manifest(tmp_path / "hmdb-51.csv", fake_videos("1.mp4 Brush_Hair train1", "2.mp4 kick test1"))
    data = load_data("hmdb51.csv", tmp_path)
    assert (data.name, data.title, data.train_split, data.test_split) == ("hmdb-51", "HMDB-51", "train1", "test1")
    assert [video.label for video in data.videos] == ["brush hair", "kick"]
    assert [video.label for video in data.split("train1")] == ["brush hair"]
    with pytest.raises(FrosterError, match=r"no video in the split 'val': it has test1, train1\.$"):
        data.split("val")
    write_manifest(tmp_path / "mine.csv", fake_videos("1.mp4 a"))
    mine = load_data("mine", tmp_path)
    assert (mine.name, mine.title, mine.train_split, mine.test_split) == ("mine", "mine", "train", "test")
    with pytest.raises(FrosterError, match="no video in the split 'train': no row has one"):
        mine.split("train")
    assert [has_halves(name) for name in ("ucf-101", "ssv2", "kinetics-600", "mine")] == [True, True, False, False]


def test_a_tenth_of_a_lists_labels_may_be_wrong(tmp_path: Path) -> None:
    videos = fake_videos(*(f"d/{number}.avi a train" for number in range(10)), "e/7.avi b train", "x.avi b train")
    data = ProtocolData("mine", "mine", videos, "train", "test", Path("mine.csv"))
    listing = tmp_path / "list.csv"

    def read(*rows: str) -> tuple[list[str], list[str], list[str]]:
        listing.write_text("path,label\n" + "\n".join(rows) + "\n", encoding="utf-8")
        found = read_training_list(listing, None, data)
        return [str(video.path) for video in found.videos], found.missing, found.relabeled

    rows = [f"d/{number}.mp4,a" for number in range(9)]
    assert read(*rows, "d/9.mp4,b") == ([f"d/{n}.avi" for n in range(10)], [], ["d/9.mp4 ('b', not 'a')"])
    with pytest.raises(FrosterError, match=r"gives 2 videos other classes than mine\.csv: d/8\.mp4"):
        read(*rows[:8], "d/8.mp4,b", "d/9.mp4,b")
    assert read("e/7.mp4,b", "lost.mp4,a", "folder/x.mp4,b") == (["e/7.avi", "x.avi"], ["lost.mp4"], [])
    with pytest.raises(FrosterError, match=r"several videos that the list \S+ may mean by 7\.mp4"):
        read("7.mp4,a")
    with pytest.raises(FrosterError, match=r"None of the 2 videos of \S+ is in mine\.csv: lost\.mp4, gone\.mp4\."):
        read("lost.mp4,a", "gone.mp4,b")


def test_parts_of_a_name_agree_from_the_end() -> None:
    for name, path, parts in (
        ("a/b/1.avi", "/x/a/b/1.mp4", 3),
        ("c/b/1.avi", "/x/a/b/1.mp4", 2),
        ("a/c/1.avi", "/x/a/b/1.mp4", 1),
        ("1.avi", "b/1.mp4", 1),
        ("2.avi", "1.mp4", 0),
    ):
        assert agreeing_parts(name, Path(path)) == parts


def test_incomplete_datasets_are_noted() -> None:
    names = read_vocabulary("hmdb-51")
    rows = [fake_videos("1.avi x")[0]] * 6766
    every = [type(row)(row.path, names[place % 51]) for place, row in enumerate(rows)]

    def note(videos: list, name: str = "hmdb-51") -> str | None:  # type: ignore[type-arg]
        return incompleteness(ProtocolData(name, "HMDB-51", videos, "train1", "test1", Path("x.csv")))

    assert note(every) is None
    assert note(every, "mine") is None
    assert note(every[1:]) == "HMDB-51 is not complete: 6,765 of 6,766 videos, 51 of 51 classes."
    one_class = [type(row)(row.path, "kick") for row in rows]
    assert note(one_class) == "HMDB-51 is not complete: 6,766 of 6,766 videos, 1 of 51 classes."
    kinetics = [type(rows[0])(rows[0].path, name) for name in read_vocabulary("kinetics-600")]
    assert note(kinetics, "kinetics-600") is None, "videos that are no longer on YouTube do not count"
    assert note(kinetics[:9], "kinetics-600") == "HMDB-51 is not complete: 9 of 600 classes."
