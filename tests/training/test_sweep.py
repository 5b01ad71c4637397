"""Sweeps: which values make a grid, how runs are compared, and what a failed one leaves."""

import json
from pathlib import Path
from typing import Any

import pytest

import froster
from commands import froster as command
from froster.data.puppets import write_videos
from froster.errors import FrosterError
from froster.training.sweep import Sweep, SweepRun, folder_name, grid_and_overrides

RECIPE = Path(__file__).parents[2] / "recipes" / "froster-puppets.yaml"


def run(top1: float | None, **settings: Any) -> SweepRun:
    accuracies = {} if top1 is None else {"top1": top1}
    return SweepRun(settings, Path("runs"), accuracies, None if top1 is not None else "The loss is nan.")


def test_lists_are_grids_where_the_key_takes_no_list() -> None:
    changes = [
        "seed=[0,1]",
        "optimizer.learning_rate=[1.0e-5, 1.0e-4]",
        "data.resize_short_side=[64,73]",
        "data.rand_augment=[[1,5],[2,9]]",
        "distillation=[null, {beta: 1.0}]",
        "trained=[temporal]",
        "out=runs/[a]",
        "no.such.key=[1,2]",
    ]
    grid, plain = grid_and_overrides({}, changes)
    assert grid == {
        "seed": [0, 1],
        "optimizer.learning_rate": [1e-5, 1e-4],
        "data.rand_augment": [[1, 5], [2, 9]],
        "distillation": [None, {"beta": 1.0}],
    }
    assert plain == ["data.resize_short_side=[64,73]", "trained=[temporal]", "out=runs/[a]", "no.such.key=[1,2]"]


def test_rows_are_compared_seed_by_seed() -> None:
    """Differences 4, 6 and 8 points: mean 6, standard error 2 / sqrt(3)."""
    runs = [run(top1, rate=1, seed=seed) for seed, top1 in enumerate((0.5, 0.7, 0.6))]
    runs += [run(top1, rate=2, seed=seed) for seed, top1 in enumerate((0.54, 0.76, 0.68))]
    runs += [run(0.9, rate=3, seed=0), run(None, rate=3, seed=1)]
    header, cells = Sweep("top1", runs).cells()
    assert header == ["rate", "top1, %", "difference to the first"]
    assert cells == [
        ["1", "60.0 ± 10.0", ""],
        ["2", "66.0 ± 11.1", "6.0 ± 1.2"],
        ["3", "90.0", "40.0"],
    ]
    assert "rate=3, seed=1 could not be trained: The loss is nan." in Sweep("top1", runs).to_markdown()


def test_folders_are_named_by_their_values() -> None:
    assert folder_name({"optimizer.learning_rate": 1e-5, "seed": 0}) == "optimizer.learning_rate=1e-05,seed=0"
    assert folder_name({"student": "vclip:window=2", "distillation": {"beta": 1}}) == (
        "student=vclip_window=2,distillation=_beta_1_"
    )


@pytest.mark.slow(6)
def test_runs_are_trained_once_and_a_failed_one_stops_no_other(tmp_path: Path) -> None:
    manifest = write_videos(tmp_path / "clips", ["walking", "juggling balls"], videos=3, frames=6, size=64)
    changes = [f"data.manifest={manifest}", "data.puppets=null", "data.frames=2", "data.workers=0", "average_from=null"]
    changes += ["optimizer.epochs=1", "optimizer.warmup_epochs=0", "optimizer.batch_size=4", "validation.share=0.34"]
    grid = ["trained=[vision, [no_such_parameter]]", "seed=[0]"]
    first = command("sweep", RECIPE, *changes, *grid, "--out", "swept", "--json", cwd=tmp_path)
    assert first.returncode == 1, first.stderr
    content = json.loads(first.stdout)
    good, bad = content["runs"]
    assert good["accuracies"]["top1"] in (0.0, 0.5, 1.0) and good["error"] is None
    assert "matches no parameter" in bad["error"] and not bad["accuracies"]
    assert "run 2 of 2: " in first.stderr
    assert json.loads((tmp_path / "swept" / "sweep.json").read_text()) == content
    assert r"\toprule" in (tmp_path / "swept" / "sweep.tex").read_text()
    again = command("sweep", RECIPE, *changes, *grid, "--out", "swept", cwd=tmp_path)
    assert "epoch" not in again.stderr  # nothing is trained again
    assert "difference to the first" in again.stdout


def test_what_cannot_be_compared_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FrosterError, match="Nothing tells the runs apart"):
        froster.sweep(RECIPE, {"seed": [0, 1]}, tmp_path)
    with pytest.raises(FrosterError, match="no values of seed"):
        froster.sweep(RECIPE, {"seed": []}, tmp_path)
    with pytest.raises(FrosterError, match="the same values twice"):
        froster.sweep(RECIPE, {"seed": [0, 0]}, tmp_path)
    with pytest.raises(FrosterError, match="the same values twice"):
        froster.sweep(RECIPE, {"optimizer.learning_rate": ["1e-5", 1.0e-5]}, tmp_path)
    with pytest.raises(FrosterError, match="unknown key 'sed'"):
        froster.sweep(RECIPE, {"sed": [0]}, tmp_path)
