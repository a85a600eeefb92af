"""Targets that a likelihood rules out, refused in a sentence that names the row and what is expected."""

from __future__ import annotations

__all__ = ["refuse_outside"]

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.distributions import constraints

_WORDS: tuple[tuple[Any, str], ...] = (
    (constraints.boolean, "0 or 1"),
    (constraints.nonnegative_integer, "a whole number of at least 0"),
    (constraints.positive, "a number above 0"),
    (constraints.nonnegative, "a number of at least 0"),
    (constraints.unit_interval, "a number from 0 to 1"),
)


def refuse_outside(support: Any, y: npt.NDArray[np.float64], targets: tuple[str, ...], first: int) -> None:
    """Refuses observations outside of the support of a predictive.

    Args:
        support: of the predictive of these rows.
        y: the rows' targets, [n] or [n, T].
        targets: names.
        first: row of the table that the first is.

    Raises:
        ValueError: naming the first row, its target and value, and what the likelihood expects.

    Example:
        >>> refuse_outside(constraints.positive, np.array([2.0, -1.0]), ("price",), 0)
        Traceback (most recent call last):
        ValueError: target column 'price' is -1.0 at row 1 (rows counted from 0), expected a number above 0, ... Try ...
    """
    while isinstance(support, constraints.independent):
        support = support.base_constraint
    inside = support.check(torch.tensor(y)).cpu().numpy() & np.isfinite(y)
    wrong = np.argwhere(~inside.reshape(len(y), -1))
    if len(wrong):
        row, t = (int(i) for i in wrong[0])
        expected = next((words for one, words in _WORDS if support is one), "a finite number")
        value = float(y.reshape(len(y), -1)[row, t])
        raise ValueError(
            f"target column {targets[t]!r} is {value} at row {first + row} (rows counted from 0), expected {expected}, as the "
            "model's likelihood does. Try dropping that row, or fitting with another --likelihood."
        )
