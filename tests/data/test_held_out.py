from collections import Counter

from froster.data.held_out import assign_splits

SIZES = {"one": 1, "two": 2, "three": 3, "ten": 10, "twenty": 20}
VIDEOS = [(f"{label}/{number}.mp4", label) for label, size in SIZES.items() for number in range(size)]


def count(splits: dict[str, str]) -> Counter[tuple[str, str]]:
    return Counter((name.split("/")[0], split) for name, split in splits.items())


def test_each_class_gives_its_share_but_its_last_file() -> None:
    of_both = count(assign_splits(VIDEOS, {"test": 0.2, "val": 0.1}, seed=0))
    assert of_both == {
        ("two", "test"): 1,
        ("three", "test"): 1,
        ("three", "val"): 1,
        ("ten", "test"): 2,
        ("ten", "val"): 1,
        ("twenty", "test"): 4,
        ("twenty", "val"): 2,
    }


def test_a_second_split_moves_nothing_of_the_first() -> None:
    alone, both = assign_splits(VIDEOS, {"test": 0.2}, 0), assign_splits(VIDEOS, {"test": 0.2, "val": 0.3}, 0)
    assert alone == {file: split for file, split in both.items() if split == "test"}


def test_a_draw_depends_on_seed_and_names_alone() -> None:
    first = assign_splits(VIDEOS, {"val": 0.3}, 0)
    assert assign_splits(VIDEOS[::-1], {"val": 0.3}, 0) == first
    assert assign_splits(VIDEOS, {"val": 0.3}, 1) != first
    more = assign_splits([*VIDEOS, ("twenty/20.mp4", "twenty")], {"val": 0.3}, 0)
    assert len(first.keys() - more.keys()) <= 1


def test_a_file_of_several_rows_has_one_split() -> None:
    rows = [("a.mp4", "x"), ("a.mp4", "x"), ("b.mp4", "x"), ("c.mp4", "x")]
    assert len(assign_splits(rows, {"val": 0.34}, 0)) == 1
    rows = [("a.mp4", "x"), ("b.mp4", "x"), ("a.mp4", "y"), ("b.mp4", "y")]
    assert len(assign_splits(rows, {"val": 0.5}, 0)) == 1  # the same file, drawn by the same number
