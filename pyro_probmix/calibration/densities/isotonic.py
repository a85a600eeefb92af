"""Recalibration by a monotone map of the predicted levels, fitted on validation rows by isotonic regression."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike

from pyro_probmix.arguments import checked
from pyro_probmix.calibration.densities.density import Density, crps_on_nodes, moments_on_nodes, observed_rows
from pyro_probmix.calibration.scores.arrays import Floats, of_unit_interval

__all__ = ["IsotonicMap", "RemappedDensity", "fit_isotonic"]


@dataclass(frozen=True)
class IsotonicMap:
    r"""A monotone, piecewise linear map G of levels, from :func:`fit_isotonic`: recalibrated are :math:`G(F(y))`.

    Attributes:
        knots: levels from 0 to 1, [J + 1].
        values: G there, increasing from 0 to 1, [J + 1].
    """

    knots: Floats
    values: Floats

    def __call__(self, density: Density) -> RemappedDensity:
        """The densities with recalibrated levels."""
        return RemappedDensity(density, self)


@dataclass(frozen=True)
class RemappedDensity:
    """Densities recalibrated by a map G of levels: distribution function G(F(y)), density G'(F(y)) f(y), a step at each knot.

    Args:
        base: the densities of N rows.
        levels: G.
    """

    base: Density
    levels: IsotonicMap

    def cdf(self, y: ArrayLike) -> Floats:
        """The distribution functions; ``y`` broadcasts with [N]."""
        return np.interp(self.base.cdf(y), self.levels.knots, self.levels.values)

    def log_prob(self, y: ArrayLike) -> Floats:
        """The log densities, in nats; ``y`` broadcasts with [N]."""
        slope = np.diff(self.levels.values) / np.diff(self.levels.knots)
        cell = np.searchsorted(self.levels.knots, self.base.cdf(y), side="right") - 1
        return self.base.log_prob(y) + np.log(slope[np.minimum(cell, len(slope) - 1)])

    def quantile(self, level: ArrayLike) -> Floats:
        """The quantiles; the levels broadcast with [N]."""
        level = of_unit_interval("level", level)
        return self.base.quantile(np.interp(level, self.levels.values, self.levels.knots))

    @cached_property
    def _moments(self) -> tuple[Floats, Floats]:
        return moments_on_nodes(self)

    @property
    def mean(self) -> Floats:
        """Means, by quadrature, [N]."""
        return self._moments[0]

    @property
    def std(self) -> Floats:
        """Standard deviations, by quadrature, [N]."""
        return np.sqrt(self._moments[1])

    def crps(self, y: ArrayLike) -> Floats:
        """The continuous ranked probability scores, by quadrature, [N]."""
        return crps_on_nodes(self, y)

    def nodes(self) -> Floats:
        """The nodes of the base, [Q, N]."""
        return self.base.nodes()


@checked(least={"num_cells": 1})
def fit_isotonic(density: Density, y: ArrayLike, *, num_cells: int | None = None) -> IsotonicMap:
    r"""Fits the map from predicted levels of validation rows to the observed shares of rows below, by isotonic regression.

    The regression of the shares :math:`\hat F(u_i)` on the transforms :math:`u_i = F_i(y_i)` is read off at the ends and
    at J - 1 quantiles of the transforms, so that about N/J rows are in each cell and the density is positive. Within the
    outermost cells the tails are those of the base: if these are far too narrow or too wide, fit a scale first, and the map
    to the densities that it gives.

    Args:
        density: of the N validation rows.
        y: their observations, [N].
        num_cells: J; default :math:`\lceil 2 N^{1/3} \rceil`, Rice's rule for histograms.

    Raises:
        ValueError: if the observations are not finite or do not fit the rows, or there is no cell.

    Reference:
        Kuleshov, Fenner, Ermon (2018). *Accurate uncertainties for deep learning using calibrated regression*, algorithm 1.

    Example:
        >>> from pyro_probmix.calibration import GaussianMixture
        >>> rng = np.random.default_rng(0)
        >>> narrow = GaussianMixture(np.zeros((1, 1000)), 0.5)
        >>> recalibrated = fit_isotonic(narrow, rng.normal(size=1000))(narrow)
        >>> bool(recalibrated.log_prob(np.zeros(1000))[0] < narrow.log_prob(np.zeros(1000))[0])
        True
    """
    from sklearn.isotonic import IsotonicRegression

    y = observed_rows(density, y)
    usual = math.ceil(2 * len(y) ** (1 / 3))
    cells = usual if num_cells is None else num_cells
    pit = np.sort(density.cdf(y))
    shares = np.arange(1, len(pit) + 1) / (len(pit) + 1)
    regression = IsotonicRegression(y_min=0, y_max=1)
    regression.fit(np.concatenate([[0], pit, [1]]), np.concatenate([[0], shares, [1]]))
    knots = np.unique(np.concatenate([[0], np.quantile(pit, np.arange(1, cells) / cells), [1]]))
    values = regression.predict(knots)
    values[0], values[-1] = 0, 1  # transforms of exactly 0 or 1 are averaged with the ends
    return IsotonicMap(knots, values)
