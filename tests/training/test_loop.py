import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from PIL import Image
from safetensors import safe_open
from torch.amp import GradScaler

from froster import Recognizer, load_model
from froster.backbones.clip import Clip, ClipConfig
from froster.checkpoints.own import save_checkpoint
from froster.data.manifests import LabeledVideo, read_manifest, write_manifest
from froster.data.puppets import files, write_videos
from froster.errors import FrosterError, FrosterWarning
from froster.interpolation import average_states, patch_states
from froster.models import load_backbone
from froster.shipped import find_recipe
from froster.training import checkpoint, loop, step
from froster.training.checkpoint import RunFolder
from froster.training.clips import Batch
from froster.training.objective import Objective
from froster.training.parameters import select_trainable
from froster.training.recipe import TrainRecipe
from froster.training.state import read_state, write_state
from froster.video import decode_frames

ROOT = Path(__file__).parents[2]
RECIPE = ROOT / "recipes" / "froster-puppets.yaml"
ACTIONS = ["walking", "juggling balls", "sitting down"]
SHORT = [
    "optimizer.epochs=3",
    "optimizer.warmup_epochs=1",
    "optimizer.batch_size=4",
    "average_from=null",
    "data.frames=2",
    "data.workers=0",
    "precision=float32",
]
FINE_TUNED = ROOT / "recipes" / "puppets" / "fine-tuned.yaml"
LAUNCHER = ("torch.distributed.run", "--standalone", "--nproc_per_node", "2")
OPEN_VCLIP = ROOT / "recipes" / "puppets" / "open-vclip.yaml"


@pytest.fixture(scope="session")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """12 small videos of three actions."""
    return write_videos(tmp_path_factory.mktemp("clips"), ACTIONS, videos=4, frames=6, size=64)


def short_recipe(manifest: Path, out: Path, *changes: str, path: Path = RECIPE) -> TrainRecipe:
    return TrainRecipe.read(path, [*SHORT, f"out={out}", f"data.manifest={manifest}", "data.puppets=null", *changes])


def weights(path: Path) -> dict[str, torch.Tensor]:
    return load_model(path).state_dict()


def log(out: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


def assert_equal_weights(a: Path, b: Path) -> None:
    ours, theirs = weights(a), weights(b)
    assert ours.keys() == theirs.keys()
    assert [key for key in ours if not torch.equal(ours[key], theirs[key])] == []


# What `python -m froster train` does, but for a signal that ends it as step 5 begins, in the middle of an epoch.
STOPPED = """
import os, signal, sys
from froster.training import loop
from froster_video import main

take_step = loop.take_step

def step_or_stop(run, batches):
    if run.step == 4 and not run.keys.rank:
        os.kill({process}, signal.{signal})
        signal.pause()
    return take_step(run, batches)

loop.take_step = step_or_stop
main()
"""
# Several recipes one after the other, in two processes that torchrun's variables describe: starting Python takes longer
# than training does, so the second process is a fork.
TRAIN_IN_TWO = """
import os, sys
from pathlib import Path
from froster.training.loop import train
from froster.training.recipe import TrainRecipe

other = os.fork()
rank = "0" if other else "1"
os.environ |= {{"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "RANK": rank, "LOCAL_RANK": rank}}
os.environ |= {{"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "{port}"}}
for path in sys.argv[1:]:
    train(TrainRecipe.read(Path(path)), resume={resume})
if other:
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(other, 0)[1]))
"""


@pytest.fixture
def one_thread() -> Iterator[None]:
    """As the processes of `start` have: another number of threads may add in another order."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def start(program: str, *arguments: object, launcher: tuple[str, ...] = (), folder: Path) -> subprocess.Popen[str]:
    """Run Python code with arguments, under a launcher if one is given."""
    script = folder / "program.py"
    script.write_text(program)
    command = [sys.executable, *(["-m", *launcher] if launcher else []), str(script), *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def write_recipe(recipe: TrainRecipe) -> Path:
    path = recipe.out.with_suffix(".json")  # JSON is YAML
    path.write_text(recipe.model_dump_json())
    return path


def in_two_processes(folder: Path, *recipes: TrainRecipe, resume: bool = False) -> str:
    """Train in two processes on the CPU (gloo); returns standard error."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    program = TRAIN_IN_TWO.format(port=port, resume=resume)
    process = start(program, *map(write_recipe, recipes), folder=folder)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    for recipe in recipes:
        assert (recipe.out / "model.safetensors").exists(), errors
    return errors


def test_what_a_run_can_learn_is_said_before_it_begins(
    manifest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changes = ["optimizer.batch_size=64", "optimizer.warmup_epochs=0", "optimizer.epochs=1"]
    with pytest.warns(FrosterWarning, match=r"whole run is 1 step \(12 clips, .*: set optimizer\.min_steps"):
        loop.train(short_recipe(manifest, tmp_path / "one", *changes))
    assert "12 clips in batches of 12: 1 step an epoch, 1 in all\n" in capsys.readouterr().err
    changes = ["optimizer.batch_size=5", "optimizer.min_steps=50", "optimizer.epochs=2"]
    with warnings.catch_warnings():
        warnings.simplefilter("error", FrosterWarning)
        loop.train(short_recipe(manifest, tmp_path / "many", *changes))
    assert (
        "12 clips in batches of 5: 26 steps an epoch (13 passes over the clips), 52 in all; "
        "each pass drops 2 random clips that do not fill a batch\n"
    ) in capsys.readouterr().err
    assert [step["step"] for step in log(tmp_path / "many")] == list(range(1, 53))
    assert log(tmp_path / "many")[-1]["epoch"] == 2
    assert len(list((tmp_path / "many" / "checkpoints").iterdir())) == 2


def test_training_learns_and_writes_what_it_should(manifest: Path, tmp_path: Path) -> None:
    recipe = short_recipe(manifest, tmp_path / "run", "optimizer.epochs=6", "keep_checkpoints=2", "tensorboard=true")
    path = loop.train(recipe)
    steps = log(recipe.out)
    assert [step["step"] for step in steps] == list(range(1, 19))
    terms = {"loss", "cross_entropy", "video_distillation", "text_distillation"}
    assert terms | {"learning_rate", "gradient_norm", "clips"} <= steps[0].keys()
    first, last = (sum(step["cross_entropy"] for step in part) / 3 for part in (steps[:3], steps[-3:]))
    assert last < 0.7 * first
    # A frozen teacher and a student that has just left it: the residual projector starts as the identity.
    assert steps[0]["text_distillation"] == pytest.approx(0, abs=1e-5)
    assert sorted(p.name for p in (recipe.out / "checkpoints").iterdir()) == [
        "epoch-005.safetensors",
        "epoch-006.safetensors",
    ]
    assert_equal_weights(path, recipe.out / "checkpoints" / "epoch-006.safetensors")
    assert list((recipe.out / "tensorboard").glob("events.out.tfevents.*"))
    assert sorted(p.name for p in recipe.out.iterdir() if not p.name.startswith(".")) == [
        "checkpoints",
        "fingerprint.json",
        "log.jsonl",
        "model.safetensors",
        "recipe.json",
        "tensorboard",
    ]
    with safe_open(path, "pt") as file:
        saved = set(file.keys())
        assert TrainRecipe(**json.loads(file.metadata()["recipe"])) == recipe
    with safe_open(recipe.out / "checkpoints" / "epoch-006.safetensors", "pt") as file:
        assert json.loads(file.metadata()["labels"]).keys() == set(ACTIONS)
    expected = set(load_model("puppets", student="vclip").state_dict()) | {"text.token_embedding.rows"}
    assert saved == expected  # no projector, nothing of the teacher


def test_the_run_folder_is_a_model(manifest: Path, tmp_path: Path) -> None:
    recipe = short_recipe(manifest, tmp_path / "run", "optimizer.epochs=2")
    loop.train(recipe)
    model = load_model(recipe.out)
    assert (model.name, model.options) == ("vclip", {"window": 1, "boundary": "zero"})
    prediction = Recognizer(recipe.out, ACTIONS).predict(read_manifest(manifest)[0].path)
    assert prediction.label in ACTIONS
    assert model.trained_on is not None
    assert model.trained_on.among([*read_manifest(manifest), LabeledVideo(RECIPE, "a")]) == [True] * 12 + [False]


@pytest.mark.slow(7)
def test_training_goes_on_from_a_run_and_remembers_what_it_was_trained_on(manifest: Path, tmp_path: Path) -> None:
    rows = read_manifest(manifest)
    first, other = tmp_path / "first.csv", tmp_path / "other.csv"
    write_manifest(first, [replace(row, splits=("train" if place % 4 else "test",)) for place, row in enumerate(rows)])
    write_manifest(other, rows[::4])
    once = ("optimizer.epochs=1", "optimizer.warmup_epochs=0")
    loop.train(short_recipe(first, tmp_path / "a", *once, "data.split=train"))
    a = load_model(tmp_path / "a").trained_on
    assert a is not None and a.among(rows) == [place % 4 > 0 for place in range(12)]
    changes = (f"model={tmp_path / 'a'}", "teacher=puppets", *once)
    b = load_model(loop.train(short_recipe(other, tmp_path / "b", *changes))).trained_on
    assert b is not None and b.among(rows) == [True] * 12 and b.manifests == (str(first), str(other))
    with pytest.warns(
        FrosterWarning, match=r"first\.csv has several splits \(9 train, 3 test\) and data\.split names none"
    ):
        loop.train(short_recipe(first, tmp_path / "all", *once))


def test_a_seed_gives_the_same_weights_twice_and_another_seed_others(manifest: Path, tmp_path: Path) -> None:
    same = [loop.train(short_recipe(manifest, tmp_path / name, f"data.workers={n}")) for n, name in enumerate("ab")]
    assert_equal_weights(*same)
    other = weights(loop.train(short_recipe(manifest, tmp_path / "c", "seed=1")))
    assert not torch.equal(other["visual.proj"], weights(same[0])["visual.proj"])


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("path", [RECIPE, OPEN_VCLIP], ids=["froster", "open-vclip"])
def test_a_killed_run_goes_on_to_the_same_bits(manifest: Path, tmp_path: Path, path: Path) -> None:
    changes = ("average_from=1", "precision=auto", "data.workers=1")
    whole, broken = (short_recipe(manifest, tmp_path / name, *changes, path=path) for name in ("whole", "broken"))
    killing = STOPPED.format(process="os.getpid()", signal="SIGKILL")
    process = start(killing, "train", write_recipe(broken), folder=tmp_path)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == -signal.SIGKILL, errors
    assert [path.name for path in (broken.out / "checkpoints").iterdir()] == ["epoch-001.safetensors"]
    assert not (broken.out / "model.safetensors").exists()
    with pytest.raises(FrosterError, match="holds a run already: resume it with `resume=True`"):
        loop.train(broken)
    loop.train(broken, resume=True)
    loop.train(whole)
    assert_equal_weights(whole.out / "model.safetensors", broken.out / "model.safetensors")
    ours, theirs = ([{**step, "seconds": 0} for step in log(recipe.out)] for recipe in (broken, whole))
    assert ours == theirs
    assert not list(tmp_path.rglob("*.partial*"))


@pytest.fixture(scope="module")
def damaged_manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As `manifest`, but one of the clips cannot be decoded."""
    folder = tmp_path_factory.mktemp("damaged")
    written = write_videos(folder, ACTIONS, videos=4, frames=6, size=64)
    (folder / "walking" / "1.mp4").write_bytes(b"no video at all")
    return written


def one_clip_a_process(damaged_manifest: Path, out: Path) -> list[TrainRecipe]:
    """Recipes with batches of two clips, for each objective: with two processes, the one may have no clip."""
    changes = (
        "optimizer.batch_size=2",
        "data.max_unreadable=0.1",
        "optimizer.learning_rate=1e-4",
        "optimizer.epochs=2",
    )
    return [
        short_recipe(damaged_manifest, out / path.stem, *changes, path=path)
        for path in (RECIPE, FINE_TUNED, OPEN_VCLIP)
    ]


TO_COMPARE = "optimizer.learning_rate=1e-4", "average_from=1"


def validated(folder: Path) -> str:
    """Validation on six other videos, which the processes share."""
    other = write_videos(folder / "validation", ACTIONS, videos=2, frames=6, size=64, seed=9)
    return f"validation={{manifest: {other}, every_steps: 4, select: last}}"


class TwoProcesses(NamedTuple):
    """Runs of two processes, and what they wrote to standard error."""

    run: TrainRecipe
    one_clip_a_process: list[TrainRecipe]
    taught: TrainRecipe
    errors: str


def taught_by_another_clip(manifest: Path, out: Path) -> TrainRecipe:
    torch.manual_seed(1)
    save_checkpoint(Clip(ClipConfig(32, 16, 64, 1, 1, 32, 1, 1, 24)), out / "teacher.safetensors")
    return short_recipe(manifest, out / "taught", f"teacher={out / 'teacher.safetensors'}", "optimizer.epochs=2")


@pytest.fixture(scope="module")
def two_processes(manifest: Path, damaged_manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> TwoProcesses:
    folder = tmp_path_factory.mktemp("two")
    run = short_recipe(manifest, folder / "run", *TO_COMPARE, validated(folder))
    others = one_clip_a_process(damaged_manifest, folder)
    taught = taught_by_another_clip(manifest, folder)
    return TwoProcesses(run, others, taught, in_two_processes(folder, run, *others, taught))


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
def test_two_processes_are_one(manifest: Path, tmp_path: Path, two_processes: TwoProcesses) -> None:
    """Same losses and weights as one process with the same batches, to 1e-5; three classes do not divide by two."""
    two = two_processes.run
    one = short_recipe(manifest, tmp_path / "one", *TO_COMPARE, validated(tmp_path))
    loop.train(one)
    measured = [[*map(json.loads, (r.out / "validation.jsonl").read_text().splitlines())] for r in (one, two)]
    assert [record["step"] for record in measured[0]] == [0, 4, 8, 9]
    for single, mine in zip(*measured, strict=True):
        assert mine == pytest.approx(single, abs=1e-6)
    assert two_processes.errors.count("epoch 3/3") == 1  # one of the two speaks
    ours, theirs = log(two.out), log(one.out)
    assert len(ours) == len(theirs) == 9
    for mine, single in zip(ours, theirs, strict=True):
        for name in ("loss", "cross_entropy", "video_distillation", "text_distillation"):
            assert mine[name] == pytest.approx(single[name], abs=1e-5)
        assert mine["gradient_norm"] == pytest.approx(single["gradient_norm"], rel=1e-4)
    # Adam divides by the gradient's size: where that is next to nothing, rounding decides the direction of a step.
    for file in ("model.safetensors", "checkpoints/epoch-003.safetensors"):
        a, b = weights(one.out / file), weights(two.out / file)
        assert max((a[key] - b[key]).abs().max().item() for key in a) < 2e-4


@pytest.mark.slow
def test_a_process_without_a_clip_takes_part(
    damaged_manifest: Path, tmp_path: Path, two_processes: TwoProcesses
) -> None:
    alone = one_clip_a_process(damaged_manifest, tmp_path)
    for one, two in zip(alone, two_processes.one_clip_a_process, strict=True):
        loop.train(one)
        ours, theirs = ([step["loss"] for step in log(recipe.out)] for recipe in (two, one))
        assert ours == pytest.approx(theirs, abs=1e-5)
        assert len(json.loads((two.out / "unreadable.json").read_text())) == 1


@pytest.mark.slow
def test_two_processes_fit_one_map_to_another_teachers_embeddings(
    manifest: Path, tmp_path: Path, two_processes: TwoProcesses
) -> None:
    one = taught_by_another_clip(manifest, tmp_path)
    loop.train(one)
    for mine, single in zip(log(two_processes.taught.out), log(one.out), strict=True):
        for name in ("loss", "video_distillation", "text_distillation"):
            assert mine[name] == pytest.approx(single[name], abs=1e-5)


@pytest.mark.slow
def test_two_stopped_processes_go_on_to_the_same_bits(
    manifest: Path, tmp_path: Path, two_processes: TwoProcesses
) -> None:
    broken = short_recipe(manifest, tmp_path / "broken", *TO_COMPARE, "save_every_minutes=1e-9")
    stopping = STOPPED.format(process="os.getppid()", signal="SIGTERM")  # a scheduler stops the launcher
    stopped = start(stopping, "train", write_recipe(broken), launcher=LAUNCHER, folder=tmp_path)
    _, errors = stopped.communicate(timeout=300)
    assert stopped.returncode, errors
    assert [path.name for path in (broken.out / "checkpoints").iterdir()] == ["epoch-001.safetensors"]
    assert not (broken.out / "model.safetensors").exists()
    in_two_processes(tmp_path, broken, resume=True)
    assert_equal_weights(two_processes.run.out / "model.safetensors", broken.out / "model.safetensors")


def test_accumulated_batches_and_checkpointed_activations_change_nothing(manifest: Path, tmp_path: Path) -> None:
    plain = short_recipe(manifest, tmp_path / "plain", "optimizer.learning_rate=1e-4")
    saving = short_recipe(
        manifest,
        tmp_path / "saving",
        "optimizer.learning_rate=1e-4",
        "optimizer.gradient_accumulation_steps=2",
        "activation_checkpointing=true",
    )
    for recipe in (plain, saving):
        loop.train(recipe)
    for ours, theirs in zip(log(saving.out), log(plain.out), strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"], abs=1e-5)


def test_augmented_balanced_and_mixed_clips_are_the_same_from_a_seed(manifest: Path, tmp_path: Path) -> None:
    changes = (
        "data.rand_augment=[2,9]",
        "data.random_erasing=0.5",
        "data.class_balance=sampling",
        "mixup=0.8",
        "cutmix=1",
    )
    runs = [short_recipe(manifest, tmp_path / name, "optimizer.epochs=2", *changes) for name in "ab"]
    runs.append(short_recipe(manifest, tmp_path / "plain", "optimizer.epochs=2", "data.class_balance=loss"))
    for recipe in runs:
        loop.train(recipe)
    first, second, plain = ([step["loss"] for step in log(recipe.out)] for recipe in runs)
    assert first == second and len(first) == 6
    assert first != plain


def test_tested_weights_are_averaged_and_patched(manifest: Path, tmp_path: Path) -> None:
    recipe = short_recipe(manifest, tmp_path / "run", "keep_checkpoints=3", "average_from=1", "patch_ratio=0.25")
    path = loop.train(recipe)
    epochs = [weights(recipe.out / "checkpoints" / f"epoch-{number:03d}.safetensors") for number in (2, 3)]
    expected = patch_states(load_backbone("puppets").state_dict(), average_states(epochs), 0.25)
    for key, value in weights(path).items():
        torch.testing.assert_close(value, expected[key], atol=1e-6, rtol=1e-5)


def test_open_vclip_keeps_the_text_encoder(manifest: Path, tmp_path: Path) -> None:
    recipe = short_recipe(manifest, tmp_path / "run", path=OPEN_VCLIP)
    trained = weights(loop.train(recipe))
    before = load_backbone("puppets").state_dict()
    changed = {key for key in before if not torch.equal(before[key], trained[key])}
    assert changed == {key for key in before if key.startswith("visual.")}
    assert all("interpolated" in step for step in log(recipe.out))


def test_weight_distance_holds_the_student_back(manifest: Path, tmp_path: Path) -> None:
    clip, moved = load_backbone("puppets").state_dict(), {}
    for weight in (0, 10):
        recipe = short_recipe(manifest, tmp_path / str(weight), f"weight_distance={weight}", "distillation=null")
        trained = weights(loop.train(recipe))
        moved[weight] = sum((trained[key] - clip[key]).square().sum().item() for key in clip)
    assert 0 < moved[10] < 0.5 * moved[0]


def test_loss_that_is_not_a_number_stops_with_the_last_good_checkpoint(
    manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = short_recipe(manifest, tmp_path / "run")
    monkeypatch.setattr(step, "learning_rate", lambda step, *_: 1e-4 if step < 3 else 1e30)
    with pytest.raises(
        FrosterError, match=r"at step 5 \(epoch 1.67, learning rate 1e\+30\); .*epoch-001.safetensors. A"
    ):
        loop.train(recipe)
    assert all(
        tensor.isfinite().all() for tensor in weights(recipe.out / "checkpoints" / "epoch-001.safetensors").values()
    )
    assert not (recipe.out / "model.safetensors").exists()


def test_too_little_gpu_memory_is_said_with_what_to_do(
    manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    take_step = loop.take_step

    def step_or_fail(run: loop.Run, batches: object) -> dict[str, float]:
        if run.step == 4:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return take_step(run, batches)  # type: ignore[arg-type]

    monkeypatch.setattr(loop, "take_step", step_or_fail)
    with pytest.raises(
        FrosterError, match=r"batch_size=4 in 1 micro-batches: raise optimizer.grad.*the last good.*epoch-001"
    ):
        loop.train(short_recipe(manifest, tmp_path / "run"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["freeze_clip_epochs=1"], "vclip has no new modules to train while CLIP is frozen"),
        (["student=adaptformer", "patch_ratio=0.5"], "adaptformer does not train CLIP's parameters"),
        (["student=adaptformer", "weight_distance=0.5", "distillation=null"], "adaptformer does not train CLIP's"),
        (["student=lora", "weight_distance=0.5"], "lora trains updates of CLIP's weights, not the weights: interpol"),
        (["student=lora", "merge=false", "patch_ratio=0.5"], "merge: false saves the last updates as they are: aver"),
        (["merge=false"], "merge: false has no effect: vclip has no updates to keep apart"),
        (["student=vpt", "trained=vision"], r"leave modules of vpt at their random initialization \(text.context\)"),
        (["student=x_clip", "trained=text"], r"leave modules of x_clip at their random initialization \("),
        (["student=adaptformer", "distillation.video=false"], "what it compares is frozen in adaptformer"),
        (["trained=[visual, motion]", "distillation=null"], "trained: 'motion' matches no parameter of vclip"),
        (["optimizer.factors={motion: 2}"], "optimizer.factors: 'motion' matches no trained parameter"),
        (
            ["trained=vision", "optimizer.factors={'^text': 2}"],
            "optimizer.factors: '.text' matches no trained parameter",
        ),
    ],
)
def test_what_has_no_meaning_for_the_student_is_said(
    manifest: Path, tmp_path: Path, changes: list[str], message: str
) -> None:
    with pytest.raises(FrosterError, match=message):
        loop.train(short_recipe(manifest, tmp_path / "run", *changes))


def test_a_pattern_that_matches_nothing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = TrainRecipe.read(find_recipe("puppets/adaptformer"))
    student = load_model("puppets", "adaptformer")
    monkeypatch.setattr(type(student), "trainable_params", r"^motion\.")
    with pytest.raises(FrosterError, match=r"trainable_params = '\^motion.*' matches none .* \(it adds visual\.blocks"):
        select_trainable(student, recipe)
    nothing_added = load_model("puppets", "vpt", context=0, layers=0)
    with pytest.raises(FrosterError, match="it is the frozen CLIP; take trained: all"):
        select_trainable(nothing_added, recipe)


ADAPTERS = ["student=adaptformer", "optimizer.epochs=2", "distillation=null"]


def test_adapters_name_their_clip_whatever_lies_in_the_folder(
    manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "puppets").mkdir()
    monkeypatch.chdir(tmp_path)
    path = loop.train(short_recipe(manifest, tmp_path / "run", *ADAPTERS))
    with safe_open(path, "pt") as file:
        assert json.loads(file.metadata()["clip"])["name"] == "puppets"
        assert all("adapter" in key for key in file.keys())  # noqa: SIM118
    clip, student = load_backbone("puppets").state_dict(), load_model(tmp_path / "run")
    assert all(torch.equal(value, student.state_dict()[key]) for key, value in clip.items())


def test_adapters_of_a_fine_tuned_clip_hold_it(manifest: Path, tmp_path: Path) -> None:
    first = short_recipe(manifest, tmp_path / "first", "student=frame_clip", "optimizer.epochs=2", "distillation=null")
    loop.train(first)
    path = loop.train(short_recipe(manifest, tmp_path / "second", f"model={first.out}", *ADAPTERS))
    tuned, student = weights(first.out), weights(path)
    assert all(torch.equal(value, student[key]) for key, value in tuned.items())
    assert not torch.equal(tuned["visual.proj"], load_backbone("puppets").visual.proj)
    # A third run goes on with these adapters, and holds the tuned CLIP too.
    third = weights(loop.train(short_recipe(manifest, tmp_path / "third", f"model={path.parent}", *ADAPTERS)))
    assert all(torch.equal(value, third[key]) for key, value in tuned.items())
    assert any(not torch.equal(value, third[key]) for key, value in student.items())


def test_lora_is_merged_averaged_and_patched(manifest: Path, tmp_path: Path) -> None:
    """The mean of the epochs' merged weights: not the product of the mean factors."""
    changes = ["student=lora:rank=2", "optimizer.learning_rate=0.01", "average_from=1", "patch_ratio=0.25"]
    recipe = short_recipe(manifest, tmp_path / "run", *changes)
    path = loop.train(recipe)
    epochs = [load_model(recipe.out / "checkpoints" / f"epoch-{number:03d}.safetensors") for number in (2, 3)]
    clip, merged = load_backbone("puppets").state_dict(), [epoch.merged().state_dict() for epoch in epochs]
    trained = load_model(path)
    assert (trained.name, [epoch.name for epoch in epochs]) == ("frame_clip", ["lora", "lora"])
    assert trained.trained_on is not None and list(trained.labels or {}) == sorted(ACTIONS)
    changed = set()
    for key, value in trained.state_dict().items():
        expected = 0.25 * clip[key] + 0.75 * (merged[0][key] + merged[1][key]) / 2
        torch.testing.assert_close(value, expected, atol=1e-6, rtol=1e-5)
        changed |= {key.split(".")[0]} if (value - clip[key]).abs().max() > 1e-4 else set()
    assert changed == {"visual", "text"}
    with safe_open(recipe.out / "checkpoints" / "epoch-003.safetensors", "pt") as file:
        assert all(".lora_" in key for key in file.keys())  # noqa: SIM118


def test_unmerged_lora_with_dropout_goes_on_to_the_same_bits(
    manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = ["student=lora:dropout=0.3,window=1", "merge=false", "distillation=null", "optimizer.learning_rate=0.01"]
    whole, stopped = (short_recipe(manifest, tmp_path / name, *changes) for name in ("whole", "stopped"))
    loop.train(whole)
    stop_in_epoch(stopped, 2, monkeypatch)
    assert_equal_weights(whole.out, loop.train(stopped, resume=True))
    student = load_model(whole.out)
    assert (student.name, student.options["dropout"], student.merged().name) == ("lora", 0.3, "vclip")


def test_clip_is_frozen_at_first_and_trained_later(manifest: Path, tmp_path: Path) -> None:
    recipe = short_recipe(manifest, tmp_path / "run", "student=x_clip", "freeze_clip_epochs=1")
    loop.train(recipe)
    clip = load_backbone("puppets").state_dict()
    moved = []
    for epoch in (1, 2):
        of_epoch = weights(recipe.out / "checkpoints" / f"epoch-{epoch:03d}.safetensors")
        moved.append([key for key, value in clip.items() if not torch.equal(of_epoch[key], value)])
    assert not moved[0]
    assert len(moved[1]) > 20


def test_unreadable_clips_are_skipped_and_listed(manifest: Path, tmp_path: Path) -> None:
    folder = tmp_path / "clips"
    write_videos(folder, ACTIONS, videos=4, frames=6, size=64)
    broken = folder / "walking" / "1.mp4"
    broken.write_bytes(b"no video at all")
    recipe = short_recipe(folder / "manifest.csv", tmp_path / "run", "data.max_unreadable=0.1")
    loop.train(recipe)
    listed = json.loads((recipe.out / "unreadable.json").read_text())
    assert list(listed) == [str(broken)]
    assert sum(step["clips"] for step in log(recipe.out)) == 3 * 11
    strict = short_recipe(folder / "manifest.csv", tmp_path / "strict", "data.max_unreadable=0.05")
    with pytest.raises(FrosterError, match=r"At least 1 of 12 .*\(5 %\) allows; see \S*strict/unreadable.json. The"):
        loop.train(strict)
    assert list(json.loads((strict.out / "unreadable.json").read_text())) == [str(broken)]
    write_videos(folder, ACTIONS, videos=4, frames=6, size=64)
    loop.train(strict)
    assert not (strict.out / "unreadable.json").exists()


def test_missing_clips_stop_before_anything_loads_or_are_listed(tmp_path: Path) -> None:
    folder = tmp_path / "clips"
    write_videos(folder, ACTIONS, videos=4, frames=6, size=64)
    gone = folder / "walking" / "1.mp4"
    gone.unlink()
    with pytest.raises(FrosterError, match=rf"1 of the 12 training clips .* do not exist, .* \(5 %\).*{gone}"):
        loop.train(short_recipe(folder / "manifest.csv", tmp_path / "run", "model=none.pt"))
    recipe = short_recipe(folder / "manifest.csv", tmp_path / "run", "data.max_unreadable=0.1", "optimizer.epochs=2")
    loop.train(recipe)
    assert list(json.loads((recipe.out / "unreadable.json").read_text())) == [str(gone)]


def test_clips_read_only_in_part_are_listed(tmp_path: Path) -> None:
    folder = tmp_path / "clips"
    write_videos(folder, ACTIONS, videos=4, frames=6, size=64)
    short = folder / "walking" / "1.mp4"
    pictures = decode_frames(short).frames[:4]
    short.unlink()
    short.mkdir()
    for number, picture in enumerate(pictures):
        Image.fromarray(picture).save(short / f"{number}.png")
    (short / "4.png").write_bytes(b"no picture")
    recipe = short_recipe(folder / "manifest.csv", tmp_path / "run", "optimizer.epochs=2")
    loop.train(recipe)
    listed = json.loads((recipe.out / "partial.json").read_text())
    assert list(listed) == [str(short)] and "1 of 5 images" in listed[str(short)]
    assert not (recipe.out / "unreadable.json").exists()
    assert sum(step["clips"] for step in log(recipe.out)) == 2 * 12


def test_a_run_is_not_overwritten_nor_mixed_with_another(manifest: Path, tmp_path: Path) -> None:
    recipe = short_recipe(manifest, tmp_path / "run", "optimizer.epochs=2")
    finished = loop.train(recipe)
    assert not (recipe.out / "state.pt").exists()
    with pytest.raises(FrosterError, match="holds a finished run already: choose another out"):
        loop.train(recipe)
    for changes, said in (
        (["distillation.alpha=0.5"], r"another recipe \(distillation.alpha differs\)"),
        (["distillation.alpha=0.5", "seed=1"], r"another recipe \(seed, distillation.alpha differ\)"),
    ):
        with pytest.raises(FrosterError, match=said):
            loop.train(short_recipe(manifest, tmp_path / "run", "optimizer.epochs=2", *changes), resume=True)
    assert RunFolder(recipe.out).has_model
    before = {path: path.stat().st_mtime_ns for path in recipe.out.rglob("*")}
    again = short_recipe(manifest, tmp_path / "run", "optimizer.epochs=2", "keep_checkpoints=1")
    assert loop.train(again, resume=True) == finished
    assert {path: path.stat().st_mtime_ns for path in recipe.out.rglob("*")} == before


def test_a_model_without_content_is_no_finished_run(manifest: Path, tmp_path: Path) -> None:
    recipe = short_recipe(manifest, tmp_path / "run", "optimizer.epochs=2")
    folder = RunFolder(recipe.out)
    recipe.out.mkdir()
    folder.model.touch()
    folder.state.path.touch()
    with pytest.raises(FrosterError, match="holds a run already: resume it with"):
        loop.train(recipe)
    folder.state.remove()
    assert not folder.is_finished(recipe, resume=True)
    assert loop.train(recipe, resume=True) == folder.model
    assert folder.has_model
    assert folder.is_finished(recipe, resume=True)
    load_model(folder.model)


def stop_in_epoch(recipe: TrainRecipe, epoch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Train until the first step of an epoch, counted from 1, raises `KeyboardInterrupt`."""
    take_step = loop.take_step

    def step_or_stop(run: loop.Run, batches: Iterator[Batch]) -> dict[str, float]:
        if run.step == (epoch - 1) * run.steps_per_epoch:
            raise KeyboardInterrupt
        return take_step(run, batches)

    with monkeypatch.context() as patched:
        patched.setattr(loop, "take_step", step_or_stop)
        with pytest.raises(KeyboardInterrupt):
            loop.train(recipe)


def test_a_damaged_state_goes_on_from_the_one_before_it_to_the_same_bits(
    manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = loop.train(short_recipe(manifest, tmp_path / "whole"))
    recipe = short_recipe(manifest, tmp_path / "run")
    stop_in_epoch(recipe, 3, monkeypatch)
    state = recipe.out / "state.pt"
    damaged = bytearray(state.read_bytes())
    damaged[len(damaged) // 2] ^= 4
    state.write_bytes(damaged)
    with pytest.warns(FrosterWarning, match=r"state\.pt is damaged; resuming from .*previous-state\.pt"):
        resumed = loop.train(recipe, resume=True)
    assert_equal_weights(resumed, whole)
    assert [step["step"] for step in log(recipe.out)] == list(range(1, 10))
    assert not [*recipe.out.glob("*state.pt")]


@pytest.fixture(scope="module")
def stopped_run(manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was interrupted at the first step of its second and last epoch."""
    recipe = short_recipe(manifest, tmp_path_factory.mktemp("stopped") / "run", "optimizer.epochs=2", "data.frames=1")
    with pytest.MonkeyPatch.context() as monkeypatch:
        stop_in_epoch(recipe, 2, monkeypatch)
    return recipe.out


DAMAGED_LINES = [b"null", b"[3]", b'"step"', b"3", b'{"step": "3"}', b'{"step": 3}', b"\xff{", b"", b"[" * 100_000]


@pytest.mark.parametrize("line", DAMAGED_LINES)
def test_a_damaged_line_of_the_log_is_left_out(stopped_run: Path, tmp_path: Path, line: bytes) -> None:
    folder = RunFolder(Path(shutil.copytree(stopped_run, tmp_path / "run")))
    with folder.log.open("ab") as file:
        file.write(line + b"\n")
    folder.tidy(step=3, keep=1)
    assert [step["step"] for step in log(folder.path)] == [1, 2, 3]


def test_damaged_lines_of_the_log_do_not_stop_a_resumed_run(manifest: Path, tmp_path: Path, stopped_run: Path) -> None:
    recipe = short_recipe(manifest, tmp_path / "run", "optimizer.epochs=2", "data.frames=1")
    shutil.copytree(stopped_run, recipe.out)
    with (recipe.out / "log.jsonl").open("ab") as file:
        file.writelines(line + b"\n" for line in DAMAGED_LINES)
    loop.train(recipe, resume=True)
    assert [step["step"] for step in log(recipe.out)] == list(range(1, 7))
    seconds = [step["seconds"] for step in log(recipe.out)]
    assert seconds == sorted(seconds)


def test_a_folder_has_one_run_at_a_time(manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = short_recipe(manifest, tmp_path / "run")
    stopped = STOPPED.format(process="os.getpid()", signal="SIGSTOP")
    first = start(stopped, "train", write_recipe(recipe), folder=tmp_path)
    assert os.WIFSTOPPED(os.waitpid(first.pid, os.WUNTRACED)[1])
    monkeypatch.setattr(checkpoint, "LOCK_WAIT", 0.1)
    with pytest.raises(FrosterError, match=r"Another process is training in .*run; choose another out"):
        loop.train(recipe, resume=True)
    assert first.poll() is None
    first.kill()
    first.communicate()
    with RunFolder(recipe.out).lock():
        pass


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("data.manifest=none.csv", "none.csv"),
        ("model=none.pt", "none.pt"),
        ("teacher=none.pt", "none.pt"),
        ("student=vclop", "did you mean 'vclip'"),
        ("data.labels=none.txt", "none.txt"),
        ("precision=float16", "float16 needs a CUDA GPU"),
        ("data.resize_short_side=[32,64]", "resize_short_side"),
    ],
)
def test_what_cannot_be_used_is_named_and_leaves_no_run(
    manifest: Path, tmp_path: Path, change: str, message: str
) -> None:
    with pytest.raises(FrosterError, match=message):
        loop.train(short_recipe(manifest, tmp_path / "run", change))
    assert not (tmp_path / "run").exists()


def test_puppets_whose_drawing_was_killed_are_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = tmp_path / "drawn" / "manifest.csv"
    recipe = TrainRecipe.read(RECIPE, [*SHORT, f"out={tmp_path}/run", f"data.manifest={manifest}"])
    assert recipe.data.puppets
    write_mp4, written = files.write_mp4, list[Path]()

    def write_or_stop(path: Path, *arguments: Any) -> None:
        if len(written) == 3:
            raise KeyboardInterrupt
        write_mp4(path, *arguments)
        written.append(path)

    with monkeypatch.context() as patched:
        patched.setattr(files, "write_mp4", write_or_stop)
        with pytest.raises(KeyboardInterrupt):
            loop.draw_missing_puppets(recipe)
    assert not manifest.exists()
    loop.draw_missing_puppets(recipe)
    videos = read_manifest(manifest)
    assert len(videos) == len(recipe.data.puppets.actions) * recipe.data.puppets.videos
    assert all(video.path.exists() for video in videos)
    loop.draw_missing_puppets(recipe)  # they are the recipe's, and finished

    for damaged in ("{", "null", ""):
        manifest.with_name("puppets.json").write_text(damaged)
        with pytest.raises(FrosterError, match="holds other videos than"):
            loop.draw_missing_puppets(recipe)


def test_drawn_puppets_are_drawn_when_missing_and_never_taken_for_others(tmp_path: Path) -> None:
    def recipe(name: str, videos: int) -> TrainRecipe:
        drawn = f"data.manifest={tmp_path / 'drawn' / 'manifest.csv'}"
        changes = [f"out={tmp_path / name}", drawn, f"data.puppets.videos={videos}", "optimizer.epochs=2"]
        return TrainRecipe.read(RECIPE, [*SHORT, *changes])

    loop.train(recipe("first", 1))
    assert len(read_manifest(tmp_path / "drawn" / "manifest.csv")) == 10
    loop.train(recipe("second", 1))
    (tmp_path / "third" / "videos").mkdir(parents=True)
    with pytest.raises(FrosterError, match="holds other videos than") as error:
        loop.train(recipe("third", 2))
    (typed,) = re.findall(r"type (\S+) to draw", str(error.value))
    assert typed == f"data.manifest={tmp_path}/third/videos-2/manifest.csv"
    changes = [f"out={tmp_path / 'third'}", "data.puppets.videos=2", typed, "optimizer.epochs=2"]
    loop.train(TrainRecipe.read(RECIPE, [*SHORT, *changes]))
    assert len(read_manifest(tmp_path / "third" / "videos-2" / "manifest.csv")) == 20


def test_a_run_is_not_resumed_on_other_clips_labels_or_precision(
    manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "clips.csv"
    rows = manifest.read_text().splitlines()
    rows[1:] = [f"{manifest.parent}/{line}" for line in rows[1:]]
    own.write_text("\n".join(rows) + "\n")
    recipe = short_recipe(own, tmp_path / "run", "optimizer.epochs=2", "precision=float32")
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(loop, "final_model", lambda run: signal.raise_signal(signal.SIGINT))
        loop.train(recipe)
    own.write_text("\n".join(rows[:-1]) + "\n")
    with pytest.raises(
        FrosterError, match=r"cannot be resumed with other clips \(12 rows before, 11 rows now\); restore the previous"
    ):
        loop.train(recipe, resume=True)
    own.write_text("\n".join([*rows[:-1], rows[1]]) + "\n")
    with pytest.raises(FrosterError, match=r"cannot be resumed with other clips than before; restore the previous"):
        loop.train(recipe, resume=True)
    own.write_text("\n".join(rows) + "\n")
    state = read_state(recipe.out / "state.pt")
    assert state
    state["fingerprint"]["precision"] = ("float16", "")
    write_state(recipe.out / "state.pt", state)
    with pytest.raises(FrosterError, match=r"other precision \(float16 before, float32 now\)"):
        loop.train(recipe, resume=True)


def test_a_finished_run_is_not_taken_for_one_on_other_data(manifest: Path, tmp_path: Path) -> None:
    own, labels, templates = tmp_path / "clips.csv", tmp_path / "labels.txt", tmp_path / "templates.txt"
    descriptions = tmp_path / "descriptions.json"
    contents = {
        own: "\n".join(
            ["path,label,start"]
            + [f"{video.path},{video.label}," for video in read_manifest(manifest)]  # the puppets lie elsewhere
        ),
        labels: "\n".join(ACTIONS),
        templates: "a video of {}.\n{}, a human action.",
        descriptions: json.dumps({name: f"someone is {name}" for name in ACTIONS}),
    }

    def put(changes: dict[Path, str]) -> None:
        for path, text in (contents | changes).items():
            path.write_text(f"{text}\n")

    files = [f"data.{name}={tmp_path / name}.txt" for name in ("labels", "templates")]
    recipe = short_recipe(own, tmp_path / "run", "optimizer.epochs=2", *files, f"data.descriptions={descriptions}")
    put({})
    finished = loop.train(recipe)
    rows = contents[own].splitlines()
    for changes, said in (
        ({own: "\n".join(rows[:-1])}, r"other clips \(12 rows before, 11 rows now\); restore the previous ones"),
        ({own: "\n".join([*rows[:-1], rows[1]])}, "other clips than before; restore the previous"),
        ({own: "\n".join([*rows[:-1], f"{rows[-1]}0.1"])}, "other clips than before"),
        ({labels: "\n".join([*ACTIONS, "fencing"])}, r"other labels \(3 classes before, 4 classes now\)"),
        ({descriptions: contents[descriptions].replace("someone", "nobody")}, "other labels than before"),
        ({templates: "a video of {}."}, r"other templates \(2 of them before, 1 of them now\)"),
    ):
        put(changes)
        with pytest.raises(FrosterError, match=rf"run cannot be resumed with {said}"):
            loop.train(recipe, resume=True)
    put({})
    assert loop.train(recipe, resume=True) == finished
    # Trained on a GPU, tested on a laptop: what it computed in is over.
    told = json.loads((recipe.out / "fingerprint.json").read_text())
    assert told["precision"] == ["float32", ""]
    (recipe.out / "fingerprint.json").write_text(json.dumps(told | {"precision": ["bfloat16", ""]}))
    assert loop.train(recipe, resume=True) == finished
    (recipe.out / "fingerprint.json").write_text("{")
    with pytest.raises(FrosterError, match=r"fingerprint\.json is damaged"):
        loop.train(recipe, resume=True)
    own.unlink()
    assert loop.train(recipe, resume=True) == finished
    put({own: rows[0] + "\n" + rows[1]})
    (recipe.out / "fingerprint.json").unlink()  # as runs of before left it
    assert loop.train(recipe, resume=True) == finished


def test_a_student_goes_on_without_a_teacher_or_with_a_named_one(manifest: Path, tmp_path: Path) -> None:
    first = short_recipe(manifest, tmp_path / "first", "optimizer.epochs=2")
    loop.train(first)
    again = (f"model={first.out}", "optimizer.epochs=2")
    loop.train(short_recipe(manifest, tmp_path / "alone", *again, "distillation=null"))
    with pytest.raises(FrosterError, match="Name the CLIP with teacher="):
        loop.train(short_recipe(manifest, tmp_path / "taught", *again))
    loop.train(short_recipe(manifest, tmp_path / "taught", *again, "teacher=puppets"))


def test_gradients_that_are_never_finite_stop_a_run_in_float16(
    manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The scaler lowers its scale for each gradient that is not finite; below 1 there is nothing left to hope for."""
    recipe = short_recipe(manifest, tmp_path / "run", "optimizer.epochs=30")

    accumulate = step.accumulate_gradients

    def spoil(objective: Objective, *arguments: object, **options: object) -> dict[str, torch.Tensor]:
        terms = accumulate(objective, *arguments, **options)
        for parameter in objective.parameters():
            if parameter.grad is not None:
                parameter.grad.fill_(float("nan"))
        return terms

    monkeypatch.setattr(torch.amp, "GradScaler", lambda device, enabled: GradScaler(device, init_scale=64))
    monkeypatch.setattr(step, "accumulate_gradients", spoil)
    with pytest.raises(FrosterError, match="The gradient norm is nan at step 8"):
        loop.train(recipe)
    assert [step["gradient_norm"] for step in log(recipe.out)] == [None] * 7
