import errno
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from froster.errors import FrosterError
from froster.files import WriteError, replace_when_written, write_error_number, writing

LIMIT = 100_000  # bytes that a file may have

# Every library that writes files, under a limit of their size, as on a full disk.
WRITERS = {
    "checkpoint": "safetensors.torch.save_file({'a': torch.zeros(200_000)}, temporary)",
    "state": "write_state(temporary, {'a': torch.zeros(200_000), 'b': [torch.zeros(99)] * 99})",
    "text": "temporary.write_text('a' * 200_000)",
    "picture": "Image.fromarray(noise[0]).save(temporary)",
    "video": "write_mp4(path, noise, 16)",
}
PROGRAM = """
import resource, sys
from pathlib import Path
import numpy as np, safetensors.torch, torch
from PIL import Image
from froster.data.puppets.files import write_mp4
from froster.files import WriteError, replace_when_written
from froster.training.state import write_state

noise = np.random.default_rng(0).integers(255, size=(8, 256, 256, 3), dtype=np.uint8)
resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))
for name, writer in {writers}.items():
    path = Path(sys.argv[1]) / f"{{name}}.png"
    try:
        if name == "video":
            exec(writer)
            continue
        with replace_when_written(path) as temporary:
            exec(writer)
    except WriteError as error:
        print(error)
"""


def test_a_file_that_grows_too_large_is_named_and_leaves_the_old_one(tmp_path: Path) -> None:
    for name in WRITERS:
        (tmp_path / f"{name}.png").write_text("old")
    program = textwrap.dedent(PROGRAM).format(limit=LIMIT, writers=WRITERS)
    ran = subprocess.run([sys.executable, "-c", program, tmp_path], capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, ran.stderr
    names = [tmp_path / f"{name}.png" for name in WRITERS]
    assert ran.stdout.splitlines()[: len(names)] == [f"Cannot write {name}: File too large." for name in names]
    assert sorted(tmp_path.iterdir()) == sorted(names)
    assert {path.read_text() for path in names} == {"old"}


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read_only(path: Path, *arguments: object, **options: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    monkeypatch.setattr(Path, "mkdir", read_only)
    with (
        pytest.raises(FrosterError, match=r"Cannot write .*a\.txt: Read-only file system\.$"),
        replace_when_written(tmp_path / "new" / "a.txt") as temporary,
    ):
        temporary.write_text("a")


def test_other_errors_are_let_through(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no digits"), replace_when_written(tmp_path / "a"):
        raise ValueError("no digits")
    with pytest.raises(FrosterError, match="not a number"), writing(tmp_path / "a"):
        raise FrosterError("not a number")
    assert not [*tmp_path.iterdir()]


def test_the_reason_is_found_behind_the_errors_of_libraries() -> None:
    assert write_error_number(OSError(errno.ENOSPC, "No space left on device")) == errno.ENOSPC
    assert write_error_number(RuntimeError("I/O error: No space left on device (os error 28)")) == errno.ENOSPC
    try:
        try:
            raise OSError(errno.EFBIG, "File too large")
        except OSError:
            raise RuntimeError("unexpected pos 576 vs 534")  # noqa: B904 (as PyTorch does)
    except RuntimeError as error:
        assert write_error_number(error) == errno.EFBIG
    assert write_error_number(FileNotFoundError(errno.ENOENT, "No such file")) is None


def test_a_write_error_is_an_error_of_the_system_too() -> None:
    error = WriteError(errno.ENOSPC, "No space left on device", "a.txt")
    assert isinstance(error, OSError) and error.errno == errno.ENOSPC
    assert str(error) == "Cannot write a.txt: No space left on device."
