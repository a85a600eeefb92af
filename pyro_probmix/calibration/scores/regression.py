"""Proper scores of each row, lower is better, and the sharpness of the forecasts."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtr

from pyro_probmix.calibration.scores.arrays import (
    Floats,
    draws_of_rows,
    finite,
    non_negative,
    of_level,
    positive,
    same_shape,
)
from pyro_probmix.calibration.scores.estimate import Estimate, mean_over_rows

__all__ = ["crps_draws", "crps_gaussian", "crps_gaussian_mixture", "interval_score", "sharpness"]


def crps_gaussian(y: ArrayLike, mean: ArrayLike, std: ArrayLike) -> Floats:
    r"""The continuous ranked probability score of a Gaussian, in closed form, in the units of the response.

    .. math::
        \sigma \left[ z\,(2\Phi(z) - 1) + 2\varphi(z) - \pi^{-1/2} \right], \qquad z = (y - \mu)/\sigma

    Args:
        y: observations, [...].
        mean, std: of the predictive; they broadcast with ``y``.

    Raises:
        ValueError: if a number is not finite, a standard deviation not positive, or the shapes do not agree.

    Reference:
        Gneiting, Raftery (2007). *Strictly proper scoring rules, prediction, and estimation*. J. Am. Stat. Assoc. 102,
        section 4.2.

    Example:
        >>> crps_gaussian([0.0, 1.0], 0.0, 1.0).round(4)
        array([0.2337, 0.6024])
    """
    y, mean, std = finite("y", y), finite("mean", mean), positive("std", std)
    same_shape(y=y, mean=mean, std=std)
    score: Floats = _absolute_mean(y - mean, std) - std / math.sqrt(math.pi)
    return score


def crps_gaussian_mixture(y: ArrayLike, means: ArrayLike, stds: ArrayLike, weights: ArrayLike | None = None) -> Floats:
    r"""The continuous ranked probability score of a mixture of Gaussians, in closed form, in the units of the response.

    .. math::
        \sum_m w_m A(y - \mu_m, \sigma_m^2) - \tfrac12 \sum_{m,n} w_m w_n A(\mu_m - \mu_n, \sigma_m^2 + \sigma_n^2),
        \qquad A(\mu, \sigma^2) = \mathrm{E}|\mathcal{N}(\mu, \sigma^2)|

    The time grows with the square of the number of components, the memory does not.

    Args:
        y: observations, [...].
        means, stds: of the M components, [M, ...].
        weights: positive numbers, [M] or [M, ...]; each row's are divided by their sum. Default: equal.

    Raises:
        ValueError: if a number is not finite, a standard deviation or weight not positive, or the shapes do not agree.

    Reference:
        Grimit, Gneiting, Berrocal, Johnson (2006). *The continuous ranked probability score for circular variables and
        its application to mesoscale forecast ensemble verification*. Q. J. R. Meteorol. Soc. 132, eq. 5.

    Example:
        >>> crps_gaussian_mixture([0.5], [[0.0], [1.0]], [[1.0], [1.0]]).round(4)
        array([0.2637])
    """
    y, means, stds = finite("y", y), finite("means", means), positive("stds", stds)
    same_shape(y=y[None], means=means, stds=stds)
    shape = np.broadcast_shapes(means.shape, stds.shape, (1, *y.shape))
    means, stds = np.broadcast_to(means, shape), np.broadcast_to(stds, shape)
    weight = mixture_weights(weights, shape)
    score: Floats = (weight * _absolute_mean(y - means, stds)).sum(0)
    # Two draws of one component differ by N(0, 2 s^2), two of different ones count twice.
    score -= (weight**2 * stds).sum(0) / math.sqrt(math.pi)
    for m in range(len(means) - 1):
        gap = _absolute_mean(means[m] - means[m + 1 :], np.hypot(stds[m], stds[m + 1 :]))
        score -= weight[m] * (weight[m + 1 :] * gap).sum(0)
    return score


def mixture_weights(weights: ArrayLike | None, shape: tuple[int, ...]) -> Floats:
    """Weights of mixture components [M, ...] that sum to one over the components, from [M], [M, ...] or none."""
    if weights is None:
        return np.full(shape, 1 / shape[0])
    array = positive("weights", weights)
    if array.ndim == 1:
        array = array.reshape(-1, *(1,) * (len(shape) - 1))
    same_shape(weights=array, components=np.empty(shape))
    full: Floats = np.broadcast_to(array, shape)
    normalised: Floats = full / full.sum(0)
    return normalised


def crps_draws(draws: ArrayLike, y: ArrayLike) -> Floats:
    r"""The fair estimate of the continuous ranked probability score (CRPS) from S draws of any predictive.

    .. math::
        \frac1S \sum_s |y^{(s)} - y| - \frac{1}{2S(S-1)} \sum_{s,t} |y^{(s)} - y^{(t)}|

    With S (S - 1) for S^2 in the second term its mean over draws is the score of the predictive, whatever S is, if the
    draws are independent.

    Args:
        draws: at least two of each row, [S, ...].
        y: observations, [...].

    Raises:
        ValueError: if they are not finite, their rows do not agree, or there is only one draw.

    Reference:
        Ferro (2014). *Fair scores for ensemble forecasts*. Q. J. R. Meteorol. Soc. 140. Zamo, Naveau (2018), Mathematical
        Geosciences 50 (its computation by sorting).

    Example:
        >>> draws = np.random.default_rng(0).normal(size=(20_000, 1))
        >>> abs(crps_draws(draws, [0.0]).item() - 0.2337) < 0.01
        True
    """
    sample, y = draws_of_rows(draws, y)
    count = len(sample)
    if count < 2:
        raise ValueError("draws has one draw of each row, expected at least two. Try 100.")
    apart = np.abs(sample - y).mean(0)
    # The sorted draw number s is the larger one of s pairs and the smaller one of S - 1 - s.
    rank = (2 * np.arange(count) - count + 1).reshape(-1, *(1,) * y.ndim)
    half_gap = (rank * np.sort(sample, axis=0)).sum(0) / (count * (count - 1))
    score: Floats = apart - half_gap
    return score


def interval_score(y: ArrayLike, lower: ArrayLike, upper: ArrayLike, level: float) -> Floats:
    r"""The (Winkler) score of a central interval: its width, and a penalty for a row outside of it.

    .. math::
        (u - l) + \frac{2}{1 - p} \left[ (l - y)_+ + (y - u)_+ \right]

    Args:
        y: observations, [...].
        lower, upper: ends of the interval, the predictive's quantiles (1 - p)/2 and (1 + p)/2; they broadcast with ``y``.
        level: p, for example 0.9.

    Raises:
        ValueError: if a number is not finite, an interval is upside down, or the level is no probability.

    Reference:
        Gneiting, Raftery (2007). *Strictly proper scoring rules, prediction, and estimation*, section 6.2, with 1 - p
        for their alpha; Winkler (1972).

    Example:
        >>> interval_score([0.0, 3.0], -1.0, 2.0, level=0.5)
        array([3., 7.])
    """
    y, lower, upper = finite("y", y), finite("lower", lower), finite("upper", upper)
    same_shape(y=y, lower=lower, upper=upper)
    if np.any(lower > upper):
        raise ValueError("lower is above upper in some rows, expected an interval. Try them the other way round.")
    outside = np.maximum(lower - y, 0) + np.maximum(y - upper, 0)
    score: Floats = upper - lower + 2 / (1 - of_level(level)) * outside
    return score


def sharpness(std: ArrayLike) -> Estimate:
    r"""The root mean variance of the forecasts, :math:`\sqrt{\overline{\sigma^2}}`, in the units of the response.

    Among calibrated forecasts the sharpest is the best; by itself it does not depend on the observations. The standard error
    is that of the mean variance, carried through the root (delta method).

    Args:
        std: standard deviations of the predictive, [N].

    Raises:
        ValueError: if one is negative.

    Reference:
        Gneiting, Balabdaoui, Raftery (2007). *Probabilistic forecasts, calibration and sharpness*. J. R. Stat. Soc. B 69.
        Kuleshov, Fenner, Ermon (2018) measure the mean variance.

    Example:
        >>> print(sharpness([1.0, 2.0, 3.0]))
        2.16 ± 0.54
    """
    std = non_negative("std", std)
    unit = float(std.max()) or 1.0  # so that no square overflows
    variance = mean_over_rows((std / unit) ** 2)
    root = math.sqrt(variance.value)
    return Estimate(unit * root, unit * variance.standard_error / (2 * root) if root else 0.0)


def _absolute_mean(mean: Floats, std: Floats) -> Floats:
    """E|X| for a Gaussian X."""
    z = mean / std
    absolute: Floats = mean * (2 * ndtr(z) - 1) + std * math.sqrt(2 / math.pi) * np.exp(-z * z / 2)
    return absolute
