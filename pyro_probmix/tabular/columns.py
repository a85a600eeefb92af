"""The columns of a table as numbers: what training rows decide, kept as JSON, applied to other rows."""

from __future__ import annotations

__all__ = ["Columns"]

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from pyro_probmix.tabular.files import LABELS, NUMBERS, kind_of, listed, text_rows

#: A category with more levels than this is rather a name or a key.
MOST_LEVELS = 100
_ISO_DATE = r"\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2}(\.\d+)?)?(Z|[+-]\d{2}:?\d{2})?)?"
_DAY = 86_400.0
#: Days of a year and of a week, whose phase a date is told apart by.
_PERIODS = (365.25, 7.0)


@dataclass(frozen=True)
class _Column:
    """One column of the table.

    Attributes:
        name: the column's.
        kind: "number", "category" or "date".
        levels: of a category, sorted.
        filled: for a number or a date, what stands for a missing value; None refuses it. For a category, whether missing is
            a level.
    """

    name: str
    kind: str
    levels: tuple[str, ...] = ()
    filled: float | bool | None = None

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the numbers that it becomes."""
        missing = (f"{self.name} is missing",) if self.filled is not None and self.filled is not False else ()
        if self.kind == "number":
            return (self.name, *missing)
        if self.kind == "date":
            phases = [f"{self.name} {wave} of {unit}" for unit in ("year", "week") for wave in ("sin", "cos")]
            return (f"{self.name} in days", *phases, *missing)
        return (*(f"{self.name} = {level}" for level in self.levels), *missing)


@dataclass(frozen=True)
class Columns:
    """How the features of a table become numbers.

    Numbers, true and false stay what they are. Text and categories become one number for each level, 1 or 0. Dates become
    days since 1970 and their phases in the year and in the week.

    Attributes:
        columns: the features, in their order.

    Example:
        >>> import pandas as pd
        >>> table = pd.DataFrame({"a": [1.0, None], "b": ["red", "blue"]})
        >>> columns = Columns.fit(table, impute=True)
        >>> columns.names
        ('a', 'a is missing', 'b = blue', 'b = red')
        >>> columns.numbers(table)
        array([[1., 0., 0., 1.],
               [1., 1., 1., 0.]])
        >>> Columns.from_record(columns.record()) == columns
        True
    """

    columns: tuple[_Column, ...]

    @classmethod
    def fit(cls, frame: pd.DataFrame, *, impute: bool = False) -> Columns:
        """Decides by training rows.

        Args:
            frame: the features, one column each.
            impute: whether missing values are allowed: the median stands for a missing number or date, beside a column that
                says so; a missing category is a level of its own.

        Raises:
            ValueError: for a column that is neither, values that are missing (row and column are named) unless imputed, or
                too many levels.
        """
        if frame.shape[1] == 0:
            raise ValueError("the table has no feature columns, expected one beside the target. Try another target.")
        return cls(tuple(_decided(frame[name], impute) for name in frame.columns))

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the table's columns."""
        return tuple(column.name for column in self.columns)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the numbers, [d]."""
        return tuple(name for column in self.columns for name in column.outputs)

    def numbers(self, frame: pd.DataFrame) -> npt.NDArray[np.float64]:
        """The rows of a table as numbers, [n, d]; columns that are none of the features are left out.

        Raises:
            ValueError: if a feature is missing or of another kind, or a value is missing or a level that no training row had.
        """
        lost = [name for name in self.features if name not in frame.columns]
        if lost:
            raise ValueError(
                f"the table has no column {listed(lost)}, expected the features {listed(self.features)}. "
                "Try the columns that the model was fitted on."
            )
        return np.concatenate([_KINDS[column.kind](column, frame[column.name]) for column in self.columns], axis=1)

    def record(self) -> list[dict[str, Any]]:
        """What JSON keeps of it."""
        return [asdict(column) for column in self.columns]

    @classmethod
    def from_record(cls, record: list[Mapping[str, Any]]) -> Columns:
        """From what :meth:`record` gave, also after JSON."""
        return cls(tuple(_Column(**{**one, "levels": tuple(one["levels"])}) for one in record))


def _decided(values: pd.Series, impute: bool) -> _Column:
    name, kind = str(values.name), "date" if _are_dates(values) else kind_of(values)
    if kind in LABELS and kind != "boolean":
        levels = sorted({str(value) for value in values.dropna()})
        if len(levels) > MOST_LEVELS:
            raise ValueError(
                f"column {name!r} has {len(levels)} different texts, expected at most {MOST_LEVELS} categories. "
                "Try leaving it out, if it names rows, or encoding it as numbers."
            )
        column = _Column(name, "category", tuple(levels), impute and bool(values.isna().any()))
        _as_category(column, values)
        return column
    if kind == "date":
        column = _Column(name, "date", filled=_filled(_days(values), impute, values))
    elif kind in (*NUMBERS, "boolean"):
        column = _Column(name, "number", filled=_filled(_floats(name, values), impute, values))
    else:
        row = next(iter(text_rows(values)), 0)
        raise ValueError(
            f"column {name!r} holds {str(values.iloc[row])!r} at row {row} (rows counted from 0), expected numbers, dates or "
            f"categories and found {kind}. Try one kind of values in the column, or leaving it out."
        )
    _KINDS[column.kind](column, values)
    return column


def _filled(numbers: npt.NDArray[np.float64], impute: bool, values: pd.Series) -> float | None:
    if not impute or not values.isna().any():
        return None
    present = numbers[~values.isna().to_numpy()]
    if not len(present):
        raise ValueError(f"column {str(values.name)!r} has no values at all, expected some. Try leaving it out.")
    return float(np.median(present))


def _floats(name: str, values: pd.Series) -> npt.NDArray[np.float64]:
    """Numbers, NaN where they are missing."""
    try:
        return values.astype(object).where(values.notna(), np.nan).to_numpy(dtype=np.float64)
    except (TypeError, ValueError):
        row = next(iter(text_rows(values)), 0)
        raise ValueError(
            f"column {name!r} holds {str(values.iloc[row])!r} at row {row} (rows counted from 0), expected a number. "
            "Try correcting it."
        ) from None


def _are_dates(values: pd.Series) -> bool:
    """Whether all values that are there are dates, or texts like 2024-12-31 or 2024-12-31 23:59:59."""
    kind, present = kind_of(values), values.dropna()
    return kind in ("datetime64", "datetime", "date") or (
        kind == "string" and len(present) > 0 and bool(present.astype(str).str.fullmatch(_ISO_DATE).all())
    )


def _days(values: pd.Series) -> npt.NDArray[np.float64]:
    """Days since 1970, in universal time where the dates have a zone; NaN where they are missing."""
    try:
        times = pd.to_datetime(values, utc=True, format="ISO8601")
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"column {str(values.name)!r} cannot be read as dates ({str(error).splitlines()[0]}), expected dates. "
            "Try writing them as 2024-12-31."
        ) from None
    since = (times - pd.Timestamp(0, tz="UTC")).dt.total_seconds()
    return np.asarray(since, dtype=np.float64) / _DAY


def _with_missing(column: _Column, numbers: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.float64], list[Any]]:
    """Numbers without gaps, and the column that says where these were, if there is one."""
    missing = np.isnan(numbers)
    wrong = np.flatnonzero(np.isinf(numbers) if column.filled is not None else ~np.isfinite(numbers))
    if len(wrong):
        row = int(wrong[0])
        what = "missing" if missing[row] else "infinite"
        remedy = "impute missing values (--impute), or to drop the row" if missing[row] else "drop the row"
        raise ValueError(
            f"column {column.name!r} is {what} at row {row} (rows counted from 0), expected a value. Try to {remedy}."
        )
    if column.filled is None:
        return numbers, []
    return np.where(missing, float(column.filled), numbers), [missing.astype(np.float64)]


def _as_number(column: _Column, values: pd.Series) -> npt.NDArray[np.float64]:
    numbers, missing = _with_missing(column, _floats(column.name, values))
    return np.stack([numbers, *missing], axis=1)


def _as_date(column: _Column, values: pd.Series) -> npt.NDArray[np.float64]:
    if not (_are_dates(values) or values.isna().all()):
        raise ValueError(f"column {column.name!r} holds no dates, expected them as in training. Try 2024-12-31.")
    days, missing = _with_missing(column, _days(values))
    phases: list[Any] = [wave(2 * np.pi * days / period) for period in _PERIODS for wave in (np.sin, np.cos)]
    return np.stack([days, *phases, *missing], axis=1)


def _as_category(column: _Column, values: pd.Series) -> npt.NDArray[np.float64]:
    missing = values.isna().to_numpy()
    texts = values.astype(object).map(str).to_numpy(dtype=object)
    if missing.any() and not column.filled:
        row = int(np.flatnonzero(missing)[0])
        raise ValueError(
            f"column {column.name!r} is missing at row {row} (rows counted from 0), expected a category. "
            "Try to impute missing values (--impute), or to drop the row."
        )
    codes = pd.Index(column.levels).get_indexer(pd.Index(texts))
    unknown = np.flatnonzero((codes < 0) & ~missing)
    if len(unknown):
        row = int(unknown[0])
        raise ValueError(
            f"column {column.name!r} holds {texts[row]!r} at row {row} (rows counted from 0), expected one of "
            f"{listed(column.levels)}, the categories of the training rows. Try leaving that row out."
        )
    numbers = np.zeros((len(values), len(column.levels)))
    numbers[np.flatnonzero(~missing), codes[~missing]] = 1.0
    return np.concatenate([numbers, missing[:, None].astype(np.float64)], axis=1) if column.filled else numbers


_KINDS: dict[str, Callable[[_Column, pd.Series], npt.NDArray[np.float64]]] = {
    "number": _as_number,
    "category": _as_category,
    "date": _as_date,
}
