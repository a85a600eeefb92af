"""Rows at the end of a table that sum up those above."""

from __future__ import annotations

__all__ = ["without_sums"]

import warnings

import numpy as np
import pandas as pd

from pyro_probmix.names import shown

#: What such a row is called.
_WORDS = {
    *("total", "totals", "grand total", "sum", "subtotal", "average", "avg", "mean", "overall", "all"),
    *("summe", "gesamt", "gesamtsumme", "insgesamt", "mittelwert", "durchschnitt"),
    *("totaux", "somme", "moyenne", "suma", "totale", "totaal", "media", "somma"),
}
#: At most so many rows, of a table with so many others at least.
_MOST, _FEWEST = 3, 3


def without_sums(frame: pd.DataFrame) -> pd.DataFrame:
    """A table without rows at its end that hold sums or means of the others, of which a warning tells.

    Such a row is called a total, or the like, in its first field that has a value, as no other row is; or it has no text at
    all, and each of its numbers, two at least, is the sum of those above.

    Args:
        frame: the table, as a file has it.

    Example:
        >>> table = pd.DataFrame({"k": ["a", "b", "c", "Total"], "n": [1, 2, 3, 6]})
        >>> with warnings.catch_warnings():
        ...     warnings.simplefilter("ignore")
        ...     without_sums(table)["n"].tolist()
        [1, 2, 3]
    """
    kept = len(frame)
    while kept > _FEWEST and len(frame) - kept < _MOST and _sums_up(frame, kept - 1):
        kept -= 1
    if kept == len(frame):
        return frame
    row = frame.iloc[kept]
    what = next((shown(value) for value in row if isinstance(value, str)), "sums alone")
    warnings.warn(
        f"rows at the end that sum up the others are left out: {len(frame) - kept} of {len(frame)}, with {what}.",
        UserWarning,
        stacklevel=2,
    )
    return frame.iloc[:kept]


def _sums_up(frame: pd.DataFrame, last: int) -> bool:
    row, above = frame.iloc[last], frame.iloc[:last]
    name, value = next(((name, value) for name, value in row.items() if not pd.isna(value)), ("", None))
    if isinstance(value, str) and value.strip().rstrip(":").casefold() in _WORDS:
        return not (above[name].astype(str).str.strip() == value.strip()).any()
    values = {str(name): value for name, value in row.items() if not pd.isna(value)}
    if len(values) < 2 or len(values) == frame.shape[1] or not all(_is_number(value) for value in values.values()):
        return False
    return all(
        pd.api.types.is_numeric_dtype(above[name].dtype) and _is_sum(float(value), above[name])
        for name, value in values.items()
    )


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float, np.number)) and not isinstance(value, bool)


def _is_sum(value: float, above: pd.Series) -> bool:
    numbers = above.dropna().to_numpy(dtype=np.float64)
    total = float(numbers.sum())
    return len(numbers) >= _FEWEST and total != 0 and bool(np.isclose(value, total, rtol=1e-6, atol=0.0))
