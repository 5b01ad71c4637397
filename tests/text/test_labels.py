import warnings
from pathlib import Path

import pytest

from froster.data.lists import read_classes
from froster.data.vocabularies import VOCABULARIES, read_vocabulary
from froster.errors import FrosterError, FrosterWarning
from froster.text.labels import parse_labels, read_labels, warn_of_one_label


def test_names_from_the_command_line() -> None:
    assert parse_labels(" juggling,brushing teeth , ").descriptions == {"juggling": "", "brushing teeth": ""}
    assert len(parse_labels("UCF-101")) == 101


@pytest.mark.parametrize(
    ("text", "vocabulary"),
    [
        ("kinetics-40", "kinetics-400"),
        ("Kinetics_60", "kinetics-600"),
        ("ucf", "ucf-101"),
        ("hmdb", "hmdb-51"),
        ("SSv", "ssv2"),
        ("puppet", "puppets"),
    ],
)
def test_nearly_the_name_of_a_vocabulary_is_no_action(text: str, vocabulary: str) -> None:
    with pytest.raises(FrosterError, match=f"did you mean the vocabulary '{vocabulary}', or '{text},' for an action"):
        parse_labels(text)
    assert parse_labels(f"{text},").descriptions == {text: ""}


def test_a_single_action_is_not_taken_for_a_vocabulary() -> None:
    names = {name for vocabulary in VOCABULARIES for name in read_vocabulary(vocabulary)} - {"using puppets"}
    alone = {name for name in names if "," not in name}
    assert len(alone) > 900
    for name in alone:
        assert parse_labels(name).descriptions == {name: ""}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("juggling\n\n# sports\nbrushing teeth\n", {"juggling": "", "brushing teeth": ""}),
        ('["juggling", "a, with comma"]', {"juggling": "", "a, with comma": ""}),
        ('{"juggling": "throwing balls", "archery": ""}', {"juggling": "throwing balls", "archery": ""}),
        (
            '{"10": "Push Ups: arms: bent", "2": "Archery: with a bow", "0": "Running"}',
            {"Running": "", "Archery": "with a bow", "Push Ups": "arms: bent"},
        ),
        ("\ufeffjuggling\r\nwaving", {"juggling": "", "waving": ""}),
        ("[red] card\nwaving", {"[red] card": "", "waving": ""}),
        ('["#1 fan", " walking "]', {"#1 fan": "", "walking": ""}),
    ],
)
def test_files(tmp_path: Path, text: str, expected: dict[str, str]) -> None:
    path = tmp_path / "labels"
    path.write_text(text, encoding="utf-8", newline="")
    assert read_labels(path).descriptions == expected
    assert list(read_labels(path)) == list(expected)


def test_released_rephrased_file(shared: Path) -> None:
    labels = read_labels(shared / "splits" / "froster_csv" / "b2n_ucf101" / "test_rephrased.json")
    assert len(labels) == 50
    assert next(iter(labels)) == "Playing Violin"
    assert labels["Pull Ups"].description.startswith("This video demonstrates the exercise known as pull-ups")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "No action names"),
        ("{", "not valid JSON: line 1"),
        ('{"a": 3, "b": "c"}', "numbers and texts are mixed|must be text, not"),
        ("juggling\njuggling", "'juggling' is given twice"),
        ("juggling\nJuggling", "'juggling' and 'Juggling' are the same to CLIP"),
        ('{"a": "x", "a": "y"}', "'a' is given twice"),
        ('{" a": "x", "": "y"}', "name is empty"),
        ("[1, 2]", "must be text, not 1"),
        ("[" * 100_000 + "]" * 100_000, "nested too deeply"),
        ("[]", "No action names"),
        ("{}", "No action names"),
    ],
)
def test_wrong_files(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "labels.json"
    path.write_text(text)
    with pytest.raises(FrosterError, match=message):
        read_labels(path)


def test_csv_with_a_column_of_names(tmp_path: Path, shared: Path) -> None:
    assert len(read_labels(shared / "splits" / "vifi" / "labels" / "kinetics_600_labels.csv")) == 600
    (tmp_path / "clips.csv").write_text("path,label\na.avi,7\n")
    with pytest.raises(FrosterError, match=r"needs a column `name`; its first line is 'path,label'"):
        read_labels(tmp_path / "clips.csv")
    (tmp_path / "clips.csv").write_text("id;name\n0;walking\n")
    assert read_labels(tmp_path / "clips.csv").descriptions == {"walking": ""}


READ = ["apply eye makeup", "archery"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("classInd.txt", "1 ApplyEyeMakeup\n2 Archery\n"),
        ("classInd.txt", "2 Archery\r\n1 ApplyEyeMakeup\r\n"),
        ("label_map_ucf101.txt", "ApplyEyeMakeup\nArchery\n"),
        ("hmdb.txt", "apply_eye_makeup\narchery\n"),
        ("label_map.txt", "apply eye makeup\narchery\n"),
        ("behind.txt", "apply eye makeup 0\narchery 1\n"),
        ("tabs.txt", "0\tapply eye makeup\n1\tarchery\n"),
        ("labels.json", '{"archery": "1", "apply eye makeup": "0"}'),
        ("labels.json", '{"archery": 1, "\\"apply eye makeup\\"": 0}'),
        ("labels.json", '{"1": "archery", "0": "apply eye makeup"}'),
        ("config.json", '{"model_type": "xclip", "id2label": {"0": "apply eye makeup", "1": "archery"}}'),
        ("labels.json", '[{"id": 1, "name": "archery"}, {"id": 0, "name": "apply eye makeup"}]'),
        ("labels.yaml", "- apply eye makeup\n- archery\n"),
        ("labels.yml", "apply eye makeup:\narchery: ''\n"),
        ("data.yaml", "path: ../clips\nnames:\n  0: apply eye makeup\n  1: archery\n"),
        ("vifi.csv", "id,name\n0,apply eye makeup\n1,archery\n"),
        ("vifi.csv", "ID;Name\n1;archery\n0;apply eye makeup\n"),
        ("excel.csv", "sep=;\nid;name\n0;apply eye makeup\n1;archery\n"),
        ("labels.tsv", "name\tid\napply eye makeup\t0\narchery\t1\n"),
        ("bare.csv", "0,apply eye makeup\n1,archery\n"),
        ("names.csv", "name\napply eye makeup\narchery\n"),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.filterwarnings("ignore:.*converted to words")
def test_what_the_field_has(tmp_path: Path, name: str, content: str, encoding: str) -> None:
    """Labels, and the numbers that lists of videos mean by the same file."""
    path = tmp_path / name
    path.write_text(content, encoding=encoding, newline="")
    assert read_labels(path).descriptions == dict.fromkeys(READ, "")
    assert list(read_labels(path)) == READ
    assert [name for _, name in sorted(read_classes(path).items())] == READ


def test_names_that_are_no_words_are_said(tmp_path: Path) -> None:
    (tmp_path / "labels.json").write_text(
        '{"Holding [something] next to [something]": "1", "Closing [something]": "0"}'
    )
    with pytest.warns(FrosterWarning, match=r"'Closing \[something\]' to 'closing something'"):
        labels = read_labels(tmp_path / "labels.json")
    assert list(labels) == ["closing something", "holding something next to something"]


@pytest.mark.parametrize(
    "names",
    [["100 meter run", "200 meter run", "YMCA dance"], ["100 meter run", "200 meter run"], ["walk 1", "walk 2"]],
)
def test_numbers_that_belong_to_names(tmp_path: Path, names: list[str]) -> None:
    (tmp_path / "own.txt").write_text("\n".join(names))
    assert list(read_labels(tmp_path / "own.txt")) == names


def test_handed_files(shared: Path) -> None:
    assert list(read_labels(shared / "files_that_fail" / "ssv2-labels-style.json")) == ["running", "walking"]
    with pytest.warns(FrosterWarning, match="'ApplyEyeMakeup' to 'apply eye makeup'"):
        labels = read_labels(shared / "files_that_fail" / "ucf-classInd-style.txt")
    assert list(labels) == ["apply eye makeup", "apply lipstick"]


def test_yaml_names_stay_text_and_descriptions_too(tmp_path: Path) -> None:
    path = tmp_path / "labels.yaml"
    path.write_text("on: 'switching: a lamp'\nno: shaking the head\n'12': counting\n", encoding="utf-8")
    assert read_labels(path).descriptions == {"on": "switching: a lamp", "no": "shaking the head", "12": "counting"}


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("walking; running", ["walking", "running"]),
        ("跑步，走路", ["跑步", "走路"]),
        ("歩く、走る", ["歩く", "走る"]),
        ("يمشي، يركض", ["يمشي", "يركض"]),
        ("walking\nrunning\n", ["walking", "running"]),
    ],
)
def test_other_separators_are_said(text: str, names: list[str]) -> None:
    with pytest.warns(FrosterWarning, match="read as 2 names"):
        assert list(parse_labels(text)) == names
    assert list(parse_labels(f"{text.strip()},")) == [text.strip()]


def test_one_label_is_said() -> None:
    with pytest.warns(FrosterWarning, match="one label, 'walking', so its score is 1"):
        warn_of_one_label(["walking"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_one_label(["walking", "running"])


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.yaml", "a: [", "not valid YAML: line 1"),
        ("a.yaml", "a: {b: {c: {d: e}}}", "not valid YAML: nested too deeply"),
        ("a.yaml", "&a [*a]", "not valid YAML: nested too deeply"),
        ("a.yaml", "walking", "must be like"),
        ("a.json", '{"0": "1"}', "numbers but no names"),
        ("a.json", '{"walking": true}', "must be text, not true"),
        ("a.json", '[{"walking": 1}]', "needs a name in each entry"),
        ("a.json", "[" + "9" * 5000 + "]", "a number is too long"),
        ("a.csv", 'id,name\n0,"walking\n', "not valid CSV"),
        ("a.txt", "a\0b", "not text, but binary"),
    ],
)
def test_broken_forms(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(FrosterError, match=message):
        read_labels(tmp_path / name)


def test_file_given_as_labels(tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("juggling")
    with pytest.raises(FrosterError, match="labels_file="):
        parse_labels(str(tmp_path / "labels.txt"))


@pytest.mark.parametrize("name", ["labels.txt", "lists/actions.JSON", "k400.csv", " labels.txt "])
def test_a_file_that_does_not_exist_is_no_action(name: str) -> None:
    with pytest.raises(FrosterError, match=f"There is no file '{name}'; give an existing one"):
        parse_labels(name)
    assert parse_labels(f"{name},").descriptions == {name.strip(): ""}
    assert parse_labels("walking.slowly").descriptions == {"walking.slowly": ""}


def test_missing_and_binary_file(tmp_path: Path) -> None:
    with pytest.raises(FrosterError, match=r"nothing\.txt cannot be read: No such file"):
        read_labels(tmp_path / "nothing.txt")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00\x80\xd8")
    with pytest.raises(FrosterError, match="binary cannot be read"):
        read_labels(tmp_path / "binary")
    with pytest.raises(FrosterError, match="No action names"):
        parse_labels(" , ")
