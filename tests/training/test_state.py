from pathlib import Path

import numpy as np
import pytest
import torch

from froster.errors import FrosterError, FrosterWarning
from froster.training.state import StateFile


def state(step: int) -> dict[str, object]:
    weights = torch.randn(64, 64, generator=torch.Generator().manual_seed(step))
    return {"step": step, "student": {"weight": weights}, "recipe": "{}"}


@pytest.fixture
def saved(tmp_path: Path) -> StateFile:
    """Two states, one after the other."""
    file = StateFile(tmp_path / "state.pt")
    file.save(state(1))
    file.save(state(2))
    return file


def test_a_state_is_what_was_saved(saved: StateFile) -> None:
    loaded = StateFile(saved.path).load()
    assert loaded and loaded["step"] == 2
    assert torch.equal(loaded["student"]["weight"], state(2)["student"]["weight"])  # type: ignore[index]


def test_every_flipped_bit_and_every_cut_is_found(saved: StateFile) -> None:
    whole = saved.path.read_bytes()
    rng = np.random.default_rng(0)
    places = {0, len(whole) - 1, len(whole) // 2, *rng.integers(len(whole), size=100).tolist()}
    damages = [whole[:place] + bytes([whole[place] ^ 1 << place % 8]) + whole[place + 1 :] for place in places]
    damages += [whole[:place] for place in places] + [whole + b"\0", whole[1:], b"null", b""]
    for damaged in damages:
        saved.path.write_bytes(damaged)
        with pytest.warns(FrosterWarning, match=r"state\.pt is damaged; .*previous-state\.pt"):
            loaded = StateFile(saved.path).load()
        assert loaded and loaded["step"] == 1


def test_a_damaged_state_does_not_displace_the_previous_one(saved: StateFile) -> None:
    saved.path.write_bytes(b"damaged")
    resumed = StateFile(saved.path)
    with pytest.warns(FrosterWarning):
        resumed.load()
    resumed.save(state(3))
    saved.path.write_bytes(b"damaged once more")
    with pytest.warns(FrosterWarning):
        loaded = StateFile(saved.path).load()
    assert loaded and loaded["step"] == 1


def test_killed_between_the_two_renames(saved: StateFile) -> None:
    saved.path.replace(saved.previous)
    loaded = StateFile(saved.path).load()
    assert loaded and loaded["step"] == 2


def test_nothing_undamaged_says_which_files_and_what_to_do(saved: StateFile) -> None:
    saved.path.write_bytes(b"")
    saved.previous.write_bytes(b"")
    with pytest.raises(
        FrosterError, match=r"/state\.pt is damaged .*previous-state\.pt; start a new run with another out="
    ):
        StateFile(saved.path).load()
    saved.previous.unlink()
    with pytest.raises(FrosterError, match=r"/state\.pt is damaged and cannot be resumed from; start a new run"):
        StateFile(saved.path).load()
    saved.path.unlink()
    assert StateFile(saved.path).load() is None


def test_a_finished_run_leaves_neither(saved: StateFile) -> None:
    saved.remove()
    assert not [*saved.path.parent.iterdir()]
