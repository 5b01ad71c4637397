import json
import subprocess
from pathlib import Path

import pytest

from commands import froster
from froster.bench.results import Result, append_result
from froster.methods import describe, model_sizes
from froster.published import base_to_novel, cross_dataset
from froster.students import STUDENTS


def methods(*arguments: object, columns: int = 80) -> subprocess.CompletedProcess[str]:
    options = ["--model", "puppets", "--frames", "2", *map(str, arguments)]
    return froster("methods", *options, env={"COLUMNS": str(columns), "PYTHONUTF8": "1"})


@pytest.mark.parametrize("columns", [60, 80, 200])
@pytest.mark.slow
def test_names_and_cells_stay_whole_at_any_width(tmp_path: Path, columns: int) -> None:
    for draw in (0, 1):
        append_result(tmp_path / "r.jsonl", Result("few", "aim_froster", draw, base=91.0 + draw, novel=72.0 + draw))
    result = methods("--results", tmp_path / "r.jsonl", columns=columns)
    lines = result.stdout.splitlines()
    assert all(len(line.rstrip()) <= columns for line in lines if line[:1] in ("", " "))
    for published in (row for row in (*base_to_novel(), *cross_dataset()) if row.student):
        assert any(line.startswith(published.method) for line in lines), published.method
    for name, student in STUDENTS.items():
        assert any(line.startswith(name) and student.title in line for line in lines)
    for cells in ("77.8 64.3 70.4", "74.1 58.0 65.1", "95.3 80.0 87.0", "18.3 12.2 14.6", "74.8 ± 0.9"):
        assert any(line.startswith("FROSTER") and cells in line for line in lines), cells
    assert any(line.startswith("AIM + FROSTER") and "91.5 ± 0.7  72.5 ± 0.7" in line for line in lines)


@pytest.mark.parametrize("columns", [80, 200])
@pytest.mark.slow
def test_tables_fit_and_name_every_network_and_method(tmp_path: Path, columns: int) -> None:
    append_result(tmp_path / "r.jsonl", Result("few", "froster_averaged", 0, base=91.25, novel=72.5))
    result = methods("--results", tmp_path / "r.jsonl", columns=columns)
    assert (result.returncode, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert all(len(line.rstrip()) <= columns for line in lines if not line.startswith(("Puppets", "few:")))
    table = [line.split() for line in lines]
    for name in STUDENTS:
        network = describe(name, model_sizes("puppets"), 2)
        (row,) = (words for words in table if words[:1] == [name] and len(words) == 6)
        assert row[1] == network.title
        assert float(row[2]) == pytest.approx(network.parameters / 1e6, rel=0.01)
        assert float(row[3]) == pytest.approx(network.trained / 1e6, rel=0.01)
        assert float(row[4]) == pytest.approx(network.flops.clip / 1e9, rel=0.01)
    for published in (row for row in (*base_to_novel(), *cross_dataset()) if row.student):
        assert any(line.startswith(published.method) for line in lines)
        for scores in published.scores.values():
            assert f"{next(iter(scores.values())):.1f}" in result.stdout
    assert "77.8 64.3 70.4  74.1 58.0 65.1  95.3 80.0 87.0  18.3 12.2 14.6" in result.stdout
    (row,) = (words for words in table if words[:3] == ["FROSTER,", "averaged", "epochs"] and len(words) == 7)
    assert row[3:] == ["91.2", "72.5", "80.8", "1"]
    assert any(line.startswith("few: Few classes (10 base), each method at its best learning rate") for line in lines)


def test_json(tmp_path: Path) -> None:
    result = methods("--json")
    assert (result.returncode, result.stderr) == (0, "")
    content = json.loads(result.stdout)
    assert (content["model"], content["frames"], content["size"], content["puppets"]) == ("puppets", 2, 64, [])
    assert [network["name"] for network in content["networks"]] == [*STUDENTS]
    (encoder,) = (row for row in content["backbones"] if row["name"] == "pe-core-b-16")
    published = {"imagenet": 78.4, "kinetics_400": 65.6, "kinetics_600": 65.1, "ucf_101": 84.6, "hmdb_51": 48.2}
    assert encoder["zero_shot"] == published
    assert encoder["parameters"] == pytest.approx(447.7e6, rel=0.001)  # as in the table of released models
    blocks = 12 * (2 * 197 * 12 * 768**2 + 4 * 197**2 * 768)
    patches_and_pooling = 2 * 196 * 768**2 + 2 * 197 * 2 * 768**2
    assert encoder["flops"] == pytest.approx(2 * (blocks + patches_and_pooling), rel=0.001)
    (froster,) = (row for row in content["published"]["cross_dataset"] if row["method"] == "FROSTER")
    assert froster["scores"]["K-600"] == {"mean": 74.8, "std": 0.9}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "vit-b-61"], "did you mean 'vit-b-16'"),
        (["--results", "none.jsonl"], "There is no file none.jsonl"),
        (["--results", __file__], "test_methods.py is not a results file; `froster bench puppets` writes"),
        (["--frames", "0"], "greater than or equal to 1"),
    ],
)
def test_mistakes_end_in_one_sentence(arguments: list[str], message: str) -> None:
    result = methods(*arguments)
    assert result.returncode == 2
    assert message in " ".join(result.stderr.split())
    assert "Traceback" not in result.stderr
