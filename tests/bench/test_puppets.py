import io
import json
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file

from froster.bench import puppets as bench
from froster.bench.puppets import BASE, NOVEL, Job, Setup, Tuned
from froster.bench.results import METHODS as NAMES
from froster.bench.results import read_results
from froster.data.puppets import ACTIONS
from froster.inference import video_scores
from froster.models import load_model
from froster.shipped import find_recipe
from froster.training.recipe import TrainRecipe

ONE_THING = {"out", "distillation", "average_from", "weight_distance", "trained", "interpolation", "patch_ratio"}


@pytest.mark.parametrize("regime", BASE)
def test_base_and_novel_actions_are_all_actions_once(regime: str) -> None:
    assert sorted(BASE[regime] + NOVEL[regime]) == sorted(ACTIONS)
    assert len(BASE["few"]) == len(BASE["hard"]) == 10
    assert abs(len(BASE["many"]) - len(NOVEL["many"])) == 1


def test_the_shown_recipe_trains_the_few_base_actions() -> None:
    recipe = TrainRecipe.read(find_recipe("froster-puppets"))
    assert recipe.data.puppets is not None
    assert set(recipe.data.puppets.actions) == set(BASE["few"])
    assert recipe.data.puppets.videos == bench.TRAIN_CLIPS
    assert recipe.optimizer.epochs == bench.EPOCHS["few"]
    assert recipe.data.frames == bench.FRAMES


@pytest.mark.parametrize("method", bench.VARIANTS)
def test_methods_differ_in_nothing_but_their_method(method: str, tmp_path: Path) -> None:
    reference = Job("few", "residual", 3, 1e-4).recipe(tmp_path).model_dump()
    recipe = Job("few", method, 3, 1e-4).recipe(tmp_path).model_dump()
    assert {key for key in recipe if recipe[key] != reference[key]} <= ONE_THING
    names = bench.METHODS[method]
    assert {names.last, names.averaged, names.patched} - {None} <= NAMES.keys()


def test_a_job_reports_what_is_expected_of_it() -> None:
    swept = bench.expected(Job("hard", "residual", 2, 1e-4, alpha=0.5))
    assert [(r.method, r.draw, r.alpha, r.learning_rate) for r in swept] == [("residual", 2, 0.5, 1e-4)]
    experiments = bench.expected(Job("hard", "residual", 2, 1e-4))
    assert {(r.method, r.ratio) for r in experiments} == {
        ("residual", 0.0),
        ("froster_patched", 0.5),
        *(("froster_averaged", ratio) for ratio in bench.RATIOS),
    }
    assert {(r.regime, r.draw, r.alpha) for r in experiments} == {("hard", 2, 0.1)}


def test_the_best_rate_has_the_best_mean() -> None:
    tuned = [
        Tuned("plain", 1e-4, 100, 80, 60),
        Tuned("plain", 1e-4, 101, 80, 60),
        Tuned("plain", 5e-5, 100, 90, 80),
        Tuned("plain", 5e-5, 101, 10, 10),
        Tuned("residual", 5e-5, 100, 50, 50),
    ]
    assert bench.best_rates(tuned) == {"plain": 1e-4, "residual": 5e-5}


def test_reported_jobs_share_draws_and_sweep_one_setting_at_a_time() -> None:
    jobs = bench.reported_jobs({"plain": 1e-4, "residual": 5e-5}, list(BASE), draws=3, sweep_draws=2)
    plain = [job for job in jobs if job == Job(job.regime, job.method, job.draw, job.learning_rate)]
    assert len(plain) == 3 * 2 * 3
    assert {(job.regime, job.learning_rate) for job in plain if job.method == "residual"} == {
        ("hard", bench.HARD_RATE),
        ("few", 5e-5),
        ("many", 5e-5),
    }
    swept = [job for job in jobs if job not in plain]
    assert len(swept) == 2 * (len(bench.ALPHAS) + len(bench.BETAS) + 1)
    for job in swept:
        changed = [(job.alpha, 0.1), (job.beta, 2.0), (job.zero_init, True)]
        assert sum(value != default for value, default in changed) == 1
    assert not {job.draw for job in jobs} & set(bench.TUNING_DRAWS)


def test_test_clips_are_what_evaluation_sees(tmp_path: Path) -> None:
    clips = bench.open_test_clips(tmp_path, seed=5, clips=1)
    again = bench.open_test_clips(tmp_path, seed=5, clips=1)
    assert clips.frames.shape == (len(ACTIONS), bench.FRAMES, 3, 64, 64)
    assert np.array_equal(clips.frames, again.frames)
    assert not list(tmp_path.rglob("*.mp4"))
    model = load_model("puppets").eval()
    classes = torch.eye(model.config.embed_dim)[:7]
    (scores,) = video_scores(model, torch.from_numpy(clips.frames[:4].copy())[:, None], [classes])
    assert scores.shape == (4, 7)


def test_without_a_terminal_a_line_says_that_work_begins() -> None:
    written = io.StringIO()
    with bench.progress(Console(file=written, width=40), "Tuning learning rates", 6) as finish:
        begin = "Tuning learning rates: 6 training runs, after their clips are generated\n"
        assert written.getvalue() == begin
        finish("the first of them")
        assert written.getvalue() == f"{begin}the first of them\n"
    nothing_left = io.StringIO()
    with bench.progress(Console(file=nothing_left), "Tuning learning rates", 0):
        assert not nothing_left.getvalue()


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two methods, two steps on a clip of each of 6 base actions, 12 test clips."""
    methods = {name: bench.VARIANTS[name] for name in ("fine_tuned", "residual")}
    for name, value in {
        "ACTIONS": ACTIONS[:12],
        "BASE": dict.fromkeys(BASE, ACTIONS[:12:2]),
        "NOVEL": dict.fromkeys(BASE, ACTIONS[1:12:2]),
        "VARIANTS": methods,
        "EPOCHS": dict.fromkeys(BASE, 2),
        "WARMUP_EPOCHS": dict.fromkeys(BASE, 1),
        "TRAIN_CLIPS": 1,
        "TUNING_CLIPS": 1,
        "TEST_CLIPS": 1,
        "TUNING_DRAWS": (100,),
        "LEARNING_RATES": (1e-4, 2e-4),
        "RATIOS": (0.5, 0.0),
        "ALPHAS": (1.0,),
        "BETAS": (),
    }.items():
        monkeypatch.setattr(bench, name, value)


@pytest.mark.usefixtures("tiny")
@pytest.mark.slow
def test_the_whole_bench_reports_and_is_not_done_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, work = tmp_path / "out", tmp_path / "work"
    console = Console(quiet=True)
    files = bench.bench(out, work, ["hard"], draws=2, sweep_draws=1, processes=1, console=console)
    assert {path.name for path in files} >= {"results.md", "results.html", "base-novel.png"}
    results = read_results(out / "results.jsonl")
    assert {r.method for r in results} == {
        "frozen",
        "fine_tuned",
        "fine_tuned_averaged",
        "fine_tuned_patched",
        "residual",
        "froster_averaged",
        "froster_patched",
    }
    by = {(r.method, r.draw, r.ratio, r.alpha, r.zero_init): r for r in results}
    averaged, patched = by["froster_averaged", 1, 0.5, 0.1, True], by["froster_patched", 1, 0.5, 0.1, True]
    assert (averaged.base, averaged.novel) == (patched.base, patched.novel)
    assert by["residual", 0, 0.0, 0.1, True].seconds > 0
    assert ("residual", 0, 0.0, 1.0, True) in by and ("residual", 0, 0.0, 0.1, False) in by
    assert not list((work / "runs").iterdir())
    report = (out / "results.md").read_text()
    assert "froster bench puppets" in report and "1e-04" in report.replace("0.0001", "1e-04")
    seconds = json.loads((out / "bench.json").read_text())["seconds"]

    monkeypatch.setattr(bench, "run_job", None)  # whoever calls it now fails
    bench.bench(out, work, ["hard"], draws=2, sweep_draws=1, processes=1, console=console)
    assert read_results(out / "results.jsonl") == results
    assert json.loads((out / "bench.json").read_text())["seconds"] >= seconds


@pytest.mark.usefixtures("tiny")
def test_a_job_gives_the_same_results_twice(tmp_path: Path) -> None:
    results, weights = [], []
    for name in ("first", "second"):
        setup = Setup(tmp_path, 7, 1, models=tmp_path / name)
        job = bench.run_job(Job("few", "residual", 0, 1e-4), setup)
        results.append([replace(result, seconds=0.0) for result in job])
        weights.append(load_file(tmp_path / name / "residual.safetensors"))
    assert results[0] == results[1]
    assert all(torch.equal(value, weights[1][key]) for key, value in weights[0].items())


def test_only_the_reported_weights_are_tested_while_tuning() -> None:
    def names(method: str, draw: int, only_last: bool) -> list[tuple[str, float]]:
        job = Job("hard", method, draw, 1e-4)
        return [(name, ratio) for name, _, ratio in bench.weights_to_test(job, Path(), Path(), only_last)]

    assert names("residual", 0, True) == [("residual", 0.0)]
    assert names("open_vclip", 0, True) == [("open_vclip", bench.PATCH)]
    assert names("weight_l2", 0, False) == [("weight_l2", 0.0)]
    late = bench.CURVE_DRAWS
    assert names("open_vclip", late, False) == [("open_vclip", 0.5), ("open_vclip", 0.0)]
    assert names("residual", late, False) == [("residual", 0.0), ("froster_averaged", 0.0), ("froster_patched", 0.5)]


KILLED_PARENT = """
import multiprocessing, os, signal, time
from concurrent.futures import ProcessPoolExecutor
from froster.bench.puppets import start_worker

if __name__ == "__main__":
    pool = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), initializer=start_worker, initargs=(1,))
    print(pool.submit(os.getpid).result(), flush=True)
    pool.submit(time.sleep, 600)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def is_running(process: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{process}/status").read_text(encoding="utf-8")
    except OSError:
        return False


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="looks for the process in /proc")
def test_workers_end_when_the_bench_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "bench.py"
    script.write_text(KILLED_PARENT, encoding="utf-8")
    killed = subprocess.run([sys.executable, script], stdout=subprocess.PIPE, text=True, timeout=300, check=False)
    assert killed.returncode == -signal.SIGKILL
    deadline = time.monotonic() + 60
    while is_running(int(killed.stdout)):
        assert time.monotonic() < deadline, "the worker goes on training for nobody"
        time.sleep(0.1)
