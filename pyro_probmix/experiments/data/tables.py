"""A checked table of features and targets, its splits, and the scaling by training rows."""

from __future__ import annotations

from pyro_probmix.names import shown

__all__ = ["FloatArray", "IntArray", "Split", "Standardizer", "Table", "Task", "train_validation_split"]

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

FloatArray: TypeAlias = npt.NDArray[np.float64]
IntArray: TypeAlias = npt.NDArray[np.int64]
Task: TypeAlias = Literal["regression", "classification"]

FEWEST_ROWS = 4  # two to train on, one to validate, one to test


@dataclass(frozen=True, eq=False)
class Table:
    r"""Features :math:`x_i` and targets :math:`y_i`, :math:`i = 1, \dots, n`, checked when the table is made.

    Args:
        name: What the table is called in messages and results.
        x: The features, `[n, d]`, kept as float64 in the units given. A constant column is allowed.
        y: For regression the targets, `[n]` or `[n, d_y]`, kept as float64 in the units given (`[n, 1]` becomes `[n]`).
            For classification the labels, `[n]`, of any type; they are kept as int64 positions in `classes`.
        feature_names: A name for each column of `x`; by default `x0`, `x1`, ...
        target_names: A name for each column of `y`; by default `y`, or `y0`, `y1`, ...
        task: `"regression"` or `"classification"`.
        classes: The names of the classes, if `y` already holds positions in them; by default the sorted labels of `y`.

    Raises:
        ValueError: If values are missing, infinite or text (row and column are named, rows counted from 0), shapes do
            not match, there are fewer than 4 rows, or a classification has a single class.

    Example:
        >>> table = Table("pets", [[1.0], [2.0], [3.0], [4.0]], ["cat", "dog", "dog", "cat"], task="classification")
        >>> table.classes, table.y
        (('cat', 'dog'), array([0, 1, 1, 0]))
    """

    name: str
    x: FloatArray
    y: FloatArray | IntArray
    feature_names: tuple[str, ...] = ()
    target_names: tuple[str, ...] = ()
    task: Task = "regression"
    classes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.task not in ("regression", "classification"):
            raise ValueError(f"{self.name}: unknown task {shown(self.task)}. Try 'regression' or 'classification'.")
        raw_x = np.asarray(self.x)
        if raw_x.ndim != 2:
            raise ValueError(
                f"{self.name}: the features have shape {list(raw_x.shape)}, expected [rows, columns]. "
                "Try x.reshape(len(x), -1)."
            )
        raw_y = np.asarray(self.y)
        if raw_y.ndim == 2 and raw_y.shape[1] == 1:
            raw_y = raw_y[:, 0]
        if raw_y.ndim not in (1, 2) or (raw_y.ndim == 2 and self.task == "classification"):
            expected = "[rows]" if self.task == "classification" else "[rows] or [rows, targets]"
            raise ValueError(
                f"{self.name}: the targets of a {self.task} have shape {list(raw_y.shape)}, expected {expected}. "
                "Try one target at a time."
            )
        if len(raw_x) != len(raw_y):
            raise ValueError(
                f"{self.name}: {len(raw_x)} rows of features but {len(raw_y)} targets. Try one target for each row."
            )
        if len(raw_x) < FEWEST_ROWS:
            raise ValueError(
                f"{self.name}: {len(raw_x)} rows are too few to train, validate and test. "
                f"Try a table with {FEWEST_ROWS} rows or more."
            )
        if raw_x.shape[1] == 0:
            raise ValueError(f"{self.name}: no feature columns. Try a table with one column beside the target.")
        features = self._names("feature_names", raw_x.shape[1], "x", numbered=True)
        targets = self._names("target_names", 1 if raw_y.ndim == 1 else raw_y.shape[1], "y", numbered=raw_y.ndim == 2)
        object.__setattr__(self, "x", _finite(self.name, "feature", raw_x, features))
        if self.task == "regression":
            y = _finite(self.name, "target", raw_y.reshape(len(raw_y), -1), targets)
            object.__setattr__(self, "y", y.reshape(raw_y.shape))
        else:
            codes, classes = _encoded(self.name, raw_y, targets[0], self.classes)
            object.__setattr__(self, "y", codes)
            object.__setattr__(self, "classes", classes)

    def _names(self, field: str, count: int, letter: str, *, numbered: bool) -> tuple[str, ...]:
        given = tuple(str(name) for name in getattr(self, field))
        names = given or tuple(f"{letter}{k}" if numbered else letter for k in range(count))
        if len(names) != count:
            raise ValueError(f"{self.name}: {len(names)} {field} for {count} columns. Try one name for each column.")
        object.__setattr__(self, field, names)
        return names


def _finite(table: str, kind: str, values: npt.NDArray[Any], names: tuple[str, ...]) -> FloatArray:
    """The columns as float64, or an error that names the first cell that is not a finite number."""
    try:
        # Complex numbers and dates would be cast to numbers without a complaint.
        if values.dtype.kind not in "biufOUS":
            raise TypeError
        numbers = values.astype(np.float64)
    except (TypeError, ValueError):
        row, column = _first_text(values)
        cell = str(values[row, column])
        raise ValueError(
            f"{table}: {kind} column {shown(names[column])} holds {shown(cell)} at row {row} (rows counted from 0), expected "
            "numbers. Try encoding the column as numbers, or leaving it out."
        ) from None
    bad = ~np.isfinite(numbers)
    if bad.any():
        row, column = (int(k) for k in np.argwhere(bad)[0])
        raise ValueError(
            f"{table}: {kind} column {shown(names[column])} is {numbers[row, column]} at row {row} (rows counted from 0; "
            f"{bad.sum()} such values in all), expected finite numbers. Try dropping or filling in such rows."
        )
    return numbers


def _first_text(values: npt.NDArray[Any]) -> tuple[int, int]:
    """Row and column of the first cell that is no number; of dates and complex numbers, all are none."""
    if values.dtype.kind in "OUS":
        for row, column in np.ndindex(values.shape[0], values.shape[1]):
            try:
                float(values[row, column])
            except (TypeError, ValueError):
                return row, column
    return 0, 0


def _encoded(
    table: str, labels: npt.NDArray[Any], target: str, classes: tuple[str, ...]
) -> tuple[IntArray, tuple[str, ...]]:
    """Labels as positions in the classes, and the classes' names."""
    missing = np.flatnonzero(pd.isna(labels))
    if len(missing):
        raise ValueError(
            f"{table}: target column {shown(target)} has no label at row {missing[0]} (rows counted from 0; {len(missing)} "
            "such rows in all). Try dropping such rows."
        )
    if classes:
        codes = labels.astype(np.int64)
        if codes.min() < 0 or codes.max() >= len(classes):
            raise ValueError(
                f"{table}: labels from {codes.min()} to {codes.max()} for {len(classes)} classes. "
                f"Try labels from 0 to {len(classes) - 1}."
            )
    else:
        try:
            found, codes = np.unique(labels, return_inverse=True)
        except TypeError:  # text and numbers in one column have no order
            found, codes = np.unique(labels.astype(str), return_inverse=True)
        classes = tuple(str(label) for label in found)
    if np.all(codes == codes[0]):
        raise ValueError(
            f"{table}: target column {shown(target)} holds one class only, {shown(classes[codes[0]])}; "
            "a classification needs two or more. Try another target column."
        )
    if len(np.unique(codes)) == len(codes):
        raise ValueError(
            f"{table}: target column {shown(target)} holds {len(codes)} classes in {len(codes)} rows, no two alike. "
            "Try a regression, or another target column."
        )
    return codes.astype(np.int64), classes


@dataclass(frozen=True, eq=False)
class Split:
    """The rows of a table to train on, to choose the epoch by, and to report on: positions, each `[rows]`."""

    train: IntArray
    validation: IntArray
    test: IntArray


def train_validation_split(n: int, fraction: float = 0.2, *, seed: int) -> tuple[IntArray, IntArray]:
    """Positions 0 to n - 1 dealt at random into a part to train on and a part to validate with.

    Args:
        n: How many rows there are to deal.
        fraction: The share that validates, rounded to whole rows, with one row or more on either side.
        seed: Of NumPy's generator.

    Raises:
        ValueError: If there are fewer than 2 rows, or the fraction is not between 0 and 1.

    Example:
        >>> train, validation = train_validation_split(10, seed=0)
        >>> len(train), len(validation)
        (8, 2)
    """
    if n < 2:
        raise ValueError(f"{n} rows cannot be dealt into two parts. Try 2 rows or more.")
    if not 0 < fraction < 1:
        raise ValueError(f"fraction={fraction} of the rows to validate with, expected between 0 and 1. Try 0.2.")
    order = np.random.default_rng(seed).permutation(n)
    size = min(max(round(fraction * n), 1), n - 1)
    return np.sort(order[size:]), np.sort(order[:size])


@dataclass(frozen=True, eq=False)
class Standardizer:
    r"""The map :math:`v \mapsto (v - m) / s` of each column, m and s the mean and standard deviation of some rows.

    Fit it on training rows only. Stacked tables `[R, n, d]`, one for each replica, are each scaled by the rows of that replica.

    Args:
        mean: The columns' means, `[d]` or `[R, 1, d]`, in the columns' units.
        scale: The columns' standard deviations, of the same shape and units; 1 for a constant column.

    Example:
        >>> scaler = Standardizer.fit(np.array([[1.0, 7.0], [3.0, 7.0]]))
        >>> scaler.transform(np.array([[5.0, 8.0]]))
        array([[3., 1.]])
    """

    mean: FloatArray
    scale: FloatArray

    @classmethod
    def fit(cls, values: npt.ArrayLike) -> Standardizer:
        """Takes mean and scale from rows `[n]` (one column), `[n, d]`, or `[R, n, d]` (for each replica)."""
        rows = np.asarray(values, dtype=np.float64)
        axis, stacked = (0, False) if rows.ndim < 3 else (-2, True)
        constant = rows.max(axis, keepdims=stacked) == rows.min(axis, keepdims=stacked)
        # The mean of equal numbers may miss them by rounding: a constant column is compared, not measured.
        scale = np.where(constant, 1.0, rows.std(axis, keepdims=stacked))
        return cls(rows.mean(axis, keepdims=stacked), scale)

    def transform(self, values: npt.ArrayLike) -> FloatArray:
        """From the columns' units to standard units; rows `[n, d]` meet stacked scales as `[R, n, d]`."""
        return (np.asarray(values, dtype=np.float64) - self.mean) / self.scale

    def inverse(self, values: npt.ArrayLike) -> FloatArray:
        """From standard units back to the columns' units."""
        return np.asarray(values, dtype=np.float64) * self.scale + self.mean
