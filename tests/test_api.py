"""The public functions: they are there, they do what the command line does, and a saved model is whole."""

import dataclasses
import inspect
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import froster
from froster.backbones.build import build_backbone
from froster.checkpoints.checkpoint import BackboneSource
from froster.checkpoints.own import backbone_digest
from froster.data.manifests import read_manifest, write_manifest
from froster.data.puppets import write_videos
from froster.provenance import ClipSampling
from froster.settings import InferenceOptions, InferenceSettings
from running import run

LABELS = ["juggling balls", "walking", "bowing"]
RECIPE = {
    "model": "puppets",
    "student": "vclip",
    "data": {"frames": 2, "resize_short_side": [64, 72], "workers": 0},
    "optimizer": {"epochs": 2, "batch_size": 4, "learning_rate": 1e-4},
    "precision": "float32",
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`manifest.csv` of two videos of each action."""
    folder = tmp_path_factory.mktemp("data")
    write_videos(folder, LABELS, videos=2, frames=16, size=64, seed=40)
    return folder


def test_every_public_name_exists_and_says_what_it_does() -> None:
    for name in froster.__all__:
        public = getattr(froster, name)
        assert inspect.getdoc(public), name
        if inspect.isfunction(public):
            assert "Raises" in (inspect.getdoc(public) or "") or name in ("list_models", "find_segments"), name


def test_options_are_the_fields_of_the_settings() -> None:
    fields = {field.name: field.type for field in dataclasses.fields(InferenceSettings)}
    assert InferenceOptions.__annotations__ == fields
    assert list(InferenceOptions.__annotations__) == list(fields)


@pytest.mark.slow
def test_the_example_of_the_reference(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (Path(__file__).parents[1] / "docs" / "api.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"^```python\n(.*?)^```", page, flags=re.MULTILINE | re.DOTALL)
    monkeypatch.chdir(tmp_path)
    Path("clip.mp4").write_bytes(next(data.glob("walking/*.mp4")).read_bytes())
    Path("recipe.yaml").write_text(yaml.safe_dump(RECIPE | {"out": "run"}))
    for name in ("clips.csv", "test.csv"):
        write_manifest(tmp_path / name, read_manifest(data / "manifest.csv"))
    found: dict[str, Any] = {}
    exec(code, found)

    out, embed_dim = found["out"], found["model"].config.embed_dim
    assert (out.logits.shape, out.frame_embeddings.shape) == ((3, 2), (3, 8, embed_dim))
    assert found["prediction"].similarities.keys() == {"walking", "running"}
    assert found["run"] == Path("run")
    report = found["report"]
    assert report.parts["all"].clips == 6
    assert report.settings.frames == 2  # as it was trained
    assert f"{100 * report.parts['all'].top1:.1f}" in Path("report.html").read_text(encoding="utf-8")
    assert [look.maps.shape[0] for look in found["explanation"].looks] == [2, 2]
    assert Path("look.png").stat().st_size > 1000
    saved = froster.evaluate("model.safetensors", "test.csv", views=1, precision="float32")
    assert saved.parts == report.parts


def test_training_from_a_mapping_gives_the_weights_of_the_command_line(data: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(RECIPE | {"out": "unused"}))
    manifest = data / "manifest.csv"
    ran = run("train", recipe, f"out={tmp_path / 'typed'}", f"data.manifest={manifest}", "optimizer.epochs=1")
    assert ran.status == 0, ran.stderr
    called = froster.train(
        RECIPE, out=tmp_path / "called", data={"manifest": manifest}, optimizer={"epochs": 1}, show=False
    )
    typed, own = froster.load_model(tmp_path / "typed"), froster.load_model(called)
    assert all(torch.equal(value, own.state_dict()[name]) for name, value in typed.state_dict().items())
    assert (typed.labels, typed.templates, typed.clip_sampling) == (own.labels, own.templates, own.clip_sampling)


def test_recipes_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(froster.FrosterError, match=r"The recipe: data\.manifest"):
        froster.train(RECIPE, out=tmp_path)
    with pytest.raises(froster.FrosterError, match="unknown key 'optimzer', did you mean 'optimizer'"):
        froster.train(RECIPE, out=tmp_path, data={"manifest": "a.csv"}, optimzer={"epochs": 1})
    with pytest.raises(froster.FrosterError, match="did you mean 'puppets/"):
        froster.train("puppets/frostr", out=tmp_path)


def test_evaluate_and_the_command_give_equal_results(data: Path) -> None:
    manifest, options = data / "manifest.csv", ("--views", 1, "--frames", 4, "--precision", "float32")
    report = froster.evaluate("puppets", manifest, views=1, frames=4, precision="float32")
    ran = run("evaluate", "puppets", "--data", manifest, "--json", *options)
    assert json.loads(ran.stdout) == json.loads(json.dumps(report.to_json()))
    halves = froster.evaluate(
        "puppets", manifest, base=LABELS[:2], novel=LABELS[2:], views=1, frames=4, precision="float32"
    )
    ran = run(
        "evaluate",
        "puppets",
        "--data",
        manifest,
        "--base",
        ", ".join(LABELS[:2]),
        "--novel",
        "bowing,",
        "--json",
        *options,
    )
    assert json.loads(ran.stdout) == json.loads(json.dumps(halves.to_json()))


def test_report_and_the_command_write_the_same_page(data: Path, tmp_path: Path) -> None:
    manifest, options = data / "manifest.csv", {"views": 1, "frames": 2, "precision": "float32"}
    returned = froster.report("puppets", manifest, tmp_path / "called.html", mistakes=1, **options)  # type: ignore[arg-type]
    assert returned == froster.evaluate("puppets", manifest, **options)  # type: ignore[arg-type]
    typed = [word for key, value in options.items() for word in (f"--{key}", value)]
    ran = run("report", "puppets", "--data", manifest, "--mistakes", 1, "--out", tmp_path / "typed.html", *typed)
    assert ran.status == 0, ran.stderr
    assert (tmp_path / "typed.html").read_bytes() == (tmp_path / "called.html").read_bytes()


def test_explain_and_the_command_draw_the_same_picture(data: Path, tmp_path: Path) -> None:
    video = next(data.glob("walking/*.mp4"))
    explanation = froster.explain("puppets", video, "walking", LABELS, kind="gradient", frames=2)
    explanation.save(tmp_path / "called.png", animation=False)
    command = ("explain", video, "--label", "walking", "--labels", ", ".join(LABELS), "--models", "puppets")
    ran = run(*command, "--kind", "gradient", "--frames", 2, "--no-animation", "--out", tmp_path / "typed.png")
    assert ran.status == 0, ran.stderr
    assert ran.stdout == f"puppets: walking {explanation.looks[0].score}\n"
    assert (tmp_path / "typed.png").read_bytes() == (tmp_path / "called.png").read_bytes()


def test_a_saved_model_is_whole(tmp_path: Path) -> None:
    torch.manual_seed(3)
    model = froster.load_model("puppets", "adaptformer")
    with torch.no_grad():
        for parameter in model.trainable_parameters().values():
            parameter += 0.1 * torch.randn_like(parameter)
    model.labels = {"walking": "on two feet", "跳舞": ""}
    model.templates, model.clip_sampling = ("a drawing of {}.",), ClipSampling(frames=4, views=2, sampling="release")
    clip = build_backbone(model.config)
    clip.load_state_dict({name: model.state_dict()[name] for name in clip.state_dict()})
    model.backbone_source = BackboneSource("not on this machine", backbone_digest(clip.state_dict(), model.config))
    path = tmp_path / "whole.safetensors"
    froster.save_model(model, path)
    loaded = froster.load_model(path)
    assert (loaded.name, loaded.options, loaded.labels) == (model.name, model.options, model.labels)
    assert (loaded.templates, loaded.clip_sampling) == (model.templates, model.clip_sampling)
    assert loaded.state_dict().keys() == model.state_dict().keys()
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in loaded.state_dict().items())
    for wrong in (tmp_path / "model.pt", tmp_path):
        with pytest.raises(froster.FrosterError, match=r"must end in \.safetensors"):
            froster.save_model(model, wrong)


def test_a_runtime_is_shared_and_has_its_settings(data: Path) -> None:
    settings = froster.InferenceSettings(views=1, frames=2, precision="float32")
    runtime = froster.Runtime("puppets", settings)
    rows = read_manifest(data / "manifest.csv")
    report = froster.evaluate(runtime, rows, LABELS)
    assert report.parts == froster.evaluate("puppets", rows, LABELS, views=1, frames=2, precision="float32").parts
    assert froster.Recognizer(runtime, LABELS).model is runtime.model
    with pytest.raises(froster.FrosterError, match="has its settings already"):
        froster.evaluate(runtime, rows, LABELS, views=2)


EVALUATION = """
import sys
import torch
from froster.evaluation import read_videos, score_model
from froster.processes import process_index
from froster.settings import InferenceSettings
settings = InferenceSettings(views=3, frames=16, precision="float32", device="cpu")
rows, manifest = read_videos("manifest.csv", None)
scored = score_model("puppets", rows, None, manifest, settings)
found = scored.report.to_json(), scored.parts["all"].scores, scored.parts["all"].indices
torch.save(found, f"{sys.argv[1]}-{process_index()}.pt")
"""


@pytest.mark.slow
def test_two_processes_evaluate_as_one(data: Path, tmp_path: Path) -> None:
    """Three batches of two videos: two of them go to the first process, one to the second."""
    program = tmp_path / "program.py"
    program.write_text(EVALUATION)
    launcher = ("torch.distributed.run", "--standalone", "--nproc_per_node", "2")
    for name, command in (("two", ["-m", *launcher, program]), ("one", [program])):
        ended = subprocess.run(
            [sys.executable, *map(str, command), str(tmp_path / name)],
            cwd=data,
            capture_output=True,
            text=True,
            timeout=600,
        )
        assert ended.returncode == 0, ended.stderr
    report, scores, indices = torch.load(tmp_path / "one-0.pt")
    assert indices == list(range(6))
    for rank in (0, 1):
        found: tuple[dict[str, Any], torch.Tensor, list[int]] = torch.load(tmp_path / f"two-{rank}.pt")
        assert (found[0], found[2]) == (report, indices)
        assert torch.equal(found[1], scores)  # to the bit
