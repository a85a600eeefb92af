"""Faults of a CSV file of which pandas says nothing: rows with too few fields, and quotes that stay open."""

from __future__ import annotations

__all__ = ["expect_closed_quotes", "last_named", "told_of_short_rows"]

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from pyro_probmix.names import shown
from pyro_probmix.tables.csv_text import CsvText, numbered_lines
from pyro_probmix.tables.dialect import Dialect
from pyro_probmix.tables.names import listed


def expect_closed_quotes(
    path: Path, frame: pd.DataFrame, names: Sequence[str], separator: str, first_row: int = 0
) -> None:
    """Raises ValueError for a text that has other rows in it, since its quote is closed only there.

    Each of its line breaks then stands beside as many separators as a row has.

    Args:
        path: of the file.
        frame: some of its rows, whose columns are numbered.
        names: of the columns.
        separator: between fields.
        first_row: the number of the first of the rows.
    """
    if len(names) < 3:
        return  # any text may have a separator for each line break
    for k, name in enumerate(names):
        texts = frame[k]
        if pd.api.types.is_numeric_dtype(texts.dtype) or pd.api.types.is_bool_dtype(texts.dtype):
            continue
        broken = texts.astype("string").str.contains("\n", regex=False).fillna(False)
        for row in np.flatnonzero(broken.to_numpy(dtype=bool)):
            text = str(texts.iloc[row])
            lines = text.count("\n")
            if text.count(separator) == (len(names) - 1) * lines:
                raise ValueError(
                    f"{shown(path)} cannot be read as a csv table: at row {first_row + row} (rows counted from 0) the text of "
                    f"column {shown(name)} goes on over {lines + 1} lines, which look like rows. Try closing or doubling "
                    "the quote with which it begins."
                )


def last_named(names: Sequence[str]) -> int:
    """The position of the last column with a name: a row that is too short has a gap there; -1 without names."""
    return max((k for k, name in enumerate(names) if str(name).strip()), default=-1)


def told_of_short_rows(path: Path, names: list[str], dialect: Dialect) -> list[str]:
    """A sentence on the rows that have fewer fields than there are columns; none without such rows.

    Args:
        path: of the file.
        names: of its columns.
        dialect: how it is laid out.

    Raises:
        ValueError: if all rows are short by as many fields: then the header may have a name too many, at any place.
    """
    expected, rows = last_named(names) + 1, 0
    short: dict[int, int] = {}
    first, fewest = 0, expected
    with CsvText(path) as text:
        for line, count in _field_counts(text, dialect):
            rows += 1
            if count < expected:
                short[count] = short.get(count, 0) + 1
                first, fewest = first or line, min(fewest, count)
    number = sum(short.values())
    if not number:
        return []
    if number == rows and len(short) == 1 and rows > 1:
        raise ValueError(
            f"{shown(path)} cannot be read as a csv table: its header has {expected} names, and each row {fewest} fields, "
            f"expected as many. Try a header with the names of the fields, or separators for what is missing in the rows."
        )
    return [
        f"{number} of {rows} rows have fewer fields than the {expected} of the header, the first in line {first}: what they "
        f"lack of the last columns, {listed(str(name).strip() for name in names[fewest:expected])}, is taken as missing."
    ]


def _field_counts(text: CsvText, dialect: Dialect) -> Iterator[tuple[int, int]]:
    """The last line of each row below the header, counted from 1, and the row's number of fields."""
    left_out, top = set(dialect.left_out), {one.decode("utf-8", "replace") for one in dialect.top}
    lines = numbered_lines(text)
    plain, number, seen = dialect.separator != " ", 0, False

    def kept(first: str = "") -> Iterator[str]:
        nonlocal number
        if first:
            yield first
        for number, line in lines:
            if number - 1 not in left_out and not (seen and line.rstrip("\r\n").removeprefix("\ufeff") in top):
                yield line

    unquoted = kept()
    for line in unquoted:
        if not plain or '"' in line:  # from here on fields may have separators and line breaks in them
            break
        if line.strip():
            if seen:
                yield number, line.count(dialect.separator) + 1
            seen = True
    else:
        return
    for row in csv.reader(kept(line), delimiter=dialect.separator, skipinitialspace=True):
        if row:
            if seen:
                yield number, len(row)
            seen = True
