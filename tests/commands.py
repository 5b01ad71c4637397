"""Run `froster ...` as a shell would: within this process, which starts no Python, or in one of its own."""

import os
import shlex
import subprocess
import sys
import tempfile
import traceback
import warnings
from collections.abc import Iterator, Mapping
from contextlib import chdir, contextmanager
from pathlib import Path
from unittest.mock import patch

FROSTER = Path(sys.executable).with_name("froster")


@contextmanager
def redirected(name: str, descriptor: int) -> Iterator[Path]:
    """Send `sys.<name>` and the descriptor beneath it, which C libraries write to, to a file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        getattr(sys, name).flush()
        kept = os.dup(descriptor)
        with path.open("wb") as file:
            os.dup2(file.fileno(), descriptor)
        try:
            with (
                open(descriptor, "w", encoding="utf-8", closefd=False) as stream,
                patch.object(sys, name, stream),
            ):
                yield path
        finally:
            os.dup2(kept, descriptor)
            os.close(kept)


def froster(
    *arguments: object, cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """`froster ARGUMENTS` within this process; `env` is added to the environment."""
    from froster_video import main

    command, status = ["froster", *map(str, arguments)], 0
    with (
        chdir(cwd or Path.cwd()),
        patch.dict(os.environ, env or {}),
        patch.object(sys, "argv", command),
        warnings.catch_warnings(),
        redirected("stdout", 1) as stdout,
        redirected("stderr", 2) as stderr,
    ):
        warnings.resetwarnings()
        try:
            main()
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else int(end.code is not None)
        except BaseException:
            traceback.print_exc()
            status = 1
        sys.stdout.flush()
        sys.stderr.flush()
        output, errors = (path.read_text(encoding="utf-8", errors="backslashreplace") for path in (stdout, stderr))
    return subprocess.CompletedProcess(command, status, output, errors)


def froster_process(
    *arguments: object, cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """`froster ARGUMENTS` in a process of its own: what `froster` above cannot show of starting and ending."""
    command = [FROSTER, *map(str, arguments)]
    environment = {**os.environ, **(env or {})}
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=environment, timeout=300)


def run_lines(script: str, cwd: Path, env: Mapping[str, str] | None = None) -> str:
    """Run a page's `froster` lines as `bash -e` in `cwd` would, within this process; returns standard output.

    Lines may hold quotes, comments, `*`, `> FILE` and end in a backslash; anything else of the shell is refused.
    """
    printed = []
    for line in script.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars="<>|;&()$`")
        lexer.whitespace_split = True
        words = list(lexer)
        if not words:
            continue
        target = words[-1] if words[-2:-1] == [">"] else None
        name, *arguments = words[:-2] if target else words
        assert name == "froster" and not any(set(word) <= set("<>|;&()$`") for word in arguments), line
        arguments = [found for word in arguments for found in expanded(word, cwd)]
        result = froster(*arguments, cwd=cwd, env=env)
        assert result.returncode == 0, f"{line}\n{result.stderr}"
        if target:
            (cwd / target).write_text(result.stdout, encoding="utf-8")
        else:
            printed.append(result.stdout)
    return "".join(printed)


def expanded(word: str, cwd: Path) -> list[str]:
    """The files that a word with `*` matches; any other word as it is."""
    return sorted(path.relative_to(cwd).as_posix() for path in cwd.glob(word)) if "*" in word else [word]
