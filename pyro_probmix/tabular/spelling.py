"""How values are written: one text for each category, and formats of numbers and dates that are recognised but not read."""

from __future__ import annotations

from pyro_probmix.names import shown

__all__ = ["ISO_DATE", "advice", "codes", "spelled", "unread_format", "where"]

import re
from collections import Counter
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

ISO_DATE = r"\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2}(\.\d+)?)?(Z|[+-]\d{2}:?\d{2})?)?"
_OTHER_DATE = r"(\d{1,2}[/.-]\d{1,2}[/.-](\d{4}|\d{2})|\d{4}[/.-]\d{1,2}[/.-]\d{1,2})([T ,].*)?"
_NUMBER = r"[-+]?(\d+|\d{1,3}([.,' ]\d{3})+)([.,]\d+)?"
_SIGN = r"([$€£¥₹%]|USD|EUR|GBP|CHF)"
#: Formats of numbers and dates, and the advice on those that are not read.
_FORMATS = {
    "iso": (ISO_DATE, "Try a number in its place."),
    "date": (_OTHER_DATE, "Try writing dates as 2024-12-31."),
    "sign": (rf"{_SIGN}\s*{_NUMBER}|[-+]{_SIGN}\s*{_NUMBER}|{_NUMBER}\s*{_SIGN}", "Try the number alone, as 12.5."),
    "comma": (_NUMBER, "Decimal commas? Try points, as in 3.14, and nothing between thousands."),
}
_DESCRIPTIONS = {
    "date": "a date that is not written as 2024-12-31",
    "sign": "a number with a sign beside it",
    "comma": "a number with a comma, or with thousands set apart",
}


def spelled(value: Any) -> str:
    """The text of a category: whole numbers without a point, all else as Python writes it.

    Example:
        >>> spelled(1.0), spelled(2), spelled(0.5), spelled("x"), spelled(True)
        ('1', '2', '0.5', 'x', 'True')
    """
    if isinstance(value, float | np.floating | Decimal) and abs(float(value)) < 2**53 and value == int(value):
        return str(int(value))
    return str(value)


def codes(values: pd.Series, levels: Sequence[str]) -> npt.NDArray[np.intp]:
    """The position among categories of each value, -1 where it is none of them, [n].

    A file is parsed by what it happens to hold: the texts ``true`` and ``1.0`` in one are a truth value and a number in
    another. A value that is no category letter by letter is one if it is the same truth value or number.

    Example:
        >>> codes(pd.Series([True, False]), ["false", "true", "unknown"]).tolist()
        [1, 0]
        >>> codes(pd.Series(["x", "007", "7.0", "8"]), ["007", "x"]).tolist()
        [1, 0, 0, -1]
    """
    texts = [spelled(value) for value in values]
    exact = {level: k for k, level in enumerate(levels)}
    often = Counter(_canonical(level) for level in levels)
    meant = {key: k for k, level in enumerate(levels) if often[key := _canonical(level)] == 1}
    found = {text: exact.get(text, meant.get(_canonical(text), -1)) for text in set(texts)}
    return np.array([found[text] for text in texts], dtype=np.intp)


def _canonical(text: str) -> str:
    """One text for all spellings of the same number or truth value."""
    if text.casefold() in ("true", "false"):
        return text.casefold()
    return spelled(float(text)) if re.fullmatch(r"[-+]?\d+(\.\d*)?(e[-+]?\d+)?", text, re.IGNORECASE) else text


def advice(value: object, otherwise: str) -> str:
    """The advice on a value that is not read as a number."""
    found = _format_of(value)
    return _FORMATS[found][1] if found else otherwise


def unread_format(values: pd.Series) -> tuple[int, str, str] | None:
    """The first row of a column of numbers or dates in a format that is not read; None for any other column.

    Returns:
        the row, a description of its value, and the advice.

    Example:
        >>> unread_format(pd.Series(["$3.14", "$2.72"]))
        (0, 'a number with a sign beside it', 'Try the number alone, as 12.5.')
        >>> unread_format(pd.Series(["2024-12-31", "2024-12-30", "soon"]))
        (2, 'no date, unlike most rows', 'Try correcting it, or dropping that row.')
    """
    present = values.notna().to_numpy()
    known = {value: _format_of(value) for value in values[present].unique()}
    formats = values.map(known).to_numpy(dtype=object)
    dated = formats == "iso"
    if 2 * dated.sum() > present.sum() > dated.sum():
        row = int(np.flatnonzero(present & ~dated)[0])
        to_try = advice(values.iloc[row], "Try correcting it, or dropping that row.")
        return row, "no date, unlike most rows", to_try
    for name, description in _DESCRIPTIONS.items():
        if 2 * (formats == name).sum() > present.sum():
            return int(np.flatnonzero(formats == name)[0]), description, _FORMATS[name][1]
    return None


def _format_of(value: object) -> str | None:
    """The name of a value's format in ``_FORMATS``."""
    text = value if isinstance(value, str) else ""
    if re.fullmatch(ISO_DATE, text):  # without spaces around it, unlike the others
        return "iso"
    return next((name for name in _DESCRIPTIONS if re.fullmatch(_FORMATS[name][0], text.strip())), None)


def where(name: str, values: pd.Series, row: int) -> str:
    """The beginning of a message on one value of a column."""
    value: Any = values.iloc[row]
    return f"column {shown(name)} holds {shown(str(value))} at row {row} (rows counted from 0)"
