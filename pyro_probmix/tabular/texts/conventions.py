"""Conventions of a table that a user may have to name: the order in dates, decimal commas, marks for missing values."""

from __future__ import annotations

__all__ = ["GAPS", "Conventions", "likely_decimal", "without_gaps"]

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from pyro_probmix.names import shown
from pyro_probmix.tabular.texts.written_numbers import decimal_sign, number_of

#: Texts that stand for a missing value where all other values of a column are numbers or dates.
GAPS = (
    "",
    "NA",
    "N/A",
    "NaN",
    "NULL",
    "None",
    "-NaN",
    "#N/A",
    "<NA>",
    ".",
    "..",
    "...",
    "?",
    "-",
    "--",
    "—",
    "*",
    "missing",
    "n.a.",
    "nil",
    "#DIV/0!",
    "#VALUE!",
    "#REF!",
    "#NUM!",
    "#NAME?",
    "#NULL!",
    "0000-00-00",
    "0000-00-00 00:00:00",
)
_GAPS = frozenset(gap.casefold() for gap in GAPS)
#: So many rows are looked at for the decimal sign of a column.
MOST_READ = 1000
ORDERS = ("dmy", "mdy")


@dataclass(frozen=True)
class Conventions:
    """What a user says of a table; all else is told by its values.

    Attributes:
        dates: ``"dmy"`` or ``"mdy"`` for dates such as 03/04/2024; None where the values tell.
        decimal: ``","`` or ``"."`` for numbers such as 1,234; None where the values tell.
        missing: texts that stand for a missing value in every column, also among texts.
        categories: names of columns that are taken as categories, whatever is in them.
        leave_out: names of columns that are left out.
        likely_decimal: the decimal sign of other columns, for numbers such as 1,234 where nothing else tells.

    Raises:
        ValueError: for another order or decimal sign.
    """

    dates: str | None = None
    decimal: str | None = None
    missing: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    leave_out: tuple[str, ...] = ()
    likely_decimal: str | None = None

    def __post_init__(self) -> None:
        if self.dates not in (None, *ORDERS):
            raise ValueError(f"got dates={shown(self.dates)}, expected one of {', '.join(ORDERS)}. Try --dates dmy.")
        if self.decimal not in (None, ",", "."):
            raise ValueError(f"got decimal={shown(self.decimal)}, expected a comma or a point. Try --decimal ,")


def likely_decimal(frame: pd.DataFrame) -> str | None:
    """The decimal sign of the columns of a file that tell theirs; None if none does, or they differ.

    The point, if a column was read as numbers with digits behind one, or has texts of numbers that tell so; the comma for
    such texts.

    Example:
        >>> likely_decimal(pd.DataFrame({"a": [1.5, 2.0], "b": ["1,234", "5,678"]}))
        '.'
        >>> likely_decimal(pd.DataFrame({"a": ["1,5", "2"], "b": ["1.234", "5.678"]}))
        ','
    """
    signs: set[str | None] = set()
    for _, values in frame.items():
        if isinstance(values.dtype, np.dtype) and values.dtype.kind == "f":
            known = values[np.isfinite(values)]
            signs |= {"."} if (known != np.round(known)).any() else set()
        elif not pd.api.types.is_numeric_dtype(values.dtype):
            texts = list(dict.fromkeys(value for value in values[:MOST_READ] if isinstance(value, str)))
            numbers = [number for text in texts if text.strip().casefold() not in _GAPS and (number := number_of(text))]
            signs |= {decimal_sign(numbers)} if 2 * len(numbers) > len(texts) else set()
    signs -= {None}
    return signs.pop() if len(signs) == 1 else None


def without_gaps(values: pd.Series, missing: Sequence[str]) -> pd.Series:
    """The values with those that a user calls missing, and empty texts, as None."""
    if pd.api.types.is_numeric_dtype(values) or pd.api.types.is_datetime64_any_dtype(values):
        marks = {float(mark) for mark in missing if _is_float(mark)}
        return values.where(~values.isin(marks)) if marks and pd.api.types.is_numeric_dtype(values) else values
    marked = {mark.strip() for mark in missing} | {""}
    return values.where(np.array([not (isinstance(v, str) and v.strip() in marked) for v in values], dtype=bool))


def gap_rows(texts: pd.Series) -> np.ndarray:
    """Which values are texts that usually stand for a missing one, [n]."""
    return np.array([isinstance(text, str) and text.strip().casefold() in _GAPS for text in texts], dtype=bool)


def _is_float(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
