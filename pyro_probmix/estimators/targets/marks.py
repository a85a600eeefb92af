"""Targets of few values, such as grades: what is predicted of them is rounded to the values that they can take."""

from __future__ import annotations

__all__ = ["MOST_MARKS", "Marks", "first_mark"]

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pyro_probmix.estimators.targets.kinds import FEWEST_ROWS, MOST_DIGITS, grid_of
from pyro_probmix.inference.predictive.at_values import cdf_at, quantile_at
from pyro_probmix.inference.predictive.mixture import PredictiveMixture

Array = npt.NDArray[np.float64]

#: A target has few values where its grid has at most so many from the lowest to the highest.
MOST_MARKS = 20
#: A value so near to a mark, in steps of the grid, is at it, and one so near above half-way to the next is not beyond.
AT = 1e-6
#: The tails beyond which a CRPS sums no more; they count by their squares.
TAIL = 1e-4


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
    r"""The values that targets can take, of those that have few: the mark k is recorded for all between
    :math:`k - h/2` and :math:`k + h/2`.

    With F the distribution function of the density, that of a recorded target is :math:`F(k + h/2)` from each mark k up to
    the next one. Other targets are left as they are.

    Attributes:
        first: a mark of each target, NaN for one that has none, [d_y].
        grid: h, the distance of the marks, [d_y].

    References:
        Heitjan, 1989, "Inference from grouped continuous data: a review", section 2.
    """

    first: Array
    grid: Array

    @classmethod
    def of(cls, first: tuple[float | None, ...], grid: tuple[float, ...]) -> Marks | None:
        """The marks of a fit's targets; None if no target has any."""
        if all(mark is None for mark in first):
            return None
        return cls(np.array([np.nan if mark is None else mark for mark in first]), np.array(grid))

    def kept(self, y: Array) -> tuple[float | None, ...]:
        """A mark of each target for a recipe, None also of those that later rows [n, d_y] show to take other values."""
        with np.errstate(invalid="ignore"):
            holds = (np.abs(self.rounded(y) - y) <= AT * self.grid).all(0) & self.own
        return tuple(float(mark) if held else None for mark, held in zip(self.first, holds, strict=True))

    @property
    def own(self) -> npt.NDArray[np.bool_]:
        """Which targets have marks, [d_y]."""
        return ~np.isnan(self.first)

    def rounded(self, values: Array) -> Array:
        """The mark that is recorded for values [..., d_y], the lower one half-way."""
        with np.errstate(invalid="ignore"):  # of targets without marks
            marks = self.first + self.grid * np.ceil((values - self.first) / self.grid - 0.5 - AT)
        return np.where(self.own & np.isfinite(values), marks.round(MOST_DIGITS), values)

    def upper(self, values: Array) -> Array:
        """Below this all is recorded as at most the values [..., d_y]: :math:`k + h/2` from k up to the next mark."""
        with np.errstate(invalid="ignore"):
            ends = self.first + self.grid * (np.floor((values - self.first) / self.grid + AT) + 0.5)
        return np.where(self.own & np.isfinite(values), ends, values)

    def crps(self, mixture: PredictiveMixture, y: Array, scale: Array, low: Array, high: Array) -> Array:
        r"""The CRPS of recorded targets, :math:`h \sum_k (F(k + h/2) - 1[y \le k])^2` for a y that is a mark.

        Args:
            mixture: of n rows, in standard units.
            y: observations, [n, d_y], in the targets' units.
            scale: offset and step from standard units to those of the targets, [2, d_y].
            low, high: bounds of the targets, [d_y], on which the probability of what is beyond them lies.

        Returns:
            [n, d_y], in the targets' units; of a target without marks NaN.
        """
        offset, step = scale
        first, grid = np.where(self.own, self.first, 0.0), np.where(self.own, self.grid, 1.0)
        tails = quantile_at(mixture, np.array([TAIL, 1 - TAIL])[:, None, None] * np.ones_like(y)) * step + offset
        least, most = tails.clip(low, high)
        start, stop = (np.floor((end - first) / grid) for end in (np.minimum(least, y), np.maximum(most, y)))
        score = np.full(y.shape, np.nan)
        score[:, self.own] = 0.0
        for k in range(int((stop - start)[:, self.own].max()) + 1):
            mark = first + grid * (start + k)
            level = cdf_at(mixture, ((mark + grid / 2 - offset) / step)[None])[0]
            level = np.where(mark < low, 0.0, np.where(mark >= high, 1.0, level))
            after = (mark + grid - y).clip(0.0, grid)  # the part of the step that is not below y
            score += np.where(start + k <= stop, (grid - after) * level**2 + after * (1 - level) ** 2, 0.0)
        return score
