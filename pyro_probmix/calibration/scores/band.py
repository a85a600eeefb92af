"""The simultaneous confidence band of an empirical distribution function under uniformity, and the p-value of its test."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.signal import convolve
from scipy.stats import binom, poisson

from pyro_probmix.calibration.scores.arrays import Floats, of_level, of_unit_interval, over_rows

__all__ = ["NUM_POINTS", "CalibrationCurve", "uniform_curve"]

#: The distribution function is compared at 1/100, ..., 99/100.
NUM_POINTS = 99

Counts = NDArray[np.int64]


@dataclass(frozen=True)
class CalibrationCurve:
    """Observed shares at nominal levels, with their simultaneous confidence band.

    Attributes:
        nominal: levels, the expected shares of a calibrated forecast, [K].
        observed: shares of the rows below each level, [K].
        standard_error: of each observed share alone, from the binomial distribution, [K].
        lower, upper: the band around the nominal shares, [K]. A calibrated forecast stays inside at all K points at once
            with at least the probability asked for.
        probability: the exact probability that it does.
        p_value: the probability of a curve at least as far from the nominal shares, if the forecast is calibrated and the
            rows are independent. It is below 1 - ``probability`` if and only if the curve leaves the band.
    """

    nominal: Floats
    observed: Floats
    standard_error: Floats
    lower: Floats
    upper: Floats
    probability: float
    p_value: float

    @property
    def inside(self) -> bool:
        """Whether the curve is inside of the band at every point."""
        return bool(np.all((self.lower <= self.observed) & (self.observed <= self.upper)))


def uniform_curve(values: ArrayLike, *, level: float = 0.95) -> CalibrationCurve:
    r"""The empirical distribution function of values that are uniform on [0, 1] under calibration.

    At the points :math:`z_i`, the counts :math:`n \hat F(z_i)` are binomial. The band is made of their central intervals
    with the same pointwise tail :math:`\tau`, the largest with which all of the counts are inside together with
    probability ``level``. That probability is computed exactly: counts of n uniform values are counts of a Poisson
    process given that it has n points, so it is a product of convolutions.

    Args:
        values: in [0, 1], [N].
        level: joint probability of the band.

    Raises:
        ValueError: if a value is outside of [0, 1], or the level is not a probability.

    Reference:
        Säilynoja, Bürkner, Vehtari (2022). *Graphical test for discrete uniformity and its applications*. Statistics and
        Computing 32, section 2 (the band). Moscovich, Nadler (2017). *Fast calculation of boundary crossing
        probabilities for Poisson processes*. Statistics and Probability Letters 123 (its probability).

    Example:
        >>> values = np.random.default_rng(0).uniform(size=300)
        >>> uniform_curve(values).inside, uniform_curve(values**2).inside
        (True, False)
    """
    values = over_rows("values", of_unit_interval("values", values))
    n, points = len(values), np.arange(1, NUM_POINTS + 1) / (NUM_POINTS + 1)
    counts = np.searchsorted(np.sort(values), points, side="right")
    lower, upper, probability = _band(n, of_level(level))
    tail = float(np.minimum(binom.cdf(counts, n, points), binom.sf(counts - 1, n, points)).min())
    share = counts / n
    return CalibrationCurve(
        nominal=points,
        observed=share,
        standard_error=np.sqrt(share * (1 - share) / n),
        lower=lower / n,
        upper=upper / n,
        probability=probability,
        p_value=float(np.clip(1 - _inside(n, *_bounds(n, tail)), 0, 1)),
    )


@lru_cache(maxsize=64)
def _band(n: int, level: float) -> tuple[Counts, Counts, float]:
    """The bounds of the counts, and the joint probability, at least the level, that they are within."""
    low, high = (
        (1 - level) / (2 * NUM_POINTS),
        (1 - level) / 2,
    )  # Bonferroni's tail is too small, the pointwise one too large
    while high / low > 1 + 1e-4:
        middle = np.sqrt(low * high)
        if _inside(n, *_bounds(n, middle)) >= level:
            low = middle
        else:
            high = middle
    bounds = _bounds(n, low)
    return *bounds, _inside(n, *bounds)


def _bounds(n: int, tail: float) -> tuple[Counts, Counts]:
    """At each point the least and the largest count k with P(X <= k) > tail and P(X >= k) > tail."""
    points = np.arange(1, NUM_POINTS + 1) / (NUM_POINTS + 1)
    low, high = binom.ppf(tail, n, points), binom.isf(tail, n, points)
    # The inverse functions are rounded: a count may be off by one, which the exact tail corrects.
    low = np.where(binom.cdf(low, n, points) <= tail, low + 1, low)
    high = np.where(binom.sf(high - 1, n, points) <= tail, high - 1, high)
    return low.astype(np.int64), high.astype(np.int64)


def _inside(n: int, low: Counts, high: Counts) -> float:
    """The probability that n uniform values have at every point a count within the bounds."""
    if np.any(low > high):
        return 0.0
    rate = n / (NUM_POINTS + 1)
    first, last = max(0, int(rate - 9 * rate**0.5)), int(rate + 9 * rate**0.5 + 40)  # all but 1e-16 of the probability
    step = poisson.pmf(np.arange(first, last + 1), rate)  # new points between two neighbouring z
    reached, start = np.ones(1), 0  # probabilities of the counts start, start + 1, ...
    for least, largest in zip(low, high, strict=True):
        reached, start = convolve(reached, step), start + first
        reached = np.maximum(reached[max(0, least - start) : max(0, largest + 1 - start)], 0)
        start = max(start, least)
    remaining = poisson.pmf(n - start - np.arange(len(reached)), rate)
    return float(reached @ remaining / poisson.pmf(n, n))
