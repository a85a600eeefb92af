"""A Parquet or Arrow file in blocks of rows."""

from __future__ import annotations

__all__ = ["ArrowRows"]

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from pyro_probmix.columns.integers import series_of
from pyro_probmix.names import shown

#: The values of a block take at most about so many bytes.
BLOCK_BYTES = 1 << 26
#: Parts of an Arrow file of more bytes are read through a map of the file, and not copied whole.
MAPPED_BYTES = 1 << 27
READ_BYTES = 1 << 16
_BYTES = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_fixed_size_binary, pa.types.is_binary_view)


class ArrowRows:
    """The rows of a Parquet file, or of one of Arrow's.

    Args:
        path: of the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.is_parquet = path.suffix.lower() == ".parquet"
        with path.open("rb") as opened:
            self.schema = pq.read_schema(opened) if self.is_parquet else _arrow(opened)[0].schema
        self.names = list(self.schema.names)

    def frames(
        self, columns: Collection[str], rows: int, texts: Collection[str] | None
    ) -> Iterator[tuple[pd.DataFrame, float]]:
        """See :class:`~pyro_probmix.tables.blocks.Rows`; a column's type is known before, but not whether texts are numbers."""
        wanted = [name for name in self.names if name in columns]
        for name in wanted:
            kind = self.schema.field(name).type
            if pa.types.is_nested(kind) or any(is_kind(kind) for is_kind in _BYTES):
                raise ValueError(
                    f"{shown(self.path)}: column {shown(name)} holds values of type {kind}, expected numbers, texts, dates or "
                    "truth values. Try leaving it out."
                )
        of_texts = [name for name in wanted if _is_text(self.schema.field(name).type)]
        if texts is None:  # the file says what the others are
            wanted = of_texts
        if not wanted:
            return
        with self.path.open("rb") as opened:
            read = self._of_parquet if self.is_parquet else self._of_arrow
            for batch, share in read(opened, wanted, rows):
                yield _frame(batch, of_texts), share

    def _of_parquet(self, opened: Any, wanted: list[str], rows: int) -> Iterator[tuple[Any, float]]:
        texts = [name for name in wanted if _is_text(self.schema.field(name).type)]
        # Each text is there once, whatever rows repeat it.
        with pq.ParquetFile(opened, read_dictionary=texts, buffer_size=READ_BYTES, pre_buffer=False) as file:
            total, done = max(1, file.metadata.num_rows), 0
            rows = max(1, min(rows, int(BLOCK_BYTES / _row_bytes(file.metadata, wanted))))
            for batch in file.iter_batches(rows, columns=wanted, use_threads=False):
                done += batch.num_rows
                yield batch, done / total
                pa.default_memory_pool().release_unused()  # what Arrow's allocator keeps for later adds up

    def _of_arrow(self, opened: Any, wanted: list[str], rows: int) -> Iterator[tuple[Any, float]]:
        size = max(1, self.path.stat().st_size)
        reader, count = _arrow(opened)
        if count is not None and size > MAPPED_BYTES * count:
            reader, count = _arrow(pa.memory_map(str(self.path)))
        batches = iter(reader) if count is None else (reader.get_batch(k) for k in range(count))
        for done, batch in enumerate(batches, 1):
            part = batch.select(wanted)
            for start in range(0, part.num_rows, rows):
                yield part.slice(start, rows), min(1.0, opened.tell() / size) if count is None else done / count


def _arrow(opened: Any) -> tuple[Any, int | None]:
    """A reader of a file with its number of batches, or of a stream, and None."""
    try:
        file = pa.ipc.open_file(opened)
        return file, file.num_record_batches
    except pa.ArrowInvalid:
        opened.seek(0)
        return pa.ipc.open_stream(opened), None


def _row_bytes(metadata: Any, wanted: list[str]) -> float:
    """The bytes of a row, on average of the row group where that is most."""
    most = 1.0
    for group in (metadata.row_group(k) for k in range(metadata.num_row_groups)):
        chunks = [group.column(k) for k in range(group.num_columns)]
        size = sum(chunk.total_uncompressed_size for chunk in chunks if chunk.path_in_schema in wanted)
        most = max(most, size / max(1, group.num_rows))
    return most


def _is_text(kind: Any) -> bool:
    types = pa.types
    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))


def _frame(batch: Any, texts: list[str]) -> pd.DataFrame:
    """A batch as pandas has it; texts are objects, of which each different one is there once."""
    columns = {
        name: _texts(batch.column(name)) if name in texts else series_of(batch.column(name), always=True)
        for name in batch.schema.names
    }
    return pd.DataFrame(columns)


def _texts(values: Any) -> pd.Series:
    encoded = values if pa.types.is_dictionary(values.type) else values.dictionary_encode()
    known = np.array([*encoded.dictionary.to_pylist(), np.nan], dtype=object)
    codes = np.asarray(encoded.indices.fill_null(len(known) - 1))
    return pd.Series(known[codes], dtype=object)
