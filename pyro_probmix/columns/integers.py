"""Arrow's integers as pandas has them, without the rounding that it does beside missing values."""

from __future__ import annotations

__all__ = ["BEYOND", "series_of", "with_exact_integers"]

from typing import Any

import pandas as pd

#: From here on a float of 64 bits does not hold each integer.
BEYOND = 2**53
_NULLABLE = {"int64": pd.Int64Dtype(), "uint64": pd.UInt64Dtype()}


def series_of(column: Any, *, always: bool = False) -> pd.Series:
    """A column of Arrow as pandas has it, but whole numbers beside missing ones as ``Int64`` where floats would round them.

    Args:
        column: an array of Arrow, or several in chunks.
        always: whether they are ``Int64`` beside missing values however small they are, as parts of a column have to be.

    Example:
        >>> import pyarrow as pa
        >>> series_of(pa.array([2**60 + 1, None])).tolist(), series_of(pa.array([1, None])).tolist()
        ([1152921504606846977, <NA>], [1.0, nan])
    """
    wide = str(column.type) in _NULLABLE and column.null_count and (always or _is_beyond(column))
    found: pd.Series = (
        column.to_pandas(types_mapper=lambda kind: _NULLABLE.get(str(kind))) if wide else column.to_pandas()
    )
    return found


def with_exact_integers(frame: pd.DataFrame, table: Any) -> pd.DataFrame:
    """A frame that was made of a table of Arrow, with the whole numbers that were rounded beside missing ones."""
    for name, field in zip(table.column_names, table.schema, strict=True):
        if str(field.type) in _NULLABLE and table.column(name).null_count and _is_beyond(table.column(name)):
            frame[name] = series_of(table.column(name)).array
    return frame


def _is_beyond(column: Any) -> bool:
    import pyarrow.compute as pc  # where there is a table of Arrow, it is loaded

    ends = pc.min_max(column).as_py()
    return ends["min"] is not None and max(-ends["min"], ends["max"]) >= BEYOND
