"""Call a function for many items in worker processes, of which none can end the others by crashing."""

import multiprocessing
import signal
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Any, TypeVar

import torch

from froster.training.workers import start_worker, without_main_module, worker_context
from froster.video.limits import max_pixels

Item = TypeVar("Item", bound=tuple[Any, ...])
Result = TypeVar("Result")


@dataclass(frozen=True)
class Crashed:
    """In place of a result: the process that worked on the item was killed or crashed, twice."""

    reason: str = "the process that decoded it crashed or was killed, as where memory runs out"


def run_each(
    function: Callable[..., Result], items: Sequence[Item], workers: int
) -> Iterator[tuple[Item, Result | Crashed]]:
    """Each item, arguments of `function`, with what it returned, as soon as it is known.

    `workers`: processes; 0: none but this one. Where one crashes, what was worked on is tried again, one at a time.
    Exceptions of `function` are raised here.
    """
    if not workers or not items:
        yield from ((item, function(*item)) for item in items)
        return
    lost = list[Item]()
    waiting = deque(items)
    while waiting:
        yield from run_in_pool(function, waiting, min(workers, len(waiting)), lost)
    for item in lost:
        crashed = list[Item]()
        yield from run_in_pool(function, deque([item]), 1, crashed)
        if crashed:
            yield item, Crashed()


def run_in_pool(
    function: Callable[..., Result], waiting: deque[Item], workers: int, lost: list[Item]
) -> Iterator[tuple[Item, Result]]:
    """Work off `waiting` until it is empty or a process crashes; the items under work then are in `lost`."""
    others = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(workers, worker_context(), start, (max_pixels(),))
    running = dict[Future[Result], Item]()
    try:
        while waiting or running:
            with without_main_module():
                while waiting and len(running) < 2 * workers:
                    future = pool.submit(function, *waiting[0])
                    running[future] = waiting.popleft()
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                item = running.pop(future)
                try:
                    result = future.result()
                except BrokenProcessPool:
                    running[future] = item
                    raise
                yield item, result
    except BrokenProcessPool:
        lost += running.values()
        running.clear()
    finally:
        if running:  # stopped: what is under work is not waited for
            for process in set(multiprocessing.active_children()) - others:
                process.terminate()
        pool.shutdown(cancel_futures=True)


def start(largest_picture: int) -> None:
    """Called in each worker as it starts: one thread, and an interrupt is the main process's to handle."""
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    start_worker(0, largest_picture)
