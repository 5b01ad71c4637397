import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from froster.bench import puppets, students
from froster.bench.puppets import PAIRS, Job, Tuned, best_rates
from froster.bench.results import FROSTER, Result, read_results
from froster.data.puppets import ACTIONS
from froster.errors import FrosterError
from froster.shipped import find_recipe
from froster.students import STUDENTS
from froster.training.recipe import TrainRecipe

RESULTS = Path(__file__).parents[2] / "docs" / "results"
OF_THE_PAPERS = (
    *("frame_clip", "vifi_clip", "action_clip", "vclip", "x_clip", "adaptformer"),
    *("aim", "st_adapter", "vpt", "vita_clip", "text4vis", "tc_clip"),
)


@pytest.mark.parametrize("name", STUDENTS)
def test_the_two_of_a_pair_differ_in_distillation_alone(name: str, tmp_path: Path) -> None:
    without, with_it = (
        Job("few", f"{name}{suffix}", 0, 1e-4).recipe(tmp_path).model_dump() for suffix in ("", FROSTER)
    )
    assert {key for key in without if without[key] != with_it[key]} == {"out", "distillation"}
    assert without["student"].partition(":")[0] == name
    assert without["distillation"] is None


@pytest.mark.parametrize("name", OF_THE_PAPERS)
def test_each_network_has_its_recipes_without_and_with_froster(name: str) -> None:
    recipes = [TrainRecipe.read(find_recipe(f"puppets/{name.replace('_', '-')}{end}")) for end in ("", "-froster")]
    without, with_it = (recipe.model_dump() for recipe in recipes)
    assert {key for key in without if without[key] != with_it[key]} - {"optimizer"} == {"out", "distillation"}
    assert without["distillation"] is None
    published = TrainRecipe.read(find_recipe("puppets/residual")).distillation
    assert recipes[1].distillation == published


def test_recipes_train_what_the_published_table_reports(tmp_path: Path) -> None:
    lines = (RESULTS / "students-tuning.jsonl").read_text(encoding="utf-8").splitlines()
    rates = best_rates([Tuned(**json.loads(line)) for line in lines])
    reported = {(result.method, result.learning_rate) for result in read_results(RESULTS / "students.jsonl")}
    assert set(rates) == {f"{name}{end}" for name in OF_THE_PAPERS for end in ("", FROSTER)}
    assert set(rates.items()) == reported - {("frozen", 0)}
    where_and_how_clips_are_kept = {"out", "data", "keep_checkpoints"}
    for method, rate in rates.items():
        recipe = TrainRecipe.read(find_recipe(f"puppets/{method.replace('_', '-')}")).model_dump()
        of_bench = Job("few", method, 0, rate).recipe(tmp_path).model_dump()
        assert {key for key in recipe if recipe[key] != of_bench[key]} <= where_and_how_clips_are_kept, method
        data, drawn = recipe["data"], recipe["data"]["puppets"]
        assert {key for key in data if data[key] != of_bench["data"][key]} == {"manifest", "puppets"}
        assert (drawn["seed"], drawn["videos"]) == (puppets.TRAIN_SEED, puppets.TRAIN_CLIPS)
        assert tuple(drawn["actions"]) == puppets.BASE["few"]


def test_rates_at_the_edge_of_their_grid_are_marked() -> None:
    hms = {"vclip": (60, 70, 65), "aim": (70, 60, 50), f"aim{FROSTER}": (50, 60, 70)}
    tuned = [
        Tuned(method, rate, 100, hm, hm)
        for method, of_method in hms.items()
        for rate, hm in zip((1e-4, 2e-4, 4e-4) if method == "vclip" else (1e-3, 2e-3, 4e-3), of_method, strict=True)
    ]
    rows = {line.split(" | ")[0].strip("| "): line for line in students.tuning_table(tuned).splitlines()[2:]}
    assert "edge" not in rows["VCLIP"]
    assert "70.0 / 70.0 / **70.0** (edge) | 60.0" in rows["AIM"] and rows["AIM"].count("edge") == 1
    assert rows["AIM + FROSTER"].endswith("| 70.0 / 70.0 / **70.0** (edge) |")


def test_names_of_networks() -> None:
    assert students.named_students("all") == list(STUDENTS)
    assert students.named_students("vclip, frame-clip,vclip") == ["vclip", "frame_clip"]
    with pytest.raises(FrosterError, match="did you mean 'vclip'"):
        students.named_students("vclop")


def results() -> list[Result]:
    draw = np.random.default_rng(5)
    of_pairs = [
        Result("few", f"{name}{suffix}", number, 80 + 3 * draw.random(), 60 + gain + draw.random(), learning_rate=1e-4)
        for name, gains in {"vclip": (0, 4), "frame_clip": (0, -2)}.items()
        for suffix, gain in zip(("", FROSTER), gains, strict=True)
        for number in range(3)
    ]
    return [Result("few", "frozen", 0, 70, 61), *of_pairs]


def test_the_table_has_means_and_paired_gains() -> None:
    found = results()
    rows = {line.split(" | ")[0].strip("| "): line for line in students.pairs_table(found).splitlines()}
    for name in ("vclip", "frame_clip"):
        hms = [
            [2 * r.base * r.novel / (r.base + r.novel) for r in found if r.method == f"{name}{suffix}"]
            for suffix in ("", FROSTER)
        ]
        gains = np.subtract(hms[1], hms[0])
        expected = f"{gains.mean():+.1f} ± {gains.std(ddof=1) / 3**0.5:.1f}".replace("-", "−")
        row = rows[STUDENTS[name].title]
        assert expected in row
        assert all(f"{np.mean(hm):.1f} ± {np.std(hm, ddof=1):.1f}" in row for hm in hms)
    assert "70.0" in rows["Frozen CLIP"]


def test_gains_are_drawn_with_their_errors() -> None:
    figure = students.draw_gains(results())
    (axis,) = figure.axes
    assert [label.get_text() for label in axis.get_yticklabels()] == ["CLIP", "VCLIP"]
    widths = [bar.get_width() for bar in axis.patches]
    assert widths[0] < 0 < widths[1]
    with pytest.raises(FrosterError, match="no network with results both"):
        students.draw_gains(results()[:4])


def test_the_report_is_written(tmp_path: Path) -> None:
    tuned = [Tuned(f"vclip{suffix}", rate, 100, 80, 60 + rate) for suffix in ("", FROSTER) for rate in (1e-4, 5e-4)]
    files = students.write_report(results(), tuned, tmp_path, 12.4, 2)
    assert [path.name for path in files] == ["students.md", "students.html", "students.png"]
    report = files[0].read_text()
    assert "took 12 minutes with 2 processes" in report
    assert "| VCLIP + FROSTER | 80.0 / 60.0 / 68.6 | 80.0 / 60.0 / **68.6** (edge) |" in report
    assert students.TITLE in files[1].read_text()
    assert "data:image/png;base64" in files[1].read_text()
    assert Image.open(files[2]).width > 800


def test_rates_follow_what_is_trained() -> None:
    assert students.learning_rates("vclip") == students.RATES_OF_CLIP
    assert students.learning_rates("adaptformer") == students.RATES_OF_ADAPTERS


def test_a_pair_is_trained_tested_and_not_done_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "ACTIONS": ACTIONS[:12],
        "BASE": dict.fromkeys(puppets.BASE, ACTIONS[:12:2]),
        "NOVEL": dict.fromkeys(puppets.BASE, ACTIONS[1:12:2]),
        "EPOCHS": dict.fromkeys(puppets.BASE, 2),
        "WARMUP_EPOCHS": dict.fromkeys(puppets.BASE, 1),
        "TRAIN_CLIPS": 2,
        "TUNING_CLIPS": 1,
        "TEST_CLIPS": 1,
    }.items():
        monkeypatch.setattr(puppets, name, value)
    monkeypatch.setattr(students, "RATES_OF_ADAPTERS", (1e-3,))
    out, console = tmp_path / "out", Console(quiet=True)
    students.bench_students(["adaptformer"], out, tmp_path / "work", 1, 1, console)
    found = read_results(out / "students.jsonl")
    assert [(r.method, r.ratio) for r in found] == [("frozen", 0), ("adaptformer", 0), (f"adaptformer{FROSTER}", 0)]
    assert replace(found[1], seconds=0) != found[1]
    monkeypatch.setattr(puppets, "run_job", None)  # whoever calls it now fails
    students.bench_students(["adaptformer"], out, tmp_path / "work", 1, 1, console)
    assert read_results(out / "students.jsonl") == found


def test_pairs_are_tested_as_averages() -> None:
    assert all(PAIRS[name].averaged == name and PAIRS[name].last is None for name in PAIRS)
