"""Columns of a CSV file whose points may be decimal ones, or set thousands apart, as in 1.234."""

from __future__ import annotations

__all__ = ["expects_commas", "may_set_thousands_apart", "open_points"]

import re

import numpy as np
import pandas as pd

from pyro_probmix.tables.dialect import Dialect

#: A whole number below a thousand, or one with three digits behind a single point.
_OPEN = r"\s*[-+]?(?:\d{1,3}|[1-9]\d{0,2}(?P<point>\.)\d{3})\s*"
#: A number with a comma in it, which in a file with commas between fields stands in quotes.
_QUOTED = re.compile(rb'"\s*[-+]?\d+,\d+\s*"')


def expects_commas(dialect: Dialect, start: bytes) -> bool:
    """Whether a file may have decimal commas: it has other signs between its fields, or numbers with a comma in quotes.

    Args:
        dialect: of the file.
        start: its first bytes.
    """
    return dialect.separator != "," or _QUOTED.search(start) is not None


def may_set_thousands_apart(numbers: pd.Series) -> bool:
    """Whether numbers, which pandas read, may be texts such as 1.234 alone."""
    if not pd.api.types.is_float_dtype(numbers.dtype):
        return False
    known = numbers.dropna().to_numpy(dtype=np.float64)
    known = np.abs(known[np.isfinite(known)])
    rounded = np.abs(known - np.round(known, 3)) < 1e-9
    return bool((rounded & (known < 1000)).all() and (known != np.round(known)).any())


def open_points(texts: pd.Series) -> bool | None:
    """Whether all texts are as 1.234, or whole numbers below a thousand; None if all are the latter, which tells nothing.

    Example:
        >>> [open_points(pd.Series(texts)) for texts in (["1.234", "567", None], ["1.234", "0.567"], ["567"])]
        [True, False, None]
    """
    found = texts.dropna().astype(str).str.extract(f"^({_OPEN})$")
    if found[0].isna().any():
        return False
    return True if found["point"].notna().any() else None
