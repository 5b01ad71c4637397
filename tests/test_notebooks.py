"""The notebooks of docs/notebooks run, cell after cell."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

NOTEBOOKS = Path(__file__).parents[1] / "docs" / "notebooks"


def run_cells(name: str, cwd: Path) -> str:
    """Run the notebook's code in a process of its own; returns what it printed."""
    cells = json.loads((NOTEBOOKS / name).read_text(encoding="utf-8"))["cells"]
    code = "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    environment = {**os.environ, "MPLBACKEND": "agg"}
    result = subprocess.run(
        [sys.executable, "-W", "ignore:FigureCanvasAgg", "-c", code],
        capture_output=True,
        text=True,
        cwd=cwd,
        env=environment,
        timeout=900,
    )
    assert result.returncode == 0, result.stderr
    said = [line for line in result.stderr.splitlines() if "Warning" in line]
    assert [line for line in said if "The whole run is 9 steps" not in line] == [], result.stderr
    return result.stdout


def test_recognize(tmp_path: Path, own_cache: Path) -> None:
    lines = run_cells("recognize.ipynb", tmp_path).splitlines()
    assert "8 of 8 correct" in lines
    assert [line.split("s  ")[1] for line in lines if " s  " in line] == ["waving hello", "skipping rope"]


@pytest.mark.slow
def test_train_and_compare(tmp_path: Path, own_cache: Path) -> None:
    lines = run_cells("train_and_compare.ipynb", tmp_path).splitlines()
    scores = {line[:12].strip(): [float(value) for value in line[12:].split()] for line in lines[-3:]}
    assert list(scores) == ["frozen CLIP", "fine-tuned", "FROSTER"]
    for base, novel, mean in scores.values():
        assert mean == pytest.approx(2 * base * novel / (base + novel), abs=0.06)
        assert min(base, novel) >= 70  # of five labels: far above chance
    # The teacher keeps what CLIP knows of actions that are not trained.
    assert scores["FROSTER"][1] >= scores["fine-tuned"][1]


def test_every_notebook_is_tested() -> None:
    assert {path.name for path in NOTEBOOKS.glob("*.ipynb")} == {"recognize.ipynb", "train_and_compare.ipynb"}
