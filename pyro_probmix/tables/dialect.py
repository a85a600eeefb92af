"""How a CSV file is laid out: the sign between its fields, and the lines above its header."""

from __future__ import annotations

__all__ = ["Dialect", "dialect_of"]

import csv
from dataclasses import dataclass
from itertools import islice
from typing import Any

#: The signs between fields that are tried, in this order.
SEPARATORS = (",", ";", "\t", "|")
#: The part of a file, in bytes, and the rows that are looked at, and the share of them that has as many fields as the header.
LOOKED_AT, MOST_ROWS, ALIKE = 1 << 16, 50, 0.9


@dataclass(frozen=True)
class Dialect:
    """The layout of a CSV file.

    Attributes:
        separator: the sign between fields.
        skipped: lines above the header.
    """

    separator: str = ","
    skipped: int = 0

    @property
    def options(self) -> dict[str, Any]:
        """The same for :func:`pandas.read_csv`."""
        return {"sep": self.separator, "skiprows": self.skipped, "skipinitialspace": True}


def dialect_of(start: bytes) -> Dialect:
    """The layout of a file with a header, by its first :data:`LOOKED_AT` bytes.

    The separator is the one that parts the header into most fields, of those by which nearly all rows have as many. Above the
    header may stand ``sep=;``, as Excel reads it, and comments behind ``#``.

    Example:
        >>> dialect_of(b"a;b, c;d\\n1,5;2;3\\n2,5;3;4\\n")
        Dialect(separator=';', skipped=0)
        >>> dialect_of(b"a   b\\n1   2.5\\n10  3\\n").separator
        ' '
        >>> dialect_of(b"# made by hand\\na,b\\n1,2\\n").skipped
        1
    """
    lines = start.decode("utf-8-sig", "replace").splitlines(keepends=True)
    if lines and len(start) >= LOOKED_AT:
        lines.pop()  # which may be cut
    if lines and lines[0].strip().lower().startswith("sep=") and len(lines[0].strip()) == 5:
        return Dialect(lines[0].strip()[4], 1)
    skipped = next((k for k, line in enumerate(lines) if not line.startswith("#")), 0)
    if skipped and _fields(lines[skipped - 1 :]) > 1:
        skipped -= 1  # a header whose first name begins so
    best = max(SEPARATORS, key=lambda sign: _fields(lines[skipped:], sign))
    if _fields(lines[skipped:], best) == 1 and _fields(lines[skipped:], " ") > 1:  # one or several spaces
        best = " "
    return Dialect(best, skipped)


def _fields(lines: list[str], separator: str = ",") -> int:
    """The number of fields of the header, if nearly all rows have as many; else 1."""
    try:
        rows = [*islice(csv.reader(lines, delimiter=separator, skipinitialspace=True), MOST_ROWS)]
    except csv.Error:
        return 1
    counts = [len(row) for row in rows if row]
    alike = sum(count == counts[0] for count in counts) if counts else 0
    return counts[0] if counts and alike >= ALIKE * len(counts) else 1
