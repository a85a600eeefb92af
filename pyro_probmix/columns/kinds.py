"""The kind of values that a column of a table holds."""

from __future__ import annotations

__all__ = ["LABELS", "NUMBERS", "are_codes", "has_leading_zeros", "kind_of", "numbers_as_text", "text_rows"]

import re
from decimal import Decimal
from fractions import Fraction
from numbers import Real

import numpy as np
import pandas as pd

# The kinds of values, by pandas' names for them. Those in neither tuple (bytes, text among numbers) are refused.
NUMBERS = ("integer", "floating", "mixed-integer-float", "decimal", "empty")
LABELS = ("string", "boolean", "categorical")
#: A number with zeros in front, such as 01002, is a code: as a number it would be one with 1002.
_LEADING_ZEROS = re.compile(r"\s*[-+]?0\d+\s*")
#: Integers from here on are too large for a float of 64 bits.
_BEYOND = 2**1023
#: Below this a float of 64 bits holds each integer.
_EXACT = 2**53


def kind_of(column: pd.Series) -> str:
    """The kind of a column's values, by pandas' name for it, "categorical", or "text among numbers"."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        return "categorical"
    kind = pd.api.types.infer_dtype(column, skipna=True)
    if kind in ("mixed", "mixed-integer") and all(_is_number(value) for value in column.dropna()):  # fractions
        return "decimal"
    # A single cell of text makes text of a whole column of numbers in a CSV file: a slip, not a column of classes. Titles of
    # films are texts, though some of them are years.
    if kind == "string" and 0 < 2 * len(text_rows(column)) < column.notna().sum():
        return "text among numbers"
    return kind


def numbers_as_text(column: pd.Series) -> bool:
    """Whether all values that are there are texts of numbers, none of them a code with zeros in front.

    Example:
        >>> numbers_as_text(pd.Series(["1.5", "2"])), numbers_as_text(pd.Series(["01002", "1002"]))
        (True, False)
    """
    return kind_of(column) == "string" and not len(text_rows(column)) and not has_leading_zeros(column)


def has_leading_zeros(column: pd.Series) -> bool:
    """Whether a text of the column is a whole number with zeros in front."""
    return any(isinstance(value, str) and _LEADING_ZEROS.fullmatch(value) for value in column.dropna().unique())


def are_codes(column: pd.Series) -> bool:
    """Whether a column holds whole numbers that floating point cannot tell apart: they are names, such as of accounts.

    Example:
        >>> are_codes(pd.Series([2**60, 2**60 + 1])), are_codes(pd.Series([1, 2])), are_codes(pd.Series([2**60, 2**61]))
        (True, False, False)
    """
    whole = pd.api.types.is_integer_dtype(column.dtype)
    if not whole and not (column.dtype == object and pd.api.types.infer_dtype(column, skipna=True) == "integer"):
        return False
    different = {int(value) for value in column.dropna().unique()}
    if max(map(abs, different), default=0) < _EXACT:
        return False
    return len({float(value) for value in different if abs(value) < _BEYOND}) < len(different)


def text_rows(column: pd.Series) -> np.ndarray:
    """The rows whose values are neither numbers nor missing."""
    values = column.astype(object)
    # pandas knows no fractions, and fails of integers that no float can hold: they are numbers nonetheless.
    if pd.api.types.infer_dtype(values, skipna=True) != "string":
        values = values.map(lambda value: 1.0 if isinstance(value, Fraction) or _is_huge(value) else value)
    numbers = pd.to_numeric(values, errors="coerce")
    return np.flatnonzero(numbers.isna() & column.notna())


def _is_number(value: object) -> bool:
    return isinstance(value, Real | Decimal) and not isinstance(value, bool)


def _is_huge(value: object) -> bool:
    return isinstance(value, int) and abs(value) >= _BEYOND
