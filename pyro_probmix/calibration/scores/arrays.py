"""Checks of arguments: NumPy arrays of numbers, with the name of the argument in the error."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "Floats",
    "draws_of_rows",
    "finite",
    "generator",
    "non_negative",
    "of_level",
    "of_rows",
    "of_unit_interval",
    "over_rows",
    "positive",
    "same_shape",
]

Floats = NDArray[np.float64]


def finite(name: str, values: ArrayLike) -> Floats:
    """The values as a float64 array.

    Raises:
        TypeError: if they are no numbers.
        ValueError: if there are none, or one is not finite; the sentence says where.
    """
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise TypeError(
            f"{name} is of type {type(values).__name__}, expected numbers. Try numpy.asarray(..., float)."
        ) from None
    if not array.size:
        raise ValueError(f"{name} has the shape {array.shape}, expected at least one row. Try more rows.")
    _refuse(name, array, ~np.isfinite(array), "finite numbers", "dropping that row, or another model")
    return array


def positive(name: str, values: ArrayLike) -> Floats:
    """The values, all above zero."""
    array = finite(name, values)
    _refuse(name, array, array <= 0, "numbers above 0", "a floor under the scale")
    return array


def non_negative(name: str, values: ArrayLike) -> Floats:
    """The values, none below zero."""
    array = finite(name, values)
    _refuse(name, array, array < 0, "numbers of 0 or more", "standard deviations")
    return array


def of_unit_interval(name: str, values: ArrayLike) -> Floats:
    """The values, all in [0, 1]."""
    array = finite(name, values)
    _refuse(name, array, (array < 0) | (array > 1), "numbers in [0, 1]", "distribution functions or probabilities")
    return array


def of_rows(name: str, values: ArrayLike, rows: tuple[int, ...]) -> Floats:
    """Numbers for densities of rows of a shape, [N]: values that broadcast with it, such as [K, N] or one for all."""
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise TypeError(
            f"{name} is of type {type(values).__name__}, expected numbers. Try numpy.asarray(..., float)."
        ) from None
    try:
        np.broadcast_shapes(array.shape, rows)
    except ValueError:
        raise ValueError(
            f"{name} has the shape {array.shape} and the densities are of rows of shape {rows}, expected the same rows, or "
            "more values for each, [K, N]. Try the values of these very rows."
        ) from None
    return array


def over_rows(name: str, values: Floats) -> Floats:
    """The values, one for each row: shape [N]."""
    if values.ndim != 1:
        raise ValueError(
            f"{name} has the shape {values.shape}, expected one number for each row, [N]. Try one target at a time."
        )
    return values


def of_level(level: float) -> float:
    """A probability strictly between 0 and 1."""
    if not isinstance(level, int | float | np.floating) or not 0 < level < 1:
        raise ValueError(f"level is {level!r}, expected a probability between 0 and 1. Try level=0.9.")
    return float(level)


def draws_of_rows(draws: ArrayLike, y: ArrayLike) -> tuple[Floats, Floats]:
    """Checked draws of the predictive, [S, ...], and observations, [...]."""
    sample, y = finite("draws", draws), finite("y", y)
    if sample.shape[1:] != y.shape:
        raise ValueError(
            f"draws has the shape {sample.shape} and y {y.shape}, expected [S, ...] for y of shape [...]. "
            "Try one set of draws of these very rows."
        )
    return sample, y


def same_shape(**arrays: Floats) -> None:
    """Refuses arrays that do not broadcast to one shape."""
    try:
        np.broadcast_shapes(*(array.shape for array in arrays.values()))
    except ValueError:
        shapes = ", ".join(f"{name} {array.shape}" for name, array in arrays.items())
        raise ValueError(
            f"The arrays have the shapes {shapes}, expected the same rows in each. Try the predictions of these very rows."
        ) from None


def generator(seed: int | np.random.Generator) -> np.random.Generator:
    """A new generator from a seed; a generator is returned as it is."""
    if isinstance(seed, int | np.integer) and seed < 0:
        raise ValueError(f"seed is {seed}, expected an integer of at least 0. Try seed=0.")
    return np.random.default_rng(seed)


def _refuse(name: str, array: Floats, wrong: NDArray[np.bool_], expected: str, remedy: str) -> None:
    if wrong.any():
        where = tuple(int(i) for i in np.argwhere(wrong)[0])
        index = f"[{', '.join(map(str, where))}]" if where else ""
        raise ValueError(f"{name}{index} is {array[where]}, expected {expected}. Try {remedy}.")
