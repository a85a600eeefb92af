"""Mixtures of Gaussians, and of any other continuous family that SciPy has, as predictive densities."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import logsumexp, ndtr, ndtri

from pyro_probmix.calibration.densities.density import crps_on_nodes, invert_cdf
from pyro_probmix.calibration.scores.arrays import Floats, finite, of_rows, of_unit_interval, positive, same_shape
from pyro_probmix.calibration.scores.regression import crps_gaussian_mixture, mixture_weights

__all__ = ["GaussianMixture", "Mixture", "ScipyMixture"]

#: Of the nodes: the most components that they are quantiles of, their number, and the outermost one, in standard deviations.
MOST_COMPONENTS, NUM_NODES, WIDEST = 16, 240, 6.0

#: The most numbers in one block of work.
LARGEST_BLOCK = 1_000_000


class Mixture(ABC):
    r"""The densities :math:`\sum_m w_m\, p_m(y)` of N rows.

    Args:
        weights: of the M components, which sum to one, [M, N].
    """

    def __init__(self, weights: Floats) -> None:
        self.weights = weights

    @property
    @abstractmethod
    def means(self) -> Floats:
        """Means of the components, [M, N]."""

    @property
    @abstractmethod
    def stds(self) -> Floats:
        """Standard deviations of the components, [M, N]."""

    @abstractmethod
    def _cdfs(self, y: Floats) -> Floats:
        """Distribution functions of the components at y, which broadcasts with [M, N]."""

    @abstractmethod
    def _log_probs(self, y: Floats) -> Floats:
        """Log densities of the components at y, which broadcasts with [M, N]."""

    @abstractmethod
    def _quantiles(self, level: Floats) -> Floats:
        """Quantiles of the components at levels, which broadcast with [M, N]."""

    @property
    def mean(self) -> Floats:
        """Means, in the units of the response, [N]."""
        mean: Floats = (self.weights * self.means).sum(0)
        return mean

    @property
    def std(self) -> Floats:
        """Standard deviations, from the variance within the components plus that between them, [N]."""
        within_and_between = np.hypot(self.stds, self.means - self.mean)
        # In units of the largest, so that no square overflows.
        unit = within_and_between.max(0)
        unit = np.where((unit > 0) & np.isfinite(unit), unit, 1.0)
        std: Floats = unit * np.sqrt((self.weights * (within_and_between / unit) ** 2).sum(0))
        return std

    def cdf(self, y: ArrayLike) -> Floats:
        """The distribution functions at ``y``, which broadcasts with [N]."""
        # The weights add up to 1 but for rounding.
        return self._by_blocks(lambda v: np.minimum((self.weights * self._cdfs(v)).sum(1), 1.0), y)

    def log_prob(self, y: ArrayLike) -> Floats:
        """The log densities at ``y``, which broadcasts with [N], in nats."""
        return self._by_blocks(lambda v: logsumexp(np.log(self.weights) + self._log_probs(v), axis=1), y)

    def quantile(self, level: ArrayLike) -> Floats:
        """The quantiles of the levels, which broadcast with [N].

        Raises:
            ValueError: if a level is outside of [0, 1].
        """
        level = of_unit_interval("level", level)
        # A quantile of the mixture lies between those of its components.
        low = self._by_blocks(lambda v: self._quantiles(v).min(1), level)
        high = self._by_blocks(lambda v: self._quantiles(v).max(1), level)
        return invert_cdf(self.cdf, level, low, high)

    def crps(self, y: ArrayLike) -> Floats:
        """The continuous ranked probability scores, by quadrature, [N]."""
        return crps_on_nodes(self, y)

    def nodes(self) -> Floats:
        """The quantiles of some of the components, evenly chosen, sorted, [Q, N]."""
        chosen = np.unique(np.linspace(0, len(self.weights) - 1, MOST_COMPONENTS).round().astype(int))
        z = np.linspace(-WIDEST, WIDEST, -(-NUM_NODES // len(chosen)))
        each = self._quantiles(ndtr(z).reshape(-1, *(1,) * self.weights.ndim))[:, chosen]  # [Z, C, N]
        return np.sort(each.reshape(-1, *self.weights.shape[1:]), axis=0)

    def _by_blocks(self, function: Callable[[Floats], Floats], values: ArrayLike) -> Floats:
        """Applies a function from [B, 1, N] to [B, N] in blocks of B, which bounds the memory."""
        array = of_rows("y", values, self.weights.shape[1:])
        rows = np.broadcast_shapes(array.shape, self.weights.shape[1:])
        flat = np.broadcast_to(array, rows).reshape(-1, 1, *self.weights.shape[1:])
        block = max(1, LARGEST_BLOCK // self.weights.size)
        parts = [function(flat[start : start + block]) for start in range(0, len(flat), block)]
        return np.concatenate(parts).reshape(rows)


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
        """Means of the components, [M, N]."""
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
    """Mixtures of a continuous family of ``scipy.stats``.

    Args:
        components: a frozen distribution whose parameters have the shape [M, N].
        weights: positive, [M] or [M, N]; each row's are divided by their sum. Default: equal.

    Raises:
        ValueError: if they have another shape.

    Example:
        >>> from scipy.stats import gamma
        >>> density = ScipyMixture(gamma([[2.0], [3.0]], scale=1.5))
        >>> density.mean, density.quantile(0.5).round(3)
        (array([3.75]), array([3.234]))
    """

    def __init__(self, components: Any, weights: ArrayLike | None = None) -> None:
        if not all(
            callable(getattr(components, name, None)) for name in ("mean", "std", "cdf", "ppf", "logpdf")
        ) and not (callable(getattr(components, "logpmf", None))):
            raise TypeError(
                f"ScipyMixture got a {type(components).__name__}, expected a frozen distribution of SciPy. "
                "Try scipy.stats.gamma(shapes, scale=scales)."
            )
        self.components = components
        shape = np.shape(components.mean())
        if len(shape) < 2:
            raise ValueError(f"The components have the shape {shape}, expected [M, N]. Try parameters[None].")
        super().__init__(mixture_weights(weights, shape))

    @property
    def means(self) -> Floats:
        """Means of the components, [M, N]."""
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
