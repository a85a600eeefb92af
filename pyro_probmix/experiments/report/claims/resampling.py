"""Centres of scores, medians or means, on bootstrap resamples of the runs."""

from __future__ import annotations

__all__ = ["RESAMPLES", "Centres", "positions"]

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import pandas as pd

from pyro_probmix.experiments.report.numbers.tidy import lower_is_better

#: The number of resamples: enough for the smallest p that Holm asks for among the claims, 0.05 / 41.
RESAMPLES = 2000

FloatArray = npt.NDArray[np.float64]


@lru_cache(maxsize=32)
def positions(unit: str, runs: int) -> npt.NDArray[np.int32]:
    """Positions of the runs of each resample, [1 + RESAMPLES, runs]; the first row is the runs themselves.

    Args:
        unit: what the runs are of: all scores of one unit are resampled together, so that differences stay paired.
        runs: how many there are.
    """
    seed = int.from_bytes(hashlib.sha256(unit.encode()).digest()[:8], "big")
    drawn = np.random.default_rng(seed).integers(runs, size=(RESAMPLES, runs), dtype=np.int32)
    return np.concatenate([np.arange(runs, dtype=np.int32)[None], drawn])


@dataclass(frozen=True, eq=False)
class Centres:
    """The median, or mean, of each method's scores, on all resamples.

    Attributes:
        frame: the scores, [run, method]; a run that diverged has no number, and counts as the worst.
        unit: see :func:`positions`.
        metric: of the scores.
        of: how the centre is taken, ``"median"`` or ``"mean"``.
        shared: the share of a run's test rows in its training rows of which runs are drawn from one table, for the variance of
            means over them; 0 for runs that draw their data anew.
        single: whether one run is enough, a table's mean that stands for all; of runs there must be two.
    """

    frame: pd.DataFrame
    unit: str
    metric: str
    of: str = "median"
    shared: float = 0.0
    single: bool = False
    _found: dict[tuple[str, str], FloatArray] = field(default_factory=dict, init=False, repr=False)

    @property
    def runs(self) -> int:
        """How many there are."""
        return len(self.frame)

    def has(self, *methods: str) -> bool:
        """Whether there are scores of these methods, of enough runs."""
        return set(methods) <= set(self.frame.columns) and self.runs > (0 if self.single else 1)

    def __getitem__(self, method: str) -> FloatArray:
        """The centre of a method, [1 + RESAMPLES], or [1] for a single run; first that of the runs themselves."""
        return self.statistic(method, self.of)

    def statistic(self, method: str, of: str) -> FloatArray:
        """As above, by ``"median"``, ``"mean"`` or ``"iqr"``, the range of the middle half."""
        if (method, of) not in self._found:
            self._found[method, of] = _STATISTICS[of](self._values(method)[self._rows()])
        return self._found[method, of]

    def gap(self, a: str, b: str) -> FloatArray:
        """The centre of a minus that of b; 0 where both are infinite."""
        with np.errstate(invalid="ignore"):
            return np.asarray(np.nan_to_num(self[a] - self[b], nan=0.0, posinf=np.inf, neginf=-np.inf))

    def interval(self, values: FloatArray) -> tuple[float, float]:
        """The 95 % bootstrap interval of a number on all resamples."""
        low, high = np.quantile(values[1:], [0.025, 0.975], method="inverted_cdf")  # no mean of two that are infinite
        return float(low), float(high)

    def _rows(self) -> npt.NDArray[np.int32]:
        return positions(self.unit, self.runs) if self.runs > 1 else np.zeros((1, 1), np.int32)

    def _values(self, method: str) -> FloatArray:
        worst = np.inf if lower_is_better(self.metric) else -np.inf
        values: FloatArray = self.frame[method].to_numpy(np.float64)
        return np.where(np.isnan(values), worst, values)


def _iqr(values: FloatArray) -> FloatArray:
    low, high = np.quantile(values, [0.25, 0.75], axis=1, method="inverted_cdf")
    with np.errstate(invalid="ignore"):
        return np.asarray(np.nan_to_num(high - low, nan=np.inf, posinf=np.inf))


_STATISTICS: dict[str, Callable[[FloatArray], FloatArray]] = {
    "median": lambda values: np.asarray(np.median(values, axis=1)),
    "mean": lambda values: np.asarray(values.mean(axis=1)),
    "iqr": _iqr,
}
