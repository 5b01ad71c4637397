"""Results of training runs: an append-only file of JSON lines, and means over draws."""

import json
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import (
    AfterValidator,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    TypeAdapter,
    ValidationError,
)

from froster.errors import FrosterError, did_you_mean
from froster.mean_std import MeanStd, mean_std
from froster.students import STUDENTS

REGIMES = {
    "hard": "Few classes (10 base), trained hard",
    "few": "Few classes (10 base), each method at its best learning rate",
    "many": "Many classes (half base, half novel), each method at its best learning rate",
}
METHODS = {
    "frozen": "Frozen CLIP",
    "fine_tuned": "Fine-tuned VCLIP",
    "fine_tuned_averaged": "Fine-tuned, averaged epochs",
    "fine_tuned_patched": "Fine-tuned, averaged and patched (0.5)",
    "weight_l2": "Fine-tuned, L2 to CLIP",
    "open_vclip": "Open-VCLIP",
    "no_projector": "(a) no projector",
    "no_projector_averaged": "(a) averaged epochs",
    "no_projector_patched": "(a) averaged and patched (0.5)",
    "plain": "(b) projector",
    "plain_averaged": "(b) averaged epochs",
    "plain_patched": "(b) averaged and patched (0.5)",
    "residual": "(c) residual = FROSTER",
    "distill_video": "FROSTER, video distillation only",
    "distill_text": "FROSTER, text distillation only",
    "froster_averaged": "FROSTER, averaged epochs",
    "froster_patched": "FROSTER, averaged and patched (0.5)",
}
# Rows of FROSTER's Table 4, which tunes one encoder or both.
TABLE_4 = {
    "table_4_a": "A: image encoder, no distillation",
    "table_4_b": "B: image encoder, no projector",
    "table_4_c": "C: image encoder, MLP projector",
    "table_4_d": "D: image encoder, residual",
    "table_4_e": "E: text encoder, no distillation",
    "table_4_f": "F: text encoder, no projector",
    "table_4_g": "G: text encoder, MLP projector",
    "table_4_h": "H: text encoder, residual",
    "table_4_i": "I: both encoders, residual",
}
FROSTER = "_froster"  # suffix of students that were trained with distillation
STUDENT_METHODS = {name: student.title for name, student in STUDENTS.items()} | {
    f"{name}{FROSTER}": f"{student.title} + FROSTER" for name, student in STUDENTS.items()
}
PATCHED = dict.fromkeys(
    ("fine_tuned_patched", "open_vclip", "no_projector_patched", "plain_patched", "froster_patched"), 0.5
)  # interpolation weight of CLIP at which these methods are compared


def known(names: dict[str, str]) -> Callable[[str], str]:
    def check(name: str) -> str:
        if name not in names:
            raise ValueError(f"unknown name {name!r}, {did_you_mean(name, names).rstrip('.')}")
        return name

    return check


Percent = Annotated[float, Field(ge=0, le=100)]


@dataclass(frozen=True)
class Result:
    """Top-1 of one trained and tested network, in percent, on one draw of the training clips.

    `regime` is a key of `REGIMES`, `method` one of `METHODS`, `TABLE_4` or `STUDENT_METHODS`; `ratio` is the
    interpolation weight of CLIP in the tested weights; `alpha`, `beta` and `zero_init` keep their defaults for methods
    without such a setting. `learning_rate` is 0 for an untrained model. `seconds`: training time.
    """

    __pydantic_config__: ClassVar = ConfigDict(extra="forbid", strict=True)

    regime: Annotated[str, AfterValidator(known(REGIMES))]
    method: Annotated[str, AfterValidator(known(METHODS | TABLE_4 | STUDENT_METHODS))]
    draw: NonNegativeInt
    base: Percent
    novel: Percent
    ratio: Annotated[float, Field(ge=0, le=1)] = 0.0
    alpha: PositiveFloat = 0.1
    beta: NonNegativeFloat = 2.0
    zero_init: bool = True
    learning_rate: NonNegativeFloat = 0.0
    seconds: NonNegativeFloat = 0.0

    @property
    def hm(self) -> float:
        """Harmonic mean of base and novel; 0 where both are 0."""
        total = self.base + self.novel
        return 2 * self.base * self.novel / total if total else 0.0

    @property
    def experiment(self) -> "Result":
        """The settings without the outcome: equal for two runs of the same experiment."""
        return replace(self, base=0.0, novel=0.0, seconds=0.0)


LINE: TypeAdapter[Result] = TypeAdapter(Result)


def read_results(path: Path) -> list[Result]:
    """Results in the order of the file, none if it does not exist; of repeated experiments the last one counts.

    A truncated last line is ignored. Raises `FrosterError` with file and line for any other invalid line.
    """
    try:
        *lines, last = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return []
    except OSError as error:
        raise FrosterError(f"The results {path} cannot be read: {error.strerror}.") from error
    if is_whole(last):
        lines.append(last)
    results: dict[Result, Result] = {}
    for number, line in enumerate(lines, start=1):
        try:
            result = LINE.validate_json(line)
        except ValidationError as error:
            first = error.errors()[0]
            where = "".join(f"{key}: " for key in first["loc"])
            problem = first["msg"].removeprefix("Value error, ")
            raise FrosterError(
                f"The results {path}, line {number}: {where}{problem}; fix or remove this line."
            ) from error
        results.pop(result.experiment, None)
        results[result.experiment] = result
    return list(results.values())


def begins_with_result(path: Path) -> bool:
    """Whether the first line of a file is a result, or there is none."""
    try:
        with path.open("rb") as file:
            first = file.readline()
    except OSError as error:
        raise FrosterError(f"The results {path} cannot be read: {error.strerror}.") from error
    try:
        return not first.strip() or LINE.validate_json(first) is not None
    except ValidationError:
        return False


def append_result(path: Path, result: Result) -> None:
    """Add a line that is on the disk when this returns; a line that a kill cut short makes place for it.

    Raises `FrosterError` when the file cannot be written.
    """
    line = json.dumps(asdict(result), allow_nan=False).encode() + b"\n"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a+b") as file:
            file.seek(0)
            content = file.read()
            last = content[content.rfind(b"\n") + 1 :]
            if is_whole(last):
                line = b"\n" + line
            elif last:
                file.truncate(len(content) - len(last))
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise FrosterError(f"A result cannot be written to {path}: {error.strerror}.") from error


def is_whole(line: bytes) -> bool:
    """Whether a line without its end is a whole object: what a kill cuts short is not, an editor may leave one so."""
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False


def select(results: Sequence[Result], regime: str, method: str, **settings: float | bool) -> list[Result]:
    """A method's results in a regime, one per draw, at the default settings and `PATCHED`, or at `settings`.

    The frozen CLIP has no settings: all of its results are selected.
    """
    wanted = {"ratio": PATCHED.get(method, 0.0), "alpha": 0.1, "beta": 2.0, "zero_init": True} | settings
    if method == "frozen":
        wanted = {}
    return [
        result
        for result in results
        if (result.regime, result.method) == (regime, method)
        and all(getattr(result, name) == value for name, value in wanted.items())
    ]


def aggregate(results: Sequence[Result], score: str) -> MeanStd:
    """Mean and std of `score` ("base", "novel" or "hm") over results of several draws."""
    return mean_std([getattr(result, score) for result in results])


def paired_difference(
    results_a: Sequence[Result], results_b: Sequence[Result], score: str = "hm"
) -> tuple[float, float, int]:
    """Mean of `score` of a minus b over their common draws, its standard error, and the number of draws.

    A frozen CLIP tested once counts for every draw, since it is not trained. NaN if there are too few draws.
    """
    a, b = by_draw(results_a, score, results_b), by_draw(results_b, score, results_a)
    found = mean_std([a[draw] - b[draw] for draw in sorted(a.keys() & b.keys())])
    return found.mean, found.std / math.sqrt(max(found.n, 1)), found.n


def by_draw(results: Sequence[Result], score: str, others: Sequence[Result]) -> dict[int, float]:
    draws = [result.draw for result in results]
    if len(results) == 1 and results[0].method == "frozen":
        draws = [other.draw for other in others]
        results = [results[0]] * len(draws)
    return {draw: getattr(result, score) for draw, result in zip(draws, results, strict=True)}
