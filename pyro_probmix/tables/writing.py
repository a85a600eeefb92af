"""Writing a table to a CSV or Parquet file, and whether one can be written."""

from __future__ import annotations

__all__ = ["expect_file", "expect_folder", "quote_formulas", "write_table"]

import os
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from pyro_probmix.files import write_file
from pyro_probmix.names import shown
from pyro_probmix.tables.names import distinct

#: How the texts begin that spreadsheets take for formulas.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


def expect_folder(folder: Path) -> None:
    """Raises ValueError unless there is a folder that can be written to, or one can be made there."""
    if os.path.islink(folder) and not os.path.exists(folder):
        raise ValueError(f"{shown(folder)} is a link to nothing, expected a folder. Try another --out.")
    nearest = next(place for place in (folder, *folder.absolute().parents) if os.path.exists(place))
    if not nearest.is_dir():
        what = "a file" if nearest == folder else f"in {shown(nearest)}, a file"
        raise ValueError(f"{shown(folder)} is {what}, expected a folder. Try another --out.")
    if not os.access(nearest, os.R_OK | os.W_OK | os.X_OK):
        raise ValueError(f"the folder {shown(folder)} could not be written to (Permission denied). Try another --out.")


def expect_file(path: Path) -> None:
    """Raises ValueError unless a table can be written to a path."""
    if path.suffix.lower() not in (".csv", ".parquet"):
        raise ValueError(f"{shown(path)} does not end in .csv or .parquet. Try one of these.")
    if os.path.isdir(path):
        raise ValueError(f"{shown(path)} is a folder, expected a file. Try a path in it.")
    if not os.path.isdir(path.parent):
        raise ValueError(
            f"{shown(path)} could not be written: there is no folder {shown(path.parent)}. Try making it, or another --out."
        )
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise ValueError(f"{shown(path)} could not be written (Permission denied). Try another file.")


def quote_formulas(frame: pd.DataFrame) -> pd.DataFrame:
    """A table with an apostrophe before each text, and each name, that a spreadsheet would take for a formula.

    These begin with = + - @, a tab or a line break; numbers stay what they are, also those that are written as text.

    Example:
        >>> quote_formulas(pd.DataFrame({"=name": ["@sum", "-1", "plain"]})).to_csv(index=False)
        "'=name\\n'@sum\\n-1\\nplain\\n"
    """
    quoted = frame.set_axis(distinct(str(_quoted(name)) for name in frame.columns), axis="columns")
    for name in quoted.columns:
        if not pd.api.types.is_numeric_dtype(quoted[name]):
            quoted[name] = quoted[name].map(_quoted)
    return quoted


def _quoted(value: object) -> object:
    if not isinstance(value, str) or not value.startswith(_FORMULA):
        return value
    try:
        float(value)
    except ValueError:
        return f"'{value}"
    return value


def write_table(blocks: Iterable[pd.DataFrame], path: Path) -> None:
    """Writes the blocks of a table to a .csv or .parquet file, whole or not at all.

    Raises:
        ValueError: if it cannot be written.
    """
    expect_file(path)
    write = _write_csv if path.suffix.lower() == ".csv" else _write_parquet

    def save(place: Path) -> None:
        with place.open("wb") as file:  # opened here, since Arrow takes no names that are not UTF-8
            write(blocks, file)

    write_file(path, save, advice="Try another file.", errors=(pa.ArrowException,))


def _write_csv(blocks: Iterable[pd.DataFrame], file: Any) -> None:
    for k, frame in enumerate(blocks):
        frame.to_csv(file, index=False, header=k == 0)


def _write_parquet(blocks: Iterable[pd.DataFrame], file: Any) -> None:
    with ExitStack() as open_writer:
        writer: Any = None
        for frame in blocks:
            table = pa.Table.from_pandas(frame, preserve_index=False)
            if writer is None:
                writer = open_writer.enter_context(pq.ParquetWriter(file, table.schema))
            writer.write_table(table.replace_schema_metadata(writer.schema.metadata))
