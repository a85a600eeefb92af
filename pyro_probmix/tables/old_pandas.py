"""What pandas before 3.1 passes over in a CSV file: fields beyond the header's, and texts that it ends at a NUL character."""

from __future__ import annotations

__all__ = ["refuse_passed_over"]

import csv
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from pyro_probmix.names import shown
from pyro_probmix.tables.csv_text import CsvText, numbered_lines
from pyro_probmix.tables.dialect import Dialect
from pyro_probmix.tables.names import remedy

#: Whether pandas counts no fields in the first rows of a chunk, and reads ``x\0y`` as ``x``.
PASSES_OVER = tuple(int(part) for part in pd.__version__.split(".")[:2]) < (3, 1)


def refuse_passed_over(path: Path, file: CsvText, names: Sequence[str], dialect: Dialect) -> None:
    """Raises ValueError for a row with more fields than the header, or with a NUL character, that pandas would pass over.

    Args:
        path: of the file, for messages.
        file: its text.
        names: of the columns.
        dialect: how the file is laid out.
    """
    if not PASSES_OVER:
        return
    lines = (line for _, line in numbered_lines(file))
    rows = csv.reader(lines, delimiter=dialect.separator, skipinitialspace=True)
    number = -1  # of the row, the header's first
    try:
        for row in rows:
            if any(row[len(names) :]):
                what = f"a row has more fields than the {len(names)} of the header"
                if number > 0:
                    what = (
                        f"Expected {len(names)} fields in line {rows.line_num + len(dialect.left_out)}, saw {len(row)}"
                    )
                raise ValueError(
                    f"{shown(path)} cannot be read as a csv table: {what}. {remedy(names, 'Try writing the file again.')}"
                )
            for name, text in zip(names, row, strict=False):
                if "\0" in text:
                    place = f"row {number} (counted from 0)" if number >= 0 else "its name"
                    raise ValueError(
                        f"{shown(path)}: column {shown(name)} has a NUL character in {place}, expected text without. "
                        "Try removing it."
                    )
            number += bool(row)
    except csv.Error:  # pandas has words of its own for what is no CSV file
        return
