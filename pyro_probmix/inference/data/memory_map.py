"""Arrays on disk, such as memory maps, as a stream of rows."""

from __future__ import annotations

__all__ = ["ArrayStream"]

import hashlib
import mmap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from pyro_probmix.arguments import checked
from pyro_probmix.inference.data.arrays import as_array
from pyro_probmix.inference.data.shuffle import MIB, Rows
from pyro_probmix.inference.data.source_files import Stamp
from pyro_probmix.inference.data.streaming import PIECE_ROWS, SMALLEST_MEMORY, Piece, RowStream, Task

#: Read with one row of a map: the system maps the pages around it too, in the arrays of features and of targets.
AROUND_BYTES = 2 * 65_536
RANGE_BYTES = 2 * MIB  # the least that is handed back at once


class ArrayStream(RowStream):
    r"""A :class:`RowStream` of arrays on disk, such as NumPy's memory maps.

    Pages of a map that was opened with ``mode="r"`` are handed back to the system after they are read.

    Args:
        x: features [N, d]: an array, or anything with a shape and a dtype of NumPy's whose rows ``x[start:stop]`` are one; a
            tensor, a data frame or a list is taken as the array that NumPy makes of it.
        y: targets [N] or [N, d_y], likewise.
        task, memory_mib, block_rows, chunk_rows: see :class:`RowStream`. A chunk is at most about 256 KiB by default, so that
            a disk is not asked for every row; ``chunk_rows=1`` makes all pairs equally likely.

    Raises:
        ValueError: for shapes that do not fit, or options out of range.

    Example:
        >>> x = np.arange(600.0).reshape(300, 2)
        >>> stream = ArrayStream(x, x.sum(1), block_rows=100, chunk_rows=10)
        >>> [tuple(block.shape) for block, _ in stream.blocks(seed=0, epoch=0)]
        [(100, 2), (100, 2), (100, 2)]
    """

    @checked(least={"memory_mib": SMALLEST_MEMORY, "block_rows": 4, "chunk_rows": 1})
    def __init__(
        self,
        x: Any,
        y: Any,
        *,
        task: Task = "regression",
        memory_mib: float = 512,
        block_rows: int | None = None,
        chunk_rows: int | None = None,
    ) -> None:
        x, y = _rows("x", x), _rows("y", y)
        if len(x.shape) != 2 or len(y.shape) not in (1, 2) or len(x) != len(y):
            raise ValueError(
                f"ArrayStream got x of shape {list(x.shape)} and y of {list(y.shape)}, expected [N, d], and [N] or [N, d_y]. "
                "Try x.reshape(len(x), -1)."
            )
        for name, array, kinds in (("x", x, "biuf"), ("y", y, "biu" if task == "classification" else "biuf")):
            if np.dtype(array.dtype).kind not in kinds:
                expected = "numbers" if "f" in kinds else "integers"
                raise ValueError(
                    f"ArrayStream got {name} of type {array.dtype}, expected {expected}. Try {name}.astype."
                )
        self._x, self._y = x, y
        self._stamps = [Stamp(path) for path in sorted({p for p in (_path(x), _path(y)) if p is not None})]
        targets = 1 if len(y.shape) == 1 else y.shape[1]
        self._row_bytes = np.dtype(x.dtype).itemsize * x.shape[1] + np.dtype(y.dtype).itemsize * targets
        super().__init__(
            "the arrays",
            [*(f"x{k}" for k in range(x.shape[1])), *(["y"] if targets == 1 else [f"y{k}" for k in range(targets)])],
            targets,
            [0, len(x)],
            cheap_rows=-(-MIB // 4 // max(1, self._row_bytes)),
            task=task,
            memory_mib=memory_mib,
            block_rows=block_rows,
            chunk_rows=chunk_rows,
        )

    def _read(self, segments: Rows) -> Iterator[Piece]:
        at = 0
        # A piece is held four times: mapped, as float64, and scaled, beside what is mapped around each segment of it.
        row_bytes = self._row_bytes + 3 * 8 * len(self.columns)
        for parts in _pieces(segments, row_bytes, self.decoding_bytes):
            rows = np.concatenate([np.arange(start, stop) for start, stop in parts])
            for columns, array in ((slice(0, self.num_features), self._x), (slice(self.num_features, None), self._y)):
                self._check_stamps()  # to look behind the end of a file that was cut would end the process
                read = [np.asarray(array[start:stop], dtype=np.float64) for start, stop in parts]
                self._check_stamps()
                yield Piece(at, rows, columns, np.concatenate(read).reshape(len(rows), -1))
                _hand_back(array, parts[0][0], parts[-1][1])
            at += len(rows)

    def _source(self) -> list[str]:
        if _path(self._x) is not None and _path(self._y) is not None:
            return [str(stamp) for stamp in self._stamps]
        values = hashlib.sha256()
        for piece in self._read(np.array([[0, self.num_rows]])):
            values.update(piece.values.data)
        return [values.hexdigest()]

    def _check_stamps(self) -> None:
        for stamp in self._stamps:
            stamp.check("ArrayStream")


def _pieces(segments: Rows, row_bytes: int, most_bytes: float) -> Iterator[list[tuple[int, int]]]:
    """The segments, cut and gathered to pieces of a bounded size."""
    largest = max(1, min(PIECE_ROWS, int((most_bytes - AROUND_BYTES) / row_bytes)))
    parts: list[tuple[int, int]] = []
    rows = 0
    for start, stop in segments:
        for low in range(int(start), int(stop), largest):
            high = min(low + largest, int(stop))
            size = (rows + high - low) * row_bytes + (len(parts) + 1) * AROUND_BYTES
            if parts and (rows + high - low > PIECE_ROWS or size > most_bytes):
                yield parts
                parts, rows = [], 0
            parts.append((low, high))
            rows += high - low
    if parts:
        yield parts


def _rows(name: str, given: Any) -> Any:
    """Rows that are read piece by piece: what says its shape and type as NumPy does, or an array of numbers."""
    sliced = (
        hasattr(given, "shape")
        and isinstance(getattr(given, "dtype", None), np.dtype)
        and hasattr(given, "__getitem__")
    )
    if (
        sliced
        and given.dtype.kind != "O"
        and not isinstance(given, np.ma.MaskedArray | np.generic)
        and not hasattr(given, "iloc")
        and len(given.shape)
    ):
        return given
    return as_array("ArrayStream", name, given)


def _path(array: Any) -> Path | None:
    """The file of a memory map."""
    name = getattr(array, "filename", None) if isinstance(array, np.memmap) else None
    return None if name is None else Path(name)


def _hand_back(array: Any, start: int, stop: int) -> None:
    """Takes the pages of a read-only memory map out of the process; the system may keep them in its cache."""
    if not isinstance(array, np.ndarray) or array.flags.writeable or not hasattr(mmap, "MADV_DONTNEED"):
        return
    owner: Any = array
    while isinstance(owner, np.ndarray):
        owner = owner.base
    if not isinstance(owner, mmap.mmap):
        return
    origin = np.lib.array_utils.byte_bounds(np.frombuffer(owner, np.uint8))[0]
    low, high = (bound - origin for bound in np.lib.array_utils.byte_bounds(array[start:stop]))
    # Wider than what was read, since the system maps the neighbours of a page with it.
    low, high = low // RANGE_BYTES * RANGE_BYTES, min(-(-high // RANGE_BYTES) * RANGE_BYTES, len(owner))
    owner.madvise(mmap.MADV_DONTNEED, low, high - low)
