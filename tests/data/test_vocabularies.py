import csv
import re
from pathlib import Path

import pytest

from froster.data.vocabularies import VOCABULARIES, read_vocabulary
from froster.errors import FrosterError

SIZES = {"ucf-101": 101, "hmdb-51": 51, "kinetics-400": 400, "kinetics-600": 600, "ssv2": 174}


def normalised(name: str) -> str:
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name) if " " not in name else name
    return words.lower()


@pytest.mark.parametrize(("name", "size"), SIZES.items())
def test_size_order_and_form(name: str, size: int) -> None:
    names = read_vocabulary(name)
    assert len(set(map(str.lower, names))) == len(names) == size
    assert list(names) == sorted(names, key=str.lower)
    assert all(re.fullmatch(r"[A-Za-z][A-Za-z ,'()]*", entry) and "  " not in entry for entry in names)


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("ucf-101", "ucf_101_labels.csv"),
        ("hmdb-51", "hmdb_51_labels.csv"),
        ("kinetics-400", "kinetics_400_labels.csv"),
        ("kinetics-600", "kinetics_600_labels.csv"),
        ("ssv2", "ssv2_labels.csv"),
    ],
)
def test_names_are_the_official_ones(shared: Path, name: str, file: str) -> None:
    with (shared / "splits" / "vifi" / "labels" / file).open(newline="") as rows:
        official = {normalised(row["name"]) for row in csv.DictReader(rows)}
    assert {entry.lower() for entry in read_vocabulary(name)} == official


def test_unknown_vocabulary_names_the_nearest() -> None:
    with pytest.raises(FrosterError, match="did you mean 'ucf-101'"):
        read_vocabulary("ucf-10")
    assert read_vocabulary("UCF101") == read_vocabulary("ucf-101")
    assert len(read_vocabulary("K400")) == 400
    assert all(read_vocabulary(name) for name in VOCABULARIES)
