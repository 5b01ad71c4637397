import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
import torch

from commands import FROSTER, froster, froster_process
from froster import load_model
from froster.data.puppets import write_videos
from froster.interpolation import average_states, patch_states
from froster.models import load_backbone
from froster.training.state import read_state

RECIPE = Path(__file__).parents[2] / "recipes" / "froster-puppets.yaml"
LABELS = "walking, juggling balls"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished run, `run`, of three epochs on four clips."""
    folder = tmp_path_factory.mktemp("trained")
    write_videos(folder / "clips", LABELS.split(", "), videos=2, frames=6, size=64)
    changes = ["out=run", "data.manifest=clips/manifest.csv", "data.puppets=null", "data.frames=2"]
    changes += [
        "optimizer.batch_size=4",
        "optimizer.epochs=3",
        "optimizer.warmup_epochs=1",
        "average_from=1",
        "keep_checkpoints=2",
    ]
    result = froster("train", RECIPE, *changes, cwd=folder)
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines() == ["run/model.safetensors"]
    assert "epoch 3/3" in result.stderr and "clips/s" in result.stderr
    return folder


@pytest.mark.slow
def test_the_run_predicts_and_is_evaluated(trained: Path) -> None:
    predicted = froster_process("predict", "clips/walking/0.mp4", "--model", "run/", "--labels", LABELS, cwd=trained)
    assert predicted.returncode == 0, predicted.stderr
    assert json.loads(predicted.stdout)["predictions"][0]["label"] in LABELS
    evaluated = froster("evaluate", "run", "--data", "clips/manifest.csv", "--json", cwd=trained)
    assert evaluated.returncode == 0, evaluated.stderr
    assert json.loads(evaluated.stdout)["student"] == "vclip"


def test_a_finished_run_is_only_said_to_be_finished(trained: Path) -> None:
    again = froster("train", "run/recipe.json", "--resume", cwd=trained)
    assert again.returncode == 0, again.stderr
    assert again.stdout.splitlines() == ["run/model.safetensors"]
    assert "The run in run is finished already." in again.stderr and "epoch" not in again.stderr


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.slow
def test_sigterm_ends_as_ctrl_c_does(trained: Path, workers: int) -> None:
    """A scheduler sends the signal to all processes of a job, workers too."""
    out = trained / f"stopped-{workers}"
    changes = ["optimizer.epochs=1000", "data.in_memory=false", f"data.workers={workers}", f"out={out}"]
    process = subprocess.Popen(
        [FROSTER, "train", "run/recipe.json", *changes],
        stderr=subprocess.PIPE,
        text=True,
        cwd=trained,
        start_new_session=True,
    )
    deadline = time.monotonic() + 120
    while not (out / "state.pt").exists():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGTERM)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 143, errors
    assert errors.endswith("Stopped; resume with --resume.\n") and "Traceback" not in errors
    state = read_state(out / "state.pt")
    assert state and state["step"] >= 1
    assert not list(out.rglob("*.partial.*"))


def test_average_and_patch_write_what_loads_like_any_other(trained: Path) -> None:
    epochs = sorted((trained / "run" / "checkpoints").iterdir())
    assert [path.name for path in epochs] == ["epoch-002.safetensors", "epoch-003.safetensors"]
    assert froster("average", *epochs, "--out", "mean.safetensors", cwd=trained).returncode == 0
    assert froster("patch", "puppets", "mean.safetensors", "--ratio", "0.3", cwd=trained).returncode == 0
    mean, tested = load_model(trained / "mean.safetensors"), load_model(trained / "run")
    assert mean.name == "vclip"
    expected = average_states([load_model(path).state_dict() for path in epochs])
    for key, value in mean.state_dict().items():
        torch.testing.assert_close(value, expected[key], atol=1e-7, rtol=1e-6)
        torch.testing.assert_close(tested.state_dict()[key], value, atol=1e-7, rtol=1e-6)
    between = patch_states(load_backbone("puppets").state_dict(), mean.state_dict(), 0.3)
    for key, value in load_model(trained / "patched.safetensors").state_dict().items():
        torch.testing.assert_close(value, between[key], atol=1e-7, rtol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("train", RECIPE, "optimzer.epochs=3"), "unknown key 'optimzer', did you mean 'optimizer'?"),
        (
            ("train", RECIPE, "distillation.alfa=3"),
            "unknown key 'distillation.alfa', did you mean 'distillation.alpha'",
        ),
        (("train", RECIPE, "data.puppets=null"), "runs/puppets/base/manifest.csv"),
        (("train", "none.yaml"), "none.yaml"),
        (("average", "none.safetensors"), "none.safetensors"),
        (("patch", "puppets", "none.safetensors"), "none.safetensors"),
    ],
)
def test_mistakes_are_one_line_and_status_2(tmp_path: Path, arguments: tuple[object, ...], message: str) -> None:
    result = froster(*arguments, cwd=tmp_path)
    assert result.returncode == 2
    assert len(result.stderr.splitlines()) == 1
    assert message.replace("'distillation.alpha'", "'alpha'") in result.stderr
    assert not list(tmp_path.iterdir())


def test_a_student_is_no_clip_to_patch_with(trained: Path) -> None:
    result = froster("patch", "run", "run", cwd=trained)
    assert result.returncode == 2
    assert "is a fine-tuned student (vclip)" in result.stderr
