"""Metrics of a run: progress bar, a line per epoch, `log.jsonl`, TensorBoard."""

import importlib.util
import json
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from froster.errors import FrosterError
from froster.extras import needs_extra
from froster.files import writing
from froster.progress import ProgressBar

NOT_CURVES = ("step", "clips", "seconds")
NOT_CURVES_OF_VALIDATION = ("step", "epoch", "videos")
NOT_ACCURACIES = (*NOT_CURVES_OF_VALIDATION, "cross_entropy")  # of a validation
COMPARED = ("harmonic_mean", "top1", "novel_top1")  # by which validations are compared: the first that they have


Record = TypeVar("Record", bound=Mapping[str, Any])


class MetricLogger:
    """Logs the metrics of every step to the run's folder and shows them on the terminal."""

    def __init__(self, folder: Path, steps: int, epochs: int, start: int, tensorboard: bool, show: bool) -> None:
        self.steps, self.epochs, self.start = steps, epochs, start
        path = folder / "log.jsonl"
        logged = read_log(path)
        self.seconds_before: float = logged[-1]["seconds"] if logged else 0.0
        with writing(path):
            self.file = path.open("a", encoding="utf-8")
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
        with writing(Path(self.file.name)):
            self.file.close()
        if self.board:
            self.board.close()

    def log(self, metrics: dict[str, float]) -> None:
        """Log one step: its number, loss terms, learning rate, gradient norm and clips."""
        step = int(metrics["step"])
        self.clips += int(metrics["clips"])
        seconds = time.perf_counter() - self.began
        # JSON has no NaN and infinity.
        finite = {name: value if math.isfinite(value) else None for name, value in metrics.items()}
        with writing(Path(self.file.name)):
            self.file.write(json.dumps({**finite, "seconds": round(self.seconds_before + seconds, 3)}) + "\n")
            self.file.flush()
        if self.board:
            for name, value in metrics.items():
                if name not in NOT_CURVES:
                    self.board.add_scalar(name, value, step)
        speed = f"{self.clips / seconds:.1f} clips/s"
        text = f"{describe(metrics)}  {speed}"
        short = f"loss {metrics['loss']:.3f} {speed}" if "loss" in metrics else speed
        # On narrow terminals the bar shows the loss alone; the line per epoch has every term.
        fits = self.bar.width >= 80 + len(text) - len(short)
        self.bar.update(step, text if fits else short)
        if step * self.epochs % self.steps == 0:
            # Without a terminal there is no bar, but a line per epoch.
            self.bar.print(f"epoch {step * self.epochs // self.steps}/{self.epochs}  {text}")

    def log_validation(self, record: Mapping[str, float | None], line: str) -> None:
        """Show a validation, and add its accuracies to TensorBoard."""
        if self.board:
            for name, value in record.items():
                if name not in NOT_CURVES_OF_VALIDATION and value is not None:
                    self.board.add_scalar(f"validation/{name}", value, int(record["step"] or 0))
        self.bar.print(line)


def read_log(path: Path, needed: tuple[str, ...] = ("step", "seconds")) -> list[dict[str, Any]]:
    """The steps in a run's `log.jsonl`, without damaged lines, such as one truncated by a kill.

    Likewise the validations in `validation.jsonl`, whose lines have other `needed` keys.
    """
    if not path.exists():
        return []
    steps = []
    for line in path.read_bytes().splitlines():
        try:
            metrics = json.loads(line)
        except (ValueError, RecursionError):
            continue
        numbers = {name for name, value in metrics.items() if is_number(value)} if isinstance(metrics, dict) else set()
        if numbers >= {*needed} and all(metrics[name] is None for name in metrics.keys() - numbers):
            steps.append(metrics)
    return steps


def compared_accuracy(record: Mapping[str, float | None]) -> float:
    """The accuracy by which a validation is compared, a share of 1."""
    return record[next(name for name in COMPARED if name in record)] or 0


def best_validation(records: Sequence[Record]) -> Record:
    """The best; of equal accuracies that of the lowest cross entropy, and of these the first."""
    return max(records, key=lambda record: (compared_accuracy(record), -(record["cross_entropy"] or 0)))


def is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def describe(metrics: dict[str, float]) -> str:
    """A step's metrics in one line: loss and its terms, learning rate."""
    hidden = ("epoch", "learning_rate", "gradient_norm", *NOT_CURVES)
    terms = [f"{name.replace('_', ' ')} {value:.3f}" for name, value in metrics.items() if name not in hidden]
    return "  ".join(
        [*sorted(terms, key=lambda term: not term.startswith("loss")), f"lr {metrics['learning_rate']:.2e}"]
    )


def check_tensorboard() -> None:
    """Raises `FrosterError` that names the extra when TensorBoard is not installed."""
    if importlib.util.find_spec("tensorboard") is None:
        raise FrosterError(needs_extra("tensorboard: true", "track"))


def tensorboard_writer(folder: Path, start: int) -> Any:
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder), purge_step=start + 1)
