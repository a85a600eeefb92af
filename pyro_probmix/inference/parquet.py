"""Parquet files as a stream of rows."""

from __future__ import annotations

__all__ = ["ParquetStream"]

import os
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pyro_probmix.inference.streaming import FIXED_MEMORY, MIB, PIECE_ROWS, Piece, RowStream, Task

PathLike: TypeAlias = str | os.PathLike[str]

COLUMN_BYTES = (
    4 * MIB
)  # to decode a column: a page of 1 MiB, as it is written and decoded, a dictionary, the piece's rows
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
        task, memory_mib, block_rows, chunk_rows, replicas: see :class:`RowStream`. The memory is kept by files with pages of
            up to 1 MiB, which is what the usual writers make.

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
        >>> x.shape, stream.num_chunks, stream.loc
        (torch.Size([100, 2]), 30, tensor([149.5000]))
    """

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
        replicas: int = 1,
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
            row_bytes=1,
            task=task,
            memory_mib=memory_mib,
            block_rows=block_rows,
            chunk_rows=chunk_rows,
            replicas=replicas,
        )

    def _cheap_chunk(self, row_bytes: int) -> int:
        return self.num_rows  # the larger, the less is decoded twice

    def _where(self, row: int) -> str:
        k = int(np.searchsorted(self._file_starts, row, "right")) - 1
        return f"row {row - self._file_starts[k]} of {self._paths[k]}"

    def _read(self, segments: Sequence[tuple[int, int]]) -> Iterator[Piece]:
        for path, stamp in zip(self._paths, self._stamps, strict=True):
            if _stamp(path) != stamp:
                raise ValueError(
                    f"{path} has changed since the stream was made, expected the same rows in every pass. "
                    "Try a new ParquetStream, or a copy that nobody writes to."
                )
        offsets = np.cumsum([0, *(stop - start for start, stop in segments)])
        places = [(start, stop, int(at)) for (start, stop), at in zip(segments, offsets[:-1], strict=True)]
        owners = np.searchsorted(self._starts, [start for start, _ in segments], "right") - 1
        changes = [0, *(np.flatnonzero(np.diff(owners)) + 1).tolist(), len(places)]
        for first, last in pairwise(changes):  # the segments of one group
            yield from self._read_group(int(owners[first]), places[first:last])

    def _read_group(self, index: int, places: list[tuple[int, int, int]]) -> Iterator[Piece]:
        k, group = self._groups[index]
        at_once = max(1, int(0.25 * (self.memory_mib - FIXED_MEMORY) * MIB) // COLUMN_BYTES)
        try:
            with _open(self._paths[k], self._metadata[k]) as file:
                for low in range(0, len(self.columns), at_once):
                    columns = slice(low, min(low + at_once, len(self.columns)))
                    batches = file.iter_batches(
                        PIECE_ROWS, row_groups=[group], columns=list(self.columns[columns]), use_threads=False
                    )
                    yield from _overlaps(batches, int(self._starts[index]), columns, self.columns[columns], places)
                    # What Arrow's allocator keeps for later would add up over the columns.
                    pa.default_memory_pool().release_unused()
        except (pa.ArrowException, OSError) as error:
            raise _unreadable(self._paths[k], error, f"row group {group} ") from None


def _overlaps(
    batches: Iterator[Any], start: int, columns: slice, names: Sequence[str], places: list[tuple[int, int, int]]
) -> Iterator[Piece]:
    """The parts of a group's batches, the first at row ``start``, that the places (start, stop, at) ask for."""
    waiting = iter(places)
    begin, stop, at = next(waiting)
    for batch in batches:
        end = start + batch.num_rows
        while begin < end:
            high = min(stop, end)
            part = batch.slice(begin - start, high - begin)
            arrays = [part.column(name).cast(pa.float64(), safe=False) for name in names]
            yield at, begin, columns, np.stack([a.to_numpy(zero_copy_only=False) for a in arrays], axis=1)
            begin, at = high, at + high - begin
            if begin == stop:
                following = next(waiting, None)
                if following is None:  # what is behind in the group is not decoded
                    return
                begin, stop, at = following
        start = end
    raise OSError("it holds fewer rows than its footer says")


def _open(path: Path, metadata: Any = None) -> Any:
    try:
        # A column's part of a group is read bit by bit, not whole.
        return pq.ParquetFile(path, metadata=metadata, buffer_size=READ_BYTES, pre_buffer=False)
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: Exception, part: str = "") -> ValueError:
    reason = " ".join(str(error).split()).rstrip(".")
    return ValueError(f"{path}: {part}cannot be read as Parquet: {reason}. Try writing or copying the file again.")


def _stamp(path: Path) -> tuple[int, int]:
    """What changes when a file is written."""
    try:
        status = path.stat()
    except OSError:
        raise ValueError(f"no file {path}. Try the path of a .parquet file.") from None
    if path.is_dir():
        raise ValueError(f"{path} is a folder, expected a file. Try sorted(Path({str(path)!r}).glob('*.parquet')).")
    return status.st_size, status.st_mtime_ns


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
