"""`froster data convert`: published lists become manifests of the files that are there."""

import json
from collections.abc import Iterable
from pathlib import Path

import pytest
import typer

from froster.cli.convert import convert
from froster.data.manifests import LabeledVideo, read_manifest
from froster.data.puppets import draw_video
from froster.data.puppets.files import write_mp4
from froster.errors import FrosterError, FrosterWarning


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Videos of two classes, of UCF-101's form; empty files, which nothing opens."""
    folder = tmp_path / "UCF-101"
    for name in ("ApplyEyeMakeup", "YoYo"):
        (folder / name).mkdir(parents=True)
        for group in (1, 2):
            (folder / name / f"v_{name}_g{group:02}_c01.avi").touch()
    return folder


def write(path: Path, lines: Iterable[str]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


@pytest.fixture
def vifi(tmp_path: Path) -> tuple[Path, Path]:
    """A list as ViFi-CLIP has it, and its class names."""
    lines = ["v_YoYo_g02_c01.avi 0", "v_ApplyEyeMakeup_g01_c01.avi 1", "v_YoYo_g01_c01.avi 0"]
    return write(tmp_path / "fs.txt", lines), write(tmp_path / "classes.csv", ["id,name", "0,YoYo", "1,ApplyEyeMakeup"])


def test_a_published_list_becomes_a_manifest(
    root: Path, vifi: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "manifests" / "fs.csv"
    convert(vifi[0], root, out, vifi[1], split="train")
    assert read_manifest(out, "train") == [
        LabeledVideo(root / "YoYo" / "v_YoYo_g02_c01.avi", "yo yo", ("train",)),
        LabeledVideo(root / "ApplyEyeMakeup" / "v_ApplyEyeMakeup_g01_c01.avi", "apply eye makeup", ("train",)),
        LabeledVideo(root / "YoYo" / "v_YoYo_g01_c01.avi", "yo yo", ("train",)),
    ]
    assert capsys.readouterr().out == f"3 of 3 videos found, of 2 classes: {out}\n"
    again = tmp_path / "again.csv"
    convert(out, root, again)
    assert read_manifest(again) == read_manifest(out)


def test_missing_videos_are_named_and_the_others_written(
    root: Path, vifi: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with vifi[0].open("a") as file:
        file.writelines(f"v_YoYo_g{group}_c01.avi 0\n" for group in range(10, 17))
    with pytest.raises(typer.Exit) as caught:
        convert(vifi[0], root, tmp_path / "fs.csv", vifi[1])
    assert caught.value.exit_code == 1
    assert len(read_manifest(tmp_path / "fs.csv")) == 3
    shown = capsys.readouterr().out
    assert "3 of 10 videos found, of 2 classes" in shown and "7 missing:" in shown
    assert shown.count("  v_YoYo_g1") == 5 and "… and 2 more" in shown


def test_split(root: Path, tmp_path: Path) -> None:
    names = [f"{name}/v_{name}_g{group:02}_c01" for name in ("ApplyEyeMakeup", "YoYo") for group in (1, 2)]
    lists = tmp_path / "lists"
    for split in (1, 2):
        write(lists / f"trainlist0{split}.txt", [f"{name}.avi" for name in names if f"g0{split}" not in name])
        write(lists / f"testlist0{split}.txt", [f"{name}.avi" for name in names if f"g0{split}" in name])
    convert(lists, root, tmp_path / "all.csv")
    assert {video.splits for video in read_manifest(tmp_path / "all.csv")} == {
        ("train1", "test2"),
        ("test1", "train2"),
    }
    convert(lists, root, tmp_path / "test.csv", split="test1")
    assert {video.path.name[-11:] for video in read_manifest(tmp_path / "test.csv", "test1")} == {"g01_c01.avi"}
    with pytest.raises(FrosterError, match="no videos of the split 'val'; its splits are train1, test2, test1, train2"):
        convert(lists, root, tmp_path / "val.csv", split="val")


def test_kinetics_keeps_segments_of_whole_films(tmp_path: Path) -> None:
    root, lines = tmp_path / "k400", ["label,youtube_id,time_start,time_end,split"]
    film = draw_video(0, 0, 30, 32, "easy")
    write_mp4(root / "abseiling" / "-3B32lodo2M_000059_000069.mp4", film, 30)
    write_mp4(root / "abseiling" / "_dbcJuKJQNs.mp4", film, 2)  # 15 seconds
    lines += ["abseiling,-3B32lodo2M,59,69,train", "abseiling,_dbcJuKJQNs,2,12,val"]
    convert(write(tmp_path / "kinetics.csv", lines), root, tmp_path / "k400.csv")
    assert read_manifest(tmp_path / "k400.csv") == [
        LabeledVideo(root / "abseiling" / "-3B32lodo2M_000059_000069.mp4", "abseiling", ("train",)),
        LabeledVideo(root / "abseiling" / "_dbcJuKJQNs.mp4", "abseiling", ("val",), 2, 12),
    ]


def test_segments_of_own_manifests_stay(root: Path, tmp_path: Path) -> None:
    write_mp4(root / "YoYo" / "short.mp4", draw_video(0, 0, 4, 32, "easy"), 4)
    convert(write(tmp_path / "own.csv", ["path,label,end", "short.mp4,up,0.75"]), root, tmp_path / "out.csv")
    assert read_manifest(tmp_path / "out.csv")[0].end == 0.75
    rows = ["YoYo/v_YoYo_g01_c01.avi,up,0,1.5", "YoYo/v_YoYo_g01_c01.avi,down,1.5,3"]
    convert(write(tmp_path / "own.csv", ["path,label,start,end", *rows]), root, tmp_path / "out.csv")
    video = root / "YoYo" / "v_YoYo_g01_c01.avi"
    assert read_manifest(tmp_path / "out.csv") == [
        LabeledVideo(video, "up", (), 0, 1.5),
        LabeledVideo(video, "down", (), 1.5, 3),
    ]


def test_one_file_stands_for_one_name(tmp_path: Path) -> None:
    root = tmp_path / "videos"
    for name in ("kept/0.mp4", "7.mp4"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    lines = ["path,label", "kept/0.mp4,a", "lost/0.mp4,b", "x/7.mp4,a", "y/7.mp4,b"]
    with pytest.raises(typer.Exit):
        convert(write(tmp_path / "list.csv", lines), root, tmp_path / "out.csv")
    assert read_manifest(tmp_path / "out.csv") == [LabeledVideo(root / "kept" / "0.mp4", "a")]


def test_videos_without_a_class_are_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "20bn"
    root.mkdir()
    for number in (1, 2):
        (root / f"{number}.webm").touch()
    lines = ["id,label,split", "1,Holding [something],train", "2,,test"]
    convert(write(tmp_path / "list.csv", lines), root, tmp_path / "out.csv")
    assert read_manifest(tmp_path / "out.csv") == [LabeledVideo(root / "1.webm", "holding something", ("train",))]
    assert "Skipped: 1 without a class in the list." in capsys.readouterr().out
    tests = tmp_path / "test.json"
    tests.write_text(json.dumps([{"id": "1"}]))
    with pytest.raises(FrosterError, match=r"test\.json has no classes, which a manifest needs"):
        convert(tests, root, tmp_path / "none.csv")
    assert not (tmp_path / "none.csv").exists()


def test_class_names_of_another_list(root: Path, vifi: tuple[Path, Path], tmp_path: Path) -> None:
    swapped = write(tmp_path / "swapped.csv", ["id,name", "0,ApplyEyeMakeup", "1,YoYo"])
    with pytest.raises(
        FrosterError,
        match=r"3 of 3 videos of .*, of YoYo as 'apply eye makeup' \(2\), of ApplyEyeMakeup as 'yo yo' \(1\); give",
    ):
        convert(vifi[0], root, tmp_path / "out.csv", swapped)
    assert not (tmp_path / "out.csv").exists()
    one = write(
        tmp_path / "one.txt", ["v_YoYo_g02_c01.avi 0", "v_YoYo_g01_c01.avi 1", "v_ApplyEyeMakeup_g01_c01.avi 1"]
    )
    with pytest.warns(FrosterWarning, match=r"1 of 3 videos of .*, of YoYo as 'apply eye makeup' \(1\);"):
        convert(one, root, tmp_path / "out.csv", vifi[1])
    assert len(read_manifest(tmp_path / "out.csv")) == 3


def test_mistakes_are_told_and_nothing_is_written(root: Path, vifi: tuple[Path, Path], tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "other.mp4").touch()
    out = tmp_path / "out.csv"
    for arguments, message in (
        ((vifi[0], elsewhere, out, vifi[1]), "None of the 3 videos .* is among the 1 under .*, for example v_YoYo_g02"),
        ((vifi[0], tmp_path / "none", out, vifi[1]), "There is no folder --videos .*none"),
        ((vifi[0], root, out), "labels are numbers; give the class names with `classes=`"),
        ((vifi[0], root, tmp_path, vifi[1]), "--out .* is a folder; give a file in it"),
        ((vifi[0], root, vifi[0], vifi[1]), r"--out .*fs\.txt is one of the input files"),
        ((vifi[0], root, vifi[1], vifi[1]), r"--out .*classes\.csv is one of the input files"),
    ):
        with pytest.raises(FrosterError, match=message):
            convert(*arguments)
    assert not out.exists() and vifi[0].read_text().startswith("v_YoYo_g02")
