"""The columns of a table as numbers: an encoding that the training rows decide, kept as JSON and applied to other rows."""

from __future__ import annotations

__all__ = ["MOST_LEVELS", "TRUTHS", "Columns", "column_kind"]

from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from pyro_probmix.columns.kinds import LABELS, NUMBERS, kind_of, numbers_as_text, text_rows
from pyro_probmix.names import shown
from pyro_probmix.tables.names import distinct, listed, remedy
from pyro_probmix.tabular.spelling import ISO_DATE, advice, codes, spelled, unread_format, where

#: A column of more different texts than this holds names or keys rather than categories.
MOST_LEVELS = 100
#: The texts for false and true; those at odd positions are true.
TRUTHS = ("false", "true", "0", "1")
_DAY = 86_400.0
#: Days of a year and of a week: a date is encoded by its phase in each.
_PERIODS = (365.25, 7.0)
#: Outside these years times in nanoseconds overflow; files use such dates as a mark for "never".
_YEARS = (1678, 2261)


@dataclass(frozen=True)
class _Column:
    """The encoding of one column.

    Attributes:
        name: of the column.
        kind: "number", "boolean", "category" or "date".
        levels: of a category, sorted.
        filled: the value that replaces a missing one; None refuses missing values, unless ``gaps`` are a level of a category.
        gaps: whether training rows had missing values; then a further number is 1 in rows where the value is missing.
    """

    name: str
    kind: str
    levels: tuple[str, ...] = ()
    filled: float | str | None = None
    gaps: bool = False

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the numbers that encode it."""
        missing = (f"{self.name} is missing",) if self.gaps else ()
        if self.kind in ("number", "boolean"):
            return (self.name, *missing)
        if self.kind == "date":
            phases = [f"{self.name} {wave} of {unit}" for unit in ("year", "week") for wave in ("sin", "cos")]
            return (f"{self.name} in days", *phases, *missing)
        return (*(f"{self.name} = {level}" for level in self.levels), *missing)


@dataclass(frozen=True)
class Columns:
    """The encoding of a table's features as numbers.

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
            impute: whether missing values are allowed, here and in other rows. The median stands for a missing number, date
                or truth value (0 or 1), and if there are any here, a further number is 1 where the value is missing. Missing
                categories are one more level if there are any here; else the most frequent level stands for them.

        Raises:
            ValueError: for a column of another kind, numbers or dates that are written in another way, values that are
                missing (row and column are named) unless imputed, or too many levels.
        """
        if frame.shape[1] == 0:
            raise ValueError("the table has no feature columns, expected one beside the target. Try another target.")
        return cls(tuple(_encoding_of(frame[name], impute) for name in frame.columns))

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the table's columns."""
        return tuple(column.name for column in self.columns)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the numbers, [d]; one that is taken, as ``k = x`` is by a column of that name, gets a prime."""
        return tuple(distinct(name for column in self.columns for name in column.outputs))

    def numbers(self, frame: pd.DataFrame) -> npt.NDArray[np.float64]:
        """The rows of a table as numbers, [n, d]; columns that are none of the features are left out.

        Raises:
            ValueError: if a feature is missing or of another kind, or a value is missing or a level that no training row had.
        """
        self.expect(frame.columns)
        return np.concatenate([_KINDS[column.kind](column, frame[column.name]) for column in self.columns], axis=1)

    def expect(self, names: Collection[str]) -> None:
        """Raises ValueError unless a table with columns of these names has all features."""
        lost = [name for name in self.features if name not in names]
        if lost:
            raise ValueError(
                f"the table has no column {listed(lost)}, expected the features {listed(self.features)}. "
                + remedy(names, "Try the columns that the model was fitted on.")
            )

    def record(self) -> list[dict[str, Any]]:
        """The encoding as JSON can hold it."""
        return [asdict(column) for column in self.columns]

    @classmethod
    def from_record(cls, record: list[Mapping[str, Any]]) -> Columns:
        """The encoding from :meth:`record`, also after JSON."""
        return cls(tuple(_Column(**{**one, "levels": tuple(one["levels"])}) for one in record))


def column_kind(values: pd.Series) -> str:
    """The kind of a column, as :func:`kind_of` says it, but texts may be dates ("date") or numbers ("floating")."""
    return "date" if _are_dates(values) else "floating" if numbers_as_text(values) else kind_of(values)


def _encoding_of(values: pd.Series, impute: bool) -> _Column:
    name, kind, gaps = str(values.name), column_kind(values), bool(values.isna().any())
    if impute and values.isna().all():
        raise ValueError(f"column {shown(name)} has no values at all, expected some. Try leaving it out.")
    if kind == "string" and (found := unread_format(values)) is not None:
        row, what, to_try = found
        raise ValueError(f"{where(name, values, row)}, which is {what}. {to_try}")
    if kind in LABELS and kind != "boolean":
        counts = Counter(spelled(value) for value in values.dropna())
        levels = sorted(counts)
        if len(levels) > MOST_LEVELS:
            raise ValueError(
                f"column {shown(name)} has {len(levels)} different texts, expected at most {MOST_LEVELS} categories. "
                "Try leaving it out, if it names rows, or encoding it as numbers."
            )
        usual = max(levels, key=counts.__getitem__) if impute and not gaps else None
        column = _Column(name, "category", tuple(levels), usual, impute and gaps)
    elif kind in ("date", "boolean", *NUMBERS):
        kind = kind if kind in ("date", "boolean") else "number"
        numbers = (
            _days(values) if kind == "date" else _truths(name, values) if kind == "boolean" else _floats(name, values)
        )
        column = _Column(name, kind, (), float(np.nanmedian(numbers)) if impute else None, impute and gaps)
    else:
        row = next(iter(text_rows(values)), 0)
        to_try = advice(values.iloc[row], "Try one kind of values in the column, or leaving it out.")
        raise ValueError(
            f"{where(name, values, row)}, expected numbers, dates or categories and found {kind}. {to_try}"
        )
    _KINDS[column.kind](column, values)
    return column


def _floats(name: str, values: pd.Series) -> npt.NDArray[np.float64]:
    """Numbers, NaN where they are missing."""
    try:
        return values.astype(object).where(values.notna(), np.nan).to_numpy(dtype=np.float64)
    except (TypeError, ValueError):
        row = next(iter(text_rows(values)), 0)
        to_try = advice(values.iloc[row], "Try correcting it, or dropping that row.")
        raise ValueError(f"{where(name, values, row)}, expected a number. {to_try}") from None


def _truths(name: str, values: pd.Series) -> npt.NDArray[np.float64]:
    """1 for true, 0 for false, as truth values, numbers or text; NaN where they are missing."""
    missing = values.isna().to_numpy()
    found = codes(values, TRUTHS)
    wrong = np.flatnonzero((found < 0) & ~missing)
    if len(wrong):
        raise ValueError(
            f"{where(name, values, int(wrong[0]))}, expected true or false. Try correcting it, or dropping that row."
        )
    return np.where(missing, np.nan, found % 2)


def _are_dates(values: pd.Series) -> bool:
    """Whether all values that are there are dates, or texts like 2024-12-31 or 2024-12-31 23:59:59."""
    kind, present = kind_of(values), values.dropna()
    return kind in ("datetime64", "datetime", "date") or (
        kind == "string" and len(present) > 0 and bool(present.astype(str).str.fullmatch(ISO_DATE).all())
    )


def _days(values: pd.Series) -> npt.NDArray[np.float64]:
    """Days since 1970, in universal time where the dates have a zone; NaN where they are missing."""
    times = pd.to_datetime(values, utc=True, format="ISO8601", errors="coerce")
    wrong = np.flatnonzero(values.notna() & ~times.dt.year.between(*_YEARS))
    if len(wrong):
        raise ValueError(
            f"{where(str(values.name), values, int(wrong[0]))}, expected a date of the calendar between {_YEARS[0]} and "
            f"{_YEARS[1]}. Try correcting it, or dropping that row."
        )
    since = (times - pd.Timestamp(0, tz="UTC")).dt.total_seconds()
    return np.asarray(since, dtype=np.float64) / _DAY


def _with_missing(column: _Column, numbers: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.float64], list[Any]]:
    """Numbers with missing values filled in, and the column of 1 where they were missing, if there is one."""
    missing = np.isnan(numbers)
    wrong = np.flatnonzero(np.isinf(numbers) if column.filled is not None else ~np.isfinite(numbers))
    if len(wrong):
        row = int(wrong[0])
        what = "missing" if missing[row] else "infinite"
        to_try = "probmix fit --impute, or dropping the row" if missing[row] else "dropping the row"
        raise ValueError(
            f"column {shown(column.name)} is {what} at row {row} (rows counted from 0), expected a value. Try {to_try}."
        )
    if column.filled is not None:
        numbers = np.where(missing, float(column.filled), numbers)
    return numbers, [missing.astype(np.float64)] if column.gaps else []


def _as_number(column: _Column, values: pd.Series) -> npt.NDArray[np.float64]:
    read = _truths if column.kind == "boolean" else _floats
    numbers, missing = _with_missing(column, read(column.name, values))
    return np.stack([numbers, *missing], axis=1)


def _as_date(column: _Column, values: pd.Series) -> npt.NDArray[np.float64]:
    if not (_are_dates(values) or values.isna().all()):
        texts = values.astype(object).map(str).str.fullmatch(ISO_DATE) | values.isna()
        row = int(next(iter(np.flatnonzero(~texts)), 0))
        raise ValueError(
            f"{where(column.name, values, row)}, expected a date as in training. Try writing dates as 2024-12-31."
        )
    days, missing = _with_missing(column, _days(values))
    phases: list[Any] = [wave(2 * np.pi * days / period) for period in _PERIODS for wave in (np.sin, np.cos)]
    return np.stack([days, *phases, *missing], axis=1)


def _as_category(column: _Column, values: pd.Series) -> npt.NDArray[np.float64]:
    missing = values.isna().to_numpy()
    if missing.any() and not column.gaps and column.filled is None:
        row = int(np.flatnonzero(missing)[0])
        raise ValueError(
            f"column {shown(column.name)} is missing at row {row} (rows counted from 0), expected a category. "
            "Try probmix fit --impute, or dropping the row."
        )
    found = codes(values, column.levels)
    unknown = np.flatnonzero((found < 0) & ~missing)
    if len(unknown):
        raise ValueError(
            f"{where(column.name, values, int(unknown[0]))}, expected one of {listed(column.levels)}, the categories of the "
            "training rows. Try leaving that row out."
        )
    if column.filled is not None:
        found, missing = np.where(missing, column.levels.index(str(column.filled)), found), np.zeros_like(missing)
    numbers = np.zeros((len(values), len(column.levels)))
    numbers[np.flatnonzero(~missing), found[~missing]] = 1.0
    return np.concatenate([numbers, missing[:, None].astype(np.float64)], axis=1) if column.gaps else numbers


_KINDS: dict[str, Callable[[_Column, pd.Series], npt.NDArray[np.float64]]] = {
    "number": _as_number,
    "boolean": _as_number,
    "category": _as_category,
    "date": _as_date,
}
