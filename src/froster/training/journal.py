"""How a run is followed: a progress bar, a line for each epoch, `log.jsonl`, TensorBoard."""

import importlib.util
import json
import math
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from froster.errors import FrosterError
from froster.extras import needs_extra
from froster.files import writing
from froster.progress import ProgressBar

NOT_CURVES = ("step", "clips", "seconds")


class Journal:
    """Writes down every step of a run in its folder and shows it on the terminal."""

    def __init__(self, folder: Path, steps: int, epochs: int, start: int, tensorboard: bool, show: bool) -> None:
        self.steps, self.epochs, self.start = steps, epochs, start
        path = folder / "log.jsonl"
        written = read_log(path)
        self.seconds_before: float = written[-1]["seconds"] if written else 0.0
        with writing(path):
            self.log = path.open("a", encoding="utf-8")
        self.board = tensorboard_writer(folder / "tensorboard", start) if tensorboard else None
        self.bar = ProgressBar("Training", steps, start, "steps", show)
        self.clips, self.began = 0, time.perf_counter()

    def __enter__(self) -> Self:
        self.bar.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.__exit__(kind, error, trace)
        with writing(Path(self.log.name)):
            self.log.close()
        if self.board:
            self.board.close()

    def write(self, taken: dict[str, float]) -> None:
        """Note one step: its number, loss terms, learning rate, gradient norm and clips."""
        step = int(taken["step"])
        self.clips += int(taken["clips"])
        seconds = time.perf_counter() - self.began
        # NaN and infinity are no JSON.
        finite = {name: value if math.isfinite(value) else None for name, value in taken.items()}
        with writing(Path(self.log.name)):
            self.log.write(json.dumps({**finite, "seconds": round(self.seconds_before + seconds, 3)}) + "\n")
            self.log.flush()
        if self.board:
            for name, value in taken.items():
                if name not in NOT_CURVES:
                    self.board.add_scalar(name, value, step)
        speed = f"{self.clips / seconds:.1f} clips/s"
        figures = f"{describe(taken)}  {speed}"
        short = f"loss {taken['loss']:.3f} {speed}" if "loss" in taken else speed
        # Narrow terminals have no room for every term; they stand in the line that each epoch leaves.
        roomy = self.bar.width >= 80 + len(figures) - len(short)
        self.bar.update(step, figures if roomy else short)
        if step * self.epochs % self.steps == 0:
            # Bars are for terminals; elsewhere, and above the bar, one line an epoch stays.
            self.bar.print(f"epoch {step * self.epochs // self.steps}/{self.epochs}  {figures}")


def read_log(path: Path) -> list[dict[str, Any]]:
    """The steps in a run's `log.jsonl`; without damaged lines, such as one that a kill cut off."""
    if not path.exists():
        return []
    steps = []
    for line in path.read_bytes().splitlines():
        try:
            taken = json.loads(line)
        except (ValueError, RecursionError):
            continue
        numbers = {name for name, value in taken.items() if is_number(value)} if isinstance(taken, dict) else set()
        if numbers >= {"step", "seconds"} and all(taken[name] is None for name in taken.keys() - numbers):
            steps.append(taken)
    return steps


def is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def describe(taken: dict[str, float]) -> str:
    """The step's figures in a line: loss and its terms, learning rate."""
    hidden = ("epoch", "learning_rate", "gradient_norm", *NOT_CURVES)
    terms = [f"{name.replace('_', ' ')} {value:.3f}" for name, value in taken.items() if name not in hidden]
    return "  ".join([*sorted(terms, key=lambda term: not term.startswith("loss")), f"lr {taken['learning_rate']:.2e}"])


def check_tensorboard() -> None:
    """Raises `FrosterError` that names the extra when TensorBoard is not installed."""
    if importlib.util.find_spec("tensorboard") is None:
        raise FrosterError(needs_extra("tensorboard: true", "track"))


def tensorboard_writer(folder: Path, start: int) -> Any:
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder), purge_step=start + 1)
