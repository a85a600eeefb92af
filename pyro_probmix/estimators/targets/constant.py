"""The loss of a density that is the same for all rows, beside which a model's is held."""

from __future__ import annotations

__all__ = ["constant_nll"]

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.special import gammaln, ndtr, xlogy

Array = npt.NDArray[np.float64]

#: Standardised ends beyond this are open.
OPEN = 1e8


def constant_nll(
    family: str, y: Array, weights: Array, other: Array, other_weights: Array, *, ends: bool = False
) -> float | None:
    """The NLL of rows, in nats a row, under the density of other rows' targets that knows no features.

    It is a normal one of real targets, a log-normal one of positive ones, a negative binomial one of counts, and the shares of
    classes; each with the moments of the other rows.

    Args:
        family: "real", "positive", "count" or "class"; another one has no such density.
        y, weights: of the rows that decide, [n, d_y] or classes [n], and [n].
        other, other_weights: of the rows that are scored.
        ends: whether y and other are the ends between which targets are known to be, [n, 2 d_y], open ones beyond 1e8.

    Returns:
        the mean over rows, of all targets together; None for another family, and for targets that it rules out.

    Example:
        >>> y = np.array([[0.0], [2.0]])
        >>> round(constant_nll("real", y, np.ones(2), np.array([[1.0]]), np.ones(1)), 4)  # at a standard normal's mode
        0.9189
    """
    share, other_share = weights / weights.sum(), other_weights / other_weights.sum()
    if ends:
        if family not in ("real", "positive"):
            return None
        halves = (*np.split(y, 2, axis=1), *np.split(other, 2, axis=1))
        targets = zip(*(half.T for half in halves), strict=True)
        return sum((_of_ends(target, share, other_share, family == "positive") for target in targets), 0.0)
    if family == "class":
        return _of_classes(y.reshape(len(y)), share, other.reshape(len(other)), other_share)
    if family == "positive" and (y > 0).all() and (other > 0).all():
        jacobian = float((np.log(other) * other_share[:, None]).sum())
        return _of_reals(np.log(y), share, np.log(other), other_share) + jacobian
    each: dict[str, Callable[[Array, Array, Array, Array], float]] = {"real": _of_reals, "count": _of_counts}
    return each[family](y, share, other, other_share) if family in each else None


def _of_reals(y: Array, share: Array, other: Array, other_share: Array) -> float:
    mean = (y * share[:, None]).sum(0)
    variance = np.maximum(((y - mean) ** 2 * share[:, None]).sum(0), 1e-12)
    rows = 0.5 * (np.log(2 * np.pi * variance) + (other - mean) ** 2 / variance).sum(1)
    return float((rows * other_share).sum())


def _of_ends(target: tuple[Array, ...], share: Array, other_share: Array, positive: bool) -> float:
    """The NLL of a target known up to intervals, by the normal distribution, or that of logarithms, of most likelihood.

    ``target`` holds the lower and the upper ends of the rows that decide, and those of the rows that are scored.
    """
    ends = [np.where(np.abs(end) > OPEN, np.copysign(np.inf, end), end) for end in target]
    jacobian = 0.0
    if positive:
        with np.errstate(divide="ignore"):
            ends = [np.log(np.maximum(end, 0.0)) for end in ends]
        jacobian = float((ends[2] * other_share)[ends[2] == ends[3]].sum())
    low, high, other_low, other_high = ends
    finite = np.where(np.isfinite(low), low, high)
    start = float(np.average(finite, weights=share))
    deviation = max(float(np.sqrt(np.average((finite - start) ** 2, weights=share))), 1e-6)

    def nll(at: Array, low: Array, high: Array, share: Array) -> float:
        scale = deviation * np.exp(np.clip(at[1], -20, 20))
        a, b = ((end - start - deviation * at[0]) / scale for end in (low, high))
        a, b = np.where(a > 0, -b, a), np.where(a > 0, -a, b)  # in the tail where small numbers keep their digits
        between = np.log(np.maximum(ndtr(b) - ndtr(a), 1e-300))
        exact = -0.5 * (np.log(2 * np.pi) + np.where(a == b, a, 0.0) ** 2) - np.log(scale)
        return -float((np.where(a == b, exact, between) * share).sum())

    def of_deciding(at: Array) -> float:
        return nll(at, low, high, share)

    found = minimize(of_deciding, np.zeros(2), method="Nelder-Mead", options={"maxiter": 200})
    return nll(found.x, other_low, other_high, other_share) + jacobian


def _of_counts(y: Array, share: Array, other: Array, other_share: Array) -> float:
    mean = np.maximum((y * share[:, None]).sum(0), 1e-6)
    variance = ((y - mean) ** 2 * share[:, None]).sum(0)
    # A Poisson distribution is the limit of a large r.
    r = np.clip(mean**2 / np.maximum(variance - mean, 1e-9), 1e-3, 1e6)
    found = (
        gammaln(other + r)
        - gammaln(r)
        - gammaln(other + 1)
        + r * np.log(r / (r + mean))
        + xlogy(other, mean / (r + mean))
    )
    return -float((found.sum(1) * other_share).sum())


def _of_classes(y: Array, share: Array, other: Array, other_share: Array) -> float:
    classes = np.unique(np.concatenate([y, other]))
    seen = (
        np.array([share[y == one].sum() for one in classes]) * len(y) + 1.0
    )  # a class that no row has is not ruled out
    nll = -np.log(seen / seen.sum())
    return math.fsum(nll[classes == one].item() * w for one, w in zip(other, other_share, strict=True))
