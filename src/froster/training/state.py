"""`state.pt`: what an interrupted run goes on from, with a hash that tells a damaged file."""

import hashlib
import os
import warnings
from pathlib import Path
from typing import Any

import torch

from froster.errors import FrosterError, FrosterWarning
from froster.files import replace_when_written

DIGEST_SIZE = hashlib.sha256().digest_size  # bytes, at the end of the file


class StateFile:
    """The state of a run in one file, and the state saved before it, to go on from where the file is damaged."""

    def __init__(self, path: Path) -> None:
        self.path, self.previous = path, path.with_name(f"previous-{path.name}")
        self.damaged = False  # found when it was loaded

    def exists(self) -> bool:
        return self.path.exists() or self.previous.exists()

    def save(self, state: dict[str, Any]) -> None:
        """Write the state; the one that was there becomes the previous one. At most two are on disk at any time."""
        with replace_when_written(self.path) as temporary:
            if not self.damaged:
                self.previous.unlink(missing_ok=True)
            write_state(temporary, state)
            if not self.damaged and self.path.exists():
                self.path.replace(self.previous)
        self.damaged = False

    def load(self) -> dict[str, Any] | None:
        """The state, on the CPU, None where none was saved; of a damaged file the previous one, with a warning.

        Raises `FrosterError` when no undamaged one is left.
        """
        if not self.exists():
            return None
        if (state := read_state(self.path)) is not None:
            return state
        self.damaged = self.path.exists()
        if (state := read_state(self.previous)) is not None:
            if self.damaged:
                warnings.warn(
                    f"{self.path} is damaged; the run goes on from {self.previous}, which was saved before it.",
                    FrosterWarning,
                    stacklevel=2,
                )
            return state
        also = f", and so is {self.previous}" if self.previous.exists() else ""
        raise FrosterError(
            f"{self.path if self.damaged else self.previous} is damaged and cannot be resumed from{also}; "
            "start anew with another out=FOLDER."
        )

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)
        self.previous.unlink(missing_ok=True)


def write_state(path: Path, state: dict[str, Any]) -> None:
    """An archive of `torch.save`, and behind it the SHA-256 of its bytes."""
    with path.open("w+b") as file:
        torch.save(state, file)
        file.seek(0)
        digest = hashlib.file_digest(file, "sha256").digest()
        file.seek(0, os.SEEK_END)
        file.write(digest)


def read_state(path: Path) -> dict[str, Any] | None:
    """What `write_state` wrote; None where there is no such file or it is damaged."""
    try:
        with path.open("rb") as file:
            left = path.stat().st_size - DIGEST_SIZE
            found = hashlib.sha256()
            while left > 0 and (part := file.read(min(left, 2**20))):
                found.update(part)
                left -= len(part)
            if found.digest() != file.read():
                return None
        state: dict[str, Any] = torch.load(path, weights_only=True, map_location="cpu")
    except FileNotFoundError:
        return None
    except Exception:  # what another program put there raises anything
        return None
    return state if isinstance(state, dict) else None
