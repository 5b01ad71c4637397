"""Every published number of the two papers that could be read, pinned, and what each table file must hold."""

import pytest

from froster.errors import FrosterError
from froster.published import Row, read_cell, read_table, table_names
from froster.students import STUDENTS

TABLES = {name: read_table(name) for name in table_names()}


def published(table: str) -> dict[str, dict[str, str]]:
    """Method -> column -> cell, as in the paper."""

    def cell(scores: dict[str, float]) -> str:
        if "base" in scores:
            return " / ".join(f"{scores[key]:.1f}" for key in ("base", "novel", "hm"))
        return f"{scores['mean']:.1f}" + (f" ± {scores['std']:.1f}" if "std" in scores else "")

    return {
        row.method: {column: cell(scores) for column, scores in row.published.items()}
        for row in TABLES[table].rows
        if row.published
    }


def test_all_tables_and_figures_are_there_in_the_papers_order() -> None:
    assert [name for name in TABLES if not name.startswith("tc-clip")] == [
        *(f"froster-table-{number}" for number in range(1, 8)),
        *(f"froster-figure-{number}" for number in (1, 5)),
        *(f"open-vclip-table-{number}" for number in range(1, 6)),
        *(f"open-vclip-figure-{number}" for number in (2, 3)),
    ]
    with pytest.raises(FrosterError, match="did you mean 'froster-table-1'"):
        read_table("froster-table1")


def test_froster_table_1() -> None:
    assert published("froster-table-1") == {
        method: dict(zip(("K-400", "HMDB-51", "UCF-101", "SSv2"), cells, strict=True))
        for method, *cells in (
            ("Frozen CLIP", "62.3 / 53.4 / 57.5", "53.3 / 46.8 / 49.8", "78.5 / 63.6 / 70.3", "4.9 / 5.3 / 5.1"),
            ("ActionCLIP", "61.0 / 46.2 / 52.6", "69.1 / 37.3 / 48.5", "90.1 / 58.1 / 70.7", "13.3 / 10.1 / 11.5"),
            ("X-CLIP", "74.1 / 56.4 / 64.0", "69.4 / 45.5 / 55.0", "89.9 / 58.9 / 71.2", "8.5 / 6.6 / 7.4"),
            ("VPT", "69.7 / 37.6 / 48.8", "46.2 / 16.0 / 23.8", "90.5 / 40.4 / 55.8", "8.3 / 5.3 / 6.4"),
            ("AIM", "74.6 / 62.5 / 68.0", "64.0 / 51.6 / 57.1", "89.8 / 76.4 / 82.6", "8.5 / 7.9 / 8.2"),
            ("ST-Adapter", "73.6 / 62.0 / 67.3", "65.3 / 48.9 / 55.9", "85.5 / 76.8 / 80.9", "9.3 / 8.4 / 8.8"),
            ("ViFi-CLIP", "76.4 / 61.1 / 67.9", "73.8 / 53.3 / 61.9", "92.9 / 67.7 / 78.3", "16.2 / 12.1 / 13.9"),
            ("Open-VCLIP", "76.5 / 62.6 / 68.9", "70.3 / 50.4 / 58.7", "94.8 / 77.5 / 85.3", "16.0 / 11.0 / 13.0"),
            ("FROSTER", "77.8 / 64.3 / 70.4", "74.1 / 58.0 / 65.1", "95.3 / 80.0 / 87.0", "18.3 / 12.2 / 14.6"),
        )
    }


def test_froster_table_2() -> None:
    found = published("froster-table-2")
    for method, *cells in (
        ("ER-ZASR", "", "51.8 ± 2.9", "", "35.3 ± 4.6", "42.1 ± 1.4"),
        ("Frozen CLIP", "74.2", "73.8 ± 0.6", "46.3", "47.9 ± 0.5", "68.1 ± 1.1"),
        ("ActionCLIP", "77.4", "77.5 ± 0.8", "48.0", "48.2 ± 1.5", "62.5 ± 1.2"),
        ("X-CLIP", "", "72.0 ± 2.3", "", "44.6 ± 5.2", "65.2 ± 0.4"),
        ("VPT", "", "69.3 ± 4.2", "", "44.3 ± 2.2", "55.8 ± 0.7"),
        ("Text4Vis", "79.6", "", "49.8", "", "68.9 ± 1.0"),
        ("AIM", "79.0", "79.4 ± 1.0", "49.5", "50.3 ± 0.8", "66.7 ± 0.5"),
        ("ST-Adapter", "77.9", "77.6 ± 0.7", "50.3", "51.1 ± 0.6", "60.2 ± 1.8"),
        ("Vita-CLIP", "", "75.0 ± 0.6", "", "48.6 ± 0.6", "67.4 ± 0.5"),
        ("ViFi-CLIP", "", "76.8 ± 0.7", "", "51.3 ± 0.6", "71.2 ± 1.0"),
        ("Open-VCLIP", "83.5", "83.4 ± 1.2", "53.2", "53.9 ± 1.2", "73.0 ± 0.8"),
        ("FROSTER", "85.0", "84.8 ± 1.1", "54.5", "54.8 ± 1.3", "74.8 ± 0.9"),
    ):
        columns = dict(zip(("UCF*", "UCF", "HMDB*", "HMDB", "K-600"), cells, strict=True))
        assert found.pop(method) == {column: cell for column, cell in columns.items() if cell}, method
    assert not found


def test_froster_tables_3_and_4() -> None:
    vclip, froster = (
        {"UCF*": u, "HMDB*": h, "K-600": k} for u, h, k in (("79.7", "49.8", "65.9"), ("85.0", "54.5", "74.8"))
    )
    assert published("froster-table-4") == {"A": vclip, "J": froster}
    found = published("froster-table-3")
    # VCLIP is row A of Table 4 and FROSTER row J.
    assert (found["VCLIP"], found["VCLIP w/ FROSTER"]) == (vclip, froster)
    assert found["ActionCLIP w/ FROSTER"] == {"UCF*": "84.0"}
    assert found["AIM w/ FROSTER"] == {"UCF*": "81.2"}


def test_open_vclip() -> None:
    large = "Open-VCLIP (ViT-L/14)"
    assert published("open-vclip-table-1")[large] == {"UCF*": "87.9", "HMDB*": "58.3"}
    assert published("open-vclip-table-2")["Open-VCLIP (ViT-B/16)"] == {"UCF": "83.4 ± 1.2", "HMDB": "53.9 ± 1.2"}
    assert published("open-vclip-table-3")[large] == {"K-600": "81.1"}
    assert published("open-vclip-table-4")["Fine-tuned (ViT-B/16)"] == {
        "UCF*": "79.7",
        "HMDB*": "49.8",
        "K-600": "65.9",
    }
    assert published("open-vclip-table-5")["L2 regularization"] == {"UCF*": "82.3"}
    for figure in ("open-vclip-figure-2", "open-vclip-figure-3"):
        assert TABLES[figure].ratios == [0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.0]


@pytest.mark.parametrize("name", TABLES)
def test_rows_name_networks_columns_and_each_other(name: str) -> None:
    table = TABLES[name]
    methods = [row.method for row in table.rows]
    assert len({method.lower() for method in methods}) == len(methods)
    for row in table.rows:
        assert row.student in STUDENTS or not (row.recipe or row.model)
        assert row.gain_over is None or row.gain_over in methods
        assert not (row.recipe and row.model)
        assert set(row.secondhand) <= row.published.keys(), row.method
        if table.protocol == "cross-dataset":
            assert row.published.keys() <= set(table.columns), row.method


def test_the_numbers_of_one_method_agree_between_tables() -> None:
    """What two tables publish of one recipe with the same columns is the same."""
    seen: dict[tuple[str, str], tuple[float, str]] = {}
    same = {"ablations/table-4-a": "vit-b-16/vclip", "ablations/table-4-j": "vit-b-16/froster"}
    for table in TABLES.values():
        for row in table.rows:
            for column, scores in row.published.items():
                if "mean" in scores and row.recipe:
                    key = same.get(row.recipe, row.recipe), column
                    if not row.recipe.endswith("tc-clip"):  # two rows, with and without descriptions
                        assert seen.setdefault(key, (scores["mean"], table.name))[0] == scores["mean"], (
                            key,
                            table.name,
                        )


@pytest.mark.parametrize("cell", ["84", "84.8 +- 1.1", "95.3 / 80.0", "–", ""])
def test_a_cell_in_another_form_is_refused(cell: str) -> None:
    with pytest.raises(ValueError, match="is neither MEAN"):
        read_cell(cell)
    with pytest.raises(ValueError, match="is neither MEAN"):
        Row(method="x", published={"UCF*": cell})
