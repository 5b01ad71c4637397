import csv
import unicodedata
from pathlib import Path

import pytest

from froster.data.check import check_data
from froster.data.datasets import find_dataset
from froster.data.manifests import hint
from froster.data.vocabularies import VOCABULARIES, canonical_names, read_vocabulary
from froster.protocols.base_to_novel import halves_of
from froster.protocols.data import load_data
from froster.text.descriptions import describe_labels
from froster.text.distance import shared_names
from froster.text.names import name_key

SCRIPTS = {
    "Chinese": ("跑步", "走路"),
    "Arabic": ("يمشي", "يركض"),
    "Hindi": ("कूदना", "कदन"),  # differ in vowel signs alone
    "Thai": ("วิ่ง", "ว่าง"),
    "Japanese": ("歩く", "走る"),
    "emoji": ("🏃", "💃"),
    "emoji in a name": ("go 🏃", "go 💃"),
    "skin tones": ("👋🏽", "👋🏿"),
    "punctuation": ("!", "?"),
}


@pytest.mark.parametrize(("one", "other"), SCRIPTS.values(), ids=SCRIPTS)
def test_names_of_every_script_stay_apart(one: str, other: str) -> None:
    assert name_key(one) and name_key(other)
    assert name_key(one) != name_key(other)
    assert name_key(one) == name_key(f" {one} ") == name_key(unicodedata.normalize("NFD", one))
    assert canonical_names([one, other], [one, other]) == [one, other]
    assert shared_names([one, other], [one]) == {one}
    described = describe_labels({one: "", other: ""}, {one: "first", other: "second"})
    assert list(described.descriptions.values()) == ["first", "second"]
    assert hint(one, [other]) == ""


@pytest.mark.parametrize(
    "spellings",
    [
        ("Playing Violin", "playing_violin", "PlayingViolin", "playing-violin", " playing  violin "),
        ("UCF-101", "ucf101", "ucf_101"),
        ("café", "CAFE\u0301"),
        ("Straße", "STRASSE"),
        ("ｒｕｎ１", "run 1"),  # full width
        ("❤️", "❤"),  # with a variation selector
        ("it's", "its", "it’s"),
    ],
)
def test_spellings_of_one_name(spellings: tuple[str, ...]) -> None:
    assert len(set(map(name_key, spellings))) == 1


def test_classes_of_the_vocabularies_stay_apart() -> None:
    for vocabulary in VOCABULARIES:
        names = read_vocabulary(vocabulary)
        assert len(set(map(name_key, names))) == len(names)


def test_chinese_class_folders_are_classes(tmp_path: Path) -> None:
    """From folders to a manifest to halves: two Chinese classes were one, and a protocol refused them."""
    for label in ("跑步", "走路"):
        for number in range(2):
            path = tmp_path / "videos" / label / f"{label}{number}.mp4"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(label.encode() + bytes([number]))
    check_data(find_dataset("folder"), tmp_path / "videos", [], tmp_path / "manifests" / "mine.csv", test_share=0.5)
    rows = list(csv.DictReader((tmp_path / "manifests" / "mine.csv").open(encoding="utf-8")))
    assert sorted(row["label"] for row in rows) == ["走路", "走路", "跑步", "跑步"]
    halves = halves_of(load_data("mine", tmp_path / "manifests"))
    assert len(halves.base) == len(halves.novel) == 1
    assert {*halves.base, *halves.novel} == {"走路", "跑步"}
