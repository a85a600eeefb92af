"""Predictive densities as NumPy objects: what recalibration and the checks ask of one, and what they do with it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtr

from pyro_probmix.calibration.arrays import Floats, finite, over_rows

__all__ = ["Density", "crps_of_quantiles", "invert_cdf", "observed_rows", "rule_over_levels"]

#: Nodes of the rule over levels, and the z = Phi^{-1}(level) that they reach.
NUM_LEVELS, WIDEST = 200, 6.0


class Density(Protocol):
    """The predictive densities of one continuous response, one for each row.

    Arguments broadcast against the rows, [N]: ``quantile(0.9)`` is [N], ``quantile([[0.05], [0.95]])`` is [2, N].
    """

    @property
    def mean(self) -> Floats:
        """[N], in the units of the response."""

    @property
    def std(self) -> Floats:
        """Standard deviations, [N]."""

    def cdf(self, y: ArrayLike) -> Floats:
        """The distribution functions."""

    def log_prob(self, y: ArrayLike) -> Floats:
        """The logarithms of the densities."""

    def quantile(self, level: ArrayLike) -> Floats:
        """The inverse of :meth:`cdf`."""

    def crps(self, y: ArrayLike) -> Floats:
        """The continuous ranked probability scores."""


def invert_cdf(cdf: Callable[[Floats], ArrayLike], level: ArrayLike, low: ArrayLike, high: ArrayLike) -> Floats:
    """Solves cdf(y) = level by bisection, to the last digits.

    Args:
        cdf: monotone, row by row.
        level: broadcasts with the rows.
        low, high: with the solution between them; where they are infinite, so is the solution.

    Example:
        >>> invert_cdf(lambda y: y**2, [0.25, 0.01], 0.0, 1.0).round(6)
        array([0.5, 0.1])
    """
    level, low, high = np.broadcast_arrays(*(np.asarray(a, dtype=np.float64) for a in (level, low, high)))
    known = np.isinf(low) | np.isinf(high)
    answer = np.where(np.isinf(low), low, high)
    low, high = np.where(known, 0.0, low), np.where(known, 0.0, high)
    while True:
        middle = low + (high - low) / 2
        open_ = (low < middle) & (middle < high)
        if not open_.any():
            return np.where(known, answer, middle)
        below = cdf(middle) < level
        low, high = np.where(open_ & below, middle, low), np.where(open_ & ~below, middle, high)


def crps_of_quantiles(density: Density, y: ArrayLike) -> Floats:
    r"""The continuous ranked probability score of any density that has quantiles, by quadrature.

    .. math::
        2 \int_0^1 (1[y \le q_\tau] - \tau)\,(q_\tau - y)\,d\tau

    by a rule of 200 nodes in z = Phi^{-1}(tau) between -6 and 6, to about a thousandth of the score: the integrand has a kink.

    Args:
        density: of the rows, [N].
        y: observations, [N].

    Reference:
        Laio, Tamea (2007). *Verification tools for probabilistic forecasts of continuous hydrological variables*. Hydrol.
        Earth Syst. Sci. 11.

    Example:
        >>> from pyro_probmix.calibration import GaussianMixture
        >>> density = GaussianMixture([[0.0]], 1.0)
        >>> crps_of_quantiles(density, [1.0]).round(3), density.crps([1.0]).round(3)
        (array([0.602]), array([0.602]))
    """
    y = finite("y", y)
    level, weight = rule_over_levels(y.ndim)
    quantile = density.quantile(level)
    score: Floats = 2 * (weight * ((y <= quantile) - level) * (quantile - y)).sum(0)
    return score


def rule_over_levels(num_row_dims: int) -> tuple[Floats, Floats]:
    r"""Levels and weights, [J, 1, ...], of a rule for integrals over levels: Gauss-Legendre in z = Phi^{-1}(level)."""
    node, weight = np.polynomial.legendre.leggauss(NUM_LEVELS)
    z = WIDEST * node.reshape(-1, *(1,) * num_row_dims)
    measure = weight.reshape(z.shape) * np.exp(-z * z / 2)
    return ndtr(z), measure / measure.sum()


def observed_rows(density: Density, y: ArrayLike) -> Floats:
    """The observations of the densities' rows, one for each.

    Raises:
        ValueError: if they are not finite, or not as many.
    """
    y = over_rows("y", finite("y", y))
    if density.mean.shape != y.shape:
        raise ValueError(
            f"The densities are of rows of shape {density.mean.shape} and y of {y.shape}, expected the same [N]. "
            "Try one target at a time, of the same rows."
        )
    return y
