from dataclasses import replace
from pathlib import Path

import pytest

from froster.data.manifests import read_manifest, write_manifest
from froster.data.puppets import write_videos

ACTIONS = ("fishing", "kicking", "painting a wall", "running", "skipping rope", "waving hello")


@pytest.fixture(scope="session")
def manifests(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `mine.csv`: puppets with the splits train and test, five and two videos of each of six actions."""
    folder = tmp_path_factory.mktemp("data")
    rows = []
    for split, videos, seed in (("train", 5, 10), ("test", 2, 1000)):
        drawn = write_videos(folder / split, ACTIONS, videos, frames=10, size=64, seed=seed)
        rows += [replace(video, splits=(split,)) for video in read_manifest(drawn)]
    write_manifest(folder / "manifests" / "mine.csv", rows)
    return folder / "manifests"
