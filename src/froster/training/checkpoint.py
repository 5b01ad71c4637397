"""What a training run leaves in its folder: the state to go on from, the last epochs, and the tested weights."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from froster.errors import FrosterError
from froster.files import replace_when_written
from froster.training.journal import read_log
from froster.training.recipe import TrainRecipe
from froster.training.state import StateFile

# What may change between a run and its continuation without changing the result.
FREE_KEYS: dict[str, Any] = {
    "out": True,
    "keep_checkpoints": True,
    "tensorboard": True,
    "data": {"workers", "in_memory", "max_unreadable", "puppets"},
}
LOCK_PATIENCE = 2.0  # seconds: a killed run may take a moment to end

Fingerprint = dict[str, tuple[str, str]]  # of what a recipe only names: in words, and a hash


def own_recipe(recipe: TrainRecipe) -> str:
    return recipe.model_dump_json(exclude=FREE_KEYS)


class RunFolder:
    """The files of a run: `checkpoints/epoch-N.safetensors`, `log.jsonl`, …; until it ends, `state.pt`.

    `model.safetensors` is written last: where it lies, the run is finished.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.state, self.model = StateFile(path / "state.pt"), path / "model.safetensors"
        self.log, self.recipe = path / "log.jsonl", path / "recipe.json"
        self.fingerprint = path / "fingerprint.json"
        self.unreadable, self.partial = path / "unreadable.json", path / "partial.json"

    @property
    def has_model(self) -> bool:
        return self.model.exists() and self.model.stat().st_size > 0  # a full disk may leave an empty file

    def is_finished(self, recipe: TrainRecipe, resume: bool) -> bool:
        """Whether there is nothing left to do.

        Raises `FrosterError` when the folder holds a run and `resume` is not given, or a finished one of another
        recipe.
        """
        if not resume and (self.has_model or self.state.exists()):
            what = "a finished run already:" if self.has_model else "a run already: go on with `resume=True`, or"
            raise FrosterError(f"{self.path} holds {what} choose another out=FOLDER.")
        if self.has_model:
            self.check_recipe(own_recipe(TrainRecipe.read(self.recipe)), recipe)
        return self.has_model

    def write_settings(self, recipe: TrainRecipe, fingerprint: Fingerprint) -> None:
        """Keep what the run is of, for those who come back to it."""
        write_json(self.recipe, recipe.model_dump(mode="json"))
        write_json(self.fingerprint, fingerprint)

    def check_finished(self, fingerprint: Fingerprint) -> None:
        """Raises `FrosterError` when the finished run had other clips, labels or templates; older runs do not tell."""
        if not self.fingerprint.exists():
            return
        try:
            had = {what: (words, code) for what, (words, code) in json.loads(self.fingerprint.read_bytes()).items()}
            complete = fingerprint.keys() <= had.keys()
        except (OSError, ValueError, AttributeError, TypeError) as error:
            raise FrosterError(f"{self.fingerprint} is damaged; start anew with out=.") from error
        if not complete:
            raise FrosterError(f"{self.fingerprint} is damaged; start anew with out=.")
        self.check_fingerprint(had, fingerprint)

    def check_fingerprint(self, had: Fingerprint, fingerprint: Fingerprint) -> None:
        """Raises `FrosterError` when what a run had is not what `fingerprint` tells of now."""
        for what, now in fingerprint.items():
            if had[what] != now:
                (words_before, _), (words, _) = had[what], now
                how = "than before" if words == words_before else f"({words_before} before, {words} now)"
                raise FrosterError(
                    f"The run in {self.path} cannot go on with other {what} {how}; "
                    "go back to what it had, or choose another out=."
                )

    def check_recipe(self, of_run: str, recipe: TrainRecipe) -> None:
        """Raises `FrosterError` when the run's own recipe and this one would not give the same result."""
        if changed := differences(json.loads(of_run), json.loads(own_recipe(recipe))):
            raise FrosterError(
                f"{self.path} holds a run of another recipe ({', '.join(changed)} differ{'s' * (len(changed) == 1)}); "
                "choose another out=, or change nothing."
            )

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep other processes from training in the folder. Raises `FrosterError` when one does."""
        self.path.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.path / ".lock", timeout=LOCK_PATIENCE)
        try:
            lock.acquire()
        except Timeout as error:
            raise FrosterError(f"Another process is training in {self.path}; choose another out=FOLDER.") from error
        try:
            yield
        finally:
            lock.release()

    def load_state(self, recipe: TrainRecipe, fingerprint: Fingerprint) -> dict[str, Any] | None:
        """The state to go on from, on the CPU, if the run came so far.

        Raises `FrosterError` if it is damaged, or belongs to a run of another recipe, on other clips, labels or in
        another precision, as `fingerprint` tells.
        """
        if (saved := self.state.load()) is not None:
            self.check_recipe(saved["recipe"], recipe)
            self.check_fingerprint(saved["fingerprint"], fingerprint)
        return saved

    def save_state(self, recipe: TrainRecipe, state: dict[str, Any]) -> None:
        self.state.save({**state, "recipe": own_recipe(recipe)})

    def finish(self) -> None:
        """Remove what was only there to go on from."""
        self.state.remove()

    def list_unusable(self, unreadable: dict[str, str], partial: dict[str, str]) -> None:
        """List the clips that could not be read, or only in part, with the reasons; no file where there are none."""
        for path, reasons in ((self.unreadable, unreadable), (self.partial, partial)):
            if reasons:
                write_json(path, reasons)
            else:
                path.unlink(missing_ok=True)

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
        lines = [json.dumps(taken) + "\n" for taken in read_log(self.log) if taken["step"] <= step]
        with replace_when_written(self.log) as temporary:
            temporary.write_text("".join(lines), encoding="utf-8")


def digest(content: Any) -> str:
    """Short hash of lists, mappings and text."""
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:12]


def write_json(path: Path, content: Any) -> None:
    with replace_when_written(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


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
