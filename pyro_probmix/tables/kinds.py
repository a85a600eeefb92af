"""The kind of values that a column of a table holds."""

from __future__ import annotations

__all__ = ["LABELS", "NUMBERS", "kind_of", "numbers_as_text", "text_rows"]

import numpy as np
import pandas as pd

# The kinds of values, by pandas' names for them. Those in neither tuple (bytes, text among numbers) are refused.
NUMBERS = ("integer", "floating", "mixed-integer-float", "decimal", "empty")
LABELS = ("string", "boolean", "categorical")


def kind_of(column: pd.Series) -> str:
    """The kind of a column's values, by pandas' name for it, "categorical", or "text among numbers"."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        return "categorical"
    kind = pd.api.types.infer_dtype(column, skipna=True)
    # A single cell of text makes text of a whole column of numbers in a CSV file: a slip, not a column of classes.
    if kind == "string" and 0 < len(text_rows(column)) < column.notna().sum():
        return "text among numbers"
    return kind


def numbers_as_text(column: pd.Series) -> bool:
    """Whether all values that are there are texts of numbers."""
    return kind_of(column) == "string" and not len(text_rows(column))


def text_rows(column: pd.Series) -> np.ndarray:
    """The rows whose values are neither numbers nor missing."""
    numbers = pd.to_numeric(column.astype(object), errors="coerce")
    return np.flatnonzero(numbers.isna() & column.notna())
