"""Dates, times of the day and durations of a column as numbers of days."""

from __future__ import annotations

__all__ = ["days", "lengths", "times_of_day"]

import datetime
import math

import numpy as np
import numpy.typing as npt
import pandas as pd

from pyro_probmix.columns.kinds import kind_of
from pyro_probmix.names import shown

Array = npt.NDArray[np.float64]

_DAY = 86_400.0


def days(name: str, values: pd.Series) -> Array:
    """Dates, with or without a time zone (then UTC), as days since 1970; periods by their beginning; NaN for gaps.

    Raises:
        ValueError: for a value that is no date.

    Example:
        >>> days("due", pd.Series([datetime.date(1970, 1, 2), None, datetime.datetime(9999, 12, 31)])).tolist()
        [1.0, nan, 2932896.0]
        >>> days("due", pd.Series(pd.period_range("1970-02", periods=2, freq="M"))).tolist()
        [31.0, 59.0]
    """
    values = _plain(values)
    try:
        if kind_of(values) not in ("datetime64", "datetime", "date"):
            raise ValueError
        found = pd.to_datetime(values, utc=True)
    except ValueError:  # pandas takes nanoseconds for all where a single value has them
        each = zip(values, values.isna(), strict=True)
        found = pd.Series([None if gap else _moment(name, value) for value, gap in each], dtype="datetime64[us, UTC]")
    times = found.dt.tz_convert(None).to_numpy()
    since = np.subtract(times, np.array(0, times.dtype))
    return np.asarray(since / np.timedelta64(1, "D"), dtype=np.float64)


def times_of_day(name: str, values: pd.Series) -> Array:
    """Times of the day as shares of a day, NaN for gaps.

    Raises:
        ValueError: for values that are none.
    """
    values = _plain(values)
    if kind_of(values) not in ("time", "empty") and not values.isna().all():
        raise ValueError(
            f"column {shown(name)} of X holds {shown(str(values.dropna().iloc[0]))}, expected times of the day, as in "
            "the rows of the fit. Try datetime.time."
        )
    seconds = [
        math.nan if missing else 3600 * t.hour + 60 * t.minute + t.second + 1e-6 * t.microsecond
        for t, missing in zip(values, values.isna(), strict=True)
    ]
    return np.array(seconds) / _DAY


def lengths(name: str, values: pd.Series) -> Array:
    """Durations, or texts of them, in days; NaN for gaps. A number has no unit, and is refused.

    Raises:
        ValueError: for values that are none.
    """
    values = _plain(values)
    try:
        if not values.isna().all() and kind_of(values) not in ("timedelta64", "timedelta", "string", "mixed"):
            raise TypeError
        found = pd.to_timedelta(values.astype(object).where(values.notna(), None))
    except (TypeError, ValueError):
        raise ValueError(
            f"column {shown(name)} of X holds {shown(str(values.dropna().iloc[0]))}, expected durations, as in the rows of "
            "the fit. Try pandas.to_timedelta."
        ) from None
    return np.asarray(found.dt.total_seconds(), dtype=np.float64) / _DAY


def _moment(name: str, value: object) -> pd.Timestamp:
    """A date in UTC, by microseconds: of nanoseconds, years after 2262 have too many."""
    try:
        if isinstance(value, pd.Period):
            value = value.to_timestamp()
        if not isinstance(value, datetime.date | np.datetime64):
            raise TypeError
        found = pd.Timestamp(value).as_unit("us")
        return found.tz_localize("UTC") if found.tz is None else found.tz_convert("UTC")
    except (TypeError, ValueError, OverflowError):
        raise ValueError(
            f"column {shown(name)} of X holds {shown(str(value))}, expected dates, as in the rows of the fit. "
            "Try pandas.to_datetime."
        ) from None


def _plain(values: pd.Series) -> pd.Series:
    return values.astype(object) if isinstance(values.dtype, pd.CategoricalDtype) else values
