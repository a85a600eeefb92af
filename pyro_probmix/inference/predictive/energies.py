"""Mean absolute distances of predictive mixtures, and the norm of their density: what the CRPS and the energy are made of."""

from __future__ import annotations

__all__ = ["density_norm", "mean_distance", "mean_distance_to"]

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pyro.distributions as dist
from scipy.special import ndtr

from pyro_probmix.calibration.scores.regression import crps_gaussian_mixture
from pyro_probmix.inference.predictive.at_values import cdf_at, log_density_at, quantile_at
from pyro_probmix.inference.predictive.families import columns_of, family_of, marginals_of
from pyro_probmix.inference.predictive.mixture import PredictiveMixture

Array = npt.NDArray[np.float64]

#: Integrals are taken between quantiles of the components, at these levels, by so many nodes each. Of more than so many
#: components some are chosen, so that the work does not grow with the square of their number.
LEVELS, NODES = ndtr(np.linspace(-7.5, 7.5, 17)), 4
FEW, CHOSEN = 32, 8
#: The most counts of a row that are summed over.
MOST_COUNTS = 1_000_000


def mean_distance_to(mixture: PredictiveMixture, y: Array) -> Array:
    r"""The mean absolute distance to a value, :math:`E|Y - y| = E[Y] - y + 2\int_{-\infty}^y F(v)\, dv`.

    Args:
        mixture: of one response a row: batch shape [n], event shape ().
        y: values, [n].

    Returns:
        [n]; in closed form for Gaussians, by quadrature otherwise.

    Example:
        >>> import torch
        >>> mixture = PredictiveMixture(dist.Normal(torch.zeros(1, 1), 1.0), 1)
        >>> mean_distance_to(mixture, np.array([0.0])).round(4)  # the root of 2/pi
        array([0.7979])
    """
    gaussians = _gaussians(mixture)
    if gaussians is not None:
        return crps_gaussian_mixture(y, *gaussians) + mean_distance(mixture) / 2
    mean = mixture.mean.detach().double().cpu().numpy()
    distance: Array = mean - y + 2 * _integral(mixture, lambda points: cdf_at(mixture, points), y)
    return np.maximum(distance, np.abs(mean - y))  # which it is at least; what rounding took


def mean_distance(mixture: PredictiveMixture) -> Array:
    r"""The mean absolute distance of two independent draws, :math:`E|Y - Y'| = 2\int F(v)\,(1 - F(v))\, dv`.

    Args:
        mixture: of one response a row: batch shape [n], event shape ().

    Returns:
        [n]; in closed form for Gaussians, by quadrature otherwise.

    Reference:
        Gneiting, Raftery (2007). *Strictly proper scoring rules, prediction, and estimation*, section 4.2.

    Example:
        >>> import torch
        >>> mean_distance(PredictiveMixture(dist.Normal(torch.zeros(1, 1), 1.0), 1)).round(4)  # 2 over the root of pi
        array([1.1284])
    """
    gaussians = _gaussians(mixture)
    if gaussians is not None:
        means, stds = gaussians
        middle = means.mean(0)
        z = (middle - means) / stds
        absolute = (middle - means) * (2 * ndtr(z) - 1) + stds * math.sqrt(2 / math.pi) * np.exp(-z * z / 2)
        distance: Array = 2 * (absolute.mean(0) - crps_gaussian_mixture(middle, means, stds))
        return distance

    def spread(points: Array) -> Array:
        cdf = cdf_at(mixture, points)
        return cdf * (1 - cdf)

    return 2 * _integral(mixture, spread)


def density_norm(mixture: PredictiveMixture, power: float) -> Array:
    r"""The integral of a power of the density, :math:`\int p(v)^a\, dv`; the sum, for a discrete response.

    Args:
        mixture: of one response a row: batch shape [n], event shape ().
        power: a, above 0.

    Returns:
        [n].

    Example:
        >>> import torch
        >>> density_norm(PredictiveMixture(dist.Normal(torch.zeros(1, 1), 1.0), 1), 2).round(4)  # 1 over 2 roots of pi
        array([0.2821])
    """

    def to_power(points: Array) -> Array:
        log_density = log_density_at(mixture, points)
        values: Array = np.exp(power * np.where(np.isposinf(log_density), 0.0, log_density))
        return values

    return _integral(mixture, to_power)


def _gaussians(mixture: PredictiveMixture) -> tuple[Array, Array] | None:
    """Means and standard deviations [M, n] of Gaussian components, in the units of the response."""
    if not isinstance(marginals_of(mixture.components), dist.Normal | dist.MultivariateNormal):
        return None
    normal = family_of(marginals_of(mixture.components))
    means, stds = columns_of(normal, mixture.components, mixture.num_mixed)
    loc, scale = (
        np.broadcast_to(np.asarray(v, dtype=np.float64), means.shape[1:]) for v in (mixture.loc, mixture.scale)
    )
    return loc + scale * means, scale * stds


def _integral(mixture: PredictiveMixture, integrand: Callable[[Array], Array], upto: Array | float = np.inf) -> Array:
    """The integral, from the lowest value to another, of what has no mass beyond the outermost quantiles, [n].

    The integrand is a function of points [K, n]; of counts it is constant from each to the next.
    """
    knots = _knots(mixture)
    if marginals_of(mixture.components).support.is_discrete:
        first, last = np.floor(knots[0]), np.floor(knots[-1]) + 1
        widest = int((last - first).max())
        if widest > MOST_COUNTS:
            raise ValueError(
                f"a predicted count may be anything of {widest} numbers, expected at most {MOST_COUNTS}. Try other units."
            )
        counts = first + np.arange(widest + 1)[:, None]
        total: Array = (integrand(counts) * np.clip(upto - counts, 0, 1)).sum(0)
        return total
    ends = np.minimum(np.concatenate([knots, np.maximum(knots[-1:], np.where(np.isinf(upto), -np.inf, upto))]), upto)
    node, weight = np.polynomial.legendre.leggauss(NODES)
    half, middle = np.diff(ends, axis=0) / 2, (ends[1:] + ends[:-1]) / 2
    points = middle[:, None] + half[:, None] * node[:, None]  # [panels, nodes, n]
    values = integrand(points.reshape(-1, points.shape[-1])).reshape(points.shape)
    integral: Array = (values * weight[:, None] * half[:, None]).sum((0, 1))
    return integral


def _knots(mixture: PredictiveMixture) -> Array:
    """Sorted points, [K, n], between which the distribution function is smooth, and beyond which it is 0 or 1."""
    try:
        family = family_of(marginals_of(mixture.components))
    except TypeError:  # it brings a distribution function alone
        return quantile_at(mixture, np.repeat(LEVELS[:, None], mixture.batch_shape[0], 1))
    parameters = columns_of(family, mixture.components, mixture.num_mixed)
    count = len(parameters[0])
    chosen = np.unique(np.linspace(0, count - 1, count if count <= FEW else CHOSEN).round().astype(int))
    tail = LEVELS[:9, None, None]  # up to the median; what is above is by its own tail
    with np.errstate(all="ignore"):
        some = [values[chosen] for values in parameters]
        quantiles = np.concatenate([family.ppf(tail, *some), family.isf(tail, *some)]).reshape(
            -1, parameters[0].shape[1]
        )
        ends = (
            family.ppf(tail[:1], *parameters).min(1),
            family.isf(tail[:1], *parameters).max(1),
        )
    shape = quantiles.shape[1:]
    loc, scale = (np.broadcast_to(np.asarray(v, dtype=np.float64), shape) for v in (mixture.loc, mixture.scale))
    knots: Array = loc + scale * np.sort(np.concatenate([quantiles, *ends]), axis=0)
    return knots
