"""Every command of the README runs: `make` lines in CI, the others here, with small files in place of the user's."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from commands import run_lines
from froster.backbones.clip import Clip, ClipConfig
from froster.checkpoints.openai import RELEASES, mark_official
from froster.data.puppets import write_videos
from froster.data.vocabularies import read_vocabulary
from standins import put_text, put_video

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
TINY = ClipConfig(32, 16, 64, 1, 1, 64, 1, 1, 32)


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)


def released_names(clip: Clip, prefix: str = "") -> dict[str, torch.Tensor]:
    renames = (("text.", ""), ("blocks.", "transformer.resblocks."), ("in_proj.", "in_proj_"))
    state = {}
    for key, value in clip.state_dict().items():
        for ours, theirs in renames:
            key = key.replace(ours, theirs, 1)
        state[prefix + key.replace("mlp.0", "mlp.c_fc").replace("mlp.2", "mlp.c_proj")] = value
    return state


def prepare(folder: Path, cache: Path) -> None:
    """A clip, a folder of clips, labels, and small random checkpoints where the README names real ones."""
    write_videos(folder / "videos", ["walking", "running"], videos=1, frames=12, size=64)
    (folder / "clip.mp4").write_bytes((folder / "videos" / "running" / "0.mp4").read_bytes())
    for action in ("running", "walking"):
        for number in range(2):
            put_video(folder / "my-clips" / action / f"{number}.mp4", frames=12)
    make_hmdb(folder / "HMDB-51")
    (folder / "labels.json").write_text(json.dumps({"running": "moving fast on foot", "fencing": ""}))
    torch.manual_seed(0)
    torch.save({"model_state": released_names(Clip(TINY), "model.")}, folder / "froster.pyth")
    (cache / "clip").mkdir(parents=True)
    torch.save(released_names(Clip(TINY)), cache / "clip" / "ViT-B-16.pt")
    mark_official(cache / "clip" / "ViT-B-16.pt", RELEASES["vit-b-16"][0])
    (folder / "recipes").symlink_to(ROOT / "recipes")
    (folder / ".venv").symlink_to(sys.prefix)


def make_hmdb(folder: Path) -> None:
    """A video to train and one to test of each class in every split, as the archives unpack."""
    for name in read_vocabulary("hmdb-51"):
        of_class = name.replace(" ", "_")
        for part in (1, 2):  # as the lists call training and testing
            put_video(folder / of_class / f"{name}_{part}.avi", frames=3 + part)
        for split in (1, 2, 3):
            lists = folder / "testTrainMulti_7030_splits" / f"{of_class}_test_split{split}.txt"
            put_text(lists, [f"{name}_{part}.avi {part} " for part in (1, 2)])


@pytest.mark.slow(60)
@pytest.mark.usefixtures("short_training")
def test_commands(tmp_path: Path, own_cache: Path) -> None:
    prepare(tmp_path, own_cache)
    # A server does not end: tests/serve run it. The shell's first two lines: see the next test.
    elsewhere = ("make ", "froster serve ", ". ")
    lines = [line for block in blocks("bash") for line in block.splitlines() if not line.startswith(elsewhere)]
    assert sum(line.startswith("froster ") for line in lines) >= 20
    run_lines("\n".join(lines), tmp_path)
    assert len((tmp_path / "predictions.jsonl").read_text().splitlines()) == 2
    for picture in ("clip.png", "explain.png", "explain.gif", "timeline.png"):
        assert (tmp_path / picture).stat().st_size > 1000
    assert "<html" in (tmp_path / "report.html").read_text(encoding="utf-8")
    assert (tmp_path / "drawn" / "manifest.csv").is_file()
    assert (tmp_path / "runs" / "try" / "clip.safetensors").is_file()
    assert (tmp_path / "runs" / "few-clips" / "model.safetensors").is_file()
    assert (tmp_path / "patched.safetensors").is_file()
    row = json.loads((tmp_path / "runs" / "base-to-novel" / "report.json").read_text(encoding="utf-8"))
    assert row["scores"]["HMDB-51"]["hm"]["n"] == 3
    assert [(n["part"], n["clips"], n["trained_clips"]) for n in row["results"][:2]] == [
        ("base", 26, 26),
        ("novel", 25, 26),
    ]


@pytest.mark.slow
def test_the_first_command_in_a_shell(tmp_path: Path, own_cache: Path) -> None:
    prepare(tmp_path, own_cache)
    result = subprocess.run(
        ["bash", "-euo", "pipefail"], input=blocks("bash")[1], capture_output=True, text=True, cwd=tmp_path, timeout=300
    )
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["predictions"][0]["label"] in ("juggling", "brushing teeth", "fencing")


def test_make_commands_are_the_ones_that_ci_runs() -> None:
    commands = [line.split("#")[0].strip() for block in blocks("bash") for line in block.splitlines() if "make" in line]
    assert commands == ["make demo", "make test"]
    ci = (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    assert set(commands) <= set(ci)


@pytest.mark.slow
def test_python(tmp_path: Path, own_cache: Path) -> None:
    prepare(tmp_path, own_cache)
    (code,) = blocks("python")
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, timeout=300)
    assert result.returncode == 0, result.stderr
    assert result.stdout.split()[0] in ("juggling", "brushing", "fencing")


def test_links_lead_somewhere() -> None:
    local = [link for link in re.findall(r"\]\(([^)]+)\)", README) if not link.startswith("http")]
    assert len(local) >= 4
    assert [link for link in local if not (ROOT / link.partition("#")[0]).exists()] == []


def test_results_page_has_the_reports_numbers() -> None:
    page, report = ((ROOT / "docs" / name).read_text(encoding="utf-8") for name in ("results.md", "results/results.md"))
    section = page.split("## Few classes")[1].split("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("|")]
    assert len(rows) > 10
    assert [row for row in rows if row not in report] == []
