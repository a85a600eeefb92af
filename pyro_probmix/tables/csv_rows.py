"""A CSV file, compressed or not, in blocks of rows."""

from __future__ import annotations

__all__ = ["CsvRows"]

import gzip
import re
import warnings
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from pyro_probmix.columns.kinds import has_leading_zeros
from pyro_probmix.names import shown
from pyro_probmix.tables.dialect import LOOKED_AT, dialect_of
from pyro_probmix.tables.names import remedy
from pyro_probmix.tables.old_pandas import refuse_passed_over
from pyro_probmix.tables.points import expects_commas, open_points
from pyro_probmix.tables.reading import header_of, refuse_other_contents

_reader: Any = pd.read_csv
#: The text of a block, as far as the rows before tell its length; and the most, whatever they told.
BLOCK_BYTES, MOST_BLOCK_BYTES = 1 << 23, 1 << 28
#: Texts that stand for a missing value among numbers.
GAPS = ("", "#N/A", "#NA", "-NaN", "-nan", "<NA>", "N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null")
#: The rows of the first block, and the most of one that is looked through.
FIRST_ROWS, BLOCK_ROWS = 1000, 1 << 16
#: What the text of a file has in it where a value has zeros in front.
MAYBE_CODE = re.compile(rb"(?:^|[,;|\"\s])[-+]?0[0-9]")


class CsvRows:
    """The rows of a CSV file with a header.

    Args:
        path: of the file; one that ends in .gz is compressed.

    Raises:
        ValueError: for other contents than text.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.size = path, path.stat().st_size
        if path.suffix.lower() != ".gz":
            refuse_other_contents(path)
        with _Text(path) as text:
            start = text.read(LOOKED_AT)
            self.dialect = dialect_of(start)
            self.commas = expects_commas(self.dialect, start)
        with _Text(path) as text:
            self.names = header_of(text, self.dialect).tolist()

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
            with _Text(self.path) as text:
                refuse_passed_over(self.path, text, self.names, self.dialect)
        with _Text(self.path) as text, warnings.catch_warnings():
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
                        return
                    except pd.errors.ParserWarning:
                        more = f"a row has more fields than the {len(self.names)} of the header"
                        raise ValueError(
                            f"{shown(self.path)} cannot be read as a csv table: {more}. "
                            f"{remedy(self.names, 'Try writing the file again.')}"
                        ) from None
                    count = min(rows, max(1, int(len(frame) * BLOCK_BYTES / max(text.taken, 1))), 4 * count)
                    yield frame[positions].set_axis([self.names[k] for k in positions], axis="columns"), text.share

    def kept_texts(self, columns: Collection[str]) -> set[str]:
        """Those of some columns of numbers that are better kept as texts.

        They hold a whole number with zeros in front, such as 007, which is a code; or, in a file that may have decimal commas,
        all values are as 1.234, in which the point may set thousands apart.
        """
        with _Text(self.path) as text:
            end, found = b"", False
            while not found and (part := text.read()):
                found, end = bool(MAYBE_CODE.search(end + part)), part[-4:]
                text.taken = 0
        if not found and not self.commas:
            return set()
        codes: set[str] = set()
        points: dict[str, set[bool | None]] = {}
        for frame, _ in self.frames(columns, BLOCK_ROWS, columns):
            codes |= {name for name in frame.columns if name not in codes and has_leading_zeros(frame[name])}
            for name in frame.columns if self.commas else ():
                points.setdefault(name, set()).add(open_points(frame[name][~frame[name].isin(GAPS)]))
        return codes | {name for name, told in points.items() if True in told and False not in told}


class _Text:
    """The text of a file, which counts what is taken of it: a small compressed file may hold a line without an end."""

    def __init__(self, path: Path) -> None:
        self.path, self.taken = path, 0
        self.size = max(1, path.stat().st_size)
        self.file = path.open("rb")
        self.text: Any = gzip.GzipFile(fileobj=self.file) if path.suffix.lower() == ".gz" else self.file

    def read(self, size: int = -1) -> bytes:
        found: bytes = self.text.read(size if 0 < size < BLOCK_BYTES else BLOCK_BYTES)
        self.taken += len(found)
        if self.taken > MOST_BLOCK_BYTES:
            raise ValueError(
                f"{shown(self.path)} holds rows of more than {MOST_BLOCK_BYTES >> 20} MiB of text together, expected less. Try "
                "leaving out columns of long texts, or a Parquet file."
            )
        return found

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.text)

    @property
    def share(self) -> float:
        """The share of the file that has been read."""
        return self.file.tell() / self.size

    def __enter__(self) -> _Text:
        return self

    def __exit__(self, *error: Any) -> None:
        self.file.close()
