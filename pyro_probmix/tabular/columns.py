"""The columns of a table of texts: what the training rows' spellings mean, kept as JSON and applied to other rows."""

from __future__ import annotations

__all__ = ["MOST_LEVELS", "Columns", "column_of"]

import warnings
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from pyro_probmix.columns.kinds import are_codes, kind_of
from pyro_probmix.columns.levels import spelled
from pyro_probmix.columns.schema import Schema
from pyro_probmix.names import shown
from pyro_probmix.tables.names import listed, remedy
from pyro_probmix.tabular.column import Column, restored
from pyro_probmix.tabular.texts.conventions import Conventions, without_gaps
from pyro_probmix.tabular.texts.decisions import Decision, NeedsDecision
from pyro_probmix.tabular.texts.spelling import Spelled, spelled_texts, where

#: Texts of a target of more different ones than this name rows rather than classes.
MOST_LEVELS = 100
#: Columns that are left out are told of one by one, up to so many.
MOST_TOLD = 3
#: So many columns that are left out have a note of their own.
MOST_NOTES = 10


@dataclass(frozen=True)
class Columns:
    """The features of a table, and what their values mean.

    Numbers, dates and times in texts are read as the training rows spell them, texts that stand for missing values beside
    them. All other texts are categories. The estimator makes numbers of what is read here.

    Attributes:
        columns: the features, in their order; those that tell nothing are left out.
        notes: what was read in a way that a reader may want to know of, in words.

    Example:
        >>> import pandas as pd
        >>> table = pd.DataFrame({"a": ["1,5", "20,25", "."], "b": ["31/12/2024", "1/2/2024", ""], "c": ["x", "y", "x"]})
        >>> columns = Columns.fit(table)
        >>> columns.typed(table)
               a          b  c
        0   1.50 2024-12-31  x
        1  20.25 2024-02-01  y
        2    NaN        NaT  x
        >>> Columns.from_record(columns.record()) == columns
        True
    """

    columns: tuple[Column, ...]
    notes: tuple[str, ...] = ()

    @classmethod
    def fit(cls, frame: pd.DataFrame, conventions: Conventions | None = None) -> Columns:
        """Decides by training rows.

        Args:
            frame: the features, one column each.
            conventions: what the user says of the table.

        Raises:
            ValueError: for columns that need a decision, all of them at once, with the option that settles each; or a table
                without a column that tells something.
        """
        said = conventions or Conventions()
        if frame.shape[1] == 0:
            raise ValueError("the table has no feature columns, expected one beside the target. Try another target.")
        lost = [name for name in (*said.categories, *said.leave_out) if name not in frame.columns]
        if lost:
            raise ValueError(
                f"the table has no column {listed(lost)}; there are {listed(frame.columns)}. Try one of these."
            )
        columns, notes, decisions = [], [], []
        for name in frame.columns:
            if name in said.leave_out:
                continue
            try:
                column, more = column_of(frame[name], said)
                column.read(frame[name])
            except Decision as decision:
                decisions.append(decision)
                continue
            except ValueError as error:
                decisions.append(Decision(str(name), str(error), error=True))
                continue
            columns.append(column)
            notes += more
        if decisions:
            raise NeedsDecision(decisions)
        kept, dull = _telling(columns, frame)
        if not kept:
            raise ValueError(
                f"the table has no feature column that tells something ({_in_short(dull)}), expected one beside the target. "
                "Try another table."
            )
        return cls(tuple(kept), (*notes, *_told(dull, columns, kept)))

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the table's columns."""
        return tuple(column.name for column in self.columns)

    def typed(self, frame: pd.DataFrame) -> pd.DataFrame:
        """The features of a table, each with the type of its kind; columns that are none of the features are left out.

        Raises:
            ValueError: if a feature is missing or of another kind; all such columns are named at once.
        """
        self.expect(frame.columns)
        read, refused = {}, []
        for column in self.columns:
            try:
                read[column.name] = column.read(frame[column.name])
            except ValueError as error:
                refused.append(str(error))
        if refused:
            raise ValueError(" ".join(refused))
        return pd.DataFrame(read, index=frame.index)

    def expect(self, names: Collection[str]) -> None:
        """Raises ValueError unless a table with columns of these names has all features."""
        lost = [name for name in self.features if name not in names]
        if lost:
            raise ValueError(
                f"the table has no column {listed(lost)}, expected the features {listed(self.features)}. "
                + remedy(names, "Try the columns that the model was fitted on.")
            )

    @property
    def texts(self) -> tuple[str, ...]:
        """Names of the columns whose values are texts, as a file has them."""
        return tuple(column.name for column in self.columns if column.kind in ("category", "ordered"))

    @property
    def with_commas(self) -> tuple[str, ...]:
        """Names of the columns of numbers with decimal commas, in which points set thousands apart."""
        return tuple(column.name for column in self.columns if column.kind == "number" and column.decimal == ",")

    def record(self) -> dict[str, Any]:
        """The columns as JSON can hold them."""
        return {"columns": [asdict(column) for column in self.columns], "notes": list(self.notes)}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Columns:
        """The columns from :meth:`record`, also after JSON.

        Raises:
            ValueError: for a record that :meth:`record` does not make.
        """
        return cls(tuple(restored(one) for one in record["columns"]), tuple(map(str, record["notes"])))


def column_of(values: pd.Series, said: Conventions) -> tuple[Column, list[str]]:
    """What the values of a column mean, and notes on it.

    Raises:
        Decision: if a user has to decide.
        ValueError: for values that are nothing of a table's, such as bytes.
    """
    name = str(values.name)
    values = without_gaps(values, said.missing)
    plain = Column(name, "category", missing=said.missing)
    if name in said.categories:
        return plain, []
    if are_codes(values):
        note = f"column {shown(name)} holds whole numbers that are too large to be told apart as numbers: they are categories."
        return plain, [note]
    kind = kind_of(values)
    if kind == "categorical":
        levels = tuple(dict.fromkeys(spelled(level) for level in values.cat.categories))
        return (replace(plain, kind="ordered", levels=levels) if values.cat.ordered else plain), []
    simple = {
        "boolean": "boolean", "datetime64": "date", "datetime": "date", "date": "date", "timedelta64": "duration",
        "timedelta": "duration", "time": "time", "integer": "number", "floating": "number", "decimal": "number",
        "mixed-integer-float": "number", "empty": "number",
    }  # fmt: skip
    if kind in simple and not values.isna().all():
        return replace(plain, kind=simple[kind]), []
    if values.isna().all():
        return replace(plain, kind="number"), []
    texts = values.dropna()
    if not all(isinstance(value, str) for value in texts):
        if any(isinstance(value, bytes | list | tuple | dict | np.ndarray) for value in texts):
            row = next(k for k, value in enumerate(values) if not isinstance(value, str) and value is not None)
            raise ValueError(
                f"{where(name, values, row)}, expected numbers, dates or texts and found {kind}. Try one kind of values in the "
                "column, or --leave-out."
            )
        values = values.map(lambda value: value if isinstance(value, str) or pd.isna(value) else spelled(value))
    meant: Spelled = spelled_texts(values, said)
    return replace(plain, **meant.fields), list(meant.notes)


def _told(dull: list[str], columns: list[Column], kept: list[Column]) -> list[str]:
    """The notes on columns that are left out, and one on the names of the others where there are many."""
    if len(dull) <= MOST_NOTES:
        return dull
    names = {column.name for column in kept}
    left = [column.name for column in columns if column.name not in names][MOST_NOTES:]
    return [*dull[:MOST_NOTES], f"{len(left)} more columns tell nothing, and are left out: {listed(left)}."]


def _in_short(dull: list[str]) -> str:
    more = f" {len(dull) - MOST_TOLD} more columns are, too" if len(dull) > MOST_TOLD else ""
    return " ".join(dull[:MOST_TOLD]) + more if dull else "all are left out"


def _telling(columns: list[Column], frame: pd.DataFrame) -> tuple[list[Column], list[str]]:
    """The columns that tell something, and a note on each of the others."""
    typed = pd.DataFrame({column.name: column.read(frame[column.name]) for column in columns}, index=frame.index)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        kinds = {column.name: column.kind for column in Schema.fit(typed).columns} if columns else {}
    return [column for column in columns if kinds[column.name] != "none"], [str(one.message) for one in caught]
