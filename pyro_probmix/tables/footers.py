"""What stands below the rows of a table: sums of them, notes, rows without a value."""

from __future__ import annotations

__all__ = ["without_footer"]

import re
import warnings

import numpy as np
import pandas as pd

from pyro_probmix.names import shown
from pyro_probmix.tables.names import listed

#: What a row is called that sums up others, or has their means.
_TOTAL = (
    "(?:(?:grand )?totals?|sub-?totals?|sum|(?:gesamt|zwischen)?summe|gesamt|insgesamt|"
    "totaux|somme|suma|totale|totaal|somma)"
)
_SUMS = re.compile(rf"{_TOTAL}\s*:?", re.IGNORECASE)
_MEANS = re.compile(r"(?:average|avg|mean|overall|mittelwert|durchschnitt|moyenne|media)\s*:?", re.IGNORECASE)
#: Among other rows such texts are more: the sum of a group is named after it.
_OF_GROUPS = re.compile(rf"{_TOTAL}\s*:?|(?:sub-?totals?|zwischensumme)\b.*|.*\s(?:sub)?total", re.IGNORECASE)
#: At most so many rows, of a table with so many others at least; and of so many levels at most a column is looked through.
_MOST, _FEWEST, _MOST_LEVELS = 5, 3, 1000


def without_footer(frame: pd.DataFrame) -> pd.DataFrame:
    """A table without rows that have no value, and those at its end that are none, of which a warning tells.

    These are notes (a text in the first column, and nothing else), and sums or means of the rows above. A row sums up others if
    it is called a total, or the like, in its first field that has a value, as no other row is; or if it has no text, and
    each of its numbers is the sum of those above. Names of sums among other rows are told.

    Args:
        frame: the table, as a file has it.

    Example:
        >>> table = pd.DataFrame({"k": ["a", "b", "c", "Total"], "n": [1, 2, 3, 6]})
        >>> with warnings.catch_warnings():
        ...     warnings.simplefilter("ignore")
        ...     without_footer(table)["n"].tolist()
        [1, 2, 3]
    """
    empty = frame.isna().all(axis=1)
    if empty.any() and not empty.all():
        _warn(f"rows without any value are left out: {int(empty.sum())} of {len(frame)}.")
        frame = frame[~empty].reset_index(drop=True)
    kept = len(frame)
    while kept > _FEWEST and len(frame) - kept < _MOST and (_is_note(frame, kept - 1) or _sums_up(frame, kept - 1)):
        kept -= 1
    if kept < len(frame):
        names = [
            next((value for value in row if isinstance(value, str)), "sums") for _, row in frame.iloc[kept:].iterrows()
        ]
        _warn(f"what stands below the rows is left out: {listed(names)}, {len(frame) - kept} of {len(frame)} rows.")
    found = frame.iloc[:kept]
    _warn_of_groups(found)
    return found


def _warn(text: str) -> None:
    warnings.warn(text, UserWarning, stacklevel=3)


def _warn_of_groups(frame: pd.DataFrame) -> None:
    for name in frame.columns:
        if pd.api.types.is_numeric_dtype(frame[name].dtype):
            continue
        texts = {value for value in frame[name] if isinstance(value, str)}
        sums = (
            sorted(text for text in texts if _OF_GROUPS.fullmatch(text.strip())) if len(texts) <= _MOST_LEVELS else []
        )
        if sums and len(sums) < len(texts):
            count = int(frame[name].isin(sums).sum())
            _warn(
                f"column {shown(str(name))} holds {shown(sums[0])} or the like in {count} of {len(frame)} rows: if they sum up "
                "other rows, they should be left out."
            )


def _is_note(frame: pd.DataFrame, last: int) -> bool:
    row = frame.iloc[last]
    return len(row) > 1 and isinstance(row.iloc[0], str) and bool(row.iloc[1:].isna().all())


def _sums_up(frame: pd.DataFrame, last: int) -> bool:
    row, above = frame.iloc[last], frame.iloc[:last]
    name, value = next(((name, value) for name, value in row.items() if not pd.isna(value)), ("", None))
    if isinstance(value, str) and (_SUMS.fullmatch(value.strip()) or _MEANS.fullmatch(value.strip())):
        alone = not (above[name].astype(str).str.strip() == value.strip()).any()
        return alone and (_SUMS.fullmatch(value.strip()) is not None or _has_means(row, above))
    values = {str(name): value for name, value in row.items() if not pd.isna(value)}
    if not values or (len(values) == frame.shape[1] == 1) or not all(_is_number(value) for value in values.values()):
        return False
    return all(
        pd.api.types.is_numeric_dtype(above[name].dtype) and _is_sum(float(value), above[name])
        for name, value in values.items()
    )


def _has_means(row: pd.Series, above: pd.DataFrame) -> bool:
    """Whether a row has the mean of a column, of which a total or two may stand above it."""
    known = [(value, above[name]) for name, value in row.items() if _is_number(value) and not pd.isna(value)]
    numbers = [(float(value), values) for value, values in known if pd.api.types.is_numeric_dtype(values.dtype)]
    return any(
        np.isclose(value, values[: len(values) - k].mean(), rtol=0.01) for value, values in numbers for k in range(3)
    )


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float, np.number)) and not isinstance(value, bool)


def _is_sum(value: float, above: pd.Series) -> bool:
    numbers = above.dropna().to_numpy(dtype=np.float64)
    total = float(numbers.sum())
    return len(numbers) >= _FEWEST and total != 0 and bool(np.isclose(value, total, rtol=1e-6, atol=0.0))
