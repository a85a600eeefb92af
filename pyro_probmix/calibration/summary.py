"""All checks of one set of forecasts at once: numbers with their standard errors."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import ArrayLike

from pyro_probmix.arguments import checked
from pyro_probmix.calibration.densities.density import Density
from pyro_probmix.calibration.densities.predictions import Predictions
from pyro_probmix.calibration.scores.arrays import Floats, finite, of_level
from pyro_probmix.calibration.scores.classes import brier_score, class_log_score, expected_calibration_error
from pyro_probmix.calibration.scores.estimate import Estimate, mean_over_rows
from pyro_probmix.calibration.scores.pit import coverage_curve, pit_curve, regression_calibration_error
from pyro_probmix.calibration.scores.regression import crps_draws, interval_score, sharpness

__all__ = ["before_and_after", "check_density", "summarise"]


@checked()
def summarise(predictions: Predictions, *, level: float = 0.9) -> dict[str, dict[str, Estimate]]:
    """The checks of each response, and the NLL of several together.

    Args:
        predictions: of held-out rows.
        level: of the central interval whose coverage, width and score are measured.

    Returns:
        for each target, and for ``"all targets"`` if there are several (``"all targets, together"`` beside a target that is
        called so), metric to number. Numbers: "nll" (nats), "crps", "sharpness",
        "interval score", "interval width" (units of the response), "coverage", "calibration error"; "pit p-value" and
        "coverage p-value" are those of the simultaneous bands. Classes: "nll", "brier", "accuracy", "calibration error".

    Raises:
        ValueError: if the level is no probability.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> checks = summarise(Predictions(y=rng.normal(size=500), draws=rng.normal(size=(1, 200, 500))))
        >>> print(checks["y0"]["coverage"])
        0.920 ± 0.012
    """
    level = of_level(level)
    checks = {name: _of_target(predictions, t, level) for t, name in enumerate(predictions.targets)}
    log_score = predictions.log_score()
    if log_score is None:
        return checks
    joint = {"nll": mean_over_rows(-log_score)}
    if len(checks) == 1:  # with one target its NLL is the joint one
        return {name: joint | own for name, own in checks.items()}
    name = "all targets"
    while name in checks:
        name += ", together"
    return checks | {name: joint}


def _of_target(predictions: Predictions, t: int, level: float) -> dict[str, Estimate]:
    y = predictions.y[:, t]
    if predictions.probabilities is not None:
        probabilities = predictions.probabilities[:, t]
        right = probabilities.argmax(-1) == y
        log_score = class_log_score(probabilities, y)
        ruled_out = Estimate(math.inf, math.nan)  # a class of probability 0 was observed
        return {
            "nll": mean_over_rows(log_score) if np.isfinite(log_score).all() else ruled_out,
            "brier": mean_over_rows(brier_score(probabilities, y)),
            "accuracy": mean_over_rows(right.astype(float)),
            "calibration error": expected_calibration_error(probabilities, y),
        }
    if predictions.densities is not None:
        return check_density(predictions.densities[t], y, level=level)
    draws = predictions.pooled(t)
    # A new observation is below the k-th of S draws with probability k / (S + 1): Weibull's positions.
    ends = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2], axis=0, method="weibull")
    return {
        "crps": mean_over_rows(crps_draws(draws, y)),
        "sharpness": sharpness(draws.std(0, ddof=1)),
        **_interval(y, ends, level),
        **_of_levels(predictions.pit(t), level),
    }


@checked()
def check_density(density: Density, y: ArrayLike, *, level: float = 0.9) -> dict[str, Estimate]:
    """The checks of a continuous response from its densities, as :func:`summarise` names them.

    Args:
        density: of N held-out rows.
        y: their observations, [N].
        level: of the central interval.

    Raises:
        ValueError: if the observations are not finite or the level is no probability.

    Example:
        >>> from pyro_probmix.calibration.densities.mixtures import GaussianMixture
        >>> y = np.random.default_rng(0).normal(size=500)
        >>> checks = check_density(GaussianMixture(np.zeros((1, 500)), 1.0), y)
        >>> print(checks["nll"], checks["crps"], sep="; ")
        1.433 ± 0.036; 0.568 ± 0.019
    """
    y, level = finite("y", y), of_level(level)
    std = density.std
    ends = density.quantile(np.array([[(1 - level) / 2], [(1 + level) / 2]]))
    return {
        "nll": mean_over_rows(-density.log_prob(y)),
        "crps": mean_over_rows(density.crps(y)),
        "sharpness": sharpness(std) if np.isfinite(std).all() else Estimate(math.inf, math.nan),
        **_interval(y, ends, level),
        **_of_levels(density.cdf(y), level),
    }


@checked()
def before_and_after(
    density: Density, y: ArrayLike, recalibrations: Mapping[str, Callable[[Density], Density]], *, level: float = 0.9
) -> dict[str, dict[str, Estimate]]:
    """The checks before and after recalibration, on rows that were fitted by neither.

    Args:
        density: of N rows, not those that the recalibrations were fitted to.
        y: their observations, [N].
        recalibrations: name to recalibration, for example from :func:`fit_scale` and :func:`fit_isotonic`.
        level: of the central interval.

    Returns:
        ``"before"`` and each name, to what :func:`check_density` gives.

    Example:
        >>> from pyro_probmix.calibration import GaussianMixture, fit_scale
        >>> y = np.random.default_rng(0).normal(size=1000)
        >>> narrow = GaussianMixture(np.zeros((1, 500)), 0.5)
        >>> checks = before_and_after(narrow, y[500:], {"scale": fit_scale(narrow, y[:500])})
        >>> for name, metrics in checks.items():
        ...     print(name, metrics["coverage"])
        before 0.642 ± 0.021
        scale 0.910 ± 0.013
    """
    forecasts = {"before": density} | {name: recalibrate(density) for name, recalibrate in recalibrations.items()}
    return {name: check_density(forecast, y, level=level) for name, forecast in forecasts.items()}


def _interval(y: ArrayLike, ends: Floats, level: float) -> dict[str, Estimate]:
    return {
        "interval width": mean_over_rows(ends[1] - ends[0]),
        "interval score": mean_over_rows(interval_score(y, ends[0], ends[1], level)),
    }


def _of_levels(pit: Floats, level: float) -> dict[str, Estimate]:
    inside = np.abs(2 * pit - 1) <= level
    return {
        "coverage": mean_over_rows(inside.astype(float)),
        "calibration error": regression_calibration_error(pit),
        "pit p-value": Estimate(pit_curve(pit).p_value, math.nan),
        "coverage p-value": Estimate(coverage_curve(pit).p_value, math.nan),
    }
