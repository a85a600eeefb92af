"""Levels of categories that no row of a fit had: they are read as other ones, and said, so that a wrong column is noticed."""

from __future__ import annotations

__all__ = ["NewLevel", "NewLevels", "new_levels", "warn_of_new_levels"]

import warnings
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from pyro_probmix.columns.schema import Schema
from pyro_probmix.names import shown

#: So many rows without a single known level tell of another column.
FEWEST_TO_DOUBT = 3
#: Columns that are named in one warning.
MOST_NAMED = 10


@dataclass(frozen=True)
class NewLevel:
    """A column with levels that no row of the fit had.

    Attributes:
        name: of the column.
        count, rows: of the rows with such a level, and of all that have a value.
        example: one of the levels.
    """

    name: str
    count: int
    rows: int
    example: str

    def __str__(self) -> str:
        here = f"column {shown(self.name)} in {self.count} of {self.rows} rows, such as {shown(self.example)}"
        if self.count < max(self.rows, FEWEST_TO_DOUBT):
            return here
        return f"{here}, so that it may be another column than that of the fit"


class NewLevels(UserWarning):
    """The warning of columns with levels that no row of the fit had."""

    def __init__(self, columns: Iterable[NewLevel]) -> None:
        self.columns = tuple(columns)
        named = "; ".join(map(str, self.columns[:MOST_NAMED]))
        more = f"; and {len(self.columns) - MOST_NAMED} more columns" if len(self.columns) > MOST_NAMED else ""
        super().__init__(f"levels that no row of the fit had are read as other ones: {named}{more}.")


def new_levels(schema: Schema, numbers: npt.NDArray[np.float64], values: pd.DataFrame) -> list[NewLevel]:
    """The columns with levels that no row of the fit had.

    Args:
        schema: of the columns.
        numbers: of the rows, [n, d], as the schema reads them.
        values: that were read.

    Example:
        >>> schema = Schema.fit(pd.DataFrame({"kind": ["a", "b"]}))
        >>> other = pd.DataFrame({"kind": ["a", "x", None]})
        >>> [str(one) for one in new_levels(schema, schema.numbers(other), other)]
        ["column 'kind' in 1 of 2 rows, such as 'x'"]
    """
    found = []
    for k, column in enumerate(schema.columns):
        if column.kind in ("category", "ordered"):
            new = np.flatnonzero(numbers[:, k] < 0)
            if len(new):
                rows = int((~np.isnan(numbers[:, k])).sum())
                found.append(NewLevel(column.name, len(new), rows, str(values.iloc[new[0], k])))
    return found


def warn_of_new_levels(columns: Iterable[NewLevel], *, stacklevel: int) -> None:
    """Warns of columns with such levels, if there are any."""
    columns = tuple(columns)
    if columns:
        warnings.warn(NewLevels(columns), stacklevel=stacklevel + 1)
