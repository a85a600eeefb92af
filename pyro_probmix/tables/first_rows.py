"""What the first rows of a CSV file are: titles, the header, units, rows with names."""

from __future__ import annotations

__all__ = ["has_numbers_for_names", "is_header", "name_rows", "num_titles", "num_units"]

import re
from collections.abc import Sequence

#: Numbers as files have them, also with thousands set apart, a currency or per cent.
_NUMBER = re.compile(
    r"[-+−(]?\s?[$€£¥]?\s?[-+−]?(?:\d[\d.,' ]*|[.,]\d+)(?:[eE][-+]?\d+)?\s?[%€)]*|[-+]?(?:inf|infinity)", re.I
)
#: What stands for a missing value, in whatever case.
_GAPS = {
    *("", ".", "-", "--", "?", "*", "#n/a", "#na", "n/a", "na", "n.a.", "nan", "-nan", "<na>", "null", "none", "nil"),
    *("missing", "unknown", "#div/0!", "#value!", "#ref!", "#name?", "#num!", "#null!"),
}
#: So many lines of units, or of further names, may stand below a header; as many numbers tell that a column is of numbers.
_MOST_UNITS, _TELLING = 2, 3
#: A column is one of numbers with this share of them: other lines further below may be no rows.
_NEARLY_ALL = 0.9

Rows = Sequence[Sequence[str]]


def is_header(row: Sequence[str], below: Rows) -> bool:
    """Whether a row has names, and no number, in the columns in which the rows below have numbers; and there are such columns.

    Example:
        >>> is_header(["a", "b"], [["x", "1"], ["y", "2"]]), is_header(["x", "0"], [["x", "1"], ["y", "2"]])
        (True, False)
    """
    numbers = _of_numbers(below, 1)
    return bool(numbers) and all(k < len(row) and row[k].strip() and not _is_number(row[k]) for k in numbers)


def has_numbers_for_names(row: Sequence[str], below: Rows) -> bool:
    """Whether a row has numbers in all columns in which the rows below have some, and they are not all whole, as years are.

    Example:
        >>> has_numbers_for_names(["x", "0.5"], [["y", "1"]]), has_numbers_for_names(["x", "2024"], [["y", "1"]])
        (True, False)
    """
    names = [row[k].strip() for k in _of_numbers(below, 1) if k < len(row)]
    return bool(names) and all(map(_is_number, names)) and not all(name.isdigit() for name in names)


def num_titles(rows: Rows) -> int:
    """The number of rows above the header that are titles: a text in the first field at most, where the header has more.

    Example:
        >>> num_titles([["Sales of 2024", "", ""], ["a", "b", "y"], ["1", "2", "3"]]), num_titles([["a", "b"], ["1", "2"]])
        (1, 0)
    """
    found = 0
    while found < len(rows) - 2 and not any(text.strip() for text in rows[found][1:]):
        found += 1
    header, below = rows[found], rows[found + 1 :]
    return found if len(header) > 1 and all(text.strip() for text in header[:2]) and is_header(header, below) else 0


def num_units(below: Rows) -> int:
    """The number of rows below a header that are units or further names: texts where all others have numbers.

    Example:
        >>> num_units([["kg", "m"], ["1", "2"], ["3", "4"], ["5", "6"]]), num_units([["NA", "7"], ["1", "2"], ["3", "4"]])
        (1, 0)
    """
    for count in range(_MOST_UNITS, 0, -1):
        numbers = _of_numbers(below[count:], _TELLING)
        if numbers and all(_is_of_units(row, numbers) for row in below[:count]):
            return count
    return 0


def name_rows(rows: Rows, quoted: bool = False) -> bool:
    """Whether the first fields of rows may name them: whole numbers or texts, all different, in two rows or in one with quotes.

    Example:
        >>> [name_rows([[text] for text in texts]) for texts in (["1", "7", "2"], ["x", "y"], ["x", "x"], ["0.5", "0.7"])]
        [True, True, False, False]
    """
    names = [row[0].strip() for row in rows if row]
    if len(names) < (1 if quoted else 2) or len(set(names)) < len(names):
        return False
    whole = all(re.fullmatch(r"\d{1,15}", name) for name in names)
    return whole or not any(_is_number(name) or name.casefold() in _GAPS for name in names)


def _is_of_units(row: Sequence[str], numbers: Sequence[int]) -> bool:
    texts = [row[k].strip() if k < len(row) else "" for k in numbers]
    told = [text for text in texts if text.casefold() not in _GAPS]
    return bool(told) and not any(_is_number(text) for text in told)


def _of_numbers(rows: Rows, least: int) -> list[int]:
    """The positions at which nearly all rows that have a value have a number, and so many of them at least."""
    found = []
    for k in range(max(map(len, rows), default=0)):
        texts = [row[k].strip() for row in rows if k < len(row) and row[k].strip().casefold() not in _GAPS]
        count = sum(_is_number(text) for text in texts)
        if count >= max(least, _NEARLY_ALL * len(texts)):
            found.append(k)
    return found


def _is_number(text: str) -> bool:
    return _NUMBER.fullmatch(text.strip()) is not None
