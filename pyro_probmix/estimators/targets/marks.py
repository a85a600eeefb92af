"""The values that targets can take: those between their bounds, and of targets of few values, such as grades, these alone."""

from __future__ import annotations

__all__ = ["MOST_MARKS", "Marks", "first_mark"]

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pyro_probmix.estimators.targets.kinds import FEWEST_ROWS, MOST_DIGITS, grid_of
from pyro_probmix.inference.predictive.at_values import cdf_at, quantile_at
from pyro_probmix.inference.predictive.mixture import PredictiveMixture

Array = npt.NDArray[np.float64]

#: A target has few values where its grid has at most so many from the lowest to the highest.
MOST_MARKS = 20
#: The lower of two marks is recorded up to so much beyond half-way, in steps of the grid: the quantile of its level is itself.
AT = 1e-6
#: A value so near to a mark, in steps of the grid, is at it, as one is that was rounded to single precision.
NEAR = 1e-3
#: The tails beyond which a CRPS sums no more; they count by their squares.
TAIL = 1e-5
#: The most marks that a CRPS sums over.
MOST_SUMMED = 2000


def first_mark(y: Array) -> float | None:
    """The lowest value of a target of few values, the marks, all multiples of its grid apart; None for another target.

    Args:
        y: one target's distinct rows, [n].

    Example:
        >>> y = np.random.default_rng(0).normal(6, 1, 100)
        >>> first_mark(y.round()), first_mark((2 * y).round() / 2), first_mark(y.round(2))
        (4.0, 3.5, None)
    """
    grid = grid_of(y)
    few = grid > 0 and len(y) >= FEWEST_ROWS and y.max() - y.min() <= (MOST_MARKS - 0.5) * grid
    return float(y.min()) if few else None


@dataclass(frozen=True, eq=False)
class Marks:
    r"""The values that targets can take: none beyond their bounds, and of those that have few the mark k for all between
    :math:`k - h/2` and :math:`k + h/2`.

    With F the distribution function of the density, that of a recorded target is :math:`F(k + h/2)` from each mark k up to
    the next one.

    Attributes:
        first: a mark of each target, NaN for one that has none, [d_y].
        grid: h, the distance of the marks, [d_y].
        low, high: the lowest and the highest mark, on which the probability of what is beyond lies, infinite for none; of
            other targets their bounds, [d_y].

    References:
        Heitjan, 1989, "Inference from grouped continuous data: a review", section 2.
    """

    first: Array
    grid: Array
    low: Array
    high: Array

    @classmethod
    def of(
        cls, first: tuple[float | None, ...], grid: tuple[float, ...], low: Array, high: Array, *, above: bool = False
    ) -> Marks:
        """The marks of a fit's targets, None or none at all for other targets, between bounds, infinite for none, [d_y].

        With ``above`` no target is at its lower bound itself.
        """
        marks = np.array([np.nan if mark is None else mark for mark in first or (None,) * len(low)])
        steps = np.array(grid or (0.0,) * len(low))
        with np.errstate(all="ignore"):  # of targets without marks
            places = (low - marks) / steps
            least = _printed(marks + steps * (np.floor(places + NEAR) + 1 if above else np.ceil(places - NEAR)))
            most = _printed(marks + steps * np.floor((high - marks) / steps + NEAR))
        own = ~np.isnan(marks)
        return cls(marks, steps, np.where(own, least, low), np.where(own, most, high))

    def kept(self, y: Array) -> tuple[float | None, ...]:
        """A mark of each target for a recipe, None also of those that later rows [n, d_y] show to take other values."""
        with np.errstate(all="ignore"):
            places = (y - self.first) / self.grid
            holds = (np.abs(places - places.round()) <= NEAR).all(0) & self.own
        return tuple(float(mark) if held else None for mark, held in zip(self.first, holds, strict=True))

    @property
    def own(self) -> npt.NDArray[np.bool_]:
        """Which targets have marks, [d_y]."""
        return ~np.isnan(self.first)

    def rounded(self, values: Array) -> Array:
        """What is recorded for values [..., d_y]: the nearest mark, the lower one half-way; of others none beyond bounds."""
        with np.errstate(all="ignore"):  # of targets without marks
            marks = self.first + self.grid * np.ceil((values - self.first) / self.grid - 0.5 - AT)
        return np.where(self.own, _printed(marks), values).clip(self.low, self.high)

    def upper(self, values: Array) -> Array:
        r"""Below this all is recorded as at most the values [..., d_y]: :math:`k + h/2` from k up to the next mark.

        Infinite from the highest value on and below the lowest one.
        """
        with np.errstate(all="ignore"):
            ends = self.first + self.grid * (np.floor((values - self.first) / self.grid + NEAR) + 0.5)
        beyond = np.where(self.own, ends > self.high, values >= self.high)
        ends = np.where(self.own, ends, values)
        return np.select([ends < self.low, beyond], [-np.inf, np.inf], ends)

    def crps(self, mixture: PredictiveMixture, y: Array, scale: Array, before: Callable[[], Array]) -> Array:
        r"""The CRPS of recorded targets, :math:`h \sum_k (F(k + h/2) - 1[y \le k])^2` for a y that is a mark.

        Where the sum would have more than :data:`MOST_SUMMED` terms, the marks are dense in what the density or its distance
        from y spans. It is then that of the density, less :math:`h^2 p(y) / 12`, by the Euler-Maclaurin formula.

        Args:
            mixture: of n rows, in standard units.
            y: observations, [n, d_y], in the targets' units.
            scale: offset and step from standard units to those of the targets, [2, d_y].
            before: the CRPS of the density before it is rounded, [n, d_y], in the targets' units; called where it is needed,
                since it takes longer than a sum.

        Returns:
            [n, d_y], in the targets' units; of a target without marks as it was before.
        """
        if not self.own.any():
            return before()
        offset, step = scale
        first, grid = np.where(self.own, self.first, 0.0), np.where(self.own, self.grid, 1.0)

        def level(values: Array) -> Array:
            levels: Array = cdf_at(mixture, ((values - offset) / step)[None])[0]
            return levels

        tails = quantile_at(mixture, np.array([TAIL, 1 - TAIL])[:, None, None] * np.ones_like(y)) * step + offset
        least, most = tails.clip(self.low, self.high)
        start, stop = (np.floor((end - first) / grid) for end in (np.minimum(least, y), np.maximum(most, y)))
        summed = self.own & (stop - start < MOST_SUMMED)
        score = np.zeros(y.shape)
        if not summed.all():
            part = (y - first) / grid % 1
            mass = np.where(self.own, level(y + grid / 2) - level(y - grid / 2), 0.0)
            score = np.where(summed, 0.0, before() + grid * mass * (part * (1 - part) - 1 / 12))
        for k in range(int((stop - start)[summed].max(initial=-1)) + 1):
            mark = first + grid * (start + k)
            at_most = level(self.upper(mark))
            after = (mark + grid - y).clip(0.0, grid)  # the part of the step that is not below y
            each = (grid - after) * at_most**2 + after * (1 - at_most) ** 2
            score += np.where(summed & (start + k <= stop), each, 0.0)
        return score


def _printed(marks: Array) -> Array:
    """Marks as they are read from text, 0.3 for the 0.30000000000000004 of a sum, and no zero below 0."""
    return marks.round(MOST_DIGITS) + 0.0
