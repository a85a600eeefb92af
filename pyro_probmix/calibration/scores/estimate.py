"""A number with its standard error: the mean of a score over rows, or any statistic by the bootstrap."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pyro_probmix.arguments import checked
from pyro_probmix.calibration.scores.arrays import finite, generator, over_rows

__all__ = ["Estimate", "bootstrap_error", "mean_over_rows"]

#: Resamples of a bootstrap: the standard error itself is then known to about 4 %.
NUM_RESAMPLES = 400


@dataclass(frozen=True)
class Estimate:
    """A number from N held-out rows and its standard error: its standard deviation over samples of N rows.

    Attributes:
        value: the number, in the units of the score.
        standard_error: in the same units, NaN from one row. Rows count as independent: for rows in time or in groups it
            is too small.
    """

    value: float
    standard_error: float

    def __str__(self) -> str:
        """The number to two digits of its standard error; four digits and an exponent where it is very large or small."""
        if not (0 < self.standard_error < math.inf):
            return f"{self.value:.4g}" if abs(self.value) >= 1e3 else f"{self.value:.3g}"
        if max(abs(self.value), self.standard_error) >= 1e7 or self.standard_error < 1e-7:
            return f"{self.value:.4g} ± {self.standard_error:.2g}"
        decimals = max(0, 1 - math.floor(math.log10(self.standard_error)))
        return f"{self.value:.{decimals}f} ± {self.standard_error:.{decimals}f}"


@checked()
def mean_over_rows(scores: ArrayLike) -> Estimate:
    r"""The mean of a score over rows, with the standard error :math:`s / \sqrt N`, s with N - 1 degrees of freedom.

    Args:
        scores: one for each row, [N].

    Raises:
        ValueError: if a score is not finite, or there is not one for each row.

    Example:
        >>> print(mean_over_rows([1.0, 2.0, 3.0]))
        2.00 ± 0.58
    """
    scores = over_rows("scores", finite("scores", scores))
    if len(scores) == 1:
        return Estimate(float(scores[0]), math.nan)
    # In units of a power of two, which rounds nothing, so that no square overflows.
    power = math.frexp(float(np.abs(scores).max()))[1]
    scaled = np.ldexp(scores, -power)
    error = scaled.std(ddof=1) / math.sqrt(len(scores))
    return Estimate(float(np.ldexp(scaled.mean(), power)), float(np.ldexp(error, power)))


@checked(least={"num_rows": 1})
def bootstrap_error(
    statistic: Callable[[NDArray[np.intp]], float], num_rows: int, *, seed: int | np.random.Generator = 0
) -> float:
    """The bootstrap standard error of a statistic: its standard deviation over rows drawn again with replacement.

    Args:
        statistic: of the rows with the given numbers, [N].
        num_rows: N.
        seed: of the draws.

    Returns:
        NaN from one row.

    Reference:
        Efron, Tibshirani (1993). *An Introduction to the Bootstrap*, algorithm 6.1.

    Example:
        >>> y = np.arange(100.0)
        >>> 2.5 < bootstrap_error(lambda rows: y[rows].mean(), 100) < 3.3  # the formula gives 2.9
        True
    """
    if num_rows == 1:
        return math.nan
    rng = generator(seed)
    again = [statistic(rng.integers(num_rows, size=num_rows)) for _ in range(NUM_RESAMPLES)]
    return float(np.std(again, ddof=1))
