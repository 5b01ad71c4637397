"""Every command of docs/data.md runs, on drawn puppets and small stand-ins in place of the real data."""

import re
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from commands import run_lines
from froster.backbones.clip import Clip, ClipConfig
from froster.checkpoints.openai import RELEASES, mark_official
from froster.data.datasets import DATASETS
from froster.data.manifests import read_manifest, write_manifest
from froster.data.puppets import write_videos
from standins import STANDINS, UCF_CLASSES, put_text

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "data.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", PAGE, flags=re.MULTILINE | re.DOTALL))


def run(section: str, folder: Path) -> str:
    commands = "\n".join(re.findall(r"^```bash\n(.*?)^```", SECTIONS[section], flags=re.MULTILINE | re.DOTALL))
    assert commands.startswith("froster ")
    if not (folder / "recipes").exists():
        (folder / "recipes").symlink_to(ROOT / "recipes")
    return run_lines(commands, folder)


@pytest.fixture
def small_release(own_cache: Path) -> None:
    """A tiny random CLIP where `vit-b-16` is looked for."""
    torch.manual_seed(0)
    state = {}
    for key, value in Clip(ClipConfig(32, 16, 64, 1, 1, 64, 1, 1, 32)).state_dict().items():
        key = key.removeprefix("text.").replace("blocks.", "transformer.resblocks.", 1)
        state[key.replace("in_proj.", "in_proj_").replace("mlp.0", "mlp.c_fc").replace("mlp.2", "mlp.c_proj")] = value
    path = own_cache / "clip" / "ViT-B-16.pt"
    path.parent.mkdir(parents=True)
    torch.save(state, path)
    mark_official(path, RELEASES["vit-b-16"][0])


@pytest.mark.slow
@pytest.mark.usefixtures("short_training")
def test_own_clips(tmp_path: Path, small_release: None) -> None:
    write_videos(tmp_path / "clips", ["walking", "kicking"], videos=5, frames=8, size=32)
    run("Your own clips", tmp_path)
    splits = Counter((row.label, *row.splits) for row in read_manifest(tmp_path / "manifests" / "clips.csv"))
    assert splits == {(label, split): n for label in ("walking", "kicking") for split, n in (("train", 4), ("test", 1))}
    assert (tmp_path / "runs" / "clips" / "report.json").is_file()
    assert (tmp_path / "runs" / "drawn" / "model.safetensors").is_file()
    assert {row.label for row in read_manifest(tmp_path / "manifests" / "drawn.csv")} == {
        "walking",
        "kicking",
        "fishing",
    }


@pytest.mark.slow
@pytest.mark.usefixtures("short_training")
def test_pack(tmp_path: Path, small_release: None) -> None:
    write_videos(tmp_path / "clips", ["walking", "kicking"], videos=3, frames=8, size=32)
    rows = [
        replace(row, splits=("test" if row.path.stem == "0" else "train",))
        for row in read_manifest(tmp_path / "clips" / "manifest.csv")
    ]
    write_manifest(tmp_path / "manifests" / "clips.csv", rows)
    run("Pack a data set", tmp_path)
    for folder in ("packed", "packed-jpeg"):
        packed = read_manifest(tmp_path / folder / "clips.csv")
        assert [(row.label, row.splits) for row in packed] == [(row.label, row.splits) for row in rows]
        assert all(row.path.is_file() for row in packed)
    assert (tmp_path / "runs" / "packed" / "model.safetensors").is_file()


@pytest.mark.parametrize(
    ("section", "layout", "place"),
    [
        ("UCF-101", "ucf_official", "."),
        ("HMDB-51", "hmdb_official", "."),
        ("Kinetics-400 and Kinetics-600", "kinetics_cvdf", "k400"),
        ("Something-Something V2", "ssv2", "."),
    ],
)
def test_data_sets(tmp_path: Path, small_release: None, section: str, layout: str, place: str) -> None:
    standin = STANDINS[layout](tmp_path / place)
    run(section, tmp_path)
    rows = read_manifest(tmp_path / "manifests" / f"{standin.dataset}.csv")
    assert len(rows) == len(standin.labels)


def test_what_check_leaves_and_published_lists(tmp_path: Path) -> None:
    standin = STANDINS["ucf_official"](tmp_path)
    run("What `froster data check` does", tmp_path)
    assert {path.name for path in (tmp_path / "manifests").iterdir()} == {"ucf-101.csv", "ucf-101.decoded.jsonl"}
    shutil.rmtree(tmp_path / "ucfTrainTestlist")
    put_text(tmp_path / "ucf_101_base_labels.csv", ["id,name", *(f"{i},{name}" for i, name in enumerate(UCF_CLASSES))])
    names = [f"{Path(video).name} {list(UCF_CLASSES.values()).index(label)}" for video, label in standin.labels.items()]
    put_text(tmp_path / "fs_base_s1_train.txt", names)
    run("Published lists", tmp_path)
    assert {row.label for row in read_manifest(tmp_path / "manifests" / "ucf-s1.csv")} == set(UCF_CLASSES.values())


def test_the_numbers_are_the_data_sets() -> None:
    for name, section in (("ucf-101", "UCF-101"), ("hmdb-51", "HMDB-51"), ("ssv2", "Something-Something V2")):
        of = DATASETS[name]
        assert f"{of.videos:,} videos of {len(of.classes)} classes" in SECTIONS[section]
    assert all(f"{number:,}" in SECTIONS["Something-Something V2"] for number in DATASETS["ssv2"].split_videos.values())


def test_links_lead_somewhere() -> None:
    local = [link for link in re.findall(r"\]\(([^)]+)\)", PAGE) if not link.startswith("http")]
    assert len(local) >= 2
    assert [link for link in local if not (ROOT / "docs" / link).exists()] == []
