"""Checks of class probabilities: reliability, expected calibration error, Brier and logarithmic scores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pyro_probmix.arguments import checked
from pyro_probmix.calibration.scores.arrays import Floats, generator, of_unit_interval, over_rows
from pyro_probmix.calibration.scores.estimate import Estimate, bootstrap_error

__all__ = ["Reliability", "brier_score", "class_log_score", "expected_calibration_error", "reliability"]

#: Outcomes simulated for the consistency band.
NUM_SIMULATIONS = 1000


@dataclass(frozen=True)
class Reliability:
    """The reliability diagram of an event: its frequency among rows with about the same predicted probability.

    Attributes:
        predicted: mean probability in each bin that has rows, [K].
        observed: frequency of the event there, [K].
        standard_error: of each frequency, from the binomial distribution with the predicted probabilities, [K].
        lower, upper: where 95 % of the frequencies of a calibrated forecast are, in each bin separately, [K].
        counts: rows in each bin, [K].
    """

    predicted: Floats
    observed: Floats
    standard_error: Floats
    lower: Floats
    upper: Floats
    counts: NDArray[np.intp]


@checked(least={"num_bins": 1})
def reliability(
    probability: ArrayLike, event: ArrayLike, *, num_bins: int = 10, seed: int | np.random.Generator = 0
) -> Reliability:
    """The reliability diagram of an event, with a consistency band.

    For one class out of K give its probability and whether it was observed; for the top label its probability and whether
    it was right.

    Args:
        probability: of the event, [N].
        event: whether it happened, [N], booleans or 0 and 1.
        num_bins: bins of equal width of the probability; the last one holds 1 too.
        seed: of the outcomes that are simulated from the probabilities themselves for the band.

    Raises:
        ValueError: if a probability is outside of [0, 1], the rows do not agree, or there is no bin.

    Reference:
        Bröcker, Smith (2007). *Increasing the reliability of reliability diagrams*. Weather and Forecasting 22 (the
        consistency band; here each row keeps its probability, so that the distribution of the outcomes is exact).

    Example:
        >>> rng = np.random.default_rng(0)
        >>> probability = rng.uniform(size=1000)
        >>> curve = reliability(probability, rng.uniform(size=1000) < probability)
        >>> bool(abs(curve.predicted - curve.observed).max() < 0.15)
        True
    """
    probability = over_rows("probability", of_unit_interval("probability", probability))
    event = over_rows("event", of_unit_interval("event", event))
    if len(event) != len(probability):
        raise ValueError(
            f"reliability got {len(probability)} probabilities and {len(event)} events, expected as many. "
            "Try those of the same rows."
        )
    bins = _bins(probability, num_bins)
    counts: NDArray[np.intp] = np.bincount(bins, minlength=num_bins)
    used = counts > 0

    def per_bin(values: NDArray[Any]) -> Floats:
        return np.asarray(np.bincount(bins, values, minlength=num_bins)[used], dtype=np.float64)

    rng = generator(seed)
    simulated = [per_bin(rng.uniform(size=len(bins)) < probability) for _ in range(NUM_SIMULATIONS)]
    lower, upper = np.quantile(np.stack(simulated) / counts[used], [0.025, 0.975], axis=0)

    return Reliability(
        predicted=per_bin(probability) / counts[used],
        observed=per_bin(event) / counts[used],
        standard_error=np.sqrt(per_bin(probability * (1 - probability))) / counts[used],
        lower=lower,
        upper=upper,
        counts=counts[used],
    )


@checked(least={"num_bins": 1})
def expected_calibration_error(
    probabilities: ArrayLike, y: ArrayLike, *, num_bins: int = 15, seed: int | np.random.Generator = 0
) -> Estimate:
    r"""The expected calibration error: how far confidence is from accuracy on average, over bins of it.

    .. math::
        \sum_b \frac{n_b}{N} \left| \mathrm{accuracy}_b - \mathrm{confidence}_b \right|

    It is never zero on few rows, even for a calibrated forecast: look at :func:`reliability` with its band too.

    Args:
        probabilities: of the K classes, [N, K].
        y: observed classes, integers from 0 to K - 1, [N].
        num_bins: bins of equal width of the largest probability.
        seed: of the bootstrap over rows, for the standard error.

    Raises:
        ValueError: if the probabilities are none, an observation is no class, or there is no bin.

    Reference:
        Guo, Pleiss, Sun, Weinberger (2017). *On calibration of modern neural networks*, section 2. Naeini, Cooper,
        Hauskrecht (2015).

    Example:
        >>> print(expected_calibration_error([[0.9, 0.1]] * 10, [0] * 8 + [1] * 2))
        0.10 ± 0.11
    """
    probabilities, y = class_probabilities(probabilities, y)
    confidence, right = probabilities.max(-1), probabilities.argmax(-1) == y
    excess = (right - confidence) / len(y)
    bins = _bins(confidence, num_bins)

    def statistic(rows: NDArray[np.intp]) -> float:
        return float(np.abs(np.bincount(bins[rows], excess[rows], minlength=num_bins)).sum())

    return Estimate(statistic(np.arange(len(y))), bootstrap_error(statistic, len(y), seed=seed))


def brier_score(probabilities: ArrayLike, y: ArrayLike) -> Floats:
    r"""The Brier score of each row, :math:`\sum_k (p_k - 1[y = k])^2`, from 0 to 2; shape [N].

    For two classes it is twice the square of one probability's error, which some call by the same name.

    Args:
        probabilities: of the K classes, [N, K].
        y: observed classes, integers from 0 to K - 1, [N].

    Raises:
        ValueError: if the probabilities are none, or an observation is no class.

    Reference:
        Brier (1950). *Verification of forecasts expressed in terms of probability*. Monthly Weather Review 78.

    Example:
        >>> brier_score([[0.7, 0.2, 0.1]], [0]).round(2)
        array([0.14])
    """
    probabilities, y = class_probabilities(probabilities, y)
    score: Floats = ((probabilities - np.eye(probabilities.shape[1])[y]) ** 2).sum(-1)
    return score


def class_log_score(probabilities: ArrayLike, y: ArrayLike) -> Floats:
    r"""The logarithmic score of each row, :math:`-\log p_{y}`, in nats, infinite where the class was ruled out; shape [N].

    Args:
        probabilities: of the K classes, [N, K].
        y: observed classes, integers from 0 to K - 1, [N].

    Raises:
        ValueError: if the probabilities are none, or an observation is no class.

    Reference:
        Good (1952). *Rational decisions*. J. R. Stat. Soc. B 14.

    Example:
        >>> class_log_score([[0.5, 0.5]], [1]).round(4)
        array([0.6931])
    """
    probabilities, y = class_probabilities(probabilities, y)
    with np.errstate(divide="ignore"):
        score: Floats = -np.log(probabilities[np.arange(len(y)), y])
    return score


def class_probabilities(probabilities: ArrayLike, y: ArrayLike) -> tuple[Floats, NDArray[np.intp]]:
    """Probabilities [N, K] that sum to one, exactly, and classes [N].

    Raises:
        ValueError: if they are not.
    """
    try:
        observed = np.asarray(y)
    except (TypeError, ValueError):
        raise TypeError(f"y is of type {type(y).__name__}, expected classes. Try numpy.asarray(y).") from None
    table = of_unit_interval("probabilities", probabilities)
    if table.ndim != 2 or table.shape[1] < 2 or observed.shape != table.shape[:1]:
        raise ValueError(
            f"probabilities has the shape {table.shape} and y {observed.shape}, expected [N, K] and [N]. "
            "Try numpy.stack([1 - p, p], -1) for the probability p of one event."
        )
    total = table.sum(-1, keepdims=True)
    if np.abs(total - 1).max() > 1e-3:
        raise ValueError(
            f"probabilities sum to {total.min():.4g} to {total.max():.4g}, expected 1 in each row. Try softmax."
        )
    numbers = observed.dtype.kind in "biuf" and bool(np.all(np.isfinite(observed)))
    as_integers = observed.astype(np.intp) if numbers else np.full(observed.shape, -1)
    if np.any(as_integers != observed) or as_integers.min() < 0 or as_integers.max() >= table.shape[1]:
        raise ValueError(
            f"y has the values {', '.join(map(str, np.unique(observed)[:5]))}, expected classes 0 to {table.shape[1] - 1}. "
            "Try numpy.unique(y, return_inverse=True)."
        )
    return table / total, as_integers


def _bins(probability: Floats, num_bins: int) -> NDArray[np.intp]:
    return np.minimum((probability * num_bins).astype(np.intp), num_bins - 1)
