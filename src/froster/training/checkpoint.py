"""What a training run leaves in its folder: the state to go on from, the last epochs, and the tested weights."""

import hashlib
import json
import pickle
from pathlib import Path
from typing import Any

import torch

from froster.errors import FrosterError
from froster.files import replace_when_written
from froster.training.recipe import TrainRecipe

# What may change between a run and its continuation without changing the result.
FREE_KEYS: dict[str, Any] = {
    "out": True,
    "keep": True,
    "tensorboard": True,
    "data": {"workers", "in_memory", "max_unreadable", "puppets"},
}


def own_recipe(recipe: TrainRecipe) -> str:
    return recipe.model_dump_json(exclude=FREE_KEYS)


class RunFolder:
    """The files of a run: `state.pt`, `checkpoints/epoch-N.safetensors`, `model.safetensors`, `log.jsonl`, …"""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.state, self.model = path / "state.pt", path / "model.safetensors"
        self.log, self.unreadable, self.recipe = path / "log.jsonl", path / "unreadable.json", path / "recipe.json"

    def check_free(self) -> None:
        """Raises `FrosterError` when the folder holds a run, which must not be overwritten."""
        if self.state.exists() or self.model.exists():
            raise FrosterError(f"{self.path} holds a run already: go on with --resume, or choose another out=FOLDER.")

    def load_state(self, recipe: TrainRecipe, fingerprint: dict[str, str]) -> dict[str, Any] | None:
        """The state to go on from, on the CPU, if the run came so far.

        Raises `FrosterError` if it is damaged, or belongs to a run of another recipe, on other clips, labels or in
        another precision, as `fingerprint` tells.
        """
        if not self.state.exists():
            return None
        try:
            saved: dict[str, Any] = torch.load(self.state, weights_only=True, map_location="cpu")
            saved_recipe, had = saved["recipe"], saved["fingerprint"]
        except (RuntimeError, OSError, EOFError, KeyError, TypeError, pickle.UnpicklingError) as error:
            raise FrosterError(f"{self.state} is damaged and cannot be resumed from; start anew with out=.") from error
        if saved_recipe != own_recipe(recipe):
            changed = ", ".join(differences(json.loads(saved_recipe), json.loads(own_recipe(recipe))))
            raise FrosterError(
                f"{self.path} holds a run of another recipe ({changed} differ); choose another out=, or change nothing."
            )
        for what, value in fingerprint.items():
            if had[what] != value:
                raise FrosterError(
                    f"The run in {self.path} cannot go on with other {what} ({had[what]}, now {value}); "
                    "go back to what it had, or choose another out=."
                )
        return saved

    def save_state(self, recipe: TrainRecipe, state: dict[str, Any]) -> None:
        with replace_when_written(self.state) as temporary:
            torch.save({**state, "recipe": own_recipe(recipe)}, temporary)

    def epoch(self, number: int) -> Path:
        return self.path / "checkpoints" / f"epoch-{number:03d}.safetensors"

    def keep_last(self, count: int) -> None:
        """Remove the oldest of the epochs' checkpoints."""
        for old in sorted(self.epoch(0).parent.glob("epoch-*.safetensors"))[:-count]:
            old.unlink()

    def last_good(self) -> str:
        """For a message: where to go on from after a loss that is not a number."""
        saved = sorted(self.epoch(0).parent.glob("epoch-*.safetensors"))
        return f"the last good checkpoint is {saved[-1]}" if saved else "no checkpoint was written before"

    def tidy(self, step: int, keep: int) -> None:
        """Remove what a killed run left half written or too many, and what the log holds beyond `step`."""
        for folder in (self.path, self.epoch(0).parent):
            for partial in folder.glob(".*.partial.*"):
                partial.unlink()
        self.keep_last(keep)
        if not self.log.exists():
            return
        lines = []
        for line in self.log.read_text(encoding="utf-8").splitlines():
            try:
                if json.loads(line)["step"] <= step:
                    lines.append(line)
            except (ValueError, KeyError):
                break  # the line that was being written when the run was killed
        with replace_when_written(self.log) as temporary:
            temporary.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def digest(content: Any) -> str:
    """Short hash of lists, mappings and text."""
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:12]


def write_json(path: Path, content: Any) -> None:
    with replace_when_written(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def differences(old: Any, new: Any, prefix: str = "") -> list[str]:
    """Dotted keys in which two recipes differ."""
    if not isinstance(old, dict) or not isinstance(new, dict):
        return [prefix] if old != new else []
    below = f"{prefix}." if prefix else ""
    return [key for name in {**old, **new} for key in differences(old.get(name), new.get(name), f"{below}{name}")]
