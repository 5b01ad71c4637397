"""`froster data pack` as people run it: output, files, exit status, one-line errors."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from commands import froster
from froster.data.manifests import read_manifest
from numbered import write_video


def put_manifest(folder: Path, videos: int, frames: int = 12) -> None:
    for number in range(videos):
        write_video(folder / f"{number}.mp4", frames)
    lines = ["path,label", *(f"{number}.mp4,{('walk', 'run')[number % 2]}" for number in range(videos))]
    (folder / "all.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def test_what_is_printed(tmp_path: Path) -> None:
    put_manifest(tmp_path, 10)
    (tmp_path / "3.mp4").write_text("words")
    command = ("data", "pack", "all.csv", "--out", "packed", "--short-side", "32", "--workers", "0")
    result = froster(*command, cwd=tmp_path)
    assert result.returncode == 1
    assert "By the first 8, 10 videos take about" in result.stderr and "are free) and" in result.stderr
    assert result.stdout.startswith("9 videos packed: ")
    assert "1 of 10 (10.0%) not readable and left out, listed in packed/all.unreadable.csv:" in result.stdout
    assert "3.mp4: not a video" in result.stdout and "Manifest: packed/all.csv, 9 rows" in result.stdout
    rows = read_manifest(tmp_path / "packed" / "all.csv")
    assert [row.path.stem for row in rows] == [str(number) for number in range(10) if number != 3]
    result = froster(*command, "--json", cwd=tmp_path)
    report = json.loads(result.stdout)
    assert (report["reused"], report["rows"], len(report["unreadable"])) == (9, 9, 1)
    assert "9 videos packed, 9 of them before: " in froster(*command, cwd=tmp_path).stdout
    result = froster(*command, "--fps", "4", cwd=tmp_path)
    assert result.returncode == 2 and "choose another folder" in result.stderr and "Traceback" not in result.stderr
    result = froster("data", "pack", "none.csv", "--out", "packed", cwd=tmp_path)
    assert result.returncode == 2 and result.stderr.count("\n") == 1 and "none.csv" in result.stderr


@pytest.mark.slow(12)
def test_a_killed_command_resumes(tmp_path: Path) -> None:
    put_manifest(tmp_path, 12, frames=120)
    command = [sys.executable, "-m", "froster", "data", "pack", "all.csv", "--out", "packed", "--workers", "1"]
    journal = tmp_path / "packed" / "packed.jsonl"
    for kill in (signal.SIGKILL, signal.SIGINT):
        before = len(journal.read_bytes().splitlines()) if journal.exists() else 0
        run = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True, start_new_session=True)
        while not journal.exists() or len(journal.read_bytes().splitlines()) < before + 2 + (not before):
            assert run.poll() is None
            time.sleep(0.02)
        os.kill(run.pid, kill)
        _, errors = run.communicate(timeout=60)
        if kill == signal.SIGINT:
            assert run.returncode == 130 and "the same command resumes" in errors and "Traceback" not in errors
        assert not (tmp_path / "packed" / "all.csv").exists()
    done = len(journal.read_bytes().splitlines()) - 1
    assert 4 <= done < 12
    result = froster("data", "pack", "all.csv", "--out", "packed", "--workers", "0", cwd=tmp_path)
    assert result.returncode == 0 and f"12 videos packed, {done} of them before" in result.stdout
    assert len(list((tmp_path / "packed" / "videos").iterdir())) == 12
