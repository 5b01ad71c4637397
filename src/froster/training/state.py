"""`state.pt`: the training state to resume from, with a checksum."""

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
    """The training state in one file, and the previous one as a fallback for a damaged file."""

    def __init__(self, path: Path) -> None:
        self.path, self.previous = path, path.with_name(f"previous-{path.name}")
        self.damaged = False  # set by `load`

    def exists(self) -> bool:
        return self.path.exists() or self.previous.exists()

    def save(self, state: dict[str, Any]) -> None:
        """Write the state and keep the last one as the previous; at most two are on disk at any time."""
        with replace_when_written(self.path) as temporary:
            if not self.damaged:
                self.previous.unlink(missing_ok=True)
            write_state(temporary, state)
            if not self.damaged and self.path.exists():
                self.path.replace(self.previous)
        self.damaged = False

    def load(self) -> dict[str, Any] | None:
        """The state on the CPU, or None if none was saved; the previous one, with a warning, if the file is damaged.

        Raises `FrosterError` when both are damaged.
        """
        if not self.exists():
            return None
        if (state := read_state(self.path)) is not None:
            return state
        self.damaged = self.path.exists()
        if (state := read_state(self.previous)) is not None:
            if self.damaged:
                warnings.warn(
                    f"{self.path} is damaged; resuming from {self.previous}, which was saved before it.",
                    FrosterWarning,
                    stacklevel=2,
                )
            return state
        also = f", and so is {self.previous}" if self.previous.exists() else ""
        raise FrosterError(
            f"{self.path if self.damaged else self.previous} is damaged and cannot be resumed from{also}; "
            "start a new run with another out=FOLDER."
        )

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)
        self.previous.unlink(missing_ok=True)


def write_state(path: Path, state: dict[str, Any]) -> None:
    """`torch.save`, followed by the SHA-256 of its bytes."""
    with path.open("w+b") as file:
        torch.save(state, file)
        file.seek(0)
        digest = hashlib.file_digest(file, "sha256").digest()
        file.seek(0, os.SEEK_END)
        file.write(digest)


def read_state(path: Path) -> dict[str, Any] | None:
    """The state that `write_state` wrote; None if the file is missing or damaged."""
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
    except Exception:  # a file of another program may raise anything
        return None
    return state if isinstance(state, dict) else None
