"""Datasets of workers, which must be importable there: a test's own module is not."""

import os
import signal
import time
from pathlib import Path

import torch

from froster.training.clips import Key, Sample, TrainingClips
from froster.video.limits import max_pixels


class Reporting(TrainingClips):
    """In place of clips, what a worker finds: number of threads, limit of pictures, its main module's file, its pid."""

    def load(self, key: Key) -> Sample:
        import __main__

        found = (torch.get_num_threads(), max_pixels(), getattr(__main__, "__file__", None), os.getpid())
        return Sample(self.videos[key[1]], 0, None, repr(found))


class Stalling(TrainingClips):
    """Clip 1 waits until the file `go` lies beside the videos."""

    def load(self, key: Key) -> Sample:
        go = Path(self.videos[0].path).with_name("go")
        while key[1] == 1 and not go.exists():
            time.sleep(0.05)
        return super().load(key)


class Stuck(TrainingClips):
    """Clip 1 never comes, and the worker no longer handles SIGTERM, as in native code that does not return."""

    def load(self, key: Key) -> Sample:
        if key[1] == 1:
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
            Path(self.videos[0].path).with_name("stuck").touch()
            time.sleep(300)
        return super().load(key)
