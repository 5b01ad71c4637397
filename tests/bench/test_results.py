import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from froster.bench.results import (
    METHODS,
    REGIMES,
    Result,
    aggregate,
    append_result,
    paired_difference,
    read_results,
    select,
)
from froster.errors import FrosterError


def test_harmonic_mean() -> None:
    assert Result("few", "residual", 0, base=60.0, novel=30.0).hm == pytest.approx(1 / (0.5 / 60 + 0.5 / 30))
    assert Result("few", "residual", 0, base=0.0, novel=30.0).hm == 0
    assert Result("few", "residual", 0, base=0.0, novel=0.0).hm == 0


def test_aggregate_over_draws() -> None:
    scores = np.random.default_rng(0).uniform(20, 90, (5, 2))
    results = [Result("many", "plain", draw, *pair) for draw, pair in enumerate(scores.tolist())]
    expected = {"base": scores[:, 0], "novel": scores[:, 1], "hm": 2 * scores.prod(axis=1) / scores.sum(axis=1)}
    for score, values in expected.items():
        cell = aggregate(results, score)
        assert cell.mean == pytest.approx(values.mean(), rel=1e-12)
        assert cell.std == pytest.approx(values.std(ddof=1), rel=1e-12)
        assert cell.n == 5
    one = aggregate(results[:1], "base")
    assert (one.mean, one.n) == (scores[0, 0], 1)
    assert np.isnan(one.std)
    assert aggregate([], "hm").n == 0


def test_paired_difference_over_common_draws() -> None:
    rng = np.random.default_rng(1)
    a = [Result("few", "residual", draw, *rng.uniform(40, 90, 2)) for draw in (3, 0, 2, 7)]
    b = [Result("few", "fine_tuned", draw, *rng.uniform(40, 90, 2)) for draw in (0, 1, 2, 3)]
    hm = {(r.method, r.draw): 2 / (1 / r.base + 1 / r.novel) for r in a + b}
    differences = np.array([hm["residual", draw] - hm["fine_tuned", draw] for draw in (0, 2, 3)])
    mean, error, draws = paired_difference(a, b)
    assert draws == 3
    assert mean == pytest.approx(differences.mean(), rel=1e-10)
    assert error == pytest.approx(differences.std(ddof=1) / np.sqrt(3), rel=1e-10)
    assert paired_difference(b, a)[:2] == pytest.approx((-mean, error))
    novel = np.array([a[1].novel - b[0].novel, a[2].novel - b[2].novel, a[0].novel - b[3].novel])
    assert paired_difference(a, b, "novel")[0] == pytest.approx(novel.mean())

    mean, error, draws = paired_difference(a[3:], b)
    assert draws == 0
    assert np.isnan([mean, error]).all()
    mean, error, draws = paired_difference(a[:1], b)
    assert (mean, draws) == (pytest.approx(hm["residual", 3] - hm["fine_tuned", 3]), 1)
    assert np.isnan(error)


def test_one_frozen_result_stands_for_every_draw() -> None:
    frozen = [Result("few", "frozen", 0, 60.0, 60.0)]
    trained = [Result("few", "residual", draw, 70.0 + draw, 70.0 + draw) for draw in (1, 2, 3)]
    assert paired_difference(trained, frozen) == pytest.approx((12.0, 1 / np.sqrt(3), 3))
    assert paired_difference(frozen, trained) == pytest.approx((-12.0, 1 / np.sqrt(3), 3))
    two = [*frozen, Result("few", "frozen", 1, 50.0, 50.0)]
    assert paired_difference(trained, two)[::2] == (pytest.approx(21.0), 1)


def test_select_takes_the_compared_settings() -> None:
    froster = Result("few", "residual", 0, 80.0, 60.0)
    patched = Result("few", "froster_patched", 0, 80.0, 60.0, ratio=0.5)
    frozen = Result("few", "frozen", 0, 60.0, 60.0, ratio=1.0)
    others = [
        replace(froster, regime="many"),
        replace(froster, alpha=0.5),
        replace(froster, beta=1.0),
        replace(froster, zero_init=False),
        replace(froster, ratio=0.5),
        replace(patched, ratio=0.0),
    ]
    results = [froster, patched, frozen, *others]
    assert select(results, "few", "residual") == [froster]
    assert select(results, "few", "froster_patched") == [patched]
    assert select(results, "few", "frozen") == [frozen]
    assert select(results, "few", "residual", alpha=0.5) == [others[1]]
    assert select(results, "few", "residual", ratio=0.5) == [others[4]]
    assert select(results, "many", "frozen") == []


def test_results_survive_the_file(tmp_path: Path) -> None:
    path = tmp_path / "new" / "results.jsonl"
    assert read_results(path) == []
    rng = np.random.default_rng(2)
    results = [
        Result(regime, method, draw, *rng.uniform(0, 100, 2).tolist(), 0.3, 0.05, 3.0, False, 12.34)
        for regime in REGIMES
        for draw, method in enumerate(METHODS)
    ]
    for result in results:
        append_result(path, result)
    assert read_results(path) == results


def test_the_same_experiment_run_again_replaces_its_result(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    first = Result("few", "residual", 0, 80.0, 60.0, seconds=5.0)
    again = replace(first, base=81.0, novel=59.0, seconds=9.0)
    others = [
        replace(first, draw=1),
        replace(first, ratio=0.5),
        replace(first, alpha=0.5),
        replace(first, beta=1.0),
        replace(first, zero_init=False),
        replace(first, regime="many"),
        replace(first, method="plain"),
    ]
    for result in (first, *others, again):
        append_result(path, result)
    assert read_results(path) == [*others, again]


def test_a_kill_at_any_byte_of_an_append_loses_that_result_alone(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    first, second, third = (Result("few", "residual", draw, 80.0, 60.0) for draw in range(3))
    append_result(path, first)
    before = path.read_bytes()
    append_result(path, second)
    after = path.read_bytes()
    for length in range(len(before), len(after) + 1):
        path.write_bytes(after[:length])
        whole = length >= len(after) - 1
        assert read_results(path) == ([first, second] if whole else [first])
        append_result(path, third)
        assert read_results(path) == ([first, second, third] if whole else [first, third])
        assert path.read_bytes().startswith(before)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"gamma": 1}, "gamma: Unexpected"),
        ({"method": "residul"}, "method: unknown name 'residul', did you mean 'residual'"),
        ({"regime": "all"}, "regime: unknown name 'all', there are: hard, few, many"),
        ({"base": 101}, "base: Input should be less than or equal to 100"),
        ({"novel": float("nan")}, "novel: "),
        ({"base": "80"}, "base: Input should be a valid number"),
        ({"draw": -1}, "draw: "),
        ({"ratio": 1.5}, "ratio: "),
        ({"zero_init": 1}, "zero_init: "),
        (None, "Invalid JSON"),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, change: dict[str, object] | None, message: str) -> None:
    path = tmp_path / "results.jsonl"
    good = Result("few", "residual", 0, 80.0, 60.0)
    append_result(path, good)
    if change is None:
        path.write_bytes(path.read_bytes() + b'{"regime": "fe\n')
    else:
        path.write_text(path.read_text() + json.dumps(asdict(good) | change) + "\n")
    append_result(path, replace(good, draw=2))
    with pytest.raises(FrosterError) as error:
        read_results(path)
    assert f"{path}, line 2: {message}" in str(error.value)


def test_files_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(FrosterError, match="cannot be read: Is a directory"):
        read_results(tmp_path)
    with pytest.raises(FrosterError, match=r"cannot be written to .*: Is a directory"):
        append_result(tmp_path, Result("few", "residual", 0, 80.0, 60.0))
