"""Two methods on the same runs: their difference, how uncertain it is, and whether it can be told from chance."""

from __future__ import annotations

__all__ = ["SHARED_ROWS", "Difference", "Paired", "by_medians", "of_mean"]

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import pandas as pd
from scipy.stats import t as student

from pyro_probmix.experiments.report.claims.evidence import SHARED
from pyro_probmix.experiments.report.claims.resampling import Centres
from pyro_probmix.experiments.report.claims.verdicts import LEVEL, Finding
from pyro_probmix.experiments.report.numbers.tidy import lower_is_better

#: Experiment -> test rows of a split in its other rows, where runs are splits of one table. A user's table is dealt at random,
#: a fifth of it to test on. The other experiments' runs are no splits of one table.
SHARED_ROWS = {"uci": SHARED, "table": 1 / 4}
#: Differences that spread by no more than this share of their mean are equal but for rounding.
_ROUNDING = 1e-9


def by_medians(experiment: str) -> bool:
    """Whether a few of an experiment's runs have scores that are many times the others', and decide any mean: the toys'."""
    return experiment.startswith(("toy", "ablation"))


def of_mean(gains: pd.Series, shared: float = 0.0) -> tuple[float, float, float]:
    """The mean of paired differences, its standard error, and p of a mean of 0 by Student's t, two-sided.

    The signs of n runs, which are alike in 2 of :math:`2^n` cases, are all that differences tell that do not vary.

    Args:
        gains: of each run; those that are not finite are left out.
        shared: test rows of a split in training rows, for runs that are splits of one table and share its rows (Nadeau and
            Bengio, 2003); 0 for runs that do not.

    Returns:
        of fewer than two runs NaN for the standard error and 1 for p.
    """
    there = gains[np.isfinite(gains)]
    mean, spread, runs = float(there.mean()), float(there.std()), len(there)
    if runs < 2:
        return mean, math.nan, 1.0
    error = spread * math.sqrt(1 / runs + shared)
    if spread <= _ROUNDING * abs(mean):
        return mean, error, _least(runs) if mean else 1.0
    return mean, error, float(2 * student.sf(abs(mean) / error, runs - 1))


def _least(runs: int) -> float:
    """The least p of so many runs without a distribution assumed: that all of their signs are alike."""
    return 2.0 ** (1 - runs)


@dataclass(frozen=True)
class Difference:
    """A method beside another.

    Attributes:
        value: the method's median minus the other's, or the mean of the differences; NaN where no run has a finite one.
        gain: the same, above 0 where the method is better.
        p: of no difference, two-sided, for this comparison alone; 1 where fewer than two runs tell.
        runs: how many it is taken over.
        of: how many both have run.
        error: standard error of a mean; NaN of fewer than two runs, and of medians.
        interval: 95 % bootstrap interval of a difference of medians; None of means, and of a single run.
    """

    value: float
    gain: float
    p: float
    runs: int
    of: int
    error: float = math.nan
    interval: tuple[float, float] | None = None

    @property
    def side(self) -> Literal["ahead", "behind", "open"]:
        """Where the method is, at ``LEVEL``."""
        if self.p >= LEVEL or not self.gain:
            return "open"
        return "ahead" if self.gain > 0 else "behind"


@dataclass(frozen=True, eq=False)
class Paired:
    """The scores of methods on the same runs.

    Attributes:
        scores: [run, method]; infinite, the worst, for a run that diverged, see
            :func:`~pyro_probmix.experiments.report.claims.evidence.diverged_as_worst`, and NaN where a method was not run.
        experiment: it says what the runs are: new data for each in a toy, splits of one table, or seeds.
        metric: of the scores.
    """

    scores: pd.DataFrame
    experiment: str
    metric: str

    @cached_property
    def medians(self) -> Centres | None:
        """Of a toy's runs; None for the others', of which means are taken."""
        return Centres(self.scores, self.experiment, self.metric) if by_medians(self.experiment) else None

    @property
    def shared(self) -> float:
        """For :func:`of_mean`."""
        return SHARED_ROWS.get(self.experiment, 0.0)

    def difference(self, method: str, reference: str) -> Difference | None:
        """A method beside another on the runs that both have; None where there are none."""
        if not {method, reference} <= set(self.scores.columns):
            return None
        both = self.scores[[method, reference]].dropna()
        if both.empty:
            return None
        medians = self.medians and self.medians.among(method, reference)
        return self._of_medians(medians, method, reference) if medians else self._of_means(both, method, reference)

    def _of_medians(self, medians: Centres, method: str, reference: str) -> Difference:
        gap, runs = medians.gap(method, reference), medians.runs
        p = max(Finding(gap > 0, gap < 0, runs=runs).p_value, _least(runs))
        return Difference(float(gap[0]), self._gain(float(gap[0])), p, runs, runs, interval=medians.interval(gap))

    def _of_means(self, both: pd.DataFrame, method: str, reference: str) -> Difference:
        with np.errstate(invalid="ignore"):  # two runs that diverged
            gaps = both[method] - both[reference]
        value, error, p = of_mean(gaps, self.shared)
        return Difference(value, self._gain(value), p, int(np.isfinite(gaps).sum()), len(gaps), error)

    def _gain(self, value: float) -> float:
        return -value if lower_is_better(self.metric) else value
