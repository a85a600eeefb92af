"""Targets that are known up to an interval: their ends, the number that stands for each, and what they say of the target."""

from __future__ import annotations

__all__ = ["check_ends", "ends_of", "known_kinds", "scoring_ends"]

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from pyro_probmix.estimators.ensemble.network import Recipe, check_targets
from pyro_probmix.estimators.ensemble.rows import Rows
from pyro_probmix.estimators.ensemble.support import in_words, is_positive
from pyro_probmix.estimators.targets.kinds import FEWEST_ROWS, Kind, kind_of
from pyro_probmix.models import ConditionalDensity
from pyro_probmix.models.likelihoods.censored import CensoredHead

Array = npt.NDArray[np.float64]


def ends_of(lower: Any, upper: Any) -> tuple[Array, Array]:
    """What stands for each target, and the ends between which it is known to be.

    A target that is known stands for itself, one that is known from one side alone is stood for by that end, and one between
    two ends by their middle.

    Args:
        lower: [n] or [n, d_y], minus infinity where no lower end is known.
        upper: of the same shape, infinity where no upper end is known.

    Returns:
        of the shape that was given, and [n, 2 d_y], first all lower ends.

    Raises:
        ValueError: for another shape, NaN, ends in the wrong order, or none in a row.

    Example:
        >>> ends_of([1.0, 2.0, -np.inf, 3.0], [1.0, np.inf, 4.0, 5.0])[0]
        array([1., 2., 4., 4.])
    """
    low, high = (np.asarray(values, dtype=np.float64) for values in (lower, upper))
    if low.shape != high.shape or low.ndim not in (1, 2):
        raise ValueError(
            f"got y_upper of shape {high.shape} with y of shape {low.shape}, expected an upper end for each target. Try "
            "y_upper=numpy.where(event, y, numpy.inf)."
        )
    for name, values, way in (("y", low, "-numpy.inf"), ("y_upper", high, "numpy.inf")):
        if np.isnan(values).any():
            raise ValueError(
                f"Input {name} contains NaN, first in row {_first(np.isnan(values))} (rows counted from 0), expected an end of "
                f"each target. Try {way} where none is known."
            )
    wrong = (low > high) | (low == np.inf) | (high == -np.inf)
    if wrong.any():
        row = _first(wrong)
        raise ValueError(
            f"y is {low[row]} and y_upper is {high[row]} in row {row} (rows counted from 0), expected no upper end below its "
            "lower one. Try exchanging them."
        )
    nothing = np.isinf(low) & np.isinf(high)
    if nothing.any():
        raise ValueError(
            f"nothing is known of the target of row {_first(nothing)} (rows counted from 0), expected a finite end. Try "
            "leaving out that row."
        )
    with np.errstate(invalid="ignore"):
        middle = low / 2 + high / 2
    y = np.select([low == high, np.isinf(low), np.isinf(high)], [low, high, low], middle)
    return y, np.concatenate([low.reshape(len(low), -1), high.reshape(len(high), -1)], axis=1)


def _first(rows: npt.NDArray[np.bool_]) -> int:
    return int(np.argwhere(rows)[0][0])


def known_kinds(rows: Rows) -> list[Kind]:
    """The kind of each target, by what is known of it.

    Ends from below say nothing of where a target cannot be, if enough others do, and nothing of an upper bound.
    """
    if rows.ends is None:
        return [kind_of(column) for column in rows.y.T]
    kinds = []
    for low, high in zip(*(half.T for half in np.split(rows.ends, 2, axis=1)), strict=True):
        closed = np.isfinite(high)
        if closed.sum() < FEWEST_ROWS:
            closed = np.ones(len(high), dtype=bool)
        ends = np.concatenate([low[closed], high[closed]])
        kind = kind_of(ends[np.isfinite(ends)])
        if kind.name == "binary":
            kind = Kind("real", grid=kind.grid)
        elif kind.name == "share" and np.isinf(high).any():
            kind = Kind("positive", lower=0.0, grid=kind.grid)
        kinds.append(kind if np.isfinite(high).all() else replace(kind, upper=None))
    return kinds


@contextmanager
def scoring_ends(density: ConditionalDensity) -> Iterator[None]:
    """Lets a density score the ends between which responses are known to be, in the place of the responses."""
    head = density.likelihood
    density.likelihood = CensoredHead(head)
    try:
        yield
    finally:
        density.likelihood = head


def check_ends(recipe: Recipe, rows: Rows, name: str = "y") -> None:
    """Raises ValueError unless a target of the likelihood can lie between the ends that are known of it, in each row.

    And for a method that has no likelihood of what is known.
    """
    check_targets(recipe, rows.y[rows.known], name)
    if rows.ends is None:
        return
    method = recipe.method
    pooled = method.site == "y" and method.pool != "linear"
    compared = method.graph == "label-kernel" or method.similarity == "y" or method.criterion in ("beta-nll", "crps")
    if pooled or compared:
        what = "pools their densities" if pooled else "compares their values"
        raise ValueError(
            f"got targets that are known up to intervals, and a method that {what}, expected one that "
            "does neither. Try method='M-ProbMix'."
        )
    support = recipe.support()
    low, high = (half / recipe.unit for half in np.split(rows.ends, 2, axis=1))
    least, most = (getattr(support, side, end) for side, end in (("lower_bound", -np.inf), ("upper_bound", np.inf)))
    # A positive density has no mass at 0 itself.
    reached = high > least if is_positive(support) and not hasattr(support, "points") else high >= least
    inside = reached & (low <= most)
    if support.is_discrete:
        inside &= np.ceil(low) <= np.floor(high)
    wrong = np.flatnonzero(~inside.all(1))
    if len(wrong):
        row = wrong[0]
        raise ValueError(
            f"{name} is known to lie between {rows.ends[row, 0]:g} and {rows.ends[row, -1]:g} in a row, which is outside of "
            f"the support of likelihood={recipe.likelihood!r}, expected {in_words(support, recipe.unit)}. Try another "
            "likelihood."
        )
