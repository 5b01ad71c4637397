import json

import pytest

from froster.training.recipe import OptimizerSettings
from froster.training.schedule import learning_rate
from goldens import GoldenFile


def test_every_step_is_the_released_schedule(golden_file: GoldenFile) -> None:
    golden = json.loads(golden_file("lr_schedule.json").read_text())
    settings = OptimizerSettings(
        epochs=golden["max_epoch"],
        warmup_epochs=golden["warmup_epochs"],
        learning_rate=golden["base"],
        warmup_start=golden["warmup_start"],
        final_learning_rate=golden["end"],
        batch_size=1,
    )
    steps = range(0, 10 * len(golden["lr"]), 10)
    ours = [learning_rate(step, golden["steps_per_epoch"], settings) for step in steps]
    assert len(ours) == 220
    assert ours == pytest.approx(golden["lr"], rel=1e-9, abs=0)


def test_without_warmup_the_first_step_has_the_full_rate() -> None:
    settings = OptimizerSettings(epochs=3, learning_rate=1e-3, batch_size=1)
    assert learning_rate(0, 10, settings) == 1e-3
    assert learning_rate(30, 10, settings) == pytest.approx(0, abs=1e-18)
