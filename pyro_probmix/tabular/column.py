"""One column of a table of texts: what its values mean, and how each kind of them is read."""

from __future__ import annotations

__all__ = ["Column", "restored"]

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from pyro_probmix.columns.levels import codes, spelled
from pyro_probmix.columns.schema import warn_of_texts
from pyro_probmix.names import shown
from pyro_probmix.tabular.texts.conventions import gap_rows, without_gaps
from pyro_probmix.tabular.texts.spelling import where
from pyro_probmix.tabular.texts.written_dates import Moments
from pyro_probmix.tabular.texts.written_numbers import ORDINALS, THOUSANDS, number_of

_DAY = 86_400.0
#: Outside these years times in nanoseconds overflow; files use such dates as a mark for "never".
_YEARS = (1678, 2261)


@dataclass(frozen=True)
class Column:
    """What the values of one column mean.

    Attributes:
        name: of the column.
        kind: "number", "boolean", "category", "ordered", "date", "time" or "duration".
        decimal, times: of numbers in texts, see :class:`~pyro_probmix.tabular.texts.written_numbers.Spelling`.
        format, order: of dates in texts, see :class:`~pyro_probmix.tabular.texts.written_dates.Moments`; the format of
            numbers with commas between thousands is 1,234.
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


def restored(one: Mapping[str, Any]) -> Column:
    """The column of a record; raises ValueError for a record that no fit writes."""
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
        _warn_of_spelling(column, [str(number) for number in numbers[:1]])
    else:
        known = {value: _value(column, value) for value in dict.fromkeys(values)}
        numbers = np.array([np.nan if v is None else known[v] for v in values], dtype=object)
        _warn_of_spelling(column, [str(value) for value, number in known.items() if number is not None])
        wrong = np.flatnonzero([number is None for number in numbers])
        if 2 * len(wrong) >= max(1, values.notna().sum()):
            sign = "point" if column.decimal == "." else "comma"
            odd = any("," in str(value) or "." in str(value) for value in values.iloc[wrong])
            raise _refused(column, values, wrong, f"a number with a decimal {sign}" if odd else "a number", _CORRECT)
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


def _warn_of_spelling(column: Column, texts: Sequence[str]) -> None:
    """Warns of numbers that lack the unit of the fit, or have commas between thousands, as none had there."""
    if column.unit and texts and not any(column.unit in text for text in texts):
        warnings.warn(
            f"column {shown(column.name)} has no {shown(column.unit)} beside its numbers, as the rows of the fit have: they "
            "are taken for numbers of that unit.",
            UserWarning,
            stacklevel=5,
        )
    apart = [text for text in texts if "," in text]
    if column.decimal == "." and apart and column.format != THOUSANDS and not any("." in text for text in texts):
        warnings.warn(
            f"the comma of {shown(apart[0])} in column {shown(column.name)} sets thousands apart, as the rows of the fit have "
            "decimal points.",
            UserWarning,
            stacklevel=5,
        )


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
        plain = Moments("date", "iso")  # which is a date whatever the others look like
        known = {v: moments.read(v) or plain.read(v) if isinstance(v, str) else v for v in dict.fromkeys(values)}
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
        what = {"dmy": ", the day first,", "mdy": ", the month first,"}.get(column.order, "")
        between = f"a date of the calendar{what} between {_YEARS[0]} and {_YEARS[1]}"
        mark = shown(str(values.iloc[int(wrong[0])]))
        raise _refused(column, values, wrong, between, f"--missing {mark} if it stands for none, or {_CORRECT}")
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
