"""The numbers of a table's columns as the inputs of a network: one-hot codes, means of levels, gaps, phases of dates."""

from __future__ import annotations

__all__ = ["Expansion"]

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from pyro_probmix.columns.level_means import LevelMeans
from pyro_probmix.columns.part import Part, restored
from pyro_probmix.columns.quantiles import Scores, is_skewed
from pyro_probmix.columns.schema import Column, Schema

Array = npt.NDArray[np.float64]

#: A level of fewer rows than this is pooled with others, as "other".
FEWEST_ROWS = 5
#: So many levels of a category have an input each; the most frequent ones, where there are more.
MOST_LEVELS = 30
#: A category of more levels, or with levels that are pooled, has the means of its levels as well.
FEW_LEVELS = 6
#: Of fewer rows than this, two different values do not tell that a number has no third.
FEWEST_TO_TELL = 10
#: A number of more different values than this, one of which so many of the rows have, such as nothing spent, has an indicator
#: of that value, if there are categories beside it. (On AER/CreditCard it takes the log loss from 0.102 to 0.059, in folds of
#: the rows of a fit.)
FEW_VALUES, OFTEN = 10, 0.2
#: Of so many classes at most the means are taken.
MOST_CLASSES = 8


@dataclass(frozen=True)
class Expansion:
    """The inputs of a network for rows of a table, decided by the rows of a fit.

    First come the numbers in order (numbers, positions of ordered levels, days, means of levels), on which a network may put
    waves; then indicators and phases.

    Attributes:
        parts: one for each column.

    Example:
        >>> schema = Schema((Column("a", "number"), Column("k", "category", ("x", "y"))))
        >>> rows = np.array([[1.0, 0.0], [2.0, 0.0], [np.nan, 1.0], [4.0, 1.0]] * 3)
        >>> expansion = Expansion.fit(schema, rows, rows[:, :1], np.ones(12), classes=False, seed=0)
        >>> expansion.inputs(rows[2:3]).round(2).tolist()  # a gap: the mean of a; k is not x, but y; the gap's indicator
        [[2.33, 1.0, 0.0, 1.0]]
    """

    parts: tuple[Part, ...]

    @classmethod
    def fit(cls, schema: Schema, rows: Array, y: Array, weights: Array, *, classes: bool, seed: int) -> Expansion:
        """Decides by rows.

        Args:
            schema: of the columns.
            rows: their numbers, [n, d].
            y: targets, [n, d_y], or classes as numbers, [n, 1].
            weights: [n].
            classes: whether ``y`` is a class.
            seed: deals rows into shares, for the means of levels.
        """
        # In the mean of the weights, so that a row of weight k counts as k rows.
        count = weights * (len(weights) / weights.sum())
        targets = _targets(y, weights, classes)
        mixed = any(column.kind in ("category", "ordered") for column in schema.columns)
        return cls(
            tuple(
                _part(column, values, targets, count, seed, mixed)
                for column, values in zip(schema.columns, rows.T, strict=True)
            )
        )

    def of_training(self, rows: Array, y: Array, weights: Array, *, classes: bool, seed: int) -> Array:
        """The inputs of rows that are trained on, [n, D]: means of levels leave out the row itself; see :meth:`fit`."""
        own: list[Array | None] = [None] * len(self.parts)
        for k, part in enumerate(self.parts):
            if part.means is not None:
                num_levels = len(part.means.counts)
                own[k] = LevelMeans.fit(rows[:, k], _targets(y, weights, classes), weights, num_levels, seed)[1]
        return self._inputs(rows, own)

    @property
    def same_in_training(self) -> bool:
        """Whether :meth:`of_training` gives rows the inputs that new rows with their features have: no means of levels."""
        return all(part.means is None for part in self.parts)

    @cached_property
    def is_plain(self) -> bool:
        """Whether all columns are numbers that stay what they are."""
        return all(part == Part("number", part.middle) for part in self.parts)

    @property
    def has_categories(self) -> bool:
        """Whether a column is a category."""
        return any(part.kind in ("category", "ordered") for part in self.parts)

    @cached_property
    def num_smooth(self) -> int:
        """The number of inputs on which waves are put."""
        return sum(len(part.smooth(np.zeros(1))[0]) for part in self.parts)

    @cached_property
    def num_inputs(self) -> int:
        """The number D of inputs."""
        return max(1, self.num_smooth + sum(len(part.flat(np.zeros(1))[0]) for part in self.parts))

    def record(self) -> list[dict[str, Any]]:
        """The expansion as JSON can hold it."""
        return [asdict(part) for part in self.parts]

    @classmethod
    def from_record(cls, record: Sequence[Mapping[str, Any]], schema: Schema) -> Expansion:
        """The expansion of a schema's columns from :meth:`record`, also after JSON.

        Raises:
            ValueError: for a record that :meth:`record` does not make.
        """
        if len(record) != len(schema.columns):
            raise ValueError(f"its inputs are of {len(record)} columns, expected {len(schema.columns)}")
        return cls(tuple(restored(one, column) for one, column in zip(record, schema.columns, strict=True)))

    def inputs(self, rows: Array) -> Array:
        """The inputs of rows, [n, d] to [n, D]."""
        if self.is_plain and not np.isnan(rows).any():
            return rows
        return self._inputs(rows, [None] * len(self.parts))

    def new_gaps(self, rows: Array) -> list[int]:
        """The positions of the columns in which a value is missing, and none was in the rows of the fit."""
        found = np.flatnonzero(np.isnan(rows).any(0))
        return [int(k) for k in found if self.parts[k].kind != "none" and not self.parts[k].gaps]

    def _inputs(self, rows: Array, own: Sequence[Array | None]) -> Array:
        pairs = list(zip(self.parts, rows.T, strict=True))
        smooth = [part.smooth(values, numbers) for (part, values), numbers in zip(pairs, own, strict=True)]
        found = np.concatenate([*smooth, *(part.flat(values) for part, values in pairs)], axis=1)
        return found if found.shape[1] else np.zeros((len(rows), 1))  # a network has an input, if only a zero


def _part(column: Column, values: Array, targets: Array, weights: Array, seed: int, mixed: bool) -> Part:
    missing = np.isnan(values)
    gaps = bool(missing.any())
    if column.kind == "none" or missing.all():
        return Part("none")
    if column.kind == "category":
        return _of_category(column, values, targets, weights, seed)
    inside = ~missing & ~((values < 0) & (column.kind == "ordered"))
    kept, weight = values[inside], weights[inside]
    if not len(kept):
        return Part("none")
    middle, different = _mean(kept, weight), np.unique(kept)
    two = set(different.tolist()) <= {0.0, 1.0} or (len(different) <= 2 and len(kept) >= FEWEST_TO_TELL)
    if column.kind in ("number", "boolean") and two:
        return Part("indicator", middle, gaps)
    scores = Scores.fit(kept, weight) if is_skewed(kept, weight) else None
    if scores is not None:
        middle = _mean(scores(kept), weight)
    often = _often(kept, weight) if mixed and column.kind == "number" else None
    return Part(column.kind, middle, gaps, scores, often)


def _often(values: Array, weights: Array) -> float | None:
    """The value that so many rows have that it tells something by itself; None without one."""
    different, which = np.unique(values, return_inverse=True)
    share = np.bincount(which, weights) / weights.sum()
    return float(different[share.argmax()]) if len(different) > FEW_VALUES and share.max() >= OFTEN else None


def _of_category(column: Column, values: Array, targets: Array, weights: Array, seed: int) -> Part:
    number = np.array([weights[values == level].sum() for level in range(len(column.levels))])
    frequent = [int(k) for k in np.argsort(-number, kind="stable") if number[k] >= FEWEST_ROWS][:MOST_LEVELS]
    levels = tuple(sorted(frequent))
    other = bool(number.sum() > number[list(levels)].sum())
    many = len(column.levels) > FEW_LEVELS or other
    means = LevelMeans.fit(values, targets, weights, len(column.levels), seed)[0] if many else None
    shares = tuple((number[list(levels)] / weights.sum()).tolist())
    gaps = bool(np.isnan(values).any())
    return Part("category", gaps=gaps, levels=levels, shares=shares, other=other, means=means)


def _mean(values: Array, weights: Array) -> float:
    unit = np.abs(values).max() or 1.0  # squares and sums of huge numbers overflow
    return float(np.average(values / unit, weights=weights)) * float(unit)


def _targets(y: Array, weights: Array, classes: bool) -> Array:
    return _of_classes(y[:, 0], weights) if classes else _standardised(y, weights)


def _standardised(y: Array, weights: Array) -> Array:
    unit = np.abs(y).max(0)
    z = y / np.where(unit > 0, unit, 1.0)
    z = z - np.average(z, axis=0, weights=weights)
    scale = np.sqrt(np.average(z**2, axis=0, weights=weights))
    return np.asarray(z / np.where(scale > 0, scale, 1.0))


def _of_classes(y: Array, weights: Array) -> Array:
    """Indicators of the most frequent classes, standardised; of two classes one tells all."""
    classes, which = np.unique(y, return_inverse=True)
    often = np.argsort(-np.bincount(which, weights), kind="stable")[:MOST_CLASSES]
    chosen = classes[np.sort(often)][: max(1, len(classes) - 1)]
    return _standardised((y[:, None] == chosen).astype(np.float64), weights)
