"""Groups of rows, by quarters of numbers and dates and by categories, on which a model does worse than on the others."""

from __future__ import annotations

__all__ = ["FEWEST_ROWS", "STANDARD_ERRORS", "Part", "parts_of"]

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from pyro_probmix.calibration.scores.estimate import Estimate, mean_over_rows
from pyro_probmix.tabular.columns import Columns
from pyro_probmix.tabular.verdict import number

#: The fewest rows of a part, and of the rows outside it.
FEWEST_ROWS = 5
#: A part stands out if its mean is above that of the other rows by more than so many standard errors of the difference.
STANDARD_ERRORS = 2.0
_QUARTERS = 4


@dataclass(frozen=True)
class Part:
    """A group of rows with the same category, or numbers in the same range.

    Attributes:
        label: the category or range, in words.
        count: of the rows.
        score: their mean score, with its standard error.
        excess: how far it is above the mean of all other rows, in standard errors of the difference.
    """

    label: str
    count: int
    score: Estimate
    excess: float

    @property
    def stands_out(self) -> bool:
        """Whether the rows are worse than the others by more than two standard errors of the difference."""
        return self.excess > STANDARD_ERRORS


def parts_of(columns: Columns, frame: pd.DataFrame, scores: npt.NDArray[np.float64]) -> list[Part]:
    """The parts of a table that have at least five rows and leave at least five out, the worst first.

    Numbers and dates of more than four values are split into quarters by their quantiles; categories, true and false, and
    numbers of few values are parts each, and so are the rows where a value is missing.

    Args:
        columns: the features.
        frame: rows with these.
        scores: of the rows, lower is better, [n].

    Example:
        >>> table = pd.DataFrame({"kind": ["a", "b"] * 20, "size": range(40)})
        >>> worst = parts_of(Columns.fit(table), table, np.where(table["kind"] == "b", 2.0, 1.0) + np.arange(40) % 3)[0]
        >>> worst.label, worst.count, worst.stands_out
        ('kind = b', 20, True)
    """
    found = []
    typed = columns.typed(frame)
    for column in columns.columns:
        for label, rows in _groups(column.name, column.kind, typed[column.name]):
            if min(rows.sum(), (~rows).sum()) >= FEWEST_ROWS:
                inside, outside = mean_over_rows(scores[rows]), mean_over_rows(scores[~rows])
                error = np.hypot(inside.standard_error, outside.standard_error)
                gap = inside.value - outside.value
                excess = gap / error if error else np.inf * gap if gap else 0.0
                found.append(Part(label, int(rows.sum()), inside, float(excess)))
    return sorted(found, key=lambda part: -part.excess)


def _groups(name: str, kind: str, values: pd.Series) -> Iterator[tuple[str, npt.NDArray[np.bool_]]]:
    """The label of each group, and which rows are in it, [n]."""
    missing = values.isna().to_numpy()
    present = values[~missing]
    if kind in ("number", "date") and present.nunique() > _QUARTERS:
        ordered = present if kind == "date" else present.astype(np.float64)
        # Cut by rank, so that a quarter's ends are values that are there.
        quarter = pd.qcut(ordered.rank(method="max"), _QUARTERS, labels=False, duplicates="drop")
        words = _moment if kind == "date" else number
        labels = {
            q: f"{name} from {words(part.min())} to {words(part.max())}"
            for q, part in ordered.groupby(quarter.to_numpy())
        }
        texts = list(quarter.map(labels))
    else:
        texts = [f"{name} = {text}" for text in _values(kind, present)]
    whole = np.full(len(values), "", dtype=object)
    whole[~missing] = texts
    whole[missing] = f"{name} is missing"
    for label in dict.fromkeys(whole):
        yield label, whole == label


def _values(kind: str, present: pd.Series) -> list[str]:
    """Each value as the model reads it, however the file spells it."""
    if kind == "boolean":
        return [("false", "true")[int(value)] for value in present]
    return [
        _moment(value) if kind == "date" else number(float(value)) if kind == "number" else str(value)
        for value in present
    ]


def _moment(time: Any) -> str:
    """A day, with the time of the day if it has one."""
    return f"{time:%Y-%m-%d}" if time == time.normalize() else f"{time:%Y-%m-%d %H:%M}"
