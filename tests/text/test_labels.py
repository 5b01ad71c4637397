from pathlib import Path

import pytest

from froster.data.vocabularies import VOCABULARIES, read_vocabulary
from froster.errors import FrosterError
from froster.text.labels import parse_labels, read_labels


def test_names_from_the_command_line() -> None:
    assert parse_labels(" juggling,brushing teeth , ") == {"juggling": "", "brushing teeth": ""}
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
    assert parse_labels(f"{text},") == {text: ""}


def test_a_single_action_is_not_taken_for_a_vocabulary() -> None:
    names = {name for vocabulary in VOCABULARIES for name in read_vocabulary(vocabulary)} - {"using puppets"}
    alone = {name for name in names if "," not in name}
    assert len(alone) > 900
    for name in alone:
        assert parse_labels(name) == {name: ""}


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
    assert read_labels(path) == expected
    assert list(read_labels(path)) == list(expected)


def test_released_rephrased_file(shared: Path) -> None:
    labels = read_labels(shared / "splits" / "froster_csv" / "b2n_ucf101" / "test_rephrased.json")
    assert len(labels) == 50
    assert next(iter(labels)) == "Playing Violin"
    assert labels["Pull Ups"].startswith("This video demonstrates the exercise known as pull-ups")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "No action names"),
        ("{", "not valid JSON: line 1"),
        ('{"a": 3}', "must be text, not 3"),
        ("juggling\njuggling", "'juggling' is given twice"),
        ("juggling\nJuggling", "'juggling' and 'Juggling' are one to CLIP"),
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
    with pytest.raises(FrosterError, match=r"needs a column `name`; its first line is 'path,label'\.$"):
        read_labels(tmp_path / "clips.csv")
    (tmp_path / "clips.csv").write_text("id;name\n0;walking\n")
    with pytest.raises(FrosterError, match="its first line is 'id;name', but columns are separated by commas here"):
        read_labels(tmp_path / "clips.csv")


def test_file_given_as_labels(tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("juggling")
    with pytest.raises(FrosterError, match="--labels-file"):
        parse_labels(str(tmp_path / "labels.txt"))


@pytest.mark.parametrize("name", ["labels.txt", "lists/actions.JSON", "k400.csv", " labels.txt "])
def test_a_file_that_does_not_exist_is_no_action(name: str) -> None:
    with pytest.raises(FrosterError, match=f"--labels '{name}': this file does not exist; give an existing one"):
        parse_labels(name)
    assert parse_labels(f"{name},") == {name.strip(): ""}
    assert parse_labels("walking.slowly") == {"walking.slowly": ""}


def test_missing_and_binary_file(tmp_path: Path) -> None:
    with pytest.raises(FrosterError, match=r"nothing\.txt cannot be read: No such file"):
        read_labels(tmp_path / "nothing.txt")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(FrosterError, match="binary cannot be read"):
        read_labels(tmp_path / "binary")
    with pytest.raises(FrosterError, match="No action names"):
        parse_labels(" , ")
