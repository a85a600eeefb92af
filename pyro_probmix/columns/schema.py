"""The columns of a table as an estimator reads them: their kinds and levels, decided by the rows of its fit."""

from __future__ import annotations

__all__ = ["KINDS", "Column", "Schema", "warn_of_texts"]

import math
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from pyro_probmix.columns.kinds import LABELS, NUMBERS, are_codes, kind_of, numbers_as_text, text_rows
from pyro_probmix.columns.levels import codes, spelled
from pyro_probmix.columns.moments import days, lengths, times_of_day
from pyro_probmix.names import shown

Array = npt.NDArray[np.float64]

#: The texts for false and true; those at odd positions are true.
TRUTHS = ("false", "true", "0", "1")
#: A text or category that no other row has tells nothing of other rows. A column with a smaller share of rows that share
#: their level is left out, as one that names the rows.
FEWEST_SHARED = 0.1
#: Of fewer rows nothing is left out for having one value.
FEWEST_TO_TELL = 10


@dataclass(frozen=True)
class Column:
    """One column of a table.

    Attributes:
        name: of the column.
        kind: "number", "boolean", "category", "ordered", "date", "time" (of the day), "duration", or "none" for
            one that is left out.
        levels: of a category or ordered category, in their order.
    """

    name: str
    kind: str
    levels: tuple[str, ...] = ()


@dataclass(frozen=True)
class Schema:
    """The columns of a table: a row becomes as many numbers, NaN where a value is missing.

    Numbers stay what they are, true is 1 and false 0. A category is the position of its level, -1 for one that no row of the
    fit had; dates are days since 1970, times of the day shares of it, durations days.

    Attributes:
        columns: in the order of the table.

    Example:
        >>> table = pd.DataFrame({"a": [1.0, None], "b": pd.Categorical(["high", "low"], ["low", "high"], ordered=True)})
        >>> schema = Schema.fit(table)
        >>> [column.kind for column in schema.columns]
        ['number', 'ordered']
        >>> schema.numbers(table)
        array([[ 1.,  1.],
               [nan,  0.]])
        >>> schema.numbers(pd.DataFrame({"a": [2.0], "b": ["middle"]}))
        array([[ 2., -1.]])
    """

    columns: tuple[Column, ...]

    @classmethod
    def of_numbers(cls, width: int) -> Schema:
        """The schema of an array of numbers, [n, width]."""
        return cls(tuple(Column(str(k), "number") for k in range(width)))

    @classmethod
    def fit(cls, frame: pd.DataFrame) -> Schema:
        """Decides by the rows of a table.

        Columns without any value, and texts or categories that name rows (hardly two rows share one), are left out, with a
        warning.

        Raises:
            ValueError: for values that are neither numbers, truth values, texts, categories, dates nor durations; all such
                columns are named at once.
        """
        columns, refused = [], []
        for position in range(frame.shape[1]):
            values = frame.iloc[:, position].rename(str(frame.columns[position]))
            try:
                columns.append(_column_of(values))
                _READERS[columns[-1].kind](columns[-1], values)
            except ValueError as error:
                refused.append(str(error))
        if refused:
            raise ValueError(" ".join(refused))
        return cls(tuple(columns))

    @property
    def only_numbers(self) -> bool:
        """Whether all columns are numbers or truth values."""
        return all(column.kind in ("number", "boolean") for column in self.columns)

    def numbers(self, frame: pd.DataFrame) -> Array:
        """The rows of a table with these columns as numbers, [n, d].

        Raises:
            ValueError: for a value that a column cannot have, such as a text in one of numbers.
        """
        parts, refused = [], []
        for position, column in enumerate(self.columns):
            try:
                parts.append(_READERS[column.kind](column, frame.iloc[:, position].rename(column.name)))
            except ValueError as error:
                refused.append(str(error))
        if refused:
            raise ValueError(" ".join(refused))
        return np.stack(parts, axis=1)

    def record(self) -> list[dict[str, Any]]:
        """The schema as JSON can hold it."""
        return [asdict(column) for column in self.columns]

    @classmethod
    def from_record(cls, record: Sequence[Mapping[str, Any]]) -> Schema:
        """The schema from :meth:`record`, also after JSON.

        Raises:
            ValueError: for a record that :meth:`record` does not make.
        """
        columns = []
        for one in record:
            if not isinstance(one, Mapping) or set(one) != {"name", "kind", "levels"}:
                raise ValueError("a column has other entries than name, kind and levels")
            name, kind, levels = one["name"], one["kind"], one["levels"]
            texts = isinstance(levels, list | tuple) and all(isinstance(level, str) for level in levels)
            if not isinstance(name, str) or kind not in KINDS or not texts or len(set(levels)) < len(levels):
                raise ValueError(f"column {shown(name)} is of kind {shown(kind)}, expected one of {', '.join(KINDS)}")
            if bool(levels) != (kind in ("category", "ordered")):
                raise ValueError(f"column {shown(name)} has {len(levels)} levels, which is not so for kind {kind}")
            columns.append(Column(name, kind, tuple(levels)))
        return cls(tuple(columns))


def _column_of(values: pd.Series) -> Column:
    name, dtype = str(values.name), values.dtype
    if values.isna().all():
        return _left_out(name, "has no value in any row")
    if (
        len(values) >= FEWEST_TO_TELL
        and not values.isna().any()
        and len({spelled(value) for value in values.array}) == 1
    ):
        return _left_out(name, f"has the value {shown(str(values.iloc[0]))} in every row")
    if are_codes(values):
        return _category(name, values)
    kind = kind_of(values)
    if kind == "interval":
        return Column(name, "number")
    some = kind in ("complex", "mixed", "mixed-integer") and any(isinstance(value, complex) for value in values)
    if getattr(dtype, "kind", "") == "c" or some:
        raise ValueError(
            f"column {shown(name)} of X is complex, expected real numbers. Try its real and imaginary parts."
        )
    if pd.api.types.is_datetime64_any_dtype(dtype) or kind in ("datetime", "date", "period"):
        return Column(name, "date")
    if pd.api.types.is_timedelta64_dtype(dtype) or kind == "timedelta":
        return Column(name, "duration")
    if kind == "categorical":
        categories = values.cat.categories
        if values.cat.ordered:
            return Column(name, "ordered", tuple(dict.fromkeys(spelled(level) for level in categories)))
        return _category(name, values)
    if kind == "boolean" or pd.api.types.is_bool_dtype(dtype):
        return Column(name, "boolean")
    if kind in NUMBERS or pd.api.types.is_numeric_dtype(dtype) or numbers_as_text(values):
        return Column(name, "number")
    if kind == "time":
        return Column(name, "time")
    texts = values.map(lambda value: isinstance(value, str))
    if kind in LABELS or (
        kind in ("mixed", "mixed-integer") and not texts.any()
    ):  # objects of any kind, by their texts
        return _category(name, values)
    row = int(next(iter(text_rows(values)), 0))
    raise ValueError(
        f"column {shown(name)} of X holds {shown(values.iloc[row])} at row {row} (rows counted from 0), expected numbers, "
        f"texts or categories and found {kind}. Try one kind of values in the column, or leaving it out."
    )


def _category(name: str, values: pd.Series) -> Column:
    counts = Counter(spelled(value) for value in values.dropna())
    alone = sum(count == 1 for count in counts.values())
    rows = sum(counts.values())
    if alone > 2 and rows - alone < FEWEST_SHARED * rows:
        return _left_out(name, f"names rows, with {len(counts)} different texts in {rows}")
    return Column(name, "category", tuple(sorted(counts)))


def _left_out(name: str, why: str) -> Column:
    warnings.warn(f"column {shown(name)} {why}, and is left out.", UserWarning, stacklevel=2)
    return Column(name, "none")


def _number(column: Column, values: pd.Series) -> Array:
    missing = values.isna().to_numpy().copy()
    try:
        if isinstance(values.dtype, np.dtype) and values.dtype.kind in "iufb":
            return values.to_numpy(dtype=np.float64)
        if kind_of(values) == "interval":
            values = values.map(_middle, na_action="ignore")
        plain = values.astype(object).to_numpy()
        wrong = text_rows(values)
        if 0 < 2 * len(wrong) < (~missing).sum():  # a matter of these rows, not of the column
            warn_of_texts(column.name, values.iloc[wrong[0]], len(wrong))
            missing[wrong] = True
        found = np.full(len(values), np.nan)
        found[~missing] = plain[~missing].astype(np.float64)
        return found
    except OverflowError:
        raise ValueError(
            f"column {shown(column.name)} of X holds an integer above {np.finfo(np.float64).max:.3g}, expected finite numbers. "
            "Try other units."
        ) from None
    except (TypeError, ValueError):
        row = int(next(iter(text_rows(values)), 0))
        raise ValueError(
            f"column {shown(column.name)} of X holds {shown(values.iloc[row])} at row {row} (rows counted from 0), expected a "
            "number, as in the rows of the fit. Try correcting it, or leaving that row out."
        ) from None


def _middle(interval: pd.Interval[float]) -> float:
    """The middle of an interval of numbers, or its end where the other one is infinite."""
    ends = [float(end) for end in (interval.left, interval.right) if np.isfinite(end)]
    return sum(ends) / len(ends) if ends else math.nan


def warn_of_texts(name: str, value: object, count: int) -> None:
    """Warns of values of a column of numbers that are none, and are taken as missing."""
    warnings.warn(
        f"column {shown(name)} holds {shown(str(value))} where the rows of the fit have numbers, in {count} rows: they are "
        "taken as missing.",
        UserWarning,
        stacklevel=6,
    )


def _truth(column: Column, values: pd.Series) -> Array:
    missing, found = values.isna().to_numpy(), codes(values, TRUTHS)
    wrong = np.flatnonzero((found < 0) & ~missing)
    if len(wrong):
        row = int(wrong[0])
        raise ValueError(
            f"column {shown(column.name)} of X holds {shown(values.iloc[row])} at row {row} (rows counted from 0), expected "
            "true or false. Try correcting it, or leaving that row out."
        )
    return np.where(missing, np.nan, found % 2)


def _level(column: Column, values: pd.Series) -> Array:
    if kind_of(values) == "bytes":
        raise ValueError(
            f"column {shown(column.name)} of X holds {shown(values.dropna().iloc[0])}, expected texts, as in the rows of the "
            "fit. Try .str.decode('utf-8')."
        )
    return np.where(values.isna().to_numpy(), np.nan, codes(values, column.levels))


def _nothing(column: Column, values: pd.Series) -> Array:
    return np.full(len(values), np.nan)


_READERS: dict[str, Callable[[Column, pd.Series], Array]] = {
    "number": _number,
    "boolean": _truth,
    "category": _level,
    "ordered": _level,
    "date": lambda column, values: days(column.name, values),
    "time": lambda column, values: times_of_day(column.name, values),
    "duration": lambda column, values: lengths(column.name, values),
    "none": _nothing,
}
KINDS = tuple(_READERS)
