import csv
import random
import re
from pathlib import Path

import pytest

from froster.data.vocabularies import (
    HALVED,
    VOCABULARIES,
    canonical_names,
    published_halves,
    read_vocabulary,
    readable_name,
)
from froster.errors import FrosterError
from froster.shipped import find_recipe
from froster.training.recipe import TrainRecipe

SIZES = {"ucf-101": 101, "hmdb-51": 51, "kinetics-400": 400, "kinetics-600": 600, "ssv2": 174}


def normalized(name: str) -> str:
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
        official = {normalized(row["name"]) for row in csv.DictReader(rows)}
    assert {entry.lower() for entry in read_vocabulary(name)} == official


@pytest.mark.parametrize("name", HALVED)
def test_halves_are_disjoint_and_whole(name: str) -> None:
    base, novel = read_vocabulary(f"{name}-base"), read_vocabulary(f"{name}-novel")
    assert not set(base) & set(novel)
    assert sorted(base + novel) == sorted(read_vocabulary(name))
    if name != "puppets":
        assert len(base) - len(novel) in (0, 1)


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("ucf-101-base", "ucf_101_base_labels.csv"),
        ("ucf-101-novel", "ucf_101_novel_labels.csv"),
        ("hmdb-51-base", "hmdb_51_base_labels.csv"),
        ("hmdb-51-novel", "hmdb_51_novel_labels.csv"),
        ("kinetics-400-base", "kinetics_400_base_labels.csv"),
        ("kinetics-400-novel", "kinetics_400_novel_labels.csv"),
        ("ssv2-base", "ssv2_174_base_labels.csv"),
        ("ssv2-novel", "ssv2_174_novel_labels.csv"),
        ("kinetics-600-draw-1", "ZS_split1_K600.csv"),
        ("kinetics-600-draw-2", "ZS_split2_K600.csv"),
        ("kinetics-600-draw-3", "ZS_split3_K600.csv"),
    ],
)
def test_parts_are_the_official_ones(shared: Path, name: str, file: str) -> None:
    with (shared / "splits" / "vifi" / "labels" / file).open(newline="") as rows:
        official = [normalized(row["name"]) for row in csv.DictReader(rows)]
    assert sorted(entry.lower() for entry in read_vocabulary(name)) == sorted(official)


def test_draws_are_of_classes_that_kinetics_400_lacks() -> None:
    known = set(read_vocabulary("kinetics-400"))
    draws = [set(read_vocabulary(f"kinetics-600-draw-{draw}")) for draw in (1, 2, 3)]
    assert [len(draw) for draw in draws] == [160] * 3
    assert all(draw <= set(read_vocabulary("kinetics-600")) - known for draw in draws)
    assert len(set.union(*draws)) == 217


@pytest.mark.parametrize(
    ("spelled", "readable"),
    [
        ("ApplyEyeMakeup", "apply eye makeup"),
        ("YoYo", "yo yo"),
        ("TVWatching", "tv watching"),
        ("brush_hair", "brush hair"),
        ("Playing Violin", "playing violin"),
        ("Holding [something] next to [something]", "holding something next to something"),
        (" wood burning (art)", "wood burning (art)"),
    ],
)
def test_readable_name(spelled: str, readable: str) -> None:
    assert readable_name(spelled) == readable


def test_canonical_names() -> None:
    vocabulary = read_vocabulary("ucf-101")
    assert canonical_names(["HandStandPushups", "yo_yo", "SkiJet", "Own_Action"], vocabulary) == [
        "handstand pushups",
        "yo yo",
        "skijet",
        "own action",
    ]


def test_puppets_base_is_what_the_recipe_trains() -> None:
    puppets = TrainRecipe.read(find_recipe("froster-puppets")).data.puppets
    assert puppets is not None
    assert tuple(puppets.actions) == read_vocabulary("puppets-base")


def test_unknown_vocabulary_names_the_nearest() -> None:
    with pytest.raises(FrosterError, match="did you mean 'ucf-101'"):
        read_vocabulary("ucf-10")
    assert read_vocabulary("UCF101") == read_vocabulary("ucf-101")
    assert len(read_vocabulary("K400")) == 400
    assert all(read_vocabulary(name) for name in VOCABULARIES)


def test_published_halves_of_ep1() -> None:
    for name, size in (("ucf-101", 50), ("hmdb-51", 25)):
        halves = published_halves(name)
        assert len(set(halves)) == 10
        assert all(len(set(half)) == size and set(half) < set(read_vocabulary(name)) for half in halves)
        # The authors shuffle the classes in the order of the official list, ten times, after random.seed(2023).
        order = sorted(read_vocabulary(name), key=lambda name: name.replace(" ", "") if size == 50 else name)
        generator = random.Random(2023)
        for half in halves:
            shuffled = list(order)
            generator.shuffle(shuffled)
            assert set(half) == set(shuffled[:size])
    assert published_halves("kinetics-400") == ()


def test_new_classes_of_kinetics_600() -> None:
    new = read_vocabulary("kinetics-600-new")
    assert len(new) == 220
    draws = {name for draw in (1, 2, 3) for name in read_vocabulary(f"kinetics-600-draw-{draw}")}
    assert set(new) - draws == {"making horseshoes", "pillow fight", "spelunking"}
    assert draws < set(new) < set(read_vocabulary("kinetics-600"))
    assert not set(new) & set(read_vocabulary("kinetics-400"))
