"""Mean and standard deviation over draws, for benchmarks and protocols."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import isnan, nan


@dataclass(frozen=True)
class MeanStd:
    """Mean and sample standard deviation (n - 1) of `n` values; std is NaN for one value, both for none."""

    mean: float
    std: float
    n: int

    def to_json(self) -> dict[str, float | int | None]:
        std = None if isnan(self.std) else self.std
        return {"mean": self.mean, "std": std, "n": self.n}

    def with_mean(self, mean: float) -> "MeanStd":
        return replace(self, mean=mean)


def mean_std(values: Sequence[float]) -> MeanStd:
    mean = statistics.fmean(values) if values else nan
    return MeanStd(mean, statistics.stdev(values) if len(values) > 1 else nan, len(values))
