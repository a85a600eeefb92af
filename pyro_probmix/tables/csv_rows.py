"""A CSV file, compressed or not, in blocks of rows."""

from __future__ import annotations

__all__ = ["CsvRows"]

import re
import warnings
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from pyro_probmix.columns.kinds import has_leading_zeros
from pyro_probmix.names import shown
from pyro_probmix.tables.csv_text import BLOCK_BYTES, CsvText, header_of
from pyro_probmix.tables.dialect import LOOKED_AT, dialect_of
from pyro_probmix.tables.names import remedy
from pyro_probmix.tables.old_pandas import refuse_passed_over
from pyro_probmix.tables.points import expects_commas, open_points
from pyro_probmix.tables.reading import refuse_other_contents
from pyro_probmix.tables.row_faults import expect_closed_quotes, last_named, told_of_short_rows

_reader: Any = pd.read_csv
#: Texts that stand for a missing value among numbers.
GAPS = (
    *("", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN"),
    *("<NA>", "N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null"),
)
#: The rows of the first block, and the most of one that is looked through.
FIRST_ROWS, BLOCK_ROWS = 1000, 1 << 16
#: What the text of a file has in it where a value has zeros in front.
MAYBE_CODE = re.compile(rb"(?:^|[,;|\"\s])[-+]?0[0-9]")


class CsvRows:
    """The rows of a CSV file with a header.

    Args:
        path: of the file; one that ends in .gz is compressed.

    Attributes:
        notes: what a reader may want to know of the rows that were read, in words; all of it after a whole pass.

    Raises:
        ValueError: for other contents than text.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.size = path, path.stat().st_size
        if path.suffix.lower() != ".gz":
            refuse_other_contents(path)
        with CsvText(path) as text:
            start = text.read(LOOKED_AT)
            self.dialect = dialect_of(start)
            self.commas = expects_commas(self.dialect, start)
        self.notes = list(self.dialect.notes)
        with CsvText(path, self.dialect) as text:
            self.names = header_of(text, self.dialect)

    def frames(
        self, columns: Collection[str], rows: int, texts: Collection[str] | None
    ) -> Iterator[tuple[pd.DataFrame, float]]:
        """See :class:`~pyro_probmix.tables.blocks.Rows`."""
        positions = [k for k, name in enumerate(self.names) if name in columns]
        options: dict[str, Any] = {"header": 0, "index_col": False, **self.dialect.options}
        if texts is not None:  # all fields were counted before
            own = [k for k in positions if self.names[k] in texts]
            options |= {"usecols": positions, "dtype": dict.fromkeys(own, object)}
            # NA is a text among texts, as in other files, and a gap among numbers.
            options |= {"keep_default_na": False, "na_values": {k: [""] if k in own else list(GAPS) for k in positions}}
        else:
            with CsvText(self.path, self.dialect) as text:
                refuse_passed_over(self.path, text, self.names, self.dialect)
        last, short, first_row = last_named(self.names), False, 0
        with CsvText(self.path, self.dialect) as text, warnings.catch_warnings():
            warnings.simplefilter("error" if texts is None else "ignore", pd.errors.ParserWarning)
            try:
                reader = _reader(text, names=range(len(self.names)), low_memory=False, iterator=True, **options)
            except pd.errors.EmptyDataError:
                return
            with reader:
                count = min(FIRST_ROWS, rows)
                while True:
                    text.taken = 0
                    try:
                        frame = reader.get_chunk(count)
                    except StopIteration:
                        break
                    except pd.errors.ParserWarning:
                        more = f"a row has more fields than the {len(self.names)} of the header"
                        raise ValueError(
                            f"{shown(self.path)} cannot be read as a csv table: {more}. "
                            f"{remedy(self.names, 'Try writing the file again.')}"
                        ) from None
                    if texts is None:
                        expect_closed_quotes(self.path, frame, self.names, self.dialect.separator, first_row)
                        first_row += len(frame)
                    short = short or (texts is None and last >= 0 and bool(frame[last].isna().any()))
                    count = min(rows, max(1, int(len(frame) * BLOCK_BYTES / max(text.taken, 1))), 4 * count)
                    yield frame[positions].set_axis([self.names[k] for k in positions], axis="columns"), text.share
        if texts is None:
            self.notes += [*text.told(), *(told_of_short_rows(self.path, self.names, self.dialect) if short else ())]

    def kept_texts(self, columns: Collection[str], commas: bool = False) -> set[str]:
        """Those of some columns of numbers that are better kept as texts.

        They hold a whole number with zeros in front, such as 007, which is a code; or, in a file that has or may have decimal
        commas, all values are as 1.234, in which the point may set thousands apart.
        """
        with CsvText(self.path, self.dialect) as text:
            end, found = b"", False
            while not found and (part := text.read()):
                found, end = bool(MAYBE_CODE.search(end + part)), part[-4:]
                text.taken = 0
        commas = commas or self.commas
        if not found and not commas:
            return set()
        codes: set[str] = set()
        points: dict[str, set[bool | None]] = {}
        for frame, _ in self.frames(columns, BLOCK_ROWS, columns):
            codes |= {name for name in frame.columns if name not in codes and has_leading_zeros(frame[name])}
            for name in frame.columns if commas else ():
                points.setdefault(name, set()).add(open_points(frame[name][~frame[name].isin(GAPS)]))
        return codes | {name for name, told in points.items() if True in told and False not in told}
