"""The verdict of a check in plain sentences, and a line on the meaning of each number."""

from __future__ import annotations

__all__ = ["LEVEL", "meaning", "named", "number", "shown", "verdict"]

import math
import re

import numpy as np
import numpy.typing as npt

from pyro_probmix.calibration.densities.predictions import Predictions
from pyro_probmix.calibration.scores.estimate import Estimate, mean_over_rows

#: The level of the central interval that is checked.
LEVEL = 0.9
#: A number counts as different from its expected value if it is farther away than so many standard errors.
_STANDARD_ERRORS = 2.0
#: A calibrated model has a smaller p-value in one check of twenty.
_SMALLEST_P = 0.05

_INTERVAL = f"{100 * LEVEL:.0f} % interval"
_NAMES = {
    "nll": "NLL (negative log-likelihood)",
    "crps": "CRPS",
    "interval width": f"width of the {_INTERVAL}",
    "interval score": f"interval score of the {_INTERVAL}",
    "coverage": f"coverage of the {_INTERVAL}",
    "conformal width": f"width of the conformal {_INTERVAL}",
    "conformal coverage": f"coverage of the conformal {_INTERVAL}",
    "brier": "Brier score",
    "pit p-value": "PIT p-value",
}
_MEANINGS = {
    "nll": "minus the log density of the observations, in nats a row; lower is better, between models on the same rows",
    "crps": "distance between predicted distribution and observation, in the target's units; for a point prediction it is the "
    "absolute error; lower is better",
    "sharpness": "the typical standard deviation of the predictions, in the target's units; smaller is better only where the "
    "coverage is right",
    "interval width": f"how wide the intervals are on average that should hold {100 * LEVEL:.0f} % of the rows, in the "
    "target's units",
    "interval score": "that width, plus a penalty for each row outside; lower is better",
    "coverage": f"the share of rows inside of their interval; it should be {LEVEL:g}",
    "conformal coverage": f"the share of rows inside of intervals whose level was set by the rows that members held out; it "
    f"should be at least {LEVEL:g}, also where the model is wrong",
    "conformal width": "how wide these are on average, in the target's units",
    "pit p-value": "how often a calibrated model has a PIT at least as far from uniform; below 0.05 the densities are off",
    "coverage p-value": "the same for the central intervals of all levels",
    "brier": "squared error of the probabilities, 0 (sure and right) to 2 (sure and wrong); lower is better",
    "accuracy": "the share of rows whose most probable class was the one observed",
}


def named(check: str) -> str:
    """The name of a check on the page."""
    return _NAMES.get(check, check)


def meaning(check: str, predictions: Predictions) -> str:
    """The meaning of a check, in a line."""
    if check == "calibration error":
        if predictions.kind == "class":
            return (
                "how far the model's confidence is from how often it is right, on average; small is good, and chance alone "
                "makes some"
            )
        chance = 1 / math.sqrt(6 * len(predictions.y))
        return (
            "how far the shares of rows below the predicted quantiles are from what they should be; a perfect model has about "
            f"{chance:.1g} on so many rows"
        )
    if check.startswith("Bayesian p-value, "):
        statistic = check.partition(", ")[2]
        statistic = {"std": "standard deviation"}.get(statistic, statistic)
        return (
            f"the share of data sets drawn from the predictions whose {statistic} is below the observed; near 0 or 1: the "
            "model gets it wrong"
        )
    if check == "nll" and predictions.probabilities is not None:
        classes = predictions.probabilities.shape[-1]
        return f"{_MEANINGS['nll']}; the same probability for each class has {math.log(classes):.2f}"
    return _MEANINGS[check]


def number(value: object) -> str:
    """Four digits, without an exponent where a reader can do without it."""
    if not isinstance(value, float):  # as NumPy's is, too
        return str(value)
    return f"{value:,.0f}" if 1e4 <= abs(value) < 1e9 else f"{value:.4g}"


def shown(estimate: Estimate) -> str:
    """A number with its standard error, its thousands apart."""
    return re.sub(r"(?<![\d.])\d{5,}", lambda digits: f"{int(digits[0]):,}", str(estimate))


def verdict(
    predictions: Predictions,
    target: int,
    checks: dict[str, Estimate],
    observed: npt.NDArray[np.float64],
    mean: npt.NDArray[np.float64] | None,
) -> list[str]:
    """The verdict on one target, in sentences.

    Args:
        predictions: of the rows that are checked.
        target: which of its targets.
        checks: the numbers of that target.
        observed: the target in all rows, [n].
        mean: the predicted mean, [n]; None for a class.
    """
    sentences = []
    if predictions.probabilities is not None:
        sentences += _of_classes(predictions.probabilities[:, target], predictions.y[:, target])
    else:
        sentences += [_of_intervals(checks["coverage"], len(predictions.y)), _of_density(checks["pit p-value"].value)]
    if mean is not None:
        sentences.append(_of_errors(observed, mean))
    return sentences


def _of_intervals(coverage: Estimate, num_rows: int) -> str:
    # The standard error under the nominal coverage; the one of the observed coverage is 0 if all rows are inside.
    error = math.sqrt(LEVEL * (1 - LEVEL) / num_rows)
    away = (coverage.value - LEVEL) / error
    judged = "too narrow" if away < -_STANDARD_ERRORS else "too wide" if away > _STANDARD_ERRORS else "about right"
    seen = f"{100 * coverage.value:.1f} % of {num_rows} rows are inside of their {_INTERVAL}"
    if judged == "about right":
        return (
            f"The intervals are about right, as far as these rows can tell: {seen}, within two standard errors "
            f"(2 × {100 * error:.1f} %) of the {100 * LEVEL:.0f} % that it should be."
        )
    below = "below" if away < 0 else "above"
    return (
        f"The intervals are {judged}: {seen}, which is {abs(away):.1f} standard errors (of {100 * error:.1f} %) {below} the "
        f"{100 * LEVEL:.0f} % that it should be."
    )


def _of_density(p_value: float) -> str:
    if p_value < _SMALLEST_P:
        return (
            f"The predicted densities as a whole do not fit the rows (PIT p-value {p_value:.2g}, below {_SMALLEST_P:g}): the "
            "PIT figure leaves its grey band."
        )
    return (
        f"The predicted densities as a whole are compatible with the rows (PIT p-value {p_value:.2g}, not below "
        f"{_SMALLEST_P:g}): the PIT figure stays in its grey band."
    )


def _of_errors(observed: npt.NDArray[np.float64], mean: npt.NDArray[np.float64]) -> str:
    error, spread = observed - mean, observed - observed.mean()
    rmse = math.sqrt(float(np.mean(error**2)))
    mae = float(np.abs(error).mean())
    sentences = (
        f"The predicted mean is typically off by {number(rmse)} (RMSE, root mean squared error) or {number(mae)} (MAE, mean "
        "absolute error), in the target's units"
    )
    if not spread.any():
        return f"{sentences}."
    r2 = 1 - float(np.mean(error**2) / np.mean(spread**2))
    judged = (
        f"it explains {100 * r2:.0f} % of the target's variance"
        if r2 > 0
        else "predicting these rows' mean for each would do as well or better"
    )
    return f"{sentences}; R² is {r2:.3g}: {judged}."


def _of_classes(probabilities: npt.NDArray[np.float64], y: npt.NDArray[np.int64]) -> list[str]:
    confidence, right = probabilities.max(-1), (probabilities.argmax(-1) == y).astype(float)
    accuracy, excess = mean_over_rows(right), float((confidence - right).mean())
    # The standard error that the difference has if each probability is right.
    error = math.sqrt(float((confidence * (1 - confidence)).sum())) / len(y)
    often = float(np.bincount(y).max() / len(y))
    sentences = [
        f"The most probable class is right in {100 * accuracy.value:.1f} % ± {100 * accuracy.standard_error:.1f} % of {len(y)} "
        f"rows (accuracy and its standard error); always saying the most frequent class would be right in {100 * often:.1f} %."
    ]
    sure = (
        f"on average it gives its most probable class {100 * confidence.mean():.1f} %, and is right in "
        f"{100 * accuracy.value:.1f} %"
    )
    if abs(excess) <= _STANDARD_ERRORS * error:
        sentences.append(
            f"Its probabilities are about right, as far as these rows can tell: {sure}, a difference within two standard "
            f"errors (2 × {100 * error:.1f} %)."
        )
    else:
        away = (
            f"{abs(excess) / error:.1f} standard errors (of {100 * error:.1f} %)" if error else "too large for chance"
        )
        sentences.append(f"It is {'too sure' if excess > 0 else 'not sure enough'}: {sure}, a difference of {away}.")
    return sentences
