"""Quantiles of predictive mixtures: bracketed by those of the components, then solved for to the last digit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.optimize import elementwise

from pyro_probmix.arguments import checked
from pyro_probmix.inference.data.arrays import as_array
from pyro_probmix.inference.predictive.families import Family, columns_of, family_of, marginals_of
from pyro_probmix.inference.predictive.mixture import PredictiveMixture

__all__ = ["quantiles", "solve"]

Array = npt.NDArray[np.float64]

#: Rows are solved in blocks of at most so many values of a distribution function.
LARGEST_BLOCK = 4_000_000
#: Relative error of a distribution function that is the mean of some hundred others.
ROUNDING = 16 * np.finfo(np.float64).eps
#: Halving a bracket of any two numbers ends within so many steps.
MOST_STEPS = 2100
EPSILON = float(np.finfo(np.float64).eps)


@checked()
def quantiles(mixture: PredictiveMixture, levels: Sequence[float]) -> Array:
    r"""The quantiles of each response of a predictive mixture, :math:`\inf\{y : F(y) \ge q\}`.

    F is the mean of the components' distribution functions, so its quantile lies between the least and the largest of
    theirs; there it is solved for to the last digit, below the median on F and above on 1 - F, each exact in its tail.

    Args:
        mixture: with components of a family known to :func:`family_of`.
        levels: L levels in [0, 1]; 0 and 1 give the ends of the support.

    Returns:
        [*batch, *event, L], in the units of the response.

    Raises:
        ValueError: for a level outside [0, 1].
        TypeError: for components of another family.

    References:
        Press, Teukolsky, Vetterling and Flannery, 2007, "Numerical Recipes", section 9.4 (Halley's
        method, and a bracket).
        Chandrupatla, 1997, "A new hybrid quadratic/bisection algorithm for finding the zero of a nonlinear function".

    Example:
        >>> import pyro.distributions as dist
        >>> from pyro_probmix.inference import PredictiveMixture, quantiles
        >>> mixture = PredictiveMixture(dist.Normal(torch.tensor([[-2.0], [2.0]]), 1.0), num_mixed=1)
        >>> quantiles(mixture, [0.0, 0.5, 0.75])[0].round(3).tolist()
        [-inf, 0.0, 2.0]
    """
    q = as_array("quantiles", "levels", levels).astype(np.float64)
    if q.ndim != 1 or not ((q >= 0) & (q <= 1)).all():
        raise ValueError(
            f"got the quantile levels {levels!r}, expected a list of values in [0, 1]. Try [0.05, 0.5, 0.95]."
        )
    family = family_of(marginals_of(mixture.components))
    shape = (*mixture.batch_shape, *mixture.event_shape)
    parameters = columns_of(family, mixture.components, mixture.num_mixed)
    rows = parameters[0].shape[1]
    solved = np.empty((rows, len(q)))
    block = max(1, LARGEST_BLOCK // (mixture.num_components * max(len(q), 1)))
    for start in range(0, rows, block):
        part = [values[:, start : start + block] for values in parameters]
        solved[start : start + block] = solve(family, part, q)
    result = solved.reshape(*shape, len(q))
    if mixture.rescaled:
        loc, scale = (np.asarray(torch.as_tensor(v).cpu(), dtype=np.float64) for v in (mixture.loc, mixture.scale))
        result = np.broadcast_to(loc, shape)[..., None] + np.broadcast_to(scale, shape)[..., None] * result
    return result


def solve(family: Family, parameters: list[Array], q: Array) -> Array:
    """The quantiles of mixtures with parameters [M, rows], as [rows, L], of levels [L], or [rows, L] of each row's own."""
    rows = parameters[0].shape[1]
    upper = q > 0.5
    columns = [values[..., None] for values in parameters]  # [M, rows, 1]
    with np.errstate(all="ignore"):
        if family.bracket is not None:
            low, high, start = family.bracket(q, upper, *columns)
        else:
            each = np.where(upper, family.isf(1 - q, *columns), family.ppf(q, *columns))  # [M, rows, L]
            low, high, start = each.min(0), each.max(0), each.mean(0)
        solved: Array = low.copy()
        column = np.broadcast_to(np.arange(rows)[:, None], low.shape)
        level, above = np.broadcast_to(q, low.shape), np.broadcast_to(upper, low.shape)

        def excess(y: Any, column: Any, level: Any, above: Any) -> Any:
            """F(y) - q; 1 - F is subtracted from 1 - q instead above the median."""
            value = np.empty(y.shape)
            for side, tail, sign, target in ((~above, family.cdf, 1, level), (above, family.sf, -1, 1 - level)):
                if side.any():
                    given = [values[:, column[side]] for values in parameters]
                    value[side] = sign * (tail(y[side], *given).mean(0) - target[side])
            return value

        if family.discrete:
            return _smallest_integer(excess, low, high, (column, level, above))
        open_ = np.isfinite(low) & np.isfinite(high) & (low < high)
        if open_.any():
            arguments = (column[open_], level[open_], above[open_])
            if family.pdf is not None and not family.points:
                solved[open_] = _newton(family, parameters, start[open_], low[open_], high[open_], arguments)
            else:
                found = elementwise.find_root(excess, (low[open_], high[open_]), args=arguments)
                # Where components agree up to rounding, F - q has one sign at both ends, and either end is the quantile.
                solved[open_] = np.where(found.success, found.x, (low[open_] + high[open_]) / 2)
        for point in family.points:  # where F jumps over q
            before, after = (
                excess(np.full(low.shape, y), column, level, above) for y in (np.nextafter(point, -np.inf), point)
            )
            solved = np.where((before < 0) & (after >= 0), point, solved)
    return np.asarray(solved, dtype=np.float64)


def _newton(
    family: Family, parameters: list[Array], start: Array, low: Array, high: Array, arguments: tuple[Any, ...]
) -> Array:
    """The roots in brackets by Halley's method on the logarithm of F, or of 1 - F; by bisection where it does not converge.

    A value of F takes much longer than one of the density, and its derivative saves half of them.
    """
    column, level, above = arguments
    y, low, high = np.clip(start, low, high), low.copy(), high.copy()
    last = high - low  # the step before, and the slope there, and the slope's own logarithmic derivative
    slopes, bends = np.full((2, len(y)), np.inf)
    target = np.where(above, 1 - level, level)
    open_ = np.arange(len(y))
    for _ in range(MOST_STEPS):
        here, (tail, slope, bend) = y[open_], np.empty((3, len(open_)))
        for side, function in ((~above[open_], family.cdf), (above[open_], family.sf)):
            if side.any():
                given = [values[:, column[open_[side]]] for values in parameters]
                tail[side] = function(here[side], *given).mean(0)
                density = family.pdf(here[side], *given)  # type: ignore[misc] # solve has looked
                slope[side] = density.mean(0)
                bend[side] = (density * family.score(here[side], *given)).mean(0)  # type: ignore[misc] # likewise
        bend /= slope
        excess = np.where(above[open_], target[open_] - tail, tail - target[open_])
        low[open_] = np.where(excess <= 0, here, low[open_])
        high[open_] = np.where(excess >= 0, here, high[open_])
        sign = np.where(above[open_], -1, 1)
        step = tail / slope * np.log(target[open_] / tail) * sign
        curved = 1 + step * (bend - sign * slope / tail) / 2
        step /= np.where((curved > 0.5) & (curved < 2), curved, 1.0)
        near = here + step
        inside = (near > low[open_]) & (near < high[open_]) & (2 * np.abs(step) < np.abs(last[open_]))
        # How fast the slope and its bend change: times the third power of the step, the error that the step leaves.
        change = np.abs(slope - slopes[open_]) / (np.minimum(slope, slopes[open_]) * np.abs(last[open_]))
        change = np.maximum(np.maximum(change, np.abs(bend)), slope / tail)
        second = np.maximum(change**2, np.abs((bend - bends[open_]) / last[open_]))
        exact = inside & (np.abs(step) ** 3 * second <= EPSILON * (np.abs(here) + 1 / change))
        middle = low[open_] + (high[open_] - low[open_]) / 2
        new = np.where(excess == 0, here, np.where(inside, near, middle))
        done = exact | (new == here) | (new == low[open_]) | (new == high[open_])
        last[open_], slopes[open_], bends[open_], y[open_] = new - here, slope, bend, new
        open_ = open_[~done]
        if not len(open_):
            break
    return y


def _smallest_integer(excess: Callable[..., Any], low: Array, high: Array, arguments: tuple[Any, ...]) -> Array:
    """The smallest integer in (low - 1, high + 1] at which F reaches q, by bisection."""
    # Of the levels F(k) k is the quantile, however F is rounded.
    level, above = arguments[1:]
    slack = ROUNDING * np.where(above, 1.0, level)
    unbounded = ~np.isfinite(high)
    below = np.where(np.isfinite(low), low, 0.0) - 1
    top = np.where(unbounded, below + 1, high + 1)
    while (top - below > 1).any():
        middle = np.floor((below + top) / 2)
        reached = excess(middle, *arguments) >= -slack
        top, below = np.where(reached, middle, top), np.where(reached, below, middle)
    smallest: Array = np.where(unbounded, high, np.maximum(top, 0.0))
    return smallest
