"""Lists as the field publishes them: read with the right classes, and every mistake in them named by its line."""

import csv
import json
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pytest

from froster.data.lists import ListedVideo, read_classes, read_list
from froster.data.manifests import LabeledVideo, read_manifest, write_manifest
from froster.data.vocabularies import canonical_names, read_vocabulary
from froster.errors import FrosterError
from froster.text.names import name_key
from goldens import GoldenFile

# Lists of ViFi-CLIP that lie in `shared`: where, under which name `label_facts.json` counts them, and their classes.
VIFI = [
    (f"base2novel/{data}/{part}.txt", f"base2novel_splits/{data}_splits/{part}.txt", f"{labels}_{half}_labels.csv")
    for data, labels in (("ucf", "ucf_101"), ("hmdb", "hmdb_51"))
    for half, parts in (("base", ("base_train", "base_val", *(f"fs_base_s{n}_train" for n in (1, 2, 3)))),)
    for part in parts
]
VIFI += [
    (f"base2novel/{data}/novel_val.txt", f"base2novel_splits/{data}_splits/novel_val.txt", f"{labels}_novel_labels.csv")
    for data, labels in (("ucf", "ucf_101"), ("hmdb", "hmdb_51"))
]
VIFI += [
    (f"zero_shot/{data}_val{n}.txt", f"{data}_splits/val{n}.txt", f"{labels}_labels.csv")
    for data, labels in (("ucf", "ucf_101"), ("hmdb", "hmdb_51"))
    for n in (1, 2, 3)
]
VIFI += [("zero_shot/k600_split1.txt", "k600_splits/ZS_split1_K600_eval.txt", "ZS_split1_K600.csv")]

# ViFi-CLIP's class names follow another alphabet than the numbers of its lists; FROSTER has taken over both.
SWAPPED = {"kick": "kick ball", "kick ball": "kick", "sword": "sword exercise", "sword exercise": "sword"}


def write(path: Path, lines: Iterable[str] | str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(lines if isinstance(lines, str) else "".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def message(path: Path, classes: Path | None = None) -> str:
    with pytest.raises(FrosterError) as caught:
        read_list(path, classes)
    assert str(path) in str(caught.value)
    return str(caught.value)


@pytest.fixture
def classes(tmp_path: Path) -> Path:
    return write(tmp_path / "classes.csv", ["id,name", "0,ApplyEyeMakeup", '1,"brush, hair"', "2,[something] falling"])


@pytest.fixture
def named(tmp_path: Path) -> list[str]:
    """What the numbers of `classes` mean."""
    return ["apply eye makeup", "brush, hair", "something falling"]


@pytest.mark.parametrize(
    "lines",
    [
        ["v_a.avi 0", "my clips/v b.avi 1", "-c_000001_000011.mp4 2"],
        ["v_a.avi,0", "my clips/v b.avi,1", "-c_000001_000011.mp4,2"],
        ["v_a.avi, 0", '"my clips/v b.avi",1', "", " -c_000001_000011.mp4 , 2 "],
        ["\ufeffv_a.avi\t0\r", "my clips/v b.avi  1\r", "-c_000001_000011.mp4 2\r"],
    ],
    ids=["spaces", "commas", "spaces around commas", "Windows"],
)
def test_paths_and_numbers(tmp_path: Path, classes: Path, named: list[str], lines: list[str]) -> None:
    videos = read_list(write(tmp_path / "list.csv", lines), classes)
    names = ["v_a.avi", "my clips/v b.avi", "-c_000001_000011.mp4"]
    assert [video.name for video in videos] == names
    assert [video.label for video in videos] == named
    assert all((video.splits, video.start, video.end) == ((), None, None) for video in videos)


@pytest.mark.parametrize(
    ("lines", "names"),
    [
        (["train/v_a 120 0", "train/v_b 60 2"], ["train/v_a", "train/v_b"]),
        (["20021 60 0", "7 45 2"], ["20021", "7"]),
        (["imgs/x 2 5 0", "imgs/y 2 5 2"], ["imgs/x", "imgs/y"]),
        (["clip 7 0", "clip b 2"], ["clip 7", "clip b"]),
        (["20021 0", "7 2"], ["20021", "7"]),
    ],
    ids=["frames", "frames of ids", "offset and frames", "names with numbers", "ids"],
)
def test_folders_of_frames(tmp_path: Path, classes: Path, lines: list[str], names: list[str]) -> None:
    videos = read_list(write(tmp_path / "list.txt", lines), classes)
    assert [(video.name, video.label) for video in videos] == [
        (names[0], "apply eye makeup"),
        (names[1], "something falling"),
    ]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", "id,name\n7,Playing Violin\n3,push_up\n"),
        ("a.csv", 'id, name\n3,"push up"\n7,PlayingViolin\n'),
        ("classInd.txt", "7 PlayingViolin\r\n3 PushUp\r\n"),
        ("a.txt", "3,push up\n7,playing violin\n"),
        ("a.json", '{"3": "Push Up", "7": "Playing Violin"}'),
        ("a.json", '{"7": "Playing Violin: a video of a bow: slow", "3": "Push Up: a person"}'),
        ("a.json", '{"push up": 3, "\\"playing violin\\"": 7}'),
        ("labels.json", '{"Push [up]": "3", "Playing violin": "7"}'),
    ],
    ids=["ViFi-CLIP", "quoted", "classInd", "text", "numbers", "FROSTER", "SlowFast", "Something-Something"],
)
def test_forms_of_class_names(tmp_path: Path, name: str, content: str) -> None:
    assert read_classes(write(tmp_path / name, content)) == {3: "push up", 7: "playing violin"}


@pytest.mark.parametrize("content", ["push up\nplaying violin\n", '["PushUp", "playing: violin"]'])
def test_class_names_without_numbers_count_from_0(tmp_path: Path, content: str) -> None:
    names = read_classes(write(tmp_path / "names", content))
    assert list(names) == [0, 1] and name_key(names[1]) == "playingviolin"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "is empty"),
        ('{"a": "b"}', 'must be JSON like {"0": "name"}'),
        ('{"a": 1', "is not valid JSON: line 1"),
        ('["push", "pull", "Push", "PULL"]', "a duplicate name (entries 3: 'push', 4: 'pull')"),
        ("id,name\n1,lifting, then dropping\n", "more values than columns; put quotes around a value with a comma"),
        ("id,name\nx,push\n1,pull\n1,walk\n2,\n3,Pull\n", "no index (line 2)"),
        ("id,name\nx,push\n1,pull\n1,walk\n2,\n3,Pull\n", "a duplicate index (line 4: 1)"),
        ("id,name\nx,push\n1,pull\n1,walk\n2,\n3,Pull\n", "no name (line 5); a duplicate name (line 6:"),
    ],
)
def test_broken_class_names(tmp_path: Path, content: str, reason: str) -> None:
    path = write(tmp_path / "classes.txt", content)
    with pytest.raises(FrosterError, match=rf"^The class file {re.escape(str(path))}.*{re.escape(reason)}"):
        read_list(write(tmp_path / "list.txt", "a.avi 0\n"), path)


def test_all_mistakes_are_named_by_their_line(tmp_path: Path, classes: Path) -> None:
    lines = ["a.avi 0", "b.avi 3", "c.avi", "a.avi 0", "", "d.avi -1", "e.mp4 1 2", "f.avi 1", "a.avi 1", "f.avi 2"]
    path = write(tmp_path / "list.txt", lines)
    assert message(path, classes) == (
        f"The list {path} has invalid rows: not a path and a number (line 3); several labels (line 7); "
        "listed twice (line 1 and 4); listed under two classes (lines 1 and 9, 8 and 10); "
        "an index outside the 3 classes (lines 2: 3, 6: -1)."
    )
    assert "no name (line 2)" in message(write(tmp_path / "list.csv", ["a.avi,0", ",1"]), classes)
    assert "several labels (line 1)" in message(write(tmp_path / "list.csv", ["a.avi,0,1"]), classes)
    many = message(write(tmp_path / "list.txt", [f"{number}.avi 9" for number in range(1000)]), classes)
    assert "(lines 1: 9, 2: 9, 3: 9, 4: 9, 5: 9 and 995 more)" in many


def test_numbers_need_class_names(tmp_path: Path) -> None:
    path = write(tmp_path / "list.txt", ["a.avi 0", "b.avi 0", "a.avi 0"])
    assert message(path) == (
        f"The list {path} has invalid rows: listed twice (line 1 and 3); "
        "the labels are numbers; give the class names with `classes=` (lines 1, 2, 3)."
    )
    with pytest.raises(FrosterError, match=r"^The class file .*none\.csv cannot be read: No such file"):
        read_list(path, tmp_path / "none.csv")


@pytest.mark.parametrize("content", ["hello world\n", "a.mp4,kicking\n", "a.mp4\nb.mp4\n", "a;b\n1;2\n"])
def test_what_is_no_list(tmp_path: Path, content: str) -> None:
    first = content.split("\n")[0]
    assert "has an unknown format" in message(path := write(tmp_path / "list.txt", content))
    assert f"its first line is {first!r}" in message(path)


def test_nothing_listed_and_nothing_there(tmp_path: Path, classes: Path) -> None:
    assert "lists no videos" in message(write(tmp_path / "list.txt", "\n \n"))
    assert "lists no videos" in message(write(tmp_path / "list.csv", "path,label\n"))
    assert "lists no videos" in message(write(tmp_path / "list.json", "[]"))
    assert "cannot be read: No such file" in message(tmp_path / "none.txt")
    assert "is not valid JSON: line 2" in message(write(tmp_path / "list.json", '[{"id": "1"},\n'))
    assert "give them with `classes=`" in message(write(tmp_path / "list.json", '{"Holding something": "0"}'))
    assert "give a file" in message(tmp_path)


KINETICS = ["label,youtube_id,time_start,time_end,split,is_cc", "abseiling,-3B32lodo2M,59,69,train,0"]


def test_kinetics(tmp_path: Path) -> None:
    rows = ['"petting animal (not cat)",_dbcJuKJQNs,0,10,validate,0', "arm wrestling,-3B32lodo2M,7,17,test,1"]
    videos = read_list(write(tmp_path / "kinetics.csv", [*KINETICS, *rows]))
    assert videos == [
        ListedVideo("-3B32lodo2M_000059_000069", "abseiling", ("train",), 59, 69, 2),
        ListedVideo("_dbcJuKJQNs_000000_000010", "petting animal (not cat)", ("val",), 0, 10, 3),
        ListedVideo("-3B32lodo2M_000007_000017", "arm wrestling", ("test",), 7, 17, 4),
    ]


@pytest.mark.parametrize(
    ("name", "lines", "label", "splits"),
    [
        ("test.csv", ["youtube_id,time_start,time_end,split", "-3B32lodo2M,59.0,69.0,test"], "", ("test",)),
        ("kinetics_val.csv", ["id,start,end,label", "-3B32lodo2M,59,69,arm_wrestling"], "arm wrestling", ("val",)),
        ("list.csv", ["start,end,video_id", "59,69,-3B32lodo2M"], "", ()),
    ],
)
def test_variants_of_kinetics(tmp_path: Path, name: str, lines: list[str], label: str, splits: tuple[str, ...]) -> None:
    videos = read_list(write(tmp_path / name, lines))
    assert videos == [ListedVideo("-3B32lodo2M_000059_000069", label, splits, 59, 69, 2)]


def test_mistakes_in_kinetics(tmp_path: Path) -> None:
    rows = [",a,1,2,train,0", "b,,1,2,train,0", "b,c,1,,train,0", "b,c,x,2,train,0", "b,c,9,2,train,0", ",a,3,4,test,0"]
    again = ["arm wrestling,-3B32lodo2M,59,69,train,0"]
    reasons = message(write(tmp_path / "train.csv", [*KINETICS, *rows, *again])).split("rows: ")[1]
    assert reasons == (
        "no label (line 3); no name (line 4); no start and end (lines 5, 6); start is not a number of seconds (line 6: "
        "'x'); end is not after start (line 7); listed under two classes (line 2 and 9)."
    )


def ucf_lists(folder: Path) -> Path:
    """Two classes in three splits: each of three groups is the test of one split."""
    names = {"ApplyEyeMakeup": 1, "YoYo": 2}
    for split in (1, 2, 3):
        videos = [
            (f"{name}/v_{name}_g{group:02}_c01.avi", index, group)
            for name, index in names.items()
            for group in (1, 2, 3)
        ]
        write(
            folder / f"trainlist0{split}.txt", [f"{video} {index}" for video, index, group in videos if group != split]
        )
        write(folder / f"testlist0{split}.txt", [video for video, _, group in videos if group == split])
    write(folder / "classInd.txt", [f"{index} {name}" for name, index in names.items()])
    return folder


def test_ucf_splits_are_merged(tmp_path: Path) -> None:
    videos = read_list(ucf_lists(tmp_path / "ucfTrainTestlist"))
    assert {video.name: (video.label, set(video.splits)) for video in videos} == {
        f"{name}/v_{name}_g{group:02}_c01.avi": (
            label,
            {f"{'test' if split == group else 'train'}{split}" for split in (1, 2, 3)},
        )
        for name, label in (("ApplyEyeMakeup", "apply eye makeup"), ("YoYo", "yo yo"))
        for group in (1, 2, 3)
    }
    assert len(videos) == 6


def test_single_ucf_files(tmp_path: Path) -> None:
    folder = ucf_lists(tmp_path / "lists")
    train, test = read_list(folder / "trainlist02.txt"), read_list(folder / "testlist02.txt")
    assert [(video.label, video.splits, video.line) for video in train] == [
        (label, ("train2",), line) for line, label in enumerate(["apply eye makeup"] * 2 + ["yo yo"] * 2, 1)
    ]
    assert [(video.label, video.splits) for video in test] == [
        ("apply eye makeup", ("test2",)),
        ("yo yo", ("test2",)),
    ]
    (folder / "classInd.txt").unlink()
    assert read_list(folder / "trainlist02.txt") == train
    flat = write(tmp_path / "flat" / "trainlist01.txt", ["v_YoYo_g01_c01.avi 2"])
    assert "the labels are numbers" in message(flat)
    write(tmp_path / "flat" / "classInd.txt", ["2 YoYo"])
    assert read_list(flat)[0].label == "yo yo"


def test_mistakes_in_ucf(tmp_path: Path) -> None:
    folder = ucf_lists(tmp_path / "lists")
    write(folder / "trainlist01.txt", ["YoYo/a.avi 1", "YoYo/b.avi 2", "Juggling/c.avi 3"])
    write(folder / "testlist01.txt", ["YoYo/b.avi", "d.avi"])
    assert message(folder).split("rows: ")[1] == (
        "the class index does not match the folder (line trainlist01.txt:1); "
        "a name that is not among the 2 classes (line trainlist01.txt:3: 'Juggling'); "
        "no class: neither a folder nor an index (line testlist01.txt:2); "
        "in the training and in the test list of one split (line testlist01.txt:1)."
    )


def test_hmdb_splits_are_merged(tmp_path: Path) -> None:
    values = {"a": (1, 2, 0), "b": (0, 0, 0), "[_c;!].d": (2, 2, 1)}
    for name in ("brush_hair", "kick"):
        for split in (1, 2, 3):
            lines = [f"{video}_{name}.avi {value[split - 1]} " for video, value in values.items()]
            write(tmp_path / f"{name}_test_split{split}.txt", lines)
    write(tmp_path / "._kick_test_split1.txt", "Mac OS")
    assert [(video.name, video.label, video.splits) for video in read_list(tmp_path)] == [
        (f"{video}_{name}.avi", label, splits)
        for name, label in (("brush_hair", "brush hair"), ("kick", "kick"))
        for video, splits in (("a", ("train1", "test2")), ("b", ()), ("[_c;!].d", ("test1", "test2", "train3")))
    ]
    (single,) = [video for video in read_list(tmp_path / "kick_test_split3.txt") if video.splits]
    assert single == ListedVideo("[_c;!].d_kick.avi", "kick", ("train3",), line=3)
    write(tmp_path / "kick_test_split1.txt", ["a.avi 1", "b.avi 3", "c.avi"])
    assert "not a name and 0, 1 or 2 (lines kick_test_split1.txt:2, kick_test_split1.txt:3)" in message(tmp_path)
    (tmp_path / "kick_test_split2.txt").unlink()
    assert message(tmp_path).endswith("is incomplete: it lacks kick_test_split2.txt.")


def test_something_something(tmp_path: Path) -> None:
    entries = [
        {"id": "78687", "label": "holding potato", "template": "Holding [something]", "placeholders": ["potato"]},
        {"id": 42326, "label": "putting", "template": "Putting [number of] [something] onto [something]"},
    ]
    names = [("78687", "holding something"), ("42326", "putting number of something onto something")]
    for file, split in (("something-something-v2-validation", "val"), ("train", "train")):
        videos = read_list(write(tmp_path / f"{file}.json", json.dumps(entries)))
        assert videos == [ListedVideo(name, label, (split,), line=line) for line, (name, label) in enumerate(names, 1)]
    test = read_list(write(tmp_path / "test.json", '[{"id":"1420"}, {"id":"3"}]'))
    assert [(video.name, video.label, video.splits) for video in test] == [
        ("1420", "", ("test",)),
        ("3", "", ("test",)),
    ]
    answers = read_list(write(tmp_path / "test-answers.csv", ["1420;Holding something", "3;Pushing something, twice"]))
    assert [(video.name, video.label) for video in answers] == [
        ("1420", "holding something"),
        ("3", "pushing something, twice"),
    ]
    assert answers[0].splits == ("test",)
    assert "not id;label (line 2)" in message(write(tmp_path / "test-answers.csv", ["1420;Holding something", "3"]))


def test_mistakes_in_something_something(tmp_path: Path) -> None:
    entries = [{"id": "1", "template": "Holding [something]"}, {"template": "a"}, 7, {"id": "2"}]
    reasons = message(write(tmp_path / "train.json", json.dumps(entries))).split("rows: ")[1]
    assert reasons == "not an object, {…} (entry 3); no name (entry 2); no label (entry 4)."
    labels = write(tmp_path / "labels.json", '{"Holding something": "0"}')
    entries = [{"id": "1", "template": "Holding [something]"}, {"id": "2", "template": "Folding [something]"}]
    path = write(tmp_path / "train.json", json.dumps(entries))
    assert "a name that is not among the 1 classes (entry 2: 'Folding [something]')" in message(path, labels)


def test_metadata(tmp_path: Path, classes: Path) -> None:
    write(tmp_path / "train" / "metadata.csv", ["file_name,label,note", "0.mp4,BrushHair,x", "b/1.mp4,kick,y"])
    lines = [json.dumps({"video": "0.mp4", "text": "kick"}), "", json.dumps({"video": "2.mp4", "text": "brush_hair"})]
    write(tmp_path / "validation" / "metadata.jsonl", lines)
    write(tmp_path / "other" / "notes.txt", "")
    assert [(v.name, v.label, v.splits) for v in read_list(tmp_path)] == [
        ("train/0.mp4", "brush hair", ("train",)),
        ("train/b/1.mp4", "kick", ("train",)),
        ("validation/0.mp4", "kick", ("val",)),
        ("validation/2.mp4", "brush hair", ("val",)),
    ]
    single = read_list(tmp_path / "validation" / "metadata.jsonl")
    assert single[1] == ListedVideo("2.mp4", "brush hair", ("val",), line=3)
    rows = ["file_name,label,split", "test/a.mp4,0,", "b.mp4,2,dev set", "c/d.mp4,1,training"]
    videos = read_list(write(tmp_path / "metadata.csv", rows), classes)
    assert [video.splits for video in videos] == [("test",), ("dev", "set"), ("train",)]
    assert [video.label for video in videos] == ["apply eye makeup", "something falling", "brush, hair"]
    broken = write(tmp_path / "x" / "metadata.jsonl", ['{"file_name": "a.mp4", "label": "b"}', "{", "[1]"])
    assert message(broken).endswith("rows: invalid JSON (line 2); not an object, {…} (line 3).")


def test_our_manifest_is_a_list_too(tmp_path: Path, classes: Path) -> None:
    videos = [
        LabeledVideo(tmp_path / "train" / "a.mp4", "Open_Door", ("train1", "validation"), 1.5, 3),
        LabeledVideo(Path("/elsewhere/b.mp4"), "跳舞"),
        LabeledVideo(tmp_path / "train" / "a.mp4", "Ballett, im Freien", (), 3, 4),
    ]
    path = tmp_path / "train.csv"
    write_manifest(path, videos)
    listed = read_list(path)
    assert [video.line for video in listed] == [2, 3, 4]
    again = [LabeledVideo(tmp_path / v.name, v.label, v.splits, v.start, v.end) for v in listed]
    assert again == videos == read_manifest(path)
    write(path, ["path,label", "a.mp4,1", "b.mp4,brush HAIR, now"])
    assert "more values than columns" in message(path, classes)
    write(path, ["path,label", "a.mp4,1", 'b.mp4,"brush, hair"'])
    assert [video.label for video in read_list(path, classes)] == ["brush, hair"] * 2


@pytest.mark.parametrize(("file", "fact", "labels"), VIFI)
def test_vifi_clip(shared: Path, golden_file: GoldenFile, file: str, fact: str, labels: str) -> None:
    facts = json.loads(golden_file("more/label_facts.json").read_text())["vifi_splits"][fact]
    vifi = shared / "splits" / "vifi"
    videos = read_list(vifi / file, vifi / "labels" / labels)
    check_facts(videos, facts)
    with (vifi / "labels" / labels).open(newline="") as table:
        names = [row["name"] for row in csv.DictReader(table)]
    lines = [line.split() for line in (vifi / file).read_text().splitlines()]
    assert [(video.name, name_key(video.label)) for video in videos] == [
        (name, name_key(names[int(number)])) for name, number in lines
    ]
    if "ucf" in file:
        assert all(name_key(video.name.split("_")[1]) == name_key(video.label) for video in videos)
    elif "hmdb" in file:
        actions = [SWAPPED.get(video.label, video.label).replace(" ", "_") for video in videos]
        assert all(re.search(f"_{action}_[fhul]_", video.name) for action, video in zip(actions, videos, strict=True))


@pytest.mark.parametrize(
    ("file", "fact", "labels"),
    [
        ("b2n_ucf101/train.csv", "zs_label_db/B2N_ucf101/train.csv", "b2n_ucf101/train_rephrased.json"),
        ("b2n_ucf101/val.csv", "zs_label_db/B2N_ucf101/val.csv", "b2n_ucf101/train_rephrased.json"),
        ("b2n_ucf101/test.csv", "zs_label_db/B2N_ucf101/test.csv", "b2n_ucf101/test_rephrased.json"),
        ("ucf101_half/1_test.csv", "zs_label_db/ucf101_half_test/1/test.csv", "ucf101_half/1_ucf101-index2cls.json"),
        ("ucf101_half/2_test.csv", "zs_label_db/ucf101_half_test/2/test.csv", "ucf101_half/2_ucf101-index2cls.json"),
    ],
)
def test_froster(shared: Path, golden_file: GoldenFile, file: str, fact: str, labels: str) -> None:
    splits = shared / "splits" / "froster_csv"
    videos = read_list(splits / file, splits / labels)
    check_facts(videos, json.loads(golden_file("more/label_facts.json").read_text())["froster_splits"][fact])
    assert all(name_key(video.name.split("/")[0]) == name_key(video.label) for video in videos)
    names = read_vocabulary("ucf-101")
    assert set(canonical_names((video.label for video in videos), names)) <= set(names)


def check_facts(videos: list[ListedVideo], facts: dict[str, int]) -> None:
    clips = Counter(video.label for video in videos)
    assert len(videos) == len({video.name for video in videos}) == facts["videos"]
    assert len(clips) == facts["classes"] and "" not in clips
    assert (min(clips.values()), max(clips.values())) == (facts["min_videos_per_class"], facts["max_videos_per_class"])


def test_official_test_list_of_ucf(shared: Path) -> None:
    videos = read_list(shared / "splits" / "froster_csv" / "ucf101_testlist01.txt")
    assert len(videos) == 3783 and {video.splits for video in videos} == {("test1",)}
    assert {video.label for video in videos} == set(read_vocabulary("ucf-101"))
    assert all("\r" not in video.name for video in videos)


@pytest.mark.parametrize("name", ["ucf-101", "hmdb-51", "kinetics-400", "ssv2"])
@pytest.mark.parametrize("half", ["base", "novel"])
def test_halves_of_vifi_clip_are_the_vocabularies(shared: Path, name: str, half: str) -> None:
    file = {"ucf-101": "ucf_101", "hmdb-51": "hmdb_51", "kinetics-400": "kinetics_400", "ssv2": "ssv2_174"}[name]
    names = read_classes(shared / "splits" / "vifi" / "labels" / f"{file}_{half}_labels.csv").values()
    assert set(canonical_names(names, read_vocabulary(name))) == set(read_vocabulary(f"{name}-{half}"))
    assert {label.lower() for label in read_vocabulary(f"{name}-{half}")} == set(names)
