"""Facts about the field's datasets, and the index that finds the videos of their lists on a disk."""

from pathlib import Path

import pytest

from froster.data.datasets import DATASETS, VideoIndex, find_dataset
from froster.errors import FrosterError, FrosterWarning


def tree(root: Path, *files: str) -> VideoIndex:
    """An index of empty files; `name=content` gives one a content."""
    for file in files:
        name, _, content = file.partition("=")
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return VideoIndex(root)


def found(index: VideoIndex, name: str, label: str = "") -> str | None:
    path = index.find(name, label)
    return None if path is None else path.relative_to(index.root).as_posix()


def test_published_numbers_agree_with_each_other() -> None:
    assert {name: len(of.classes) for name, of in DATASETS.items()} == {
        "ucf-101": 101,
        "hmdb-51": 51,
        "kinetics-400": 400,
        "kinetics-600": 600,
        "ssv2": 174,
        "folder": 0,
    }
    ucf, hmdb, ssv2 = (DATASETS[name] for name in ("ucf-101", "hmdb-51", "ssv2"))
    assert {ucf.split_videos[f"train{i}"] + ucf.split_videos[f"test{i}"] for i in (1, 2, 3)} == {ucf.videos} == {13320}
    # HMDB-51's splits: 70 clips of each class to train, 30 to test.
    assert set(hmdb.split_videos.values()) == {51 * 70, 51 * 30}
    assert sum(ssv2.split_videos.values()) == ssv2.videos == 220_847
    for of in DATASETS.values():
        assert not of.split_videos or {of.train_split, of.test_split} <= of.split_videos.keys()


@pytest.mark.parametrize(
    ("spelling", "name"),
    [
        ("UCF101", "ucf-101"),
        ("HMDB51", "hmdb-51"),
        ("k400", "kinetics-400"),
        ("Kinetics_600", "kinetics-600"),
        ("Something-Something-V2", "ssv2"),
        ("folder", "folder"),
    ],
)
def test_data_sets_are_found_in_any_spelling(spelling: str, name: str) -> None:
    assert find_dataset(spelling) is DATASETS[name]


def test_unknown_data_set_names_the_nearest() -> None:
    with pytest.raises(FrosterError, match="no dataset 'ufc-101'; did you mean 'ucf-101'"):
        find_dataset("ufc-101")
    with pytest.raises(FrosterError, match="no dataset 'puppets'"):  # a vocabulary, but not a dataset
        find_dataset("puppets")


def test_index_sees_videos_through_links_but_nothing_hidden(tmp_path: Path) -> None:
    tree(tmp_path / "films", "a/1.mp4", "a/2.WEBM", "a/notes.txt", "a/._1.mp4", ".old/3.mp4", "b.avi")
    (tmp_path / "films" / "a" / "again").symlink_to(tmp_path / "films")
    (tmp_path / "films" / "gone.mp4").symlink_to(tmp_path / "nowhere.mp4")
    (tmp_path / "root").symlink_to(tmp_path / "films")
    with pytest.warns(FrosterWarning, match="gone.mp4 is a link to a missing file"):
        index = VideoIndex(tmp_path / "root")
    assert index.paths == ["a/1.mp4", "a/2.WEBM", "b.avi"]
    assert len(index) == 3


def test_a_name_is_found_by_path_by_its_last_parts_and_by_itself(tmp_path: Path) -> None:
    index = tree(tmp_path, "videos/ApplyEyeMakeup/v_a_g01.avi", "videos/Archery/v_b_g01.mp4", "lying about/v_c_g01.avi")
    for name in ("videos/ApplyEyeMakeup/v_a_g01.avi", "ApplyEyeMakeup/v_a_g01.avi", "v_a_g01.avi", "v_a_g01"):
        assert found(index, name) == "videos/ApplyEyeMakeup/v_a_g01.avi"
    assert found(index, "/data/of/others/apply_eye_makeup/v_a_g01.avi") == "videos/ApplyEyeMakeup/v_a_g01.avi"
    assert found(index, r"videos\Archery\v_b_g01.avi") == "videos/Archery/v_b_g01.mp4"  # another suffix
    assert found(index, "Shooting/v_c_g01.avi") == "lying about/v_c_g01.avi"
    assert found(index, "v_d_g01.avi") is None


def test_dots_in_a_name_are_no_suffix(tmp_path: Path) -> None:
    index = tree(tmp_path, "kick/Mr._Bean_1.5_kick.avi")
    assert found(index, "Mr._Bean_1.5_kick.avi") == found(index, "Mr._Bean_1.5_kick") == "kick/Mr._Bean_1.5_kick.avi"
    assert found(index, "Mr._Bean_1") is None


@pytest.mark.parametrize("folder", ["brush_hair", "brush hair", "BrushHair", "Brush-Hair"])
def test_of_two_files_of_one_name_the_class_folder_decides(tmp_path: Path, folder: str) -> None:
    index = tree(tmp_path, f"{folder}/1.avi", "kick/1.avi", "kick ball/1.avi")
    assert found(index, "1.avi", "brush hair") == f"{folder}/1.avi"
    assert found(index, "1.avi", "kick") == "kick/1.avi"
    assert found(index, "brush_hair/1.avi") == f"{folder}/1.avi"
    assert found(index, "kick_ball/1.avi", "kick ball") == "kick ball/1.avi"


def test_a_short_name_in_another_class_folder_is_somebody_else(tmp_path: Path) -> None:
    index = tree(tmp_path, "walking/1.mp4", "walking/2.mp4=x", "running/1.mp4", "jumping/2.mp4")
    assert found(index, "running/2.mp4", "running") is None
    assert found(index, "2.mp4", "running") is None
    assert found(index, "skipping/2.mp4", "skipping") is None  # two files, and nothing says which
    assert found(index, "2.mp4") is None


def test_copies_of_a_file_are_as_good_as_it(tmp_path: Path) -> None:
    index = tree(tmp_path, "backup/v_a.avi=same", "part1/v_a.avi=same")
    assert found(index, "ApplyEyeMakeup/v_a.avi", "apply eye makeup") == "backup/v_a.avi"


def test_kinetics_clips_by_name_and_films_by_id(tmp_path: Path) -> None:
    clip, film = "-aNccq2jvUA_000055_000065", "0bk_zXtqOTQ"
    index = tree(tmp_path, f"train/{clip}.mkv", f"val/{film}.webm", "val/abseiling/short.mp4")
    assert found(index, clip, "abseiling") == f"train/{clip}.mkv"
    assert found(index, f"train/{clip}.mp4") == f"train/{clip}.mkv"
    assert found(index, f"{film}_000020_000030", "abseiling") == f"val/{film}.webm"
    assert found(index, "-aNccq2jvUA_000075_000085") is None  # another clip of that film
    assert found(index, "0bk_zXtqOTX_000020_000030") is None


def test_mended_copies_come_before_the_broken_files(tmp_path: Path) -> None:
    clip = "-aNccq2jvUA_000055_000065"
    mended = f"replacement/replacement_for_corrupted_k400/{clip}.mp4"
    index = tree(tmp_path, f"k400/abseiling/{clip}.mp4", f"{mended}=whole")
    assert found(index, clip, "abseiling") == mended


@pytest.mark.parametrize("folders", [True, False])
def test_every_name_of_the_official_lists_is_found(tmp_path: Path, shared: Path, folders: bool) -> None:
    names = (shared / "splits" / "froster_csv" / "ucf101_testlist01.txt").read_text().split()
    assert len(names) == 3783
    index = tree(tmp_path, *(name if folders else name.split("/")[1] for name in names))
    assert [found(index, name) for name in names] == [name if folders else name.split("/")[1] for name in names]
    vifi = (shared / "splits" / "vifi" / "zero_shot" / "ucf_val1.txt").read_text().splitlines()
    assert {found(index, line.split()[0]) for line in vifi} == set(index.paths)
