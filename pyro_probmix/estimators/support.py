"""Targets that a likelihood rules out, and how to say what it expects."""

from __future__ import annotations

__all__ = ["in_words", "ruled_out"]

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
    (constraints.unit_interval, "a number from 0 to 1"),
)


def ruled_out(support: Any, y: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """Which targets a likelihood cannot have.

    Zero is none that a continuous positive law can have: there its density is zero or infinite.

    Args:
        support: a constraint of torch, of one target.
        y: targets, of any shape, in the units that the likelihood observes or, of a real one, any.

    Example:
        >>> ruled_out(constraints.nonnegative, np.array([2.0, 0.0, -1.0, np.nan]))
        array([False,  True,  True,  True])
    """
    support = _of_one(support)
    out = ~support.check(torch.tensor(y)).numpy() | ~np.isfinite(y)
    if not support.is_discrete and getattr(support, "lower_bound", None) == 0 and not hasattr(support, "upper_bound"):
        out |= y == 0
    result: npt.NDArray[np.bool_] = out
    return result


def in_words(support: Any) -> str:
    """What a support expects of one target.

    Example:
        >>> in_words(constraints.nonnegative_integer)
        'a whole number of at least 0'
    """
    support = _of_one(support)
    return next((words for one, words in _WORDS if support is one), "a finite number")


def _of_one(support: Any) -> Any:
    while isinstance(support, constraints.independent):
        support = support.base_constraint
    return support
