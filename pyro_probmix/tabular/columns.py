"""The columns of a table of texts: what the training rows' spellings mean, kept as JSON and applied to other rows."""

from __future__ import annotations

__all__ = ["MOST_LEVELS", "Column", "Columns", "column_of"]

import warnings
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from pyro_probmix.columns.kinds import kind_of
from pyro_probmix.columns.levels import codes, spelled
from pyro_probmix.columns.schema import Schema, warn_of_texts
from pyro_probmix.names import shown
from pyro_probmix.tables.names import listed, remedy
from pyro_probmix.tabular.conventions import Conventions, gap_rows, without_gaps
from pyro_probmix.tabular.decisions import Decision, NeedsDecision
from pyro_probmix.tabular.spelling import Spelled, spelled_texts, where
from pyro_probmix.tabular.written_dates import Moments
from pyro_probmix.tabular.written_numbers import ORDINALS, number_of

#: Texts of a target of more different ones than this name rows rather than classes.
MOST_LEVELS = 100
_DAY = 86_400.0
#: Outside these years times in nanoseconds overflow; files use such dates as a mark for "never".
_YEARS = (1678, 2261)


@dataclass(frozen=True)
class Column:
    """What the values of one column mean.

    Attributes:
        name: of the column.
        kind: "number", "boolean", "category", "ordered", "date", "time" or "duration".
        decimal, times: of numbers in texts, see :class:`~pyro_probmix.tabular.written_numbers.Spelling`.
        format, order: of dates in texts, see :class:`~pyro_probmix.tabular.written_dates.Moments`.
        levels: of an ordered category.
        missing: texts that stand for a missing value, as the user said.
    """

    name: str
    kind: str
    decimal: str = "."
    times: bool = False
    unit: str = ""
    format: str = ""
    order: str = ""
    levels: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()

    def read(self, values: pd.Series) -> pd.Series:
        """The values with the type of the column's kind, None, NaN or NaT where one is missing.

        Raises:
            ValueError: for a value that is none of that kind; column and row are named.
        """
        found = _READERS[self.kind](self, without_gaps(values, self.missing))
        return pd.Series(found, index=values.index, name=self.name)


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
                f"the table has no feature column that tells something ({' '.join(dull) or 'all are left out'}), expected one "
                "beside the target. Try another table."
            )
        return cls(tuple(kept), (*notes, *dull))

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

    def record(self) -> dict[str, Any]:
        """The columns as JSON can hold them."""
        return {"columns": [asdict(column) for column in self.columns], "notes": list(self.notes)}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Columns:
        """The columns from :meth:`record`, also after JSON.

        Raises:
            ValueError: for a record that :meth:`record` does not make.
        """
        return cls(tuple(_restored(one) for one in record["columns"]), tuple(map(str, record["notes"])))


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


def _telling(columns: list[Column], frame: pd.DataFrame) -> tuple[list[Column], list[str]]:
    """The columns that tell something, and a note on each of the others."""
    typed = pd.DataFrame({column.name: column.read(frame[column.name]) for column in columns}, index=frame.index)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        kinds = {column.name: column.kind for column in Schema.fit(typed).columns} if columns else {}
    return [column for column in columns if kinds[column.name] != "none"], [str(one.message) for one in caught]


def _restored(one: Mapping[str, Any]) -> Column:
    if set(one) != set(Column.__dataclass_fields__) or one["kind"] not in _READERS:
        raise ValueError("a column is none that a fit writes")
    several = ("levels", "missing")
    for name, value in one.items():
        texts = value if name in several else [value]
        if not isinstance(texts, list | tuple) or not all(
            isinstance(t, bool if name == "times" else str) for t in texts
        ):
            raise ValueError("a column is none that a fit writes")
    return Column(**{**one, **{name: tuple(one[name]) for name in several}})


def _refused(column: Column, values: pd.Series, wrong: Iterable[int], expected: str, way: str) -> ValueError:
    row = int(next(iter(wrong)))
    return ValueError(f"{where(column.name, values, row)}, expected {expected}. Try {way}.")


_CORRECT = "correcting it, or dropping that row"


def _number(column: Column, values: pd.Series) -> Any:
    if pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_complex_dtype(values):
        numbers = values.astype(object).where(values.notna(), np.nan).to_numpy(dtype=np.float64)
        broken = np.flatnonzero(np.isfinite(numbers) & (numbers != np.round(numbers)))
        if column.decimal == "," and len(broken):  # 1.234 may be 1234
            raise _refused(
                column, values, broken, "a decimal comma, as in the training rows", "writing numbers as in training"
            )
    else:
        known = {value: _value(column, value) for value in dict.fromkeys(values)}
        numbers = np.array([np.nan if v is None else known[v] for v in values], dtype=object)
        wrong = np.flatnonzero([number is None for number in numbers])
        if 2 * len(wrong) >= max(1, values.notna().sum()):
            raise _refused(column, values, wrong, "a number", _CORRECT)
        if len(wrong):
            warn_of_texts(column.name, values.iloc[wrong[0]], len(wrong))
            numbers[wrong] = np.nan
        numbers = numbers.astype(np.float64)
    wrong = np.flatnonzero(np.isinf(numbers))
    if len(wrong):
        raise ValueError(
            f"column {shown(column.name)} is infinite at row {int(wrong[0])} (rows counted from 0), expected a value. "
            "Try dropping the row."
        )
    return numbers


def _value(column: Column, value: Any) -> float | None:
    """The number of a value; NaN for a missing one, None for no number."""
    if (
        value is None
        or (not isinstance(value, str) and pd.isna(value))
        or gap_rows(pd.Series([value], dtype=object))[0]
    ):
        return float("nan")
    if not isinstance(value, str):
        try:
            return float(value)
        except (TypeError, ValueError):
            return None
    try:
        if column.decimal == ".":
            return float(value)
    except ValueError:
        pass
    number = number_of(value)
    known = number is not None and (column.times or not number.unit or number.unit in (column.unit, *ORDINALS))
    return number.value(column.decimal, column.times) if known and number is not None else None


def _truth(column: Column, values: pd.Series) -> Any:
    found = codes(values, ("false", "true", "0", "1"))
    missing = values.isna().to_numpy() | gap_rows(values)
    wrong = np.flatnonzero((found < 0) & ~missing)
    if len(wrong):
        raise _refused(column, values, wrong, "true or false", _CORRECT)
    return pd.array([None if gone else bool(k % 2) for k, gone in zip(found, missing, strict=True)], dtype="boolean")


def _category(column: Column, values: pd.Series) -> Any:
    texts = [None if missing else spelled(v) for v, missing in zip(values, values.isna(), strict=True)]
    return pd.Categorical(texts)


def _ordered(column: Column, values: pd.Series) -> Any:
    found = np.where(values.isna(), -1, codes(values, column.levels)).astype(np.int64)
    texts = np.array([*column.levels, None], dtype=object)[found]
    return pd.Categorical(texts, list(column.levels), ordered=True)


def _date(column: Column, values: pd.Series) -> Any:
    if not pd.api.types.is_datetime64_any_dtype(values):
        moments = Moments("date", column.format or "iso", column.order)
        known = {v: moments.read(v) if isinstance(v, str) else v for v in dict.fromkeys(values)}
        gone = values.isna().to_numpy() | gap_rows(values)
        texts = [None if missing else known[v] for v, missing in zip(values, gone, strict=True)]
        wrong = np.flatnonzero([text is None for text in texts] & ~gone)
        if len(wrong):
            raise _refused(column, values, wrong, "a date as in training", "writing dates as 2024-12-31")
        times = pd.to_datetime(pd.Series(texts, dtype=object), utc=True, format="ISO8601", errors="coerce")
    else:
        gone = values.isna().to_numpy()
        times = pd.to_datetime(values, utc=True).reset_index(drop=True)
    wrong = np.flatnonzero(~gone & ~times.dt.year.between(*_YEARS).to_numpy())
    if len(wrong):
        raise _refused(column, values, wrong, f"a date of the calendar between {_YEARS[0]} and {_YEARS[1]}", _CORRECT)
    return times.dt.tz_localize(None).to_numpy()


def _time(column: Column, values: pd.Series) -> Any:
    moments = Moments("time", "12:30")
    known = {v: moments.read(v) if isinstance(v, str) else v for v in dict.fromkeys(values)}
    gone = values.isna().to_numpy() | gap_rows(values)
    found = [None if missing else known[v] for v, missing in zip(values, gone, strict=True)]
    wrong = np.flatnonzero([value is None for value in found] & ~gone)
    if len(wrong):
        raise _refused(column, values, wrong, "a time of the day, as 12:30", _CORRECT)
    return np.array([_clock(value) if isinstance(value, float) else value for value in found], dtype=object)


def _clock(share: float) -> Any:
    return (pd.Timestamp(0) + pd.Timedelta(seconds=round(share * _DAY, 6))).time()


def _duration(column: Column, values: pd.Series) -> Any:
    if pd.api.types.is_timedelta64_dtype(values):
        return values.to_numpy()
    moments = Moments("duration", "")
    gone = values.isna().to_numpy() | gap_rows(values)
    found = [
        None if missing else moments.read(v) if isinstance(v, str) else pd.Timedelta(v).total_seconds() / _DAY
        for v, missing in zip(values, gone, strict=True)
    ]
    wrong = np.flatnonzero([value is None for value in found] & ~gone)
    if len(wrong):
        raise _refused(column, values, wrong, "a duration, as 2 days 03:04:05", _CORRECT)
    return pd.to_timedelta(pd.Series(found, dtype=np.float64), unit="D").to_numpy()


_READERS: dict[str, Callable[[Column, pd.Series], Any]] = {
    "number": _number,
    "boolean": _truth,
    "category": _category,
    "ordered": _ordered,
    "date": _date,
    "time": _time,
    "duration": _duration,
}
