"""The interface of predictive densities on NumPy arrays, and CRPS, moments and quantiles that follow from it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import elementwise

from pyro_probmix.calibration.scores.arrays import Floats, finite, over_rows

__all__ = ["Density", "crps_on_nodes", "invert_cdf", "moments_on_nodes", "observed_rows"]


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
        """The distribution functions at y."""

    def log_prob(self, y: ArrayLike) -> Floats:
        """The log densities at y, in nats."""

    def quantile(self, level: ArrayLike) -> Floats:
        """The inverse of :meth:`cdf`."""

    def crps(self, y: ArrayLike) -> Floats:
        """The continuous ranked probability scores."""

    def nodes(self) -> Floats:
        """Some hundreds of points at which the densities are resolved, for quadrature, sorted, [Q, N]."""


def invert_cdf(cdf: Callable[[Floats], ArrayLike], level: ArrayLike, low: ArrayLike, high: ArrayLike) -> Floats:
    """Solves cdf(y) = level by Chandrupatla's method, to about the last digits.

    Args:
        cdf: monotone, row by row.
        level: broadcasts with the rows.
        low, high: with the solution between them; where they are infinite, so is the solution.

    Reference:
        Chandrupatla (1997). *A new hybrid quadratic/bisection algorithm for finding the zero of a nonlinear function without
        using derivatives*. Advances in Engineering Software 28.

    Example:
        >>> invert_cdf(lambda y: y**2, [0.25, 0.01], 0.0, 1.0).round(6)
        array([0.5, 0.1])
    """
    level, low, high = np.broadcast_arrays(*(np.asarray(a, dtype=np.float64) for a in (level, low, high)))
    answer = np.where(np.isinf(low), low, high)
    open_ = np.isfinite(low) & np.isfinite(high) & (low < high)
    if not open_.any():
        return answer
    points = np.where(np.isfinite(answer), answer, 0.0)

    def excess(y: Floats, place: NDArray[np.intp]) -> Floats:
        # SciPy asks only for the rows that are not solved yet, and the distribution functions are of all rows.
        points.flat[place] = y
        return np.asarray((np.broadcast_to(cdf(points), level.shape) - level).flat[place], dtype=np.float64)

    found = elementwise.find_root(excess, (low[open_], high[open_]), args=(np.flatnonzero(open_),))
    # Where components agree up to rounding, cdf - level has one sign at both ends, and either end is the solution.
    answer[open_] = np.where(found.success, found.x, (low[open_] + high[open_]) / 2)
    return answer


def crps_on_nodes(density: Density, y: ArrayLike) -> Floats:
    r"""The continuous ranked probability score of any density, :math:`\int (F(v) - 1[y \le v])^2 \, dv`.

    F is taken for linear between the nodes of the density and y: to about a thousandth of the score.

    Args:
        density: of the rows, [N].
        y: observations, [N].

    Example:
        >>> from pyro_probmix.calibration import GaussianMixture
        >>> density = GaussianMixture([[0.0]], 1.0)
        >>> crps_on_nodes(density, [1.0]).round(3), density.crps([1.0]).round(3)
        (array([0.602]), array([0.602]))
    """
    y = observed_rows(density, y)
    points = np.sort(np.concatenate([density.nodes(), y[None]]), axis=0)
    cdf, width = density.cdf(points), np.diff(points, axis=0)
    left, right = np.where(points[:-1] < y, cdf[:-1], 1 - cdf[:-1]), np.where(points[1:] <= y, cdf[1:], 1 - cdf[1:])
    # Beyond the outermost node the step alone counts, if y is there: F is 0 or 1.
    score: Floats = (width * (left**2 + left * right + right**2)).sum(0) / 3
    return score


def moments_on_nodes(density: Density) -> tuple[Floats, Floats]:
    """Mean and variance of any density, whose F is taken for linear between its nodes."""
    nodes = density.nodes()
    cdf = density.cdf(nodes)
    cdf[0], cdf[-1] = 0, 1
    mass, low, high = np.diff(cdf, axis=0), nodes[:-1], nodes[1:]
    mean = (mass * (low + high)).sum(0) / 2
    low, high = low - mean, high - mean
    return mean, (mass * (low**2 + low * high + high**2)).sum(0) / 3


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
