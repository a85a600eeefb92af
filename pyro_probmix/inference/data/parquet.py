"""Parquet files as a stream of rows."""

from __future__ import annotations

__all__ = ["ParquetStream"]

import os
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pyro_probmix.arguments import checked
from pyro_probmix.inference.data.shuffle import MIB, Rows
from pyro_probmix.inference.data.source_files import Stamp
from pyro_probmix.inference.data.streaming import PIECE_ROWS, SMALLEST_MEMORY, Piece, RowStream, Task

PathLike: TypeAlias = str | os.PathLike[str]

#: To decode a column: a page of 1 MiB, as it is written and decoded, a dictionary, and the piece's rows.
COLUMN_BYTES = 4 * MIB
FOOTER_BYTES = 8  # in memory, for each byte of a footer in its file
READ_BYTES = 65_536  # are read at once


class ParquetStream(RowStream):
    r"""A :class:`RowStream` of one Parquet file, or of several with the same columns.

    A chunk is a row group, or an equal part of one that holds more than a 16th of a block. Groups are decoded forwards and a
    few columns at a time, so that also one larger than the memory is no trouble; but a part costs to decode what stands
    before it in its group. Files written in groups of ``chunk_rows`` or less are decoded once a pass.

    Args:
        path: a file, or a list of files.
        target: the column of the target, or a list of them.
        features: the columns of the features; by default all others, except an index that pandas wrote.
        task, memory_mib, block_rows, chunk_rows: see :class:`RowStream`. The memory is kept by files with pages of up to
            1 MiB, which is what the usual writers make.

    Raises:
        ValueError: if a file is missing, a folder, cut off or empty, or if a column is missing or holds no numbers.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> table = pa.table({"a": np.arange(300.0), "b": np.ones(300), "y": np.arange(300.0)})
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     pq.write_table(table, Path(folder, "big.parquet"), row_group_size=20)
        ...     stream = ParquetStream(Path(folder, "big.parquet"), "y", block_rows=100, chunk_rows=10).standardized()
        ...     x, y = next(stream.blocks())
        >>> x.shape, stream.shuffle.num_chunks, stream.loc
        (torch.Size([100, 2]), 30, tensor([149.5000]))
    """

    @checked(least={"memory_mib": SMALLEST_MEMORY, "block_rows": 4, "chunk_rows": 1})
    def __init__(
        self,
        path: PathLike | Sequence[PathLike],
        target: str | Sequence[str],
        features: Sequence[str] | None = None,
        *,
        task: Task = "regression",
        memory_mib: float = 512,
        block_rows: int | None = None,
        chunk_rows: int | None = None,
    ) -> None:
        self._paths = [Path(path)] if isinstance(path, str | os.PathLike) else [Path(p) for p in path]
        if not self._paths:
            raise ValueError("ParquetStream got no files, expected one or more. Try the path of a .parquet file.")
        targets = [target] if isinstance(target, str) else list(target)
        self._stamps = [_stamp(p) for p in self._paths]
        self._metadata = []
        for p in self._paths:
            with _open(p) as file:
                self._metadata.append(file.metadata)
                schema = file.schema_arrow
            if features is None:
                features = [c for c in schema.names if c not in targets and not c.startswith("__index_level_")]
            _check_columns(p, schema, [*features, *targets], targets if task == "classification" else [])
        assert features is not None
        groups = [(k, g) for k, m in enumerate(self._metadata) for g in range(m.num_row_groups)]
        sizes = [self._metadata[k].row_group(g).num_rows for k, g in groups]
        # The groups that hold rows: where each starts among all rows, and its file and number.
        self._starts = np.cumsum([0, *(size for size in sizes if size)])
        self._groups = [group for group, size in zip(groups, sizes, strict=True) if size]
        self._file_starts = np.cumsum([0, *(m.num_rows for m in self._metadata)])
        super().__init__(
            str(self._paths[0]) if len(self._paths) == 1 else f"{self._paths[0]} and {len(self._paths) - 1} more",
            [*features, *targets],
            len(targets),
            self._starts,
            cheap_rows=int(self._starts[-1]),  # the larger, the less is decoded twice
            task=task,
            memory_mib=memory_mib,
            block_rows=block_rows,
            chunk_rows=chunk_rows,
            held_bytes=FOOTER_BYTES * sum(m.serialized_size for m in self._metadata),
        )

    def _source(self) -> list[str]:
        return [str(stamp) for stamp in self._stamps]

    def _where(self, row: int) -> str:
        k = int(np.searchsorted(self._file_starts, row, "right")) - 1
        return f"row {row - self._file_starts[k]} of {self._paths[k]}"

    def _read(self, segments: Rows) -> Iterator[Piece]:
        owners = np.searchsorted(self._starts, segments[:, 0], "right") - 1
        ends = (segments[:, 1] - segments[:, 0]).cumsum()
        changes = np.flatnonzero(np.diff(owners)) + 1
        for of_group in np.split(np.arange(len(segments)), changes):  # the segments of one group
            begins = int(ends[of_group[0] - 1]) if of_group[0] else 0
            yield from self._read_group(int(owners[of_group[0]]), segments[of_group], begins)

    def _read_group(self, index: int, segments: Rows, begins: int) -> Iterator[Piece]:
        k, group = self._groups[index]
        at_once = max(1, int(self.decoding_bytes) // COLUMN_BYTES)
        self._stamps[k].check("ParquetStream")
        try:
            with _open(self._paths[k], self._metadata[k]) as file:
                for low in range(0, len(self.columns), at_once):
                    columns = slice(low, min(low + at_once, len(self.columns)))
                    batches = file.iter_batches(
                        PIECE_ROWS, row_groups=[group], columns=list(self.columns[columns]), use_threads=False
                    )
                    yield from _overlaps(
                        batches, int(self._starts[index]), columns, self.columns[columns], segments, begins
                    )
                    # What Arrow's allocator keeps for later would add up over the columns.
                    pa.default_memory_pool().release_unused()
        except (pa.ArrowException, OSError) as error:
            self._stamps[k].check("ParquetStream")  # if another file is there now, that is the reason
            raise _unreadable(self._paths[k], error, f"row group {group} ") from None
        self._stamps[k].check("ParquetStream")


def _overlaps(
    batches: Iterator[Any], start: int, columns: slice, names: Sequence[str], segments: Rows, at: int
) -> Iterator[Piece]:
    """The parts of a group's batches, the first at row ``start``, that the segments ask for; the first is number ``at``."""
    for batch in batches:
        end = start + batch.num_rows
        inside = slice(np.searchsorted(segments[:, 1], start, "right"), np.searchsorted(segments[:, 0], end))
        low, high = segments[inside].clip(start, end).T
        rows = _ranges(low, high)
        if len(rows):
            together = rows[-1] - rows[0] < len(rows)
            part = batch.slice(rows[0] - start, len(rows)) if together else batch.take(pa.array(rows - start))
            arrays = [part.column(name).cast(pa.float64(), safe=False) for name in names]
            yield Piece(at, rows, columns, np.stack([a.to_numpy(zero_copy_only=False) for a in arrays], axis=1))
            at += len(rows)
        start = end
        if start >= segments[-1, 1]:  # what is behind in the group is not decoded
            return
    raise OSError("it holds fewer rows than its footer says")


def _ranges(low: Rows, high: Rows) -> Rows:
    """low[0], ..., high[0] - 1, low[1], ... one range after the other."""
    sizes = high - low
    return np.repeat(low - (sizes.cumsum() - sizes), sizes) + np.arange(sizes.sum())


def _open(path: Path, metadata: Any = None) -> Any:
    try:
        # A column's part of a group is read bit by bit, not whole.
        return pq.ParquetFile(path, metadata=metadata, buffer_size=READ_BYTES, pre_buffer=False)
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: Exception, part: str = "") -> ValueError:
    reason = " ".join(str(error).split()).rstrip(".")
    return ValueError(f"{path}: {part}cannot be read as Parquet: {reason}. Try writing or copying the file again.")


def _stamp(path: Path) -> Stamp:
    if path.is_dir():
        raise ValueError(f"{path} is a folder, expected a file. Try sorted(Path({str(path)!r}).glob('*.parquet')).")
    return Stamp(path)


def _check_columns(path: Path, schema: Any, wanted: list[str], classes: list[str]) -> None:
    """Refuses columns that are not there once, or hold no numbers; classes must be integers."""
    for name in wanted:
        count = schema.names.count(name)
        if count != 1 or wanted.count(name) != 1:
            near = get_close_matches(name, schema.names, n=1)
            hint = f"Try {near[0]!r}." if near and not count else f"Try one of {', '.join(schema.names[:20])}, once."
            number = f"{count} columns" if count > 1 else "no column" if count == 0 else "more than one use of column"
            raise ValueError(f"{path}: {number} {name!r}, expected one. {hint}")
    refused = [name for name in wanted if not _is_number(schema.field(name).type, whole=name in classes)]
    if refused:
        found = ", ".join(f"{name!r} ({schema.field(name).type})" for name in refused[:20])
        expected = "integer classes, counted from 0" if refused == classes else "numbers"
        raise ValueError(
            f"{path}: column{'s' if len(refused) > 1 else ''} {found}, expected {expected}. "
            "Try encoding such columns as numbers, or features=[...] without them."
        )


def _is_number(kind: Any, *, whole: bool) -> bool:
    types = pa.types
    if types.is_integer(kind) or types.is_boolean(kind):
        return True
    return not whole and (types.is_floating(kind) or types.is_decimal(kind))
