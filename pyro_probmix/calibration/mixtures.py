"""Mixtures of Gaussians, and of any other continuous family that SciPy has, as predictive densities."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import logsumexp, ndtr, ndtri

from pyro_probmix.calibration.arrays import Floats, finite, of_unit_interval, positive, same_shape
from pyro_probmix.calibration.densities import crps_of_quantiles, invert_cdf
from pyro_probmix.calibration.scores import crps_gaussian_mixture, mixture_weights

__all__ = ["GaussianMixture", "Mixture", "ScipyMixture"]


class Mixture(ABC):
    r"""The densities :math:`\sum_m w_m\, p_m(y)` of N rows.

    Args:
        weights: that sum to one over the M components, [M, N].
    """

    def __init__(self, weights: Floats) -> None:
        self.weights = weights

    @property
    @abstractmethod
    def means(self) -> Floats:
        """Of the components, [M, N]."""

    @property
    @abstractmethod
    def stds(self) -> Floats:
        """Standard deviations of the components, [M, N]."""

    @abstractmethod
    def _cdfs(self, y: Floats) -> Floats:
        """Of the components at y, which broadcasts with [M, N]."""

    @abstractmethod
    def _log_probs(self, y: Floats) -> Floats:
        """Of the components at y, which broadcasts with [M, N]."""

    @abstractmethod
    def _quantiles(self, level: Floats) -> Floats:
        """Of the components at levels, which broadcast with [M, N]."""

    @property
    def mean(self) -> Floats:
        """[N], in the units of the response."""
        mean: Floats = (self.weights * self.means).sum(0)
        return mean

    @property
    def std(self) -> Floats:
        """From the variance within plus that between the components, [N]."""
        within_and_between = self.stds**2 + (self.means - self.mean) ** 2
        std: Floats = np.sqrt((self.weights * within_and_between).sum(0))
        return std

    def cdf(self, y: ArrayLike) -> Floats:
        """The distribution functions at ``y``, which broadcasts with [N]."""
        cdf: Floats = (self.weights * self._cdfs(self._beside_components(y))).sum(self._axis)
        return cdf

    def log_prob(self, y: ArrayLike) -> Floats:
        """The logarithms of the densities at ``y``, in nats, which broadcasts with [N]."""
        terms = np.log(self.weights) + self._log_probs(self._beside_components(y))
        log_prob: Floats = logsumexp(terms, axis=self._axis)
        return log_prob

    def quantile(self, level: ArrayLike) -> Floats:
        """The quantiles of the levels, which broadcast with [N].

        Raises:
            ValueError: if a level is outside of [0, 1].
        """
        level = of_unit_interval("level", level)
        each = self._quantiles(self._beside_components(level))  # the mixture's is between those of its components
        return invert_cdf(self.cdf, level, each.min(self._axis), each.max(self._axis))

    def crps(self, y: ArrayLike) -> Floats:
        """The continuous ranked probability scores, by quadrature over quantiles, [N]."""
        return crps_of_quantiles(self, y)

    @property
    def _axis(self) -> int:
        """Of the components, counted from the last."""
        return -self.weights.ndim

    def _beside_components(self, values: ArrayLike) -> Floats:
        """Values that broadcast with the rows, with a dim for the components to the left of these."""
        array = np.asarray(values, dtype=np.float64)
        lead = max(0, array.ndim - (self.weights.ndim - 1))
        beside: Floats = array[(slice(None),) * lead + (None,)]
        return beside


class GaussianMixture(Mixture):
    r"""The densities :math:`\sum_m w_m\, \mathcal{N}(y; \mu_m, \sigma_m^2)` of N rows.

    Args:
        means, stds: of the M components, [M, N]; they broadcast.
        weights: positive, [M] or [M, N]; each row's are divided by their sum. Default: equal.

    Raises:
        ValueError: if a number is not finite, a standard deviation or weight not positive, or the shapes do not agree.

    Example:
        >>> density = GaussianMixture([[-1.0, 0.0], [1.0, 0.0]], 1.0)
        >>> density.mean, density.std.round(4)
        (array([0., 0.]), array([1.4142, 1.    ]))
        >>> density.cdf(density.quantile(0.9)).round(6)
        array([0.9, 0.9])
    """

    def __init__(self, means: ArrayLike, stds: ArrayLike, weights: ArrayLike | None = None) -> None:
        means, stds = finite("means", means), positive("stds", stds)
        same_shape(means=means, stds=stds)
        shape = np.broadcast_shapes(means.shape, stds.shape)
        if len(shape) < 2:
            raise ValueError(f"means has the shape {shape}, expected components and rows, [M, N]. Try means[None].")
        self._means, self._stds = np.broadcast_to(means, shape), np.broadcast_to(stds, shape)
        super().__init__(mixture_weights(weights, shape))

    @property
    def means(self) -> Floats:
        """Of the components, [M, N]."""
        return self._means

    @property
    def stds(self) -> Floats:
        """Standard deviations of the components, [M, N]."""
        return self._stds

    def _cdfs(self, y: Floats) -> Floats:
        cdfs: Floats = ndtr((y - self._means) / self._stds)
        return cdfs

    def _log_probs(self, y: Floats) -> Floats:
        z = (y - self._means) / self._stds
        log_probs: Floats = -0.5 * (z * z + math.log(2 * math.pi)) - np.log(self._stds)
        return log_probs

    def _quantiles(self, level: Floats) -> Floats:
        quantiles: Floats = self._means + self._stds * ndtri(level)
        return quantiles

    def crps(self, y: ArrayLike) -> Floats:
        """The continuous ranked probability scores in closed form, [N]."""
        return crps_gaussian_mixture(y, self._means, self._stds, self.weights)


class ScipyMixture(Mixture):
    """Mixtures of a continuous family of ``scipy.stats``, equally weighted.

    Args:
        components: a frozen distribution whose parameters have the shape [M, N].

    Raises:
        ValueError: if they have another.

    Example:
        >>> from scipy.stats import gamma
        >>> density = ScipyMixture(gamma([[2.0], [3.0]], scale=1.5))
        >>> density.mean, density.quantile(0.5).round(3)
        (array([3.75]), array([3.234]))
    """

    def __init__(self, components: Any) -> None:
        self.components = components
        shape = np.shape(components.mean())
        if len(shape) < 2:
            raise ValueError(f"The components have the shape {shape}, expected [M, N]. Try parameters[None].")
        super().__init__(mixture_weights(None, shape))

    @property
    def means(self) -> Floats:
        """Of the components, [M, N]."""
        return np.asarray(self.components.mean(), dtype=np.float64)

    @property
    def stds(self) -> Floats:
        """Standard deviations of the components, [M, N]; infinite for a Student's t of at most two degrees of freedom."""
        return np.asarray(self.components.std(), dtype=np.float64)

    def _cdfs(self, y: Floats) -> Floats:
        return np.asarray(self.components.cdf(y), dtype=np.float64)

    def _log_probs(self, y: Floats) -> Floats:
        return np.asarray(self.components.logpdf(y), dtype=np.float64)

    def _quantiles(self, level: Floats) -> Floats:
        return np.asarray(self.components.ppf(level), dtype=np.float64)
