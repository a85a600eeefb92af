"""How a CSV file is laid out: the sign between its fields, and the lines around its header that are no rows."""

from __future__ import annotations

__all__ = ["LOOKED_AT", "Dialect", "dialect_of"]

import csv
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from pyro_probmix.names import shown
from pyro_probmix.tables.first_rows import has_numbers_for_names, is_header, name_rows, num_titles, num_units

#: The signs between fields that are tried, in this order.
SEPARATORS = (",", ";", "\t", "|")
#: The part of a file, in bytes, and the rows that are looked at, and the share of them that has as many fields as the header.
LOOKED_AT, MOST_ROWS, ALIKE = 1 << 16, 50, 0.9


@dataclass(frozen=True)
class Dialect:
    """The layout of a CSV file.

    Attributes:
        separator: the sign between fields.
        left_out: lines above and below the header that are no rows, counted from 0.
        row_names: whether the header lacks a name for the first field of each row, which names the row.
        top: the header's line, and those that are left out; where they stand further below they are no rows either.
        notes: what a reader may want to know, in words.
    """

    separator: str = ","
    left_out: tuple[int, ...] = ()
    row_names: bool = False
    top: tuple[bytes, ...] = field(default=(), repr=False)
    notes: tuple[str, ...] = field(default=(), repr=False)

    @property
    def options(self) -> dict[str, Any]:
        """The same for :func:`pandas.read_csv`."""
        return {"sep": self.separator, "skipinitialspace": True}


def dialect_of(start: bytes) -> Dialect:
    """The layout of a file with a header, by its first :data:`LOOKED_AT` bytes.

    The separator is the one that parts the header into most fields, of those by which nearly all rows have as many, or one
    more, as where R writes the names of rows. Above the header may stand ``sep=;``, as Excel reads it, comments behind ``#``,
    and titles; below it units.

    Example:
        >>> dialect_of(b"a;b, c;d\\n1,5;2;3\\n2,5;3;4\\n")
        Dialect(separator=';', left_out=(), row_names=False)
        >>> dialect_of(b"a   b\\n1   2.5\\n10  3\\n").separator
        ' '
        >>> dialect_of(b"# made by hand\\na,b\\nkg,m\\n1,2\\n3,4\\n5,6\\n").left_out
        (0, 2)
        >>> dialect_of(b'"a" "b"\\n"1" 2.5 7\\n"2" 3.5 8\\n').row_names
        True
    """
    raw = start.splitlines(keepends=True)
    if raw and len(start) >= LOOKED_AT:
        raw.pop()  # which may be cut
    lines = [line.decode("utf-8", "replace").removeprefix("\ufeff") for line in raw]
    if lines and lines[0].strip().lower().startswith("sep=") and len(lines[0].strip()) == 5:
        return _Laid(lines, 1, lines[0].strip()[4]).dialect(raw)
    skipped = next((k for k, line in enumerate(lines) if not line.startswith("#")), 0)
    if skipped:
        from_last = _best(lines, skipped - 1)  # is the last of these lines a header, whose first name begins so?
        said = lines[skipped - 1].startswith("# ") and is_header(*from_last.header_and_below(1))
        if from_last.fields > 1 and not from_last.titles and not said:
            return from_last.dialect(raw)
    return _best(lines, skipped).dialect(raw)


def _best(lines: list[str], skipped: int) -> _Laid:
    tried = [_Laid(lines, skipped, sign) for sign in SEPARATORS]
    found = max(tried, key=lambda laid: (laid.fields > 1 and not laid.some_short, laid.fields))
    if found.fields == 1 and (by_spaces := _Laid(lines, skipped, " ")).fields > 1:  # one or several spaces
        return by_spaces
    return found


class _Laid:
    """The first rows of a file as a separator parts them.

    Attributes:
        fields: of the header and nearly all rows; 1 where they are not alike.
        some_short: whether not nearly all rows, but most have as many, and the others fewer.
        titles: rows above the header.
        row_names: see :class:`Dialect`.
    """

    def __init__(self, lines: list[str], skipped: int, separator: str) -> None:
        self.separator, self.skipped, self.lines = separator, skipped, lines
        self.rows: list[list[str]] = []
        self.places: list[range] = []  # the lines of each row
        reader = csv.reader(lines[skipped:], delimiter=separator, skipinitialspace=True)
        before = skipped
        try:
            for row in islice(reader, MOST_ROWS):
                if row:
                    self.rows.append(row)
                    self.places.append(range(before, skipped + reader.line_num))
                before = skipped + reader.line_num
        except csv.Error:
            self.rows, self.places = [], []
        self.some_short = False
        self.titles = num_titles(self.rows) if len(self.rows) > 2 else 0
        self.fields, self.row_names = self._fields()

    def header_and_below(self, first: int) -> tuple[list[str], list[list[str]]]:
        """A row, and those below it."""
        return (self.rows[first], self.rows[first + 1 :]) if len(self.rows) > first else ([], [])

    def _fields(self) -> tuple[int, bool]:
        header, below = self.header_and_below(self.titles)
        wide, counts = len(header), [len(row) for row in (header, *below)]
        odd = sum(count != wide for count in counts)
        if odd <= (1 - ALIKE) * len(counts) or (odd == 1 and len(counts) > 3):
            return max(1, wide), False
        if 2 * odd < len(counts) and max(counts) == wide:  # many rows are too short
            self.some_short = True
            return wide, False
        longer = [row for row in below if len(row) == wide + 1]
        if wide < 2 or len(longer) < ALIKE * len(below):
            return 1, False
        if not any(row[-1].strip() for row in longer):  # a separator at the end of each line
            return wide, False
        quoted = all(self.lines[place.start].lstrip().startswith('"') for place in self.places[self.titles + 1 :])
        return (wide + 1, True) if name_rows(longer, quoted) else (1, False)

    def dialect(self, raw: Sequence[bytes]) -> Dialect:
        above = self.places[self.titles].start if self.places else self.skipped
        header, below = self.header_and_below(self.titles)
        units = num_units(below) if self.fields > 1 else 0
        of_units = [line for place in self.places[self.titles + 1 :][:units] for line in place]
        notes = []
        if self.titles:
            notes.append(
                f"the header is line {above + 1}: what stands above it, as {shown(self.rows[0][0])}, is left out."
            )
        if units:
            text = next(text.strip() for text in below[0] if text.strip())
            notes.append(
                f"line {of_units[0] + 1} has texts, as {shown(text)}, where the rows below have numbers: it is taken for "
                "units, and left out."
            )
        if self.row_names:
            notes.append(
                "the header has a name fewer than the rows have fields: the first field names the row, and is left out."
            )
        if header and has_numbers_for_names(header, below):
            notes.append(
                f"the header has numbers for names, as {shown(header[0])}: it is taken for names all the same. Is the line of "
                "names missing?"
            )
        left_out = (*range(above), *of_units)
        return Dialect(self.separator, left_out, self.row_names, self._top(raw, left_out), tuple(notes))

    def _top(self, raw: Sequence[bytes], left_out: Sequence[int]) -> tuple[bytes, ...]:
        header, _ = self.header_and_below(self.titles)
        place = self.places[self.titles] if self.places else range(0)
        if (
            len(place) != 1
            or self.fields == 1
            or not any(text.strip() and not _is_plain_number(text) for text in header)
        ):
            return ()
        lines = (raw[k].rstrip(b"\r\n").removeprefix(b"\xef\xbb\xbf") for k in (*place, *left_out))
        return tuple(dict.fromkeys(line for line in lines if line.strip()))


def _is_plain_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
