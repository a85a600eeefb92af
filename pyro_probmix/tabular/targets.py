"""The targets of a table: regression or classification, and what their values mean."""

from __future__ import annotations

__all__ = ["TASKS", "Ends", "ends_column", "meaning_of_targets", "numbers"]

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pandas as pd

from pyro_probmix.names import shown
from pyro_probmix.tables.names import listed
from pyro_probmix.tabular.column import Column
from pyro_probmix.tabular.columns import MOST_LEVELS, column_of
from pyro_probmix.tabular.texts.conventions import Conventions
from pyro_probmix.tabular.texts.decisions import Decision

TASKS = ("regression", "classification")


def meaning_of_targets(
    frame: pd.DataFrame, targets: Sequence[str], task: str | None, said: Conventions
) -> tuple[str, tuple[Column, ...], list[str]]:
    """The task, what the values of each target mean, and notes on them.

    A single target of true and false, categories or recurring texts is classified, all else regressed.

    Args:
        frame: with the targets.
        targets: their names.
        task: if the user names one.
        said: by the user on the table.

    Raises:
        Decision: for a target that needs one.
        ValueError: for dates, or texts that hardly recur.

    Example:
        >>> meaning_of_targets(pd.DataFrame({"y": ["red", "blue", "red", "blue"]}), ["y"], None, Conventions())[0]
        'classification'
        >>> task, (column,), _ = meaning_of_targets(pd.DataFrame({"y": ["$3.5", "$1,200"]}), ["y"], None, Conventions())
        >>> task, column.unit
        ('regression', '$')
    """
    if task == "classification":
        return task, tuple(Column(name, "category", missing=said.missing) for name in targets), []
    columns, notes = [], []
    for name in targets:
        column, more = column_of(frame[name], said)
        columns.append(column)
        notes += [f"target {note}" for note in more]
    if len(targets) > 1 or task == "regression" or columns[0].kind not in ("category", "ordered", "boolean"):
        for column in columns:
            _expect_numbers(column, frame[column.name], single=len(targets) == 1)
        return "regression", tuple(columns), notes
    values = columns[0].read(frame[targets[0]])
    rows, count = int(values.notna().sum()), values.nunique()
    if count > min(MOST_LEVELS, rows / 2) and columns[0].kind != "boolean":
        raise ValueError(
            f"target column {shown(targets[0])} has {count} different texts in {rows} rows, expected numbers, or classes: at "
            f"most {MOST_LEVELS}, and two rows of each on average. Try another target, or --task classification if they are "
            "classes."
        )
    return "classification", (replace(columns[0], kind="category"),), notes


def _expect_numbers(column: Column, values: pd.Series, *, single: bool) -> None:
    if column.kind in ("number", "boolean"):
        return
    row = int(np.flatnonzero(values.notna())[0])
    held = f"column {shown(column.name)} holds {shown(str(values.iloc[row]))} at row {row} (rows counted from 0)"
    if column.kind in ("date", "time", "duration"):
        raise ValueError(
            f"target column {shown(column.name)} holds {column.kind}s, as {shown(str(values.iloc[row]))}, expected numbers or "
            "classes. Try a number, such as days since the first, or another target."
        )
    way = ", or --task classification if these are classes" if single else ""
    raise ValueError(f"target {held}, expected a number. Try another target{way}.")


@dataclass(frozen=True)
class Ends:
    """What says how far a target is known: a column of upper ends, or one of whether the target itself was observed.

    Attributes:
        column: of numbers, the upper ends, in which a missing value is no end; the target's column then has the lower ends. Or
            of truth values, true where the target is known, false where it is known to be larger.
    """

    column: Column

    @property
    def name(self) -> str:
        """Of the column."""
        return self.column.name

    def read(self, frame: pd.DataFrame, target: Column) -> npt.NDArray[np.float64]:
        """Lower and upper end of the target, infinite where none is known, NaN where that is missing, [n, 2].

        Raises:
            ValueError: for values that are none of the column's kind, or a table without it; the message says which.

        Example:
            >>> frame = pd.DataFrame({"days": [3.0, 5.0], "died": [True, False]})
            >>> Ends(Column("died", "boolean")).read(frame, Column("days", "number"))
            array([[ 3.,  3.],
                   [ 5., inf]])
        """
        if self.name not in frame.columns:
            raise ValueError(
                f"the table has no column {shown(self.name)}, which says how far the target is known; there are "
                f"{listed(frame.columns)}. Try a table with it, or probmix predict, which needs none."
            )
        low = numbers((target,), frame)[:, 0]
        if self.column.kind == "number":
            high = numbers((self.column,), frame)[:, 0]
            return np.stack([np.where(np.isnan(low), -np.inf, low), np.where(np.isnan(high), np.inf, high)], 1)
        try:
            seen = self.column.read(frame[self.name])
        except ValueError as error:
            raise ValueError(
                f"{error} It says whether the target was observed (1) or is known to be larger (0)."
            ) from None
        missing = seen.isna().to_numpy() | np.isnan(low)
        high = np.where(seen.fillna(False).to_numpy(dtype=bool), low, np.inf)
        return np.where(missing[:, None], np.nan, np.stack([low, high], 1))


def ends_column(frame: pd.DataFrame, name: str, kind: str, said: Conventions) -> Ends:
    """What a column says of how far a target is known.

    Args:
        frame: with the column.
        name: of it.
        kind: "number" for upper ends, "boolean" for whether the target was observed.
        said: by the user on the table.

    Raises:
        Decision: for a column of upper ends that needs one.
        ValueError: for values of another kind.
    """
    if kind == "boolean":
        return Ends(Column(name, "boolean", missing=said.missing))
    column, _ = column_of(frame[name], said)
    _expect_numbers(column, frame[name], single=False)
    return Ends(replace(column, kind="number"))


def numbers(columns: Sequence[Column], frame: pd.DataFrame) -> npt.NDArray[np.float64]:
    """The targets of a regression, NaN where one is missing, [n, T].

    Raises:
        ValueError: for values that are no finite numbers; the message says which.
    """
    read = []
    for column in columns:
        try:
            read.append(column.read(frame[column.name]).astype("Float64").to_numpy(dtype=np.float64, na_value=np.nan))
        except Decision:
            raise
        except ValueError as error:
            raise ValueError(f"target {error}") from None
    return np.stack(read, axis=1)
