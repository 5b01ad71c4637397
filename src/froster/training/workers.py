"""Data loader workers: how they start, and warnings if they hang."""

import multiprocessing
import os
import signal
import sys
import threading
import time
import warnings
import weakref
from collections.abc import Callable, Collection, Iterable, Iterator, MutableSequence
from contextlib import contextmanager
from functools import partial
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from types import ModuleType
from typing import Any, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset, get_worker_info

from froster.errors import FrosterError, FrosterWarning
from froster.video.limits import max_pixels, set_max_pixels

PATIENCE = 120.0  # seconds without a batch until it is said what the workers do
GRACE = 2.0  # seconds for a worker to end
IDLE = -1

Item = TypeVar("Item")


def worker_context() -> BaseContext:
    """How workers are started: by a server process without threads that has imported what they need.

    A fork of the main process copies its locks as they are, and a lock that another thread holds is never released. See
    docs/decisions.md.
    """
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["froster.training.clips"])
    return context


def prepare_workers(workers: int) -> None:
    """Let the server that starts workers import what they need while the caller does something else."""
    if workers and worker_context().get_start_method() == "forkserver":
        from multiprocessing import forkserver  # not everywhere

        forkserver.ensure_running()


def start_worker(worker: int, largest_picture: int) -> None:
    """Called in each worker as it starts: it has the main process's limit of pictures, and ends with it.

    SIGTERM is no failure: where a scheduler sends it to all processes, a worker killed by it would be an error in the
    main process, which ends anyhow.
    """
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    set_max_pixels(largest_picture)
    threading.Thread(target=end_with_main_process, daemon=True).start()


def end_with_main_process() -> None:
    """Wait for the end of the main process, however it ends. PyTorch looks at the parent, which is the fork server."""
    if main := multiprocessing.parent_process():
        main.join()
        os._exit(1)


def iterate(dataset: Dataset[Any], workers: int, **options: Any) -> Iterator[Any]:
    """One pass over a `DataLoader`; its workers start now, and each has a single thread, as torch starts them.

    The dataset and the functions in `options` must be picklable. Raises `FrosterError` where a worker is killed.
    """
    loader = DataLoader(
        dataset,
        num_workers=workers,
        multiprocessing_context=worker_context() if workers else None,
        worker_init_fn=partial(start_worker, largest_picture=max_pixels()),
        generator=torch.Generator(),  # a loader draws from the global one otherwise, once more where a run resumes
        **options,
    )
    others = set(multiprocessing.active_children())
    with without_main_module():
        batches = iter(loader)
    started = set(multiprocessing.active_children()) - others
    weakref.finalize(batches, end_workers, started)  # behind the loader's own end, or as Python exits
    return raise_for_killed(batches, started)


def raise_for_killed(batches: Iterator[Item], workers: Iterable[BaseProcess]) -> Iterator[Item]:
    """The same batches; raises `FrosterError` where one does not come because a worker was killed."""
    try:
        yield from batches
    except RuntimeError as error:
        killed = [str(worker.pid) for worker in workers if not worker.is_alive()]
        if not killed:
            raise
        raise FrosterError(
            f"A worker process (pid {', '.join(killed)}) was killed while it loaded data, most often because the "
            "machine ran out of memory; resume with fewer data.workers."
        ) from error


def end_workers(workers: Collection[BaseProcess]) -> None:
    """Kill the workers that do not end: one in native code handles no SIGTERM, and Python would wait for it at exit."""
    for worker in workers:
        worker.terminate()
    deadline = time.monotonic() + GRACE
    for worker in workers:
        worker.join(max(0.0, deadline - time.monotonic()))
        if worker.is_alive():
            worker.kill()
            worker.join()


@contextmanager
def without_main_module() -> Iterator[None]:
    """Let workers start without the user's script, of which they need nothing.

    Python would run it again in each worker; one that calls `train` without `if __name__ == "__main__":` would fail.
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


class Activity:
    """Which item each worker is loading, and since when; shared with the workers, if there are any."""

    def __init__(self, workers: int) -> None:
        self.items: MutableSequence[int] = [IDLE]
        self.since: MutableSequence[float] = [0.0]
        if workers:
            context = multiprocessing.get_context("spawn")
            self.items, self.since = context.RawArray("q", [IDLE] * workers), context.RawArray("d", workers)

    @contextmanager
    def loading(self, item: int) -> Iterator[None]:
        worker = get_worker_info()
        place = worker.id if worker else 0
        self.since[place] = time.time()
        self.items[place] = item
        try:
            yield
        finally:
            self.items[place] = IDLE

    def describe(self, name: Callable[[int], str]) -> str:
        """What each worker is doing, such as "worker 0 has been reading clip.mp4 for 300 s, worker 1 waits"."""
        now = time.time()
        return ", ".join(
            f"worker {place} waits"
            if item == IDLE
            else f"worker {place} has been reading {name(item)} for {now - since:.0f} s"
            for place, (item, since) in enumerate(zip(self.items[:], self.since[:], strict=True))
        )


def warn_when_stalled(
    batches: Iterator[Item], describe: Callable[[], str], patience: float | None = None
) -> Iterator[Item]:
    """The same batches; where one does not come for `patience` seconds, a warning says what the workers do.

    It is repeated after twice the time, and so on: the run waits, since a network disk may come back.
    """
    patience = PATIENCE if patience is None else patience

    def watch(arrived: threading.Event) -> None:
        waited, pause = 0.0, patience
        while not arrived.wait(pause):
            waited += pause
            pause = waited
            warnings.warn(
                f"No batch has arrived for {waited:.0f} seconds: {describe()}. The run waits; if it hangs, stop "
                "it, check that file and its disk, and resume.",
                FrosterWarning,
                stacklevel=2,
            )

    while True:
        arrived = threading.Event()
        watcher = threading.Thread(target=watch, args=(arrived,), daemon=True)
        watcher.start()
        try:
            batch = next(batches)
        except StopIteration:
            return
        finally:
            arrived.set()
        yield batch
