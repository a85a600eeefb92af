"""Targets outside of a likelihood's support, and that support in words."""

from __future__ import annotations

__all__ = ["at_points", "family_of", "in_words", "is_positive", "of_one", "ruled_out"]

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.distributions import constraints

_WORDS: tuple[tuple[Any, str], ...] = (
    (constraints.boolean, "0 or 1"),
    (constraints.nonnegative_integer, "a whole number of at least 0"),
    (constraints.positive, "a number above 0"),
    (constraints.nonnegative, "a number above 0"),
)


def ruled_out(support: Any, y: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """Which targets are outside of a likelihood's support.

    Zero is outside of a continuous positive distribution, whose density there is zero or infinite.

    Args:
        support: a constraint of torch, of one target.
        y: targets, of any shape, in the units that the likelihood observes or, of a real one, any.

    Example:
        >>> ruled_out(constraints.nonnegative, np.array([2.0, 0.0, -1.0, np.nan]))
        array([False,  True,  True,  True])
    """
    support = of_one(support)
    inside = support.check(torch.tensor(y)).numpy()
    # Of a distribution of vectors, all targets of a row are in or out together.
    out = ~np.broadcast_to(inside.reshape(*inside.shape, *(1,) * (y.ndim - inside.ndim)), y.shape) | ~np.isfinite(y)
    if is_positive(support) and 0.0 not in getattr(support, "points", ()):
        out |= y == 0
    result: npt.NDArray[np.bool_] = out
    return result


def at_points(support: Any, y: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """Which values, in the units that the likelihood observes, have a probability of their own beside a density."""
    found: npt.NDArray[np.bool_] = np.isin(y, getattr(of_one(support), "points", ()))
    return found


def in_words(support: Any, unit: float = 1.0) -> str:
    """A support in words, for one target.

    Example:
        >>> in_words(constraints.nonnegative_integer)
        'a whole number of at least 0'
    """
    support = of_one(support)
    if is_positive(support) and hasattr(support, "points"):
        return "a number of at least 0"
    support = support.base if hasattr(support, "points") else support
    if support is constraints.unit_interval:
        return f"a number from 0 to {unit:g}"
    return next((words for one, words in _WORDS if support is one), "a finite number")


def is_positive(support: Any) -> bool:
    """Whether a support is all positive numbers, with or without zero."""
    lower = getattr(support, "lower_bound", None)
    from_zero = isinstance(lower, int | float) and lower == 0
    return from_zero and not support.is_discrete and not hasattr(support, "upper_bound")


def of_one(support: Any) -> Any:
    """The support of one of several targets that are independent."""
    while isinstance(support, constraints.independent):
        support = support.base_constraint
    return support


def family_of(support: Any, *, classes: bool) -> str:
    """The family of a constant density of targets: "class", "count", "real", "positive", or "" for none of these."""
    if classes or support is constraints.boolean:
        return "class"
    if support is constraints.nonnegative_integer:
        return "count"
    return "real" if support is constraints.real else "positive" if is_positive(support) else ""
