"""Levels of categories: one text for each, however a file or a frame spells it."""

from __future__ import annotations

__all__ = ["codes", "spelled"]

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd


def spelled(value: Any) -> str:
    """The text of a category: whole numbers without a point, texts without blanks at their ends, all else as Python writes it.

    Example:
        >>> spelled(1.0), spelled(2), spelled(0.5), spelled("x "), spelled(True)
        ('1', '2', '0.5', 'x', 'True')
    """
    if isinstance(value, float | np.floating | Decimal) and abs(float(value)) < 2**53 and value == int(value):
        return str(int(value))
    return str(value).strip()


def codes(values: pd.Series, levels: Sequence[str]) -> npt.NDArray[np.intp]:
    """The position among categories of each value, -1 where it is none of them, [n].

    A file is parsed by what it happens to hold: the texts ``true`` and ``1.0`` in one are a truth value and a number in
    another. A value that is no category letter by letter is one if it is the same truth value or number, or the same letters
    with other spaces or in another form of Unicode.

    Example:
        >>> codes(pd.Series([True, False]), ["false", "true", "unknown"]).tolist()
        [1, 0]
        >>> codes(pd.Series(["x", "007", "7.0", "8"]), ["007", "x"]).tolist()
        [1, 0, 0, -1]
        >>> codes(pd.Series(["New\\u00a0York", "new york"]), ["New York"]).tolist()
        [0, -1]
    """
    different = {value: spelled(value) for value in _different(values)}
    exact = {level: k for k, level in enumerate(levels)}
    often = Counter(_canonical(level) for level in levels)
    meant = {key: k for k, level in enumerate(levels) if often[key := _canonical(level)] == 1}
    found = {value: exact.get(text, meant.get(_canonical(text), -1)) for value, text in different.items()}
    return np.array([found.get(value, -1) for value in _hashable(values)], dtype=np.intp)


def _different(values: pd.Series) -> list[Any]:
    return list(dict.fromkeys(_hashable(values)))


def _hashable(values: pd.Series) -> list[Any]:
    """The values, each that has no hash (a list, a record) as its text; numbers and truth values that are equal as texts."""
    return [value if isinstance(value, str) else spelled(value) for value in values]


def _canonical(text: str) -> str:
    """One text for all spellings of the same number or truth value, all kinds of spaces, and letters with their accents."""
    if text.casefold() in ("true", "false"):
        return text.casefold()
    if re.fullmatch(r"[-+]?\d+(\.\d*)?(e[-+]?\d+)?", text, re.IGNORECASE):
        return spelled(float(text))
    return text if text.isascii() and "  " not in text else " ".join(unicodedata.normalize("NFKC", text).split())
