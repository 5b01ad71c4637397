import json
from pathlib import Path

import pytest

from froster.data.lists import read_list
from froster.errors import FrosterError
from froster.protocols.data import find_training_lists
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
