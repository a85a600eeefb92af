"""The inputs of a network that one column of a table becomes."""

from __future__ import annotations

__all__ = ["PERIODS", "Part", "restored"]

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from pyro_probmix.columns.level_means import LevelMeans
from pyro_probmix.columns.quantiles import Scores
from pyro_probmix.columns.schema import KINDS, Column
from pyro_probmix.names import shown

Array = npt.NDArray[np.float64]

#: Days of a year and of a week: a date has its phase in each. A time has its phase in the day.
PERIODS = {"date": (365.25, 7.0), "time": (1.0,)}


@dataclass(frozen=True)
class Part:
    """The inputs that one column becomes.

    Attributes:
        kind: of the column, see :class:`~pyro_probmix.columns.schema.Column`; or "indicator" for numbers of two values.
        middle: what stands for a missing number, the weighted mean of the others: zero once it is scaled.
        gaps: whether rows of the fit had missing values; then an input is 1 where one is missing.
        scores: the map of a skewed number; None for one that is standardised as it is.
        often: a number that so many rows have that an input is 1 for it; None without one.
        levels: positions of a category's levels that have an input each.
        shares: their shares of the rows, which stand for a level that is none of them where no rows were pooled.
        other: whether levels of few rows are pooled; an input is 1 for these, and for levels that no row had.
        means: of a category of many levels.
    """

    kind: str
    middle: float = 0.0
    gaps: bool = False
    scores: Scores | None = None
    often: float | None = None
    levels: tuple[int, ...] = ()
    shares: tuple[float, ...] = ()
    other: bool = False
    means: LevelMeans | None = None

    def smooth(self, values: Array, own: Array | None = None) -> Array:
        """The inputs on which a network's waves are put: numbers in order, [n] to [n, k]."""
        if self.kind in ("none", "indicator", "boolean"):
            return np.empty((len(values), 0))
        if self.kind == "category":
            if self.means is None:
                return np.empty((len(values), 0))
            return self.means(values) if own is None else own
        missing = np.isnan(values) | (values < 0 if self.kind == "ordered" else False)
        if self.scores is not None:
            values = self.scores(np.where(missing, self.scores.knots[0], values))
        return np.where(missing, self.middle, values)[:, None]

    def flat(self, values: Array) -> Array:
        """All other inputs: indicators and phases, [n] to [n, k]."""
        missing = np.isnan(values)
        found: list[Array] = []
        if self.kind in ("indicator", "boolean"):
            found = [np.where(missing, self.middle, values)]
        elif self.kind == "category":
            known = np.isin(values, self.levels)
            found = [(values == level).astype(np.float64) for level in self.levels]
            if self.other:
                found.append((~known & ~(missing & self.gaps)).astype(np.float64))
            else:
                strange = ~known & ~(missing & self.gaps)
                found = [np.where(strange, share, one) for one, share in zip(found, self.shares, strict=True)]
        for period in PERIODS.get(self.kind, ()):
            phase = 2 * np.pi * np.where(missing, 0.0, values) / period
            found += [np.where(missing, 0.0, wave(phase)) for wave in (np.sin, np.cos)]
        if self.often is not None:
            found.append((values == self.often).astype(np.float64))
        if self.gaps:
            found.append(missing.astype(np.float64))
        return np.stack(found, axis=1) if found else np.empty((len(values), 0))


def restored(record: Mapping[str, Any], column: Column) -> Part:
    """The part of a column from a record as JSON holds it.

    Raises:
        ValueError: for values that no fit sets.
    """

    def need(truth: bool, what: str) -> None:
        if not truth:
            raise ValueError(f"the {what} of the inputs of column {shown(column.name)} are not what a fit sets")

    need(isinstance(record, Mapping) and set(record) == set(Part.__dataclass_fields__), "entries")
    kinds = (column.kind, "none", *(("indicator",) if column.kind in ("number", "boolean") else ()))
    need(record["kind"] in kinds and record["kind"] in (*KINDS, "indicator"), "kind")
    need(_finite([record["middle"]]) and all(isinstance(record[name], bool) for name in ("gaps", "other")), "entries")
    often = record["often"]
    need(often is None or (record["kind"] == "number" and _finite([often])), "entries")
    levels, shares = record["levels"], record["shares"]
    need(isinstance(levels, list | tuple) and all(type(level) is int for level in levels), "levels")
    need(all(0 <= a < len(column.levels) for a in levels) and all(a < b for a, b in pairwise(levels)), "levels")
    need(isinstance(shares, list | tuple) and len(shares) == len(levels) and _finite(shares), "shares")
    scores, means = record["scores"], record["means"]
    if scores is not None:
        need(isinstance(scores, Mapping) and set(scores) == {"knots", "scores"}, "scores")
        for values in scores.values():
            need(isinstance(values, list | tuple) and len(values) > 1 and _finite(values), "scores")
            need(all(a < b for a, b in pairwise(values)), "scores")
        need(len(scores["knots"]) == len(scores["scores"]), "scores")
        scores = Scores(tuple(scores["knots"]), tuple(scores["scores"]))
    if means is not None:
        need(isinstance(means, Mapping) and set(means) == {"means", "counts"}, "means")
        rows = means["means"]
        need(isinstance(rows, list | tuple) and all(isinstance(row, list | tuple) for row in rows), "means")
        for row in (*rows, means["counts"]):
            need(isinstance(row, list | tuple) and len(row) == len(column.levels) and _finite(row), "means")
        means = LevelMeans(tuple(tuple(row) for row in rows), tuple(means["counts"]))
    need((means is None and not levels and not record["other"]) or record["kind"] == "category", "levels")
    named = {"levels": tuple(levels), "shares": tuple(shares), "scores": scores, "means": means}
    return Part(**{**record, **named})


def _finite(values: Any) -> bool:
    return all(isinstance(v, int | float) and not isinstance(v, bool) and math.isfinite(v) for v in values)
