"""Quantiles of predictive mixtures: bracketed by those of the components, then solved for to the last digit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
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
#: First steps by a family's rough distribution function, where it has one.
ROUGH_STEPS = 2


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
    y = np.clip(start, low, high)
    for side, tail_of, sign, target in ((~above, family.cdf, 1, level), (above, family.sf, -1, 1 - level)):
        if side.any():
            given = [values[:, column[side]] for values in parameters]
            tail = _Tail(family, tail_of, sign, family.rough and family.rough[sign < 0])
            y[side] = tail.root(given, target[side], y[side], low[side], high[side])
    return y


@dataclass(frozen=True)
class _Tail:
    """One tail of a mixture's distribution function.

    Attributes:
        family: of the components; with ``pdf``.
        exact: the tail of a component, F or 1 - F.
        sign: 1 or -1, of its derivative.
        rough: an approximation of it that takes less time; None for none.
    """

    family: Family
    exact: Callable[..., Any]
    sign: int
    rough: Callable[..., Any] | None

    def root(self, given: list[Array], target: Array, here: Array, low: Array, high: Array) -> Array:
        """Where mixtures with parameters [M, n] have a tail of ``target``, [n], from a guess in brackets."""
        found, open_, largest = here.copy(), np.arange(len(here)), high - low
        here, last, slopes, bends = self._approached(given, target, here, low, high)
        for _ in range(MOST_STEPS):
            tail = self.exact(here, *given).mean(0)
            step, slope, bend = self._step(tail, given, target, here)
            excess = self.sign * (tail - target)
            low, high = np.where(excess <= 0, here, low), np.where(excess >= 0, here, high)
            near, size = here + step, np.abs(step)
            inside = (near > low) & (near < high) & (2 * size < largest)
            # How fast the slope and its bend change: times the third power of the step, the error that the step leaves.
            change = np.abs(slope - slopes) / (np.minimum(slope, slopes) * np.abs(last))
            change = np.maximum(np.maximum(change, np.abs(bend)), slope / tail)
            second = np.maximum(change**2, np.abs((bend - bends) / last))
            exact = inside & (size**3 * second <= EPSILON * (np.abs(here) + 1 / change))
            exact |= size * slope <= ROUNDING * tail  # the root of a rounded tail is no more exact than that
            middle = low + (high - low) / 2
            new = np.where(excess == 0, here, np.where(inside, near, np.where(exact, here, middle)))
            found[open_] = new
            left = ~(exact | (new == here) | (new == low) | (new == high))
            if not left.any():
                break
            last, slopes, bends = (new - here)[left], slope[left], bend[left]
            open_, target, here, low, high = open_[left], target[left], new[left], low[left], high[left]
            given, largest = [values[:, left] for values in given], np.abs(last)
        return found

    def _approached(
        self, given: list[Array], target: Array, here: Array, low: Array, high: Array
    ) -> tuple[Array, Array, Array, Array]:
        """A better guess by the rough tail; the last step to it, the slope before that, and its logarithmic derivative."""
        last, (slope, bend) = high - low, np.full((2, len(here)), np.inf)
        for _ in range(0 if self.rough is None else ROUGH_STEPS):
            assert self.rough is not None
            step, slope, bend = self._step(self.rough(here, *given).mean(0), given, target, here)
            near = here + step
            new = np.where((near > low) & (near < high), near, here)
            here, last = new, new - here
        return here, last, slope, bend

    def _step(self, tail: Array, given: list[Array], target: Array, here: Array) -> tuple[Array, Array, Array]:
        """Halley's step on the tail's logarithm; the slope of F, and its logarithmic derivative."""
        density = self.family.pdf(here, *given)  # type: ignore[misc] # there is one
        slope = density.mean(0)
        bend = (density * self.family.score(here, *given)).mean(0) / slope  # type: ignore[misc] # likewise
        step = tail / slope * np.log(target / tail) * self.sign
        curved = 1 + step * (bend - self.sign * slope / tail) / 2
        return step / np.where((curved > 0.5) & (curved < 2), curved, 1.0), slope, bend


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
