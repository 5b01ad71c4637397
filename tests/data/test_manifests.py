"""Manifests as people write them: read back exactly, and every mistake named in one sentence."""

import csv
import re
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from froster.data.lists import read_list
from froster.data.manifests import LabeledVideo, class_indices, read_manifest, write_manifest
from froster.data.puppets.files import write_videos
from froster.errors import FrosterError, FrosterWarning


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    return tmp_path / "lists" / "train.csv"


def write(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_bytes_of_a_written_manifest(manifest: Path) -> None:
    folder = manifest.parent
    write_manifest(
        manifest, [LabeledVideo(folder / "a/0.mp4", "kicking"), LabeledVideo(folder / "b/1.mp4", 'a "high", kick')]
    )
    assert manifest.read_bytes() == b'path,label\na/0.mp4,kicking\nb/1.mp4,"a ""high"", kick"\n'
    write_manifest(manifest, [LabeledVideo(folder / "a.mp4", "kicking", ("train1", "test2"), 0.0, 7.25)])
    assert manifest.read_bytes() == b"path,label,split,start,end\na.mp4,kicking,train1 test2,0,7.25\n"
    write_manifest(manifest, [LabeledVideo(folder / "a.mp4", "kicking", end=10)])
    assert manifest.read_bytes() == b"path,label,end\na.mp4,kicking,10\n"


def test_a_written_manifest_is_read_back(manifest: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    starts, lengths = rng.uniform(0, 1e4, 50), rng.exponential(1, 50)
    videos = [
        LabeledVideo(manifest.parent / "a" / "0.mp4", "fencing"),
        LabeledVideo(tmp_path / "elsewhere.mp4", "Ballett, im Freien", ("test",)),
        LabeledVideo(manifest.parent / "ü b.mp4", "跳舞", ("train1", "test2", "train3"), None, 1e-7),
        *(
            LabeledVideo(tmp_path / f"{row}.mp4", "long", (), float(start), float(start + length))
            for row, (start, length) in enumerate(zip(starts, lengths, strict=True))
        ),
    ]
    write_manifest(manifest, videos)
    assert read_manifest(str(manifest)) == videos


def test_paths_lead_to_the_same_files_from_another_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "videos").mkdir()
    for name in ("videos/a.mp4", "b.mp4"):
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    write_manifest(Path("lists/m.csv"), [LabeledVideo(Path("videos/a.mp4"), "a")])
    write_manifest(Path("videos/m.csv"), [LabeledVideo(Path("videos/a.mp4"), "a"), LabeledVideo(Path("b.mp4"), "b")])
    assert (tmp_path / "videos/m.csv").read_text() == f"path,label\na.mp4,a\n{tmp_path.as_posix()}/b.mp4,b\n"
    monkeypatch.chdir("/")
    for manifest, files in (("lists/m.csv", ["videos/a.mp4"]), ("videos/m.csv", ["videos/a.mp4", "b.mp4"])):
        read = read_manifest(tmp_path / manifest)
        assert [video.path for video in read] == [tmp_path / file for file in files]


def test_an_interrupted_manifest_leaves_the_old_one(manifest: Path) -> None:
    def breaks_off() -> Iterator[LabeledVideo]:
        yield LabeledVideo(Path("new.mp4"), "bowing")
        raise KeyboardInterrupt

    write_manifest(manifest, [LabeledVideo(manifest.parent / "old.mp4", "bowing")])
    with pytest.raises(KeyboardInterrupt):
        write_manifest(manifest, breaks_off())
    assert manifest.read_bytes() == b"path,label\nold.mp4,bowing\n"
    assert list(manifest.parent.iterdir()) == [manifest]


def test_puppets_write_a_manifest_that_is_read(tmp_path: Path) -> None:
    path = write_videos(tmp_path, ["bowing", "doing a handstand"], videos=1, frames=2, size=32)
    assert path.read_bytes() == b"path,label\nbowing/0.mp4,bowing\ndoing-a-handstand/0.mp4,doing a handstand\n"
    videos = read_manifest(path)
    assert [video.label for video in videos] == ["bowing", "doing a handstand"]
    assert all(video.path.is_file() for video in videos)


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbfpath,label\na.mp4,kicking\n",
        b"path,label\r\na.mp4,kicking\r\n\r\n",
        b"id,label,fold,path\n7,kicking,,a.mp4\n",
        b'path,label\na.mp4," kicking "',
        b"label, path\nkicking, a.mp4\n",
        b'path , label\na.mp4 , "kicking"\n',
        b"path;label\na.mp4;kicking\n",
        b"sep=;\r\npath;label\r\na.mp4;kicking\r\n",
        "path\tlabel\na.mp4\tkicking\n".encode("utf-16"),
    ],
    ids=[
        "byte order mark",
        "Windows",
        "other columns",
        "spaces",
        "behind commas",
        "around commas",
        "semicolons",
        "Excel",
        "UTF-16",
    ],
)
def test_forms_of_a_manifest(manifest: Path, content: bytes) -> None:
    assert read_manifest(write(manifest, content)) == [LabeledVideo(manifest.parent / "a.mp4", "kicking")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "lacks the columns `path` and `label`"),
        ("path,name\na.mp4,kicking\n", "lacks the column `label`; its first line is 'path,name'."),
        ("path;name\nown/a.mp4;kicking\n", "lacks the column `label`; its first line is 'path;name'."),
        (b"\xff\xfep\0a", "cannot be read: it is not UTF-8"),
        ("name; note,id\n", "its first line is 'name; note,id'."),
        ("x" * 1000, f"its first line is '{'x' * 80}…'."),
        ("a.mp4,kicking\n", "lacks the columns `path` and `label`; its first line is 'a.mp4,kicking"),
        ("path,label\n", "lists no videos"),
        (b"path,label\na.mp4,\xff\n", "cannot be read: the label of line 2 is not UTF-8 text"),
        ('path,label\na.mp4,bowing\nb.mp4,"kicking\nc.mp4,waving\n', "is not valid CSV after line"),
    ],
)
def test_broken_manifests(manifest: Path, content: str | bytes, message: str) -> None:
    with pytest.raises(FrosterError) as caught:
        read_manifest(write(manifest, content))
    assert message in str(caught.value) and str(manifest) in str(caught.value)


def test_unreadable_manifests(tmp_path: Path) -> None:
    with pytest.raises(FrosterError, match=r"none\.csv cannot be read: No such file"):
        read_manifest(tmp_path / "none.csv")
    with pytest.raises(FrosterError, match="cannot be read: Is a directory"):
        read_manifest(tmp_path)


def test_split_and_segment(manifest: Path) -> None:
    rows = ["label,split,start,end,path", "kicking,test1  train2,1.5,3,a.mp4", "bowing,,,,b.mp4", "bowing,val,,4,c.mp4"]
    first, second, third = read_manifest(write(manifest, "\n".join(rows)))
    folder = manifest.parent
    assert first == LabeledVideo(folder / "a.mp4", "kicking", ("test1", "train2"), 1.5, 3)
    assert second == LabeledVideo(folder / "b.mp4", "bowing")
    assert third == LabeledVideo(folder / "c.mp4", "bowing", ("val",), None, 4)
    assert read_manifest(manifest, "test1") == read_manifest(manifest, split="train2") == [first]
    with pytest.raises(FrosterError, match="no videos of the split 'train'; its splits are test1, train2, val"):
        read_manifest(manifest, "train")
    with pytest.raises(FrosterError, match="no videos of the split 'train'; its column `split` is missing or empty"):
        read_manifest(write(manifest, "path,label\na.mp4,kicking\n"), "train")


def test_all_bad_rows_are_named_by_their_line(manifest: Path) -> None:
    rows = ["a.mp4,kicking", ",bowing", "b.mp4, ", "", "c.mp4", "d.mp4,pushing, pulling", "e.mp4,waving"]
    with pytest.raises(FrosterError) as caught:
        read_manifest(write(manifest, "\n".join(["path,label", *rows])))
    assert str(caught.value) == (
        f"The manifest {manifest} has invalid rows: no path (line 3); no label (lines 4, 6); more values than columns; "
        "put quotes around a value with a comma (line 7)."
    )
    with pytest.raises(FrosterError, match=r"no label \(lines 2, 3, 4, 5, 6 and 1994 more\)\.$"):
        read_manifest(write(manifest, "path,label\n" + "a.mp4,\n" * 1999))
    with pytest.raises(FrosterError, match=r"no path \(line 3\)\.$"):
        read_manifest(write(manifest, 'path,label\na.mp4,kicking\n"",kicking\n'))


def test_all_bad_segments_are_named_by_their_line(manifest: Path) -> None:
    segments = ["1,2", "x,2", "1,nan", "-1,2", "2,2", ",0", "3,1", "inf,", "0:30,1:00", "0.5,0.6"]
    with pytest.raises(FrosterError) as caught:
        read_manifest(write(manifest, "path,label,start,end\n" + "".join(f"a.mp4,b,{part}\n" for part in segments)))
    assert str(caught.value).split("rows: ")[1] == (
        "start is not a number of seconds (lines 3: 'x', 9: 'inf', 10: '0:30'); "
        "end is not a number of seconds (lines 4: 'nan', 10: '1:00'); "
        "start is below 0 (line 5: -1); end is not after start (lines 6, 7, 8)."
    )


def test_class_indices() -> None:
    videos = [LabeledVideo(Path("a.mp4"), label) for label in ("waving", "bowing", "waving")]
    assert class_indices(videos, ["bowing", "kicking", "waving"], Path("m.csv")) == [2, 0, 2]
    with pytest.raises(FrosterError, match=r"m\.csv: 2 rows have labels .* among the 1 classes, 'waving'; add"):
        class_indices(videos, ["bowing"], Path("m.csv"))
    with pytest.raises(FrosterError, match=r"m\.csv: 1 row has a label .* among the 2 classes, 'bowing'; add"):
        class_indices(videos, ["waving", "pushing"], Path("m.csv"))
    many = [LabeledVideo(Path("a.mp4"), str(number)) for number in range(8)]
    with pytest.raises(FrosterError, match=r"8 rows .*, '0', '1', '2', '3', '4' and 3 more; add"):
        class_indices(many, ["bowing"], Path("m.csv"))


@pytest.mark.parametrize(
    ("label", "meant"),
    [
        ("PlayingGuitar", "playing the guitar"),
        ("kiking", "kicking"),
        ("Ubungen", "Übungen"),
        ("fencing", None),
        ("跳舞", None),
    ],
)
def test_a_label_that_is_no_class_is_shown_the_one_that_is_near(label: str, meant: str | None) -> None:
    names = ["playing the guitar", "Brushing Teeth", "kicking", "Übungen", "跑步"]
    hint = f" (did you mean {meant!r}?)" if meant else ""
    with pytest.raises(FrosterError, match=re.escape(f"among the 5 classes, {label!r}{hint}; add them")):
        class_indices([LabeledVideo(Path("a.mp4"), label)], names, Path("m.csv"))


def test_labels_that_differ_from_a_class_only_in_spelling() -> None:
    names = ["apply eye makeup", "Brushing Teeth", "kicking", "Übungen", "跑步"]
    labels = ["ApplyEyeMakeup", "kicking", "brushing_teeth", "KICK-ING", "ÜBUNGEN", "ApplyEyeMakeup", "跑步"]
    videos = [LabeledVideo(Path("a.mp4"), label) for label in labels]
    with pytest.warns(FrosterWarning) as caught:
        assert class_indices(videos, names, Path("m.csv")) == [0, 2, 1, 2, 3, 0, 4]
    assert [str(warning.message) for warning in caught] == [
        "The manifest m.csv spells labels differently than the classes; it is read with 'ApplyEyeMakeup' as "
        "'apply eye makeup', 'brushing_teeth' as 'Brushing Teeth', 'KICK-ING' as 'kicking', 'ÜBUNGEN' as 'Übungen'."
    ]
    with warnings.catch_warnings(action="error"):
        assert class_indices(videos[1:2], names, Path("m.csv")) == [2]


def test_a_spelling_that_several_classes_share_is_refused() -> None:
    videos = [LabeledVideo(Path("a.mp4"), "PushUp")]
    with pytest.raises(FrosterError, match="1 row has a label that is not among the 2 classes, 'PushUp'"):
        class_indices(videos, ["push up", "push-up"], Path("m.csv"))


def test_cells_that_a_spreadsheet_would_run(tmp_path: Path) -> None:
    names = ["=1+1", "+a", "-b", "@c", "'=d", "''-e", "'quoted'", "plain"]
    videos = [LabeledVideo(tmp_path / f"{name}.mp4", name, (name,)) for name in names]
    write_manifest(tmp_path / "m.csv", videos)
    cells = [cell for row in csv.reader((tmp_path / "m.csv").open(encoding="utf-8")) for cell in row]
    assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@"))]
    assert read_manifest(tmp_path / "m.csv") == videos
    listed = read_list(tmp_path / "m.csv")
    assert [(video.name, video.label) for video in listed] == [(f"{name}.mp4", name) for name in names]
