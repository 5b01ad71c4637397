"""Random and hostile command lines of every command; each must end soon, without a traceback, and not in silence.

Run: python tests/fuzz/command_lines.py [COUNT] [SEED]. Reported: tracebacks, hangs, messages of several lines, and
status 0 where an argument is nonsense.
"""

import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path
from types import FrameType
from typing import NamedTuple

import torch
import typer

sys.path.insert(0, str(Path(__file__).parents[1]))

from froster.cli import app
from froster.data.puppets import write_videos
from running import run

SECONDS, WAIT = 20, 120  # of the processor, and of the clock: other work may slow an import down
# Commands that wait for a network, serve until they are stopped, or compute for minutes when all is right: what they
# are given always has a wrong option.
LONG = {"methods", "serve", "demo", "pretrain", "puppets", "bench", "train", "report"}
NONSENSE = (
    "", " ", "nan", "-1", "1e400", "9" * 5000, "0x10", "true", "[]", "{", "\x1b[31mred", "a\nb", "\u202eabc", "跳舞",
    "\ud800".encode("utf-8", "surrogatepass").decode("latin-1"), "../" * 50, "a" * 5000, "none.mp4", "folder",
    "empty.mp4", "noise.mp4", "empty.csv", "noise.csv", "http://127.0.0.1:1/clip.mp4", "--", "-", "%s%n", "{}", "*",
)  # fmt: skip


class Usage(NamedTuple):
    """What a command takes: its options, those that it cannot do without, and the number of its arguments."""

    options: list[str]
    required: list[str]
    arguments: int


def commands() -> dict[tuple[str, ...], Usage]:
    """Every command."""
    found = dict[tuple[str, ...], Usage]()

    def add(command: object, path: tuple[str, ...]) -> None:
        inner = getattr(command, "commands", {})
        for name, one in inner.items():
            add(one, (*path, name))
        if not inner or path == ("bench",):
            arguments = [one for one in command.params if one.param_type_name == "argument"]  # type: ignore[attr-defined]
            options = [one for one in command.params if one not in arguments]  # type: ignore[attr-defined]
            required = [one.opts[0] for one in options if one.required]
            found[path] = Usage(
                [name for one in options for name in one.opts if name[:2] == "--"], required, len(arguments)
            )

    add(typer.main.get_command(app), ())
    return found


def write_files(folder: Path) -> None:
    """What the command lines name: a sound video, and files that are none."""
    write_videos(folder, ["walking"], videos=1, frames=4, size=32)
    (folder / "walking" / "0.mp4").rename(folder / "clip.mp4")
    (folder / "folder").mkdir()
    for suffix in ("mp4", "csv"):
        (folder / f"empty.{suffix}").touch()
        (folder / f"noise.{suffix}").write_bytes(random.Random(0).randbytes(2000))


def draw_line(draw: random.Random, known: dict[tuple[str, ...], Usage]) -> list[str]:
    """A command with one or more wrong arguments or options."""
    path = draw.choice(list(known))
    options, required, arguments = known[path]
    others = sorted({option for usage in known.values() for option in usage.options} - {"--help", "--version"})
    line = [*path]
    line += [draw.choice(["clip.mp4", *NONSENSE]) for _ in range(draw.choice([arguments, arguments, 0, 3]))]
    for _ in range(draw.randrange(4)):
        line += [draw.choice(options or others) if draw.random() < 0.8 else draw.choice(others), draw.choice(NONSENSE)]
    for option in required:
        line += [option, draw.choice(["folder", *NONSENSE])]
    if "--labels" in options and draw.random() < 0.5:
        line += ["--labels", "walking, running"]
    if path[0] in LONG:
        line += [draw.choice(["--no-such-option", *(other for other in others if other not in options)]), "x"]
    return [argument for argument in line if argument not in ("--help", "--install-completion", "--show-completion")]


class TooSlowError(BaseException):
    """Not an `OSError`, as `TimeoutError` is, which a command may handle."""


def stop(number: int, frame: FrameType | None) -> None:
    raise TooSlowError


def outcome(line: list[str]) -> str:
    """What a command line comes to: `refused` is good, and `done` where nothing in it need be wrong."""
    signal.signal(signal.SIGALRM, stop)
    signal.signal(signal.SIGPROF, stop)
    signal.alarm(WAIT)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        ran = run(*line)
    except TooSlowError:
        return "hang"
    except BaseException as error:
        return f"traceback: {type(error).__name__}: {str(error)[:200]}"
    finally:
        signal.alarm(0)
        signal.setitimer(signal.ITIMER_PROF, 0)
    if "Traceback" in ran.stderr:
        return f"traceback: {ran.stderr[-200:]}"
    if ran.status and not ran.stderr.strip() and not ran.stdout.strip():
        return "silence"
    if "\x1b[31m" in ran.stdout + ran.stderr:
        return "raw escape sequence"
    return "refused" if ran.status else f"status 0: {ran.stdout[:100]!r}"


def fuzz(count: int, seed: int, folder: Path) -> Iterator[tuple[list[str], str, float]]:
    """Command line, outcome and seconds of `count` of them."""
    write_files(folder)
    known = commands()
    with chdir(folder):
        for number in range(count):
            line = draw_line(random.Random(f"{seed} {number}"), known)
            start = time.monotonic()
            yield line, outcome(line), time.monotonic() - start


if __name__ == "__main__":
    count, seed = (int(value) for value in (sys.argv[1:] + ["300", "0"][len(sys.argv) - 1 :])[:2])
    torch.set_num_threads(1)
    results = list(fuzz(count, seed, Path(tempfile.mkdtemp())))
    for line, found, seconds in results:
        if found != "refused":
            print(f"{[argument[:60] for argument in line]}: {found} ({seconds:.1f} s)")
    print(Counter(found.partition(":")[0] for _, found, _ in results), f"slowest {max(r[2] for r in results):.1f} s")
    sys.exit(any(not found.startswith(("refused", "status 0")) for _, found, _ in results))
