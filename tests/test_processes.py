"""Several processes as a launcher starts them."""

import subprocess
import sys
from pathlib import Path

import pytest

from froster.errors import FrosterError
from froster.processes import failing_together

PROGRAM = """
import sys
from froster.errors import VideoError
from froster.processes import failing_together, gather_parts, process_index

said = []
try:
    with failing_together():
        if process_index() == 1:
            raise VideoError("clip.mp4", "it is empty")
except Exception as error:
    said.append(f"{type(error).__name__}: {error}")
with failing_together():
    said.append("both go on")
of_all = gather_parts(said)
if process_index() == 0:
    with open(sys.argv[1], "w") as file:
        file.write(repr(of_all))
"""


@pytest.mark.slow
def test_an_error_of_one_process_is_one_of_all(tmp_path: Path) -> None:
    program, said = tmp_path / "program.py", tmp_path / "said"
    program.write_text(PROGRAM)
    launcher = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2")
    ended = subprocess.run([*launcher, program, said], capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stderr
    assert said.read_text() == repr(
        [
            ["FrosterError: Process 1 failed: clip.mp4: it is empty.", "both go on"],
            ["VideoError: clip.mp4: it is empty.", "both go on"],
        ]
    )


def test_a_single_process_raises_its_own_error() -> None:
    with pytest.raises(FrosterError, match=r"^wrong$"), failing_together():
        raise FrosterError("wrong")
