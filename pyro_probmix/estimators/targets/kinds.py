"""What the training targets say of a target: its kind, its bounds, and the grid that its values lie on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Kind", "grid_of", "kind_of"]

Array = npt.NDArray[np.float64]

#: With fewer distinct rows two values, or none below 0, say nothing yet of a target.
FEWEST_ROWS = 20
#: Digits after the point that a grid may have, and its least share of the standard deviation: finer is continuous.
MOST_DIGITS, FINEST = 9, 1e-5
#: Counts have a median of at most so many; larger whole numbers are treated as amounts.
LARGEST_COUNT = 100
#: The share of zeros from which they have a probability of their own.
FEWEST_ZEROS = 0.02
#: A positive target is skewed if its mean is within so many standard deviations of 0.
NEAR_ZERO = 2.0
#: Shares cover at least this part of the range from 0 to 1.
LEAST_RANGE = 0.2
#: Where some values have a probability of their own, others are compared with it on a grid of this part of the spread.
COARSEST = 1e-3


@dataclass(frozen=True)
class Kind:
    """What a target is.

    Attributes:
        name: ``"real"``, ``"count"`` (0, 1, 2, ...), ``"positive"`` (skewed), ``"amount"`` (positive or exactly 0), ``"share"``
            (from 0 to ``unit``) or ``"binary"`` (two values).
        unit: of a share, 1 or 100; else 1.
        lower, upper: between which all values have to lie, as far as the training targets say; None for no bound.
        grid: the distance of the values that the target can take; 0 for a continuous one.
    """

    name: str
    unit: float = 1.0
    lower: float | None = None
    upper: float | None = None
    grid: float = 0.0


def grid_of(y: Array) -> float:
    """The largest distance of which all differences of targets are multiples, as of prices in cents; 0 for continuous ones.

    Args:
        y: one target, [n].

    Example:
        >>> grid_of(np.array([0.25, 1.75, 1.0])), grid_of(np.array([0.1, np.pi, 7.0])), grid_of(np.array([1.01, 1.04, 1.07]))
        (0.75, 0.0, 0.03)
    """
    values = np.unique(y)
    if len(values) < 3:
        return 0.0
    spread = float(values.std())
    for digits in range(-MOST_DIGITS, MOST_DIGITS + 1):
        scaled = values * 10.0**digits
        if not (np.abs(scaled[[0, -1]]) < 2**52).all():
            break
        codes = np.round(scaled)
        # The last digits of a number that was read from text are those of its rounding.
        if (np.abs(scaled - codes) <= 1e-9 * np.abs(scaled)).all():
            step = int(np.gcd.reduce(np.diff(codes).astype(np.int64)))
            grid = step / 10.0**digits if digits > 0 else step * 10.0**-digits
            return float(grid) if step and grid > FINEST * spread else 0.0
    return 0.0


def kind_of(y: Array) -> Kind:
    """The kind of a target.

    Args:
        y: one target's distinct rows, [n].

    Example:
        >>> rng = np.random.default_rng(0)
        >>> kind_of(rng.poisson(3.0, 100).astype(float)).name, kind_of(rng.normal(size=100)).name
        ('count', 'real')
        >>> kind_of(rng.lognormal(size=100).round(2))
        Kind(name='positive', unit=1.0, lower=0.0, upper=None, grid=0.01)
    """
    values, low, high, grid = np.unique(y), float(y.min()), float(y.max()), grid_of(y)
    if len(values) == 2:
        return Kind("binary")
    whole = bool((y == np.round(y)).all())
    if low < 0 or len(values) < 3 or (len(y) < FEWEST_ROWS and not whole):
        return Kind("real", grid=grid)
    share, percent = low >= 0 and high <= 1 and not whole, high == 100 and len(y) >= FEWEST_ROWS
    if share or percent:
        unit = 1.0 if share else 100.0
        # In a small part of the range a share is any real number.
        if high - low <= LEAST_RANGE * unit:
            return Kind("real", 1.0, 0.0, unit, grid)
        ends = bool(((y == 0) | (y == unit)).any())
        return Kind("share", unit, 0.0, unit, grid or (COARSEST * unit if ends else 0.0))
    zeros = float((y == 0).mean())
    if whole and np.median(y) <= LARGEST_COUNT and low <= max(2.0, 0.1 * float(np.median(y))):
        return Kind("count", lower=0.0, grid=max(grid, 1.0))
    if zeros >= FEWEST_ZEROS:
        return Kind("amount", lower=0.0, grid=grid or COARSEST * float(y.std()))
    if low > 0 and y.mean() < NEAR_ZERO * y.std():
        return Kind("positive", lower=0.0, grid=grid)
    return Kind("real", lower=0.0, grid=grid)
