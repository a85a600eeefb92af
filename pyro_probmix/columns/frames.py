"""Frames of pandas, polars and Arrow, and arrays with texts in them, as frames of pandas with typed columns."""

from __future__ import annotations

__all__ = ["frame_of", "has_columns", "of_texts"]

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from scipy.sparse import issparse

from pyro_probmix.columns.integers import series_of, with_exact_integers
from pyro_probmix.names import printable


def has_columns(x: Any) -> bool:
    """Whether something is a table with typed columns: a frame of pandas or polars, a table of Arrow, or one like these."""
    return hasattr(x, "to_pandas") or (hasattr(x, "columns") and hasattr(x, "dtypes"))


def frame_of(x: Any) -> pd.DataFrame | None:
    """A table with typed columns as a frame of pandas; None for all else.

    Args:
        x: a frame of pandas or polars, a table of Arrow, or something with a method ``to_pandas``.

    Raises:
        ValueError: for two columns of one name.
        TypeError: for a table whose rows are yet to be computed, a structured array, and dicts.

    Example:
        >>> import pyarrow as pa
        >>> frame_of(pa.table({"a": [1, None], "b": ["x", "y"]}))
             a  b
        0  1.0  x
        1  NaN  y
    """
    if hasattr(x, "collect") and not hasattr(x, "to_pandas"):
        raise TypeError(
            f"got a {type(x).__name__}, whose rows are yet to be computed, expected a table. Try X.collect()."
        )
    if isinstance(x, np.ndarray) and x.dtype.names:
        raise TypeError("got a structured array, expected one of numbers, or a table. Try pandas.DataFrame(X).")
    if issparse(x):  # some of SciPy's sparse matrices are dicts; scikit-learn has a sentence for all
        return None
    if isinstance(x, Mapping) or (isinstance(x, list | tuple) and len(x) and isinstance(x[0], Mapping)):
        what = "a dict" if isinstance(x, Mapping) else "a list of dicts"
        raise TypeError(f"got {what}, expected an array, or a table. Try pandas.DataFrame(X).")
    if not has_columns(x):
        return None
    names = list(getattr(x, "column_names", x.columns))
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(
            f"two columns of X are named {twice!r}, expected different names. Try renaming one, or X.to_numpy()."
        )
    if isinstance(x, pd.DataFrame):
        return _without_arrow(x)
    if hasattr(x, "schema") and hasattr(x, "column_names"):
        # Arrow: an index that pandas wrote is no reason to lose a column.
        return with_exact_integers(pd.DataFrame(x.to_pandas(ignore_metadata=True)), x)
    try:
        frame = x.to_pandas() if hasattr(x, "to_pandas") else pd.DataFrame(x)
    except (ValueError, TypeError, NotImplementedError) as error:  # Arrow has no counterpart of some types
        raise TypeError(
            f"got a {type(x).__name__} that pandas cannot take ({printable(error)}), expected a table with columns of its "
            "types. Try other types of columns."
        ) from None
    if not isinstance(frame, pd.DataFrame):
        raise TypeError(
            f"got a {type(x).__name__} that makes a {type(frame).__name__}, expected a table with columns. Try X.to_numpy()."
        )
    for name, dtype in zip(names, getattr(x, "dtypes", ()), strict=False):
        if str(dtype).startswith("Enum") and not frame[name].cat.ordered:  # older ones of polars drop the order
            frame[name] = frame[name].cat.as_ordered()
    if hasattr(x, "to_arrow"):
        frame = with_exact_integers(frame, x.to_arrow())
    return frame


def _without_arrow(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with columns of Arrow's types as pandas' own: of these alone are the kinds told."""
    arrow = [k for k, dtype in enumerate(frame.dtypes) if isinstance(dtype, pd.ArrowDtype)]
    if not arrow:
        return frame
    columns = {k: frame.iloc[:, k] for k in range(frame.shape[1])}
    for k in arrow:
        columns[k] = series_of(columns[k].array.__arrow_array__()).set_axis(frame.index)
    return pd.concat(columns, axis=1).set_axis(frame.columns, axis=1)


def of_texts(x: Any) -> pd.DataFrame | None:
    """An array or a list of rows [n, d] with texts in it as a frame, each column with the type of what is in it; else None."""
    if not isinstance(x, list | tuple | np.ndarray):
        return None
    try:
        rows = x if isinstance(x, np.ndarray) else np.array(x, dtype=object)
    except ValueError:
        return None
    if rows.dtype.kind not in "OUST" or rows.ndim != 2 or 0 in rows.shape:
        return None
    return pd.DataFrame(rows.astype(object)).infer_objects()
