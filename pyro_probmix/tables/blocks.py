"""Tables in files as blocks of rows, in memory that does not grow with the file."""

from __future__ import annotations

__all__ = ["BLOCK_ROWS", "ENDINGS", "TableBlocks"]

import warnings
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Protocol

import pandas as pd
from pandas.api.types import is_numeric_dtype as is_number

from pyro_probmix.columns.kinds import kind_of, numbers_as_text
from pyro_probmix.tables.arrow_rows import ArrowRows
from pyro_probmix.tables.csv_rows import CsvRows
from pyro_probmix.tables.names import checked_names
from pyro_probmix.tables.reading import expect_table, refuse_nul, refused

#: The most rows of a block.
BLOCK_ROWS = 1 << 16
#: What the names of files end in.
ENDINGS = (".csv", ".csv.gz", ".parquet", ".arrow", ".feather")


class Rows(Protocol):
    """The rows of a file, as often as they are asked for."""

    names: list[str]

    def frames(
        self, columns: Collection[str], rows: int, texts: Collection[str] | None
    ) -> Iterator[tuple[pd.DataFrame, float]]:
        """Blocks of some columns, and the share of the file that is read by then.

        Args:
            columns: by their names in the file, which are there.
            rows: the most rows of a block.
            texts: columns whose values are texts, whatever a block of them looks like; None to find that out.
        """
        ...


class TableBlocks:
    """The rows of a table in a file, block by block, each as :func:`~pyro_probmix.tables.reading.read_table` reads the whole.

    What a column's values are, numbers or texts, is a matter of the whole file: 007 is a number unless another row holds a
    text. So a first pass looks at all rows, and checks them as far as a table can be checked without a model.

    Args:
        path: of a CSV file, a compressed one (.csv.gz), a Parquet file, or one of Arrow's (.arrow, .feather).
        columns: the columns that are wanted, as far as they are there; None for all.
        rows: the most rows of a block.
        progress: is told the share of the first pass that is done.
        texts: columns of a CSV file whose values are texts, whatever they look like: 007 is another one than 7. None for those
            with such a value, or in which points may set thousands apart.
        commas: whether a CSV file has decimal commas, whatever it looks like.

    Raises:
        ValueError: for a file that is not there, or cannot be read as a table; the message says why.
    """

    def __init__(
        self,
        path: Path,
        columns: Collection[str] | None,
        rows: int = BLOCK_ROWS,
        progress: Callable[[float], object] = lambda share: None,
        texts: Collection[str] | None = (),
        commas: bool = False,
    ) -> None:
        expect_table(path, ENDINGS)
        self.path, self.rows = path, rows
        with refused(path):
            is_csv = path.name.lower().endswith((".csv", ".csv.gz"))
            source = CsvRows(path) if is_csv else ArrowRows(path)
            self._source: Rows = source
            self.names = [str(name).strip() for name in source.names]
            # Of a first column without a name, as pandas writes numbers of rows, or any that nobody asks for, nothing is said.
            checked_names(path, [name for k, name in enumerate(self.names) if name or (columns is None and k)])
        self._wanted = [k for k, name in enumerate(self.names) if name and (columns is None or name in columns)]
        self._texts, self._numbers = self._kinds(progress)
        if isinstance(source, CsvRows):
            nameless = columns is None and not self.names[0] and not source.dialect.row_names
            said = ["the first column has no name: it is taken for names of rows, and left out."] if nameless else []
            for note in (*source.notes, *said):
                warnings.warn(note, UserWarning, stacklevel=2)
            if texts is None:
                with refused(path):
                    own = source.kept_texts({*self._columns} - self._texts, commas)
            else:
                own = {source.names[k] for k in self._wanted if self.names[k] in texts}
            self._texts, self._numbers = self._texts | own, self._numbers - own

    @property
    def _columns(self) -> dict[str, str]:
        """Names in the file -> names without spaces around them."""
        return {self._source.names[k]: self.names[k] for k in self._wanted}

    def _kinds(self, progress: Callable[[float], object]) -> tuple[set[str], set[str]]:
        """The columns of texts, and those of them whose texts are numbers in every row."""
        found: dict[str, set[str]] = {kind: set() for kind in ("number", "truth", "text", "number as text")}
        first_row = 0
        with refused(self.path):
            for frame, share in self._source.frames(self._columns, self.rows, None):
                refuse_nul(self.path, frame.rename(columns=self._columns), first_row)
                for name in frame.columns:
                    found[_kind(frame[name].dropna())].add(name)
                first_row += len(frame)
                progress(share)
        mixed = found["truth"] & (found["number"] | found["text"] | found["number as text"])
        texts = found["text"] | found["number as text"] | mixed
        return texts, found["number as text"] - found["text"] - found["truth"]

    def __iter__(self) -> Iterator[tuple[pd.DataFrame, float]]:
        """Blocks of rows, and the share of the file that is read by then."""
        frames = self._source.frames(self._columns, self.rows, self._texts)
        while True:
            with refused(self.path):
                found = next(frames, None)
            if found is None:
                return
            frame, share = found
            for name in self._numbers & set(frame.columns):
                frame[name] = pd.to_numeric(frame[name])
            yield frame.rename(columns=self._columns).reset_index(drop=True), share


def _kind(values: pd.Series) -> str:
    if not pd.api.types.is_bool_dtype(values.dtype) and (not len(values) or is_number(values.dtype)):
        return "number"  # or nothing, which is like any other
    kind = kind_of(values)
    if kind == "boolean":
        return "truth"
    if kind not in ("string", "text among numbers"):
        return "number"  # dates and the like, whose type the file says
    return "number as text" if numbers_as_text(values) else "text"
