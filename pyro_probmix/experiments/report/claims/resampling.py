"""Centres of scores, medians or means, on bootstrap resamples of the runs."""

from __future__ import annotations

__all__ = ["FEW", "RESAMPLES", "RESAMPLES_OF_FEW", "Centres", "positions"]

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import pandas as pd

#: The number of resamples of many runs: enough for the smallest p that Holm asks for among the claims, 0.05 / 41.
RESAMPLES = 2000
#: Of so few runs there are more, since their p follows from Student's t, which asks for more standard errors; of still fewer no
#: number of resamples decides one claim among many.
FEW, RESAMPLES_OF_FEW = range(10, 300), 25_000

FloatArray = npt.NDArray[np.float64]


@lru_cache(maxsize=32)
def positions(unit: str | None, runs: int) -> npt.NDArray[np.int32]:
    """Positions of the runs of each resample, [1 + resamples, runs]; the first row is the runs themselves.

    Args:
        unit: what the runs are of: all scores of one unit are resampled together, so that differences stay paired. None for no
            resamples.
        runs: how many there are.
    """
    if unit is None:
        return np.arange(runs, dtype=np.int32)[None]
    seed = int.from_bytes(hashlib.sha256(unit.encode()).digest()[:8], "big")
    count = RESAMPLES_OF_FEW if runs in FEW else RESAMPLES
    drawn = np.random.default_rng(seed).integers(runs, size=(count, runs), dtype=np.int32)
    return np.concatenate([np.arange(runs, dtype=np.int32)[None], drawn])


@dataclass(frozen=True, eq=False)
class Centres:
    """The median, or mean, of each method's scores, on all resamples.

    Attributes:
        frame: the scores, [run, method]; infinite, the worst, for a run that diverged. A method has no number where it was not
            run, see :meth:`among`.
        unit: see :func:`positions`; without resamples there is nothing but the centres of the runs as they are.
        metric: of the scores.
        of: how the centre is taken, ``"median"`` or ``"mean"``.
        shared: the share of a run's test rows in its training rows of which runs are drawn from one table, for the variance of
            means over them; 0 for runs that draw their data anew. Resamples of such runs vary too little, by the factor
            :math:`\\sqrt{1 + J n_{test} / n_{train}}` of J runs (Nadeau and Bengio, 2003), and are drawn apart by it.
        single: whether one run is enough, a table's mean that stands for all; of runs there must be two.
    """

    frame: pd.DataFrame
    unit: str | None
    metric: str
    of: str = "median"
    shared: float = 0.0
    single: bool = False
    _found: dict[tuple[str, str], FloatArray] = field(default_factory=dict, init=False, repr=False)
    _among: dict[tuple[str, ...], Centres] = field(default_factory=dict, init=False, repr=False)

    @property
    def runs(self) -> int:
        """How many there are."""
        return len(self.frame)

    def has(self, *methods: str) -> bool:
        """Whether there are scores of these methods, of enough runs."""
        return set(methods) <= set(self.frame.columns) and self.runs > (0 if self.single else 1)

    def among(self, *methods: str) -> Centres | None:
        """The centres over the runs that all of these methods have; None where there are too few."""
        if not self.has(*methods):
            return None
        there = self.frame[list(methods)].notna().all(axis=1)
        if there.all():
            return self
        key = tuple(sorted(methods))
        if key not in self._among:
            self._among[key] = replace(self, frame=self.frame[there])
        found = self._among[key]
        return found if found.has(*methods) else None

    def __getitem__(self, method: str) -> FloatArray:
        """The centre of a method, [1 + resamples], or [1] for a single run; first that of the runs themselves."""
        return self.statistic(method, self.of)

    def statistic(self, method: str, of: str) -> FloatArray:
        """As above, by ``"median"``, ``"mean"`` or ``"iqr"``, the range of the middle half."""
        if (method, of) not in self._found:
            values = self.frame[method].to_numpy(np.float64)
            self._found[method, of] = self._apart(_STATISTICS[of](values, self.unit) if self.runs > 1 else values)
        return self._found[method, of]

    def _apart(self, found: FloatArray) -> FloatArray:
        """Resamples as far from the runs themselves as those of runs that share rows should be."""
        if not self.shared or not np.isfinite(found[0]):
            return found
        return np.asarray(found[0] + math.sqrt(1 + self.runs * self.shared) * (found - found[0]))

    def gap(self, a: str, b: str) -> FloatArray:
        """The centre of a minus that of b; 0 where both are infinite."""
        with np.errstate(invalid="ignore"):
            return np.asarray(np.nan_to_num(self[a] - self[b], nan=0.0, posinf=np.inf, neginf=-np.inf))

    def interval(self, values: FloatArray) -> tuple[float, float]:
        """The 95 % bootstrap interval of a number on all resamples."""
        low, high = np.quantile(values[1:], [0.025, 0.975], method="inverted_cdf")  # no mean of two that are infinite
        return float(low), float(high)


@lru_cache(maxsize=32)
def _counts(unit: str | None, runs: int) -> npt.NDArray[np.int16]:
    """How often each run is in each resample, [1 + resamples, runs]."""
    drawn = positions(unit, runs)
    flat = drawn + np.arange(len(drawn), dtype=np.int64)[:, None] * runs
    return np.bincount(flat.ravel(), minlength=drawn.size).reshape(drawn.shape).astype(np.int16)


def _ordered(values: FloatArray, unit: str | None, places: Sequence[int]) -> list[FloatArray]:
    """The numbers at some places of each resample in order, the lowest at 1.

    The runs are sorted once; a resample's number at a place is the first run by which it has so many.
    """
    order = np.argsort(values, kind="stable")
    so_many = np.cumsum(_counts(unit, len(values))[:, order], axis=1, dtype=np.int32)
    return [values[order][np.count_nonzero(so_many < place, axis=1)] for place in places]


def _median(values: FloatArray, unit: str | None) -> FloatArray:
    low, high = _ordered(values, unit, ((len(values) + 1) // 2, len(values) // 2 + 1))
    return np.asarray((low + high) / 2)


def _mean(values: FloatArray, unit: str | None) -> FloatArray:
    return np.asarray(values[positions(unit, len(values))].mean(axis=1))


def _iqr(values: FloatArray, unit: str | None) -> FloatArray:
    low, high = _ordered(values, unit, [math.ceil(share * len(values)) for share in (0.25, 0.75)])
    with np.errstate(invalid="ignore"):
        return np.asarray(np.nan_to_num(high - low, nan=np.inf, posinf=np.inf))


_STATISTICS: dict[str, Callable[[FloatArray, str | None], FloatArray]] = {"median": _median, "mean": _mean, "iqr": _iqr}
