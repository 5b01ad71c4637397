"""Runs a function in a process of its own, which may hang, run out of memory or crash."""

import os
import resource
import select
import signal
from collections.abc import Callable
from pathlib import Path

SECONDS = 20  # of the processor; others may need it too, so more of the clock may pass
WAIT = 120


def run_apart(function: Callable[..., str], *arguments: object, memory: int) -> str:
    """What `function` returns; `hang`, or by which signal it died.

    `memory`: the bytes that it may take beyond what this process has.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + memory, used + memory))
        resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
        os.write(writer, function(*arguments).encode()[:4000])
        os._exit(0)
    os.close(writer)
    ready, _, _ = select.select([reader], [], [], WAIT)
    found = os.read(reader, 4000).decode() if ready else ""
    os.close(reader)
    if not ready:
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if not ready or (os.WIFSIGNALED(status) and os.WTERMSIG(status) in (signal.SIGXCPU, signal.SIGKILL)):
        return "hang"
    return found or f"killed by signal {os.WTERMSIG(status)}"
