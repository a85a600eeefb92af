"""Reading a table from a CSV or Parquet file."""

from __future__ import annotations

__all__ = [
    "MOST_BYTES",
    "expect_room",
    "expect_table",
    "read_table",
    "refuse_nul",
    "refuse_other_contents",
    "refused",
]

import math
import os
import re
import warnings
import zlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pyro_probmix.columns.integers import with_exact_integers
from pyro_probmix.columns.kinds import has_leading_zeros, kind_of, numbers_as_text
from pyro_probmix.names import printable, shown
from pyro_probmix.tables.csv_text import CsvText, header_of
from pyro_probmix.tables.dialect import LOOKED_AT, Dialect, dialect_of
from pyro_probmix.tables.names import checked_names, remedy
from pyro_probmix.tables.old_pandas import refuse_passed_over
from pyro_probmix.tables.points import expects_commas, may_set_thousands_apart, open_points
from pyro_probmix.tables.row_faults import expect_closed_quotes, last_named, told_of_short_rows

#: The most memory that the values of a Parquet file's table may take.
MOST_BYTES = 1 << 30
#: The first bytes of files that are not text, and the message about them.
_BEGINNINGS = {
    b"\x1f\x8b": "compressed by gzip, expected text. Try unzipping it.",
    b"PK\x03\x04": "a zip archive or a spreadsheet, expected text. Try unzipping it, or saving the sheet as CSV.",
    b"PAR1": "a Parquet file, expected text. Try naming it .parquet.",
}


def read_table(
    path: Path, known: str = "", *, texts: Collection[str] | None = (), commas: bool = False
) -> pd.DataFrame:
    """Reads a CSV file, with a header, or a Parquet file.

    Named levels of an index that a Parquet file keeps are columns, the first ones; numbers stored as text are numbers, as
    they are in a CSV file.

    Args:
        path: of the file, which ends in .csv or .parquet.
        known: names that could be given in the place of a path, for the message about a file that is not there.
        texts: columns of a CSV file whose numbers stay texts; None for those in which points may set thousands apart: all
            values are as 1.234, in a file that may have decimal commas.
        commas: whether a CSV file has decimal commas, whatever it looks like.

    Raises:
        ValueError: if there is no such file, it cannot be read as a table, or its table takes more than ``MOST_BYTES`` of
            memory; the message says why.
    """
    expect_table(path, (".csv", ".parquet"), known)
    kept: set[str] = set()
    with refused(path):
        if path.suffix.lower() == ".csv":
            refuse_other_contents(path)
            frame, kept = _read_csv(path, texts, commas)
        else:
            frame = _read_parquet(path)
    frame = _without_row_names(frame)
    frame = frame.set_axis(checked_names(path, frame.columns), axis="columns").reset_index(drop=True)
    refuse_nul(path, frame)
    for name in frame.columns:
        if name not in kept and numbers_as_text(frame[name]):
            frame[name] = pd.to_numeric(frame[name])
    return frame


def expect_table(path: Path, endings: Sequence[str], known: str = "") -> None:
    """Raises ValueError unless there is a file whose name has one of the endings, and something in it."""
    if not os.path.exists(path):
        raise ValueError(
            f"no file {shown(path)}{known and ', and no embedded data set of that name'}. Try the path of a .csv or "
            ".parquet file"
            f"{known and ', or one of '}{known}."
        )
    if os.path.isdir(path):
        raise ValueError(f"{shown(path)} is a folder. Try the path of a .csv or .parquet file in it.")
    if not path.name.lower().endswith(tuple(endings)):
        raise ValueError(f"{shown(path)} does not end in {' or '.join(endings)}. Try saving the table as one of these.")
    with refused(path):
        if path.stat().st_size == 0:
            raise ValueError(f"{shown(path)} is empty. Try a file with a header and 4 rows or more.")


@contextmanager
def refused(path: Path) -> Iterator[None]:
    """Says in one sentence why a file cannot be read as a table."""
    try:
        yield
    except (
        *(pa.ArrowException, pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError),
        *(OSError, EOFError, zlib.error),
    ) as error:
        reason = printable(error).rstrip(".")
        way = "saving it as UTF-8" if isinstance(error, UnicodeDecodeError) else "writing the file again"
        kind = path.suffix[1:]
        raise ValueError(f"{shown(path)} cannot be read as a {kind} table: {reason}. Try {way}.") from None


def _without_row_names(frame: pd.DataFrame) -> pd.DataFrame:
    """The table without columns that have no name and tell nothing: empty ones, and a first one that names or numbers rows."""
    dull = []
    for k, name in enumerate(frame.columns):
        if str(name).strip() == "":
            values = frame.iloc[:, k]
            number = pd.api.types.is_integer_dtype(values.dtype)
            if values.isna().all() or (number and k == 0 and (values.diff().iloc[1:] == 1).all()):
                dull.append(k)
            elif k == 0 and values.is_unique and not pd.api.types.is_float_dtype(values.dtype):
                dull.append(k)
                warnings.warn(
                    f"the first column has no name, and another value in each row, as {shown(str(values.iloc[0]))}: it is "
                    "taken for names of rows, and left out.",
                    UserWarning,
                    stacklevel=3,
                )
    return frame.iloc[:, [k for k in range(frame.shape[1]) if k not in dull]] if len(dull) < frame.shape[1] else frame


def refuse_nul(path: Path, frame: pd.DataFrame, first_row: int = 0) -> None:
    """Raises ValueError for a NUL character in a text or a name of a table, whose first row has a number."""
    for name in frame.columns:
        odd = [value for value in _texts(frame[name]) if isinstance(value, str) and "\0" in value]
        if odd or "\0" in name:
            row = 0 if "\0" in name else first_row + int(np.flatnonzero(frame[name].isin(odd))[0])
            place = "its name" if "\0" in name else f"row {row} (counted from 0)"
            raise ValueError(
                f"{shown(path)}: column {shown(name)} has a NUL character in {place}, expected text without. Try removing it."
            )


def _texts(column: pd.Series) -> Iterable[object]:
    """The different values of a column that may hold texts."""
    if pd.api.types.is_numeric_dtype(column):
        return ()
    try:
        return list(column.unique())
    except TypeError:  # values such as lists, which are refused elsewhere
        return column


def refuse_other_contents(path: Path) -> None:
    with path.open("rb") as file:
        start = file.read(4)
    for beginning, said in _BEGINNINGS.items():
        if start.startswith(beginning):
            raise ValueError(f"{shown(path)} is {said}")


def _read_csv(path: Path, as_texts: Collection[str] | None, commas: bool) -> tuple[pd.DataFrame, set[str]]:
    """The table, and the columns whose numbers stay texts."""
    with CsvText(path) as text:
        start = text.read(LOOKED_AT)
    dialect = dialect_of(start)
    with CsvText(path, dialect) as text:
        header = header_of(text, dialect)
    with CsvText(path, dialect) as text:
        refuse_passed_over(path, text, header, dialect)
    with CsvText(path, dialect, math.inf) as text, warnings.catch_warnings():
        warnings.simplefilter("error", pd.errors.ParserWarning)
        try:
            frame = _parsed(text, header, dialect)
        except pd.errors.ParserWarning:
            more = f"a row has more fields than the {len(header)} of the header"
            raise ValueError(
                f"{shown(path)} cannot be read as a csv table: {more}. {remedy(header, 'Try writing the file again.')}"
            ) from None
    expect_closed_quotes(path, frame, header, dialect.separator)
    last = last_named(header)
    short = told_of_short_rows(path, header, dialect) if last >= 0 and frame[last].isna().any() else []
    for note in (*dialect.notes, *text.told(), *short):
        warnings.warn(note, UserWarning, stacklevel=3)
    names = [str(name).strip() for name in header]
    if as_texts is None:
        commas = commas or expects_commas(dialect, start)
        wanted = {k for k in range(len(names)) if commas and may_set_thousands_apart(frame.iloc[:, k])}
    else:
        wanted = {k for k, name in enumerate(names) if name in as_texts}
    again, kept = sorted({*_to_read_as_text(frame, path), *wanted}), set()
    if again:
        with CsvText(path, dialect, math.inf) as text:
            texts = _parsed(text, header, dialect, dtype=str, keep_default_na=False, na_values=[""], usecols=again)
        for k, name in zip(again, texts.columns, strict=True):
            if k in wanted and (as_texts is not None or open_points(texts[name][frame.iloc[:, k].notna()])):
                kept.add(names[k])
            if names[k] in kept or kind_of(frame.iloc[:, k]) == "string" or has_leading_zeros(texts[name]):
                frame.isetitem(k, texts[name].array)
            elif _is_rounded(frame.iloc[:, k]):
                with suppress(ValueError, OverflowError):  # others are no whole numbers
                    whole = [None if pd.isna(text) else int(text) for text in texts[name]]
                    frame.isetitem(k, pd.array(whole, dtype="Int64"))
    frame = frame.set_axis(header, axis="columns")
    return frame.iloc[:, 1:] if dialect.row_names else frame, kept


def _parsed(text: CsvText, header: Sequence[str], dialect: Dialect, **options: Any) -> pd.DataFrame:
    """The rows below a header, whose columns are numbered."""
    source: Any = text  # pandas asks for a method read alone
    numbered: dict[str, Any] = {"header": 0, "names": range(len(header)), "index_col": False, "low_memory": False}
    frame: pd.DataFrame = pd.read_csv(source, **numbered, **options, **dialect.options)
    return frame


def _is_rounded(values: pd.Series) -> bool:
    """Whether floating point may have rounded whole numbers, which pandas makes of integers beside a gap."""
    return bool(pd.api.types.is_float_dtype(values.dtype) and (values.astype("float64").abs() >= 2**53).any())


def _to_read_as_text(frame: pd.DataFrame, path: Path) -> list[int]:
    """Positions of columns of which pandas has lost what the file says: texts such as NA, zeros in front, last digits."""
    texts = [k for k in range(frame.shape[1]) if not pd.api.types.is_numeric_dtype(frame.dtypes.iloc[k])]
    again = {k for k in texts if frame.iloc[:, k].isna().any()}
    again |= {k for k in range(frame.shape[1]) if _is_rounded(frame.iloc[:, k])}
    with CsvText(path, most=math.inf) as text:
        if re.search(rb"(?:^|[,;|\"\s])[-+]?0[0-9]", b"".join(text)):
            again |= {k for k in range(frame.shape[1]) if pd.api.types.is_numeric_dtype(frame.dtypes.iloc[k])}
    return sorted(again)


def expect_room(path: Path) -> None:
    """Raises ValueError for a Parquet file whose table takes too much memory: a small file can hold millions of rows."""
    with path.open("rb") as opened, pq.ParquetFile(opened) as file:
        record = file.metadata
        lengths = [file.schema.column(k).length for k in range(len(file.schema))]  # of values of a fixed length
        groups = [record.row_group(k) for k in range(record.num_row_groups)]
        chunks = [group.column(k) for group in groups for k in range(group.num_columns)]
        texts = sorted({chunk.path_in_schema for chunk in chunks if chunk.physical_type == "BYTE_ARRAY"})
        values = sum(
            max(8, lengths[k] if group.column(k).physical_type == "FIXED_LEN_BYTE_ARRAY" else 0)
            * group.column(k).num_values
            for group in groups
            for k in range(group.num_columns)
        )
        size = max(values, sum(chunk.total_uncompressed_size for chunk in chunks))
    if size <= MOST_BYTES and texts:
        with (
            path.open("rb") as opened,
            pq.ParquetFile(opened, read_dictionary=texts) as file,
        ):  # each text is there once, whatever rows repeat it
            for batch in file.iter_batches(batch_size=1 << 16, columns=texts):
                size += sum(_bytes_of_texts(column) for column in batch.columns)
                if size > MOST_BYTES:
                    break
    if size > MOST_BYTES:
        raise ValueError(
            f"{shown(path)} holds {record.num_rows} rows of {record.num_columns} columns, which take more than "
            f"{MOST_BYTES >> 20} MiB of memory, expected less. Try several smaller files, or fewer columns."
        )


def _bytes_of_texts(column: Any) -> int:
    """The bytes of all texts of a column, those that recur counted as often as they do."""
    if not pa.types.is_dictionary(column.type) or not len(column.dictionary):
        return int(column.nbytes)
    lengths = np.asarray(pc.binary_length(column.dictionary).fill_null(0))
    codes = np.asarray(column.indices.drop_null())
    return int(lengths[codes].sum(dtype=np.int64))


def _read_parquet(path: Path) -> pd.DataFrame:
    expect_room(path)
    with path.open("rb") as opened:
        checked_names(path, [name for name in pq.read_schema(opened).names if name.strip()])
    with path.open("rb") as opened:  # Arrow takes no names that are not UTF-8
        frame = pd.read_parquet(opened, engine="pyarrow")
    rounded = [name for k, name in enumerate(frame.columns) if isinstance(name, str) and _is_rounded(frame.iloc[:, k])]
    if rounded and frame.columns.is_unique:
        with path.open("rb") as opened:
            frame = with_exact_integers(frame, pq.read_table(opened, columns=rounded))
    named = [name for name in frame.index.names if name is not None]
    if not named:
        return frame
    levels, frame = frame.index.to_frame(index=False)[named], frame.reset_index(drop=True)
    kept = [name for name in named if not (name in frame and frame[name].equals(levels[name]))]
    return pd.concat([levels[kept], frame], axis=1)
