"""Recalibration by one number, fitted on validation rows: a scale factor for densities, a temperature for classes."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import minimize_scalar

from pyro_probmix.arguments import checked
from pyro_probmix.calibration.densities.density import Density, observed_rows
from pyro_probmix.calibration.densities.mixtures import GaussianMixture
from pyro_probmix.calibration.scores.arrays import Floats, of_rows, of_unit_interval
from pyro_probmix.calibration.scores.classes import class_log_score, class_probabilities

__all__ = ["RescaledDensity", "ScaleFactor", "Temperature", "fit_scale", "fit_temperature"]

#: The search of a factor goes from the first to the second of these, times a first guess.
SMALLEST, LARGEST = 1e-4, 1e2


@dataclass(frozen=True)
class RescaledDensity:
    r"""Densities stretched about their means, :math:`F_c(y) = F(m + (y - m)/c)`; again densities.

    Args:
        base: the densities of N rows.
        factor: c, positive.
    """

    base: Density
    factor: float

    def _back(self, y: ArrayLike) -> Floats:
        mean = self.base.mean
        back: Floats = mean + (of_rows("y", y, np.shape(mean)) - mean) / self.factor
        return back

    @property
    def mean(self) -> Floats:
        """The mean of the base, [N]."""
        return self.base.mean

    @property
    def std(self) -> Floats:
        """Standard deviations: the factor times those of the base, [N]."""
        return self.factor * self.base.std

    def cdf(self, y: ArrayLike) -> Floats:
        """The distribution functions; ``y`` broadcasts with [N]."""
        return self.base.cdf(self._back(y))

    def log_prob(self, y: ArrayLike) -> Floats:
        """The log densities, in nats; ``y`` broadcasts with [N]."""
        return self.base.log_prob(self._back(y)) - math.log(self.factor)

    def quantile(self, level: ArrayLike) -> Floats:
        """The quantiles; the levels broadcast with [N]."""
        mean = self.base.mean
        return mean + self.factor * (self.base.quantile(level) - mean)

    def crps(self, y: ArrayLike) -> Floats:
        """The continuous ranked probability scores: the factor times those of the base at the point stretched back."""
        return self.factor * self.base.crps(self._back(y))

    def nodes(self) -> Floats:
        """The nodes of the base, stretched, [Q, N]."""
        mean = self.base.mean
        nodes: Floats = mean + self.factor * (self.base.nodes() - mean)
        return nodes


@dataclass(frozen=True)
class ScaleFactor:
    """A factor for the widths of predictive densities, from :func:`fit_scale`: above 1 they were too narrow."""

    factor: float

    def __call__(self, density: Density) -> RescaledDensity:
        """The densities, stretched."""
        return RescaledDensity(density, self.factor)


@checked()
def fit_scale(density: Density, y: ArrayLike) -> ScaleFactor:
    r"""Fits the factor with the highest likelihood on validation rows, by which densities are stretched about their means.

    For Gaussians :math:`c^2 = \overline{z^2}`, the mean squared standardised residual, else the optimum of one variable.

    Args:
        density: of the N validation rows.
        y: their observations, [N].

    Raises:
        ValueError: if the observations are not finite, do not fit the rows, or are all equal to the means, or so far from
            them that the ratio to the standard deviations overflows.

    Warns:
        UserWarning: if the likelihood of a mixture is the same for every factor (it is left at 1), or highest at an end of
            the search, 1e-4 or 100 times the root mean squared standardised residual: the factor is that end.

    Reference:
        Levi, Gispan, Giladi, Fetaya (2022). *Evaluating and calibrating uncertainty prediction in regression tasks*.
        Sensors 22, section 3.3 (Gaussians).

    Example:
        >>> rng = np.random.default_rng(0)
        >>> narrow = GaussianMixture(np.zeros((1, 1000)), 0.5)
        >>> scale = fit_scale(narrow, rng.normal(size=1000))
        >>> round(scale.factor, 1)
        2.0
        >>> scale(narrow).quantile(0.975)[0].round(1)
        np.float64(1.9)
    """
    y = observed_rows(density, y)
    residuals, std = y - density.mean, density.std
    if not residuals.any():
        raise ValueError("Every observation equals its predicted mean, expected residuals. Try other validation rows.")
    spread = _root_mean_square(residuals, std) if np.isfinite(std).all() else 1.0  # a Student's t may have none
    if isinstance(density, GaussianMixture) and len(density.means) == 1:
        return ScaleFactor(spread)
    return ScaleFactor(_best_factor("factor", lambda c: -float(RescaledDensity(density, c).log_prob(y).mean()), spread))


@dataclass(frozen=True)
class Temperature:
    """A temperature for class probabilities, from :func:`fit_temperature`: above 1 the probabilities were too sure."""

    value: float

    def __call__(self, probabilities: ArrayLike) -> Floats:
        r"""The probabilities :math:`p_k^{1/T} / \sum_l p_l^{1/T}`, [N, K]."""
        probabilities = of_unit_interval("probabilities", probabilities)
        if not probabilities.max(-1).all():
            raise ValueError(
                "Some rows have the probability 0 for every class, expected rows that sum to 1. Try softmax."
            )
        with np.errstate(divide="ignore"):
            logits = np.log(probabilities / probabilities.max(-1, keepdims=True)) / self.value
        tempered = np.exp(logits)
        normalised: Floats = tempered / tempered.sum(-1, keepdims=True)
        return normalised


def fit_temperature(probabilities: ArrayLike, y: ArrayLike) -> Temperature:
    """Fits the temperature with which class probabilities have the highest likelihood on validation rows.

    Args:
        probabilities: of the K classes, [N, K].
        y: observed classes, integers from 0 to K - 1, [N].

    Raises:
        ValueError: if the probabilities are none, an observation is no class, or one was ruled out.

    Warns:
        UserWarning: if there is no best temperature: every row is uniform, or sure and right (the temperature is 1), or the
            likelihood is highest at an end of the search, 1e-4 where every most probable class was observed, or 100 (the
            temperature is that end).

    Reference:
        Guo, Pleiss, Sun, Weinberger (2017). *On calibration of modern neural networks*, section 4.2.

    Example:
        >>> sure = np.array([[0.9, 0.1]] * 10)
        >>> fit_temperature(sure, [0] * 7 + [1] * 3)(sure)[0].round(2)
        array([0.7, 0.3])
    """
    probabilities, y = class_probabilities(probabilities, y)
    if not np.isfinite(class_log_score(probabilities, y)).all():
        raise ValueError(
            "Some rows observed a class of probability 0, which no temperature mends. Try an ensemble, or more training rows."
        )
    return Temperature(
        _best_factor("temperature", lambda t: float(class_log_score(Temperature(t)(probabilities), y).mean()), 1.0)
    )


def _root_mean_square(residuals: Floats, std: Floats) -> float:
    """The root mean square of the standardised residuals, whose squares may overflow."""
    with np.errstate(over="ignore", under="ignore"):
        z = residuals / std
        largest = float(np.abs(z).max())
        if not 0 < largest < math.inf:
            raise ValueError(
                f"The largest residual is {np.abs(residuals).max():.3g} for standard deviations of {std.min():.3g} to "
                f"{std.max():.3g}, expected a ratio that does not overflow. Try other units, or a floor under the scale."
            )
        return largest * math.sqrt(np.mean((z / largest) ** 2))


def _best_factor(name: str, loss: Callable[[float], float], guess: float) -> float:
    """The positive number with the smallest loss; warns if that is at an end of the search."""
    # A grid first, since the loss of a mixture may have several valleys.
    grid = math.log(guess) + np.linspace(math.log(SMALLEST), math.log(LARGEST), 50)
    losses = np.array([loss(math.exp(a)) for a in grid])
    lowest = losses.min() + 1e-12 * abs(losses.min())  # but for rounding
    if losses.max() <= lowest:
        warnings.warn(f"The likelihood is the same for every {name}, so that it is left at 1.", stacklevel=3)
        return 1.0
    best = int(losses.argmin())
    if min(losses[0], losses[-1]) <= lowest:
        end = math.exp(grid[0] if losses[0] <= lowest else grid[-1])
        warnings.warn(
            f"The likelihood is highest at the end of the search, {name} {end:.3g}: no {name} is the best. "
            "Try more validation rows.",
            stacklevel=3,
        )
        return end
    around = (grid[best - 1], grid[best + 1])
    found = minimize_scalar(lambda a: loss(math.exp(a)), bounds=around, method="bounded", options={"xatol": 1e-8})
    return math.exp(found.x)
