"""What pandas before 3.1 passes over in a CSV file: fields beyond the header's, and texts that it ends at a NUL character."""

from __future__ import annotations

__all__ = ["refuse_passed_over"]

import csv
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from pyro_probmix.names import shown
from pyro_probmix.tables.dialect import Dialect
from pyro_probmix.tables.names import remedy

#: Whether pandas counts no fields in the first rows of a chunk, and reads ``x\0y`` as ``x``.
PASSES_OVER = tuple(int(part) for part in pd.__version__.split(".")[:2]) < (3, 1)
#: Read at once.
PART_BYTES = 1 << 23


def refuse_passed_over(path: Path, file: Any, names: Sequence[str], dialect: Dialect) -> None:
    """Raises ValueError for a row with more fields than the header, or with a NUL character, that pandas would pass over.

    Args:
        path: of the file, for messages.
        file: its bytes, with a method ``read`` that gives some of them.
        names: of the columns.
        dialect: how the file is laid out.
    """
    if not PASSES_OVER:
        return
    rows = csv.reader(_lines(file, dialect.skipped), delimiter=dialect.separator, skipinitialspace=True)
    number = -1  # of the row, the header's first
    try:
        for row in rows:
            if any(row[len(names) :]):
                what = f"a row has more fields than the {len(names)} of the header"
                if number > 0:
                    what = f"Expected {len(names)} fields in line {rows.line_num + dialect.skipped}, saw {len(row)}"
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


def _lines(file: Any, skipped: int) -> Iterator[str]:
    """The lines of a file with their ends, without the first ones."""
    rest = ""
    while part := file.read(PART_BYTES):
        *whole, rest = re.split(r"(?<=\n)|(?<=\r)(?!\n)", rest + part.decode("utf-8", "replace"))
        yield from whole[skipped:]
        skipped -= min(skipped, len(whole))
        if whole and hasattr(file, "taken"):
            file.taken = 0
    if rest and not skipped:
        yield rest
