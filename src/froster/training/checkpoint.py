"""The folder of a training run: training state, epoch checkpoints and the final model."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from froster.errors import FrosterError
from froster.files import printable_name, replace_when_written
from froster.training.metrics import read_log
from froster.training.recipe import TrainRecipe
from froster.training.state import StateFile

# Keys that may change when a run is resumed, because they do not affect the result.
RESUME_OVERRIDABLE_KEYS: dict[str, Any] = {
    "out": True,
    "keep_checkpoints": True,
    "save_every_minutes": True,
    "tensorboard": True,
    "data": {"workers", "in_memory", "max_unreadable", "puppets"},
}
LOCK_WAIT = 2.0  # seconds: a killed run may take a moment to release it

Fingerprint = dict[str, tuple[str, str]]  # of the files that a recipe names: description and hash


def comparable_recipe(recipe: TrainRecipe) -> str:
    """The recipe as JSON without the keys that may change on resume."""
    return recipe.model_dump_json(exclude=RESUME_OVERRIDABLE_KEYS)


class RunFolder:
    """Paths in the folder of a run: `checkpoints/epoch-N.safetensors`, `log.jsonl`, …, and `state.pt` while it runs.

    `model.safetensors` is written last: if it exists, the run is finished.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.state, self.model = StateFile(path / "state.pt"), path / "model.safetensors"
        self.log, self.recipe = path / "log.jsonl", path / "recipe.json"
        self.best, self.validation = path / "best.safetensors", path / "validation.jsonl"
        self.fingerprint = path / "fingerprint.json"
        self.unreadable, self.partial = path / "unreadable.json", path / "partial.json"

    @property
    def has_model(self) -> bool:
        return self.model.exists() and self.model.stat().st_size > 0  # a full disk may leave an empty file

    def is_finished(self, recipe: TrainRecipe, resume: bool) -> bool:
        """Whether the run is finished.

        Raises `FrosterError` when the folder holds a run and `resume` is False, or a finished run of another recipe.
        """
        if not resume and (self.has_model or self.state.exists()):
            what = "a finished run already:" if self.has_model else "a run already: resume it with `resume=True`, or"
            raise FrosterError(f"{self.path} holds {what} choose another out=FOLDER.")
        if self.has_model:
            self.check_recipe(comparable_recipe(TrainRecipe.read(self.recipe)), recipe)
        return self.has_model

    def write_settings(self, recipe: TrainRecipe, fingerprint: Fingerprint) -> None:
        """Save the resolved recipe and the data fingerprint."""
        write_json(self.recipe, recipe.model_dump(mode="json"))
        write_json(self.fingerprint, fingerprint)

    def check_finished(self, fingerprint: Fingerprint) -> None:
        """Raises `FrosterError` if the finished run had other clips, labels or templates; older runs have no record."""
        if not self.fingerprint.exists():
            return
        try:
            had = {what: (words, code) for what, (words, code) in json.loads(self.fingerprint.read_bytes()).items()}
            complete = fingerprint.keys() <= had.keys()
        except (OSError, ValueError, AttributeError, TypeError) as error:
            raise FrosterError(f"{self.fingerprint} is damaged; start a new run with another out=FOLDER.") from error
        if not complete:
            raise FrosterError(f"{self.fingerprint} is damaged; start a new run with another out=FOLDER.")
        self.check_fingerprint(had, fingerprint)

    def check_fingerprint(self, had: Fingerprint, fingerprint: Fingerprint) -> None:
        """Raises `FrosterError` if the fingerprint of a run differs from `fingerprint`."""
        for what, now in fingerprint.items():
            if had[what] != now:
                (words_before, _), (words, _) = had[what], now
                how = "than before" if words == words_before else f"({words_before} before, {words} now)"
                raise FrosterError(
                    f"The run in {self.path} cannot be resumed with other {what} {how}; "
                    "restore the previous ones, or choose another out=."
                )

    def check_recipe(self, of_run: str, recipe: TrainRecipe) -> None:
        """Raises `FrosterError` if the run's recipe and this one differ in a key that affects the result."""
        if changed := differences(json.loads(of_run), json.loads(comparable_recipe(recipe))):
            raise FrosterError(
                f"{self.path} holds a run of another recipe ({', '.join(changed)} differ{'s' * (len(changed) == 1)}); "
                "choose another out=, or change nothing."
            )

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Lock the folder while training. Raises `FrosterError` when another process has the lock."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise FrosterError(f"out={self.path} cannot be made: {error.strerror}; choose another folder.") from error
        lock = FileLock(self.path / ".lock", timeout=LOCK_WAIT)
        try:
            lock.acquire()
        except Timeout as error:
            raise FrosterError(f"Another process is training in {self.path}; choose another out=FOLDER.") from error
        try:
            yield
        finally:
            lock.release()

    def load_state(self, recipe: TrainRecipe, fingerprint: Fingerprint) -> dict[str, Any] | None:
        """The training state to resume from, on the CPU, or None if nothing was saved.

        Raises `FrosterError` if it is damaged, or if recipe, clips, labels, templates or precision differ.
        """
        if (saved := self.state.load()) is not None:
            self.check_recipe(saved["recipe"], recipe)
            self.check_fingerprint(saved["fingerprint"], fingerprint)
        return saved

    def save_state(self, recipe: TrainRecipe, state: dict[str, Any]) -> None:
        self.state.save({**state, "recipe": comparable_recipe(recipe)})

    def finish(self) -> None:
        """Remove the training state."""
        self.state.remove()

    def list_unusable(self, unreadable: dict[str, str], partial: dict[str, str]) -> None:
        """Write the lists of unreadable and partly decoded clips with the reasons; no file for an empty list."""
        for path, reasons in ((self.unreadable, unreadable), (self.partial, partial)):
            if reasons:
                write_json(path, reasons)
            else:
                path.unlink(missing_ok=True)

    def epoch(self, number: int) -> Path:
        return self.path / "checkpoints" / f"epoch-{number:03d}.safetensors"

    def keep_last(self, count: int) -> None:
        """Keep the last `count` epoch checkpoints."""
        for old in sorted(self.epoch(0).parent.glob("epoch-*.safetensors"))[:-count]:
            old.unlink()

    def last_good(self) -> str:
        """For an error message: the last checkpoint."""
        saved = sorted(self.epoch(0).parent.glob("epoch-*.safetensors"))
        return f"the last good checkpoint is {saved[-1]}" if saved else "no checkpoint was written before"

    def tidy(self, step: int, keep: int) -> None:
        """Remove partial files, surplus checkpoints, and log lines after `step`, as a killed run may leave them."""
        for folder in (self.path, self.epoch(0).parent):
            for partial in folder.glob(".*.partial.*"):
                partial.unlink()
        self.keep_last(keep)
        if not self.log.exists():
            return
        lines = [json.dumps(taken) + "\n" for taken in read_log(self.log) if taken["step"] <= step]
        with replace_when_written(self.log) as temporary:
            temporary.write_text("".join(lines), encoding="utf-8")


def digest(content: Any) -> str:
    """Short hash of lists, mappings and text."""
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:12]


def write_json(path: Path, content: Any) -> None:
    with replace_when_written(path) as temporary:
        text = printable_name(json.dumps(content, indent=2, ensure_ascii=False))
        temporary.write_text(text + "\n", encoding="utf-8")


def read_json(path: Path) -> Any:
    """The content of a JSON file; None where there is none, or a damaged one."""
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None


def differences(old: Any, new: Any, prefix: str = "") -> list[str]:
    """Dotted keys in which two recipes differ."""
    if not isinstance(old, dict) or not isinstance(new, dict):
        return [prefix] if old != new else []
    below = f"{prefix}." if prefix else ""
    return [key for name in {**old, **new} for key in differences(old.get(name), new.get(name), f"{below}{name}")]
