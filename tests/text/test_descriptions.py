import json
import re
import time
from email.utils import formatdate
from pathlib import Path

import pytest

from froster import Recognizer
from froster.backbones.tokenizer import tokenize
from froster.data.vocabularies import read_vocabulary
from froster.errors import FrosterError, FrosterWarning
from froster.text.descriptions import (
    PROMPT,
    check_endpoint,
    describe_labels,
    is_too_long,
    merge_descriptions,
    only_repeats,
    plain_description,
    read_descriptions,
    read_reply,
    seconds_of,
    tidy,
)
from froster.text.labels import check_labels

DESCRIPTIONS = {"Playing Violin": "drawing a bow over strings", "archery": "shooting with a bow"}


def write(path: Path, content: object) -> Path:
    path.write_text(json.dumps(content))
    return path


@pytest.mark.parametrize(
    "name", ["Playing Violin", "playing violin", "playing_violin", "PlayingViolin", "PLAYING-violin"]
)
@pytest.mark.parametrize(
    "file", [DESCRIPTIONS, {"1": "Archery: shooting", "0": "Playing Violin: drawing a bow over strings"}]
)
def test_names_agree_whatever_their_spelling(tmp_path: Path, name: str, file: dict[str, str]) -> None:
    path = write(tmp_path / "d.json", file)
    assert describe_labels([name], path).descriptions == {name: "drawing a bow over strings"}
    assert describe_labels([name], read_descriptions(path), path).descriptions == {name: "drawing a bow over strings"}


def test_released_file_describes_the_vocabulary(shared: Path, recwarn: pytest.WarningsRecorder) -> None:
    folder = shared / "splits" / "froster_csv" / "b2n_ucf101"
    released = merge_descriptions([folder / "train_rephrased.json", folder / "test_rephrased.json"])
    labels = check_labels("ucf-101")
    described = describe_labels(labels, released).descriptions
    assert list(described) == list(labels)
    assert all(text.startswith("This video") for text in described.values())
    assert described["playing violin"].startswith("This video features someone playing the violin")
    assert not recwarn.list
    assert not any(is_too_long(name, text) for name, text in described.items())
    with pytest.warns(FrosterWarning, match=r"train_rephrased\.json: no description of 50 of the 101 labels \(\w"):
        half = describe_labels(labels, folder / "train_rephrased.json")
    assert sum(map(bool, half.descriptions.values())) == 51


def test_labels_without_a_description_keep_theirs_and_are_counted() -> None:
    labels = {"fencing": "with swords", "archery": "old", "a": "", "b": "", "c": "", "d": ""}
    with pytest.warns(FrosterWarning, match=r"^descriptions: no description of 4 of the 6 labels \(a, b, c, …\)\.$"):
        described = describe_labels(labels, DESCRIPTIONS)
    assert described.descriptions == {**labels, "archery": "shooting with a bow"}


def test_names_of_other_scripts_and_signs() -> None:
    described = describe_labels({"跑步": "", "$": "", "C++": ""}, {"跑步": "x", "$": "y", "c": "z", "C++": "w"})
    assert described.descriptions == {"跑步": "x", "$": "y", "C++": "w"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            {"fencing": "with swords", "x": "y"},
            "no descriptions of these labels; it describes fencing, x, the labels are archery",
        ),
        ({"archery": ""}, "no descriptions of these labels"),
        ({"Archery": "one", "arch ery": "two"}, "2 descriptions of 'archery'"),
        ({"archery": 3}, "must be text, not 3"),
        ({"archery": {"text": "x"}}, "must be text, not "),
        (["archery"], r'must be JSON, \{"name": "description"\}'),
        ({}, "No action names in"),
    ],
)
def test_wrong_files(tmp_path: Path, content: object, message: str) -> None:
    with pytest.raises(FrosterError, match=rf"d\.json.*{message}|{message}.*d\.json"):
        describe_labels({"archery": ""}, write(tmp_path / "d.json", content))


def test_files_that_are_no_json(tmp_path: Path) -> None:
    (tmp_path / "d.json").write_text('{"a": "x", "a": "y"}')
    with pytest.raises(FrosterError, match="'a' is given twice"):
        read_descriptions(tmp_path / "d.json")
    (tmp_path / "d.json").write_text('{"a": ')
    with pytest.raises(FrosterError, match=r"d\.json is not valid JSON: line 1"):
        read_descriptions(tmp_path / "d.json")
    with pytest.raises(FrosterError, match="cannot be read: No such file"):
        read_descriptions(tmp_path / "none.json")


def test_recognizer_takes_a_file_or_a_mapping(tmp_path: Path) -> None:
    labels = {"walking": "on foot", "juggling balls": "throwing balls"}
    path = write(tmp_path / "d.json", {"Walking": "on foot", "JugglingBalls": "throwing balls"})
    expected = Recognizer("puppets", labels, precision="float32").classes
    for descriptions in (path, str(path), {"Walking": "on foot", "juggling_balls": "throwing balls"}):
        recognizer = Recognizer("puppets", list(labels), descriptions=descriptions, precision="float32")
        assert recognizer.labels.descriptions == labels
        assert recognizer.classes.equal(expected)
    with pytest.raises(FrosterError, match="descriptions: names and descriptions must be text"):
        Recognizer("puppets", list(labels), descriptions={"walking": None})


@pytest.mark.parametrize(
    ("name", "phrase"),
    [
        ("PlayingViolin", "This video shows a person playing violin."),
        ("juggling balls", "This video shows a person juggling balls."),
        ("crying", "This video shows a person crying."),
        ("swing_baseball", "This video shows the action swing baseball."),
        ("archery", "This video shows the action archery."),
    ],
)
def test_plain_phrases(name: str, phrase: str) -> None:
    assert plain_description(name) == phrase


def test_plain_phrases_of_all_classes_differ_and_fit() -> None:
    for vocabulary in ("ucf-101", "hmdb-51", "kinetics-400", "ssv2"):
        names = read_vocabulary(vocabulary)
        phrases = [plain_description(name) for name in names]
        assert len(set(phrases)) == len(names)
        assert not any(is_too_long(*pair) for pair in zip(names[:20], phrases, strict=False))


@pytest.mark.parametrize(
    ("name", "text", "repeats"),
    [
        ("archery", "Archery.", True),
        ("archery", "This video shows archery", True),
        ("brush_hair", "Brush hair: brush hair", True),
        ("跑步", "跑步", True),
        ("archery", "This video shows a person drawing a bow", False),
        ("eating a burger", "This video shows a person eating a large burger", False),
    ],
)
def test_only_repeats(name: str, text: str, repeats: bool) -> None:
    assert only_repeats(name, text) is repeats


def test_too_long_is_what_clip_would_cut() -> None:
    """The longest template takes 9 tokens and the name, the class text the name and a colon, start and end two more."""
    longest = "a demonstration of a person performing archery. archery:"
    fixed = int(tokenize([longest])[0].argmax()) + 1
    assert not is_too_long("archery", " ".join(["bow"] * (77 - fixed)))
    assert is_too_long("archery", " ".join(["bow"] * (78 - fixed)))


@pytest.mark.parametrize(
    ("text", "tidied"),
    [
        ("  This video\n shows\tit. ", "This video shows it."),
        ("<think>What is\nit?</think>\n\nThis video shows it.", "This video shows it."),
        ('"This video shows it."', "This video shows it."),
        ("Archery: This video shows it.", "This video shows it."),
        ("Note: it", "Note: it"),
        ("Archery", "Archery"),
        ('"Ready" and then "go"', '"Ready" and then "go"'),
    ],
)
def test_answers_are_tidied(text: str, tidied: str) -> None:
    assert tidy("archery", text) == tidied


def test_retry_after_is_seconds_or_a_date() -> None:
    assert seconds_of("7") == 7
    assert seconds_of("0.5") == 0.5
    assert seconds_of("-3") == 0
    assert seconds_of(None) is None
    assert seconds_of("soon") is None
    assert seconds_of(formatdate(time.time() + 30, usegmt=True)) == pytest.approx(30, abs=3)
    assert seconds_of(formatdate(time.time() - 30, usegmt=True)) == 0


def test_replies() -> None:
    message = {"message": {"content": "words"}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
    assert read_reply(json.dumps({"choices": [message], "usage": usage})).tokens == 7
    assert read_reply(json.dumps({"choices": [message]})).tokens is None
    assert read_reply(json.dumps({"choices": [{**message, "finish_reason": "length"}]})).is_truncated
    assert read_reply('{"choices": [{"message": {"content": null}}]}').text == ""
    for wrong in ("", "{", "[1]", "null", "{}", '{"choices": []}', '{"choices": [{"message": {"content": [1]}}]}'):
        with pytest.raises(ValueError, match="not a chat completion"):
            read_reply(wrong)


def test_addresses() -> None:
    assert check_endpoint("http://localhost:11434/v1/") == "http://localhost:11434/v1"
    assert check_endpoint("https://host/v1/chat/completions") == "https://host/v1"
    for wrong in ("localhost:11434", "ftp://host/v1", "http://", "http://[::1", "http://a b/v1", "http://host:port/v1"):
        with pytest.raises(FrosterError, match=f"^{re.escape(repr(wrong))} is not a server.s address"):
            check_endpoint(wrong)


def test_the_prompt_asks_as_the_authors_did() -> None:
    assert PROMPT.startswith('Please describe this action in the video: "{}".')
    assert PROMPT.count("{}") == 1
    assert "\n" not in PROMPT
