"""Names of columns: those that an option lists, and names in messages."""

from __future__ import annotations

__all__ = ["checked_names", "distinct", "find_columns", "listed", "remedy"]

from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path

import pandas as pd

from pyro_probmix.names import printable, shown

#: A longer name is not looked up among similar ones, which takes the square of its length.
_LONGEST = 200


def checked_names(path: Path, columns: Iterable[object]) -> list[str]:
    """The names of columns without spaces around them; raises ValueError for two of one name, or an empty one."""
    names = [str(name).strip() for name in columns]
    twice = sorted({name for name in names if name and names.count(name) > 1})
    if twice:
        raise ValueError(f"{shown(path)}: more than one column is named {listed(twice)}. Try giving each its own name.")
    if "" in names:
        raise ValueError(
            f"{shown(path)}: column {names.index('')} (counted from 0) has no name. Try naming it, or leaving it out "
            "(pandas writes row numbers there without index=False)."
        )
    return names


def find_columns(frame: pd.DataFrame, target: str, table: str) -> list[str]:
    """The columns that an option names, one or several with commas between; raises ValueError for one that is not there."""
    if target in frame.columns:
        return [target]
    wanted = list(dict.fromkeys(part.strip() for part in target.split(",")))
    for name in wanted:
        if name not in frame.columns:
            near = get_close_matches(name, list(frame.columns), n=1) if len(name) < _LONGEST else []
            hint = f"Try {shown(near[0])}." if near else "Try one of these."
            if all(_is_number(column) for column in frame.columns):
                hint = "Try a first line with names; this one has numbers."
            elif len(frame.columns) == 1:
                hint = remedy(frame.columns, "Try a file with commas between its columns.")
            raise ValueError(f"{printable(table)}: no column {shown(name)}; there are {listed(frame.columns)}. {hint}")
    return wanted


def _is_number(name: object) -> bool:
    try:
        float(str(name))
    except ValueError:
        return False
    return True


def remedy(names: Iterable[object], otherwise: str) -> str:
    """The advice on a table that lacks a column: commas, if it has semicolons in their place, else the given advice."""
    one = [str(name) for name in names]
    if len(one) == 1 and ";" in one[0]:
        return "Try a file with commas between its columns; this one has semicolons."
    return otherwise


def distinct(names: Iterable[str]) -> list[str]:
    """The names in their order, each that was there before with primes.

    Example:
        >>> distinct(["a", "b", "a", "a"])
        ['a', 'b', "a'", "a''"]
    """
    found: dict[str, None] = {}
    for name in names:
        while name in found:
            name += "'"
        found[name] = None
    return list(found)


def listed(names: Iterable[object]) -> str:
    """Names for a message, at most twenty."""
    quoted = [shown(name) for name in names]
    return ", ".join(quoted[:20]) + (f" and {len(quoted) - 20} more" if len(quoted) > 20 else "")
